/* SPDX-License-Identifier: MIT */
/* librtbridge in a libevent loop, by the header-only adapter. */
#include <rtbridge/libevent.h>

#include "test_client_fake.h"
#include "suite.h"

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	(void)c;
	(void)why;
	if (state != RTB_ATTACHING)
		(void)event_base_loopbreak(user);
}

/* Turns the loop once; the fake's own waiting does not turn the client here. */
static void turn(struct event_base *base)
{
	ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
}

START_TEST(the_loop_does_it)
{
	struct event_base *base = event_base_new();
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_libevent adapter;
	struct rtb_client *c;
	struct fake f;

	fake_init(&f);
	o.handlers.state = on_state;
	o.user = base;
	c = fake_client(&f, &o);
	ck_assert_int_eq(rtb_libevent_attach(&adapter, base, c), 0);
	/* Retries happen by themselves while nobody listens. */
	for (int i = 0; i < 4; i++)
		turn(base);
	fake_listen(&f);
	while ((f.fd = accept4(f.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
		turn(base);
	say_hello(&f);
	fake_flush(&f, c);
	ck_assert_int_eq(event_base_dispatch(base), 0); /* until on_state() breaks it */
	ck_assert_int_eq(rtb_client_state(c), RTB_ATTACHED);
	/* What is sent outside the loop leaves by it. */
	fake_expect(&f, c, RTBP_M_HELLO);
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	turn(base);
	ck_assert(fake_read(&f));
	say_end(&f, RTBP_E_DENIED, "no");
	fake_flush(&f, c);
	ck_assert_int_eq(event_base_dispatch(base), 0);
	ck_assert_int_eq(rtb_client_state(c), RTB_FAILED);
	ck_assert_int_eq(event_base_dispatch(base), 1); /* no events left: it does not spin */
	rtb_libevent_detach(&adapter);
	rtb_libevent_detach(&adapter);
	rtb_client_free(c);
	event_base_free(base);
	fake_stop(&f);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_libevent");
	TCase *t = tcase_create("libevent");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_loop_does_it);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
