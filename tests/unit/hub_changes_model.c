/* SPDX-License-Identifier: MIT */
#include "hub_changes_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum known { UNKNOWN, PENDING, READY, BAD };
enum asked { ASKED_OTHER, ASKED_SUBSCRIBE, ASKED_UNSUBSCRIBE };
enum { GAPS = 2000 };

struct story_sub {
	bool answered;
	uint64_t wish; /* 1 << binding */
	enum known known[MODEL_BINDINGS];
	unsigned from[MODEL_BINDINGS]; /* the first row that must come; 0: none yet */
};

static struct model {
	struct story_sub subs[MODEL_TOPICS], before; /* the latest request, which may be refused */
	struct {
		enum asked what;
		unsigned topic, n, list[MODEL_WISH_MAX];
	} asked[FAKE_IDS];
	uint32_t next_id;
	unsigned char got[MODEL_BINDINGS][MODEL_ROWS];
	unsigned last[MODEL_BINDINGS];
	struct {
		unsigned topic;
		uint64_t bindings;
		int64_t from, to;
	} gaps[GAPS];
	unsigned n_gaps;
} models[FAKE_PEERS];

static struct {
	unsigned table, event;
	int64_t at;
} rows[MODEL_ROWS];
static unsigned n_rows, n_flushed;
static int64_t interruptions[MODEL_ROWS * 5];
static unsigned n_interruptions;
void model_start(void)
{
	memset(models, 0, sizeof(models));
	n_rows = n_flushed = n_interruptions = 0;
}

void model_interrupted(void)
{
	MUST(n_interruptions < sizeof(interruptions) / sizeof(*interruptions));
	interruptions[n_interruptions++] = clock_wall(&rig.clock);
}

unsigned model_row(unsigned table, unsigned event)
{
	if (n_rows == MODEL_ROWS - 1)
		return 0;
	n_rows++;
	rows[n_rows].table = table;
	rows[n_rows].event = event;
	rows[n_rows].at = clock_wall(&rig.clock);
	return n_rows;
}

void model_flushed(void)
{
	n_flushed = n_rows;
}

/* ---- what must have come ---- */

static bool row_fits(unsigned binding, unsigned row)
{
	unsigned event = binding / MODEL_TABLES;

	return binding < MODEL_GOOD && rows[row].table == binding % MODEL_TABLES &&
	       (!event || event == rows[row].event);
}

static bool is_excused(const struct model *m, unsigned topic, unsigned binding, unsigned row)
{
	for (unsigned i = 0; i < m->n_gaps; i++) {
		if (m->gaps[i].topic == topic && m->gaps[i].bindings >> binding & 1 &&
		    m->gaps[i].from <= rows[row].at + MODEL_ROW_LATE_MS &&
		    m->gaps[i].to >= rows[row].at)
			return true;
	}
	return false;
}

static void check_rows(unsigned peer, unsigned topic, unsigned binding)
{
	const struct model *m = &models[peer];
	unsigned from = m->subs[topic].from[binding];

	if (!from || m->subs[topic].known[binding] != READY || rig.peers[peer].finished)
		return;
	for (unsigned n = from; n <= n_flushed; n++) {
		MUST_MSG(!row_fits(binding, n) || m->got[binding][n] ||
				 is_excused(m, topic, binding, n),
			 "peer %u has not got row %u of binding %u", peer, n, binding);
	}
}

/* The wish is in force from now on. */
static void put_wish(unsigned peer, unsigned topic, uint64_t wish)
{
	struct model *m = &models[peer];

	for (unsigned k = 0; k < MODEL_BINDINGS; k++) {
		if (!(m->subs[topic].wish >> k & 1) || wish >> k & 1)
			continue;
		check_rows(peer, topic, k);
		m->subs[topic].known[k] = UNKNOWN;
		m->subs[topic].from[k] = 0;
	}
	m->subs[topic].wish = wish;
}

/* ---- what peers get ---- */

static unsigned topic_of(struct rtbp_val params)
{
	struct rtbp_str topic;

	MUST(rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic));
	MUST(topic.size < 2);
	return topic.size ? (unsigned)(topic.p[0] - 'x') + 1 : 0;
}

/* From its text: "table":"t7" or "bad7". Return: MODEL_BINDINGS: there is none. */
static unsigned binding_of(uint64_t id)
{
	struct binding key = { .id = id };
	struct binding *b = RB_FIND(binding_id_tree, &rig.hub->bindings_by_id, &key);
	char text[200];
	const char *table;

	if (!b)
		return MODEL_BINDINGS;
	snprintf(text, sizeof(text), "%.*s", (int)b->size, b->text); /* it has no NUL */
	table = strstr(text, "\"table\":\"") + 9;
	if (*table == 'b')
		return MODEL_GOOD + (unsigned)atoi(table + 3);
	return (unsigned)b->event * MODEL_TABLES + (unsigned)atoi(table + 1);
}

static enum known read_state(struct rtbp_val entry, unsigned *ret_binding)
{
	struct rtbp_str s;
	uint64_t id;

	MUST(rtbp_get_uint(rtbp_field(entry, RTBP_F_ID), &id));
	*ret_binding = binding_of(id);
	MUST(*ret_binding < MODEL_BINDINGS);
	MUST(rtbp_get_str(rtbp_field(entry, RTBP_F_STATE), &s));
	if (rtbp_str_is(s, "ready")) {
		MUST_MSG(*ret_binding < MODEL_GOOD, "a bad one is ready");
		return READY;
	}
	return rtbp_str_is(s, "error") ? BAD : PENDING;
}

/* `list` NULL: of a notice. Return: how many entries. */
static unsigned on_states(struct model *m, unsigned topic, struct rtbp_val v, const unsigned *list)
{
	struct rtbp_iter it;
	struct rtbp_val e;
	enum known known;
	unsigned k, n = 0;

	if (!v.p)
		return 0;
	MUST(rtbp_iter_array(v, &it));
	while (rtbp_iter_next(&it, &e)) {
		known = read_state(e, &k);
		MUST(!list || list[n] == k);
		n++;
		if (!(m->subs[topic].wish >> k & 1))
			continue; /* the answer to a request that another one replaced */
		m->subs[topic].known[k] = known;
		if (known == READY && !m->subs[topic].from[k])
			m->subs[topic].from[k] = n_rows + 1;
	}
	return n;
}

static void on_row(unsigned peer, struct rtbp_val params)
{
	struct model *m = &models[peer];
	struct rtbp_val record = rtbp_find(rtbp_field(params, RTBP_F_DATA), "record", 6), v;
	bool is_for_us = false;
	struct rtbp_iter it;
	uint64_t n, id;
	unsigned k;

	MUST(rtbp_get_uint(rtbp_find(record, "n", 1), &n) && n <= n_rows);
	MUST(rtbp_iter_array(rtbp_field(params, RTBP_F_IDS), &it));
	while (rtbp_iter_next(&it, &v)) {
		MUST(rtbp_get_uint(v, &id));
		k = binding_of(id);
		MUST(k < MODEL_GOOD && row_fits(k, (unsigned)n));
		for (unsigned t = 0; t < MODEL_TOPICS; t++) {
			if (m->subs[t].answered && m->subs[t].wish >> k & 1)
				is_for_us |= m->subs[t].known[k] == READY;
		}
		MUST_MSG(!m->got[k][n], "peer %u gets row %u of %u twice", peer, (unsigned)n, k);
		MUST_MSG(m->last[k] < n, "peer %u gets row %u of %u behind %u", peer, (unsigned)n,
			 k, m->last[k]);
		m->got[k][n] = true;
		m->last[k] = (unsigned)n;
	}
	MUST_MSG(is_for_us, "peer %u gets row %u, which nothing was promised of", peer,
		 (unsigned)n);
}

static void on_gap(struct model *m, struct rtbp_val params)
{
	unsigned topic = topic_of(params), k;
	struct rtbp_iter it;
	struct rtbp_val v = rtbp_field(params, RTBP_F_IDS);
	struct rtbp_str cause;
	uint64_t id, from, to;
	bool found = false;

	MUST(m->n_gaps < GAPS);
	MUST(rtbp_get_uint(rtbp_field(params, RTBP_F_FROM), &from));
	MUST(rtbp_get_uint(rtbp_field(params, RTBP_F_TO), &to) && from <= to);
	for (unsigned i = 0; i < n_interruptions; i++)
		found |= interruptions[i] >= (int64_t)from && interruptions[i] <= (int64_t)to;
	/* Of a channel that has moved to another link: none was interrupted, but they need not have
	 * been level. */
	found |= !v.p && rtbp_get_str(rtbp_field(params, RTBP_F_CAUSE), &cause) &&
		 rtbp_str_is(cause, "moved");
	MUST_MSG(found, "a gap without an interruption, from %" PRIu64 " to %" PRIu64, from, to);
	if (!v.p)
		return; /* of the channel */
	m->gaps[m->n_gaps].topic = topic;
	m->gaps[m->n_gaps].from = (int64_t)from;
	m->gaps[m->n_gaps].to = (int64_t)to;
	m->gaps[m->n_gaps].bindings = 0;
	MUST(rtbp_iter_array(v, &it) && it.left > 0);
	while (rtbp_iter_next(&it, &v)) {
		MUST(rtbp_get_uint(v, &id));
		k = binding_of(id);
		MUST(m->subs[topic].wish >> k & 1);
		MUST_MSG(m->subs[topic].from[k], "a gap of what never flowed");
		m->gaps[m->n_gaps].bindings |= 1ull << k;
	}
	m->n_gaps++;
}

static void on_response(unsigned peer, const struct rtbp_msg *msg)
{
	struct model *m = &models[peer];
	unsigned topic = m->asked[msg->id].topic;
	struct rtbp_val code;
	struct rtbp_iter it;
	uint64_t number = 0;

	if (m->asked[msg->id].what == ASKED_UNSUBSCRIBE && !msg->error.p) {
		m->subs[topic].answered = false;
		put_wish(peer, topic, 0);
	}
	if (m->asked[msg->id].what != ASKED_SUBSCRIBE)
		return;
	if (!msg->error.p) {
		m->subs[topic].answered = true;
		MUST(on_states(m, topic, rtbp_field(msg->result, RTBP_F_POSTGRES_CHANGES),
			       m->asked[msg->id].list) == m->asked[msg->id].n);
		return;
	}
	MUST(rtbp_iter_array(msg->error, &it) && rtbp_iter_next(&it, &code));
	MUST(rtbp_get_uint(code, &number));
	if (number == 207)
		m->subs[topic] = m->before; /* at once: there is no room */
	else if (!m->subs[topic].answered)
		put_wish(peer, topic, 0);
}

void model_on_message(struct fake_peer *p, const struct rtbp_msg *msg)
{
	unsigned peer = (unsigned)(p - rig.peers);
	struct model *m = &models[peer];

	if (msg->type == RTBP_RESPONSE) {
		on_response(peer, msg);
	} else if (rtbp_str_is(msg->method, "postgres_changes")) {
		on_row(peer, msg->params);
	} else if (rtbp_str_is(msg->method, "channel")) {
		MUST_MSG(m->subs[topic_of(msg->params)].answered, "before the answer");
		(void)on_states(m, topic_of(msg->params),
				rtbp_field(msg->params, RTBP_F_POSTGRES_CHANGES), NULL);
	} else if (rtbp_str_is(msg->method, "gap")) {
		MUST_MSG(m->subs[topic_of(msg->params)].answered, "before the answer");
		on_gap(m, msg->params);
	}
}

/* ---- what peers ask ---- */

uint32_t model_next_id(const struct fake_peer *p)
{
	return models[p - rig.peers].next_id++;
}

uint32_t model_subscribe(const struct fake_peer *p, unsigned topic, const unsigned *list,
			 unsigned n)
{
	struct model *m = &models[p - rig.peers];
	uint32_t id = m->next_id++;
	uint64_t wish = 0;

	m->asked[id].what = ASKED_SUBSCRIBE;
	m->asked[id].topic = topic;
	m->asked[id].n = n;
	for (unsigned i = 0; i < n; i++) {
		m->asked[id].list[i] = list[i];
		wish |= 1ull << list[i];
	}
	m->before = m->subs[topic];
	put_wish((unsigned)(p - rig.peers), topic, wish);
	return id;
}

uint32_t model_unsubscribe(const struct fake_peer *p, unsigned topic)
{
	struct model *m = &models[p - rig.peers];
	uint32_t id = m->next_id++;

	m->asked[id].what = ASKED_UNSUBSCRIBE;
	m->asked[id].topic = topic;
	return id;
}

void model_check_end(unsigned peer)
{
	struct model *m = &models[peer];

	MUST_MSG(!rig.peers[peer].n_asked, "peer %u still waits", peer);
	for (unsigned t = 0; t < MODEL_TOPICS; t++) {
		for (unsigned k = 0; k < MODEL_BINDINGS; k++) {
			if (!(m->subs[t].wish >> k & 1))
				continue;
			MUST_MSG(m->subs[t].answered, "peer %u, topic %u: wished, unanswered", peer,
				 t);
			MUST_MSG(m->subs[t].known[k] == (k < MODEL_GOOD ? READY : BAD),
				 "peer %u, topic %u: binding %u is %d", peer, t, k,
				 m->subs[t].known[k]);
			check_rows(peer, t, k);
		}
	}
}
