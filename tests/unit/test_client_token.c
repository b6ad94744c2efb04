/* SPDX-License-Identifier: MIT */
/* librtbridge: the client's own tokens: saying, setting, refusals. */
#include "test_client_token.h"
#include "suite.h"

START_TEST(hello_says_it)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 };
	struct fake f;

	c = bearing_client(&f, &b);
	ck_assert(fake_is_quiet(&f, c)); /* it is said once */
	listen_to(c, &ear, "t", false, NULL);
	say_subscribed(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id, 5, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_A));
	answer_hello(&f, c, ACCEPTED);
	fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	SAID(&b, "attaching:-2000 attached ");
	end(&f, c);
}
END_TEST

START_TEST(without_one_nothing_is_said)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, NULL);
	f.is_old = true; /* which is fine then */
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	ck_assert(fake_is_quiet(&f, c));
	SAID(&b, "attached ");
	end(&f, c);
}
END_TEST

/* The general one in hello, those of topics behind it, then what needs them. */
START_TEST(set_while_detached)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 }, other = { 0 };
	struct rtbp_msg m;
	struct fake f;

	c = bearer_client(&f, &b, NULL);
	set_token(&b, "t", TOKEN_C);
	listen_to(c, &ear, "t", false, NULL);
	listen_to(c, &other, "u", false, NULL);
	set_token(&b, NULL, TOKEN_B);
	set_token(&b, "gone", TOKEN_A);
	set_token(&b, "gone", NULL); /* before it was ever said */
	expect_hello(&f, c, JSON(TOKEN_B));
	ck_assert_ptr_null(strchr(b.heard, '@'));
	answer_hello(&f, c, UNPROVEN);
	say_result(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_C)), ACCEPTED);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE); /* "t" waits for its own */
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "u"));
	ck_assert(fake_is_quiet(&f, c));
	fake_flush(&f, c);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "t"));
	SAID(&b, "gone/-125:a later token came before it attached unproven@9 gone/cleared "
		 "t/accepted@7 ");
	/* The topic that was cleared has left nothing behind. */
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, ACCEPTED);
	expect_auth(&f, c, JSON("t"), JSON(TOKEN_C));
	end(&f, c);
}
END_TEST

START_TEST(set_replaced_cleared)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearing_client(&f, &b);
	set_token(&b, NULL, TOKEN_B);
	say_result(&f, expect_auth(&f, c, "absent", JSON(TOKEN_B)), UNPROVEN);
	fake_flush(&f, c);
	SAID(&b, "unproven@9 ");
	set_token(&b, NULL, NULL);
	say_result(&f, expect_auth(&f, c, "absent", "null"), "{\"state\":\"cleared\"}");
	fake_flush(&f, c);
	SAID(&b, "cleared ");
	take_token(&f, &b, "t", TOKEN_C, JSON(TOKEN_C));
	SAID(&b, "t/accepted@7 ");
	set_token(&b, "t", NULL);
	say_result(&f, expect_auth(&f, c, JSON("t"), "null"), "{\"state\":\"cleared\"}");
	fake_flush(&f, c);
	SAID(&b, "t/cleared ");
	fake_hang_up(&f);
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(a_refused_one_leaves_the_old)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 };
	struct fake f;

	c = bearing_client(&f, &b);
	set_token(&b, NULL, TOKEN_B);
	say_error(&f, expect_auth(&f, c, "absent", JSON(TOKEN_B)), RTBP_E_BAD_TOKEN, "no good");
	fake_flush(&f, c);
	SAID(&b, "-2014:no good ");
	listen_to(c, &ear, "t", false, NULL); /* nothing is kept back */
	fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	set_token(&b, NULL, TOKEN_C);
	say_error(&f, expect_auth(&f, c, "absent", JSON(TOKEN_C)), RTBP_E_TIMEOUT, "not decided");
	fake_flush(&f, c);
	SAID(&b, "-2004:not decided ");
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_A));
	end(&f, c);
}
END_TEST

START_TEST(one_at_a_time)
{
	struct rtb_client *c;
	struct bearer b;
	uint32_t id;
	struct fake f;

	c = bearing_client(&f, &b);
	set_token(&b, NULL, TOKEN_B);
	id = expect_auth(&f, c, "absent", JSON(TOKEN_B));
	set_token(&b, NULL, TOKEN_A);
	set_token(&b, NULL, TOKEN_C);
	ck_assert(fake_is_quiet(&f, c));
	SAID(&b, "-125:a later token came before it ");
	say_error(&f, id, RTBP_E_BAD_TOKEN, "no good");
	fake_flush(&f, c);
	say_result(&f, expect_auth(&f, c, "absent", JSON(TOKEN_C)), ACCEPTED);
	fake_flush(&f, c);
	SAID(&b, "-2014:no good accepted@7 ");
	/* What is without an answer when the daemon goes is said again, the newest only. */
	set_token(&b, NULL, TOKEN_A);
	expect_auth(&f, c, "absent", JSON(TOKEN_A));
	set_token(&b, NULL, TOKEN_B);
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, ACCEPTED);
	SAID(&b, "attaching:-2000 -125:a later token came before it attached accepted@7 ");
	end(&f, c);
}
END_TEST

static void refuse_hello(struct fake *f, struct rtb_client *c)
{
	char c1;

	say_error(f, 0, RTBP_E_BAD_TOKEN, "expired");
	fake_flush(f, c);
	/* It hangs up. */
	UNTIL(c, recv(f->fd, &c1, 1, 0) == 0);
	fake_hang_up(f);
}

START_TEST(refused_at_hello)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, TOKEN_A);
	ck_assert_int_eq(rtb_set_token(c, "t", TOKEN_C, NULL, NULL), 0);
	expect_hello(&f, c, JSON(TOKEN_A));
	refuse_hello(&f, c);
	SAID(&b, "attaching:-2014 !bad_token:expired ");
	ck_assert_int_eq(rtb_client_state(c), RTB_ATTACHING);
	ck_assert_str_eq(rtb_client_error_text(c), "the daemon refused the token: expired");
	ck_assert_int_eq(rtb_wait_attached(c, -1), RTB_E_TOKEN);
	ck_assert_int_eq(rtb_status(c, NULL, NULL), RTB_E_TOKEN);
	/* Nothing is tried by itself, and the token of a topic changes nothing. */
	ck_assert_int_eq(rtb_set_token(c, "t", TOKEN_A, NULL, NULL), 0);
	while (rtb_client_process(c) > 0)
		;
	ck_assert_int_eq(rtb_client_timeout_ms(c), -1);
	ck_assert_int_lt(accept(f.listen_fd, NULL, NULL), 0);
	set_token(&b, NULL, TOKEN_B);
	expect_hello(&f, c, JSON(TOKEN_B));
	refuse_hello(&f, c);
	SAID(&b, "-2014:expired !bad_token:expired ");
	/* Without one it goes on as the daemon, because the program said so. */
	set_token(&b, NULL, NULL);
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	SAID(&b, "attached cleared ");
	end(&f, c);
}
END_TEST

START_TEST(set_in_the_handler)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, TOKEN_A);
	b.next = TOKEN_B;
	expect_hello(&f, c, JSON(TOKEN_A));
	refuse_hello(&f, c);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, ACCEPTED);
	SAID(&b, "attaching:-2014 !bad_token:expired attached accepted@7 ");
	end(&f, c);
}
END_TEST

/* A newer one that came meanwhile is no reason to wait. */
START_TEST(set_while_hello_is_refused)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, TOKEN_A);
	expect_hello(&f, c, JSON(TOKEN_A));
	set_token(&b, NULL, TOKEN_B);
	refuse_hello(&f, c);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, ACCEPTED);
	SAID(&b, "attaching:-2014 attached accepted@7 ");
	end(&f, c);
}
END_TEST

START_TEST(refused_at_hello_once)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	o.token = TOKEN_A;
	o.once = true;
	c = fake_client(&f, &o);
	expect_hello(&f, c, JSON(TOKEN_A));
	say_error(&f, 0, RTBP_E_BAD_TOKEN, "expired");
	fake_flush(&f, c);
	UNTIL(c, rtb_client_state(c) == RTB_FAILED);
	ck_assert_int_eq(rtb_set_token(c, NULL, NULL, NULL, NULL), RTB_E_FAILED);
	end(&f, c);
}
END_TEST

/* It would pass over the token, and do everything with its own identity. */
START_TEST(a_daemon_from_before_tokens)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, NULL);
	ck_assert_int_eq(rtb_set_token(c, "t", TOKEN_A, NULL, NULL), 0);
	f.is_old = true;
	expect_hello(&f, c, "absent");
	say_hello(&f);
	fake_flush(&f, c);
	SAID(&b, "attaching:-2014 ");
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "does not take tokens"));
	fake_hang_up(&f);
	/* It may be replaced any time. */
	f.is_old = false;
	fake_attach(&f, c);
	expect_auth(&f, c, JSON("t"), JSON(TOKEN_A));
	SAID(&b, "attached ");
	end(&f, c);
}
END_TEST

START_TEST(pending_at_hello)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	/* Nobody waits: that it holds is enough. */
	c = bearer_client(&f, &b, TOKEN_A);
	expect_hello(&f, c, JSON(TOKEN_A));
	answer_hello(&f, c, "{\"state\":\"pending\",\"expires\":7}");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
	/* Somebody does: the answer to `auth` comes when it is decided. */
	c = bearer_client(&f, &b, NULL);
	set_token(&b, NULL, TOKEN_B);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, "{\"state\":\"pending\",\"expires\":7}");
	SAID(&b, "attached ");
	say_result(&f, expect_auth(&f, c, "absent", JSON(TOKEN_B)), ACCEPTED);
	fake_flush(&f, c);
	SAID(&b, "accepted@7 ");
	end(&f, c);
}
END_TEST

START_TEST(what_is_no_token)
{
	static const char *const bad[] = { "", " e30.e30.x", "e30.e30.x\n", "a b",
					   "e30.e30.\303\274" };
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c, *other = NULL;
	char large[8 * 1024 + 2];
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, NULL);
	memset(large, 'x', sizeof(large));
	large[8 * 1024 + 1] = '\0';
	o.socket_path = f.path;
	for (size_t i = 0; i <= sizeof(bad) / sizeof(*bad); i++) {
		o.token = i ? bad[i - 1] : large;
		ck_assert_int_eq(rtb_set_token(c, NULL, o.token, on_token, &b), RTB_E_TOKEN);
		ck_assert_int_eq(rtb_client_new(&o, &other), RTB_E_TOKEN);
	}
	ck_assert_int_eq(rtb_set_token(c, "", TOKEN_A, on_token, &b), RTB_E_TOPIC);
	ck_assert_int_eq(rtb_set_token(c, "rtbridge:x", TOKEN_A, on_token, &b), RTB_E_TOPIC);
	/* The largest one goes. */
	large[8 * 1024] = '\0';
	ck_assert_int_eq(rtb_set_token(c, NULL, large, NULL, NULL), 0);
	fake_accept(&f, c);
	fake_expect(&f, c, RTBP_M_HELLO);
	ck_assert_ptr_null(other);
	ck_assert_str_eq(b.heard, "");
	end(&f, c);
}
END_TEST

START_TEST(words)
{
	ck_assert_ptr_nonnull(strstr(rtb_strerror(RTB_E_TOKEN), "the token"));
	ck_assert_ptr_nonnull(strstr(rtb_strerror(RTB_E_FORBIDDEN), "access rules"));
}
END_TEST

START_TEST(it_has_ended)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearing_client(&f, &b);
	say_token_ended(&f, NULL, "token_expired", "it has expired");
	say_token_ended(&f, "t", "token_signature", "it is forged");
	/* Daemons that do not tell why. */
	say_token_ended(&f, NULL, NULL, "no");
	say_token_ended(&f, "t", "", "no");
	fake_flush(&f, c);
	SAID(&b, "!token_expired:it has expired t!token_signature:it is forged "
		 "!bad_token:no t!bad_token:no ");
	ck_assert(fake_is_quiet(&f, c));
	/* That is no news when the next one is on its way. */
	set_token(&b, NULL, TOKEN_B);
	say_token_ended(&f, NULL, "token_expired", "it has expired");
	say_result(&f, expect_auth(&f, c, "absent", JSON(TOKEN_B)), ACCEPTED);
	fake_flush(&f, c);
	SAID(&b, "accepted@7 ");
	end(&f, c);
}
END_TEST

static void on_error(struct rtb_client *c, int code, const char *name, const char *text, void *user)
{
	char line[200];

	(void)c;
	(void)snprintf(line, sizeof(line), "%d %s %s", code, name, text);
	note(user, NULL, line);
}

START_TEST(ended_without_a_handler)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct bearer b = { 0 };
	struct fake f;

	fake_start(&f);
	o.token = TOKEN_A;
	o.handlers.error = on_error;
	o.user = &b;
	b.c = fake_client(&f, &o);
	fake_attach(&f, b.c);
	say_token_ended(&f, NULL, "token_expired", "it has expired");
	fake_flush(&f, b.c);
	SAID(&b, "211 bad_token it has expired ");
	end(&f, b.c);
}
END_TEST

START_TEST(waiting_for_it)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearing_client(&f, &b);
	ck_assert_int_eq(rtb_wait_token(c, NULL, TOKEN_B, 0), RTB_E_TIMEOUT);
	/* Its answer comes to nobody. */
	say_result(&f, expect_auth(&f, c, "absent", JSON(TOKEN_B)), ACCEPTED);
	fake_flush(&f, c);
	set_token(&b, "t", TOKEN_C);
	expect_auth(&f, c, JSON("t"), JSON(TOKEN_C));
	ck_assert_int_eq(rtb_wait_token(c, NULL, "", -1), RTB_E_TOKEN);
	/* Ids go up by one: so an answer can be there before its question. */
	say_result(&f, 3, ACCEPTED);
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_token(c, "u", TOKEN_A, -1), 0);
	say_error(&f, 4, RTBP_E_BAD_TOKEN, "no good");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_token(c, "u", TOKEN_B, -1), RTB_E_TOKEN);
	ck_assert_str_eq(rtb_client_error_text(c), "no good");
	ck_assert_str_eq(b.heard, "");
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_token");
	TCase *t = tcase_create("token");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, hello_says_it);
	tcase_add_test(t, without_one_nothing_is_said);
	tcase_add_test(t, set_while_detached);
	tcase_add_test(t, set_replaced_cleared);
	tcase_add_test(t, a_refused_one_leaves_the_old);
	tcase_add_test(t, one_at_a_time);
	tcase_add_test(t, refused_at_hello);
	tcase_add_test(t, set_in_the_handler);
	tcase_add_test(t, set_while_hello_is_refused);
	tcase_add_test(t, refused_at_hello_once);
	tcase_add_test(t, a_daemon_from_before_tokens);
	tcase_add_test(t, pending_at_hello);
	tcase_add_test(t, what_is_no_token);
	tcase_add_test(t, words);
	tcase_add_test(t, it_has_ended);
	tcase_add_test(t, ended_without_a_handler);
	tcase_add_test(t, waiting_for_it);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
