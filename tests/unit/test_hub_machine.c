/* SPDX-License-Identifier: MIT */
/* Stories about the machine: it slept, its network changed. */
#include "hub_fixture.h"

static struct fake_peer *p;

static void setup(void)
{
	rig_setup_online();
	p = peer_ready();
	peer_join(p, "t", "{}");
}

/* Longer than the server waits: nobody waits for a heartbeat to find out. */
START_TEST(long_sleep)
{
	hub_on_slept(rig.hub, 50001);
	turn();
	expect(p, "[2,'channel',{*'state':'rejoining','code':'connection',*");
	expect(p,
	       "[2,'connection',{'state':'backoff','since':*,'reason':'slept','text':'the machine "
	       "slept for 50 s; *");
	/* At once, as soon as the old one is closed. */
	advance(1000);
	ck_assert(rig.links[0].is_open);
	server_open();
	server_join("t");
	expect(p, "[2,'connection',{'state':'online',*");
	expect(p, "[2,'gap',{'chan':1,'topic':'t','from':*,'to':*,'cause':'connection',*");
	expect(p, "[2,'channel',{*'state':'ready'}]");
	expect_nothing(p);
}
END_TEST

/* A nap: the connection is asked, and stays if it answers. */
START_TEST(short_sleep)
{
	unsigned before = rig.n_heartbeats;

	hub_on_slept(rig.hub, 50000);
	turn();
	advance(0);
	ck_assert_uint_eq(rig.n_heartbeats, before + 1);
	advance(6000);
	server_broadcast("t", "e", "1");
	expect(p, "[2,'broadcast',*");
	expect_nothing(p);
}
END_TEST

START_TEST(network_gone)
{
	rig.mute = true;
	hub_on_network(rig.hub);
	turn();
	advance(4999);
	expect_nothing(p);
	advance(1);
	expect(p, "[2,'channel',{*'state':'rejoining','code':'connection',*");
	expect(p, "[2,'connection',{*'reason':'heartbeat',*");
}
END_TEST

/* The cable is out for long, and comes back just after an attempt. */
START_TEST(network_back)
{
	unsigned n_opened;

	server_drop(SESSION_FAULT_LOST, "gone");
	for (unsigned i = 0; i < 10; i++) {
		advance(31000);
		server_drop(SESSION_FAULT_CONNECT, "no route");
	}
	n_opened = rig.links[0].n_opened;
	ck_assert(!rig.links[0].is_open);
	hub_on_network(rig.hub);
	turn();
	ck_assert_uint_eq(rig.links[0].n_opened, n_opened + 1);
	server_open();
	server_join("t");
	peer_skip(p, "never");
	server_broadcast("t", "e", "1");
	expect(p, "[2,'broadcast',*");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_machine");
	TCase *t = tcase_create("hub_machine");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, long_sleep);
	tcase_add_test(t, short_sleep);
	tcase_add_test(t, network_gone);
	tcase_add_test(t, network_back);
	suite_add_tcase(s, t);
	return suite_run(s);
}
