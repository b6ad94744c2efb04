/* SPDX-License-Identifier: MIT */
/* Tokens: keeping, setting, telling what became of them. */
#include "libclient/token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

/* ---- slots and wishes ---- */

static struct rtbc_token *slot_new(const char *name)
{
	struct rtbc_token *token = calloc(1, sizeof(*token) + strlen(name) + 1);

	if (!token)
		return NULL;
	token->say_at = -1;
	(void)strcpy(token->name, name);
	return token;
}

static struct rtbc_token *slot_find(const struct rtb_client *c, const char *name)
{
	struct rtbc_token *token;

	TAILQ_FOREACH(token, &c->tokens, link)
		if (strcmp(token->name, name) == 0)
			break;
	return token;
}

void rtbc_token_drop(struct rtbc_token_wish *wish)
{
	if (!wish)
		return;
	explicit_bzero(wish->bytes, wish->size);
	free(wish->told);
	free(wish);
}

static void slot_free(struct rtb_client *c, struct rtbc_token *token)
{
	TAILQ_REMOVE(&c->tokens, token, link);
	rtbc_token_drop(token->next);
	rtbc_token_drop(token->asking);
	rtbc_token_drop(token->holds);
	rtbc_token_drop(token->refused);
	free(token);
}

void rtbc_token_reap(struct rtb_client *c, struct rtbc_token *token)
{
	bool is_empty = !token->next && !token->asking && !token->holds && !token->refused;

	if (is_empty && token->name[0])
		slot_free(c, token);
}

/* What stands in base64url, and the dots between: all else would only be refused later. */
static bool is_token(const char *token)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789-_.";
	size_t size = strlen(token);

	return size > 0 && size <= RTBP_TOKEN_MAX && strspn(token, letters) == size;
}

/* `token` NULL: clears. NULL without memory. */
static struct rtbc_token_wish *wish_new(const char *name, const char *token, rtb_token_fn fn,
					void *user)
{
	size_t size = token ? strlen(token) : 0;
	struct rtbc_token_wish *wish = calloc(1, sizeof(*wish) + size);
	struct rtbc_token_told *told = NULL;

	if (wish && fn) {
		told = calloc(1, sizeof(*told) + strlen(name) + 1);
		if (!told) {
			free(wish);
			return NULL;
		}
		told->fn = fn;
		told->user = user;
		(void)strcpy(told->name, name);
	}
	if (!wish)
		return NULL;
	wish->told = told;
	wish->size = size;
	if (size)
		memcpy(wish->bytes, token, size);
	return wish;
}

int rtbc_tokens_init(struct rtb_client *c, const char *token)
{
	struct rtbc_token *slot;

	if (token && !is_token(token))
		return RTB_E_TOKEN;
	slot = slot_new("");
	if (!slot)
		return -ENOMEM;
	TAILQ_INSERT_HEAD(&c->tokens, slot, link);
	if (!token)
		return 0;
	slot->next = wish_new("", token, NULL, NULL);
	return slot->next ? 0 : -ENOMEM;
}

void rtbc_tokens_free(struct rtb_client *c)
{
	struct rtbc_token_told *told;
	struct rtbc_token *token;

	while ((token = TAILQ_FIRST(&c->tokens)))
		slot_free(c, token);
	while ((told = TAILQ_FIRST(&c->tokens_told))) {
		TAILQ_REMOVE(&c->tokens_told, told, link);
		free(told);
	}
}

/* ---- what depends on them ---- */

static bool has_bytes(const struct rtbc_token_wish *wish)
{
	return wish && wish->size > 0;
}

static bool is_used(const struct rtbc_token *token)
{
	return has_bytes(token->next) || has_bytes(token->asking) || token->holds || token->refused;
}

static const struct rtbc_token *governor(const struct rtb_client *c, const char *topic)
{
	const struct rtbc_token *own = *topic ? slot_find(c, topic) : NULL;

	return own && is_used(own) ? own : TAILQ_FIRST(&c->tokens);
}

bool rtbc_token_governs(const struct rtb_client *c, const struct rtbc_token *token,
			const char *topic)
{
	return strcmp(token->name, topic) == 0 || governor(c, topic) == token;
}

uint64_t rtbc_token_serial(const struct rtb_client *c, const char *topic)
{
	return governor(c, topic)->serial;
}

enum rtbc_gate rtbc_token_gate(const struct rtb_client *c, const char *topic, const char **ret_text)
{
	const struct rtbc_token *token = governor(c, topic);

	*ret_text = "";
	if (token->holds)
		return RTBC_GATE_OPEN;
	if (has_bytes(token->asking) || has_bytes(token->next))
		return RTBC_GATE_WAIT;
	/* To clear it is on its way: the daemon's identity is what is wished for. */
	if (!token->refused || token->asking || token->next)
		return RTBC_GATE_OPEN;
	*ret_text = token->refused_text;
	return RTBC_GATE_REFUSED;
}

static bool is_bad_token(const char *code)
{
	return strncmp(code, "token_", strlen("token_")) == 0 ||
	       strcmp(code, rtbp_error_name(RTBP_E_BAD_TOKEN)) == 0;
}

bool rtbc_is_forbidden(const char *code)
{
	return strcmp(code, rtbp_error_name(RTBP_E_FORBIDDEN)) == 0;
}

bool rtbc_is_token_code(const char *code)
{
	return is_bad_token(code) || rtbc_is_forbidden(code);
}

int rtbc_refused_error(const char *code)
{
	if (rtbc_is_forbidden(code))
		return RTB_E_FORBIDDEN;
	return is_bad_token(code) ? RTB_E_TOKEN : RTB_E_REFUSED;
}

/* ---- telling ---- */

static struct rtbc_token_told *end_wait(struct rtb_client *c, struct rtbc_token_wish *wish)
{
	struct rtbc_token_told *told = wish->told;

	if (!told)
		return NULL;
	wish->told = NULL;
	told->expires = -1;
	TAILQ_INSERT_TAIL(&c->tokens_told, told, link);
	rtbc_kick(c, 0);
	return told;
}

void rtbc_token_tell(struct rtb_client *c, struct rtbc_token_wish *wish, int error,
		     const char *text)
{
	struct rtbc_token_told *told = end_wait(c, wish);

	if (!told)
		return;
	told->error = error;
	rtbc_copy(told->text, sizeof(told->text), (struct rtbp_str){ text, strlen(text) });
}

void rtbc_token_tell_state(struct rtb_client *c, struct rtbc_token_wish *wish,
			   enum rtb_token_state state, int64_t expires)
{
	struct rtbc_token_told *told = end_wait(c, wish);

	if (!told)
		return;
	told->state = state;
	told->expires = expires;
}

/* What callbacks add stands behind `last`, and is told by the next call: one that sets a token
 * whenever it is told of one would go on for ever. */
void rtbc_tokens_report(struct rtb_client *c)
{
	const struct rtbc_token_told *last = TAILQ_LAST(&c->tokens_told, rtbc_token_told_list);
	struct rtbc_token_told *told;
	bool is_last = !last;

	while (!is_last) {
		told = TAILQ_FIRST(&c->tokens_told);
		is_last = told == last;
		TAILQ_REMOVE(&c->tokens_told, told, link);
		if (told->fn) {
			struct rtb_token_result result = { told->error, told->state, told->expires,
							   told->text };

			rtbc_enter(c);
			told->fn(c, told->name[0] ? told->name : NULL, &result, told->user);
			rtbc_leave(c);
		}
		free(told);
	}
}

static void forget_in(const struct rtbc_token_wish *wish, rtb_token_fn fn, const void *user)
{
	if (wish && wish->told && wish->told->fn == fn && wish->told->user == user)
		wish->told->fn = NULL;
}

void rtbc_token_forget(struct rtb_client *c, rtb_token_fn fn, const void *user)
{
	struct rtbc_token_told *told;
	const struct rtbc_token *token;

	TAILQ_FOREACH(token, &c->tokens, link) {
		forget_in(token->next, fn, user);
		forget_in(token->asking, fn, user);
	}
	TAILQ_FOREACH(told, &c->tokens_told, link)
		if (told->fn == fn && told->user == user)
			told->fn = NULL;
}

/* ---- setting ---- */

/* Nothing can fail from here on. */
static void set_next(struct rtb_client *c, struct rtbc_token *token, struct rtbc_token_wish *wish)
{
	if (token->next) {
		rtbc_token_tell(c, token->next, -ECANCELED, "a later token came before it");
		rtbc_token_drop(token->next);
	}
	token->next = wish;
	token->say_at = -1;
	c->is_token_due = true;
	if (!token->name[0] && c->waits_for_token) {
		c->waits_for_token = false;
		c->attach_at = rtbc_now_ms();
		rtbc_kick(c, 0);
	}
	rtbc_flush_now(c);
}

int rtb_set_token(struct rtb_client *c, const char *topic, const char *token, rtb_token_fn fn,
		  void *user)
{
	struct rtbc_token *slot, *fresh = NULL;
	struct rtbc_token_wish *wish;

	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED;
	if (topic && !rtbp_topic_ok((struct rtbp_str){ topic, strlen(topic) }))
		return rtbc_fail(c, RTB_E_TOPIC, "%s", rtb_strerror(RTB_E_TOPIC));
	if (token && !is_token(token))
		return rtbc_fail(c, RTB_E_TOKEN,
				 "a token is 1 to %d letters, digits, '-', '_' and '.'",
				 RTBP_TOKEN_MAX);
	if (!topic)
		topic = "";
	slot = slot_find(c, topic);
	if (!slot)
		slot = fresh = slot_new(topic);
	wish = slot ? wish_new(topic, token, fn, user) : NULL;
	if (!wish) {
		free(fresh);
		return rtbc_fail(c, -ENOMEM, "out of memory");
	}
	if (fresh)
		TAILQ_INSERT_TAIL(&c->tokens, fresh, link);
	set_next(c, slot, wish);
	return 0;
}
