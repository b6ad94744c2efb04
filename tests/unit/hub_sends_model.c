/* SPDX-License-Identifier: MIT */
#include "hub_sends_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum asked { ASKED_OTHER, ASKED_SUBSCRIBE, ASKED_UNSUBSCRIBE, ASKED_SEND, ASKED_OUTCOME };

struct sent sent_all[SENT_SENDS];
unsigned sent_n;

static struct view {
	struct {
		bool answered, self;
		char events; /* 'a', 'b', or 'x' for both */
	} subs[SENT_TOPICS];
	struct {
		enum asked what;
		unsigned topic, send;
	} asked[FAKE_IDS];
	uint32_t next_id;
	uid_t uid;
	unsigned last[FAKE_PEERS][SENT_TOPICS][2]; /* by sender, topic and way */
} views[FAKE_PEERS];

static bool (*may_write)(uid_t uid, unsigned topic);
static size_t n_frames, n_posts;
static unsigned last_given[SENT_TOPICS], last_done[SENT_TOPICS], n_away[SENT_TOPICS];

void sent_start(void)
{
	memset(sent_all, 0, sizeof(sent_all));
	memset(views, 0, sizeof(views));
	memset(last_given, 0, sizeof(last_given));
	memset(last_done, 0, sizeof(last_done));
	memset(n_away, 0, sizeof(n_away));
	n_frames = n_posts = 0;
	sent_n = 0;
	may_write = NULL;
}

bool sent_is_private(unsigned topic)
{
	return topic >= 3;
}

struct chan *sent_chan(unsigned topic)
{
	struct chan *ch;

	RB_FOREACH(ch, chan_number_tree, &rig.hub->chans_by_number) {
		if (ch->topic.p[0] == (char)('a' + topic))
			return ch;
	}
	return NULL;
}

static unsigned index_of(const struct fake_peer *p)
{
	return (unsigned)(p - rig.peers);
}

/* Whose messages can still be looked at. */
static bool is_well(unsigned peer)
{
	const struct fake_peer *p = &rig.peers[peer];

	return p->attached && !p->finished && !p->send_result;
}

/* ---- who wants what ---- */

static bool wants(unsigned peer, const struct sent *s)
{
	const struct view *v = &views[peer];

	return v->subs[s->topic].answered && (peer != s->sender || v->subs[s->topic].self) &&
	       (v->subs[s->topic].events == 'x' || v->subs[s->topic].events == s->event);
}

static void check_copies(unsigned n)
{
	const struct sent *s = &sent_all[n];

	for (unsigned i = 0; i < FAKE_PEERS; i++)
		MUST_MSG(!is_well(i) || s->copies[i] == wants(i, s), "peer %u has %u copies of %u",
			 i, s->copies[i], n);
}

static unsigned number_of(struct rtbp_val payload)
{
	struct rtbp_str bin;
	char text[12];
	uint64_t n;

	if (rtbp_get_uint(payload, &n) || rtbp_get_uint(rtbp_find(payload, "n", 1), &n))
		return (unsigned)n;
	if (!rtbp_get_bin(payload, &bin))
		return 0; /* the server's own */
	snprintf(text, sizeof(text), "%.*s", (int)bin.size, bin.p);
	return (unsigned)strtoul(text, NULL, 10);
}

static void on_copy(unsigned peer, struct rtbp_val params)
{
	unsigned n = number_of(rtbp_field(params, RTBP_F_PAYLOAD)), *last;
	struct sent *s = &sent_all[n];

	if (!n)
		return;
	MUST(n <= sent_n);
	MUST_MSG(wants(peer, s), "%u: not asked for by %u", n, peer);
	MUST_MSG(s->copies[peer]++ == 0, "a second copy of %u to %u", n, peer);
	MUST_MSG(s->way == 'w' ? s->acked : s->comes_back, "%u: the server did not hand it out", n);
	last = &views[peer].last[s->sender][s->topic][s->way == 'h'];
	MUST_MSG(*last < n, "%u behind %u", n, *last);
	*last = n;
}

/* ---- answers ---- */

static bool is(const struct sent *s, const char *outcome)
{
	return strcmp(s->outcome, outcome) == 0;
}

static void check_http_outcome(const struct sent *s, unsigned n)
{
	bool has_left = s->n_given && !s->returned;

	if (is(s, "expired"))
		MUST_MSG(!has_left, "%u has left", n);
	else if (is(s, "sent"))
		MUST_MSG(has_left && s->status == 202, "%u: status %u", n, s->status);
	else if (is(s, "unknown"))
		MUST_MSG(has_left && (s->status == 500 || !s->status), "%u: status %u", n,
			 s->status);
	else if (is(s, "denied"))
		MUST_MSG(s->barred || (has_left && s->status == 403), "%u: status %u", n,
			 s->status);
	else if (is(s, "too_big"))
		MUST_MSG(has_left && s->status == 413, "%u: status %u", n, s->status);
	else if (is(s, "rate_limited"))
		MUST_MSG(has_left && s->status == 429, "%u: status %u", n, s->status);
	else
		MUST_MSG(is(s, "bad_payload") && s->via == 'h' && s->payload == SENT_NUMBER,
			 "%u: %s", n, s->outcome);
}

static void check_ws_outcome(const struct sent *s, unsigned n)
{
	if (is(s, "acked"))
		MUST_MSG(s->acked, "%u: no ack came", n);
	else if (is(s, "denied"))
		MUST_MSG(s->refused, "%u: not refused", n);
	else if (is(s, "unknown"))
		MUST_MSG(s->n_given == 1 && !s->acked, "%u: %s", n, s->outcome);
	else if (is(s, "expired") || is(s, "not_joined"))
		MUST_MSG(!s->n_given, "%u: %s", n, s->outcome);
	else
		ck_abort_msg("%u: %s", n, s->outcome);
}

static void copy_str(struct rtbp_val v, char *to, size_t size)
{
	struct rtbp_str s;

	MUST(rtbp_get_str(v, &s));
	snprintf(to, size, "%.*s", (int)s.size, s.p);
}

static void on_outcome(unsigned n, struct rtbp_val result)
{
	struct sent *s = &sent_all[n];
	char via[8];

	MUST(!s->ended);
	s->ended = true;
	s->ended_at_ms = rig.now;
	copy_str(rtbp_field(result, RTBP_F_OUTCOME), s->outcome, sizeof(s->outcome));
	copy_str(rtbp_field(result, RTBP_F_VIA), via, sizeof(via));
	MUST(!s->way || s->way == via[0]);
	MUST(s->via == 'a' || s->via == via[0]);
	MUST_MSG(!s->away, "%u is on its way", n);
	if (via[0] == 'h')
		check_http_outcome(s, n);
	else
		check_ws_outcome(s, n);
	if (is(s, "acked"))
		check_copies(n);
}

/* What somebody was told of a send by its name. */
static void on_told(unsigned peer, unsigned n, const struct rtbp_msg *m)
{
	const struct sent *s = &sent_all[n];
	char outcome[16] = "";

	if (m->result.p && !rtbp_is(m->result, RTBP_NIL))
		copy_str(rtbp_field(m->result, RTBP_F_OUTCOME), outcome, sizeof(outcome));
	if (!s->is_named || views[peer].uid != s->uid) {
		MUST_MSG(!outcome[0], "%u is told to another user", n);
	} else if (s->ended && rig.now < s->ended_at_ms + SENT_KEPT_MS) {
		/* Refused when it came, it has left nothing; later, it was denied. */
		MUST_MSG(strcmp(outcome, s->outcome) == 0 ||
				 (is(s, "forbidden") &&
				  (!outcome[0] || strcmp(outcome, "denied") == 0)),
			 "%u: told %s, and then %s", n, s->outcome, outcome);
	} else if (s->ended) {
		MUST_MSG(!outcome[0] || rig.now == s->ended_at_ms + SENT_KEPT_MS,
			 "%u is told for too long", n);
	} else if (s->wants_answer && is_well(s->sender)) {
		MUST_MSG(strcmp(outcome, "pending") == 0, "%u: told %s", n, outcome);
	}
}

static void on_forbidden(unsigned n, struct rtbp_val error)
{
	struct sent *s = &sent_all[n];
	struct rtbp_iter it;
	struct rtbp_val v;
	uint64_t code = 0;

	MUST(rtbp_iter_array(error, &it) && rtbp_iter_next(&it, &v) && rtbp_get_uint(v, &code));
	MUST_MSG(code == 301 && may_write && !may_write(s->uid, s->topic), "%u: error %u", n,
		 (unsigned)code);
	MUST(!s->ended && (!s->n_given || s->returned));
	s->ended = true;
	s->ended_at_ms = rig.now;
	snprintf(s->outcome, sizeof(s->outcome), "forbidden");
}

static void on_response(unsigned peer, const struct rtbp_msg *m)
{
	struct view *v = &views[peer];
	unsigned topic = v->asked[m->id].topic, n = v->asked[m->id].send;

	switch (v->asked[m->id].what) {
	case ASKED_SUBSCRIBE:
		if (!m->error.p)
			v->subs[topic].answered = true;
		break;
	case ASKED_UNSUBSCRIBE:
		for (unsigned t = 0; t < SENT_TOPICS; t++) {
			if (!m->error.p && (topic == SENT_TOPICS || topic == t))
				v->subs[t].answered = false;
		}
		break;
	case ASKED_SEND:
		if (m->error.p)
			on_forbidden(n, m->error);
		else
			on_outcome(n, m->result);
		break;
	case ASKED_OUTCOME:
		on_told(peer, n, m);
		break;
	case ASKED_OTHER:
		break;
	}
}

void sent_on_message(struct fake_peer *p, const struct rtbp_msg *m)
{
	unsigned peer = index_of(p);
	struct rtbp_str topic;

	sent_look();
	if (m->type == RTBP_RESPONSE) {
		on_response(peer, m);
	} else if (rtbp_str_is(m->method, "broadcast")) {
		MUST(rtbp_get_str(rtbp_field(m->params, RTBP_F_TOPIC), &topic));
		MUST(views[peer].subs[topic.p[0] - 'a'].answered);
		on_copy(peer, m->params);
	}
}

/* ---- rules ---- */

/* What is away is away; but it may not go again. Of who is gone nobody knows what it may. */
void sent_rules(bool (*may)(uid_t uid, unsigned topic), bool differ)
{
	may_write = may;
	for (unsigned n = 1; n <= sent_n; n++) {
		struct sent *s = &sent_all[n];
		const struct fake_peer *p = &rig.peers[s->sender];

		if (p->attached && !p->finished)
			s->barred |= may && !may(s->uid, s->topic);
		else
			s->barred |= differ;
	}
}

/* ---- requests ---- */

void sent_attached(struct fake_peer *p, uid_t uid)
{
	views[index_of(p)].uid = uid;
}

static uint32_t new_id(struct fake_peer *p, enum asked what, unsigned topic, unsigned send)
{
	struct view *v = &views[index_of(p)];

	v->asked[v->next_id].what = what;
	v->asked[v->next_id].topic = topic;
	v->asked[v->next_id].send = send;
	return v->next_id++;
}

uint32_t sent_subscribes(struct fake_peer *p, unsigned topic, char events, bool self)
{
	struct view *v = &views[index_of(p)];

	/* The wish is in force from now on, the answer comes when it comes. */
	v->subs[topic].events = events;
	v->subs[topic].self = self;
	return new_id(p, ASKED_SUBSCRIBE, topic, 0);
}

uint32_t sent_unsubscribes(struct fake_peer *p, unsigned topic)
{
	return new_id(p, ASKED_UNSUBSCRIBE, topic, 0);
}

uint32_t sent_asks_outcome(struct fake_peer *p, unsigned send)
{
	return new_id(p, ASKED_OUTCOME, 0, send);
}

uint32_t sent_asks(struct fake_peer *p)
{
	return new_id(p, ASKED_OTHER, 0, 0);
}

uint32_t sent_asks_send(struct fake_peer *p, unsigned send)
{
	sent_all[send].wants_answer = true;
	return new_id(p, ASKED_SEND, sent_all[send].topic, send);
}

unsigned sent_new_send(struct fake_peer *p, unsigned topic)
{
	struct sent *s;

	MUST(sent_n + 1 < SENT_SENDS);
	s = &sent_all[++sent_n];
	s->sender = index_of(p);
	s->uid = views[s->sender].uid;
	s->topic = topic;
	return sent_n;
}

/* ---- what leaves ---- */

unsigned sent_frame_send(const struct line *f)
{
	const char *at = strrchr(f->text, ',');

	if (strncmp(f->text, "[3,", 3) != 0)
		return 0;
	return (unsigned)strtoul(at + strcspn(at, "0123456789"), NULL, 10);
}

unsigned sent_post_sends(const struct line *post, unsigned *ret)
{
	const char *at = strrchr(post->text, ' ');
	unsigned n = 0, number = 0;

	if (strncmp(post->text, "/broadcast/", 11) == 0) {
		for (at++; *at; at += 2)
			number = number * 10 + (unsigned)(at[1] - '0');
		ret[n++] = number;
		return n;
	}
	for (at = post->text; (at = strstr(at, "\"payload\":{\"n\":")); at++) {
		MUST(n < POST_MESSAGES_MAX);
		ret[n++] = (unsigned)strtoul(at + 15, NULL, 10);
	}
	MUST(n > 0);
	return n;
}

static void look_at_frame(const struct line *f)
{
	unsigned n = sent_frame_send(f);
	struct sent *s = &sent_all[n];

	if (!n)
		return;
	MUST(n <= sent_n && s->topic == (unsigned)(f->topic[9] - 'a'));
	MUST_MSG(!s->n_given, "%u has left before", n);
	MUST_MSG(!s->barred, "%u may not leave", n);
	MUST(s->via != 'h' && !s->ended);
	MUST_MSG(n > last_given[s->topic], "%u behind %u", n, last_given[s->topic]);
	last_given[s->topic] = n;
	s->n_given = 1;
	s->way = 'w';
}

static void look_at_post(const struct line *post)
{
	unsigned list[POST_MESSAGES_MAX], n = sent_post_sends(post, list);
	unsigned topic = sent_all[list[0]].topic, last = last_done[topic];

	MUST_MSG(!n_away[topic], "two requests of %c", 'a' + topic);
	for (unsigned i = 0; i < n; i++) {
		struct sent *s = &sent_all[list[i]];

		MUST(list[i] <= sent_n && s->topic == topic);
		MUST_MSG(!s->n_given || s->returned, "%u has left before", list[i]);
		MUST_MSG(!s->barred, "%u may not leave", list[i]);
		MUST(s->via != 'w' && s->payload != SENT_NUMBER && !s->ended && !s->away);
		MUST_MSG(list[i] > last, "%u behind %u", list[i], last);
		last = list[i];
		s->n_given++;
		s->way = 'h';
		s->away = true;
		s->returned = false;
	}
	n_away[topic] = n;
}

void sent_look(void)
{
	for (; n_frames < rig.frames.n; n_frames++)
		look_at_frame(&rig.frames.at[n_frames]);
	for (; n_posts < rig.posts.n; n_posts++)
		look_at_post(&rig.posts.at[n_posts]);
}

/* ---- what the server does ---- */

static bool is_heard(const struct sent *s)
{
	return s->wants_answer && is_well(s->sender);
}

void sent_answers(const struct line *post, unsigned status, bool is_returned)
{
	unsigned list[POST_MESSAGES_MAX], n = sent_post_sends(post, list);

	for (unsigned i = 0; i < n; i++) {
		struct sent *s = &sent_all[list[i]];

		MUST(s->away && !s->ended);
		s->away = false;
		s->status = status;
		s->returned = is_returned;
		if (!is_returned)
			last_done[s->topic] = list[i];
	}
	n_away[sent_all[list[0]].topic] = 0;
}

void sent_answered(const struct line *post)
{
	unsigned list[POST_MESSAGES_MAX], n = sent_post_sends(post, list);

	for (unsigned i = 0; i < n; i++) {
		const struct sent *s = &sent_all[list[i]];

		MUST_MSG(s->returned || s->away || !is_heard(s) || s->ended, "%u has no outcome",
			 list[i]);
	}
}

void sent_acked(unsigned n)
{
	const struct sent *s = &sent_all[n];

	MUST_MSG(!is_heard(s) || is(s, "acked"), "%u: %s", n, s->outcome);
}

void sent_came_back(unsigned n)
{
	check_copies(n);
}

void sent_check_end(void)
{
	for (unsigned n = 1; n <= sent_n; n++) {
		const struct sent *s = &sent_all[n];

		MUST_MSG(!is_heard(s) || s->ended, "%u has no outcome", n);
		MUST(!s->away);
	}
}
