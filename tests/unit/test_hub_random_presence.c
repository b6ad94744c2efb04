/* SPDX-License-Identifier: MIT */
/*
 * Random stories about presence: clients that watch and track, on up to three links, by each rule
 * for several trackers; a server (hub_server.c) that refuses, closes and drops. What each client
 * was told is folded as PROTOCOL.md says; when everything has settled it is what the server has,
 * and the server shows what the clients tracked last. Equal seeds are equal stories.
 */
#include "hub_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORIES = 160, STEPS = 300, LIVE_PEERS = 8 };

enum asked { ASKED_OTHER, ASKED_SUBSCRIBE, ASKED_UNSUBSCRIBE, ASKED_TRACK, ASKED_UNTRACK };

static struct model {
	struct {
		bool answered, presence, filtered;
		bool exact; /* the view is the hub's: changes must fit */
		char state[16], presence_state[16];
		struct view view;
	} subs[TOPICS];
	struct {
		unsigned n; /* the state; 0: not tracked */
		char key[64];
	} tracked[TOPICS];
	struct {
		enum asked what;
		unsigned topic, tracked_before;
	} asked[FAKE_IDS];
	uint32_t next_id;
} models[FAKE_PEERS];

static unsigned n_attached, n_states;
static uint64_t seed;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

/* ---- what peers get ---- */

static void copy(struct rtbp_val v, char *to, size_t size)
{
	struct rtbp_str s;

	MUST(rtbp_get_str(v, &s) && s.size < size);
	memcpy(to, s.p, s.size);
	to[s.size] = '\0';
}

static unsigned topic_of(struct rtbp_val params)
{
	uint64_t number;
	const struct chan *ch;

	MUST(rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &number));
	ch = chan_find_number(rig.hub, number);
	MUST_MSG(ch, "of a channel that is not there");
	return story_topic(ch->topic_text, ch->is_private);
}

static struct seen read_entry(struct rtbp_val e)
{
	struct seen s;
	char *state = render(rtbp_field(e, RTBP_F_STATE));

	copy(rtbp_field(e, RTBP_F_KEY), s.key, sizeof(s.key));
	copy(rtbp_field(e, RTBP_F_REF), s.ref, sizeof(s.ref));
	MUST((size_t)snprintf(s.state, sizeof(s.state), "%s", state) < sizeof(s.state));
	free(state);
	return s;
}

static void view_join(struct view *v, const struct seen *s)
{
	MUST_MSG(!view_find(v, s->key, s->ref), "%s %s joins twice", s->key, s->ref);
	MUST(v->n < VIEW_MAX);
	v->at[v->n++] = *s;
}

static void view_leave(struct view *v, const struct seen *s)
{
	struct seen *old = view_find(v, s->key, s->ref);

	MUST_MSG(old, "%s %s leaves, who is not there", s->key, s->ref);
	*old = v->at[--v->n];
}

static void view_update(struct view *v, const struct seen *s, struct rtbp_val e)
{
	char prev[64];
	struct seen *old;

	copy(rtbp_field(e, RTBP_F_PREV), prev, sizeof(prev));
	old = view_find(v, s->key, prev);
	MUST_MSG(old, "%s %s changes, who is not there", s->key, prev);
	*old = *s;
}

static void view_replace(struct view *v, struct rtbp_val snapshot)
{
	struct rtbp_iter it;
	struct rtbp_val e;
	struct seen s;

	v->n = 0;
	MUST(rtbp_iter_array(snapshot, &it));
	while (rtbp_iter_next(&it, &e)) {
		s = read_entry(e);
		view_join(v, &s);
	}
}

static void on_presence(struct model *m, struct rtbp_val params)
{
	static const enum rtbp_field changes[] = { RTBP_F_LEAVE, RTBP_F_JOIN, RTBP_F_UPDATE };
	struct rtbp_val sync = rtbp_field(params, RTBP_F_SYNC), v, e;
	unsigned topic = topic_of(params);
	struct view *view = &m->subs[topic].view;
	struct rtbp_iter it;
	struct seen s;

	MUST_MSG(m->subs[topic].answered, "before the answer");
	MUST_MSG(m->subs[topic].presence, "not asked for");
	if (m->subs[topic].filtered)
		MUST_MSG(!sync.p && !rtbp_field(params, RTBP_F_LEAVE).p, "not asked for");
	if (sync.p) {
		view_replace(view, sync);
		m->subs[topic].exact = !m->subs[topic].filtered;
	}
	for (unsigned i = 0; i < 3 && m->subs[topic].exact; i++) {
		v = rtbp_field(params, changes[i]);
		MUST(!v.p || !sync.p);
		if (!v.p)
			continue;
		MUST(rtbp_iter_array(v, &it) && it.left > 0);
		while (rtbp_iter_next(&it, &e)) {
			s = read_entry(e);
			if (i == 0)
				view_leave(view, &s);
			else if (i == 1)
				view_join(view, &s);
			else
				view_update(view, &s, e);
		}
	}
}

static void on_subscribed(struct model *m, unsigned topic, const struct rtbp_msg *msg)
{
	struct rtbp_val presence = rtbp_field(msg->result, RTBP_F_PRESENCE);
	char state[16];

	if (msg->error.p)
		return;
	m->subs[topic].answered = true;
	copy(rtbp_field(msg->result, RTBP_F_STATE), m->subs[topic].state, 16);
	m->subs[topic].exact = false;
	if (!presence.p)
		return;
	copy(rtbp_field(presence, RTBP_F_STATE), state, sizeof(state));
	snprintf(m->subs[topic].presence_state, 16, "%s", state);
	view_replace(&m->subs[topic].view, rtbp_field(presence, RTBP_F_SNAPSHOT));
	MUST(strcmp(state, "ok") == 0 || m->subs[topic].view.n == 0);
	m->subs[topic].exact = !m->subs[topic].filtered && strcmp(state, "ok") == 0;
}

static void on_tracked(struct model *m, const struct rtbp_msg *msg)
{
	unsigned topic = m->asked[msg->id].topic;
	char outcome[16] = "", error[32] = "", key[64];
	struct rtbp_iter it;
	struct rtbp_val v;

	if (msg->error.p) {
		MUST(rtbp_iter_array(msg->error, &it) && rtbp_iter_next(&it, &v) &&
		     rtbp_iter_next(&it, &v));
		copy(v, error, sizeof(error));
		/* A request that could not be carried out leaves what was before. */
		if (strcmp(error, "rejected") == 0 || strcmp(error, "bad_payload") == 0)
			m->tracked[topic].n = 0;
		else
			m->tracked[topic].n = m->asked[msg->id].tracked_before;
		return;
	}
	copy(rtbp_field(msg->result, RTBP_F_OUTCOME), outcome, sizeof(outcome));
	copy(rtbp_field(msg->result, RTBP_F_KEY), key, sizeof(key));
	if (strcmp(outcome, "denied") == 0)
		m->tracked[topic].n = 0;
	else
		memcpy(m->tracked[topic].key, key, sizeof(key));
}

static void on_response(struct model *m, const struct rtbp_msg *msg)
{
	unsigned topic = m->asked[msg->id].topic;

	switch (m->asked[msg->id].what) {
	case ASKED_SUBSCRIBE:
		on_subscribed(m, topic, msg);
		break;
	case ASKED_UNSUBSCRIBE:
		if (!msg->error.p)
			m->subs[topic].answered = m->subs[topic].exact = false;
		break;
	case ASKED_TRACK:
		on_tracked(m, msg);
		break;
	case ASKED_UNTRACK:
		MUST_MSG(!msg->error.p == (m->tracked[topic].n != 0), "untrack: a surprise");
		m->tracked[topic].n = 0;
		break;
	case ASKED_OTHER:
		break;
	}
}

static void on_message(struct fake_peer *p, const struct rtbp_msg *msg)
{
	struct model *m = &models[p - rig.peers];
	struct rtbp_val v;
	unsigned topic;

	if (msg->type == RTBP_RESPONSE) {
		on_response(m, msg);
	} else if (rtbp_str_is(msg->method, "presence")) {
		on_presence(m, msg->params);
	} else if (rtbp_str_is(msg->method, "channel")) {
		topic = topic_of(msg->params);
		MUST_MSG(m->subs[topic].answered, "before the answer");
		copy(rtbp_field(msg->params, RTBP_F_STATE), m->subs[topic].state, 16);
		v = rtbp_field(msg->params, RTBP_F_PRESENCE);
		MUST((v.p != NULL) == m->subs[topic].presence);
		if (v.p)
			copy(v, m->subs[topic].presence_state, 16);
	} else if (rtbp_str_is(msg->method, "error") && rtbp_field(msg->params, RTBP_F_CHAN).p) {
		topic = topic_of(msg->params);
		MUST_MSG(m->tracked[topic].n, "the end of a track that is none");
		m->tracked[topic].n = 0;
	}
}

/* ---- what peers do ---- */

static uint32_t new_id(struct fake_peer *p, enum asked what, unsigned topic)
{
	struct model *m = &models[p - rig.peers];

	m->asked[m->next_id].what = what;
	m->asked[m->next_id].topic = topic;
	return m->next_id++;
}

/* For printf: topic and private. */
#define NAMED       "'topic':'%s','private':%s"
#define NAME(topic) story_topics[topic].name, story_topics[topic].is_private ? "true" : "false"

static void step_subscribe(struct fake_peer *p)
{
	static const char *const wishes[] = { "", ",'presence':{}", ",'presence':{'key':'k1'}",
					      ",'presence':{'events':['join','update']}" };
	static const char *const timeouts[] = { "0", "300", "3000", "15000" };
	unsigned topic = draw(TOPICS), wish = draw(4);
	struct model *m = &models[p - rig.peers];
	char params[300];

	m->subs[topic].presence = wish > 0;
	m->subs[topic].filtered = wish == 3;
	m->subs[topic].exact = false;
	snprintf(params, sizeof(params), "{" NAMED "%s,'keep':%s,'wait':'%s','timeout_ms':%s}",
		 NAME(topic), wishes[wish], draw(2) ? "true" : "false",
		 draw(3) ? "ready" : "joined", timeouts[draw(4)]);
	peer_ask(p, new_id(p, ASKED_SUBSCRIBE, topic), "subscribe", params);
}

static void step_named(struct fake_peer *p, enum asked what, const char *method)
{
	unsigned topic = draw(TOPICS);
	char params[100];

	snprintf(params, sizeof(params), "{" NAMED "}", NAME(topic));
	peer_ask(p, new_id(p, what, topic), method, params);
}

static void step_track(struct fake_peer *p)
{
	static const char *const keys[] = { "", "", ",'key':'k1'", ",'key':'k2'" };
	static const char *const timeouts[] = { "0", "300", "15000" };
	unsigned topic = draw(TOPICS), n = draw(4) ? ++n_states : 1;
	struct model *m = &models[p - rig.peers];
	char params[200];
	uint32_t id = new_id(p, ASKED_TRACK, topic);

	m->asked[id].tracked_before = m->tracked[topic].n;
	m->tracked[topic].n = n;
	snprintf(params, sizeof(params), "{" NAMED ",'state':{'n':%u}%s,'timeout_ms':%s}",
		 NAME(topic), n, keys[draw(4)], timeouts[draw(3)]);
	peer_ask(p, id, "track", params);
}

static void step_send(struct fake_peer *p)
{
	unsigned topic = draw(TOPICS);
	char params[200];

	snprintf(params, sizeof(params), "{" NAMED ",'event':'e','payload':0,'ttl_ms':%s}",
		 NAME(topic), draw(2) ? "500" : "10000");
	peer_ask(p, new_id(p, ASKED_OTHER, topic), "broadcast", params);
}

static struct fake_peer *some_peer(void)
{
	struct fake_peer *live[FAKE_PEERS];
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			live[n++] = &rig.peers[i];
	}
	if (n == 0 || (n < LIVE_PEERS && n_attached < FAKE_PEERS - 1 && draw(8) == 0)) {
		if (n_attached == FAKE_PEERS - 1)
			return NULL;
		n_attached++;
		live[0] = peer_attach();
		live[0]->on_message = on_message;
		n = 1;
		peer_ask(live[0], new_id(live[0], ASKED_OTHER, 0), "hello", "{'protocol':1}");
	}
	return live[draw(n)];
}

static void step_peer(void)
{
	struct fake_peer *p = some_peer();
	unsigned what = draw(24);

	if (!p)
		return;
	if (what == 0) {
		if (draw(2))
			peer_close(p);
	} else if (what == 1) {
		if (draw(8) == 0)
			p->send_result = 1;
		p->queued = draw(2) ? rig.conf.peer_queue_bytes / 2 : 0;
	} else if (what < 4) {
		step_named(p, ASKED_UNSUBSCRIBE, "unsubscribe");
	} else if (what < 6) {
		step_named(p, ASKED_UNTRACK, "untrack");
	} else if (what < 7) {
		step_named(p, ASKED_OTHER, "presence");
	} else if (what < 8) {
		peer_ask(p, new_id(p, ASKED_OTHER, 0), draw(4) ? "sync" : "status",
			 "{'upstream':true}");
	} else if (what < 10) {
		step_send(p);
	} else if (what < 16) {
		step_subscribe(p);
	} else {
		step_track(p);
	}
}

/* ---- what the server does ---- */

static void open_links(void)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (!rig.links[i].is_open || rig.links[i].is_closing ||
		    !rig.hub->links[i].session ||
		    session_get_state(rig.hub->links[i].session) != SESSION_CONNECTING)
			continue;
		rig.at = i;
		server_open();
	}
	rig.at = 0;
}

static void step_server(void)
{
	static const enum session_fault faults[] = { SESSION_FAULT_LOST, SESSION_FAULT_CONNECT,
						     SESSION_FAULT_RESTART };
	unsigned what = draw(60), link = draw(3);

	if (what < 8) {
		open_links();
	} else if (what == 8) {
		rig.at = link;
		if (rig.links[link].is_open && !rig.links[link].is_closing)
			server_drop(faults[draw(3)], "dropped");
		rig.at = 0;
	} else if (what < 11) {
		story_server_close();
	} else if (what < 18) {
		story_server_outside();
	} else {
		(void)story_server_answer(false);
	}
	story_server_notice_ends();
}

/* ---- the story ---- */

static void step(void)
{
	static const unsigned ms[] = { 0, 1, 10, 100, 100, 200, 500, 2000, 5000, 20000 };
	unsigned what = draw(100);

	if (what < 40) {
		step_peer();
	} else if (what < 86) {
		step_server();
	} else if (what < 96) {
		rig.no_turns = false;
		turn();
		advance(ms[draw(sizeof(ms) / sizeof(*ms))]);
	} else if (what < 98) {
		rig.send_result = rig.send_result ? 0 : (draw(2) ? 1 : -12);
	} else if (what < 99) {
		rig.mute = !rig.mute;
	} else {
		rig.no_turns = true; /* until time goes on */
	}
}

/* From here on everything works. */
static void settle(void)
{
	rig.no_turns = false;
	rig.send_result = 0;
	rig.mute = false;
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		rig.peers[i].queued = 0;
	turn();
	for (unsigned i = 0; i < 300; i++) {
		open_links();
		while (story_server_answer(true))
			;
		advance(i % 4 ? 300 : 4000);
	}
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		MUST_MSG(!rig.peers[i].attached || rig.peers[i].finished || !rig.peers[i].n_asked,
			 "peer %u still waits", i);
}

static bool is_well(unsigned peer)
{
	return rig.peers[peer].attached && !rig.peers[peer].finished;
}

static void check_same(const char *whose, unsigned topic, struct view *is, struct view *want)
{
	struct seen *s;

	for (unsigned i = 0; i < want->n; i++) {
		s = view_find(is, want->at[i].key, want->at[i].ref);
		MUST_MSG(s, "%s: %u: %s %s is missing", whose, topic, want->at[i].key,
			 want->at[i].ref);
		MUST_MSG(strcmp(s->state, want->at[i].state) == 0, "%s: %u: %s is %s, not %s",
			 whose, topic, s->key, s->state, want->at[i].state);
	}
	MUST_MSG(is->n == want->n, "%s: %u: %u entries, not %u", whose, topic, is->n, want->n);
}

static void check_watchers(unsigned topic)
{
	struct view want;

	story_server_view(topic, &want);
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (!is_well(i) || !models[i].subs[topic].answered)
			continue;
		if (strcmp(models[i].subs[topic].state, "rejected") == 0)
			continue;
		MUST_MSG(strcmp(models[i].subs[topic].state, "ready") == 0, "peer %u: %u is %s", i,
			 topic, models[i].subs[topic].state);
		if (!models[i].subs[topic].presence)
			continue;
		MUST_MSG(strcmp(models[i].subs[topic].presence_state,
				story_topics[topic].denied ? "denied" : "ok") == 0,
			 "peer %u: %u: presence is %s", i, topic,
			 models[i].subs[topic].presence_state);
		if (models[i].subs[topic].exact)
			check_same("watcher", topic, &models[i].subs[topic].view, &want);
	}
}

static void check_trackers(unsigned topic)
{
	struct view want = { .n = 0 }, is;
	struct seen *s, *same;

	story_server_ours(topic, &is);
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (!is_well(i) || !models[i].tracked[topic].n)
			continue;
		s = &want.at[want.n++];
		memcpy(s->key, models[i].tracked[topic].key, sizeof(s->key));
		snprintf(s->state, sizeof(s->state), "{\"n\":%u}", models[i].tracked[topic].n);
		/* Several may be shown under one key. */
		same = NULL;
		for (unsigned k = 0; k < is.n && !same; k++) {
			if (!is.at[k].ref[0] && strcmp(is.at[k].key, s->key) == 0 &&
			    strcmp(is.at[k].state, s->state) == 0)
				same = &is.at[k];
		}
		MUST_MSG(same, "peer %u's %s %s is not shown in %u", i, s->key, s->state, topic);
		snprintf(same->ref, sizeof(same->ref), "taken");
	}
	MUST_MSG(is.n == want.n, "%u entries of ours in %u, not %u", is.n, topic, want.n);
}

static void change(struct hub_conf *conf)
{
	static const enum hub_trackers rules[] = { HUB_TRACKERS_LINKS, HUB_TRACKERS_MERGE,
						   HUB_TRACKERS_LINKS, HUB_TRACKERS_REFUSE };

	conf->trackers = rules[draw(4)];
	conf->max_links = 1 + draw(3);
	conf->linger_ms = draw(2) ? 2000 : 0;
	conf->send_linger_ms = draw(2) ? 30000 : 100;
}

START_TEST(story)
{
	memset(models, 0, sizeof(models));
	n_attached = 0;
	n_states = 1;
	seed = (uint64_t)_i * 7919 + 3;
	rig_start(change);
	story_server_start(draw);
	for (unsigned i = 0; i < STEPS; i++)
		step();
	settle();
	for (unsigned t = 0; t < TOPICS; t++) {
		check_watchers(t);
		check_trackers(t);
	}
	story_server_check_calls();
	rig_teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_random_presence");
	TCase *t = tcase_create("stories");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, story, 0, STORIES);
	suite_add_tcase(s, t);
	return suite_run(s);
}
