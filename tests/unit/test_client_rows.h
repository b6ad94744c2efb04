/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Watches of database changes that write down what they hear, as text:
 *
 *     ready  pending:CODE  error:CODE     how it stands
 *     +1  ~1  -1                          INSERT, UPDATE, DELETE of the row whose id is 1
 *     gap:CAUSE:FROM-TO                   a gap
 *     gap:detached, :forbidden, :token_.. the library's own (now)
 *
 * Include in one file of a test program only.
 */
#include "test_client_ear.h"

struct eye {
	char heard[2048];
	struct rtb_watch *watch;
	void (*act)(struct eye *eye); /* what it does on its next callback */
	struct eye *other;
	struct rtb_client *c;
	uint64_t id;              /* as told last */
	int64_t gap_from, gap_to; /* of the last one of the library's own */
};

static void see(struct eye *eye, const char *text)
{
	void (*act)(struct eye *) = eye->act;
	size_t n = strlen(eye->heard);

	(void)snprintf(eye->heard + n, sizeof(eye->heard) - n, "%s ", text);
	eye->act = NULL;
	if (act)
		act(eye);
}

static void on_row(struct rtb_watch *w, const struct rtb_change *change, void *user)
{
	bool is_delete = strcmp(change->type, "DELETE") == 0;
	struct eye *eye = user;
	char text[32];
	int64_t id;

	ck_assert_ptr_eq(w, eye->watch);
	ck_assert_ptr_eq(rtb_watch_client(w), eye->c);
	ck_assert_int_eq(rtb_change_int(change, is_delete ? RTB_OLD : RTB_NEW, "id", &id), 0);
	(void)snprintf(text, sizeof(text), "%c%lld",
		       is_delete                             ? '-'
		       : strcmp(change->type, "INSERT") == 0 ? '+'
							     : '~',
		       (long long)id);
	see(eye, text);
}

static void on_status(struct rtb_watch *w, const struct rtb_watch_status *status, void *user)
{
	static const char *const names[] = { "pending", "ready", "error" };
	struct eye *eye = user;
	char text[64];

	ck_assert_ptr_eq(w, eye->watch);
	ck_assert_int_eq(rtb_watch_state(w), status->state);
	eye->id = status->id;
	(void)snprintf(text, sizeof(text), "%s%s%s", names[status->state],
		       status->code[0] ? ":" : "", status->code);
	see(eye, text);
}

static void on_row_gap(struct rtb_watch *w, const struct rtb_gap *gap, void *user)
{
	struct eye *eye = user;
	char text[128];

	ck_assert_ptr_eq(w, eye->watch);
	if (strcmp(gap->cause, "detached") == 0 || strcmp(gap->cause, "forbidden") == 0 ||
	    strncmp(gap->cause, "token_", 6) == 0) {
		eye->gap_from = gap->from_unix_ms;
		eye->gap_to = gap->to_unix_ms;
		(void)snprintf(text, sizeof(text), "gap:%s", gap->cause);
		see(eye, text);
		return;
	}
	(void)snprintf(text, sizeof(text), "gap:%s:%lld-%lld", gap->cause,
		       (long long)gap->from_unix_ms, (long long)gap->to_unix_ms);
	see(eye, text);
}

static struct rtb_watch_options eye_options(struct rtb_client *c, struct eye *eye)
{
	struct rtb_watch_options o = RTB_WATCH_OPTIONS_INIT;

	eye->c = c;
	o.schema = "public";
	o.change = on_row;
	o.state = on_status;
	o.gap = on_row_gap;
	o.user = eye;
	return o;
}

static void watch_in(struct rtb_client *c, struct eye *eye, const char *topic, const char *table)
{
	struct rtb_watch_options o = eye_options(c, eye);

	o.topic = topic;
	o.table = table;
	ck_assert_int_eq(rtb_watch(c, &o, &eye->watch), 0);
}

FAKE_UNUSED static void watch_table(struct rtb_client *c, struct eye *eye, const char *table)
{
	watch_in(c, eye, NULL, table);
}

#define SAW(eye, text)                  \
	do {                            \
		HEARD(eye, text);       \
		(eye)->heard[0] = '\0'; \
	} while (0)

/* What a binding of all changes to this table looks like. */
#define TABLE(name) "{\"event\":\"*\",\"schema\":\"public\",\"table\":\"" name "\"}"

/* The next message subscribes to exactly these bindings. Return: its id. */
static uint32_t expect_bindings(struct fake *f, struct rtb_client *c, const char *bindings)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);
	bool any = strcmp(bindings, "absent") != 0;

	ck_assert_str_eq(field_json(m.params, RTBP_F_POSTGRES_CHANGES), bindings);
	ck_assert_str_eq(field_json(m.params, RTBP_F_WAIT), any ? "\"joined\"" : "absent");
	ck_assert(field_bool(m.params, RTBP_F_KEEP));
	return m.id;
}

/* The answer on chan 7; `entries`: what stands between the brackets. */
static void say_bound(struct fake *f, uint32_t id, const char *state, const char *entries)
{
	char json[2048];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":7,\"topic\":\"\",\"private\":false,\"state\":\"%s\","
		       "\"postgres_changes\":[%s]}",
		       state, entries);
	say_result(f, id, json);
}

FAKE_UNUSED static void say_states(struct fake *f, const char *state, const char *entries)
{
	char json[2048];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":7,\"topic\":\"\",\"private\":false,\"state\":\"%s\","
		       "\"postgres_changes\":[%s]}",
		       state, entries);
	say_notice(f, RTBP_N_CHANNEL, json);
}

/* An INSERT for these ids; `ids`: what stands between the brackets. */
FAKE_UNUSED static void say_row(struct fake *f, const char *ids, int row)
{
	char json[512];

	(void)snprintf(json, sizeof(json),
		       "{\"ids\":[%s],\"data\":{\"schema\":\"public\",\"table\":\"t\","
		       "\"type\":\"INSERT\",\"commit_timestamp\":\"2025-11-19T00:22:40.877Z\","
		       "\"columns\":[{\"name\":\"id\",\"type\":\"int8\"}],"
		       "\"record\":{\"id\":%d},\"errors\":null}}",
		       ids, row);
	say_notice(f, RTBP_N_POSTGRES_CHANGES, json);
}

#define READY(id)   "{\"id\":" #id ",\"state\":\"ready\"}"
#define PENDING(id) "{\"id\":" #id ",\"state\":\"pending\"}"

/* Attached, watching public.a (id 1) and public.b (id 2). */
FAKE_UNUSED static struct rtb_client *seeing_client(struct fake *f, struct eye *a, struct eye *b)
{
	struct rtb_client *c;

	fake_start(f);
	c = fake_client(f, NULL);
	*a = *b = (struct eye){ 0 };
	watch_table(c, a, "a");
	watch_table(c, b, "b");
	fake_attach(f, c);
	say_bound(f, expect_bindings(f, c, "[" TABLE("a") "," TABLE("b") "]"), "ready",
		  READY(1) "," READY(2));
	fake_flush(f, c);
	SAW(a, "ready ");
	SAW(b, "ready ");
	return c;
}
