/* SPDX-License-Identifier: MIT */
#ifndef RTBRIDGE_LIBEVENT_H
#define RTBRIDGE_LIBEVENT_H
/*
 * rtbridge in a libevent loop: header only; the program links libevent itself.
 *
 *     struct rtb_libevent adapter;
 *
 *     rtb_libevent_attach(&adapter, base, client);
 *     event_base_dispatch(base);
 *     rtb_libevent_detach(&adapter);      before rtb_client_free(), outside the client's callbacks
 *
 * Each turn handles what is there and goes back to the loop. One event is enough: the client's
 * descriptor becomes readable for its timeouts, too.
 */
#include <errno.h>
#include <event2/event.h>
#include <rtbridge/rtbridge.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rtb_libevent {
	struct rtb_client *client;
	struct event *event;
};

static inline void rtb_libevent_turn(evutil_socket_t fd, short what, void *arg)
{
	struct rtb_libevent *a = (struct rtb_libevent *)arg;

	(void)fd;
	(void)what;
	/* The state callback has told of RTB_FAILED; nothing comes after that. */
	if (rtb_client_process(a->client) == RTB_E_FAILED)
		(void)event_del(a->event);
}

/* Makes the loop turn the client. @a must stay where it is until rtb_libevent_detach(). Return: 0,
 * -ENOMEM. */
static inline int rtb_libevent_attach(struct rtb_libevent *a, struct event_base *base,
				      struct rtb_client *client)
{
	a->client = client;
	a->event =
		event_new(base, rtb_client_fd(client), EV_READ | EV_PERSIST, rtb_libevent_turn, a);
	if (a->event && event_add(a->event, NULL) == 0)
		return 0;
	if (a->event)
		event_free(a->event);
	a->event = NULL;
	return -ENOMEM;
}

/* The loop forgets the client, which stays usable. */
static inline void rtb_libevent_detach(struct rtb_libevent *a)
{
	if (a->event)
		event_free(a->event);
	a->event = NULL;
}

#ifdef __cplusplus
}
#endif
#endif
