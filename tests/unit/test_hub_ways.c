/* SPDX-License-Identifier: MIT */
/*
 * Every kind of send on every way with every end, against a table of the rules: which way it goes,
 * what leaves, who gets a copy, and the one outcome. The server is played as the real one is: what
 * goes by HTTP comes back to all of its joins, what goes over a WebSocket does not.
 */
#include "hub_fixture.h"
#include "hub_sends.h"

#include <stdio.h>
#include <string.h>

enum via { WS, HTTP, AUTO, VIAS };
enum payload { MAP, OTHER, BIN, PAYLOADS };
enum fate { NEVER, BEFORE, BETWEEN, AFTER, FATES };
/* By HTTP the same places of the table mean: */
enum { TAKEN = NEVER, UNREACHABLE = BEFORE, CUT_OFF = BETWEEN, REFUSED = AFTER };

static const char *const via_names[VIAS] = { "ws", "http", "auto" };
static const char *const payload_texts[PAYLOADS] = { "{'n':1}", "[1]", NULL };
static const char *const copies[PAYLOADS] = { "'payload':{'n':1}*", "'payload':[1]}]",
					      "'payload':{'bin':'78797a'}}]" };

/* The rules. By via, payload, and whether somebody is subscribed here (so that there is a join):
 * w: over the WebSocket, h: by HTTP, x: cannot be said, bad_payload. */
static const char ways[VIAS][PAYLOADS][3] = {
	[WS] = { "ww", "ww", "ww" },
	[HTTP] = { "hh", "xx", "hh" },
	[AUTO] = { "hw", "ww", "hw" },
};

/* By fate: what the sender is answered, whether copies come, whether it left more than once. */
static const struct {
	const char *outcome;
	bool copies;
} ws_ends[FATES] = {
	[NEVER] = { "{'outcome':'acked','via':'ws'}", true },
	[BEFORE] = { "{'outcome':'acked','via':'ws'}", true },
	[BETWEEN] = { "{'outcome':'unknown','via':'ws','text':'*'}", false },
	[AFTER] = { "{'outcome':'acked','via':'ws'}", true },
}, http_ends[FATES] = {
	[TAKEN] = { "{'outcome':'sent','via':'http'}", true },
	[UNREACHABLE] = { "{'outcome':'expired','via':'http','text':'connect: refused'}", false },
	[CUT_OFF] = { "{'outcome':'unknown','via':'http','text':'*'}", true },
	[REFUSED] = { "{'outcome':'denied','via':'http','text':'HTTP status 403: not you'}",
		      false },
};

static struct row {
	bool is_private, self, sender_listens, other_listens;
	enum via via;
	enum payload payload;
	enum fate fate;
	struct fake_peer *sender, *other;
	uint64_t ended_ms; /* the send */
} row;

static void row_of(unsigned i)
{
	row.is_private = i % 2;
	row.self = i / 2 % 2;
	row.sender_listens = i / 4 % 2;
	row.other_listens = i / 8 % 2;
	row.via = i / 16 % VIAS;
	row.payload = i / 16 / VIAS % PAYLOADS;
	row.fate = i / 16 / VIAS / PAYLOADS;
}
enum { ROWS = 16 * VIAS * PAYLOADS * FATES };

static void wants_it(struct fake_peer *p, bool self)
{
	char params[200];

	snprintf(params, sizeof(params), "{'topic':'t','private':%s,'broadcast':{'self':%s}}",
		 row.is_private ? "true" : "false", self ? "true" : "false");
	peer_ask(p, 1, "subscribe", params);
	server_serve();
	expect(p, "[1,1,null,{'chan':1,*'state':'ready'}]");
}

static void says_it(void)
{
	char params[300];

	snprintf(params, sizeof(params),
		 "{'topic':'t','private':%s,'event':'e','via':'%s','id':'name'%s%s}",
		 row.is_private ? "true" : "false", via_names[row.via],
		 row.payload == BIN ? "" : ",'payload':",
		 row.payload == BIN ? "" : payload_texts[row.payload]);
	if (row.payload == BIN)
		peer_ask_bin(row.sender, 2, params, "xyz");
	else
		peer_ask(row.sender, 2, "broadcast", params);
}

/* ---- over the link ---- */

static struct line *expect_it(void)
{
	static const char *const frames[PAYLOADS] = { "[3,*,'realtime:t','e',{'n':1}]",
						      "[3,*,'realtime:t','e',[1]]",
						      "[3,*,'realtime:t','e',bin:xyz]" };

	return expect_frame(frames[row.payload]);
}

static void join_again(bool has_join)
{
	advance(1500);
	server_open();
	if (has_join)
		server_join("t");
}

static void by_ws(bool has_join)
{
	struct line *f;

	if (row.fate == BEFORE)
		server_drop(SESSION_FAULT_LOST, "gone");
	says_it();
	if (row.fate == BEFORE) {
		expect_no_frame();
		peer_skip(row.sender, "");
		expect_outcome(row.sender, 900, "name", "null,{'outcome':'pending','via':'ws'}");
		join_again(true);
	} else if (!has_join) {
		server_join("t");
	}
	f = expect_it();
	expect_no_frame();
	if (row.fate == BETWEEN)
		server_drop(SESSION_FAULT_LOST, "gone");
	else
		server_reply(f, true, "{}");
	if (row.fate == AFTER)
		server_drop(SESSION_FAULT_LOST, "gone");
	row.ended_ms = rig.now;
	/* The channel that was made for the send alone is not joined again. */
	if (row.fate == BETWEEN || row.fate == AFTER)
		join_again(has_join);
	expect_no_frame();
	expect_no_post();
}

/* ---- by HTTP ---- */

static struct line *expect_request(void)
{
	char pattern[200];

	if (row.payload == BIN)
		snprintf(pattern, sizeof(pattern),
			 "/broadcast/t/events/e?private=%s application/octet-stream - 78797a",
			 row.is_private ? "true" : "false");
	else
		snprintf(pattern, sizeof(pattern),
			 "/broadcast application/json - {'messages':[{'topic':'t','event':'e',"
			 "'payload':{'n':1},'id':'name','private':%s}]}",
			 row.is_private ? "true" : "false");
	return expect_post(pattern);
}

static void until_expired(void)
{
	unsigned n = 0;

	for (uint64_t end = rig.now + 9999; rig.now < end;) {
		struct line *post;

		advance(end - rig.now < 100 ? end - rig.now : 100);
		MUST(row.sender->asked[2]);
		if ((post = any_post())) {
			post_unreachable(post);
			n++;
		}
	}
	/* It is tried again and again, with pauses that grow. */
	MUST_MSG(n >= 2 && n <= 12, "%u requests", n);
	advance(1);
}

static void by_http(void)
{
	struct line *post;

	says_it();
	expect_outcome(row.sender, 900, "name", "null,{'outcome':'pending','via':'http'}");
	post = expect_request();
	expect_no_post();
	switch ((int)row.fate) {
	case TAKEN:
		/* The copies may come before the answer and behind it. */
		if (row.self) {
			post_taken(post);
		} else {
			server_answer(post, 202, "");
			post_echoes(post);
		}
		break;
	case UNREACHABLE:
		post_unreachable(post);
		until_expired();
		break;
	case CUT_OFF:
		post_echoes(post);
		server_answer(post, 0, "");
		break;
	case REFUSED:
		server_answer(post, 403, "{'message':'not you'}");
		break;
	}
	row.ended_ms = rig.now;
	expect_no_frame();
	expect_no_post();
}

/* ---- */

static void check_copies(struct fake_peer *p, const struct haul *h, bool is_due)
{
	char pattern[200];

	MUST_MSG(h->n_copies == is_due, "peer %u has %u copies", (unsigned)(p - rig.peers),
		 h->n_copies);
	snprintf(pattern, sizeof(pattern), "[2,'broadcast',{'chan':1,'topic':'t','event':'e',%s",
		 copies[row.payload]);
	MUST_MSG(!is_due || text_matches(pattern, h->copy), "%s", h->copy);
}

/* What looks like a message that was refused is somebody else's: the sender gets it, too. */
static void others_like_it(void)
{
	struct haul h;

	post_echoes(&rig.posts.at[0]);
	haul(row.sender, &h);
	check_copies(row.sender, &h, row.sender_listens);
	haul(row.other, &h);
	check_copies(row.other, &h, row.other_listens);
}

static void check(char way, const char *outcome, bool copies_come)
{
	char pattern[300];
	struct haul h;

	haul(row.sender, &h);
	MUST(h.n_answers == 1);
	snprintf(pattern, sizeof(pattern), "[1,2,null,%s]", outcome);
	MUST_MSG(text_matches(pattern, h.answer), "%s; expected %s", h.answer, pattern);
	check_copies(row.sender, &h, copies_come && row.sender_listens && row.self);
	MUST(way != 'w' || !h.copy_is_behind);
	haul(row.other, &h);
	check_copies(row.other, &h, copies_come && row.other_listens);
	if (way == 'h' && !copies_come)
		others_like_it();
	/* Whoever asks later has the same, for a minute; and nothing is sent any more. */
	snprintf(pattern, sizeof(pattern), "null,%s", outcome);
	expect_outcome(row.other, 901, "name", pattern);
	advance(row.ended_ms + 59999 - rig.now);
	peer_skip(row.other, "");
	expect_outcome(row.other, 902, "name", pattern);
	advance(1);
	peer_skip(row.other, "");
	expect_outcome(row.other, 903, "name", "[212,'unknown_id',*],null");
	for (size_t i = rig.frames.next; i < rig.frames.n; i++)
		MUST_MSG(rig.frames.at[i].text[1] != '3', "%s", rig.frames.at[i].text);
	expect_no_post();
	MUST(rig.hub->n_outcomes == 0 && RB_EMPTY(&rig.hub->sends) && rig.hub->send_bytes == 0);
}

START_TEST(table)
{
	bool has_join;
	char way;

	row_of((unsigned)_i);
	rig_setup_online();
	rig.probes = true; /* how far a private channel's stored messages go is asked, too */
	row.sender = peer_ready();
	row.other = peer_ready();
	if (row.sender_listens)
		wants_it(row.sender, row.self);
	if (row.other_listens)
		wants_it(row.other, false);
	has_join = row.sender_listens || row.other_listens;
	way = ways[row.via][row.payload][has_join];
	if (way == 'w') {
		by_ws(has_join);
		check(way, ws_ends[row.fate].outcome, ws_ends[row.fate].copies);
	} else if (way == 'h') {
		by_http();
		check(way, http_ends[row.fate].outcome, http_ends[row.fate].copies);
	} else {
		says_it();
		row.ended_ms = rig.now;
		expect_no_frame();
		check(way, "{'outcome':'bad_payload','via':'http','text':'*'}", false);
	}
	rig_teardown();
}
END_TEST

/* ---- auto ---- */

#define MAP_TO(topic) "{'topic':'" topic "','event':'e','payload':{'n':1}}"
#define SENT(id)      "[1," #id ",null,{'outcome':'sent','via':'http'}]"
#define ACKED(id)     "[1," #id ",null,{'outcome':'acked','via':'ws'}]"

/* What is on its way by HTTP is not overtaken by what could go over the join. */
START_TEST(auto_keeps_order)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line *first, *second;

	peer_ask(a, 2, "broadcast", MAP_TO("t"));
	first = expect_post("*'payload':{'n':1}*");
	peer_join(b, "t", "{}");
	peer_ask(a, 3, "broadcast", "{'topic':'t','event':'e','payload':{'n':2}}");
	/* Another one's, too: who is first cannot be told apart afterwards. */
	peer_ask(b, 4, "broadcast", "{'topic':'t','event':'e','payload':{'n':3}}");
	expect_no_post();
	expect_no_frame();
	/* What HTTP cannot carry goes its way. */
	peer_ask(a, 5, "broadcast", "{'topic':'t','event':'e','payload':5}");
	server_reply(expect_frame("[3,*,5]"), true, "{}");
	expect(a, ACKED(5));
	expect(b, "*'payload':5}]");
	post_taken(first);
	expect(a, SENT(2));
	expect(b, "*'payload':{'n':1},'meta':{'id':'*'}}]");
	second = expect_post("*{'n':2}*{'n':3}*");
	post_taken(second);
	expect(a, SENT(3));
	/* b's own does not come back to it. */
	expect(b, "*'payload':{'n':2}*");
	expect(b, SENT(4));
	peer_ask(a, 6, "broadcast", MAP_TO("t"));
	server_reply(expect_frame("[3,*,{'n':1}]"), true, "{}");
	expect(b, "*'payload':{'n':1}}]");
	expect(a, ACKED(6));
	expect_no_post();
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

/* It uses a join that is there, whoever it was made for; it makes none. */
START_TEST(auto_sees_joins)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line *f;

	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	f = expect_frame("*'phx_join'*");
	/* It is being joined. */
	peer_ask(a, 2, "broadcast", MAP_TO("t"));
	expect_no_post();
	server_reply(f, true, "{'postgres_changes':[]}");
	server_reply(expect_frame("[3,*"), true, "{}");
	expect(a, ACKED(2));
	/* The one of the same name is another channel. */
	peer_ask(a, 3, "broadcast", "{'topic':'t','private':true,'event':'e','payload':{}}");
	server_answer(expect_post("*'private':true*"), 202, "");
	expect(a, SENT(3));
	/* Nobody is subscribed any more, but it is still joined. */
	peer_close(b);
	peer_ask(a, 4, "broadcast", MAP_TO("t"));
	server_reply(expect_frame("[3,*"), true, "{}");
	expect(a, ACKED(4));
	advance(2000);
	expect_frame("[*'phx_leave',{}]");
	/* It is being left. */
	peer_ask(a, 5, "broadcast", MAP_TO("t"));
	server_answer(expect_post("*'topic':'t'*"), 202, "");
	expect(a, SENT(5));
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

START_TEST(auto_beside_a_refused_join)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_ask(b, 1, "subscribe", "{'topic':'t','keep':true}");
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: not you'}");
	peer_ask(a, 2, "broadcast", MAP_TO("t"));
	server_answer(expect_post("*'topic':'t'*"), 202, "");
	expect(a, SENT(2));
	peer_ask(b, 3, "broadcast", "{'topic':'t','event':'e','payload':{},'via':'ws'}");
	expect(b, "[1,1,[300,'rejected',*");
	expect(b, "[1,3,null,{'outcome':'not_joined','via':'ws','text':'Unauthorized: not you'}]");
	expect_no_frame();
	expect_no_post();
}
END_TEST

/* Database changes alone join no channel: there is nothing to go over. */
START_TEST(auto_beside_database_changes)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','postgres_changes':[{'table':'x'}]}");
	rig.frames.next = rig.frames.n;
	peer_ask(a, 2, "broadcast", MAP_TO("t"));
	server_answer(expect_post("*'topic':'t'*"), 202, "");
	expect(a, SENT(2));
	peer_ask(a, 3, "broadcast", "{'topic':'t','event':'e','payload':{},'via':'ws'}");
	expect_frame("*'realtime:t','phx_join'*");
}
END_TEST

START_TEST(extra_goes_over_the_link)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_ask(a, 2, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':1},'extra':{'x':[1,2]}}");
	server_join("t");
	server_reply(expect_frame("['1','2','realtime:t','broadcast',{*'x':[1,2]*}]"), true, "{}");
	expect(a, ACKED(2));
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	expect(b, "[1,1,*");
	peer_ask(a, 3, "broadcast",
		 "{'topic':'t','event':'e','payload':null,'extra':{'x':{'y':null}},'via':'ws'}");
	server_reply(expect_frame("['1','3','realtime:t','broadcast',{*}]"), true, "{}");
	expect(b, "[2,'broadcast',{'chan':1,'topic':'t','event':'e','payload':null,"
		  "'extra':{'x':{'y':null}}}]");
	expect(a, ACKED(3));
	peer_ask(a, 4, "broadcast",
		 "{'topic':'t','event':'e','payload':{},'extra':{'x':1},'via':'http','id':'n'}");
	expect(a, "[1,4,null,{'outcome':'bad_payload','via':'http','text':'extra *'}]");
	expect_outcome(a, 5, "n", "null,{'outcome':'bad_payload','via':'http','text':'extra *'}");
	/* An empty one is as if absent. */
	peer_ask(a, 6, "broadcast",
		 "{'topic':'u','event':'e','payload':{},'extra':{},'via':'http'}");
	server_answer(expect_post("*"), 202, "");
	expect(a, SENT(6));
	peer_ask_bin(a, 7, "{'topic':'t','event':'e','extra':{'x':1}}", "b");
	expect(a, "[1,7,[200,'bad_request','extra *',null],null]");
	peer_ask(a, 8, "broadcast", "{'topic':'t','event':'e','payload':1,'extra':[1]}");
	expect(a, "[1,8,[200,'bad_request','extra *',null],null]");
	for (unsigned i = 0; i < 4; i++) {
		static const char *const own[] = { "type", "event", "payload", "meta" };
		char params[200];

		snprintf(params, sizeof(params),
			 "{'topic':'t','event':'e','payload':1,'extra':{'a':1,'%s':1}}", own[i]);
		peer_ask(a, 10 + i, "broadcast", params);
		expect(a, "[1,*,[200,'bad_request','extra *',null],null]");
	}
	expect_no_frame();
	expect_no_post();
}
END_TEST

static void with_vsn_1(struct hub_conf *conf)
{
	conf->session.vsn = PHX_VSN_1;
}

/* Its frames cannot say bytes: by HTTP they go, though the channel is joined. */
START_TEST(serializer_1)
{
	struct fake_peer *a, *b;

	rig_start(with_vsn_1);
	server_open();
	a = peer_ready();
	b = peer_ready();
	peer_ask_bin(a, 1, "{'topic':'t','event':'e'}", "xyz");
	server_answer(expect_post("/broadcast/t/events/e?private=false * - 78797a"), 202, "");
	expect(a, SENT(1));
	peer_join(b, "t", "{}");
	peer_ask(a, 2, "broadcast", MAP_TO("t"));
	server_reply(expect_frame("['1','2','realtime:t','broadcast',{*'payload':{'n':1}*}]"), true,
		     "{}");
	expect(a, ACKED(2));
	expect(b, "*'payload':{'n':1}}]");
	peer_ask_bin(a, 3, "{'topic':'t','event':'e','via':'ws'}", "xyz");
	expect(a, "[1,3,null,{'outcome':'unsupported','via':'ws','text':'*'}]");
	peer_ask_bin(a, 4, "{'topic':'t','event':'e'}", "xyz");
	server_answer(expect_post("/broadcast/t/events/e?private=false * - 78797a"), 202, "");
	expect(a, SENT(4));
	expect_no_frame();
	expect_nothing(b);
	rig_teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_ways");
	TCase *t = tcase_create("table"), *choice = tcase_create("choice"),
	      *own = tcase_create("own");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, table, 0, ROWS);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(choice, rig_setup_online, rig_teardown);
	tcase_add_test(choice, auto_keeps_order);
	tcase_add_test(choice, auto_sees_joins);
	tcase_add_test(choice, auto_beside_a_refused_join);
	tcase_add_test(choice, auto_beside_database_changes);
	tcase_add_test(choice, extra_goes_over_the_link);
	suite_add_tcase(s, choice);
	tcase_add_test(own, serializer_1);
	suite_add_tcase(s, own);
	return suite_run(s);
}
