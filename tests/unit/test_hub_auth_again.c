/* SPDX-License-Identifier: MIT */
/* Stories about an identity whose clients have gone, and who comes back to it: a command that is
 * run again and again, each time with a token. */
#include "hub_fixture.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *first;

/* Somebody had t with the token, and is gone; the channel is not yet left. */
static void begin(void)
{
	struct fake_peer *p;

	rig_start(with_links);
	server_open();
	p = peer_ready();
	first = token_of_user("alice", 1);
	give(p, 1, first, UNPROVEN("1"));
	peer_joins(p, 2, "t", first);
	peer_close(p);
	turn();
}

static void expect_forgotten(void)
{
	advance(120000);
	server_serve();
	turn();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
	ck_assert_uint_eq(rig.hub->n_tokens, 0);
	ck_assert(TAILQ_EMPTY(&rig.hub->tokens) && TAILQ_EMPTY(&rig.hub->identities));
}

START_TEST(with_the_same_token)
{
	struct fake_peer *p;

	for (int i = 0; i < 10; i++) {
		p = peer_ready();
		give(p, 1, first, ACCEPTED("1"));
		peer_shares(p, 2, "t"); /* no join, no other link */
		peer_close(p);
		advance(900);
	}
	ck_assert(!rig.links[1].is_open);
	expect_forgotten();
}
END_TEST

/* The server takes a token that claims the same: it is the one who was there. */
START_TEST(with_another_token)
{
	const char *second = token_of_user("alice", 2);
	struct fake_peer *p = peer_ready();

	give(p, 1, second, NULL);
	open_link(1);
	server_tries(1, second, true, "{}");
	trial_left();
	expect(p, ACCEPTED("1"));
	peer_shares(p, 2, "t");
	peer_close(p);
	expect_forgotten();
}
END_TEST

/* ... and a forged one is not. */
START_TEST(with_a_forged_token)
{
	const char *forged = token_of_user("alice", 2);
	struct fake_peer *p = peer_ready();

	give(p, 1, forged, NULL);
	open_link(1);
	server_tries(1, forged, false, REFUSED_TOKEN);
	expect(p, "[1,1,[211,'bad_token',*");
	expect_nothing(p);
	peer_close(p);
	expect_forgotten();
}
END_TEST

/* Nobody has it any more: no join goes out with it. */
START_TEST(kept_but_not_used)
{
	unsigned n = frames_with(first);

	server_drop(SESSION_FAULT_LOST, "gone");
	advance(5000);
	server_open();
	expect_no_frame();
	ck_assert_uint_eq(frames_with(first), n);
	expect_forgotten();
}
END_TEST

/* Who comes and goes with a new one each time leaves one, not all. */
START_TEST(one_is_kept)
{
	struct fake_peer *stays = peer_ready(), *p;
	const char *token;

	give(stays, 1, first, ACCEPTED("1"));
	peer_shares(stays, 2, "t");
	for (unsigned i = 0; i < 20; i++) {
		token = token_of_user("alice", 10 + i);
		p = peer_ready();
		give(p, 1, token, NULL);
		if (i == 0)
			open_link(1);
		server_tries(1, token, true, "{}");
		server_serve();
		peer_skip(p, "");
		advance(1000);
		server_serve();
		peer_close(p);
		turn();
		ck_assert_uint_le(rig.hub->n_tokens, 2);
	}
	peer_skip(stays, "");
	server_broadcast("t", "e", "1");
	expect(stays, "[2,'broadcast',*");
	peer_close(stays);
	expect_forgotten();
}
END_TEST

/* One that is kept beside those of others goes with its end. */
START_TEST(kept_until_its_end)
{
	const char *brief = token_of("'role':'authenticated','sub':'alice'", 600, 2);
	struct fake_peer *stays = peer_ready(), *p = peer_ready();

	give(stays, 1, first, ACCEPTED("1"));
	peer_shares(stays, 2, "t");
	give(p, 1, brief, NULL);
	open_link(1);
	server_tries(1, brief, true, "{}");
	trial_left();
	expect(p, ACCEPTED("1"));
	peer_close(p);
	advance(500000);
	ck_assert_uint_eq(rig.hub->n_tokens, 2);
	advance(100000 + EXPIRY_LOOK_MS);
	ck_assert_uint_eq(rig.hub->n_tokens, 1);
	expect_nothing(stays);
	peer_close(stays);
	expect_forgotten();
}
END_TEST

/* The server has not said anything of it when its client goes: nobody waits for that. */
START_TEST(gone_unproven)
{
	const char *mallory = token_of_user("bob", 7), *bob = token_of_user("bob", 8);
	struct fake_peer *p = peer_ready(), *q;

	give(p, 1, mallory, UNPROVEN("1"));
	peer_ask(p, 2, "subscribe", "{'topic':'u'}");
	expect_join("u", mallory); /* no answer yet */
	peer_close(p);
	turn();
	q = peer_ready();
	give(q, 1, bob, UNPROVEN("1"));
	ck_assert(!rig.links[1].is_open);
	peer_close(q);
	expect_forgotten();
}
END_TEST

/* It keeps one that has expired no longer than it must. */
START_TEST(come_back_too_late)
{
	struct fake_peer *p;

	rig.wall_step_ms = 10000000;
	p = peer_ready();
	give(p, 1, first, "[1,1,[211,'bad_token',*");
	peer_close(p);
	expect_forgotten();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_auth_again");
	TCase *t = tcase_create("again");

	tcase_add_checked_fixture(t, begin, rig_teardown);
	tcase_add_test(t, with_the_same_token);
	tcase_add_test(t, with_another_token);
	tcase_add_test(t, with_a_forged_token);
	tcase_add_test(t, kept_but_not_used);
	tcase_add_test(t, one_is_kept);
	tcase_add_test(t, kept_until_its_end);
	tcase_add_test(t, gone_unproven);
	tcase_add_test(t, come_back_too_late);
	suite_add_tcase(s, t);
	return suite_run(s);
}
