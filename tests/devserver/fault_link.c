/* SPDX-License-Identifier: MIT */
/* Orders about a socket as such: its end, what comes over it that is no good frame, and silence. */
#include <stdlib.h>

#include "fault_int.h"
#include "jwt.h"

#define REASON_MAX 123 /* of a close frame */

/* Does it to all chosen ones that can do it. @last: nothing else comes over them afterwards. */
static bool misbehave(struct ds_order *o, struct ds_misdeed m, bool last)
{
	struct ds_socket *s;

	TAILQ_FOREACH(s, &o->c->sockets, link) {
		if (!ds_order_chosen(o, s) || s->closing || !o->c->ops.misbehave)
			continue;
		s->closing = last;
		o->c->ops.misbehave(s->conn, &m);
	}
	return true;
}

/* "tcp": how the TCP connection ends where there is no close frame. */
bool ds_op_close(struct ds_order *o)
{
	int64_t code = ds_order_number(o, "code", 1012);
	const char *reason = ds_order_text(o, "reason", "");
	const char *tcp = ds_order_text(o, "tcp", "rst");
	bool fin = strcmp(tcp, "fin") == 0, bare = code == 0 || code == 1006;
	struct ds_socket *s;

	if (code != 0 && (code < 1000 || code > 4999))
		return ds_order_fail(
			o, "close needs a code of 1000 to 4999, or 0 to drop the TCP connection",
			"code");
	if (strlen(reason) > REASON_MAX || (reason[0] && (bare || code == 1005)))
		return ds_order_fail(
			o, "only a close frame with a code has one, of up to 123 bytes", "reason");
	if (!fin && strcmp(tcp, "rst") != 0)
		return ds_order_fail(o, "close needs fin or rst", "tcp");
	if (bare && fin)
		return misbehave(o, (struct ds_misdeed){ .kind = DS_MISDEED_FIN }, true);
	if (reason[0])
		return misbehave(o,
				 (struct ds_misdeed){ .kind = DS_MISDEED_CLOSE,
						      .code = (int)code,
						      .bytes = ds_str(reason) },
				 true);
	TAILQ_FOREACH(s, &o->c->sockets, link)
		if (ds_order_chosen(o, s))
			ds_socket_close(o->c, s, bare ? 0 : (int)code);
	return true;
}

/* With "sent" the connection stays, and nothing more comes. */
bool ds_op_half_frame(struct ds_order *o)
{
	int64_t size = ds_order_number(o, "bytes", 1000), sent = ds_order_number(o, "sent", -1);
	struct ds_socket *s;

	if (sent >= 0) {
		if (size <= sent || sent > 64000000)
			return ds_order_fail(o, "half_frame needs more bytes than are sent",
					     "sent");
		return misbehave(o,
				 (struct ds_misdeed){ .kind = DS_MISDEED_FRAME,
						      .size = (uint64_t)size,
						      .sent = (uint64_t)sent },
				 true);
	}
	if (size < 2 || size > 1000000)
		return ds_order_fail(o, "half_frame needs a size of 2 to 1000000", "bytes");
	TAILQ_FOREACH(s, &o->c->sockets, link)
		if (ds_order_chosen(o, s) && !s->closing) {
			s->closing = true;
			o->c->ops.half_frame(s->conn, (size_t)size);
		}
	return true;
}

bool ds_op_fragments(struct ds_order *o)
{
	struct ds_misdeed m = { .kind = DS_MISDEED_FRAGMENTS };
	int64_t size = ds_order_number(o, "bytes", 1000);

	m.times = ds_order_number(o, "times", 1);
	m.ms = ds_order_number(o, "ms", 0);
	m.size = (uint64_t)size;
	if (size < 0 || size > 16000000 || m.ms < 0 || m.times < -1 || m.times == 0)
		return ds_order_fail(o, "fragments needs good numbers", "bytes, times, ms");
	return misbehave(o, m, true);
}

bool ds_op_raw(struct ds_order *o)
{
	struct ds_buf bytes = { 0 };
	const char *text = ds_order_text(o, "base64", NULL);
	bool ok = text && ds_base64_decode(&bytes, ds_str(text));

	if (ok)
		misbehave(
			o,
			(struct ds_misdeed){ .kind = DS_MISDEED_RAW, .bytes = ds_buf_view(&bytes) },
			false);
	ds_buf_done(&bytes);
	return ok || ds_order_fail(o, "raw needs base64 text", "base64");
}

/* A Phoenix message out of nowhere, in the form of each socket's version. */
bool ds_op_push(struct ds_order *o)
{
	const char *topic = ds_order_text(o, "topic", NULL);
	const char *event = ds_order_text(o, "event", NULL);
	struct ds_str raw = ds_json_trim(o->raw), payload = DS_EMPTY, ref = DS_NULL;
	struct ds_str join_ref = DS_NULL;
	struct ds_buf name = { 0 };
	struct ds_socket *s;

	if (!topic || !event)
		return ds_order_fail(o, "push needs both", "topic, event");
	(void)ds_json_get(raw, "payload", &payload);
	(void)ds_json_get(raw, "ref", &ref);
	(void)ds_json_get(raw, "join_ref", &join_ref);
	ds_buf_json(&name, ds_str(topic));
	TAILQ_FOREACH(s, &o->c->sockets, link) {
		struct ds_buf b = { 0 };

		if (!ds_order_chosen(o, s))
			continue;
		ds_phx_push(&b, s->vsn, join_ref, ref, ds_buf_view(&name), event, payload);
		ds_socket_send(o->c, s, false, ds_buf_view(&b));
		ds_buf_done(&b);
	}
	ds_buf_done(&name);
	return true;
}

bool ds_op_heartbeats(struct ds_order *o)
{
	json_t *answer = json_object_get(o->json, "answer");
	struct ds_socket *s;

	if (!json_is_boolean(answer))
		return ds_order_fail(o, "heartbeats needs a boolean", "answer");
	TAILQ_FOREACH(s, &o->c->sockets, link)
		if (ds_order_chosen(o, s))
			s->no_beats = !json_is_true(answer);
	return true;
}

static void deafen(struct ds_core *c, struct ds_socket *s, bool on)
{
	struct ds_misdeed m = { .kind = on ? DS_MISDEED_DEAF : DS_MISDEED_HEARING };

	if (c->ops.misbehave && !s->closing)
		c->ops.misbehave(s->conn, &m);
}

/* stall and unstall. "tcp": nothing is read either. */
bool ds_op_stall(struct ds_order *o)
{
	bool on = strcmp(o->op, "stall") == 0;
	struct ds_socket *s, *next;

	for (s = TAILQ_FIRST(&o->c->sockets); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!ds_order_chosen(o, s))
			continue;
		if (!on || json_is_true(json_object_get(o->json, "tcp")))
			deafen(o->c, s, on);
		ds_socket_stall(o->c, s, on);
	}
	return true;
}

void ds_link_clear(struct ds_core *c)
{
	struct ds_socket *s, *next;

	for (s = TAILQ_FIRST(&c->sockets); s; s = next) {
		next = TAILQ_NEXT(s, link);
		s->no_beats = false;
		if (s->stalled)
			deafen(c, s, false);
		ds_socket_stall(c, s, false);
	}
}

bool ds_op_late_close(struct ds_order *o)
{
	if (ds_order_number(o, "ms", -1) < 0)
		return ds_order_fail(o, "late_close needs a time that is not negative", "ms");
	return ds_order_rule(o, DS_RULE_LATE_CLOSE, 1);
}

/* What is wrong with the 101: conn_fault.c does it. */
bool ds_op_bad_upgrade(struct ds_order *o)
{
	static const char *const known[] = { "accept",     "no accept",     "extension", "protocol",
					     "no upgrade", "no connection", "old http" };
	const char *how = ds_order_text(o, "how", "");
	struct ds_rule *r;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], how) == 0) {
			r = ds_order_add(o, DS_RULE_BAD_UPGRADE, 1);
			free(r->text);
			r->text = ds_str_dup(ds_str(how));
			return true;
		}
	return ds_order_fail(
		o,
		"bad_upgrade needs accept, no accept, extension, protocol, no upgrade, "
		"no connection or old http",
		"how");
}
