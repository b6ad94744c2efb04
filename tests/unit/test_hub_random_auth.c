/* SPDX-License-Identifier: MIT */
/*
 * Random stories of several users, of tokens of few identities, good ones, forged ones and ones
 * that expire, of rules that change, and of a server that closes, drops and refuses. Beside the
 * hub's own lists (hub_check.c) a model of each client's tokens is kept, from its answers and
 * notices alone: whatever reaches it must be of the identity that it has for the topic, and allowed
 * by the rules. In the end every request has its answer. Equal seeds are equal stories.
 */
#include "hub_auth_server.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

enum { STORIES = 120, STEPS = 250, ALIVE = 6 };

#define REST "allow * read,write,presence topic *\nallow * read table *.*\n"
static const char *const rule_sets[] = {
	REST,
	REST,
	"deny user 1001 read topic a\ndeny user 1002 write,presence topic b\n"
	"deny user 1001 read table public.t1\ndeny user 1002 read table *.*\n" REST,
	REST "own user 1001\n",
	"allow user 1002 read topic c\nallow user 1002 read table public.t0\n",
};

/* ---- what each client has ---- */

/* A token's number, or one of these. */
enum { NONE = STORY_TOKENS, ENDED, GRANT_KINDS };

static struct model {
	uid_t uid;
	unsigned general, of_topic[STORY_TOPICS];
	struct {
		bool is_auth;
		unsigned scope, token; /* STORY_TOPICS: all; NONE: clears */
	} asked[FAKE_IDS];
	uint32_t next_id;
} models[FAKE_PEERS];

static struct acl *rules;
static uint64_t seed, clock_set_ms;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

static unsigned topic_number(struct rtbp_str topic)
{
	unsigned t = 0;

	while (t < STORY_TOPICS && !rtbp_str_is(topic, story_topics_of_auth[t]))
		t++;
	return t;
}

static unsigned *grant_of(struct model *m, unsigned topic)
{
	return topic < STORY_TOPICS && m->of_topic[topic] != NONE ? &m->of_topic[topic]
								  : &m->general;
}

/* Something of this identity came about this topic (STORY_TOPICS: none of them). */
static void check_identity(struct model *m, unsigned topic, uint64_t of)
{
	struct acl_who who = { .uid = m->uid, .gid = m->uid };
	unsigned grant = *grant_of(m, topic);
	int64_t late_s = rig.now - clock_set_ms > EXPIRY_LOOK_MS + 1000 ? 2 : INT32_MAX;

	MUST_MSG(grant != ENDED, "its token has ended, and something of %u came", (unsigned)of);
	if (grant == NONE) {
		MUST_MSG(of == 0, "it gave no token, and something of %u came", (unsigned)of);
		MUST(!acl_needs_own_identity(rules, &who));
		return;
	}
	MUST_MSG(of == story_tokens[grant].identity, "it is %u, and something of %u came",
		 story_tokens[grant].identity, (unsigned)of);
	MUST_MSG(!story_tokens[grant].forged, "it lied, and something of %u came", (unsigned)of);
	MUST_MSG(story_tokens[grant].exp_s + late_s >= clock_wall(&rig.clock) / 1000,
		 "it has expired");
}

static void check_topic(struct model *m, struct rtbp_str topic, unsigned right)
{
	struct acl_who who = { .uid = m->uid, .gid = m->uid };

	MUST_MSG(acl_topic(rules, &who, right, topic), "the rules do not allow it");
}

static void on_broadcast(struct model *m, struct rtbp_val params)
{
	struct rtbp_val of;
	struct rtbp_str topic;
	uint64_t n;

	MUST(rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic));
	check_topic(m, topic, ACL_READ);
	of = rtbp_find(rtbp_field(params, RTBP_F_PAYLOAD), "of", 2);
	if (rtbp_get_uint(of, &n))
		check_identity(m, topic_number(topic), n);
	else
		MUST(*grant_of(m, topic_number(topic)) != ENDED);
}

static bool is_of(unsigned grant, uint64_t identity)
{
	return grant == NONE ? identity == 0
			     : grant < NONE && story_tokens[grant].identity == identity;
}

static void on_row(struct model *m, struct rtbp_val params)
{
	struct acl_who who = { .uid = m->uid, .gid = m->uid };
	struct rtbp_val data = rtbp_field(params, RTBP_F_DATA);
	struct rtbp_str table, schema = { "public", 6 };
	unsigned topic = 0;
	uint64_t n;

	MUST(rtbp_get_str(rtbp_find(data, "table", 5), &table));
	MUST_MSG(acl_table(rules, &who, schema, table), "the rules do not allow it");
	MUST(rtbp_get_uint(rtbp_find(rtbp_find(data, "record", 6), "of", 2), &n));
	/* It does not say which subscription it is for. */
	while (topic < STORY_TOPICS && !is_of(*grant_of(m, topic), n))
		topic++;
	check_identity(m, topic, n);
}

/* Whoever is named in it: "of" and a number, of the identity. */
static void on_presence(struct model *m, struct rtbp_val topic_val, struct rtbp_val v)
{
	struct rtbp_str topic;
	char *text = render(v), *p = text;

	if (!rtbp_get_str(topic_val, &topic))
		topic = (struct rtbp_str){ "", 0 };
	if (strstr(text, "\"of"))
		check_topic(m, topic, ACL_PRESENCE);
	while ((p = strstr(p, "\"of"))) {
		p += 3;
		if (*p != '"')
			check_identity(m, topic_number(topic), strtoul(p, NULL, 10));
	}
	free(text);
}

static void on_response(struct model *m, const struct rtbp_msg *msg)
{
	unsigned scope = m->asked[msg->id].scope, token = m->asked[msg->id].token;
	struct rtbp_val snapshot;

	if (msg->error.p)
		return;
	if (m->asked[msg->id].is_auth && scope == STORY_TOPICS)
		m->general = token;
	else if (m->asked[msg->id].is_auth)
		m->of_topic[scope] = token;
	snapshot = rtbp_field(msg->result, RTBP_F_PRESENCE);
	if (snapshot.p && rtbp_field(msg->result, RTBP_F_CHAN).p)
		on_presence(m, rtbp_field(msg->result, RTBP_F_TOPIC), snapshot);
}

static void on_error(struct model *m, struct rtbp_val params)
{
	struct rtbp_str method, topic;
	unsigned *grant = &m->general;

	if (!rtbp_get_str(rtbp_field(params, RTBP_F_METHOD), &method) ||
	    !rtbp_str_is(method, "auth"))
		return;
	if (rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic)) {
		MUST(topic_number(topic) < STORY_TOPICS);
		grant = &m->of_topic[topic_number(topic)];
	}
	MUST_MSG(*grant < NONE, "the end of a token that it has not");
	*grant = ENDED;
}

static void on_message(struct fake_peer *p, const struct rtbp_msg *msg)
{
	struct model *m = &models[p - rig.peers];

	if (msg->type == RTBP_RESPONSE)
		on_response(m, msg);
	else if (rtbp_str_is(msg->method, "broadcast"))
		on_broadcast(m, msg->params);
	else if (rtbp_str_is(msg->method, "postgres_changes"))
		on_row(m, msg->params);
	else if (rtbp_str_is(msg->method, "presence"))
		on_presence(m, rtbp_field(msg->params, RTBP_F_TOPIC), msg->params);
	else if (rtbp_str_is(msg->method, "error"))
		on_error(m, msg->params);
}

/* ---- what clients do ---- */

static unsigned some_token(void)
{
	static const int64_t lives[] = { 20, 100, 600, 7200 };

	if (n_story_tokens == 0 || draw(3) == 0) {
		unsigned made = auth_server_token(1 + draw(STORY_IDENTITIES - 1), draw(4) == 0,
						  lives[draw(4)]);

		if (made < STORY_TOKENS)
			return made;
	}
	return draw(n_story_tokens);
}

static void ask(struct fake_peer *p, const char *method, const char *params)
{
	struct model *m = &models[p - rig.peers];

	if (m->next_id < FAKE_IDS && p->attached && !p->finished)
		peer_ask(p, m->next_id++, method, params);
}

static void ask_auth(struct fake_peer *p, unsigned scope, unsigned token)
{
	struct model *m = &models[p - rig.peers];
	char params[4000], topic[40] = "", timeout[40] = "";

	if (m->next_id >= FAKE_IDS)
		return;
	m->asked[m->next_id].is_auth = true;
	m->asked[m->next_id].scope = scope;
	m->asked[m->next_id].token = token;
	if (scope < STORY_TOPICS)
		snprintf(topic, sizeof(topic), ",'topic':'%s'", story_topics_of_auth[scope]);
	if (draw(4) == 0)
		snprintf(timeout, sizeof(timeout), ",'timeout_ms':%u", draw(5000));
	if (token == NONE)
		snprintf(params, sizeof(params), "{'token':null%s%s}", topic, timeout);
	else
		snprintf(params, sizeof(params), "{'token':'%s'%s%s}", story_tokens[token].text,
			 topic, timeout);
	ask(p, "auth", params);
}

static void ask_subscribe(struct fake_peer *p)
{
	char params[400], tables[200] = "", topic[60] = "";

	if (draw(3) == 0)
		snprintf(tables, sizeof(tables),
			 "'postgres_changes':[{'schema':'public','table':'t%u'},{'schema':'public',"
			 "'table':'t%u'}],%s",
			 draw(STORY_TABLES), draw(STORY_TABLES), draw(2) ? "'broadcast':{}," : "");
	if (!tables[0] || strstr(tables, "broadcast") || draw(2))
		snprintf(topic, sizeof(topic), "'topic':'%s','private':%s,",
			 story_topics_of_auth[draw(STORY_TOPICS)], draw(3) ? "false" : "true");
	snprintf(params, sizeof(params), "{%s%s%s'timeout_ms':%u,'keep':%s}", topic, tables,
		 topic[0] && draw(2) ? "'presence':{}," : "", draw(10000),
		 draw(2) ? "true" : "false");
	ask(p, "subscribe", params);
}

static void ask_other(struct fake_peer *p)
{
	const char *topic = story_topics_of_auth[draw(STORY_TOPICS)];
	char params[300];

	switch (draw(7)) {
	case 0:
		ask(p, "unsubscribe", draw(4) ? "{'topic':'a'}" : "{'all':true}");
		break;
	case 1:
		snprintf(params, sizeof(params), "{'topic':'%s'}", topic);
		ask(p, "untrack", params);
		break;
	case 2:
		snprintf(params, sizeof(params), "{'topic':'%s','state':{'n':%u}}", topic,
			 draw(100));
		ask(p, "track", params);
		break;
	case 3:
		ask(p, "status", "{}");
		break;
	case 4:
		ask(p, "sync", "{}");
		break;
	default:
		snprintf(params, sizeof(params),
			 "{'topic':'%s','event':'e','payload':{'from':%u},'via':'ws','ttl_ms':%u}",
			 topic, draw(100), draw(8000));
		ask(p, "broadcast", params);
		break;
	}
}

static void somebody_comes(void)
{
	static const uid_t uids[] = { 1000, 1001, 1002, 1002 };
	char params[4000] = "{'protocol':1}";
	unsigned token = draw(2) ? some_token() : NONE;
	struct fake_peer *p;
	struct model *m;
	unsigned n_free = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++)
		n_free += !rig.peers[i].attached && !rig.peers[i].got.n && !rig.peers[i].farewell;
	if (!n_free)
		return;
	rig.uid = uids[draw(4)];
	p = peer_attach();
	m = &models[p - rig.peers];
	*m = (struct model){ .uid = rig.uid, .general = NONE };
	for (unsigned t = 0; t < STORY_TOPICS; t++)
		m->of_topic[t] = NONE;
	p->on_message = on_message;
	if (p->finished)
		return;
	if (token != NONE) {
		m->asked[0].is_auth = true;
		m->asked[0].scope = STORY_TOPICS;
		m->asked[0].token = token;
		snprintf(params, sizeof(params), "{'protocol':1,'token':'%s'}",
			 story_tokens[token].text);
	}
	ask(p, "hello", params);
}

static void a_client_does_something(void)
{
	struct fake_peer *p = &rig.peers[draw(FAKE_PEERS)];
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		n += rig.peers[i].attached;
		if (rig.peers[i].attached && rig.peers[i].finished)
			peer_close(&rig.peers[i]);
	}
	if (n < ALIVE && draw(3) == 0)
		somebody_comes();
	for (unsigned i = 0; i < FAKE_PEERS && !p->attached; i++)
		p = &rig.peers[(unsigned)(p - rig.peers + 1) % FAKE_PEERS];
	if (!p->attached)
		return;
	switch (draw(10)) {
	case 0:
		ask_auth(p, STORY_TOPICS, draw(5) ? some_token() : NONE);
		break;
	case 1:
		ask_auth(p, draw(STORY_TOPICS), draw(5) ? some_token() : NONE);
		break;
	case 2:
		if (draw(4) == 0)
			peer_close(p);
		break;
	case 3:
	case 4:
	case 5:
		ask_subscribe(p);
		break;
	default:
		ask_other(p);
		break;
	}
}

/* ---- stories ---- */

static void reload(unsigned set)
{
	struct acl *old = rules;

	rules = rules_of(rule_sets[set]);
	hub_set_acl(rig.hub, rules);
	acl_free(old);
	turn();
}

static void something_else_happens(void)
{
	unsigned link = draw(LINKS_MAX);

	switch (draw(6)) {
	case 0:
		auth_server_closes();
		break;
	case 1:
		reload(draw(sizeof(rule_sets) / sizeof(*rule_sets)));
		break;
	case 2:
		if (n_story_tokens)
			story_tokens[draw(n_story_tokens)].revoked = true;
		break;
	case 3:
		rig.wall_step_ms = draw(3) ? (int64_t)draw(200000) - 100000 : 0;
		clock_set_ms = rig.now;
		break;
	default:
		if (rig.links[link].is_open && !rig.links[link].is_closing && draw(2)) {
			rig.at = link;
			server_drop(SESSION_FAULT_LOST, "gone");
			rig.at = 0;
		}
		break;
	}
}

static unsigned n_unanswered(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached && !rig.peers[i].finished)
			n += rig.peers[i].n_asked;
	}
	return n;
}

static void configure(struct hub_conf *conf)
{
	conf->max_links = draw(3) ? 4 : 1;
	conf->private_only = draw(5) ? HUB_PRIVATE_AUTO : HUB_PRIVATE_YES;
	conf->probation = draw(3) ? HUB_PROBATION_AFTER_FAILURE : HUB_PROBATION_ALWAYS;
	conf->trackers = draw(2) ? HUB_TRACKERS_LINKS : HUB_TRACKERS_MERGE;
	conf->acl = rules;
}

/* Whatever was asked has an answer, when nothing goes wrong any more. */
static void peace(void)
{
	reload(0);
	for (unsigned s = 0; s < 700 && n_unanswered(); s++) {
		auth_server_opens();
		while (auth_server_answer(true))
			;
		advance(1000);
	}
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		MUST_MSG(!rig.peers[i].attached || rig.peers[i].finished || !rig.peers[i].n_asked,
			 "peer %u has %u requests without an answer", i, rig.peers[i].n_asked);
	for (unsigned i = 0; i < 100; i++)
		auth_server_says();
}

static void drain(void)
{
	hub_drain(rig.hub, 500);
	turn();
	advance(600);
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		MUST(!rig.peers[i].attached || rig.peers[i].finished);
		if (rig.peers[i].attached)
			peer_close(&rig.peers[i]);
	}
	advance(3000);
	MUST(rig.drained);
}

START_TEST(story)
{
	seed = (uint64_t)_i * 7919 + 17;
	clock_set_ms = 0;
	rules = rules_of(rule_sets[0]);
	rig_start(configure);
	rig.probes = true;
	auth_server_start(draw);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned what = draw(20);

		if (what < 8)
			a_client_does_something();
		else if (what < 13)
			(void)auth_server_answer(false);
		else if (what < 15)
			auth_server_says();
		else if (what < 17)
			auth_server_opens();
		else if (what < 19)
			advance(draw(4) ? draw(500) : draw(20000));
		else
			something_else_happens();
	}
	if (draw(4))
		peace();
	if (draw(2))
		drain();
	ck_assert_uint_eq(frames_with("\"sb_"), 0);
	rig_teardown();
	auth_server_done();
	rules = acl_free(rules);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_random_auth");
	TCase *t = tcase_create("stories");

	tcase_add_loop_test(t, story, 0, STORIES);
	suite_add_tcase(s, t);
	return suite_run(s);
}
