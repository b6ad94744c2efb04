/* SPDX-License-Identifier: MIT */
/* own: the daemon's own token and API key, and what waits for another one (own.h). */
#include "hub/own.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

struct own_token *own_ref(struct own_token *t)
{
	if (t)
		t->n_refs++;
	return t;
}

void own_unref(struct own_token *t)
{
	if (!t || --t->n_refs)
		return;
	secret_free(t->bytes);
	free(t);
}

bool own_is_for(const struct join *j)
{
	return j->hub->conf.has_own_token && join_is_own(j);
}

bool own_is_missing_for(const struct join *j)
{
	return own_is_for(j) && j->hub->park_own.lasts;
}

/* ---- none is in force ---- */

static const char no_token[] =
	"the daemon has got no token of its own yet; `rtbridge status` says what it waits for";
static const char has_ended[] =
	"the daemon's own token has ended, and no other has come; `rtbridge status` says why";

/* What waits waits for good: until hub_set_token(). In the words of who gets the token, if it has
 * any. */
static void close_gate(struct hub *hub, const char *code, const char *text)
{
	struct own *own = &hub->own;
	struct park *p = &hub->park_own;

	own_unref(own->token);
	own->token = NULL;
	timer_disarm(&hub->timers, &own->end_timer);
	own->has_ended = true;
	*p = (struct park){ .until_ms = UINT64_MAX, .lasts = true };
	snprintf(p->code, sizeof(p->code), "%s", code);
	hub_copy_text((struct rtbp_str){ text, strlen(text) }, p->text, sizeof(p->text));
}

/* Return: whether it has ended just now. */
static bool look(struct hub *hub)
{
	const struct own_token *t = hub->own.token;

	if (!t || clock_boot(hub->clock) < t->ends_boot_ms)
		return false;
	log_warning("the daemon's own token has ended; what needs it waits for another");
	close_gate(hub, "token_expired", has_ended);
	return true;
}

struct own_token *own_token(struct hub *hub)
{
	(void)look(hub);
	return hub->own.token;
}

bool own_is_missing_for_chan(const struct chan *ch)
{
	return !ch->identity && ch->hub->conf.has_own_token && !own_token(ch->hub);
}

static void arm_end(struct hub *hub)
{
	uint64_t now = clock_boot(hub->clock), left = hub->own.token->ends_boot_ms - now;

	timer_arm(&hub->timers, &hub->own.end_timer,
		  hub_now(hub) + (left < OWN_LOOK_MS ? left : OWN_LOOK_MS));
}

static void end_due(void *ctx)
{
	struct hub *hub = ctx;

	if (look(hub))
		joins_run(hub); /* those that wait learn why */
	else if (hub->own.token)
		arm_end(hub);
	hub_wake(hub);
}

int64_t own_next_ms(const struct hub *hub)
{
	uint64_t at = hub->own.status.next_try_boot_ms, now = clock_boot(hub->clock);

	if (!hub->park_own.lasts || !own_has_status(hub) || at == UINT64_MAX)
		return -1;
	return at > now ? (int64_t)(at - now) : 0;
}

/* ---- the server's word ---- */

void own_was_refused(struct hub *hub, uint64_t serial, const char *code, const char *text)
{
	const struct reason *reason = reason_of_code(code);
	struct own *own = &hub->own;
	char words[OWN_TEXT_MAX];

	if (!hub->conf.has_own_token || !own->token || own->token->serial != serial)
		return; /* known, or not about the one that is in force */
	snprintf(words, sizeof(words), "the daemon's own token was refused: %s; what to do: %s",
		 text, reason ? reason->advice : "look where it comes from");
	log_warning("%s; what needs it waits for another", words);
	own->tells = true;
	own->refused_serial = serial;
	snprintf(own->refused_code, sizeof(own->refused_code), "%s", code);
	snprintf(own->refused_text, sizeof(own->refused_text), "%s", text);
	close_gate(hub, code, words);
	hub_wake(hub);
}

void own_key_refused(struct hub *hub)
{
	if (hub->ops->key_refused)
		hub->ops->key_refused(hub->ctx);
}

/* ---- what an answer may quote ---- */

bool post_may_be_quoted(const struct post *post, struct rtbp_str s)
{
	const struct chan *ch = post->chan;
	const struct token *t = identity_find_token(ch->identity, post->token_number);
	const struct own_token *own = post->own;
	const struct secret *key = ch->hub->conf.apikey;

	if (post->key_serial != ch->hub->own.key_serial || (post->token_number && !t))
		return true;
	return memmem(s.p, s.size, secret_bytes(key), secret_size(key)) ||
	       (t && memmem(s.p, s.size, secret_bytes(t->bytes), secret_size(t->bytes))) ||
	       (own && memmem(s.p, s.size, secret_bytes(own->bytes), secret_size(own->bytes)));
}

/* ---- what was refused for want of another one ---- */

/* A refusal that another token, or key, may lift. */
static bool depends_on_token(const struct join *j)
{
	return join_is_refused_for_token(j) || strcmp(j->code, "unauthorized") == 0;
}

void joins_lift(struct hub *hub, const struct identity *of, bool all)
{
	struct join *j;

	RB_FOREACH(j, join_id_tree, &hub->joins) {
		if (j->state != JOIN_REJECTED || !j->ops->wanted(j))
			continue;
		if (all || (j->identity == of && !j->tries_token && depends_on_token(j)))
			join_retry(j);
	}
}

/* ---- another one ---- */

static void put_in_force(struct hub *hub, struct own_token *t)
{
	struct join *j;

	own_unref(hub->own.token);
	hub->own.token = t;
	arm_end(hub);
	/* One shows whether the server takes it. */
	hub->park_own = (struct park){ .until_ms = hub_now(hub) };
	verdicts_forget_identity(&hub->refused, 0);
	joins_lift(hub, NULL, false);
	RB_FOREACH(j, join_id_tree, &hub->joins)
		push_look(j);
	pushes_run(hub);
	joins_run(hub);
}

int hub_set_token(struct hub *hub, const struct secret *token, uint64_t serial, uint64_t lives_ms)
{
	uint64_t now = clock_boot(hub->clock);
	struct own_token *t;

	if (!hub->conf.has_own_token)
		return 0;
	if (!token || !lives_ms) {
		/* The server's word, if it was that, says more. */
		if (!hub->park_own.lasts)
			close_gate(hub, token ? "token_expired" : "token_missing",
				   token ? has_ended : no_token);
		joins_run(hub);
		hub_wake(hub);
		return 0;
	}
	t = calloc(1, sizeof(*t));
	if (t)
		t->bytes = secret_new(secret_bytes(token), secret_size(token));
	if (!t || !t->bytes) {
		free(t);
		return -ENOMEM;
	}
	t->n_refs = 1;
	t->serial = serial;
	t->ends_boot_ms = lives_ms < UINT64_MAX - now ? now + lives_ms : UINT64_MAX;
	put_in_force(hub, t);
	hub_wake(hub);
	return 0;
}

static const char another_key[] = "the API key has been replaced";

void hub_set_apikey(struct hub *hub, const struct secret *apikey)
{
	enum session_state state;
	struct session *s;

	hub->conf.apikey = apikey;
	hub->own.key_serial++;
	if (!hub->conf.has_own_token) {
		verdicts_forget_identity(&hub->refused, 0);
		if (hub->park_own.until_ms)
			hub->park_own = (struct park){ .until_ms = hub_now(hub) };
		joins_lift(hub, NULL, false);
	}
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		s = hub->links[i].session;
		state = s ? session_get_state(s) : SESSION_IDLE;
		/* An attempt that is under way has the old one. */
		if (state == SESSION_BACKOFF || state == SESSION_CONNECTING)
			session_reconnect(s, SESSION_FAULT_AUTH, another_key);
	}
	joins_run(hub);
	hub_wake(hub);
}

/* ---- at the turn's end ---- */

/* Those whose code has become another one. By number: what they are told may be the end of
 * others. */
static void tell_waiting(struct hub *hub)
{
	struct join next = { .id = 0 }, *j;

	if (!hub->own.has_news)
		return;
	hub->own.has_news = false;
	while ((j = RB_NFIND(join_id_tree, &hub->joins, &next))) {
		next.id = j->id + 1;
		if (!j->has_news)
			continue;
		j->has_news = false;
		if (j->state == JOIN_WAITING)
			j->ops->changed(j);
	}
}

void own_run(struct hub *hub)
{
	struct own *own = &hub->own;

	if (!hub->conf.has_own_token)
		return;
	if (look(hub))
		joins_run(hub);
	if (own->has_ended)
		probation_without_own(hub);
	own->has_ended = false;
	tell_waiting(hub);
	if (own->tells && hub->ops->token_refused)
		hub->ops->token_refused(hub->ctx, own->refused_serial, own->refused_code,
					own->refused_text);
	own->tells = false;
}

void own_init(struct hub *hub)
{
	timer_init(&hub->own.end_timer, end_due, hub);
	TAILQ_INIT(&hub->own.refreshes);
	hub->own.status.next_try_boot_ms = UINT64_MAX;
	if (hub->conf.has_own_token)
		close_gate(hub, "token_missing", no_token);
}

void own_done(struct hub *hub)
{
	for (unsigned i = 0; i < POSTS_MAX; i++)
		own_unref(hub->posts[i].own);
	own_unref(hub->own.token);
}
