/* SPDX-License-Identifier: MIT */
#include "realtime/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "proto/rtbp_json.h"
#include "realtime/backoff.h"

#define NEVER    UINT64_MAX
#define LIFE_MAX ((uint64_t)JWT_EXP_MAX * 1000)

struct reason_text {
	char code[sizeof(((struct keeper_status *)NULL)->code)];
	char text[sizeof(((struct keeper_status *)NULL)->text)];
};

struct keeper {
	struct keeper_conf conf;
	const struct clock *clock;
	const struct keeper_ops *ops;
	void *ctx;
	struct backoff backoff; /* its seed serves all jitter */

	/* The token; NULL: none. */
	struct secret *token;
	struct jwt jwt;
	uint64_t serial; /* of the last call of ops->adopt */
	uint64_t adopted_at, lead_at, ends_at;
	bool had_one;
	struct reason_text trouble; /* that is no failure */

	/* The last one, if the server refused it or it has ended: to know it again. */
	struct secret *spent;
	bool spent_was_refused;
	char refusal[sizeof(((struct reason_text *)0)->text)]; /* the server's words */
	unsigned n_refused;                                    /* in a row */
	unsigned n_slow;                                       /* slow fetches in a row */

	/* The fetch on its way, or the next one. */
	bool is_fetching, is_asked;
	bool asks_renewal; /* what is_asked asks for */
	bool is_renewal;   /* as a retry says it */
	uint64_t nr, begun_at, next_at;

	/* What the last one came to. */
	bool is_denied;
	bool is_failing;
	struct reason_text why;
	unsigned n_series;
	uint64_t fetches, failures;

	struct keeper_status shown; /* when ops->changed() was called last */
	int64_t since_wall_ms;
};

static uint64_t now_ms(const struct keeper *k)
{
	return clock_boot(k->clock);
}

static void say(struct reason_text *r, const char *code, const char *text)
{
	snprintf(r->code, sizeof(r->code), "%s", code ? code : "");
	snprintf(r->text, sizeof(r->text), "%s", text ? text : "");
	text_clean(r->code);
	text_clean(r->text);
}

/* ---- status ---- */

static enum keeper_state state_of(const struct keeper *k)
{
	if (k->is_denied)
		return KEEPER_DENIED;
	if (k->token)
		return k->is_failing ? KEEPER_LATE : KEEPER_GOOD;
	return k->had_one ? KEEPER_BAD : KEEPER_WAITING;
}

static int64_t until(uint64_t at, uint64_t now)
{
	return at > now ? (int64_t)(at - now) : 0;
}

void keeper_get_status(const struct keeper *k, struct keeper_status *ret)
{
	uint64_t now = now_ms(k);
	const struct reason_text *r;

	*ret = (struct keeper_status){ .state = state_of(k),
				       .has_token = k->token != NULL,
				       .is_fetching = k->is_fetching,
				       .since_wall_ms = k->since_wall_ms,
				       .ends_in_ms = k->token ? until(k->ends_at, now) : -1,
				       .next_try_ms = -1,
				       .fetches = k->fetches,
				       .failures = k->failures };
	if (k->is_fetching)
		ret->next_try_ms = 0;
	else if (k->next_at != NEVER)
		ret->next_try_ms = until(k->next_at, now);
	if (k->token)
		snprintf(ret->role, sizeof(ret->role), "%s", k->jwt.role);
	r = ret->state == KEEPER_GOOD ? &k->trouble : &k->why;
	snprintf(ret->code, sizeof(ret->code), "%s", r->code);
	snprintf(ret->text, sizeof(ret->text), "%s", r->text);
}

const char *keeper_state_name(enum keeper_state state)
{
	static const char *const names[] = { "waiting", "good", "late", "bad", "denied" };

	return names[state];
}

/* At the end of whatever may have changed something. */
static void tell(struct keeper *k)
{
	struct keeper_status *old = &k->shown, st;

	if (state_of(k) != old->state)
		k->since_wall_ms = clock_wall(k->clock);
	keeper_get_status(k, &st);
	if (st.state == old->state && st.has_token == old->has_token &&
	    st.is_fetching == old->is_fetching && strcmp(st.role, old->role) == 0 &&
	    strcmp(st.code, old->code) == 0 && strcmp(st.text, old->text) == 0)
		return;
	*old = st;
	k->ops->changed(k->ctx);
}

/* ---- fetching ---- */

static void on_failure(struct keeper *k, const char *code, const char *text, uint32_t retry_after_s)
{
	uint64_t delay = backoff_next(&k->backoff, SESSION_FAULT_NONE, retry_after_s);

	k->failures++;
	k->is_failing = true;
	k->is_denied = false;
	say(&k->why, code, text);
	if (++k->n_series >= KEEPER_SERIES) {
		k->n_series = 0;
		backoff_reset(&k->backoff);
		if (delay < KEEPER_REST_MS)
			delay = KEEPER_REST_MS;
	}
	k->next_at = now_ms(k) + delay;
}

static void begin(struct keeper *k, bool is_renewal)
{
	char text[128];
	int r;

	k->is_fetching = true;
	k->is_renewal = is_renewal;
	k->begun_at = now_ms(k);
	k->next_at = NEVER;
	k->fetches++;
	r = k->ops->fetch(k->ctx, ++k->nr, is_renewal);
	if (r < 0) {
		k->is_fetching = false;
		snprintf(text, sizeof(text), "the token's source cannot be asked: %s",
			 strerror(-r));
		on_failure(k, "cannot_fetch", text, 0);
	}
}

static uint64_t slow_delay(struct keeper *k)
{
	return backoff_doubled(KEEPER_SLOW_MIN_MS, k->n_slow++, KEEPER_SLOW_MAX_MS);
}

/* ---- how long a token lives ---- */

/* As a float or an integer; a number that is neither (proto/rtbp_json.h) is read as far as a double
 * can be that. */
static bool read_iat(const struct jwt *jwt, int64_t *ret_ms)
{
	struct rtbp_val v =
		rtbp_find((struct rtbp_val){ jwt->claims.data, jwt->claims.size }, "iat", 3);
	struct rtbp_str digits;
	char text[64];
	int64_t n;
	int8_t type;
	double d;

	if (rtbp_get_int(v, &n)) {
		d = (double)n;
	} else if (rtbp_get_ext(v, &type, &digits) && type == RTBP_EXT_NUMBER &&
		   digits.size < sizeof(text)) {
		memcpy(text, digits.p, digits.size);
		text[digits.size] = '\0';
		d = strtod(text, NULL);
	} else if (!rtbp_get_float(v, &d)) {
		return false;
	}
	if (!(d >= 0 && d <= (double)JWT_EXP_MAX))
		return false;
	*ret_ms = (int64_t)(d * 1000);
	return true;
}

/* When it ends, on the clock of now_ms(). What has ended already gives a time that has passed. The
 * header says why so. */
static uint64_t end_of(const struct keeper *k, const struct jwt *jwt, uint64_t lives_ms)
{
	int64_t wall = clock_wall(k->clock), exp = jwt->exp_s * 1000, iat = 0, full = 0,
		left = exp - wall;

	if (read_iat(jwt, &iat) && iat < exp)
		full = exp - iat;
	if (lives_ms > LIFE_MAX)
		lives_ms = LIFE_MAX;
	if (lives_ms)
		return k->begun_at +
		       (full && (uint64_t)full < lives_ms ? (uint64_t)full : lives_ms);
	if (full && (iat > wall || (left <= 0 && wall - iat <= KEEPER_FRESH_MS)))
		return k->begun_at + (uint64_t)full;
	return left > 0 ? now_ms(k) + (uint64_t)left : 0;
}

/* When to ask for the next one. */
static uint64_t lead_of(struct keeper *k, uint64_t now)
{
	uint64_t life = k->ends_at - now, lead = life / 10;

	if (lead < k->conf.lead_ms)
		lead = k->conf.lead_ms;
	lead += backoff_random(&k->backoff, KEEPER_JITTER_MS);
	if (lead > life / 2)
		lead = life / 2;
	/* Whatever lives for a moment only: not more often than that. */
	return lead + KEEPER_RETRY_MIN_MS > life ? now + KEEPER_RETRY_MIN_MS : k->ends_at - lead;
}

/* ---- tokens that come and go ---- */

static void drop_token(struct keeper *k, bool was_refused)
{
	k->spent = k->token; /* there is none while there is a token */
	k->spent_was_refused = was_refused;
	k->token = NULL;
	k->is_failing = true;
	jwt_done(&k->jwt);
	k->ops->adopt(k->ctx, NULL, NULL, ++k->serial, 0);
}

static void on_ended(struct keeper *k)
{
	if (!k->why.code[0])
		say(&k->why, "expired",
		    "the token has ended, and its source has given no other so far: see why it "
		    "gives "
		    "none");
	drop_token(k, false);
}

static void on_good_news(struct keeper *k)
{
	backoff_reset(&k->backoff);
	k->n_series = 0;
	k->is_denied = k->is_failing = false;
	k->is_renewal = true;
	say(&k->why, NULL, NULL);
}

/* The bytes that we have. */
static void on_same(struct keeper *k, const struct keeper_news *news)
{
	uint64_t now = now_ms(k);

	on_good_news(k);
	say(&k->trouble, news->code, news->text);
	if (now < k->lead_at) {
		k->next_at = k->lead_at;
		return;
	}
	k->next_at = now + KEEPER_REST_MS;
	if (k->next_at > k->ends_at)
		k->next_at = k->ends_at > now ? k->ends_at : now;
	if (k->conf.is_watched)
		return;
	k->failures++;
	k->is_failing = true;
	say(&k->why, "not_renewed",
	    "the token's source has given the same token again, which ends soon: see that it gives "
	    "another one in time");
}

/* The bytes that the server does not take. */
static void on_refused_again(struct keeper *k)
{
	char text[sizeof(k->why.text)];

	k->failures++;
	k->is_failing = true;
	k->is_denied = false;
	k->n_series = 0;
	backoff_reset(&k->backoff);
	snprintf(text, sizeof(text),
		 "the token's source has given the same token again that the server had refused "
		 "(%.120s): it must give another one",
		 k->refusal);
	say(&k->why, "refused", text);
	k->next_at = now_ms(k) + slow_delay(k);
}

static void on_unusable(struct keeper *k, const char *what)
{
	char text[sizeof(k->why.text)];

	snprintf(text, sizeof(text),
		 "the token that the source has given cannot be used: it %s; give another one",
		 what);
	on_failure(k, "bad_token", text, 0);
}

static const char no_memory[] = "the daemon is out of memory";
static const char has_ended[] =
	"has ended already by this machine's clock; see that the clock is right";

/* @now: from before @ends_at was compared with it: the clock goes on. */
static void adopt(struct keeper *k, struct secret *token, struct jwt *jwt, uint64_t now,
		  uint64_t ends_at, const struct keeper_news *news)
{
	secret_free(k->token);
	jwt_done(&k->jwt);
	k->spent = secret_free(k->spent);
	k->token = token;
	k->jwt = *jwt;
	k->ends_at = ends_at;
	k->adopted_at = now;
	k->next_at = k->lead_at = lead_of(k, now);
	k->had_one = true;
	on_good_news(k);
	say(&k->trouble, news->code, news->text);
	k->ops->adopt(k->ctx, k->token, &k->jwt, ++k->serial, ends_at - now);
}

static bool is_same(const struct secret *s, const struct keeper_news *news)
{
	return s && secret_size(s) == news->size &&
	       memcmp(secret_bytes(s), news->token, news->size) == 0;
}

/* Return: whether it is another token, which is used from now on. */
static bool on_token(struct keeper *k, const struct keeper_news *news)
{
	struct secret *token;
	const char *what;
	struct jwt jwt;
	uint64_t end, now;
	int r;

	if (is_same(k->token, news)) {
		on_same(k, news);
		return false;
	}
	if (is_same(k->spent, news)) {
		if (k->spent_was_refused)
			on_refused_again(k);
		else
			on_unusable(k, has_ended);
		return false;
	}
	/* 0: whether it has ended is for end_of() to say. */
	r = jwt_read(news->token, news->size, 0, &jwt, &what);
	if (r < 0) {
		on_failure(k, "no_memory", no_memory, 0);
		return false;
	}
	if (r > 0) {
		on_unusable(k, what);
		return false;
	}
	end = end_of(k, &jwt, news->lives_ms);
	now = now_ms(k);
	token = end > now ? secret_new(news->token, news->size) : NULL;
	if (token) {
		adopt(k, token, &jwt, now, end, news);
		return true;
	}
	if (end > now)
		on_failure(k, "no_memory", no_memory, 0);
	else
		on_unusable(k, has_ended);
	jwt_done(&jwt);
	return false;
}

/* ---- what the owner calls ---- */

struct keeper *keeper_new(const struct keeper_conf *conf, const struct clock *clock,
			  const struct keeper_ops *ops, void *ctx)
{
	struct keeper *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->conf = *conf;
	k->clock = clock;
	k->ops = ops;
	k->ctx = ctx;
	k->next_at = NEVER;
	k->since_wall_ms = clock_wall(clock);
	backoff_init(&k->backoff, KEEPER_RETRY_MIN_MS, KEEPER_RETRY_MAX_MS, conf->seed);
	return k;
}

struct keeper *keeper_free(struct keeper *k)
{
	if (k) {
		secret_free(k->token);
		secret_free(k->spent);
		jwt_done(&k->jwt);
		free(k);
	}
	return NULL;
}

void keeper_start(struct keeper *k)
{
	keeper_ask(k, false);
}

void keeper_ask(struct keeper *k, bool is_renewal)
{
	if (!is_renewal)
		k->n_refused = k->n_slow = 0;
	if (k->is_fetching) {
		k->asks_renewal = is_renewal && (!k->is_asked || k->asks_renewal);
		k->is_asked = true;
		return;
	}
	begin(k, is_renewal);
	tell(k);
}

void keeper_refused(struct keeper *k, uint64_t serial, const char *code, const char *text)
{
	bool is_first;

	if (!k->token || serial != k->serial)
		return;
	if (now_ms(k) - k->adopted_at >= KEEPER_SLOW_MAX_MS)
		k->n_refused = k->n_slow = 0;
	is_first = k->n_refused++ == 0;
	snprintf(k->refusal, sizeof(k->refusal), "%s", text ? text : "without words");
	if (!k->is_denied) /* then what the source said is what must be heard */
		say(&k->why, code && *code ? code : "refused", text);
	drop_token(k, true);
	if (!k->is_fetching && !k->is_denied) {
		if (is_first)
			begin(k, true);
		else
			k->next_at = now_ms(k) + slow_delay(k);
	}
	tell(k);
}

void keeper_on_fetched(struct keeper *k, uint64_t nr, const struct keeper_news *news)
{
	bool is_another = false;

	if (!k->is_fetching || nr != k->nr)
		return;
	k->is_fetching = false;
	switch (news->got) {
	case KEEPER_TOKEN:
		is_another = on_token(k, news);
		break;
	case KEEPER_FAILED:
		on_failure(k, news->code ? news->code : "failed", news->text, news->retry_after_s);
		break;
	case KEEPER_REFUSED:
		k->failures++;
		k->n_series = 0;
		backoff_reset(&k->backoff);
		k->is_denied = k->is_failing = true;
		say(&k->why, news->code ? news->code : "denied", news->text);
		k->next_at = NEVER;
		break;
	}
	if (k->is_asked && !(is_another && k->asks_renewal))
		begin(k, k->asks_renewal);
	k->is_asked = false;
	tell(k);
}

void keeper_set_trouble(struct keeper *k, const char *code, const char *text)
{
	say(&k->trouble, code, text);
	tell(k);
}

uint64_t keeper_deadline(const struct keeper *k)
{
	uint64_t end = k->token ? k->ends_at : NEVER;

	return k->next_at < end ? k->next_at : end;
}

void keeper_tick(struct keeper *k)
{
	uint64_t now = now_ms(k);

	if (k->token && k->ends_at <= now)
		on_ended(k);
	if (k->next_at <= now)
		begin(k, k->is_renewal);
	tell(k);
}
