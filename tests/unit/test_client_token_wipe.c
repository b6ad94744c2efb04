/* SPDX-License-Identifier: MIT */
/*
 * librtbridge: no copy of a token is left behind. The linker routes what the library frees and
 * moves through here (--wrap); memory is searched before it is given back. `armed` is set during
 * calls of the library only: the played daemon has read the tokens, too.
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <rtbridge/rtbridge.h>

void __real_free(void *p);
void *__real_realloc(void *p, size_t size);
void __wrap_free(void *p);
void *__wrap_realloc(void *p, size_t size);

static struct {
	bool armed;
	long n_searched, n_found;
} search;

static bool has_token(const void *p, size_t size)
{
	return memmem(p, size, "token-of-this-client", 20) != NULL;
}

static void look_into(void *p)
{
	if (!search.armed || !p)
		return;
	search.n_searched++;
	search.n_found += has_token(p, malloc_usable_size(p));
}

void __wrap_free(void *p)
{
	look_into(p);
	__real_free(p);
}

void *__wrap_realloc(void *p, size_t size)
{
	look_into(p); /* it may stay where it is, but need not */
	return __real_realloc(p, size);
}

#define ARMED(call)                   \
	do {                          \
		search.armed = true;  \
		call;                 \
		search.armed = false; \
	} while (0)

static int armed_wait(struct rtb_client *c, int timeout_ms)
{
	int r;

	ARMED(r = rtb_wait(c, timeout_ms));
	return r;
}

/* The played daemon turns the client by this. */
#define rtb_wait(c, timeout_ms) armed_wait(c, timeout_ms)
#include "test_client_token.h"
#include "suite.h"
#include "libclient/client.h"

/* Everything that the send queue has allocated. */
static bool queue_has_token(const struct rtb_client *c)
{
	return c->out.data && has_token(c->out.data, c->out.cap);
}

static void nothing_found(void)
{
	ck_assert_int_gt(search.n_searched, 0);
	ck_assert_int_eq(search.n_found, 0);
	search.n_searched = 0;
}

static void set_armed(struct bearer *b, const char *topic, const char *token)
{
	int r;

	ARMED(r = rtb_set_token(b->c, topic, token, on_token, b));
	ck_assert_int_eq(r, 0);
}

static void free_armed(struct rtb_client *c)
{
	ARMED(rtb_client_free(c));
	nothing_found();
}

START_TEST(the_search_finds)
{
	char *p = strdup(TOKEN_A);

	search.armed = true;
	free(p);
	search.armed = false;
	ck_assert_int_eq(search.n_found, 1);
}
END_TEST

START_TEST(over_a_life)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, TOKEN_A);
	fake_accept(&f, c);
	fake_expect(&f, c, RTBP_M_HELLO);
	ck_assert(!queue_has_token(c));
	answer_hello(&f, c, ACCEPTED);
	set_armed(&b, NULL, TOKEN_B);
	set_armed(&b, NULL, TOKEN_A); /* overtaken by the next */
	set_armed(&b, NULL, TOKEN_C);
	set_armed(&b, "t", TOKEN_C);
	say_result(&f, expect_auth(&f, c, "absent", JSON(TOKEN_B)), ACCEPTED);
	say_error(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_C)), RTBP_E_BAD_TOKEN, "no good");
	fake_flush(&f, c);
	say_error(&f, expect_auth(&f, c, "absent", JSON(TOKEN_C)), RTBP_E_BAD_TOKEN, "no good");
	fake_flush(&f, c);
	SAID(&b, "attached -125:a later token came before it accepted@7 t/-2014:no good "
		 "-2014:no good ");
	ck_assert(!queue_has_token(c));
	set_armed(&b, "t", NULL);
	say_result(&f, expect_auth(&f, c, JSON("t"), "null"), "{\"state\":\"cleared\"}");
	fake_flush(&f, c);
	SAID(&b, "t/cleared ");
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_B));
	ck_assert(!queue_has_token(c));
	nothing_found();
	free_armed(c);
	fake_stop(&f);
}
END_TEST

START_TEST(refused_and_never_said)
{
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearer_client(&f, &b, TOKEN_A);
	expect_hello(&f, c, JSON(TOKEN_A));
	say_error(&f, 0, RTBP_E_BAD_TOKEN, "expired");
	fake_flush(&f, c);
	SAID(&b, "attaching:-2014 !bad_token:expired ");
	set_armed(&b, "t", TOKEN_B);
	free_armed(c);
	fake_stop(&f);
}
END_TEST

static void fill(struct rtb_client *c)
{
	char text[4000];

	memset(text, 'x', sizeof(text));
	text[0] = text[sizeof(text) - 2] = '"';
	text[sizeof(text) - 1] = '\0';
	while (rtbc_queued(c) < 100000) {
		ck_assert_int_gt(rtb_broadcast_json(c, "u", "e", text, (size_t)-1, NULL), 0);
		ck_assert_int_ge(rtb_client_process(c), 0);
	}
}

/* The daemon does not read: the token waits in the queue, at its end, until it leaves. */
START_TEST(in_a_queue_that_does_not_move)
{
	struct rtb_client *c;
	struct bearer b;
	struct rtbp_msg m;
	struct fake f;

	c = bearing_client(&f, &b);
	fill(c);
	set_armed(&b, "t", TOKEN_B);
	ck_assert(queue_has_token(c));
	ck_assert_int_eq(rtb_broadcast_json(c, "u", "e", "1", 1, NULL), RTB_E_BUSY);
	set_armed(&b, "v", TOKEN_C);
	do
		m = fake_next(&f, c);
	while (msg_is(&m, RTBP_M_BROADCAST));
	ck_assert(msg_is(&m, RTBP_M_AUTH));
	expect_auth(&f, c, JSON("v"), JSON(TOKEN_C));
	ck_assert(!queue_has_token(c));
	ck_assert_int_gt(rtb_broadcast_json(c, "u", "e", "1", 1, NULL), 0);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	/* And when the connection ends with it there. */
	fill(c);
	set_armed(&b, "w", TOKEN_B);
	ck_assert(queue_has_token(c));
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	nothing_found();
	expect_hello(&f, c, JSON(TOKEN_A));
	answer_hello(&f, c, ACCEPTED);
	/* And when the client ends with it there. */
	say_result(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_B)), ACCEPTED);
	say_result(&f, expect_auth(&f, c, JSON("v"), JSON(TOKEN_C)), ACCEPTED);
	say_result(&f, expect_auth(&f, c, JSON("w"), JSON(TOKEN_B)), ACCEPTED);
	fake_flush(&f, c);
	fill(c);
	set_armed(&b, "t", TOKEN_C);
	ck_assert(queue_has_token(c));
	free_armed(c);
	fake_stop(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_token_wipe");
	TCase *t = tcase_create("wipe");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_search_finds);
	tcase_add_test(t, over_a_life);
	tcase_add_test(t, refused_and_never_said);
	tcase_add_test(t, in_a_queue_that_does_not_move);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
