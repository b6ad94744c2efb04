/* SPDX-License-Identifier: MIT */
/* Tokens: what the daemon is told, and what it answers. */
#include "libclient/token.h"

#include <errno.h>
#include <string.h>

#include "libclient/client.h"

enum { ROOM = 64 }; /* what stands around a token in a message, its topic apart, and more */

static struct rtbc_token *general(const struct rtb_client *c)
{
	return TAILQ_FIRST(&c->tokens);
}

/* ---- saying ---- */

uint32_t rtbc_token_in_hello(const struct rtb_client *c)
{
	const struct rtbc_token_wish *wish = general(c)->next;

	return wish && wish->size ? 1 : 0;
}

/* The bytes go into room that is there already: a queue that grew behind them would leave a copy in
 * the memory that it gives back. */
static void pack_token(struct rtb_client *c, const struct rtbc_token_wish *wish)
{
	if (!rtbp_buf_room(&c->out, wish->size + ROOM))
		return;
	c->out_has_token = true;
	rtbp_pack_field(&c->out, RTBP_F_TOKEN);
	rtbp_pack_str(&c->out, wish->bytes, wish->size);
}

void rtbc_token_pack_hello(struct rtb_client *c)
{
	if (rtbc_token_in_hello(c))
		pack_token(c, general(c)->next);
}

void rtbc_token_hello_sent(struct rtb_client *c)
{
	struct rtbc_token *token = general(c);

	token->asking = token->next;
	token->next = NULL;
}

/* Return: 0, RTB_E_BUSY, RTB_E_TOO_BIG, -ENOMEM. */
static int send_auth(struct rtb_client *c, struct rtbc_token *token)
{
	struct rtbc_pending *p;
	size_t begin;
	int64_t id;
	int r;

	p = rtbc_request_begin(c, RTBP_M_AUTH, RTBC_AUTH, &begin, &r);
	if (!p)
		return r;
	p->user = token;
	rtbp_pack_map(&c->out, token->name[0] ? 2 : 1);
	if (token->name[0])
		rtbp_pack_field_text(&c->out, RTBP_F_TOPIC, token->name);
	if (token->next->size) {
		pack_token(c, token->next);
	} else {
		rtbp_pack_field(&c->out, RTBP_F_TOKEN);
		rtbp_pack_nil(&c->out);
	}
	id = rtbc_request_end(c, p, begin);
	if (id < 0)
		return (int)id;
	token->asking = token->next;
	token->next = NULL;
	rtbc_write(c); /* nothing else may be queued before it has left */
	return 0;
}

/* What was asked for in `asking` is not taken. */
static void refuse(struct rtb_client *c, struct rtbc_token *token, int error, const char *text)
{
	struct rtbc_token_wish *wish = token->asking;

	token->asking = NULL;
	rtbc_token_tell(c, wish, error, text);
	c->is_token_due = true;
	if (token->holds || token->next || !wish->size) {
		rtbc_token_drop(wish);
	} else {
		rtbc_token_drop(token->refused);
		token->refused = wish;
		rtbc_copy(token->refused_text, sizeof(token->refused_text),
			  (struct rtbp_str){ text, strlen(text) });
	}
	rtbc_revive(c, token, false);
}

int rtbc_tokens_flush(struct rtb_client *c)
{
	struct rtbc_token *token;
	int r;

	if (!c->is_token_due)
		return 0;
	TAILQ_FOREACH(token, &c->tokens, link) {
		if (!token->next || token->asking || token->say_at >= 0)
			continue;
		r = send_auth(c, token);
		if (r == RTB_E_TOO_BIG) {
			/* The daemon's frames are configured smaller than a token may be. */
			token->asking = token->next;
			token->next = NULL;
			refuse(c, token, r, c->error_text);
		} else if (r < 0) {
			return r;
		}
	}
	c->is_token_due = false;
	return 0;
}

void rtbc_tokens_tick(struct rtb_client *c, int64_t now_ms)
{
	struct rtbc_token *token;
	int64_t next = -1;

	TAILQ_FOREACH(token, &c->tokens, link) {
		if (rtbc_is_due(&token->say_at, now_ms, &next))
			c->is_token_due = true;
	}
	if (next >= 0)
		rtbc_kick(c, next - now_ms);
}

/* ---- attachment ---- */

/* The first that is there is kept, the others were meant to be replaced by it. */
static void keep_newest(struct rtb_client *c, struct rtbc_token *token)
{
	struct rtbc_token_wish **all[] = { &token->next, &token->asking, &token->refused,
					   &token->holds };
	struct rtbc_token_wish *newest = NULL;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (!newest) {
			newest = *all[i];
		} else if (*all[i]) {
			rtbc_token_tell(c, *all[i], -ECANCELED, "a later token came before it");
			rtbc_token_drop(*all[i]);
		}
		*all[i] = NULL;
	}
	token->next = newest;
	token->say_at = -1;
}

void rtbc_tokens_on_detach(struct rtb_client *c)
{
	struct rtbc_token *token;

	TAILQ_FOREACH(token, &c->tokens, link)
		keep_newest(c, token);
	c->is_token_due = true;
}

int rtbc_tokens_check_hello(struct rtb_client *c, struct rtbp_val result)
{
	const struct rtbc_token *token;
	bool is_used = false;

	TAILQ_FOREACH(token, &c->tokens, link)
		is_used = is_used || (token->next && token->next->size) ||
			  (token->asking && token->asking->size);
	if (!is_used || rtbc_has_feature(result, rtbp_method_name(RTBP_M_AUTH)))
		return 0;
	return rtbc_fail(c, RTB_E_TOKEN, "the daemon on %s does not take tokens of its clients",
			 c->path);
}

static void hold(struct rtb_client *c, struct rtbc_token *token)
{
	rtbc_token_drop(token->holds);
	rtbc_token_drop(token->refused);
	token->holds = token->asking;
	token->asking = token->refused = NULL;
	if (!token->holds->size) {
		rtbc_token_drop(token->holds);
		token->holds = NULL;
	}
	c->is_token_due = true;
}

static void taken(struct rtb_client *c, struct rtbc_token *token, struct rtbp_val result)
{
	enum rtb_token_state state = RTB_TOKEN_UNPROVEN;
	struct rtbp_str word = { NULL, 0 };
	int64_t expires = -1;

	(void)rtbp_get_str(rtbp_field(result, RTBP_F_STATE), &word);
	(void)rtbp_get_int(rtbp_field(result, RTBP_F_EXPIRES), &expires);
	if (!token->asking->size)
		state = RTB_TOKEN_CLEARED;
	else if (rtbp_str_is(word, "accepted"))
		state = RTB_TOKEN_ACCEPTED;
	rtbc_token_tell_state(c, token->asking, state, state == RTB_TOKEN_CLEARED ? -1 : expires);
	hold(c, token);
}

/* A fresh connection has no tokens: where none is wished for, nothing needs to be said. */
static void clear_unsaid(struct rtb_client *c)
{
	struct rtbc_token *token, *next;

	for (token = TAILQ_NEXT(general(c), link); token; token = next) {
		next = TAILQ_NEXT(token, link);
		if (!token->next || token->next->size)
			continue;
		rtbc_token_tell_state(c, token->next, RTB_TOKEN_CLEARED, -1);
		rtbc_token_drop(token->next);
		token->next = NULL;
		rtbc_token_reap(c, token);
	}
}

void rtbc_tokens_on_hello(struct rtb_client *c, struct rtbp_val result)
{
	struct rtbp_val said = rtbp_field(result, RTBP_F_TOKEN);
	struct rtbc_token *token = general(c);
	struct rtbp_str state = { NULL, 0 };

	(void)rtbp_get_str(rtbp_field(said, RTBP_F_STATE), &state);
	if (token->asking && token->asking->told && !token->next && rtbp_str_is(state, "pending")) {
		/* The answer to hello does not wait for the server; that to `auth` does. */
		token->next = token->asking;
		token->asking = NULL;
	} else if (token->asking) {
		taken(c, token, said);
	}
	clear_unsaid(c);
	c->is_token_due = true;
}

static void tell_event(struct rtb_client *c, const char *topic, const char *code, const char *text)
{
	struct rtb_token_event event = { *topic ? topic : NULL, code, text };

	if (!c->handlers.token)
		return;
	rtbc_enter(c);
	c->handlers.token(c, &event, c->user);
	rtbc_leave(c);
}

int rtbc_token_hello_refused(struct rtb_client *c, const struct rtbp_error_info *e)
{
	struct rtbc_token *token = general(c);
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];

	if (e->code != RTBP_E_BAD_TOKEN || !token->asking || !token->asking->size)
		return 0;
	rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	(void)rtbc_fail(c, 0, "the daemon refused the token: %s", text);
	rtbc_token_tell(c, token->asking, RTB_E_TOKEN, text);
	/* The connection is not kept for a token that nobody knows when it comes. */
	c->waits_for_token = !token->next;
	rtbc_detach(c, RTB_E_TOKEN, false);
	/* The state callback may have set one. */
	if (c->waits_for_token)
		tell_event(c, "", code, text);
	rtbc_tokens_report(c);
	return 1;
}

/* ---- answers ---- */

void rtbc_on_token_answer(struct rtb_client *c, struct rtbc_token *token, struct rtbp_val result)
{
	taken(c, token, result);
	token->serial = ++c->n_tokens_taken;
	rtbc_revive(c, token, true);
	rtbc_tokens_report(c);
	rtbc_token_reap(c, token);
}

/* Not decided, and nothing else is in force: the wish stays, and is said again. */
static void say_later(struct rtb_client *c, struct rtbc_token *token,
		      const struct rtbp_error_info *e)
{
	int64_t wait_ms = RTBC_TOKEN_AGAIN_MS;

	if (e->has_retry_after && e->retry_after_ms > (uint64_t)wait_ms)
		wait_ms = e->retry_after_ms < RTBC_TOKEN_MOST_MS ? (int64_t)e->retry_after_ms
								 : RTBC_TOKEN_MOST_MS;
	token->next = token->asking;
	token->asking = NULL;
	token->say_at = rtbc_now_ms() + wait_ms;
	rtbc_kick(c, wait_ms);
}

void rtbc_on_token_error(struct rtb_client *c, struct rtbc_token *token,
			 const struct rtbp_error_info *e)
{
	bool is_told = !token->asking->told && !token->holds && !token->next;
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX], name[RTBP_TOPIC_MAX + 1];

	rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	rtbc_copy(name, sizeof(name), (struct rtbp_str){ token->name, strlen(token->name) });
	if (e->code < 200 && !token->holds && !token->next) {
		rtbc_token_tell(c, token->asking, rtbc_error_of(e), text);
		say_later(c, token, e);
	} else {
		refuse(c, token, rtbc_error_of(e), text);
		/* Said again by us, at a new attachment: nobody waits for that answer. */
		if (is_told)
			tell_event(c, name, code, text);
	}
	rtbc_tokens_report(c);
	rtbc_token_reap(c, token);
}

bool rtbc_on_token_ended(struct rtb_client *c, struct rtbp_val params,
			 const struct rtbp_error_info *e)
{
	struct rtbp_str method = { NULL, 0 };
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX], name[RTBP_TOPIC_MAX + 1];
	const struct rtbc_token *token;

	(void)rtbp_get_str(rtbp_field(params, RTBP_F_METHOD), &method);
	if (!rtbp_str_is(method, rtbp_method_name(RTBP_M_AUTH)) || !c->handlers.token)
		return false;
	rtbc_get_text(params, RTBP_F_TOPIC, name, sizeof(name));
	rtbc_get_text(params, RTBP_F_CODE, code, sizeof(code));
	if (!code[0]) /* a daemon that gives no reason */
		rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	TAILQ_FOREACH(token, &c->tokens, link)
		if (strcmp(token->name, name) == 0 && (token->next || token->asking))
			return true; /* the next one is on its way */
	tell_event(c, name, code, text);
	return true;
}
