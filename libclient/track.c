/* SPDX-License-Identifier: MIT */
/* Trackers: making, changing and ending them; the callbacks. */
#include "libclient/track.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

/* ---- states ---- */

static int too_big(struct rtb_client *c)
{
	return rtbc_fail(c, RTB_E_TOO_BIG,
			 "a presence state has at most %d bytes, as MessagePack and as JSON",
			 RTBP_STATE_MAX);
}

static int check_state(struct rtb_client *c, const void *state, size_t size)
{
	struct rtbp_buf json = { .max_bytes = RTBP_STATE_MAX };
	struct rtbp_json_fault fault = { 0 };
	size_t offset;
	int r;

	if (size > RTBP_STATE_MAX)
		return too_big(c);
	r = rtbp_check(state, size, RTBP_JSON_DEPTH, &offset);
	if (r)
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad state: %s (at byte %zu)", rtbp_val_text(r),
				 offset);
	if (!rtbp_is((struct rtbp_val){ state, size }, RTBP_MAP))
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad state: it is no map");
	r = rtbp_mp_to_json(state, size, &json, &fault);
	rtbp_buf_done(&json);
	if (r == -EMSGSIZE)
		return too_big(c);
	if (r < 0)
		return rtbc_fail(c, r, "out of memory");
	if (r > 0)
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad state: %s at %s", fault.text, fault.path);
	return 0;
}

/* Checks and copies. */
static int copy_state(struct rtb_client *c, const void *state, size_t size, uint8_t **ret)
{
	int r = check_state(c, state, size);

	if (r < 0)
		return r;
	*ret = malloc(size);
	if (!*ret)
		return rtbc_fail(c, -ENOMEM, "out of memory");
	memcpy(*ret, state, size);
	return 0;
}

static int state_from_json(struct rtb_client *c, const char *json, size_t json_size, void **ret,
			   size_t *ret_size)
{
	char error[RTBC_TEXT_MAX / 2];
	int r;

	if (json_size == (size_t)-1)
		json_size = strlen(json);
	r = rtb_json_to_msgpack(json, json_size, ret, ret_size, error, sizeof(error));
	if (r == RTB_E_PAYLOAD)
		return rtbc_fail(c, r, "bad state: %s", error);
	return r < 0 ? rtbc_fail(c, r, "out of memory") : 0;
}

/* ---- trackers ---- */

static struct rtb_tracker *tracker_new(struct rtb_client *c, struct rtbp_str name,
				       const struct rtb_track_options *o)
{
	size_t key_size = o->key ? strlen(o->key) + 1 : 0;
	struct rtb_tracker *tr = calloc(1, sizeof(*tr) + name.size + 1 + key_size);

	if (!tr)
		return NULL;
	tr->client = c;
	tr->handler = o->track;
	tr->user = o->user;
	tr->is_private = o->is_private;
	tr->version = 1;
	tr->ask_at = tr->retry_in_ms = -1;
	tr->name_size = name.size;
	memcpy(tr->name, name.p, name.size);
	if (o->key)
		tr->wanted_key = memcpy(tr->name + name.size + 1, o->key, key_size);
	return tr;
}

static void tracker_free(struct rtb_tracker *tr)
{
	TAILQ_REMOVE(&tr->client->trackers, tr, link);
	free(tr->state);
	free(tr);
}

bool rtbc_tracker_is_over(const struct rtb_tracker *tr)
{
	return tr->is_dead && !tr->is_told && tr->n_pending == 0;
}

void rtbc_tracks_reap(struct rtb_client *c)
{
	struct rtb_tracker *tr, *next;

	for (tr = TAILQ_FIRST(&c->trackers); tr; tr = next) {
		next = TAILQ_NEXT(tr, link);
		if (rtbc_tracker_is_over(tr))
			tracker_free(tr);
	}
}

void rtbc_tracks_free(struct rtb_client *c)
{
	struct rtb_tracker *tr;

	while ((tr = TAILQ_FIRST(&c->trackers)))
		tracker_free(tr);
}

static bool tracks_already(struct rtb_client *c, const char *topic, bool is_private)
{
	struct rtb_tracker *tr;

	TAILQ_FOREACH(tr, &c->trackers, link)
		if (!tr->is_dead && tr->is_private == is_private && strcmp(tr->name, topic) == 0)
			return true;
	return false;
}

static int check_track(struct rtb_client *c, const char *topic, const struct rtb_track_options *o)
{
	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED;
	if (!rtbp_topic_ok((struct rtbp_str){ topic, strlen(topic) }))
		return rtbc_fail(c, RTB_E_TOPIC, "%s", rtb_strerror(RTB_E_TOPIC));
	if (o->key && !rtbp_key_ok((struct rtbp_str){ o->key, strlen(o->key) }))
		return rtbc_fail(c, RTB_E_KEY, "%s", rtb_strerror(RTB_E_KEY));
	if (tracks_already(c, topic, o->is_private))
		return rtbc_fail(c, -EEXIST, "this client tracks itself in %s already", topic);
	return 0;
}

int rtb_track(struct rtb_client *c, const char *topic, const void *state, size_t state_size,
	      const struct rtb_track_options *options, struct rtb_tracker **ret)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct rtb_tracker *tr;
	int r;

	if (options && options->size < sizeof(o))
		return -EINVAL;
	if (options)
		o = *options;
	r = check_track(c, topic, &o);
	if (r < 0)
		return r;
	tr = tracker_new(c, (struct rtbp_str){ topic, strlen(topic) }, &o);
	if (!tr)
		return rtbc_fail(c, -ENOMEM, "out of memory");
	r = copy_state(c, state, state_size, &tr->state);
	if (r < 0) {
		free(tr);
		return r;
	}
	tr->state_size = state_size;
	TAILQ_INSERT_TAIL(&c->trackers, tr, link);
	c->is_track_due = true;
	rtbc_flush_now(c);
	*ret = tr;
	return 0;
}

int rtb_track_json(struct rtb_client *c, const char *topic, const char *json, size_t json_size,
		   const struct rtb_track_options *options, struct rtb_tracker **ret)
{
	void *state;
	size_t size;
	int r = state_from_json(c, json, json_size, &state, &size);

	if (r < 0)
		return r;
	r = rtb_track(c, topic, state, size, options, ret);
	free(state);
	return r;
}

int rtb_track_update(struct rtb_tracker *tr, const void *state, size_t state_size)
{
	struct rtb_client *c = tr->client;
	uint8_t *copy;
	int r;

	if (tr->is_dead || (tr->result == RTB_TRACK_REFUSED && !rtbc_is_token_code(tr->code)))
		return rtbc_fail(c, RTB_E_REFUSED, "%s", tr->text);
	r = copy_state(c, state, state_size, &copy);
	if (r < 0)
		return r;
	free(tr->state);
	tr->state = copy;
	tr->state_size = state_size;
	tr->version++;
	tr->ask_at = -1;
	/* The caller need not be told that what it has just given is not shown yet. */
	if (tr->result != RTB_TRACK_PENDING && tr->result != RTB_TRACK_REFUSED) {
		rtbc_tracker_set(tr, RTB_TRACK_PENDING, "", "", -1);
		tr->reported = tr->n_changes;
	}
	c->is_track_due = true;
	rtbc_flush_now(c);
	return 0;
}

int rtb_track_update_json(struct rtb_tracker *tr, const char *json, size_t json_size)
{
	void *state;
	size_t size;
	int r = state_from_json(tr->client, json, json_size, &state, &size);

	if (r < 0)
		return r;
	r = rtb_track_update(tr, state, size);
	free(state);
	return r;
}

struct rtb_tracker *rtb_untrack(struct rtb_tracker *tr)
{
	struct rtb_client *c;

	if (!tr || tr->is_dead)
		return NULL;
	c = tr->client;
	tr->is_dead = true;
	free(tr->state);
	tr->state = NULL;
	if (c->waited_tracker == tr)
		c->waited_tracker = NULL;
	c->is_track_due = true;
	if (c->in_process || c->in_callback) {
		c->is_reap_due = true; /* the daemon is told at the end of process() */
		return NULL;
	}
	rtbc_flush_now(c);
	if (rtbc_tracker_is_over(tr))
		tracker_free(tr);
	return NULL;
}

const char *rtb_tracker_topic(const struct rtb_tracker *tr)
{
	return tr->name;
}

enum rtb_track_state rtb_tracker_state(const struct rtb_tracker *tr)
{
	return tr->result;
}

struct rtb_client *rtb_tracker_client(const struct rtb_tracker *tr)
{
	return tr->client;
}

/* ---- callbacks ---- */

void rtbc_tracker_set(struct rtb_tracker *tr, enum rtb_track_state state, const char *code,
		      const char *text, int64_t retry_in_ms)
{
	if (tr->result != state || strcmp(tr->code, code) != 0 || strcmp(tr->text, text) != 0)
		tr->n_changes++;
	tr->result = state;
	tr->retry_in_ms = retry_in_ms;
	rtbc_copy(tr->code, sizeof(tr->code), (struct rtbp_str){ code, strlen(code) });
	rtbc_copy(tr->text, sizeof(tr->text), (struct rtbp_str){ text, strlen(text) });
	tr->client->is_track_report_due = true;
}

/* Those that callbacks add meanwhile stand behind `last`, and nobody is unlinked. */
void rtbc_tracks_report(struct rtb_client *c)
{
	struct rtb_tracker *tr, *last = TAILQ_LAST(&c->trackers, rtbc_tracker_list);

	if (!c->is_track_report_due || !last)
		return;
	c->is_track_report_due = false;
	TAILQ_FOREACH(tr, &c->trackers, link) {
		struct rtb_track track = { tr->result, tr->key, tr->code, tr->text,
					   tr->retry_in_ms };

		if (!tr->is_dead && tr->reported != tr->n_changes) {
			tr->reported = tr->n_changes;
			if (tr->handler) {
				rtbc_enter(c);
				tr->handler(tr, &track, tr->user);
				rtbc_leave(c);
			}
		}
		if (tr == last)
			break;
	}
	/* What became due meanwhile is told by the next call. */
	if (c->is_track_report_due)
		rtbc_kick(c, 0);
}
