/* SPDX-License-Identifier: MIT */
/*
 * auth: the tokens that peers bring, and what ends with them. A grant is one token of one peer, for
 * all topics or for a single one.
 *
 *   hello.token, auth --> pending (TOKEN_WAITING) --accepted--> in force --its end, refusal--> ended
 *                   \------- any other token ---------------------^
 *     pending: refused --> an `auth` fails, a hello's is ended
 *     ended:   what needs it is answered bad_token, until the next `auth`
 *
 * A pending `auth` leaves the grant before it in force: a new token that is refused touches
 * nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"
#include "hub/impl.h"

/* ---- finding ---- */

static struct grant *find_exact(struct peer *p, struct rtbp_str topic)
{
	struct grant *g;

	TAILQ_FOREACH(g, &p->grants, in_peer) {
		if (g->topic ? rtbp_str_is(topic, g->topic) : topic.p == NULL)
			return g;
	}
	return NULL;
}

static struct grant *find_for(struct peer *p, struct rtbp_str topic)
{
	struct grant *g = topic.p ? find_exact(p, topic) : NULL;

	return g ? g : find_exact(p, (struct rtbp_str){ NULL, 0 });
}

int peer_identity(struct peer *p, struct rtbp_str topic, struct identity **ret,
		  const char **ret_text)
{
	struct grant *g = find_for(p, topic);

	*ret = NULL;
	if (g && !g->token) {
		*ret_text = g->text;
		return RTBP_E_BAD_TOKEN;
	}
	if (g)
		*ret = g->token->identity;
	else if (access_needs_token(p)) {
		*ret_text = "this user may act with a token of its own only, and gave none";
		return RTBP_E_FORBIDDEN;
	}
	return 0;
}

/* ---- telling ---- */

static struct rtbp_str scope_of(const struct grant *g)
{
	return (struct rtbp_str){ g->topic, g->topic ? strlen(g->topic) : 0 };
}

static void tell_end(const struct grant *g)
{
	struct rtbp_buf *b = hub_scratch(g->peer->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_ERROR);

	rtbp_pack_map(b, g->topic ? 4 : 3);
	rtbp_pack_field_text(b, RTBP_F_METHOD, rtbp_method_name(RTBP_M_AUTH));
	if (g->topic)
		rtbp_pack_field_text(b, RTBP_F_TOPIC, g->topic);
	rtbp_pack_field_text(b, RTBP_F_CODE, g->code);
	rtbp_pack_field(b, RTBP_F_ERROR);
	rtbp_pack_error(b, RTBP_E_BAD_TOKEN, g->text, -1);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(g->peer);
}

/* Two members. */
static void pack_members(const struct token *t, struct rtbp_buf *b)
{
	rtbp_pack_field_text(b, RTBP_F_STATE, token_state_name(t));
	rtbp_pack_field_uint(b, RTBP_F_EXPIRES, (uint64_t)t->jwt.exp_s);
}

void auth_pack(const struct grant *g, struct rtbp_buf *b)
{
	rtbp_pack_field(b, RTBP_F_TOKEN);
	rtbp_pack_map(b, 2);
	pack_members(g->token, b);
}

static void answer(struct grant *g)
{
	struct peer *p = g->peer;
	struct rtbp_buf *b;
	size_t begin;

	if (g->request.wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, g->request.id);
		rtbp_pack_map(b, 2);
		pack_members(g->token, b);
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
	g->waiting = false;
	peer_request_done(p, &g->request);
}

static void answer_error(struct grant *g, enum rtbp_error code, const char *text)
{
	peer_answer_error(g->peer, &g->request, RTBP_M_AUTH, code, text, -1);
	g->waiting = false;
	peer_request_done(g->peer, &g->request);
}

/* ---- what hangs on a grant ---- */

struct scope {
	const struct grant *grant;
	const struct identity *keep;
	bool all; /* whoever it is of, `keep` too */
};

static bool is_in_scope(struct peer *p, const struct chan *ch, unsigned rights, const void *ctx)
{
	const struct scope *s = ctx;

	(void)rights;
	return find_for(p, ch->topic) == s->grant && (s->all || ch->identity != s->keep);
}

/* Subscriptions, presences and queued sends of the grant's scope, but for those of `keep`, end. The
 * scope is what peer_identity() makes of it at this moment. */
static void end_scope(struct peer *p, const struct grant *g, const struct identity *keep, bool all,
		      const char *code, const char *text)
{
	struct scope scope = { g, keep, all };

	ends_apply(p, is_in_scope, &scope, RTBP_E_BAD_TOKEN, code, text);
}

static void drop_token(struct grant *g)
{
	struct token *t = g->token;

	timer_disarm(&g->peer->hub->timers, &g->timer);
	g->token = NULL;
	if (!t)
		return;
	TAILQ_REMOVE(&t->grants, g, in_token);
	t->n_grants--;
	token_check(t);
}

static void grant_free(struct grant *g)
{
	drop_token(g);
	if (g->waiting)
		peer_request_done(g->peer, &g->request);
	free(g->topic);
	free(g);
}

static void grant_end(struct grant *g, const char *code, const char *text)
{
	struct peer *p = g->peer;

	snprintf(g->code, sizeof(g->code), "%s", code);
	snprintf(g->text, sizeof(g->text), "%s", text);
	if (p->state == PEER_READY)
		tell_end(g);
	drop_token(g);
	end_scope(p, g, NULL, true, code, g->text);
}

/* The end of a token is a moment of the wall clock, which may be set. */
static void watch(struct grant *g)
{
	struct hub *hub = g->peer->hub;
	int64_t left_ms = g->token->jwt.exp_s * 1000 - clock_wall(hub->clock);
	uint64_t ms = left_ms <= 0 ? 0 : (uint64_t)left_ms, at;

	at = hub_now(hub) + (ms < EXPIRY_LOOK_MS ? ms : EXPIRY_LOOK_MS);
	if (g->waiting && g->deadline_ms < at)
		at = g->deadline_ms;
	timer_arm(&hub->timers, &g->timer, at);
}

static const char expired[] = "the token that this client gave has expired";

/* A pending one will not be decided any more: what was in force stays, if anything was. */
static void give_up(struct grant *g, enum rtbp_error error, const char *code, const char *text)
{
	struct peer *p = g->peer;

	p->pending = NULL;
	if (g->waiting) {
		answer_error(g, error, text);
		grant_free(g);
	} else {
		TAILQ_INSERT_HEAD(&p->grants, g, in_peer);
		p->n_grants++;
		grant_end(g, code, text);
	}
	held_release(p);
}

static void grant_timer_due(void *ctx)
{
	struct grant *g = ctx;
	struct hub *hub = g->peer->hub;
	bool is_pending = g->peer->pending == g, is_over = g->token->jwt.exp_s <= hub_wall_s(hub);

	if (is_pending && is_over)
		give_up(g, RTBP_E_BAD_TOKEN, "token_expired", expired);
	else if (is_pending && g->waiting && hub_now(hub) >= g->deadline_ms)
		give_up(g, RTBP_E_TIMEOUT, "",
			"the server did not say in time whether it takes the token");
	else if (is_over)
		grant_end(g, "token_expired", expired);
	else
		watch(g);
	tokens_look(hub); /* one that is only kept has no timer, and ends, too */
}

/* ---- in force ---- */

static void put_in_force(struct grant *g)
{
	struct peer *p = g->peer;
	struct grant *old = find_exact(p, scope_of(g));

	timer_disarm(&p->hub->timers, &g->timer);
	TAILQ_INSERT_HEAD(&p->grants, g, in_peer);
	p->n_grants++;
	if (old) {
		TAILQ_REMOVE(&p->grants, old, in_peer);
		p->n_grants--;
	}
	if (g->waiting)
		answer(g);
	watch(g);
	/* Behind the answer: so it is clear what the end of these comes from. */
	end_scope(p, g, g->token->identity, false, "token_replaced",
		  "this client's token was replaced by one of another identity");
	if (old)
		grant_free(old); /* with it the old token may go */
}

static struct grant *grant_new(struct peer *p, struct token *t, struct rtbp_str topic)
{
	struct grant *g = calloc(1, sizeof(*g));

	if (g && topic.p)
		g->topic = strndup(topic.p, topic.size);
	if (!g || (topic.p && !g->topic)) {
		free(g);
		return NULL;
	}
	g->peer = p;
	g->token = t;
	timer_init(&g->timer, grant_timer_due, g);
	TAILQ_INSERT_TAIL(&t->grants, g, in_token);
	t->n_grants++;
	return g;
}

/* The token of a pending grant is known to be one of an identity, or to be refused. */
static void decide(struct grant *g)
{
	struct token *t = g->token;
	struct peer *p = g->peer;

	if (t->state == TOKEN_REFUSED) {
		give_up(g, RTBP_E_BAD_TOKEN, t->code, t->text);
		return;
	}
	p->pending = NULL;
	put_in_force(g);
	held_release(p);
}

/* Carrying out what was held may end any other grant: so looked for anew each time. */
static struct grant *next_to_tell(const struct token *t)
{
	struct grant *g;

	TAILQ_FOREACH(g, &t->grants, in_token) {
		if (t->state == TOKEN_REFUSED || g->peer->pending == g)
			return g;
	}
	return NULL;
}

void auth_run(struct hub *hub)
{
	struct grant *g;
	struct token *t;

	while ((t = TAILQ_FIRST(&hub->tokens_with_news))) {
		TAILQ_REMOVE(&hub->tokens_with_news, t, in_news);
		t->has_news = false;
		t->n_grants++; /* stays until all have been told */
		while ((g = next_to_tell(t))) {
			if (g->peer->pending == g)
				decide(g);
			else
				grant_end(g, t->code, t->text);
		}
		t->n_grants--;
		token_check(t);
	}
}

/* ---- requests ---- */

/* Return: the grant, in force or pending; NULL: *ret_code and `text` say why not. */
static struct grant *take(struct peer *p, struct rtbp_str bytes, struct rtbp_str topic,
			  enum rtbp_error *ret_code, char *text, size_t size)
{
	struct token *t = NULL;
	struct grant *g;
	int r;

	*ret_code = RTBP_E_TOO_MANY;
	snprintf(text, size, "this client has tokens for as many topics as it may");
	if (p->n_grants >= GRANTS_MAX && !find_exact(p, topic))
		return NULL;
	r = token_get(p->hub, bytes, p->cred.uid, &t, text, size);
	if (r) {
		*ret_code = (enum rtbp_error)r;
		return NULL;
	}
	g = grant_new(p, t, topic);
	if (!g) {
		token_check(t);
		*ret_code = RTBP_E_BUSY;
		snprintf(text, size, "no memory");
	}
	return g;
}

bool auth_hello(struct peer *p, uint32_t id, struct rtbp_val token, struct grant **ret)
{
	struct request now = { .id = id, .wants_answer = true };
	char text[AUTH_TEXT_MAX];
	struct rtbp_str bytes;
	enum rtbp_error code;

	*ret = NULL;
	if (!token.p || rtbp_is(token, RTBP_NIL))
		return true;
	if (!rtbp_get_str(token, &bytes)) {
		peer_answer_error(p, &now, RTBP_M_HELLO, RTBP_E_BAD_REQUEST, "token is a string",
				  -1);
		return false;
	}
	*ret = take(p, bytes, (struct rtbp_str){ NULL, 0 }, &code, text, sizeof(text));
	if (!*ret) {
		peer_answer_error(p, &now, RTBP_M_HELLO, code, text, -1);
		return false;
	}
	if ((*ret)->token->state == TOKEN_WAITING) {
		p->pending = *ret;
		watch(*ret);
	} else {
		put_in_force(*ret);
	}
	return true;
}

static void clear(struct peer *p, const struct request *r, struct rtbp_str topic)
{
	struct grant *g = find_exact(p, topic);
	struct rtbp_buf *b;
	size_t begin;

	if (r->wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, r->id);
		rtbp_pack_map(b, 1);
		rtbp_pack_field_text(b, RTBP_F_STATE, "cleared");
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
	if (!g)
		return;
	end_scope(p, g, NULL, true, "token_cleared", "this client took its token back");
	TAILQ_REMOVE(&p->grants, g, in_peer);
	p->n_grants--;
	grant_free(g);
}

/* The scope: a topic by name or by the chan of something of this peer's; p NULL: all. */
static const char *read_scope(struct peer *p, struct rtbp_val params, struct rtbp_str *ret,
			      enum rtbp_error *code)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_TOPIC);
	struct chan *ch;
	uint64_t number;

	*ret = (struct rtbp_str){ NULL, 0 };
	*code = RTBP_E_BAD_REQUEST;
	if (rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &number)) {
		ch = chan_find_number(p->hub, number);
		*code = RTBP_E_NOT_SUBSCRIBED;
		if (!ch || (!sub_find(p, number) && !tracker_find(p, ch)))
			return "this client has no subscription with this chan";
		*ret = ch->topic;
		return NULL;
	}
	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_get_str(v, ret))
		return "topic is a string";
	*code = RTBP_E_BAD_TOPIC;
	return rtbp_topic_ok(*ret) ? NULL : rtbp_error_sentence(RTBP_E_BAD_TOPIC);
}

static void auth_wait(struct grant *g, const struct request *r, uint64_t timeout_ms)
{
	struct peer *p = g->peer;

	peer_request_add(p, &g->request, REQUEST_AUTH, r->id, r->wants_answer);
	g->waiting = true;
	if (g->token->state != TOKEN_WAITING) {
		put_in_force(g);
		return;
	}
	p->pending = g;
	g->deadline_ms = hub_now(p->hub) + peer_time_left(p, timeout_ms);
	watch(g);
}

void auth_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct rtbp_val token = rtbp_field(params, RTBP_F_TOKEN),
			v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	uint64_t timeout_ms = AUTH_TIMEOUT_MS;
	struct rtbp_str topic, bytes;
	char room[AUTH_TEXT_MAX];
	enum rtbp_error code;
	struct grant *g;
	const char *text = read_scope(p, params, &topic, &code);

	if (!text && v.p && (!rtbp_get_uint(v, &timeout_ms) || timeout_ms > AUTH_TIMEOUT_MAX_MS)) {
		code = RTBP_E_BAD_REQUEST;
		text = "timeout_ms is an integer from 0 to 300000";
	}
	if (!text && !rtbp_is(token, RTBP_NIL) && !rtbp_get_str(token, &bytes)) {
		code = RTBP_E_BAD_REQUEST;
		text = "token is a string, or nil";
	}
	if (text) {
		peer_answer_error(p, &now, RTBP_M_AUTH, code, text, -1);
		return;
	}
	if (rtbp_is(token, RTBP_NIL)) {
		clear(p, &now, topic);
		return;
	}
	g = take(p, bytes, topic, &code, room, sizeof(room));
	if (g)
		auth_wait(g, &now, timeout_ms);
	else
		peer_answer_error(p, &now, RTBP_M_AUTH, code, room, -1);
}

void auth_forget_peer(struct peer *p)
{
	struct grant *g = p->pending;

	p->pending = NULL;
	if (g)
		grant_free(g);
	while ((g = TAILQ_FIRST(&p->grants))) {
		TAILQ_REMOVE(&p->grants, g, in_peer);
		grant_free(g);
	}
	p->n_grants = 0;
}
