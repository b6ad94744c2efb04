/* SPDX-License-Identifier: MIT */
/*
 * Random stories about sends: ten clients of three users send on all ways to public and private
 * channels, while the server acks, refuses, forgets, answers requests in all its words or not at
 * all, closes channels and drops the link, and while rules change. Equal seeds are equal stories: a failure in loop test N
 * is seen again by running N alone.
 */
#include "hub_fixture.h"
#include "hub_sends.h"
#include "hub_sends_model.h"

#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

enum { STORIES = 160, STEPS = 300, LIVE_PEERS = 10, ECHOES = 1000, ECHO_LATE_MS = 25000 };

static uint64_t seed;
static unsigned n_attached;
/* Requests that the server took, and did not hand out yet. */
static struct {
	size_t post;
	uint64_t join_ref, epoch; /* of the join at that time; 0: there was none */
} echoes[ECHOES];
static unsigned first_echo, n_echoes;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

/* ---- what peers do ---- */

static const char *privacy(unsigned topic)
{
	return sent_is_private(topic) ? "true" : "false";
}

static void step_subscribe(struct fake_peer *p)
{
	static const char *const timeouts[] = { "0", "50", "3000", "15000" };
	unsigned topic = draw(SENT_TOPICS), events = draw(3), self = draw(2);
	char params[300];

	snprintf(
		params, sizeof(params),
		"{'topic':'%c','private':%s,'broadcast':{'self':%s%s}%s,'keep':%s,'timeout_ms':%s}",
		'a' + topic, privacy(topic), self ? "true" : "false",
		events == 0 ? ",'events':['a']" : (events == 1 ? ",'events':['b']" : ""),
		draw(12) ? "" : ",'presence':{}", draw(3) ? "false" : "true", timeouts[draw(4)]);
	peer_ask(p, sent_subscribes(p, topic, "abx"[events], self), "subscribe", params);
}

static void step_unsubscribe(struct fake_peer *p)
{
	unsigned topic = draw(SENT_TOPICS + 1);
	char params[100] = "{'all':true}";

	if (topic < SENT_TOPICS)
		snprintf(params, sizeof(params), "{'topic':'%c','private':%s}", 'a' + topic,
			 privacy(topic));
	peer_ask(p, sent_unsubscribes(p, topic), "unsubscribe", params);
}

static void step_send(struct fake_peer *p)
{
	static const char *const ttls[] = { "0", "100", "3000", "10000", "60000" };
	static const char *const vias[] = { "auto", "ws", "http" };
	unsigned topic = draw(SENT_TOPICS), n = sent_new_send(p, topic), via = draw(3);
	struct sent *s = &sent_all[n];
	char params[300], name[30] = "", payload[40] = "", bytes[12];

	s->event = "ab"[draw(2)];
	s->payload = draw(5) < 3 ? SENT_MAP : (draw(2) ? SENT_NUMBER : SENT_BIN);
	s->is_named = draw(2);
	s->via = vias[via][0];
	if (s->is_named)
		snprintf(name, sizeof(name), ",'id':'n%u'", n);
	if (s->payload != SENT_BIN)
		snprintf(payload, sizeof(payload),
			 s->payload == SENT_MAP ? ",'payload':{'n':%u}" : ",'payload':%u", n);
	snprintf(params, sizeof(params),
		 "{'topic':'%c','private':%s,'event':'%c','via':'%s','ttl_ms':%s%s%s}", 'a' + topic,
		 privacy(topic), s->event, vias[via], ttls[draw(5)], name, payload);
	snprintf(bytes, sizeof(bytes), "%u", n);
	if (s->payload == SENT_BIN)
		peer_ask_bin(p, sent_asks_send(p, n), params, bytes);
	else if (draw(8))
		peer_ask(p, sent_asks_send(p, n), "broadcast", params);
	else
		peer_call(p, "broadcast", params);
}

static void step_ask(struct fake_peer *p)
{
	char params[40];
	unsigned n;

	if (!sent_n || !draw(4)) {
		peer_ask(p, sent_asks(p), "sync", draw(2) ? "{'upstream':true}" : "{}");
		return;
	}
	n = 1 + draw(sent_n);
	snprintf(params, sizeof(params), "{'id':'n%u'}", n);
	peer_ask(p, sent_asks_outcome(p, n), "outcome", params);
}

static struct fake_peer *some_peer(void)
{
	struct fake_peer *live[FAKE_PEERS];
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			live[n++] = &rig.peers[i];
	}
	if (n == 0 || (n < LIVE_PEERS && n_attached < FAKE_PEERS - 1 && draw(5) == 0)) {
		if (n_attached == FAKE_PEERS - 1)
			return NULL;
		n_attached++;
		rig.uid = (uid_t[]){ 1000, 2000, 2001 }[draw(3)];
		live[0] = peer_attach();
		live[0]->on_message = sent_on_message;
		sent_attached(live[0], rig.uid);
		n = 1;
		peer_ask(live[0], sent_asks(live[0]), "hello", "{'protocol':1}");
	}
	return live[draw(n)];
}

static void step_peer(void)
{
	struct fake_peer *p = some_peer();
	unsigned what = draw(100);

	if (!p)
		return;
	if (what < 3) {
		peer_close(p);
	} else if (what < 5) {
		p->send_result = draw(2) ? 1 : -12;
		p->room = draw(5);
	} else if (what < 12) {
		step_unsubscribe(p);
	} else if (what < 25) {
		step_ask(p);
	} else if (what < 45) {
		step_subscribe(p);
	} else {
		step_send(p);
	}
}

/* ---- the link's end of the server ---- */

static void answer_send(struct line *f, unsigned n)
{
	unsigned fate = draw(10);

	sent_all[n].refused = fate < 3;
	if (fate < 2) {
		f->answered = true; /* its policies refuse it: no word */
	} else if (fate == 2) {
		server_reply(f, false, "{}");
	} else {
		sent_all[n].acked = !sent_all[n].ended;
		server_reply(f, true, "{}");
		if (sent_all[n].acked)
			sent_acked(n);
	}
}

static void answer_other(struct line *f)
{
	unsigned fate = draw(20);

	if (fate == 0)
		f->answered = true; /* never */
	else if (fate == 1 && strcmp(f->event, "phx_join") == 0)
		server_reply(f, false,
			     draw(2) ? "{'reason':'Unauthorized: no'}"
				     : "{'reason':'RealtimeRestarting: x'}");
	else
		server_reply(f, fate != 2 || strcmp(f->event, "presence") != 0, "{}");
}

/* Replies of one link come in order here. */
static void step_answer(void)
{
	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		struct line *f = &rig.frames.at[i];
		unsigned n = sent_frame_send(f);

		if (f->answered || f->taken || !frame_is_current(f)) {
			rig.frames.next += i == rig.frames.next;
			continue;
		}
		if (n)
			answer_send(f, n);
		else
			answer_other(f);
		return;
	}
}

static void step_close_channel(void)
{
	struct join *j;

	RB_FOREACH(j, join_id_tree, &rig.hub->joins) {
		if (j->state != JOIN_JOINED || draw(3))
			continue;
		server_text("['%u','%u','%s','%s',{}]", (unsigned)j->join_ref,
			    (unsigned)j->join_ref, j->wire_topic,
			    draw(2) ? "phx_close" : "phx_error");
		return;
	}
}

static void step_link(void)
{
	static const enum session_fault faults[] = { SESSION_FAULT_LOST, SESSION_FAULT_CONNECT,
						     SESSION_FAULT_RESTART };
	bool online = session_get_state(rig.hub->links[0].session) == SESSION_ONLINE;
	unsigned what = draw(40);

	if (!rig.links[0].is_open || rig.links[0].is_closing)
		return;
	if (!online && what < 25)
		server_open();
	else if (what == 0 || (!online && what < 28))
		server_drop(faults[draw(3)], "dropped");
	else if (!online)
		return;
	else if (what == 1)
		step_close_channel();
	else
		step_answer();
}

/* ---- the HTTP end of the server ---- */

static const struct join *joined(unsigned topic)
{
	const struct chan *ch = sent_chan(topic);

	return ch && ch->join && ch->join->state == JOIN_JOINED ? ch->join : NULL;
}

static unsigned topic_of_post(size_t post)
{
	unsigned list[POST_MESSAGES_MAX];

	(void)sent_post_sends(&rig.posts.at[post], list);
	return sent_all[list[0]].topic;
}

static void took(size_t post)
{
	const struct join *j = joined(topic_of_post(post));

	MUST(n_echoes < ECHOES);
	echoes[n_echoes].post = post;
	echoes[n_echoes].join_ref = j ? j->join_ref : 0;
	echoes[n_echoes++].epoch = rig.links[0].epoch;
}

/* The oldest of what the server took, to who was joined then and is still. */
static void hand_out(void)
{
	size_t post = echoes[first_echo].post;
	unsigned topic = topic_of_post(post), list[POST_MESSAGES_MAX];
	unsigned n = sent_post_sends(&rig.posts.at[post], list);
	const struct join *j = joined(topic);
	bool is_held = j && sent_chan(topic)->hold.active;
	bool is_for_it = j && j->join_ref == echoes[first_echo].join_ref &&
			 rig.links[0].epoch == echoes[first_echo].epoch;

	first_echo++;
	if (!is_for_it || rig.now - rig.posts.at[post].at_ms > ECHO_LATE_MS)
		return;
	for (unsigned i = 0; i < n; i++)
		sent_all[list[i]].comes_back = true;
	post_echoes(&rig.posts.at[post]);
	for (unsigned i = 0; i < n && !is_held; i++)
		sent_came_back(list[i]);
}

static const struct {
	unsigned status;
	bool was_sent, taken, of_batch;
	const char *body;
} fates[] = {
	{ 202, true, true, false, "" },
	{ 202, true, true, false, "" },
	{ 202, true, true, false, "" },
	{ 0, false, false, false, "" }, /* not reached */
	{ 0, true, false, false, "" },
	{ 0, true, true, false, "" },
	{ 403, true, false, false, "{'message':'no'}" },
	{ 413, true, false, true, "" },
	{ 429, true, false, false, "" },
	{ 429, true, false, true, "{'message':'reduce the batch size'}" },
	{ 500, true, false, false, "" },
	{ 500, true, true, false, "\xff" },
};

static void step_post(void)
{
	unsigned list[POST_MESSAGES_MAX], fate = draw(sizeof(fates) / sizeof(*fates));
	struct hub_answer a = {
		.was_sent = fates[fate].was_sent,
		.status = fates[fate].status,
		.text = "no answer",
	};
	size_t post[POSTS_MAX], n = 0, at;
	bool returned;
	char *body;

	sent_look();
	for (size_t i = rig.posts.next; i < rig.posts.n; i++) {
		if (!rig.posts.at[i].answered)
			post[n++] = i;
		else
			rig.posts.next += i == rig.posts.next;
		MUST(n <= POSTS_MAX);
	}
	if (!n)
		return;
	at = post[draw((unsigned)n)];
	returned = !a.was_sent ||
		   (fates[fate].of_batch && sent_post_sends(&rig.posts.at[at], list) > 1);
	if (fates[fate].taken)
		took(at);
	while (first_echo < n_echoes && draw(2))
		hand_out();
	body = quoted(fates[fate].body);
	a.body = body;
	a.size = strlen(body);
	sent_answers(&rig.posts.at[at], a.status, returned);
	server_answer_all(&rig.posts.at[at], &a);
	free(body);
	sent_look();
	sent_answered(&rig.posts.at[at]);
}

/* ---- the rules ---- */

/* Who may write where; everybody may read. */
static const struct {
	const char *lines;
	const char *of_2000, *of_2001; /* topics */
} rule_sets[] = {
	{ "allow user 2000 read,write,presence topic *\n"
	  "allow user 2001 read,write,presence topic *\n",
	  "abcde", "abcde" },
	{ "allow user 2000 read,presence topic *\n"
	  "allow user 2001 read,write,presence topic *\n",
	  "", "abcde" },
	{ "allow user 2000 read,write,presence topic *\n"
	  "allow user 2001 read,presence topic *\n"
	  "allow user 2001 write topic a\nallow user 2001 write topic d\n",
	  "abcde", "ad" },
};
static struct acl *rules;
static unsigned rule_set;

static bool may(uid_t uid, unsigned topic)
{
	const char *topics =
		uid == 2000 ? rule_sets[rule_set].of_2000 : rule_sets[rule_set].of_2001;

	return uid == 1000 || strchr(topics, (int)('a' + topic));
}

static void step_rules(void)
{
	unsigned with = draw(sizeof(rule_sets) / sizeof(*rule_sets));
	bool differ = !rules || with != rule_set;
	struct acl *old = rules;

	rig.no_turns = false; /* who has gone has gone */
	turn();
	sent_look();
	rule_set = with;
	rules = rules_of(rule_sets[rule_set].lines);
	sent_rules(may, differ);
	hub_set_acl(rig.hub, rules);
	acl_free(old);
	turn();
	sent_look();
}

/* ---- the story ---- */

static void step_time(void)
{
	static const unsigned ms[] = { 0, 1, 10, 10, 100, 100, 500, 2000, 5000, 20000 };

	rig.no_turns = false;
	/* What is full is so for a moment. */
	if (draw(2))
		rig.send_result = rig.post_result = 0;
	turn();
	advance(ms[draw(sizeof(ms) / sizeof(*ms))]);
}

static void step(void)
{
	unsigned what = draw(100);

	if (what < 40)
		step_peer();
	else if (what < 72)
		step_link();
	else if (what < 82)
		step_post();
	else if (what < 84 && first_echo < n_echoes)
		hand_out();
	else if (what < 95)
		step_time();
	else if (what < 97)
		rig.send_result = rig.send_result ? 0 : (draw(2) ? 1 : -12);
	else if (what < 98)
		rig.post_result = !rig.post_result;
	else if (what < 99)
		rig.mute = !rig.mute;
	else
		rig.no_turns = true; /* until time goes on */
	sent_look();
}

static void begin(uint64_t with)
{
	sent_start();
	first_echo = n_echoes = n_attached = 0;
	seed = with;
	rig_setup();
	rules = NULL;
}

static void everything_works(void)
{
	rig.no_turns = false;
	rig.send_result = rig.post_result = 0;
	rig.mute = false;
	turn();
	sent_look();
}

static bool is_owed(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++)
		n += rig.peers[i].attached && !rig.peers[i].finished ? rig.peers[i].n_asked : 0;
	return n || !RB_EMPTY(&rig.hub->sends);
}

/* From here on everybody gets an answer. */
static void settle(void)
{
	everything_works();
	for (unsigned i = 0; i < 60 && (i < 3 || is_owed()); i++) {
		if (rig.links[0].is_open &&
		    session_get_state(rig.hub->links[0].session) == SESSION_CONNECTING)
			server_open();
		for (unsigned k = 0; k < 40; k++) {
			sent_look();
			step_answer();
			step_post();
		}
		while (first_echo < n_echoes)
			hand_out();
		advance(2000);
	}
	sent_look();
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		MUST_MSG(!rig.peers[i].attached || rig.peers[i].finished || !rig.peers[i].n_asked,
			 "peer %u still waits", i);
	sent_check_end();
}

/* Nothing is left of it. */
static void check_empty(void)
{
	const struct hub *hub = rig.hub;
	struct user *u;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			peer_close(&rig.peers[i]);
	}
	for (unsigned i = 0; i < 5; i++) {
		server_serve();
		advance(30000);
	}
	MUST(RB_EMPTY(&hub->sends) && !hub->send_bytes && !hub->n_outcomes);
	MUST(TAILQ_EMPTY(&hub->posts_waiting) && TAILQ_EMPTY(&hub->ended));
	for (unsigned i = 0; i < POSTS_MAX; i++)
		MUST(!hub->posts[i].id);
	MUST(!hub->n_chans);
	/* Whose joins have failed is remembered for longer. */
	RB_FOREACH(u, user_tree, &rig.hub->users)
		MUST(!u->n_posts && !u->send_bytes && !u->n_outcomes && !u->n_peers);
}

START_TEST(story)
{
	begin((uint64_t)_i * 15485863 + 1);
	for (unsigned i = 0; i < STEPS; i++)
		step();
	settle();
	check_empty();
	rig_teardown();
}
END_TEST

/* The same under rules that change. */
START_TEST(story_with_rules)
{
	begin((uint64_t)_i * 49979687 + 3);
	for (unsigned i = 0; i < STEPS; i++) {
		step();
		if (i % 30 == 0)
			step_rules();
	}
	settle();
	check_empty();
	rig_teardown();
	rules = acl_free(rules);
}
END_TEST

/* The same, cut off by the orderly stop: a request that is away then has no answer any more. */
START_TEST(stopped_story)
{
	begin((uint64_t)_i * 32452843 + 2);
	for (unsigned i = 0; i < STEPS; i++) {
		if (i == STEPS / 2)
			hub_drain(rig.hub, 500);
		if (i < STEPS / 2 || draw(2))
			step();
	}
	everything_works();
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached && rig.peers[i].finished)
			peer_close(&rig.peers[i]);
	}
	advance(5000);
	MUST(rig.drained);
	sent_look();
	rig_teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_random_sends");
	TCase *t = tcase_create("stories");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, story, 0, STORIES);
	tcase_add_loop_test(t, story_with_rules, 0, STORIES / 4);
	tcase_add_loop_test(t, stopped_story, 0, STORIES / 4);
	suite_add_tcase(s, t);
	return suite_run(s);
}
