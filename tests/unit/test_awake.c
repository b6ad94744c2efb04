/* SPDX-License-Identifier: MIT */
/* awake: sleep by two clocks, changes of the network by rtnetlink's messages. */
#include "app/awake.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "suite.h"

/* ---- sleep ---- */

START_TEST(test_clocks)
{
	struct awake_clocks c = { 0 };

	/* What was slept before the first look is no news. */
	ck_assert_uint_eq(awake_look(&c, 1000, 90000), 0);
	ck_assert_uint_eq(awake_look(&c, 6000, 95000), 0);
	/* The two are not read at the same moment. */
	ck_assert_uint_eq(awake_look(&c, 11000, 100001), 0);
	ck_assert_uint_eq(awake_look(&c, 16000, 105000), 0);
	ck_assert_uint_eq(awake_look(&c, 21000, 111999), 0);
	ck_assert_uint_eq(awake_look(&c, 26000, 117000), 2000);
	ck_assert_uint_eq(awake_look(&c, 31000, 122000), 0);
	ck_assert_uint_eq(awake_look(&c, 31010, 122010 + 3600000), 3600000);
	ck_assert_uint_eq(awake_look(&c, 36010, 127010 + 3600000), 0);
	/* Many short ones count as soon as they are one of two seconds together. */
	ck_assert_uint_eq(awake_look(&c, 41010, 133010 + 3600000), 0);
	ck_assert_uint_eq(awake_look(&c, 46010, 139010 + 3600000), 2000);
}
END_TEST

/* ---- messages ---- */

struct message {
	_Alignas(struct nlmsghdr) char bytes[512];
	size_t size;
};

static void message_begin(struct message *m, uint16_t type, const void *body, size_t size)
{
	struct nlmsghdr h = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(size), .nlmsg_type = type };
	char *at = m->bytes + m->size;

	memcpy(at, &h, sizeof(h));
	memcpy(at + NLMSG_HDRLEN, body, size);
	m->size += NLMSG_ALIGN(h.nlmsg_len);
}

static void message_attr(struct message *m, size_t begin, uint16_t type, const void *value,
			 uint16_t size)
{
	struct rtattr a = { .rta_len = (uint16_t)RTA_LENGTH(size), .rta_type = type };
	struct nlmsghdr h;

	memcpy(m->bytes + m->size, &a, sizeof(a));
	memcpy(m->bytes + m->size + RTA_LENGTH(0), value, size);
	m->size += RTA_ALIGN(a.rta_len);
	memcpy(&h, m->bytes + begin, sizeof(h));
	h.nlmsg_len = (uint32_t)(m->size - begin);
	memcpy(m->bytes + begin, &h, sizeof(h));
}

static bool address_is_news(uint16_t type, uint8_t scope, uint32_t flags, uint32_t age)
{
	struct ifaddrmsg body = { .ifa_family = AF_INET6, .ifa_scope = scope, .ifa_index = 2 };
	struct ifa_cacheinfo info = { .cstamp = 70000, .tstamp = 70000 + age };
	struct message m = { .size = 0 };

	message_begin(&m, type, &body, sizeof(body));
	message_attr(&m, 0, IFA_FLAGS, &flags, sizeof(flags));
	message_attr(&m, 0, IFA_CACHEINFO, &info, sizeof(info));
	return awake_is_news(m.bytes, m.size);
}

START_TEST(test_addresses)
{
	ck_assert(address_is_news(RTM_NEWADDR, RT_SCOPE_UNIVERSE, IFA_F_PERMANENT, 0));
	ck_assert(address_is_news(RTM_DELADDR, RT_SCOPE_UNIVERSE, 0, 360000));
	/* Still being tried; of this cable; of this machine; renewed by a router or DHCP. */
	ck_assert(!address_is_news(RTM_NEWADDR, RT_SCOPE_UNIVERSE, IFA_F_TENTATIVE, 0));
	ck_assert(!address_is_news(RTM_NEWADDR, RT_SCOPE_LINK, 0, 0));
	ck_assert(!address_is_news(RTM_NEWADDR, RT_SCOPE_HOST, 0, 0));
	ck_assert(!address_is_news(RTM_NEWADDR, RT_SCOPE_UNIVERSE, 0, 18000));
}
END_TEST

static bool route_is_news(uint8_t table, uint8_t kind, uint8_t scope, unsigned flags)
{
	struct rtmsg body = { .rtm_family = AF_INET,
			      .rtm_table = table,
			      .rtm_type = kind,
			      .rtm_scope = scope,
			      .rtm_flags = flags };
	struct message m = { .size = 0 };

	message_begin(&m, RTM_NEWROUTE, &body, sizeof(body));
	return awake_is_news(m.bytes, m.size);
}

START_TEST(test_routes)
{
	ck_assert(route_is_news(RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_UNIVERSE, 0));
	ck_assert(route_is_news(RT_TABLE_MAIN, RTN_BLACKHOLE, RT_SCOPE_UNIVERSE, 0));
	ck_assert(route_is_news(RT_TABLE_UNSPEC, RTN_UNICAST, RT_SCOPE_UNIVERSE, 0));
	ck_assert(!route_is_news(RT_TABLE_LOCAL, RTN_UNICAST, RT_SCOPE_UNIVERSE, 0));
	ck_assert(!route_is_news(RT_TABLE_MAIN, RTN_MULTICAST, RT_SCOPE_UNIVERSE, 0));
	ck_assert(!route_is_news(RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_LINK, 0));
	ck_assert(!route_is_news(RT_TABLE_MAIN, RTN_UNICAST, RT_SCOPE_UNIVERSE, RTM_F_CLONED));
}
END_TEST

START_TEST(test_links)
{
	struct ifinfomsg body = { .ifi_index = 2, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct message m = { .size = 0 };

	message_begin(&m, RTM_NEWLINK, &body, sizeof(body));
	ck_assert(awake_is_news(m.bytes, m.size));
	m.size = 0;
	body.ifi_change = IFF_PROMISC;
	message_begin(&m, RTM_NEWLINK, &body, sizeof(body));
	ck_assert(!awake_is_news(m.bytes, m.size));
	/* The news stands behind what is none. */
	message_begin(&m, RTM_DELLINK, &body, sizeof(body));
	ck_assert(awake_is_news(m.bytes, m.size));
	m.size = 0;
	body.ifi_flags |= IFF_LOOPBACK;
	message_begin(&m, RTM_DELLINK, &body, sizeof(body));
	ck_assert(!awake_is_news(m.bytes, m.size));
}
END_TEST

/* Cut, or shorter than it says: nothing is read behind its end (the sanitizer looks). */
START_TEST(test_cut)
{
	struct rtmsg body = { .rtm_family = AF_INET,
			      .rtm_table = RT_TABLE_MAIN,
			      .rtm_type = RTN_UNICAST };
	struct nlmsghdr h = { .nlmsg_len = NLMSG_HDRLEN + 4, .nlmsg_type = RTM_NEWADDR };
	struct message m = { .size = 0 };
	char *copy;

	message_begin(&m, RTM_NEWROUTE, &body, sizeof(body));
	for (size_t n = 0; n < m.size; n++) {
		copy = malloc(n + 1);
		ck_assert_ptr_nonnull(copy);
		memcpy(copy, m.bytes, n);
		ck_assert(!awake_is_news(copy, n));
		free(copy);
	}
	copy = calloc(1, NLMSG_HDRLEN + 4);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, &h, sizeof(h));
	ck_assert(!awake_is_news(copy, NLMSG_HDRLEN + 4));
	free(copy);
}
END_TEST

/* ---- the kernel's own ---- */

struct rig {
	struct loop *loop;
	struct loop_timer limit;
	struct loop_timer next;
	bool is_there; /* the route */
	unsigned n_network;
};

static void on_network(void *ctx)
{
	struct rig *rig = ctx;

	rig->n_network++;
	loop_stop(rig->loop);
}

static void on_slept(void *ctx, uint64_t ms)
{
	(void)ctx;
	ck_abort_msg("slept for %llu ms", (unsigned long long)ms);
}

static void on_limit(void *ctx)
{
	(void)ctx;
	ck_abort_msg("nothing was heard of the new route");
}

static void set_route(uint16_t type)
{
	struct rtmsg body = { .rtm_family = AF_INET,
			      .rtm_dst_len = 8,
			      .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = RTPROT_STATIC,
			      .rtm_scope = RT_SCOPE_UNIVERSE,
			      .rtm_type = RTN_BLACKHOLE };
	struct in_addr to = { .s_addr = htonl(0x0a000000) };
	struct message m = { .size = 0 };
	struct nlmsghdr h;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	ck_assert_int_ge(fd, 0);
	message_begin(&m, type, &body, sizeof(body));
	message_attr(&m, 0, RTA_DST, &to, sizeof(to));
	memcpy(&h, m.bytes, sizeof(h));
	h.nlmsg_flags = NLM_F_REQUEST | (type == RTM_NEWROUTE ? NLM_F_CREATE : 0);
	memcpy(m.bytes, &h, sizeof(h));
	ck_assert_int_eq(send(fd, m.bytes, m.size, 0), (ssize_t)m.size);
	close(fd);
}

/* In a network namespace of its own, which it may change. Return: whether there is one. */
static bool rig_up(struct rig *rig, struct awake **ret)
{
	static const struct awake_ops ops = { .slept = on_slept, .network = on_network };

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("not tried: no network namespace may be made here: %s\n", strerror(errno));
		return false;
	}
	rig->loop = loop_new();
	ck_assert_ptr_nonnull(rig->loop);
	ck_assert_int_eq(loop_timer_init(rig->loop, &rig->limit, on_limit, rig), 0);
	ck_assert_int_eq(awake_new(rig->loop, &ops, rig, ret), 0);
	return true;
}

static void rig_down(struct rig *rig, struct awake *a)
{
	awake_free(a);
	loop_timer_done(&rig->limit);
	loop_timer_done(&rig->next);
	loop_free(rig->loop);
}

START_TEST(test_kernel)
{
	struct rig rig = { .loop = NULL };
	struct awake *a;

	if (!rig_up(&rig, &a))
		return;
	set_route(RTM_NEWROUTE);
	loop_timer_set(&rig.limit, 10000);
	ck_assert_int_eq(loop_run(rig.loop), 0);
	ck_assert_uint_eq(rig.n_network, 1);
	rig_down(&rig, a);
}
END_TEST

static void change_again(void *ctx)
{
	struct rig *rig = ctx;

	set_route(rig->is_there ? RTM_DELROUTE : RTM_NEWROUTE);
	rig->is_there = !rig->is_there;
	loop_timer_set(&rig->next, AWAKE_QUIET_MS / 10);
}

/* A network that flaps is never quiet, and is looked at all the same, now and then. */
START_TEST(test_flapping)
{
	struct rig rig = { .loop = NULL };
	struct awake *a;
	uint64_t began;

	if (!rig_up(&rig, &a))
		return;
	ck_assert_int_eq(loop_timer_init(rig.loop, &rig.next, change_again, &rig), 0);
	change_again(&rig);
	for (unsigned i = 1; i <= 2; i++) {
		began = clock_now(&clock_system);
		loop_timer_set(&rig.limit, 4 * AWAKE_LATE_MS);
		ck_assert_int_eq(loop_run(rig.loop), 0);
		ck_assert_uint_eq(rig.n_network, i);
		printf("told after %llu ms\n",
		       (unsigned long long)(clock_now(&clock_system) - began));
	}
	rig_down(&rig, a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("awake");
	TCase *t = tcase_create("awake");

	tcase_add_test(t, test_clocks);
	tcase_add_test(t, test_addresses);
	tcase_add_test(t, test_routes);
	tcase_add_test(t, test_links);
	tcase_add_test(t, test_cut);
	tcase_add_test(t, test_kernel);
	tcase_add_test(t, test_flapping);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	return suite_run(s);
}
