/* SPDX-License-Identifier: MIT */
/*
 * librtbridge: random presence, against a table of all names. Two things must always agree with it:
 * the walk over the state, and what a handler has that applies each event as it is told.
 */
#include "test_client_watch.h"
#include "suite.h"

enum { KEYS = 3, REFS = 4, NAMES = KEYS * REFS, ROUNDS = 3000, NOBODY = -1 };

/* The `n` of the state of each name. */
struct table {
	int n[NAMES];
};

struct told {
	struct table table;
	bool more;
	int n_events, n_syncs;
};

static uint64_t seed = 88172645463325252u;

static int pick(int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (int)(seed % (uint64_t)n);
}

static int name_of(const struct rtb_presence_entry *e)
{
	return (e->key[0] - 'a') * REFS + (e->ref[0] - '0');
}

static int n_of(const struct rtb_presence_entry *e)
{
	struct rtbp_val v = rtbp_find((struct rtbp_val){ e->state, e->state_size }, "n", 1);
	int64_t n = NOBODY;

	ck_assert(rtbp_get_int(v, &n));
	return (int)n;
}

static struct table walk(const struct rtb_sub *sub)
{
	const struct rtb_presence_entry *e = NULL;
	struct table t;
	int last = -1;

	for (int i = 0; i < NAMES; i++)
		t.n[i] = NOBODY;
	while ((e = rtb_presence_next(sub, e))) {
		ck_assert_int_gt(name_of(e), last);
		last = name_of(e);
		t.n[last] = n_of(e);
	}
	return t;
}

static void on_change(struct rtb_sub *sub, const struct rtb_presence *p, void *user)
{
	struct told *told = user;

	told->n_events++;
	told->more = p->more;
	switch (p->event) {
	case RTB_PRESENCE_SYNC:
		told->n_syncs++;
		told->table = walk(sub);
		return;
	case RTB_PRESENCE_UPDATE:
		ck_assert_int_eq(told->table.n[name_of(p->previous)], n_of(p->previous));
		told->table.n[name_of(p->previous)] = NOBODY;
		break;
	case RTB_PRESENCE_LEAVE:
		ck_assert_int_eq(told->table.n[name_of(p->entry)], n_of(p->entry));
		told->table.n[name_of(p->entry)] = NOBODY;
		return;
	default:
		break;
	}
	ck_assert_int_eq(told->table.n[name_of(p->entry)], NOBODY);
	told->table.n[name_of(p->entry)] = n_of(p->entry);
}

static void pack_entry(struct rtbp_buf *b, int name, int prev, int n)
{
	char key = (char)('a' + name / REFS), ref = (char)('0' + name % REFS);
	char old = (char)('0' + prev);

	rtbp_pack_map(b, prev < 0 ? 3 : 4);
	rtbp_pack_field(b, RTBP_F_KEY);
	rtbp_pack_str(b, &key, 1);
	rtbp_pack_field(b, RTBP_F_REF);
	rtbp_pack_str(b, &ref, 1);
	if (prev >= 0) {
		rtbp_pack_field(b, RTBP_F_PREV);
		rtbp_pack_str(b, &old, 1);
	}
	rtbp_pack_field(b, RTBP_F_STATE);
	rtbp_pack_map(b, 1);
	rtbp_pack_text(b, "n");
	rtbp_pack_int(b, n);
}

/* Up to three entries of one kind, which also happen to the table. */
static void say_some(struct fake *f, enum rtbp_field kind, struct table *table)
{
	int n = pick(4);

	rtbp_pack_field(&f->out, kind);
	rtbp_pack_array(&f->out, (uint32_t)n);
	while (n-- > 0) {
		int name = pick(NAMES), prev = kind == RTBP_F_UPDATE ? pick(REFS) : -1;
		int state = pick(100);

		pack_entry(&f->out, name, prev, state);
		if (prev >= 0)
			table->n[name / REFS * REFS + prev] = NOBODY;
		table->n[name] = kind == RTBP_F_LEAVE ? NOBODY : state;
	}
}

static void say_all(struct fake *f, const struct table *table)
{
	uint32_t n = 0;

	for (int i = 0; i < NAMES; i++)
		n += table->n[i] != NOBODY;
	rtbp_pack_field(&f->out, RTBP_F_SYNC);
	rtbp_pack_array(&f->out, n);
	for (int i = NAMES - 1; i >= 0; i--)
		if (table->n[i] != NOBODY)
			pack_entry(&f->out, i, -1, table->n[i]);
}

static void say_round(struct fake *f, struct table *table)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, RTBP_N_PRESENCE);
	bool all = pick(10) == 0;

	rtbp_pack_map(&f->out, all ? 2 : 4);
	rtbp_pack_field_uint(&f->out, RTBP_F_CHAN, 5);
	if (all) {
		if (pick(2))
			table->n[pick(NAMES)] = pick(100);
		say_all(f, table);
	} else {
		say_some(f, RTBP_F_LEAVE, table);
		say_some(f, RTBP_F_JOIN, table);
		say_some(f, RTBP_F_UPDATE, table);
	}
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

static void expect_same(const struct table *a, const struct table *b, int round)
{
	for (int i = 0; i < NAMES; i++)
		ck_assert_msg(a->n[i] == b->n[i], "round %d, name %d: %d, %d", round, i, a->n[i],
			      b->n[i]);
}

START_TEST(random_changes)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct table table, walked;
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct told told = { 0 };
	struct fake f;

	c = ready_client(&f, &ear);
	o.presence = true;
	o.handlers.presence = on_change;
	o.user = &told;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	say_watched(&f, expect_watch(&f, c, "{}"), "ready", "ok", "[]");
	for (int i = 0; i < NAMES; i++)
		table.n[i] = NOBODY;
	for (int i = 0; i < ROUNDS; i++) {
		ear.heard[0] = '\0';
		say_round(&f, &table);
		say_broadcast(&f, 5, "e", "1");
		fake_flush(&f, c);
		HEARD(&ear, "e=1 ");
		walked = walk(sub);
		expect_same(&walked, &table, i);
		expect_same(&told.table, &table, i);
		ck_assert(!told.more);
	}
	ck_assert_int_gt(told.n_events, ROUNDS);
	ck_assert_int_gt(told.n_syncs, 10);
	end(&f, c);
}
END_TEST

static void count(struct rtb_sub *sub, const struct rtb_presence *p, void *user)
{
	struct told *told = user;

	(void)sub;
	told->n_events++;
	told->n_syncs += p->event == RTB_PRESENCE_SYNC;
	told->more = p->more;
}

static void say_many(struct fake *f, enum rtbp_field kind, uint32_t n)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, RTBP_N_PRESENCE);
	char key[16];

	rtbp_pack_map(&f->out, 2);
	rtbp_pack_field_uint(&f->out, RTBP_F_CHAN, 5);
	rtbp_pack_field(&f->out, kind);
	rtbp_pack_array(&f->out, n);
	while (n-- > 0) {
		(void)snprintf(key, sizeof(key), "%u", n);
		rtbp_pack_map(&f->out, 3);
		rtbp_pack_field_text(&f->out, RTBP_F_KEY, key);
		rtbp_pack_field_text(&f->out, RTBP_F_REF, "r");
		rtbp_pack_field(&f->out, RTBP_F_STATE);
		rtbp_pack_map(&f->out, 0);
	}
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

START_TEST(a_great_many)
{
	enum { MANY = 50000 };
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct told told = { 0 };
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	o.presence = true;
	o.handlers.presence = count;
	o.user = &told;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	say_watched(&f, expect_watch(&f, c, "{}"), "joined", "pending", "[]");
	say_many(&f, RTBP_F_SYNC, MANY);
	fake_flush(&f, c);
	UNTIL(c, told.n_syncs == 1);
	ck_assert_uint_eq(rtb_presence_count(sub), MANY);
	say_many(&f, RTBP_F_LEAVE, MANY - 1);
	fake_flush(&f, c);
	UNTIL(c, told.n_events == MANY);
	ck_assert(!told.more);
	ck_assert_uint_eq(rtb_presence_count(sub), 1);
	ck_assert_str_eq(rtb_presence_next(sub, NULL)->key, "49999");
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_fold");
	TCase *t = tcase_create("fold");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, random_changes);
	tcase_add_test(t, a_great_many);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
