/* SPDX-License-Identifier: MIT */
/* wish: what a subscribe request says, checked. */
#include "hub/wish.h"

#include <stdlib.h>
#include <string.h>

#include "hub/impl.h"

void wish_events_free(char **events, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(events[i]);
	free(events);
}

void wish_done(struct wish *w)
{
	wish_events_free(w->events, w->n_events);
	free(w->presence_key);
	binding_wishes_free(w->changes.wishes, w->changes.n);
}

static const char *wish_events(struct rtbp_val v, struct wish *w, enum rtbp_error *code)
{
	struct rtbp_iter it;
	struct rtbp_val e;
	struct rtbp_str s;
	bool all = false;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_iter_array(v, &it) || it.left > EVENTS_MAX)
		return "broadcast.events is an array of at most 64 strings";
	w->events = calloc(it.left + 1, sizeof(*w->events));
	if (!w->events) {
		*code = RTBP_E_BUSY;
		return "no memory";
	}
	while (rtbp_iter_next(&it, &e)) {
		*code = RTBP_E_BAD_EVENT;
		if (!rtbp_get_str(e, &s) || !rtbp_event_ok(s))
			return rtbp_error_sentence(RTBP_E_BAD_EVENT);
		all |= rtbp_str_is(s, "*");
		w->events[w->n_events] = strndup(s.p, s.size);
		if (!w->events[w->n_events]) {
			*code = RTBP_E_BUSY;
			return "no memory";
		}
		w->n_events++;
	}
	if (all) {
		wish_events_free(w->events, w->n_events);
		w->events = NULL;
		w->n_events = 0;
	}
	return NULL;
}

static bool optional_bool(struct rtbp_val v, bool *ret)
{
	return !v.p || rtbp_is(v, RTBP_NIL) || rtbp_get_bool(v, ret);
}

static const char *wish_replay(struct rtbp_val v, struct wish *w)
{
	struct rtbp_val limit = rtbp_field(v, RTBP_F_LIMIT);
	uint64_t n = REPLAY_MAX;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_is(v, RTBP_MAP) ||
	    !rtbp_get_uint(rtbp_field(v, RTBP_F_SINCE), &w->replay_since_ms))
		return "broadcast.replay is a map with since, in ms since the Unix epoch";
	if (limit.p && !rtbp_is(limit, RTBP_NIL) &&
	    (!rtbp_get_uint(limit, &n) || n == 0 || n > REPLAY_MAX))
		return "broadcast.replay.limit is an integer from 1 to 25";
	if (w->replay_since_ms > REPLAY_SINCE_MAX)
		return "broadcast.replay.since is behind the year 9999: it is in ms since the Unix "
		       "epoch";
	if (!w->is_private)
		return "broadcast.replay is for private channels: the server stores nothing of "
		       "public ones";
	w->replay_since_ms += w->replay_since_ms == 0;
	w->replay_limit = (unsigned)n;
	return NULL;
}

static const char *wish_presence(struct rtbp_val v, struct wish *w, enum rtbp_error *code)
{
	static const char *const names[WATCH_N_EVENTS] = { "sync", "join", "leave", "update" };
	static const char wrong[] =
		"presence.events is an array of \"sync\", \"join\", \"leave\", \"update\"";
	struct rtbp_str s;
	struct rtbp_iter it;
	struct rtbp_val e;
	unsigned i;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	*code = RTBP_E_BAD_REQUEST;
	if (!rtbp_is(v, RTBP_MAP))
		return "presence is a map";
	w->presence = true;
	e = rtbp_field(v, RTBP_F_EVENTS);
	w->presence_events = !e.p || rtbp_is(e, RTBP_NIL) ? ~0u : 0;
	if (!w->presence_events && !rtbp_iter_array(e, &it))
		return wrong;
	while (!(w->presence_events & 1u << WATCH_N_EVENTS) && rtbp_iter_next(&it, &e)) {
		if (!rtbp_get_str(e, &s))
			return wrong;
		for (i = 0; i < WATCH_N_EVENTS && !rtbp_str_is(s, names[i]);)
			i++;
		if (i == WATCH_N_EVENTS)
			return wrong;
		w->presence_events |= 1u << i;
	}
	e = rtbp_field(v, RTBP_F_KEY);
	if (!e.p || rtbp_is(e, RTBP_NIL))
		return NULL;
	*code = RTBP_E_BAD_KEY;
	if (!rtbp_get_str(e, &s) || !rtbp_key_ok(s))
		return rtbp_error_sentence(RTBP_E_BAD_KEY);
	*code = RTBP_E_BUSY;
	w->presence_key = strndup(s.p, s.size);
	return w->presence_key ? NULL : "no memory";
}

static const char *wish_waiting(struct rtbp_val params, struct wish *w)
{
	struct rtbp_str wait = { "ready", 5 };
	struct rtbp_val v;

	if (!optional_bool(rtbp_field(params, RTBP_F_KEEP), &w->keep))
		return "keep is a boolean";
	v = rtbp_field(params, RTBP_F_WAIT);
	if (v.p && (!rtbp_get_str(v, &wait) ||
		    !(rtbp_str_is(wait, "ready") || rtbp_str_is(wait, "joined"))))
		return "wait is \"ready\" or \"joined\"";
	w->wait_joined = rtbp_str_is(wait, "joined");
	v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	w->timeout_ms = SUBSCRIBE_TIMEOUT_MS;
	if (v.p && (!rtbp_get_uint(v, &w->timeout_ms) || w->timeout_ms > SUBSCRIBE_TIMEOUT_MAX_MS))
		return "timeout_ms is an integer from 0 to 300000";
	return NULL;
}

/* Database changes alone need no channel, and then no name of one. */
static const char *wish_topic(struct rtbp_val params, struct wish *w, enum rtbp_error *code)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_TOPIC);

	*code = RTBP_E_BAD_REQUEST;
	w->topic = (struct rtbp_str){ "", 0 };
	if (v.p && !rtbp_is(v, RTBP_NIL) && !rtbp_get_str(v, &w->topic))
		return "topic is a string";
	if (w->topic.size == 0 && !w->on_channel)
		return NULL;
	if (!v.p || rtbp_is(v, RTBP_NIL))
		return "topic is a string";
	*code = RTBP_E_BAD_TOPIC;
	return rtbp_topic_ok(w->topic) ? NULL : rtbp_error_sentence(RTBP_E_BAD_TOPIC);
}

const char *wish_read(struct rtbp_val params, unsigned max_bindings, struct wish *w,
		      enum rtbp_error *code, char *text, size_t size)
{
	struct rtbp_val broadcast = rtbp_field(params, RTBP_F_BROADCAST);
	const char *wrong;

	*code = RTBP_E_BAD_REQUEST;
	if (broadcast.p && !rtbp_is(broadcast, RTBP_MAP) && !rtbp_is(broadcast, RTBP_NIL))
		return "broadcast is a map";
	if (!optional_bool(rtbp_field(params, RTBP_F_PRIVATE), &w->is_private))
		return "private is a boolean";
	wrong = wish_waiting(params, w);
	if (!wrong && !optional_bool(rtbp_field(broadcast, RTBP_F_SELF), &w->self))
		wrong = "broadcast.self is a boolean";
	if (!wrong &&
	    !optional_bool(rtbp_field(broadcast, RTBP_F_REPLICATION_READY), &w->replication_ready))
		wrong = "broadcast.replication_ready is a boolean";
	if (!wrong)
		wrong = wish_replay(rtbp_field(broadcast, RTBP_F_REPLAY), w);
	if (!wrong)
		wrong = wish_events(rtbp_field(broadcast, RTBP_F_EVENTS), w, code);
	if (!wrong)
		wrong = wish_presence(rtbp_field(params, RTBP_F_PRESENCE), w, code);
	if (wrong)
		return wrong;
	wrong = changes_wish_read(rtbp_field(params, RTBP_F_POSTGRES_CHANGES), max_bindings,
				  &w->changes, text, size, code);
	if (wrong)
		return wrong;
	w->broadcasts = !w->changes.given || rtbp_is(broadcast, RTBP_MAP);
	w->on_channel = w->broadcasts || w->presence;
	return wish_topic(params, w, code);
}
