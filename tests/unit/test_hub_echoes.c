/* SPDX-License-Identifier: MIT */
/* Stories about what comes back of sends by HTTP: the server gives it to every join, ours too, and
 * the daemon keeps it from the client that sent it, unless that wants its own messages. */
#include "hub_fixture.h"
#include "hub_sends.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENT(id) "[1," #id ",null,{'outcome':'sent','via':'http'}]"
#define N(n)     "{'topic':'t','event':'e','payload':{'n':" #n "},'via':'http'}"
#define BIN      "{'topic':'t','event':'e','via':'http'}"

static struct fake_peer *a, *b, *self;

/* Three listen; one of them to itself, too. */
static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
	b = peer_ready();
	self = peer_ready();
	peer_join(a, "t", "{}");
	peer_join(b, "t", "{}");
	peer_join(self, "t", "{'self':true}");
}

static unsigned copies(struct fake_peer *p)
{
	struct haul h;

	haul(p, &h);
	return h.n_copies;
}

static void expect_copies(unsigned of_a, unsigned of_b, unsigned of_self)
{
	unsigned n[] = { copies(a), copies(b), copies(self) };

	MUST_MSG(n[0] == of_a && n[1] == of_b && n[2] == of_self, "%u, %u, %u copies", n[0], n[1],
		 n[2]);
}

START_TEST(to_all_but_the_sender)
{
	struct fake_peer *outside = peer_ready();

	peer_ask(a, 2, "broadcast", N(1));
	post_taken(expect_post("*"));
	expect_copies(0, 1, 1);
	peer_ask(self, 2, "broadcast", N(2));
	post_taken(expect_post("*"));
	expect_copies(1, 1, 1);
	peer_ask(outside, 2, "broadcast", N(3));
	post_taken(expect_post("*"));
	expect_copies(1, 1, 1);
	expect(outside, SENT(2));
	expect_nothing(outside);
	/* Several in one request. */
	rig.no_turns = true;
	peer_ask(a, 4, "broadcast", N(4));
	peer_ask(b, 5, "broadcast", N(5));
	peer_ask(a, 6, "broadcast", N(6));
	rig.no_turns = false;
	turn();
	post_taken(expect_post("*{'n':4}*{'n':5}*{'n':6}*"));
	expect_copies(1, 2, 3);
	expect_no_post();
}
END_TEST

START_TEST(what_a_copy_looks_like)
{
	peer_ask(a, 2, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':1},'via':'http','id':'my name'}");
	expect(a, "[1,2,[200,'bad_request','id *',null],null]");
	peer_ask(a, 3, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':1},'via':'http','id':'~!x'}");
	post_taken(expect_post("*'id':'~!x'*"));
	expect(b, "[2,'broadcast',{'chan':1,'topic':'t','event':'e','payload':{'n':1},"
		  "'meta':{'id':'~!x'}}]");
	/* Without a name the daemon makes one: a UUID. */
	peer_ask(a, 4, "broadcast", N(2));
	post_taken(expect_post("*"));
	expect(b, "[2,'broadcast',{*,'meta':{'id':'*-*-4*-*-*'}}]");
	peer_ask_bin(a, 5, "{'topic':'t','event':'e','via':'http','id':'bin'}", "xyz");
	post_taken(expect_post("*"));
	expect(b, "[2,'broadcast',{'chan':1,'topic':'t','event':'e','payload':{'bin':'78797a'}}]");
}
END_TEST

/* The same bytes of two senders: each gets the other one's, and nobody anything twice. */
START_TEST(equal_bins)
{
	struct line *first, *second;

	peer_ask_bin(a, 2, BIN, "same");
	first = expect_post("*");
	peer_ask_bin(b, 2, BIN, "same");
	server_answer(first, 202, "");
	second = expect_post("*");
	server_answer(second, 202, "");
	post_echoes(first);
	expect_copies(0, 1, 1);
	post_echoes(second);
	expect_copies(1, 0, 1);
	/* A third one is nobody's here. */
	post_echoes(first);
	expect_copies(1, 1, 1);
	/* Two of one sender. */
	peer_ask_bin(a, 3, BIN, "same");
	first = expect_post("*");
	peer_ask_bin(a, 4, BIN, "same");
	post_taken(first);
	post_taken(expect_post("*"));
	expect_copies(0, 2, 2);
	post_echoes(first);
	expect_copies(1, 1, 1);
	/* Other bytes, another event, a JSON payload with an id: not it. */
	peer_ask_bin(a, 5, BIN, "same");
	first = expect_post("*");
	server_broadcast("t", "e", "{}");
	server_text("[null,null,'realtime:t','broadcast',{'type':'broadcast','event':'e',"
		    "'payload':'same','meta':{'id':'same'}}]");
	peer_ask_bin(b, 6, "{'topic':'t','event':'f','via':'http'}", "same");
	server_answer(first, 202, "");
	post_taken(expect_post("/broadcast/t/events/f?*"));
	expect_copies(3, 2, 3);
	post_echoes(first);
	expect_copies(0, 1, 1);
}
END_TEST

/* The one that is refused leaves the other one's echo alone. */
START_TEST(one_of_two_is_refused)
{
	struct line *first, *second;

	peer_ask_bin(a, 2, BIN, "same");
	first = expect_post("*");
	server_answer(first, 202, "");
	peer_ask_bin(a, 3, BIN, "same");
	second = expect_post("*");
	server_answer(second, 403, "");
	expect_copies(0, 0, 0);
	post_echoes(first);
	expect_copies(0, 1, 1);
	post_echoes(first); /* somebody else's */
	expect_copies(1, 1, 1);
}
END_TEST

/* A name is one user's: what others do with it is theirs. */
START_TEST(names_of_others)
{
	static const char named[] =
		"{'topic':'t','event':'e','payload':{'n':1},'via':'http','id':'x'}";
	struct fake_peer *c;
	struct line *post;

	peer_ask(a, 2, "broadcast", named);
	post = expect_post("*");
	post_taken(post);
	expect_copies(0, 1, 1);
	/* A stranger's of the same name, behind it. */
	post_echoes(post);
	expect_copies(1, 1, 1);
	rig.uid = 2000;
	c = peer_ready();
	peer_ask(c, 1, "subscribe", "{'topic':'t'}");
	expect(c, "[1,1,null,*");
	peer_ask(c, 2, "broadcast", named);
	peer_ask(a, 3, "broadcast", "{'topic':'t','event':'e','payload':{'n':2},'via':'http'}");
	post_taken(expect_post("*{'n':1}*"));
	expect(c, SENT(2));
	expect_nothing(c);
	expect_copies(1, 1, 1);
	post_taken(expect_post("*{'n':2}*"));
	expect(c, "*'payload':{'n':2}*");
	expect_copies(0, 1, 1);
}
END_TEST

/* Two users' messages of one name in one request: each its own. */
START_TEST(one_name_of_two)
{
	static const char named[] =
		"{'topic':'t','event':'e','payload':{'n':1},'via':'http','id':'x'}";
	struct fake_peer *c;

	rig.uid = 2000;
	c = peer_ready();
	peer_ask(c, 1, "subscribe", "{'topic':'t'}");
	expect(c, "[1,1,null,*");
	rig.no_turns = true;
	peer_ask(a, 2, "broadcast", named);
	peer_ask(c, 2, "broadcast", named);
	rig.no_turns = false;
	turn();
	post_taken(expect_post("*"));
	expect_copies(1, 2, 2);
	expect(c, "[2,'broadcast',*");
	expect(c, SENT(2));
	expect_nothing(c);
}
END_TEST

/* By loop: a moment before it is forgotten, and at that moment. */
START_TEST(for_30_s)
{
	struct line *post;

	peer_ask(a, 2, "broadcast", N(1));
	post = expect_post("*");
	server_answer(post, 202, "");
	advance(_i ? 30000 : 29999);
	post_echoes(post);
	expect_copies(_i ? 1 : 0, 1, 1);
	ck_assert_uint_eq(chan_find_number(rig.hub, 1)->sends.n_echoes, 0);
}
END_TEST

START_TEST(no_more_than_so_many)
{
	struct line *post;

	for (unsigned i = 0; i <= ECHOES_MAX; i++) {
		peer_ask(a, 2, "broadcast", N(1));
		server_answer(expect_post("*"), 202, "");
	}
	ck_assert_uint_eq(chan_find_number(rig.hub, 1)->sends.n_echoes, ECHOES_MAX);
	/* The oldest one is forgotten, its sender gets it back for once. */
	post = &rig.posts.at[0];
	post_echoes(post);
	expect_copies(1, 1, 1);
	post_echoes(post + 1);
	post_echoes(post + ECHOES_MAX);
	expect_copies(0, 2, 2);
}
END_TEST

/* The answer says nothing of it, or comes behind it, or never. */
START_TEST(without_an_answer)
{
	struct line *post;

	peer_ask(a, 2, "broadcast", N(1));
	post = expect_post("*");
	post_echoes(post);
	expect_copies(0, 1, 1);
	server_answer(post, 503, "");
	peer_ask(a, 3, "broadcast", N(2));
	post = expect_post("*");
	server_answer(post, 0, "");
	post_echoes(post);
	expect_copies(0, 1, 1);
	/* It was tried again: it still comes back once. */
	peer_ask(a, 4, "broadcast", N(3));
	post_unreachable(expect_post("*"));
	advance(500);
	post_taken(expect_post("*"));
	expect_copies(0, 1, 1);
	ck_assert_uint_eq(chan_find_number(rig.hub, 1)->sends.n_echoes, 0);
}
END_TEST

/* Another connection of the same user is another client. */
START_TEST(the_sender_comes_back)
{
	struct line *post;

	peer_ask(a, 2, "broadcast", N(1));
	post = expect_post("*");
	peer_close(a);
	a = peer_ready();
	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	post_taken(post);
	expect_copies(1, 1, 1);
}
END_TEST

/* While the channel is joined anew the old one still delivers. */
START_TEST(joined_anew_meanwhile)
{
	struct line *post, *join;

	peer_ask(a, 2, "broadcast", N(1));
	post = expect_post("*");
	peer_ask(b, 2, "subscribe", "{'topic':'t','presence':{}}");
	advance(200);
	join = expect_frame("*'phx_join'*");
	server_text("[null,null,'realtime:t','broadcast',{'type':'broadcast','event':'e',"
		    "'payload':{'n':1},'meta':{'id':'%.36s'}}]",
		    strstr(post->text, "\"id\":\"") + 6);
	expect_copies(0, 1, 1);
	server_reply(join, true, "{'postgres_changes':[]}");
	server_answer(post, 202, "");
	expect_copies(0, 0, 0);
}
END_TEST

/* A further tracker's own join on a further link gets everything, too: nobody hears it twice. */
START_TEST(beside_a_trackers_own_join)
{
	struct fake_peer *c, *d;
	struct line *post;

	rig_teardown();
	rig_start(with_links);
	rig.probes = true;
	server_open();
	a = peer_ready();
	c = peer_ready();
	d = peer_ready();
	peer_join(a, "t", "{}");
	peer_ask(c, 1, "track", "{'topic':'t','key':'c','state':{}}");
	advance(200);
	server_serve();
	peer_ask(d, 1, "track", "{'topic':'t','key':'d','state':{}}");
	open_link(1);
	server_serve();
	server_serve();
	ck_assert(link_has_topic(&rig.hub->links[1], (struct rtbp_str){ "t", 1 }));
	ck_assert(!d->asked[1]);
	peer_skip(a, "");
	peer_ask(c, 2, "broadcast", N(1));
	post = expect_post("*");
	rig.at = 1;
	server_text("[null,null,'realtime:t','broadcast',{'type':'broadcast','event':'e',"
		    "'payload':{'n':1},'meta':{'id':'%.36s'}}]",
		    strstr(post->text, "\"id\":\"") + 6);
	rig.at = 0;
	ck_assert_uint_eq(copies(a), 0);
	post_taken(post);
	ck_assert_uint_eq(copies(a), 1);
}
END_TEST

/* Two identities have the same topic joined on two links: each gets its own copy, the sender
 * none. */
START_TEST(two_identities)
{
	const char *alice = token_of_user("alice", 1);
	struct fake_peer *c;
	struct line *post;

	rig_teardown();
	rig_start(with_links);
	server_open();
	a = peer_ready();
	c = peer_ready();
	peer_join(a, "t", "{}");
	give(c, 1, alice, UNPROVEN("1"));
	peer_ask(c, 2, "subscribe", "{'topic':'t'}");
	open_link(1);
	server_reply(expect_join("t", alice), true, "{}");
	expect(c, "[1,2,null,*'ready'*");
	peer_ask(c, 3, "broadcast", N(1));
	post = expect_post("*");
	ck_assert(strstr(post->text, alice));
	post_taken(post);
	ck_assert_uint_eq(copies(a), 1);
	expect(c, SENT(3));
	expect_nothing(c);
}
END_TEST

/* ---- on a link that is emptied ---- */

static void two_channels_each(struct hub_conf *conf)
{
	conf->max_links = 2;
	conf->max_channels = 2;
	conf->linger_ms = 0;
}

/* b's channel "t" is on link 1, and there is room for it on link 0 now. */
static void begin_to_empty(void)
{
	rig_teardown();
	rig_start(two_channels_each);
	server_open();
	a = peer_ready();
	b = peer_ready();
	peer_join(a, "u", "{}");
	peer_ask(a, 2, "subscribe", "{'topic':'v'}");
	server_join("v");
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	open_link(1);
	ck_assert_uint_eq(server_join("t")->link, 1);
	peer_ask(a, 3, "unsubscribe", "{'all':true}");
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	peer_skip(a, "");
	peer_skip(b, "");
}

/* It is not moved while something is on its way: the copy of the other join would be its sender's
 * own. */
START_TEST(not_moved_meanwhile)
{
	struct line *post;

	begin_to_empty();
	peer_ask(b, 2, "broadcast",
		 "{'topic':'t','event':'e','payload':{},'via':'http','ttl_ms':60000}");
	for (uint64_t until = rig.now + 40000; rig.now < until; advance(100)) {
		if ((post = any_post()))
			post_unreachable(post);
		expect_no_frame();
	}
	while (!(post = any_post()))
		advance(100);
	post_taken(post);
	expect(b, SENT(2));
	expect_nothing(b);
	advance(20000);
	ck_assert_uint_eq(expect_frame("*'realtime:t','phx_join',*")->link, 0);
}
END_TEST

/* One whose ack is waited for when its turn comes: it is moved later. */
START_TEST(moved_after_an_ack)
{
	struct line *f;

	begin_to_empty();
	advance(9500);
	peer_ask(b, 2, "broadcast", "{'topic':'t','event':'e','payload':1}");
	f = expect_frame("[3,*'realtime:t','e',1]");
	advance(1500);
	expect_no_frame();
	server_reply(f, true, "{}");
	advance(20000);
	ck_assert_uint_eq(expect_frame("*'realtime:t','phx_join',*")->link, 0);
}
END_TEST

/* The move is called off for one that comes then. */
START_TEST(not_moved_any_more)
{
	struct line *join, *post;

	begin_to_empty();
	advance(20000);
	join = expect_frame("*'realtime:t','phx_join',*");
	ck_assert_uint_eq(join->link, 0);
	peer_ask(b, 2, "broadcast", N(1));
	post = expect_post("*");
	server_reply(join, true, "{}");
	ck_assert_uint_eq(expect_frame("*'realtime:t','phx_leave',*")->link, 0);
	post_taken(post);
	expect(b, SENT(2));
	expect_nothing(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_echoes");
	TCase *t = tcase_create("echoes");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, to_all_but_the_sender);
	tcase_add_test(t, what_a_copy_looks_like);
	tcase_add_test(t, equal_bins);
	tcase_add_test(t, one_of_two_is_refused);
	tcase_add_test(t, names_of_others);
	tcase_add_test(t, one_name_of_two);
	tcase_add_loop_test(t, for_30_s, 0, 2);
	tcase_add_test(t, no_more_than_so_many);
	tcase_add_test(t, without_an_answer);
	tcase_add_test(t, the_sender_comes_back);
	tcase_add_test(t, joined_anew_meanwhile);
	tcase_add_test(t, beside_a_trackers_own_join);
	tcase_add_test(t, two_identities);
	tcase_add_test(t, not_moved_meanwhile);
	tcase_add_test(t, moved_after_an_ack);
	tcase_add_test(t, not_moved_any_more);
	suite_add_tcase(s, t);
	return suite_run(s);
}
