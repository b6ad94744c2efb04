/* SPDX-License-Identifier: MIT */
/* librtbridge: the names of sends, and what became of those whose answers were lost. */
#include "libclient/client.h"
#include "test_client_fake.h"
#include "suite.h"

struct log {
	char heard[2048];
	char last_id[RTBC_NAME_SIZE];
	int n, n_acked, n_unknown;
	struct rtb_client *c;
	bool sends_again;
};

static void hear(struct log *log, const char *text)
{
	size_t n = strlen(log->heard);

	(void)snprintf(log->heard + n, sizeof(log->heard) - n, "%s ", text);
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	struct log *log = user;
	char text[256];

	log->n++;
	log->n_acked += result->outcome == RTB_ACKED;
	log->n_unknown += result->outcome == RTB_UNKNOWN;
	(void)snprintf(text, sizeof(text), "%lld:%s%s%s", (long long)id, result->word,
		       result->code[0] ? ":" : "", result->code);
	hear(log, text);
	strcpy(log->last_id, result->id);
	if (log->sends_again)
		ck_assert_int_eq(rtb_broadcast_json(c, "t", "again", "1", 1, NULL) < 0,
				 rtb_client_state(c) != RTB_ATTACHED);
}

static int64_t send_as(struct rtb_client *c, struct log *log, const char *id, uint32_t ttl_ms)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;

	o.result = on_result;
	o.user = log;
	o.id = id;
	o.ttl_ms = ttl_ms;
	return rtb_broadcast_json(c, "t", "e", "1", 1, &o);
}

static struct rtb_client *attached(struct fake *f, struct log *log, const struct rtb_options *o)
{
	fake_start(f);
	f->features = "\"outcome\"";
	*log = (struct log){ 0 };
	log->c = fake_client(f, o);
	fake_attach(f, log->c);
	return log->c;
}

static void end(struct fake *f, struct rtb_client *c)
{
	rtb_client_free(c);
	fake_stop(f);
}

static void get_id(const struct rtbp_msg *m, char id[RTBC_NAME_SIZE])
{
	struct rtbp_str s;

	ck_assert(rtbp_get_str(rtbp_field(m->params, RTBP_F_ID), &s));
	ck_assert_uint_lt(s.size, RTBC_NAME_SIZE);
	(void)snprintf(id, RTBC_NAME_SIZE, "%.*s", (int)s.size, s.p);
}

/* The daemon hangs up; its sends are lost. */
static void lose(struct fake *f, struct rtb_client *c)
{
	fake_hang_up(f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
}

/* Return: the request's number. */
static uint32_t expect_question(struct fake *f, struct rtb_client *c, const char *id)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_OUTCOME);

	ck_assert(field_text(m.params, RTBP_F_ID, id));
	return m.id;
}

#define HEARD(log, text) UNTIL((log)->c, strcmp((log)->heard, text) == 0)

/* ---- names ---- */

START_TEST(each_send_has_a_name)
{
	char ids[3][RTBC_NAME_SIZE], own[RTBC_NAME_SIZE];
	struct rtb_client *c, *second;
	struct log log, other;
	struct fake f, g;
	struct rtbp_msg m;

	c = attached(&f, &log, NULL);
	second = attached(&g, &other, NULL);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_gt(
			i < 2 ? send_as(c, &log, NULL, 0) : send_as(second, &other, NULL, 0), 0);
		m = i < 2 ? fake_expect(&f, c, RTBP_M_BROADCAST)
			  : fake_expect(&g, second, RTBP_M_BROADCAST);
		get_id(&m, ids[i]);
	}
	ck_assert_str_ne(ids[0], ids[1]);
	ck_assert_str_ne(ids[0], ids[2]); /* both the first of its client */
	ck_assert_uint_eq(strspn(ids[0], "0123456789abcdef"), 16);
	ck_assert_str_eq(ids[0] + 16, "-1");
	ck_assert_str_eq(ids[1] + 16, "-2");
	ck_assert_int_eq(strncmp(ids[0], ids[1], 16), 0);
	ck_assert_int_gt(send_as(c, &log, "my:own/name~!", 0), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	get_id(&m, own);
	ck_assert_str_eq(own, "my:own/name~!");
	say_result(&f, m.id, "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "3:acked ");
	ck_assert_str_eq(log.last_id, own);
	rtb_client_free(second);
	fake_stop(&g);
	end(&f, c);
	ck_assert_str_eq(log.last_id, ids[1]); /* of those that ended with the client */
}
END_TEST

START_TEST(wrong_names)
{
	static const char *const wrong[] = { "", " ", "a b", "\x7f", "\xc3\xa9", "a\n" };
	char name[RTBC_SEND_ID_MAX + 2];
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		ck_assert_int_eq(send_as(c, &log, wrong[i], 0), -EINVAL);
		ck_assert_int_eq(rtb_outcome(c, wrong[i], on_result, &log), -EINVAL);
	}
	memset(name, 'n', sizeof(name));
	name[RTBC_SEND_ID_MAX + 1] = '\0';
	ck_assert_int_eq(send_as(c, &log, name, 0), -EINVAL);
	ck_assert_int_eq(rtb_outcome(c, NULL, on_result, &log), -EINVAL);
	ck_assert(fake_is_quiet(&f, c));
	name[RTBC_SEND_ID_MAX] = '\0';
	ck_assert_int_gt(send_as(c, &log, name, 0), 0);
	ck_assert(field_text(fake_expect(&f, c, RTBP_M_BROADCAST).params, RTBP_F_ID, name));
	end(&f, c);
	ck_assert_str_eq(log.heard, "1:unknown ");
	ck_assert_str_eq(log.last_id, name);
}
END_TEST

/* ---- lost answers ---- */

START_TEST(the_next_attachment_is_asked)
{
	char first[RTBC_NAME_SIZE];
	uint32_t a, b, d;
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 1);
	ck_assert_int_eq(send_as(c, &log, "two", 0), 2);
	ck_assert_int_eq(send_as(c, &log, "three", 0), 3);
	ck_assert_int_eq(send_as(c, &log, "four", 0), 4);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	get_id(&m, first);
	for (int i = 0; i < 3; i++)
		m = fake_expect(&f, c, RTBP_M_BROADCAST);
	say_result(&f, m.id, "{\"outcome\":\"denied\"}");
	fake_flush(&f, c);
	HEARD(&log, "4:denied ");
	lose(&f, c);
	ck_assert_str_eq(log.heard, "4:denied "); /* nobody knows yet */
	fake_attach(&f, c);
	a = expect_question(&f, c, first);
	b = expect_question(&f, c, "two");
	d = expect_question(&f, c, "three");
	ck_assert(fake_is_quiet(&f, c)); /* nothing is sent twice, what was answered is not asked */
	say_result(&f, d, "{\"outcome\":\"pending\"}");
	say_error(&f, b, RTBP_E_UNKNOWN_ID, "no send of this user has this id");
	say_result(&f, a, "{\"outcome\":\"acked\",\"via\":\"ws\"}");
	/* No answers to questions: nobody has asked. */
	say_result(&f, d, "{\"outcome\":\"too_big\"}");
	say_result(&f, a, "{\"outcome\":\"too_big\"}");
	fake_flush(&f, c);
	HEARD(&log, "4:denied 2:unknown 1:acked ");
	ck_assert_str_eq(log.last_id, first);
	ck_assert_str_eq(rtb_outcome_name(RTB_PENDING), "pending");
	say_result(&f, expect_question(&f, c, "three"), "{\"outcome\":\"pending\"}");
	fake_flush(&f, c);
	say_error(&f, expect_question(&f, c, "three"), RTBP_E_BUSY, "not now");
	fake_flush(&f, c);
	say_result(&f, expect_question(&f, c, "three"), "{\"outcome\":\"sent\"}");
	fake_flush(&f, c);
	HEARD(&log, "4:denied 2:unknown 1:acked 3:sent ");
	ck_assert_uint_eq(c->n_sends, 0);
	end(&f, c);
	ck_assert_int_eq(log.n, 4);
}
END_TEST

START_TEST(lost_again_and_again)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	log.sends_again = true;
	ck_assert_int_eq(send_as(c, &log, "x", 0), 1);
	for (int i = 0; i < 3; i++) {
		if (i == 0)
			fake_expect(&f, c, RTBP_M_BROADCAST);
		else
			expect_question(&f, c, "x");
		lose(&f, c);
		fake_attach(&f, c);
	}
	say_result(&f, expect_question(&f, c, "x"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "1:acked ");
	fake_expect(&f, c, RTBP_M_BROADCAST); /* that of the callback */
	end(&f, c);
	ck_assert_int_eq(log.n, 1);
}
END_TEST

START_TEST(a_daemon_that_keeps_nothing)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	log.sends_again = true;
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 1);
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 2);
	lose(&f, c);
	ck_assert_str_eq(log.heard, "");
	f.features = NULL;
	fake_attach(&f, c);
	HEARD(&log, "1:unknown 2:unknown ");
	ck_assert(!rtbp_field(fake_expect(&f, c, RTBP_M_BROADCAST).params, RTBP_F_ID).p);
	/* What that one was sent nobody will be asked for. */
	log.sends_again = false;
	ck_assert_int_gt(send_as(c, &log, "n", 0), 0);
	lose(&f, c);
	ck_assert_int_eq(log.n, 3);
	ck_assert_int_eq(log.n_unknown, 3);
	ck_assert_int_eq(rtb_outcome(c, "n", on_result, &log), RTB_E_DETACHED);
	fake_attach(&f, c);
	ck_assert_int_eq(rtb_outcome(c, "n", on_result, &log), RTB_E_REFUSED);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* The clock of the client's inside is turned, instead of waiting for it. */
START_TEST(no_attachment_in_time)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	log.sends_again = true;
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 1);
	ck_assert_int_eq(send_as(c, &log, NULL, 60000), 2);
	fake_close(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	ck_assert_str_eq(log.heard, "");
	ck_assert_int_ge(rtb_client_timeout_ms(c), 0);
	ck_assert_int_ge(c->lost_at, rtbc_now_ms() + RTBC_LOST_MS - 5000);
	ck_assert_int_le(c->lost_at, rtbc_now_ms() + RTBC_LOST_MS);
	c->detached_at -= RTBC_LOST_MS;
	c->lost_at = 0;
	HEARD(&log, "1:unknown 2:unknown ");
	fake_listen(&f);
	fake_attach(&f, c);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
	ck_assert_int_eq(log.n, 2);
}
END_TEST

START_TEST(pending_for_too_long)
{
	struct rtb_client *c;
	struct rtbc_pending *p;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	ck_assert_int_eq(send_as(c, &log, "x", 2000), 1);
	ck_assert_int_eq(send_as(c, &log, "y", 0), 2);
	lose(&f, c);
	p = rtbc_pending_find(c, 1);
	ck_assert_int_eq(p->until - c->detached_at >= 2000 + RTBC_LOST_MS, 1);
	ck_assert_int_le(p->until - c->detached_at, 2000 + RTBC_LOST_MS + 5000);
	ck_assert_int_ge(rtbc_pending_find(c, 2)->until, p->until + 8000);
	fake_attach(&f, c);
	p->until = rtbc_now_ms();
	say_result(&f, expect_question(&f, c, "x"), "{\"outcome\":\"pending\"}");
	expect_question(&f, c, "y");
	fake_flush(&f, c);
	HEARD(&log, "1:unknown ");
	/* The other one is never answered. */
	p = rtbc_pending_find(c, 2);
	ck_assert_int_eq(p->stage, RTBC_ASKED);
	p->at = c->lost_at = rtbc_now_ms();
	HEARD(&log, "1:unknown 2:unknown ");
	end(&f, c);
	ck_assert_int_eq(log.n, 2);
}
END_TEST

START_TEST(the_end_of_the_client)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 1);
	lose(&f, c);
	ck_assert_int_eq(log.n, 0);
	end(&f, c);
	ck_assert_str_eq(log.heard, "1:unknown ");
	/* One that does not come back. */
	o.once = true;
	c = attached(&f, &log, &o);
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 1);
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_FAILED);
	ck_assert_str_eq(log.heard, "1:unknown ");
	end(&f, c);
	/* One that is refused for good as it comes back. */
	c = attached(&f, &log, NULL);
	ck_assert_int_eq(send_as(c, &log, NULL, 0), 1);
	lose(&f, c);
	fake_accept(&f, c);
	fake_expect(&f, c, RTBP_M_HELLO);
	say_error(&f, 0, RTBP_E_DENIED, "no");
	fake_flush(&f, c);
	UNTIL(c, rtb_client_state(c) == RTB_FAILED);
	ck_assert_str_eq(log.heard, "1:unknown ");
	end(&f, c);
	ck_assert_int_eq(log.n, 1);
}
END_TEST

/* Thousands at once, through a queue that is too small for their questions. */
START_TEST(many)
{
	enum { N = 6000 };
	static char ids[N][RTBC_NAME_SIZE];
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	struct log log;
	int n_sent = 0, n_seen = 0;

	o.send_queue_bytes = 8192;
	c = attached(&f, &log, &o);
	while (n_seen < N) {
		while (n_sent < N && send_as(c, &log, NULL, 0) > 0)
			n_sent++;
		m = fake_expect(&f, c, RTBP_M_BROADCAST);
		get_id(&m, ids[n_seen]);
		ck_assert(n_seen == 0 || strcmp(ids[n_seen], ids[n_seen - 1]) != 0);
		if (n_seen++ % 3 == 0)
			say_result(&f, m.id, "{\"outcome\":\"acked\"}");
	}
	fake_flush(&f, c);
	UNTIL(c, log.n == N / 3);
	ck_assert_uint_eq(c->n_sends, N - N / 3);
	lose(&f, c);
	fake_attach(&f, c);
	for (int i = 0; i < N; i++) {
		if (i % 3 == 0)
			continue;
		m.id = expect_question(&f, c, ids[i]);
		if (i % 3 == 1)
			say_result(&f, m.id, "{\"outcome\":\"acked\"}");
		else
			say_error(&f, m.id, RTBP_E_UNKNOWN_ID, "none");
	}
	fake_flush(&f, c);
	UNTIL(c, log.n == N);
	ck_assert_int_eq(log.n_acked, 2 * N / 3);
	ck_assert_int_eq(log.n_unknown, N / 3);
	ck_assert_uint_eq(c->n_sends, 0);
	ck_assert_uint_eq(c->n_pending, 0);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
	ck_assert_int_eq(log.n, N);
}
END_TEST

/* ---- questions of the program ---- */

START_TEST(questions)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, NULL);
	ck_assert_int_eq(rtb_outcome(c, "a", on_result, &log), 1);
	say_result(&f, expect_question(&f, c, "a"), "{\"outcome\":\"pending\"}");
	fake_flush(&f, c);
	HEARD(&log, "1:pending ");
	ck_assert_str_eq(log.last_id, "a");
	ck_assert_int_eq(rtb_outcome(c, "a", on_result, &log), 2);
	say_result(&f, expect_question(&f, c, "a"), "{\"outcome\":\"acked\",\"via\":\"http\"}");
	ck_assert_int_eq(rtb_outcome(c, "b", on_result, &log), 3);
	say_error(&f, expect_question(&f, c, "b"), RTBP_E_UNKNOWN_ID, "none");
	ck_assert_int_eq(rtb_outcome(c, "b", on_result, &log), 4);
	say_error(&f, expect_question(&f, c, "b"), RTBP_E_BUSY, "full");
	ck_assert_int_eq(rtb_outcome(c, "b", NULL, NULL), 5);
	say_result(&f, expect_question(&f, c, "b"), "{\"outcome\":\"later word\"}");
	fake_flush(&f, c);
	HEARD(&log, "1:pending 2:acked 3:unknown:unknown_id 4:unknown:busy ");
	ck_assert_int_eq(rtb_outcome(c, "a", on_result, &log), 6);
	ck_assert_uint_eq(c->n_sends, 0);
	log.heard[0] = '\0';
	lose(&f, c);
	HEARD(&log, "6:unknown:detached ");
	fake_attach(&f, c);
	ck_assert(fake_is_quiet(&f, c)); /* the program asks again, if it wants to know */
	ck_assert_int_eq(rtb_outcome(c, "a", on_result, &log), 7);
	end(&f, c);
	ck_assert_str_eq(log.heard, "6:unknown:detached ");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_outcome");
	TCase *t = tcase_create("outcome");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, each_send_has_a_name);
	tcase_add_test(t, wrong_names);
	tcase_add_test(t, the_next_attachment_is_asked);
	tcase_add_test(t, lost_again_and_again);
	tcase_add_test(t, a_daemon_that_keeps_nothing);
	tcase_add_test(t, no_attachment_in_time);
	tcase_add_test(t, pending_for_too_long);
	tcase_add_test(t, the_end_of_the_client);
	tcase_add_test(t, many);
	tcase_add_test(t, questions);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
