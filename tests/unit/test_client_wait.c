/* SPDX-License-Identifier: MIT */
/* librtbridge: the helpers that wait, and what a forked child may do. */
#include <signal.h>
#include <sys/wait.h>

#include "test_client_fake.h"
#include "suite.h"

static struct rtb_client *attached(struct fake *f)
{
	struct rtb_client *c;

	fake_start(f);
	c = fake_client(f, NULL);
	fake_attach(f, c);
	return c;
}

static void end(struct fake *f, struct rtb_client *c)
{
	rtb_client_free(c);
	fake_stop(f);
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	(void)c;
	(void)id;
	*(int *)user = (int)result->outcome;
}

START_TEST(a_child_leaves_the_parent_alone)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	int outcome = -1;
	struct rtb_client *c;
	struct fake f;
	int status;
	pid_t pid;

	c = attached(&f);
	o.result = on_result;
	o.user = &outcome;
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "1", 1, &o), 1);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int r = rtb_client_process(c);

		rtb_client_free(c);
		_exit(r == -EPERM && outcome < 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	say_result(&f, fake_expect(&f, c, RTBP_M_BROADCAST).id, "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	UNTIL(c, outcome == RTB_ACKED);
	end(&f, c);
}
END_TEST

/* ---- waiting: the daemon is a process of its own here ---- */

/* Attaches, then answers each request with the next of `answers` ("" : never). */
static pid_t play(struct fake *f, const char *const *answers)
{
	struct rtb_client *c;
	struct rtb_options o = RTB_OPTIONS_INIT;
	const uint8_t *body;
	struct rtbp_fault fault;
	struct rtbp_msg m;
	struct pollfd p;
	size_t size;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	/* A client of nobody, so that the helpers have something to turn. */
	o.socket_path = "/nonexistent/s";
	if (rtb_client_new(&o, &c) < 0)
		_exit(1);
	p = (struct pollfd){ .fd = f->listen_fd, .events = POLLIN };
	(void)poll(&p, 1, -1);
	f->fd = accept(f->listen_fd, NULL, NULL);
	p.fd = f->fd;
	for (;;) {
		while (rtbp_reader_next(&f->reader, &body, &size) != RTBP_FRAME_ONE)
			if (!fake_read(f))
				_exit(0);
		if (rtbp_msg_parse(body, size, &m, &fault))
			_exit(1);
		if (msg_is(&m, RTBP_M_HELLO))
			say_hello(f);
		else if (**answers)
			say_result(f, m.id, *answers++);
		fake_flush(f, c);
	}
}

static void stop_playing(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(waiting_for_answers)
{
	static const char *const answers[] = { "{\"chan\":1,\"state\":\"ready\"}",
					       "{\"outcome\":\"denied\",\"text\":\"sorry\"}",
					       "{\"server\":{\"name\":\"x\"}}", "{}", "" };
	enum rtb_outcome outcome = RTB_ACKED;
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct fake f;
	char *json;
	pid_t pid;

	fake_start(&f);
	pid = play(&f, answers);
	c = fake_client(&f, NULL);
	ck_assert_int_eq(rtb_subscribe(c, "t", NULL, &sub), 0);
	ck_assert_int_eq(rtb_wait_ready(sub, -1), 0);
	ck_assert_int_eq(rtb_wait_broadcast_json(c, "t", "e", "1", NULL, 30000, &outcome), 0);
	ck_assert_int_eq(outcome, RTB_DENIED);
	ck_assert_str_eq(rtb_client_error_text(c), "sorry");
	ck_assert_int_eq(rtb_wait_status_json(c, 30000, &json), 0);
	ck_assert_str_eq(json, "{\"server\":{\"name\":\"x\"}}");
	rtb_free(json);
	ck_assert_int_eq(rtb_wait_sync(c, true, 30000), 0);
	/* No answer any more. The helpers give up, and a later one does no harm. */
	ck_assert_int_eq(rtb_wait_sync(c, false, 20), RTB_E_TIMEOUT);
	ck_assert_int_eq(rtb_wait_broadcast_json(c, "t", "e", "1", NULL, 20, &outcome),
			 RTB_E_TIMEOUT);
	ck_assert_int_eq(rtb_wait_broadcast_json(c, "t", "e", "{", NULL, 20, &outcome),
			 RTB_E_PAYLOAD);
	stop_playing(pid);
	ck_assert_int_eq(rtb_wait_sync(c, false, 30000), RTB_E_DETACHED);
	end(&f, c);
}
END_TEST

START_TEST(waiting_for_outcomes)
{
	static const char *const answers[] = {
		"{\"outcome\":\"rate_limited\",\"via\":\"http\",\"text\":\"slowly\",\"retry_in_"
		"ms\":70}",
		"{\"outcome\":\"acked\",\"via\":\"ws\"}",
		"{\"outcome\":\"pending\"}",
		"{\"outcome\":\"pending\"}",
		"{\"outcome\":\"denied\",\"text\":\"no\"}",
		"",
	};
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtb_sent sent;
	struct fake f;
	pid_t pid;

	fake_start(&f);
	f.features = "\"outcome\"";
	pid = play(&f, answers);
	c = fake_client(&f, NULL);
	o.form = RTB_BINARY;
	ck_assert_int_eq(rtb_wait_send(c, "t", "e", "x", 1, &o, 30000, &sent), 0);
	ck_assert_int_eq(sent.outcome, RTB_RATE_LIMITED);
	ck_assert_int_eq(sent.via, RTB_VIA_HTTP);
	ck_assert_int_eq(sent.retry_after_ms, 70);
	ck_assert(sent.is_sent);
	ck_assert_uint_eq(strlen(sent.id), 18);
	ck_assert_str_eq(rtb_client_error_text(c), "slowly");
	o.id = "mine";
	ck_assert_int_eq(rtb_wait_send(c, "t", "e", "x", 1, &o, -1, &sent), 0);
	ck_assert_int_eq(sent.outcome, RTB_ACKED);
	ck_assert_str_eq(sent.id, "mine");
	ck_assert_int_eq(rtb_wait_flush(c, 0), 0);
	ck_assert_int_eq(rtb_wait_outcome(c, "mine", 30000, &sent), 0);
	ck_assert_int_eq(sent.outcome, RTB_DENIED);
	ck_assert_str_eq(sent.id, "mine");
	ck_assert_str_eq(rtb_client_error_text(c), "no");
	/* No answer any more: the time is over, the send goes on. */
	o.id = NULL;
	ck_assert_int_eq(rtb_wait_send(c, "t", "e", "x", 1, &o, 20, &sent), RTB_E_TIMEOUT);
	ck_assert_int_eq(sent.outcome, RTB_UNKNOWN);
	ck_assert(sent.is_sent);
	ck_assert_uint_eq(strlen(sent.id), 18);
	ck_assert_int_eq(rtb_wait_flush(c, 20), RTB_E_TIMEOUT);
	ck_assert_int_eq(rtb_wait_outcome(c, sent.id, 20, &sent), RTB_E_TIMEOUT);
	o.id = "";
	ck_assert_int_eq(rtb_wait_send(c, "t", "e", "x", 1, &o, 20, &sent), -EINVAL);
	ck_assert(!sent.is_sent);
	stop_playing(pid);
	end(&f, c);
}
END_TEST

/* Over a restart: what is not known is asked until it is. */
START_TEST(waiting_over_a_restart)
{
	static const char *const first[] = { "", NULL };
	static const char *const second[] = { "{\"outcome\":\"pending\"}",
					      "{\"outcome\":\"acked\"}", "{\"outcome\":\"sent\"}",
					      "" };
	struct rtb_client *c;
	struct rtb_sent sent;
	struct fake f;
	pid_t pid;

	fake_start(&f);
	f.features = "\"outcome\"";
	pid = play(&f, first);
	c = fake_client(&f, NULL);
	ck_assert_int_eq(rtb_wait_send(c, "t", "e", "\xc0", 1, NULL, 50, &sent), RTB_E_TIMEOUT);
	ck_assert(sent.is_sent);
	stop_playing(pid);
	pid = play(&f, second);
	ck_assert_int_eq(rtb_wait_flush(c, 30000), 0);
	ck_assert_int_eq(rtb_wait_outcome(c, sent.id, 30000, &sent), 0);
	ck_assert_int_eq(sent.outcome, RTB_SENT);
	stop_playing(pid);
	end(&f, c);
}
END_TEST

static int called;

static void wait_inside(struct rtb_client *c, int64_t id, const struct rtb_result *result,
			void *user)
{
	struct rtb_sent sent;

	(void)id;
	(void)result;
	(void)user;
	called++;
	ck_assert_int_eq(rtb_wait_flush(c, -1), -EDEADLK);
	ck_assert_int_eq(rtb_wait_outcome(c, "x", -1, &sent), -EDEADLK);
	ck_assert_int_eq(rtb_wait_send(c, "t", "e", "\xc0", 1, NULL, -1, &sent), -EDEADLK);
	ck_assert(!sent.is_sent);
}

START_TEST(waiting_inside_a_callback)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_client *c;
	struct fake f;

	c = attached(&f);
	o.result = wait_inside;
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "1", 1, &o), 1);
	say_result(&f, fake_expect(&f, c, RTBP_M_BROADCAST).id, "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	UNTIL(c, called == 1);
	ck_assert_int_eq(rtb_wait_flush(c, -1), 0);
	end(&f, c);
}
END_TEST

START_TEST(waiting_in_vain)
{
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct fake f;
	char *json;

	fake_init(&f);
	c = fake_client(&f, NULL);
	ck_assert_int_eq(rtb_wait_attached(c, 50), RTB_E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "cannot connect"));
	ck_assert_int_eq(rtb_subscribe(c, "t", NULL, &sub), 0);
	ck_assert_int_eq(rtb_wait_ready(sub, 0), RTB_E_TIMEOUT);
	ck_assert_int_eq(rtb_wait_status_json(c, 1, &json), RTB_E_TIMEOUT);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(waiting_for_the_rejected)
{
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct fake f;

	c = attached(&f);
	ck_assert_int_eq(rtb_subscribe(c, "t", NULL, &sub), 0);
	rtbp_msg_put_error(&f.out, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id, RTBP_E_REJECTED,
			   "Unauthorized", -1);
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_ready(sub, 30000), RTB_E_REFUSED);
	ck_assert_str_eq(rtb_client_error_text(c), "Unauthorized (rejected)");
	end(&f, c);
}
END_TEST

static void leave(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	(void)ch;
	(void)user;
	rtb_unsubscribe(sub);
}

START_TEST(waiting_for_the_gone)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct fake f;

	c = attached(&f);
	o.handlers.channel = leave;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	say_subscribed(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id, 1, "joined");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_ready(sub, 30000), -ECANCELED);
	end(&f, c);
}
END_TEST

/* A full queue is waited for like the answer: the time is over, not the patience. */
START_TEST(waiting_with_a_full_queue)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	enum rtb_outcome outcome;
	struct rtb_client *c;
	struct fake f;
	char *json;

	fake_start(&f);
	o.send_queue_bytes = 1;
	c = fake_client(&f, &o);
	fake_attach(&f, c);
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), RTB_E_BUSY);
	ck_assert_int_eq(rtb_wait_sync(c, false, 50), RTB_E_TIMEOUT);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	fake_expect(&f, c, RTBP_M_SYNC);
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	ck_assert_int_eq(rtb_wait_status_json(c, 50, &json), RTB_E_TIMEOUT);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	fake_expect(&f, c, RTBP_M_STATUS);
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	ck_assert_int_eq(rtb_wait_broadcast_json(c, "t", "f", "2", NULL, 50, &outcome),
			 RTB_E_TIMEOUT);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(field_text(fake_expect(&f, c, RTBP_M_BROADCAST).params, RTBP_F_EVENT, "f"));
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_wait");
	TCase *t = tcase_create("wait");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_child_leaves_the_parent_alone);
	tcase_add_test(t, waiting_for_answers);
	tcase_add_test(t, waiting_for_outcomes);
	tcase_add_test(t, waiting_over_a_restart);
	tcase_add_test(t, waiting_inside_a_callback);
	tcase_add_test(t, waiting_in_vain);
	tcase_add_test(t, waiting_for_the_rejected);
	tcase_add_test(t, waiting_with_a_full_queue);
	tcase_add_test(t, waiting_for_the_gone);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
