/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A client with tokens that writes down what it hears about them, as text:
 *
 *     accepted@7  unproven@7  cleared     what became of rtb_set_token(), and when the token ends
 *     t/accepted@7                        of that for topic "t"
 *     -2014:TEXT                          an error
 *     !bad_token:TEXT  t!CODE:TEXT        the token has ended
 *     attaching:-2014  attached  failed   the state
 *
 * Include in one file of a test program only.
 */
#include "test_client_ear.h"

#define TOKEN_A "e30.e30.first_token-of-this-client"
#define TOKEN_B "e30.e30.second_token-of-this-client"
#define TOKEN_C "e30.e30.third_token-of-this-client"

struct bearer {
	char heard[2048];
	struct rtb_client *c;
	const char *next; /* to be set when the one before has ended */
};

static void note(struct bearer *b, const char *topic, const char *text)
{
	size_t n = strlen(b->heard);

	(void)snprintf(b->heard + n, sizeof(b->heard) - n, "%s%s%s ", topic ? topic : "",
		       topic ? "/" : "", text);
}

static void on_token(struct rtb_client *c, const char *topic, const struct rtb_token_result *result,
		     void *user)
{
	static const char *const names[] = { "accepted", "unproven", "cleared" };
	struct bearer *b = user;
	char text[600];

	ck_assert_ptr_eq(c, b->c);
	if (result->error)
		(void)snprintf(text, sizeof(text), "%d:%s", result->error, result->text);
	else if (result->expires_unix_s >= 0)
		(void)snprintf(text, sizeof(text), "%s@%lld", names[result->state],
			       (long long)result->expires_unix_s);
	else
		(void)snprintf(text, sizeof(text), "%s", names[result->state]);
	ck_assert_int_eq(result->error != 0, result->text[0] != '\0');
	note(b, topic, text);
}

static void set_token(struct bearer *b, const char *topic, const char *token)
{
	ck_assert_int_eq(rtb_set_token(b->c, topic, token, on_token, b), 0);
}

static void on_event(struct rtb_client *c, const struct rtb_token_event *event, void *user)
{
	struct bearer *b = user;
	char text[600];

	(void)snprintf(text, sizeof(text), "%s!%s:%s", event->topic ? event->topic : "",
		       event->code, event->text);
	note(b, NULL, text);
	b->c = c;
	if (b->next) {
		set_token(b, event->topic, b->next);
		b->next = NULL;
	}
}

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	static const char *const names[] = { "attaching", "attached", "failed" };
	char text[64];

	(void)c;
	(void)snprintf(text, sizeof(text), why ? "%s:%d" : "%s", names[state], why);
	note(user, NULL, text);
}

static struct rtb_client *bearer_client(struct fake *f, struct bearer *b, const char *token)
{
	struct rtb_options o = RTB_OPTIONS_INIT;

	fake_start(f);
	*b = (struct bearer){ 0 };
	o.token = token;
	o.handlers.state = on_state;
	o.handlers.token = on_event;
	o.user = b;
	b->c = fake_client(f, &o);
	return b->c;
}

/* Accepts, and reads hello: `token` is its member, as JSON. */
static void expect_hello(struct fake *f, struct rtb_client *c, const char *token)
{
	struct rtbp_msg m;

	fake_accept(f, c);
	m = fake_expect(f, c, RTBP_M_HELLO);
	ck_assert_str_eq(field_json(m.params, RTBP_F_TOKEN), token);
}

static void answer_hello(struct fake *f, struct rtb_client *c, const char *token)
{
	f->token = token;
	say_hello(f);
	fake_flush(f, c);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHED);
}

/* The next message is an `auth`: both as JSON. Return: its id. */
FAKE_UNUSED static uint32_t expect_auth(struct fake *f, struct rtb_client *c, const char *topic,
					const char *token)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_AUTH);

	ck_assert_str_eq(field_json(m.params, RTBP_F_TOPIC), topic);
	ck_assert_str_eq(field_json(m.params, RTBP_F_TOKEN), token);
	return m.id;
}

#define JSON(text) "\"" text "\""
#define ACCEPTED   "{\"state\":\"accepted\",\"expires\":7}"
#define UNPROVEN   "{\"state\":\"unproven\",\"expires\":9}"

/* Attached with TOKEN_A, which holds. */
FAKE_UNUSED static struct rtb_client *bearing_client(struct fake *f, struct bearer *b)
{
	struct rtb_client *c = bearer_client(f, b, TOKEN_A);

	expect_hello(f, c, JSON(TOKEN_A));
	answer_hello(f, c, ACCEPTED);
	UNTIL(c, strcmp(b->heard, "attached ") == 0);
	b->heard[0] = '\0';
	return c;
}

/* Sets it while attached, and lets the daemon take it. */
FAKE_UNUSED static void take_token(struct fake *f, struct bearer *b, const char *topic,
				   const char *token, const char *json)
{
	char name[64] = "absent";

	if (topic)
		(void)snprintf(name, sizeof(name), "\"%s\"", topic);
	set_token(b, topic, token);
	say_result(f, expect_auth(f, b->c, name, json), ACCEPTED);
	fake_flush(f, b->c);
}

/* The daemon says that the token has ended; `code`: why, NULL: it does not tell. */
FAKE_UNUSED static void say_token_ended(struct fake *f, const char *topic, const char *code,
					const char *text)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, RTBP_N_ERROR);

	rtbp_pack_map(&f->out, 2 + (topic != NULL) + (code != NULL));
	rtbp_pack_field(&f->out, RTBP_F_ERROR);
	rtbp_pack_error(&f->out, RTBP_E_BAD_TOKEN, text, -1);
	rtbp_pack_field_text(&f->out, RTBP_F_METHOD, "auth");
	if (topic)
		rtbp_pack_field_text(&f->out, RTBP_F_TOPIC, topic);
	if (code)
		rtbp_pack_field_text(&f->out, RTBP_F_CODE, code);
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

#define SAID(b, text)                                              \
	do {                                                       \
		UNTIL((b)->c, strlen((b)->heard) >= strlen(text)); \
		ck_assert_str_eq((b)->heard, text);                \
		(b)->heard[0] = '\0';                              \
	} while (0)
