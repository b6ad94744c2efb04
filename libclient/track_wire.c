/* SPDX-License-Identifier: MIT */
/* What the daemon is told about trackers, and what it answers. */
#include <errno.h>
#include <string.h>

#include "libclient/client.h"
#include "libclient/track.h"

/* ---- asking ---- */

static struct rtbc_pending *begin(struct rtb_tracker *tr, enum rtbp_method method,
				  enum rtbc_kind kind, uint32_t n_more, size_t *ret_begin,
				  int *ret_error)
{
	struct rtb_client *c = tr->client;
	struct rtbc_pending *p = rtbc_request_begin(c, method, kind, ret_begin, ret_error);

	if (!p)
		return NULL;
	p->tracker = tr;
	rtbp_pack_map(&c->out, 2 + n_more);
	rtbp_pack_field_text(&c->out, RTBP_F_TOPIC, tr->name);
	rtbp_pack_field_bool(&c->out, RTBP_F_PRIVATE, tr->is_private);
	return p;
}

static int send_untrack(struct rtb_tracker *tr)
{
	struct rtbc_pending *p;
	size_t at;
	int64_t id;
	int r;

	p = begin(tr, RTBP_M_UNTRACK, RTBC_UNTRACK, 0, &at, &r);
	if (!p)
		return r;
	id = rtbc_request_end(tr->client, p, at);
	if (id < 0)
		return (int)id;
	tr->is_told = false;
	return 0;
}

static int send_track(struct rtb_tracker *tr)
{
	struct rtbp_buf *out = &tr->client->out;
	struct rtbc_pending *p;
	size_t at;
	int64_t id;
	int r;

	p = begin(tr, RTBP_M_TRACK, RTBC_TRACK, tr->wanted_key ? 2 : 1, &at, &r);
	if (!p)
		return r;
	p->serial = tr->version;
	if (tr->wanted_key)
		rtbp_pack_field_text(out, RTBP_F_KEY, tr->wanted_key);
	rtbp_pack_field(out, RTBP_F_STATE);
	rtbp_pack_val(out, (struct rtbp_val){ tr->state, tr->state_size });
	id = rtbc_request_end(tr->client, p, at);
	if (id < 0)
		return (int)id;
	tr->is_told = tr->is_asking = true;
	tr->asked = tr->version;
	tr->token_serial = rtbc_token_serial(tr->client, tr->name);
	tr->asked_at = rtbc_now_ms();
	tr->ask_at = -1;
	return 0;
}

static int flush_one(struct rtb_tracker *tr)
{
	const char *text;
	int r;

	if (tr->is_dead)
		return tr->is_told ? send_untrack(tr) : 0;
	if (tr->is_asking || tr->asked == tr->version || tr->result == RTB_TRACK_REFUSED)
		return 0;
	switch (rtbc_token_gate(tr->client, tr->name, &text)) {
	case RTBC_GATE_WAIT:
		return 0;
	case RTBC_GATE_REFUSED:
		rtbc_tracker_set(tr, RTB_TRACK_REFUSED, rtbp_error_name(RTBP_E_BAD_TOKEN), text,
				 -1);
		rtbc_kick(tr->client, 0);
		return 0;
	default:
		break;
	}
	r = send_track(tr);
	if (r != RTB_E_TOO_BIG)
		return r;
	/* The daemon's frames are configured smaller than a state may be. */
	rtbc_tracker_set(tr, RTB_TRACK_REFUSED, "too_big", tr->client->error_text, -1);
	rtbc_kick(tr->client, 0);
	return 0;
}

/* In the order of their making, so that an `untrack` goes before the `track` that follows it. */
int rtbc_tracks_flush(struct rtb_client *c)
{
	struct rtb_tracker *tr;
	int r;

	if (!c->is_track_due)
		return 0;
	TAILQ_FOREACH(tr, &c->trackers, link) {
		r = flush_one(tr);
		if (r < 0)
			return r;
	}
	c->is_track_due = false;
	return 0;
}

void rtbc_tracks_tick(struct rtb_client *c, int64_t now_ms)
{
	struct rtb_tracker *tr;
	int64_t next = -1;

	TAILQ_FOREACH(tr, &c->trackers, link) {
		if (!rtbc_is_due(&tr->ask_at, now_ms, &next))
			continue;
		tr->asked = 0;
		c->is_track_due = true;
	}
	if (next >= 0)
		rtbc_kick(c, next - now_ms);
}

void rtbc_tracks_on_detach(struct rtb_client *c)
{
	struct rtb_tracker *tr;

	TAILQ_FOREACH(tr, &c->trackers, link) {
		tr->is_told = tr->is_asking = false;
		tr->asked = tr->taken = 0;
		tr->ask_at = -1;
		if (!tr->is_dead &&
		    (tr->result != RTB_TRACK_REFUSED || rtbc_is_token_code(tr->code)))
			rtbc_tracker_set(tr, RTB_TRACK_PENDING, "detached", c->error_text, -1);
	}
	c->is_track_due = true;
	c->is_reap_due = true;
}

/* ---- answers ---- */

static void ask_again(struct rtb_tracker *tr, int64_t at)
{
	int64_t now = rtbc_now_ms();

	tr->asked = tr->version; /* nothing to send until then */
	tr->ask_at = at > now ? at : now;
	rtbc_kick(tr->client, tr->ask_at - now);
}

/* A time that the daemon named, as one that can be waited for. */
static int64_t sane_ms(uint64_t ms)
{
	if (ms < RTBC_TRACK_LEAST_MS)
		return RTBC_TRACK_LEAST_MS;
	return ms < RTBC_TRACK_MOST_MS ? (int64_t)ms : RTBC_TRACK_MOST_MS;
}

static void on_outcome(struct rtb_tracker *tr, struct rtbp_str outcome, struct rtbp_val result)
{
	uint64_t retry = RTBC_TRACK_AGAIN_MS;
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];

	rtbc_get_text(result, RTBP_F_TEXT, text, sizeof(text));
	(void)rtbp_get_uint(rtbp_field(result, RTBP_F_RETRY_IN_MS), &retry);
	if (rtbp_str_is(outcome, "acked") || rtbp_str_is(outcome, "throttled") ||
	    rtbp_str_is(outcome, "queued"))
		tr->taken = tr->version;
	if (rtbp_str_is(outcome, "acked")) {
		rtbc_tracker_set(tr, RTB_TRACK_SHOWN, "", text, -1);
	} else if (rtbp_str_is(outcome, "denied")) {
		rtbc_tracker_set(tr, RTB_TRACK_REFUSED, "denied", text, -1);
	} else if (rtbp_str_is(outcome, "throttled")) {
		rtbc_tracker_set(tr, RTB_TRACK_THROTTLED, "", text, sane_ms(retry));
		ask_again(tr, rtbc_now_ms() + sane_ms(retry) + RTBC_TRACK_SLACK_MS);
	} else { /* "queued": the daemon has waited long before it said so; or a later word */
		rtbc_copy(code, sizeof(code), outcome);
		rtbc_tracker_set(tr, RTB_TRACK_PENDING, code, text, -1);
		ask_again(tr, tr->asked_at + RTBC_TRACK_AGAIN_MS);
	}
}

void rtbc_on_tracked(struct rtb_tracker *tr, uint64_t version, struct rtbp_val result)
{
	struct rtbp_str s = { NULL, 0 };

	tr->is_asking = false;
	tr->client->is_track_due = true;
	if (tr->is_dead)
		return;
	if (rtbp_get_str(rtbp_field(result, RTBP_F_KEY), &s))
		rtbc_copy(tr->key, sizeof(tr->key), s);
	/* Of an older state only the newer one, which goes out now, is still of interest. */
	s = (struct rtbp_str){ NULL, 0 };
	(void)rtbp_get_str(rtbp_field(result, RTBP_F_OUTCOME), &s);
	if (version == tr->version)
		on_outcome(tr, s, result);
	rtbc_tracks_report(tr->client);
}

void rtbc_on_track_error(struct rtb_tracker *tr, uint64_t version, const struct rtbp_error_info *e)
{
	uint64_t wait_ms = e->has_retry_after ? e->retry_after_ms : RTBC_TRACK_AGAIN_MS;
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];

	tr->is_asking = false;
	tr->client->is_track_due = true;
	if (tr->is_dead)
		return;
	rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	if (e->code < 200) {
		rtbc_tracker_set(tr, RTB_TRACK_PENDING, code, text, sane_ms(wait_ms));
		ask_again(tr, rtbc_now_ms() + sane_ms(wait_ms));
	} else if (version == tr->version) {
		rtbc_tracker_set(tr, RTB_TRACK_REFUSED, code, text, -1);
	}
	rtbc_tracks_report(tr->client);
	rtbc_tracker_ask_if_newer(tr);
}

/* ---- notifications ---- */

/* Whom a notification is about. NULL: nobody, or what is waiting to be told to the daemon, or has
 * not been answered, makes it outdated: that answer says what holds. */
static struct rtb_tracker *find_told(struct rtb_client *c, struct rtbp_val params)
{
	struct rtbp_str topic = { NULL, 0 };
	struct rtb_tracker *tr;
	struct rtbc_topic *t;
	uint64_t chan = 0;
	bool is_private, is_known;

	if (!rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic))
		return NULL;
	is_known = rtbp_get_bool(rtbp_field(params, RTBP_F_PRIVATE), &is_private);
	(void)rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &chan);
	t = is_known ? NULL : rtbc_topic_by_chan(c, chan);
	if (t) {
		is_private = t->is_private;
		is_known = true;
	}
	/* The first one of that topic: if it is dead, its `untrack` has not been read by the
	 * daemon yet, and a later one is not meant. */
	TAILQ_FOREACH(tr, &c->trackers, link)
		if (!rtbc_tracker_is_over(tr) && rtbp_str_is(topic, tr->name) &&
		    (!is_known || tr->is_private == is_private))
			break;
	if (!tr || tr->is_dead || tr->result == RTB_TRACK_REFUSED)
		return NULL;
	return tr->is_asking || tr->taken != tr->version ? NULL : tr;
}

bool rtbc_on_track_refused(struct rtb_client *c, struct rtbp_val params,
			   const struct rtbp_error_info *e)
{
	struct rtbp_str method = { NULL, 0 }, topic;
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];
	struct rtb_tracker *tr;

	(void)rtbp_get_str(rtbp_field(params, RTBP_F_METHOD), &method);
	if (!rtbp_str_is(method, rtbp_method_name(RTBP_M_TRACK)) ||
	    !rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic))
		return false;
	tr = find_told(c, params);
	if (!tr)
		return true;
	rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	tr->ask_at = -1;
	tr->asked = tr->version;
	rtbc_tracker_set(tr, RTB_TRACK_REFUSED, code, text, -1);
	rtbc_tracks_report(c);
	rtbc_tracker_ask_if_newer(tr);
	return true;
}

void rtbc_on_track_notice(struct rtb_client *c, struct rtbp_val params)
{
	struct rtbp_str outcome = { NULL, 0 }, key;
	struct rtb_tracker *tr = find_told(c, params);
	char text[RTBC_TEXT_MAX];

	if (!tr)
		return;
	(void)rtbp_get_str(rtbp_field(params, RTBP_F_OUTCOME), &outcome);
	rtbc_get_text(params, RTBP_F_TEXT, text, sizeof(text));
	if (rtbp_get_str(rtbp_field(params, RTBP_F_KEY), &key))
		rtbc_copy(tr->key, sizeof(tr->key), key);
	if (rtbp_str_is(outcome, "acked")) {
		/* Nothing is left to find out, also when the question was due just now. */
		tr->ask_at = -1;
		tr->asked = tr->version;
		rtbc_tracker_set(tr, RTB_TRACK_SHOWN, "", text, -1);
	} else if (rtbp_str_is(outcome, "queued")) {
		rtbc_tracker_set(tr, RTB_TRACK_PENDING, "queued", text, -1);
	}
	rtbc_tracks_report(c);
}
