/* SPDX-License-Identifier: MIT */
/*
 * Thousands of expiries of the daemon's own token, against a model of a session of Supabase Auth: a
 * refresh token can be used once, who presents the parent of the newest gets the newest again, and
 * whoever presents an older one ends the session. Requests fail, answers get lost behind the commit,
 * the disk refuses, the daemon dies at any moment and comes back with what the disk has.
 *
 * A Realtime server closes a channel whose token has ended. None may be closed, and no session
 * ended. The figures are printed.
 */
#include "tests/unit/test_keeper_util.h"
#include "suite.h"

#include "base/mix.h"
#include "realtime/refresh.h"

enum {
	EXPIRIES = 1000, /* for each seed */
	SEEDS = 24,
	LIFE_S = 3600,
	REQUEST_MS = 10 * SECOND, /* then the daemon gives up */
	REUSE_MS = 10 * SECOND,   /* GoTrue's reuse interval, as projects have it */
	LEAD_MIN_MS = 90 * SECOND,
};

static uint64_t random_state;

static uint64_t below(uint64_t n)
{
	return mix_next(&random_state) % n;
}

static bool percent(double p)
{
	return (double)below(1000000) < p * 10000;
}

/* ---- Auth ---- */

/* Either kind of refresh tokens: rows in a table, or a counter that is signed. */
static struct {
	bool counts;
	bool is_destroyed;
	unsigned n;        /* tokens so far; the last one is the newest */
	unsigned n_access; /* makes access tokens differ */
	struct {
		unsigned parent;
		bool is_revoked;
		uint64_t revoked_at;
	} rows[8 * EXPIRIES];
	uint64_t refreshed_at;
} auth;

static void auth_init(bool counts)
{
	memset(&auth, 0, sizeof(auth));
	auth.counts = counts;
	auth.n = 1;
}

/* Token number `i` is used up, and another one is its child. */
static unsigned swap_row(unsigned i)
{
	ck_assert_uint_lt(auth.n, sizeof(auth.rows) / sizeof(*auth.rows));
	if (!auth.rows[i].is_revoked)
		auth.rows[i].revoked_at = boot;
	auth.rows[i].is_revoked = true;
	auth.rows[auth.n].parent = i;
	return auth.n++;
}

/* Return: the token that the answer brings; -1: this was the end of the session. */
static int present_row(unsigned i)
{
	unsigned active = auth.n - 1; /* the newest that is not revoked */

	if (!auth.rows[i].is_revoked)
		return (int)swap_row(i);
	while (active > 0 && auth.rows[active].is_revoked)
		active--;
	if (!auth.rows[active].is_revoked && active > 0 && auth.rows[active].parent == i)
		return (int)active;
	if (boot > auth.rows[i].revoked_at + REUSE_MS)
		return -1;
	return (int)swap_row(i);
}

static int present_counter(unsigned i)
{
	unsigned behind = auth.n - 1 - i;

	if (behind == 0)
		auth.n++;
	else if (behind > 1 && boot - auth.refreshed_at >= REUSE_MS)
		return -1;
	return (int)auth.n - 1;
}

static unsigned auth_answer(const char *token, char *body, size_t size)
{
	unsigned i = (unsigned)atoi(token + 1);
	int64_t now = true_ms() / 1000;
	char access[1024];
	int next = -1;

	ck_assert(token[0] == 'r' && i < auth.n);
	if (!auth.is_destroyed) {
		next = auth.counts ? present_counter(i) : present_row(i);
		auth.is_destroyed = next < 0;
	}
	if (next < 0) {
		snprintf(body, size,
			 "{\"code\":400,\"error_code\":\"refresh_token_already_used\","
			 "\"msg\":\"Invalid Refresh Token: Already Used\"}");
		return 400;
	}
	auth.refreshed_at = boot;
	make_token(now, now + LIFE_S, ++auth.n_access, access);
	snprintf(body, size,
		 "{\"access_token\":\"%s\",\"token_type\":\"bearer\",\"expires_in\":%d,"
		 "\"expires_at\":%" PRId64 ",\"refresh_token\":\"r%d\",\"user\":{\"id\":\"u\"}}",
		 access, LIFE_S, now + LIFE_S, next);
	return 200;
}

/* ---- the network: what was posted, and what becomes of it ---- */

static struct request {
	bool used;
	unsigned life; /* of the daemon that waits for it */
	uint64_t nr;
	char token[16];
	uint64_t commit_at, answer_at; /* UINT64_MAX: never, or no more */
	bool is_lost;                  /* what Auth answers does not arrive as such */
	struct gotrue_answer answer;
	char body[2048];
} requests[64];

static struct {
	unsigned long posts, failed, lost, stores, cannot, crashes, renewed, closed, bad, lives;
	unsigned long destroyed, behind;
	uint64_t *leads;
} total;

static unsigned life;
static char disk[16];
static uint64_t disk_is_bad_until;
static bool must_crash;

static void lose(struct request *q)
{
	static const struct gotrue_answer answers[] = {
		{ .status = 0, .text = "no answer in 10 s" },
		{ .status = 200, .body = "{\"access_token\":\"ey", .size = 19 },
		{ .status = 200, .body = "<html>", .size = 6, .whole = true },
		{ .status = 502, .body = "", .whole = true },
	};
	unsigned i = (unsigned)below(4);

	q->is_lost = true;
	q->answer = answers[i];
	q->commit_at = boot + below(i ? REQUEST_MS : REQUEST_MS + 4 * SECOND);
	q->answer_at = i ? q->commit_at + 1 : boot + REQUEST_MS;
	total.lost++;
}

static void fail_request(struct request *q)
{
	static const unsigned statuses[] = { 500, 502, 503, 504 };

	q->commit_at = UINT64_MAX;
	q->answer_at = boot + REQUEST_MS;
	q->answer = (struct gotrue_answer){ .text = "no answer in 10 s", .whole = true };
	if (percent(60)) {
		q->answer.status = percent(5) ? 429 : statuses[below(4)];
		q->answer.body = "";
		q->answer_at = boot + 1 + below(5 * SECOND);
	}
	total.failed++;
}

static int life_post(void *ctx, uint64_t n, const void *body, size_t size)
{
	struct request *q = requests;
	char text[64];

	(void)ctx;
	while (q->used)
		q++;
	ck_assert(q < requests + sizeof(requests) / sizeof(*requests));
	ck_assert_uint_lt(size, sizeof(text));
	memcpy(text, body, size);
	text[size] = '\0';
	*q = (struct request){ .used = true, .life = life, .nr = n };
	ck_assert_int_eq(sscanf(text, "{\"refresh_token\":\"%15[r0-9]\"}", q->token), 1);
	total.posts++;
	if (auth.n - 1 - (unsigned)atoi(q->token + 1) > 1)
		total.behind++;
	if (percent(30)) {
		fail_request(q);
	} else if (percent(7.2)) { /* 5 % of all */
		lose(q);
	} else {
		q->commit_at = boot + 20 + below(2 * SECOND);
		q->answer_at = q->commit_at + 20 + below(SECOND);
	}
	return 0;
}

/* ---- the daemon ---- */

static struct refresh *r;
static uint64_t channels_end; /* when a server would close what we have joined; 0: nothing */

static int life_fetch(void *ctx, uint64_t n, bool is_renewal)
{
	(void)ctx, (void)is_renewal;
	return refresh_fetch(r, n);
}

static void life_adopt(void *ctx, const struct secret *token, const struct jwt *jwt, uint64_t s,
		       uint64_t lives_ms)
{
	(void)ctx, (void)s;
	if (!token)
		return;
	if (channels_end) {
		ck_assert_uint_lt(total.renewed, (unsigned long)SEEDS * EXPIRIES);
		total.leads[total.renewed++] = channels_end > boot ? channels_end - boot : 0;
	}
	channels_end = START + (uint64_t)(jwt->exp_s - EPOCH) * 1000;
	/* It never believes in more than there is. */
	ck_assert_uint_le(boot + lives_ms, channels_end + SECOND);
}

static void life_changed(void *ctx)
{
	(void)ctx;
	total.bad += status().state == KEEPER_BAD || status().state == KEEPER_DENIED;
}

/* When it fails the new one may be there all the same: the folder was not synced. */
static int life_store(void *ctx, const struct secret *token)
{
	bool is_bad;

	(void)ctx;
	total.stores++;
	must_crash = must_crash || percent(1);
	/* A full disk stays full for a while, also over the time when the next token is due. */
	if (boot >= disk_is_bad_until && percent(2))
		disk_is_bad_until = boot + 1 + below(percent(50) ? 55 * MINUTE : MINUTE);
	is_bad = boot < disk_is_bad_until;
	if (!is_bad || percent(10))
		strcpy(disk, secret_bytes(token));
	total.cannot += is_bad;
	return is_bad ? -ENOSPC : 0;
}

static void life_give(void *ctx, uint64_t n, const struct keeper_news *news)
{
	(void)ctx;
	if (!must_crash) /* it did, behind the store */
		keeper_on_fetched(k, n, news);
}

static void life_trouble(void *ctx, const char *code, const char *text)
{
	(void)ctx;
	keeper_set_trouble(k, code, text);
}

static const struct keeper_ops life_ops = { life_fetch, life_adopt, life_changed };
static const struct refresh_ops life_refresh = { life_post, life_store, life_give, life_trouble };

static void daemon_starts(void)
{
	life++;
	total.lives++;
	must_crash = false;
	channels_end = 0;
	conf.seed = mix_next(&random_state);
	k = keeper_new(&conf, &fake_clock, &life_ops, NULL);
	r = refresh_new(&fake_clock, &life_refresh, NULL);
	ck_assert(k && r);
	ck_assert_int_eq(refresh_set_token(r, disk, strlen(disk), true), 0);
	keeper_start(k);
}

static void daemon_ends(void)
{
	k = keeper_free(k);
	r = refresh_free(r);
	channels_end = 0;
}

/* ---- time ---- */

static void run_request(struct request *q)
{
	unsigned status;

	if (q->commit_at <= boot) {
		q->commit_at = UINT64_MAX;
		status = auth_answer(q->token, q->body, sizeof(q->body));
		if (!q->is_lost)
			q->answer = (struct gotrue_answer){ .status = status,
							    .body = q->body,
							    .size = strlen(q->body),
							    .whole = true };
	}
	if (q->answer_at <= boot) {
		q->answer_at = UINT64_MAX;
		if (q->life == life && r)
			refresh_on_answer(r, q->nr, &q->answer);
	}
	q->used = q->commit_at != UINT64_MAX || q->answer_at != UINT64_MAX;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Whatever is next, before `limit` or at it. */
static void step(uint64_t limit)
{
	uint64_t at = limit;

	if (k)
		at = least(at, least(keeper_deadline(k), refresh_deadline(r)));
	for (struct request *q = requests; q < requests + 64; q++) {
		if (q->used)
			at = least(at, least(q->commit_at, q->answer_at));
	}
	if (at > boot)
		boot = at;
	if (channels_end && boot >= channels_end) {
		total.closed++;
		channels_end = 0;
	}
	for (struct request *q = requests; q < requests + 64; q++) {
		if (q->used)
			run_request(q);
	}
	if (k && !must_crash) {
		refresh_tick(r);
		if (!must_crash)
			keeper_tick(k);
	}
}

static void crash(void)
{
	uint64_t until = boot + 100 + below(30 * SECOND);

	total.crashes++;
	daemon_ends();
	while (boot < until)
		step(until);
	daemon_starts();
}

static void one_seed(uint64_t seed)
{
	unsigned long want;
	uint64_t crash_at;

	random_state = seed;
	boot = START;
	slept = 0;
	memset(requests, 0, sizeof(requests));
	auth_init(seed % 2);
	strcpy(disk, "r0");
	disk_is_bad_until = 0;
	conf = (struct keeper_conf){ .lead_ms = LEAD };
	want = total.renewed + EXPIRIES;
	crash_at = boot + below(DAY);
	daemon_starts();
	while (total.renewed < want && !auth.is_destroyed) {
		step(crash_at);
		/* The wall clock is anybody's. */
		if (percent(1))
			wall_off = percent(20) ? -true_ms()
					       : (int64_t)below(20 * MINUTE) - 10 * MINUTE;
		if (percent(refresh_is_stored(r) ? 0.05 : 3))
			keeper_ask(k, true);
		/* At any moment, and just after something has been posted. */
		if (must_crash || boot >= crash_at || percent(0.2)) {
			crash();
			crash_at = boot + below(DAY);
		}
	}
	total.destroyed += auth.is_destroyed;
	daemon_ends();
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

START_TEST(test_life)
{
	uint64_t p1;

	total.leads = calloc((size_t)SEEDS * EXPIRIES, sizeof(*total.leads));
	ck_assert_ptr_nonnull(total.leads);
	for (uint64_t seed = 0; seed < SEEDS; seed++)
		one_seed(seed);
	qsort(total.leads, total.renewed, sizeof(*total.leads), by_size);
	p1 = total.leads[total.renewed / 100];
	printf("%lu expiries, %lu lives: %lu requests (%lu failed, %lu lost behind the commit), "
	       "%lu stores (%lu failed), %lu crashes\n",
	       total.renewed, total.lives, total.posts, total.failed, total.lost, total.stores,
	       total.cannot, total.crashes);
	printf("channels closed: %lu, sessions ended: %lu, tokens two behind: %lu, moments without "
	       "a token: %lu\n",
	       total.closed, total.destroyed, total.behind, total.bad);
	printf("lead: least %.0f s, 1st percentile %.0f s, median %.0f s\n",
	       (double)total.leads[0] / 1000, (double)p1 / 1000,
	       (double)total.leads[total.renewed / 2] / 1000);
	fflush(stdout);
	ck_assert_uint_eq(total.closed, 0);
	ck_assert_uint_eq(total.destroyed, 0);
	ck_assert_uint_eq(total.behind, 0);
	ck_assert_uint_eq(total.bad, 0);
	ck_assert_uint_ge(p1, LEAD_MIN_MS);
	ck_assert_uint_eq(total.renewed, (unsigned long)SEEDS * EXPIRIES);
	/* What the story is about did happen. */
	ck_assert_uint_ge(total.failed * 100, total.posts * 25);
	ck_assert_uint_ge(total.lost * 100, total.posts * 3);
	ck_assert_uint_ge(total.cannot * 100, total.stores);
	ck_assert_uint_ge(total.crashes, SEEDS);
	free(total.leads);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("keeper_life");
	Suite *suite = suite_create("keeper_life");

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, test_life);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
