/* SPDX-License-Identifier: MIT */
/*
 * daemon/realtime/presence.h on any sequence of calls. The first byte says how much may be held
 * (2^n KiB, n its lowest four bits); then each call is a letter: `j` a join, `s` and `d` a state
 * and a diff as JSON up to the end of the line, `S` and `D` the same as one MessagePack value.
 *
 * Checked: a client that applies the changes has the snapshot; names are unique; the count and the
 * limits are right; nothing is changed by what is refused. Members have names that are keys, and
 * what stands for itself under a bridge's key has none. And in the end a stranger comes to a
 * bridge's key, who hides nobody.
 */
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>
#include <string.h>

#include "proto/rtbp_json.h"
#include "proto/rtbp_msg.h"
#include "proto/rtbp_pack.h"
#include "realtime/presence.h"

enum { MAX_ENTRIES = 4096, DEPTH = 70 };

/* An entry of a client, taken apart; in bytes of the client's own. */
struct entry {
	struct rtbp_val key, ref, state;
	bool is_gone;
};

struct client {
	struct rtbp_buf *copies; /* one for each array that came */
	size_t n_copies;
	struct entry entries[MAX_ENTRIES];
	size_t n;
};

static struct client client;

static bool same(struct rtbp_val a, struct rtbp_val b)
{
	return a.size == b.size && memcmp(a.p, b.p, a.size) == 0;
}

static void client_clear(struct client *c)
{
	for (size_t i = 0; i < c->n_copies; i++)
		rtbp_buf_done(&c->copies[i]);
	free(c->copies);
	c->copies = NULL;
	c->n = c->n_copies = 0;
}

/* Bytes that live as long as the client. */
static struct rtbp_val keep(struct client *c, struct rtbp_buf *b)
{
	c->copies = realloc(c->copies, (c->n_copies + 1) * sizeof(*c->copies));
	FUZZ_CHECK(c->copies && rtbp_buf_ok(b));
	c->copies[c->n_copies++] = *b;
	return (struct rtbp_val){ b->data, b->size };
}

static struct entry *find(struct client *c, struct rtbp_val key, struct rtbp_val ref)
{
	for (size_t i = 0; i < c->n; i++) {
		struct entry *e = &c->entries[i];

		if (!e->is_gone && same(e->key, key) && same(e->ref, ref))
			return e;
	}
	return NULL;
}

static bool is_of_bridge(struct rtbp_str s)
{
	return s.size >= 9 && memcmp(s.p, "rtbridge:", 9) == 0;
}

static struct entry read_entry(struct rtbp_val v)
{
	struct entry e = { .is_gone = false };
	struct rtbp_str key, ref;

	e.key = rtbp_field(v, RTBP_F_KEY);
	e.ref = rtbp_field(v, RTBP_F_REF);
	e.state = rtbp_field(v, RTBP_F_STATE);
	FUZZ_CHECK(rtbp_get_str(e.key, &key) && rtbp_get_str(e.ref, &ref) &&
		   rtbp_is(e.state, RTBP_MAP));
	if (is_of_bridge(ref))
		FUZZ_CHECK(rtbp_key_ok(key));
	else if (is_of_bridge(key))
		FUZZ_CHECK(!rtbp_is(rtbp_field(e.state, RTBP_F_MEMBERS), RTBP_MAP));
	return e;
}

static void apply(struct client *c, enum presence_change which, struct rtbp_val v)
{
	struct rtbp_val prev = rtbp_field(v, RTBP_F_PREV);
	struct entry e = read_entry(v), *held;

	FUZZ_CHECK(!prev.p == (which != PRESENCE_UPDATE));
	held = find(c, e.key, prev.p ? prev : e.ref);
	FUZZ_CHECK(!held == (which == PRESENCE_JOIN));
	if (which == PRESENCE_LEAVE) {
		FUZZ_CHECK(same(held->state, e.state));
		held->is_gone = true;
		return;
	}
	if (which == PRESENCE_UPDATE) {
		bool same_ref = same(prev, e.ref);

		FUZZ_CHECK(same_ref ? !same(held->state, e.state) : !find(c, e.key, e.ref));
		*held = e;
		return;
	}
	FUZZ_CHECK(c->n < MAX_ENTRIES);
	c->entries[c->n++] = e;
}

static void apply_changes(struct client *c, const struct presence *p)
{
	size_t kept = 0;

	for (int i = 0; i < PRESENCE_N_CHANGES; i++) {
		struct rtbp_buf b = RTBP_BUF_INIT;
		struct rtbp_val v;
		struct rtbp_iter it;
		size_t end;

		if (!presence_n_changes(p, (enum presence_change)i))
			continue;
		presence_pack_changes(p, (enum presence_change)i, &b);
		v = keep(c, &b);
		FUZZ_CHECK(rtbp_check(v.p, v.size, RTBP_DEPTH_MAX, &end) == 0);
		FUZZ_CHECK(rtbp_iter_array(v, &it));
		FUZZ_CHECK(it.left == presence_n_changes(p, (enum presence_change)i));
		while (rtbp_iter_next(&it, &v))
			apply(c, (enum presence_change)i, v);
	}
	for (size_t i = 0; i < c->n; i++) {
		if (!c->entries[i].is_gone)
			c->entries[kept++] = c->entries[i];
	}
	c->n = kept;
}

static bool has_changes(const struct presence *p)
{
	return presence_n_changes(p, PRESENCE_LEAVE) || presence_n_changes(p, PRESENCE_JOIN) ||
	       presence_n_changes(p, PRESENCE_UPDATE);
}

static void check_snapshot(struct client *c, const struct presence *p, size_t max_bytes)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_val v;
	struct rtbp_iter it;
	size_t end;

	presence_pack_snapshot(p, &b);
	FUZZ_CHECK(rtbp_buf_ok(&b) && b.size <= max_bytes);
	v = (struct rtbp_val){ b.data, b.size };
	FUZZ_CHECK(rtbp_check(v.p, v.size, RTBP_DEPTH_MAX, &end) == 0 && rtbp_iter_array(v, &it));
	FUZZ_CHECK(it.left == c->n && presence_count(p) == c->n);
	/* As many, and each found once and marked: the same set, without doubles. */
	while (rtbp_iter_next(&it, &v)) {
		struct entry e = read_entry(v), *held = find(c, e.key, e.ref);

		FUZZ_CHECK(held && same(held->state, e.state));
		held->is_gone = true;
	}
	for (size_t i = 0; i < c->n; i++)
		c->entries[i].is_gone = false;
	rtbp_buf_done(&b);
}

/* The payload behind the letter at `at`; false: it is none. */
static bool read_payload(const uint8_t *data, size_t size, size_t *at, struct rtbp_buf *json,
			 struct rtbp_val *ret)
{
	bool is_json = data[*at] >= 'a';
	const uint8_t *p = data + *at + 1, *end;
	size_t left = size - *at - 1;

	if (is_json) {
		end = left ? memchr(p, '\n', left) : NULL;
		if (!end)
			end = p + left;
		*at = (size_t)(end - data) + (end < data + size);
		if (rtbp_json_to_mp((const char *)p, (size_t)(end - p), DEPTH, json, NULL))
			return false;
		*ret = (struct rtbp_val){ json->data, json->size };
		return true;
	}
	*ret = (struct rtbp_val){ p, rtbp_val_size(p, left, DEPTH) };
	*at += 1 + ret->size;
	return ret->size > 0;
}

static void one_call(struct presence *p, char letter, struct rtbp_val v, size_t max_bytes)
{
	bool was_current = presence_is_current(p), is_state = letter == 's' || letter == 'S';
	int r = is_state ? presence_on_state(p, v) : presence_on_diff(p, v);

	FUZZ_CHECK(r == 0 || r == PRESENCE_E_MALFORMED || r == PRESENCE_E_OVERFLOW);
	FUZZ_CHECK(r == 0 || !has_changes(p));
	FUZZ_CHECK(r != PRESENCE_E_MALFORMED || presence_is_current(p) == was_current);
	FUZZ_CHECK(was_current || is_state || !has_changes(p));
	if (r == 0)
		FUZZ_CHECK(presence_is_current(p) == (was_current || is_state));
	if (r == PRESENCE_E_OVERFLOW) {
		FUZZ_CHECK(!presence_is_current(p) && presence_count(p) == 0);
		client_clear(&client);
	} else {
		apply_changes(&client, p);
	}
	check_snapshot(&client, p, max_bytes);
}

/* ---- a stranger under a bridge's key ---- */

enum stranger { WITH_NO_MEMBERS, WITH_THE_MEMBER, AS_IT_STANDS, GONE };

/* @ref: his; @e: of a member of the bridge */
static int stranger_call(struct presence *p, enum stranger what, const char *ref,
			 const struct entry *e, size_t max_bytes)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	rtbp_pack_map(&b, 1);
	rtbp_pack_text(&b, what == GONE ? "leaves" : "joins");
	rtbp_pack_map(&b, 1);
	rtbp_pack_val(&b, e->ref);
	rtbp_pack_map(&b, 1);
	rtbp_pack_text(&b, "metas");
	rtbp_pack_array(&b, 1);
	rtbp_pack_map(&b, what <= WITH_THE_MEMBER ? 2 : 1);
	rtbp_pack_text(&b, "phx_ref");
	rtbp_pack_text(&b, ref);
	if (what <= WITH_THE_MEMBER) {
		rtbp_pack_text(&b, "members");
		rtbp_pack_map(&b, what == WITH_THE_MEMBER);
	}
	if (what == WITH_THE_MEMBER) {
		rtbp_pack_val(&b, e->key);
		rtbp_pack_map(&b, 0);
	}
	FUZZ_CHECK(rtbp_buf_ok(&b));
	one_call(p, 'D', (struct rtbp_val){ b.data, b.size }, max_bytes);
	rtbp_buf_done(&b);
	return presence_is_current(p);
}

static bool changed(const struct presence *p, size_t leave, size_t join, size_t update)
{
	return presence_n_changes(p, PRESENCE_LEAVE) == leave &&
	       presence_n_changes(p, PRESENCE_JOIN) == join &&
	       presence_n_changes(p, PRESENCE_UPDATE) == update;
}

/* Ends early when he makes it too much. */
static void stranger(struct presence *p, const char *ref, struct entry e, size_t max_bytes)
{
	static const uint8_t empty[] = { 0x80 };
	bool is_news = !same(e.state, (struct rtbp_val){ empty, sizeof(empty) });
	const struct entry *held;

	if (!stranger_call(p, WITH_NO_MEMBERS, ref, &e, max_bytes))
		return;
	FUZZ_CHECK(changed(p, 0, 0, 0));
	if (!stranger_call(p, WITH_THE_MEMBER, ref, &e, max_bytes))
		return;
	FUZZ_CHECK(changed(p, 0, 0, is_news));
	if (!stranger_call(p, AS_IT_STANDS, ref, &e, max_bytes))
		return;
	FUZZ_CHECK(changed(p, 0, 1, is_news));
	FUZZ_CHECK(stranger_call(p, GONE, ref, &e, max_bytes));
	FUZZ_CHECK(changed(p, 1, 0, 0));
	held = find(&client, e.key, e.ref);
	FUZZ_CHECK(held && same(held->state, e.state));
}

/* The first member that is there, if any, is visited. */
static void stranger_comes(struct presence *p, const uint8_t *data, size_t size, size_t max_bytes)
{
	uint64_t hash = 0xcbf29ce484222325;
	struct rtbp_str bridge;
	char ref[17];

	/* A ref that the input does not use, for it would have to hold its own hash. */
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ data[i]) * 0x100000001b3;
	snprintf(ref, sizeof(ref), "%016llx", (unsigned long long)hash);
	for (size_t i = 0; i < client.n; i++) {
		if (rtbp_get_str(client.entries[i].ref, &bridge) && is_of_bridge(bridge)) {
			stranger(p, ref, client.entries[i], max_bytes);
			return;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t max_bytes, at = 1;
	struct presence *p;

	if (size == 0)
		return 0;
	max_bytes = (size_t)1024 << (data[0] & 15);
	p = presence_new(max_bytes);
	FUZZ_CHECK(p);
	while (at < size) {
		struct rtbp_buf json = RTBP_BUF_INIT;
		char letter = (char)data[at];
		struct rtbp_val v;

		if (letter == 'j') {
			presence_joining(p);
			FUZZ_CHECK(!presence_is_current(p) && !has_changes(p));
			check_snapshot(&client, p, max_bytes);
			at++;
		} else if (letter && strchr("sdSD", letter)) {
			if (read_payload(data, size, &at, &json, &v))
				one_call(p, letter, v, max_bytes);
		} else {
			at++;
		}
		rtbp_buf_done(&json);
	}
	if (presence_is_current(p))
		stranger_comes(p, data, size, max_bytes);
	presence_free(p);
	client_clear(&client);
	return 0;
}
