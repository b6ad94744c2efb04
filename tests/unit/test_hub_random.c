/* SPDX-License-Identifier: MIT */
/*
 * Random stories: some hundred steps of clients that come, ask and go, of a server that answers,
 * refuses, forgets and drops, and of time. Beside the hub's own lists (hub_check.c) a model of what
 * each peer may get is kept, from its requests and answers alone. Equal seeds are equal stories: a
 * failure in loop test N is seen again by running N alone.
 */
#include "hub_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORIES = 200, STEPS = 300, TOPICS = 5, LIVE_PEERS = 8, SENDS = STEPS + 1 };

enum asked { ASKED_OTHER, ASKED_SUBSCRIBE, ASKED_UNSUBSCRIBE, ASKED_SEND };

/* What a peer wants and knows, as the protocol lets it see. */
static struct model {
	struct {
		bool answered, self;
		char events; /* 'a', 'b', or 'x' for both */
	} subs[TOPICS];
	struct {
		enum asked what;
		unsigned topic, send;
	} asked[FAKE_IDS];
	uint32_t next_id;
	unsigned char copies[SENDS];
	unsigned last[FAKE_PEERS][TOPICS]; /* number of the last message by sender and topic */
} models[FAKE_PEERS];

static struct {
	unsigned sender, topic;
	char event;
} sends[SENDS];
static unsigned n_sends, n_attached;
static uint64_t seed;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

/* ---- what peers get ---- */

static bool wants(const struct model *m, unsigned send, bool is_sender)
{
	unsigned t = sends[send].topic;

	return m->subs[t].answered && (!is_sender || m->subs[t].self) &&
	       (m->subs[t].events == 'x' || m->subs[t].events == sends[send].event);
}

/* The outcome is there: everybody here who should have a copy has one. */
static void check_copies(unsigned send)
{
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (!rig.peers[i].attached || rig.peers[i].finished || rig.peers[i].send_result)
			continue;
		MUST_MSG(models[i].copies[send] == wants(&models[i], send, i == sends[send].sender),
			 "peer %u has %u copies of %u", i, models[i].copies[send], send);
	}
}

static unsigned topic_of(struct rtbp_val params)
{
	struct rtbp_str topic;

	MUST(rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic));
	MUST(topic.size == 1);
	return (unsigned)(topic.p[0] - 'a');
}

static void on_delivery(unsigned peer, struct rtbp_val params)
{
	struct model *m = &models[peer];
	unsigned *last;
	uint64_t n;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_PAYLOAD), &n))
		return; /* the server's */
	MUST(n < SENDS);
	MUST_MSG(wants(m, (unsigned)n, peer == sends[n].sender), "not asked for");
	MUST_MSG(m->copies[n]++ == 0, "a second copy of %u", (unsigned)n);
	last = &m->last[sends[n].sender][sends[n].topic];
	MUST_MSG(*last < n, "%u behind %u", (unsigned)n, *last);
	*last = (unsigned)n;
}

static void on_response(struct model *m, const struct rtbp_msg *msg)
{
	unsigned topic = m->asked[msg->id].topic;
	struct rtbp_str outcome;

	switch (m->asked[msg->id].what) {
	case ASKED_SUBSCRIBE:
		if (!msg->error.p)
			m->subs[topic].answered = true;
		break;
	case ASKED_UNSUBSCRIBE:
		for (unsigned t = 0; t < TOPICS; t++) {
			if (!msg->error.p && (topic == TOPICS || topic == t))
				m->subs[t].answered = false;
		}
		break;
	case ASKED_SEND:
		if (!msg->error.p &&
		    rtbp_get_str(rtbp_field(msg->result, RTBP_F_OUTCOME), &outcome) &&
		    rtbp_str_is(outcome, "acked"))
			check_copies(m->asked[msg->id].send);
		break;
	case ASKED_OTHER:
		break;
	}
}

static void on_message(struct fake_peer *p, const struct rtbp_msg *msg)
{
	unsigned peer = (unsigned)(p - rig.peers);
	struct model *m = &models[peer];

	if (msg->type == RTBP_RESPONSE) {
		on_response(m, msg);
	} else if (rtbp_str_is(msg->method, "broadcast") || rtbp_str_is(msg->method, "channel") ||
		   rtbp_str_is(msg->method, "gap")) {
		MUST_MSG(m->subs[topic_of(msg->params)].answered, "before the answer");
		if (rtbp_str_is(msg->method, "broadcast"))
			on_delivery(peer, msg->params);
	}
}

/* ---- what peers do ---- */

static uint32_t new_id(struct fake_peer *p, enum asked what, unsigned topic, unsigned send)
{
	struct model *m = &models[p - rig.peers];

	m->asked[m->next_id].what = what;
	m->asked[m->next_id].topic = topic;
	m->asked[m->next_id].send = send;
	return m->next_id++;
}

static void step_subscribe(struct fake_peer *p)
{
	static const char *const timeouts[] = { "0", "50", "3000", "15000" };
	unsigned topic = draw(TOPICS), events = draw(3), self = draw(2);
	struct model *m = &models[p - rig.peers];
	char params[200];

	/* The wish is in force from now on, the answer comes when it comes. */
	m->subs[topic].events = "abx"[events];
	m->subs[topic].self = self;
	snprintf(params, sizeof(params),
		 "{'topic':'%c','private':%s,'broadcast':{'self':%s%s},'keep':%s,'timeout_ms':%s}",
		 'a' + topic, topic % 2 ? "true" : "false", self ? "true" : "false",
		 events == 0 ? ",'events':['a']" : (events == 1 ? ",'events':['b']" : ""),
		 draw(3) ? "false" : "true", timeouts[draw(4)]);
	peer_ask(p, new_id(p, ASKED_SUBSCRIBE, topic, 0), "subscribe", params);
}

static void step_unsubscribe(struct fake_peer *p)
{
	unsigned topic = draw(TOPICS + 1);
	char params[100] = "{'all':true}";

	if (topic < TOPICS)
		snprintf(params, sizeof(params), "{'topic':'%c','private':%s}", 'a' + topic,
			 topic % 2 ? "true" : "false");
	peer_ask(p, new_id(p, ASKED_UNSUBSCRIBE, topic, 0), "unsubscribe", params);
}

static void step_send(struct fake_peer *p)
{
	static const char *const ttls[] = { "0", "100", "3000", "10000" };
	unsigned topic = draw(TOPICS), n = ++n_sends;
	char params[200];

	sends[n].sender = (unsigned)(p - rig.peers);
	sends[n].topic = topic;
	sends[n].event = "ab"[draw(2)];
	snprintf(params, sizeof(params),
		 "{'topic':'%c','private':%s,'event':'%c','payload':%u,'ttl_ms':%s}", 'a' + topic,
		 topic % 2 ? "true" : "false", sends[n].event, n, ttls[draw(4)]);
	if (draw(8))
		peer_ask(p, new_id(p, ASKED_SEND, topic, n), "broadcast", params);
	else
		peer_call(p, "broadcast", params);
}

static void step_sync(struct fake_peer *p)
{
	peer_ask(p, new_id(p, ASKED_OTHER, 0, 0), "sync",
		 draw(2) ? "{'upstream':true}" : "{'upstream':true,'timeout_ms':200}");
}

static void step_other(struct fake_peer *p)
{
	switch (draw(6)) {
	case 0:
		peer_frame(p, "\xc1\xc1", draw(3));
		break;
	case 1:
		p->send_result = draw(2) ? 1 : -12;
		p->room = draw(5);
		break;
	case 2:
		peer_ask(p, new_id(p, ASKED_OTHER, 0, 0), "status", "{}");
		break;
	default:
		peer_ask(p, new_id(p, ASKED_OTHER, 0, 0), "sync", "{}");
	}
}

static struct fake_peer *some_peer(void)
{
	struct fake_peer *live[FAKE_PEERS];
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			live[n++] = &rig.peers[i];
	}
	if (n == 0 || (n < LIVE_PEERS && n_attached < FAKE_PEERS - 1 && draw(10) == 0)) {
		if (n_attached == FAKE_PEERS - 1)
			return NULL;
		n_attached++;
		live[0] = peer_attach();
		live[0]->on_message = on_message;
		n = 1;
		peer_ask(live[0], new_id(live[0], ASKED_OTHER, 0, 0), "hello", "{'protocol':1}");
	}
	return live[draw(n)];
}

static void step_peer(void)
{
	struct fake_peer *p = some_peer();

	if (!p)
		return;
	switch (draw(16)) {
	case 0:
		if (draw(2))
			peer_close(p);
		break;
	case 1:
		step_other(p);
		break;
	case 2:
	case 3:
		step_unsubscribe(p);
		break;
	case 4:
		step_sync(p);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
	case 9:
		step_subscribe(p);
		break;
	default:
		step_send(p);
	}
}

/* ---- what the server does ---- */

static void answer(struct line *f)
{
	static const char *const refusals[] = { "{'reason':'Unauthorized: no'}",
						"{'reason':'RealtimeRestarting: x'}", "{}" };
	unsigned fate = draw(10);

	if (fate == 0)
		f->answered = true; /* never */
	else if (fate == 1)
		server_reply(f, false, refusals[draw(3)]);
	else
		server_reply(f, true, "{}");
}

/* Replies of one topic come in order. */
static void step_answer(void)
{
	for (size_t i = 0; i < rig.frames.n; i++) {
		struct line *f = &rig.frames.at[i];

		if (f->answered || f->taken || f->epoch != rig.links[0].epoch)
			continue;
		answer(f);
		return;
	}
}

static void step_close_channel(void)
{
	struct join *j;

	RB_FOREACH(j, join_id_tree, &rig.hub->joins) {
		if (j->state != JOIN_JOINED || draw(3))
			continue;
		if (draw(2))
			server_text("['%u',null,'%s','system',{'status':'error','message':'%s'}]",
				    (unsigned)j->join_ref, j->wire_topic,
				    draw(3) ? "Too many messages per second" : "Token has expired");
		server_text("['%u','%u','%s','%s',{}]", (unsigned)(j->join_ref - (draw(4) == 0)),
			    (unsigned)(j->join_ref - (draw(4) == 0)), j->wire_topic,
			    draw(2) ? "phx_close" : "phx_error");
		return;
	}
}

static void step_server(void)
{
	static const enum session_fault faults[] = { SESSION_FAULT_LOST, SESSION_FAULT_CONNECT,
						     SESSION_FAULT_RESTART };
	bool online = session_get_state(rig.hub->links[0].session) == SESSION_ONLINE;
	char topic[2] = { (char)('a' + draw(TOPICS)), 0 };
	unsigned what = draw(40);

	if (!rig.links[0].is_open || rig.links[0].is_closing)
		return;
	if (!online && what < 20)
		server_open();
	else if (what == 0 || (!online && what < 25))
		server_drop(faults[draw(3)], "dropped");
	else if (!online)
		return;
	else if (what < 3)
		step_close_channel();
	else if (what < 8)
		server_broadcast(topic, draw(2) ? "a" : "b", "'server'");
	else
		step_answer();
}

static void step_time(void)
{
	static const unsigned ms[] = { 0, 1, 10, 10, 100, 100, 500, 2000, 5000, 20000 };

	rig.no_turns = false;
	turn();
	advance(ms[draw(sizeof(ms) / sizeof(*ms))]);
}

/* ---- the story ---- */

static void step(void)
{
	unsigned what = draw(100);

	if (what < 45)
		step_peer();
	else if (what < 85)
		step_server();
	else if (what < 95)
		step_time();
	else if (what < 97)
		rig.send_result = rig.send_result ? 0 : (draw(2) ? 1 : -12);
	else if (what < 98)
		rig.mute = !rig.mute;
	else
		rig.no_turns = true; /* until time goes on */
}

/* From here on everything works: everybody gets an answer. */
static void settle(void)
{
	rig.no_turns = false;
	rig.send_result = 0;
	rig.mute = false;
	turn();
	for (unsigned i = 0; i < 60; i++) {
		if (rig.links[0].is_open &&
		    session_get_state(rig.hub->links[0].session) == SESSION_CONNECTING)
			server_open();
		server_serve();
		advance(2000);
	}
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		MUST_MSG(!rig.peers[i].attached || rig.peers[i].finished || !rig.peers[i].n_asked,
			 "peer %u still waits", i);
}

/* No message goes to the server twice, and those of one topic go in order. */
static void check_frames(void)
{
	unsigned last[TOPICS] = { 0 }, n;
	struct line *f;

	for (size_t i = 0; i < rig.frames.n; i++) {
		f = &rig.frames.at[i];
		if (strncmp(f->text, "[3,", 3) != 0)
			continue;
		n = (unsigned)strtoul(strrchr(f->text, ',') + 1, NULL, 10);
		MUST(n > last[f->topic[9] - 'a']);
		last[f->topic[9] - 'a'] = n;
	}
}

START_TEST(story)
{
	memset(models, 0, sizeof(models));
	n_sends = n_attached = 0;
	seed = (uint64_t)_i * 7919 + 1;
	rig_setup();
	for (unsigned i = 0; i < STEPS; i++)
		step();
	settle();
	check_frames();
	rig_teardown();
}
END_TEST

/* The same, cut off by the orderly stop. */
START_TEST(stopped_story)
{
	memset(models, 0, sizeof(models));
	n_sends = n_attached = 0;
	seed = (uint64_t)_i * 104729 + 2;
	rig_setup();
	for (unsigned i = 0; i < STEPS; i++) {
		if (i == STEPS / 2)
			hub_drain(rig.hub, 500);
		if (i < STEPS / 2 || draw(2))
			step();
	}
	rig.no_turns = false;
	turn();
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached && rig.peers[i].finished)
			peer_close(&rig.peers[i]);
	}
	advance(5000);
	MUST(rig.drained);
	rig_teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_random");
	TCase *t = tcase_create("stories");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, story, 0, STORIES);
	tcase_add_loop_test(t, stopped_story, 0, STORIES / 4);
	suite_add_tcase(s, t);
	return suite_run(s);
}
