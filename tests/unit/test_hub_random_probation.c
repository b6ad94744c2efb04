/* SPDX-License-Identifier: MIT */
/*
 * Random stories about joins that may fail: users that ask for what they may and may not have, with
 * tokens of their own or without, a server that holds a connection for each refusal and has trouble
 * of all kinds, connections that end or do not come. Then all is well, and after a while everything
 * that is allowed must be joined. Equal seeds are equal stories: run loop test N alone.
 */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORIES = 120, STEPS = 120, USERS = 4, PEERS = 8, TOPICS = 10, FIRST_UID = 2000 };

static uint64_t seed;
static bool calm;
static unsigned trouble; /* of a hundred joins */
static struct fake_peer *peers[PEERS];
static uint32_t next_id;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

/* ---- the server ---- */

static const char *words_of_trouble(const struct line *f)
{
	bool is_private = strstr(f->text, "\"private\":true") != NULL;

	switch (draw(9)) {
	case 0:
		return "RealtimeRestarting: Realtime is restarting, please standby";
	case 1:
		return "UnableToConnectToProject: Realtime was unable to connect to the project "
		       "database";
	case 2:
		return "ClientJoinRateLimitReached: Too many joins per second";
	case 3:
		return "UnknownErrorOnChannel: Unknown Error on Channel";
	case 4:
		return "words that nobody knows";
	case 5:
		return f->link ? "ConnectionRateLimitReached: Too many connected users" : NULL;
	case 6:
		return is_private ? NULL : "PrivateOnly: This project only allows private channels";
	case 7:
		return strstr(f->text, "\"the-key\"") && draw(4)
			       ? NULL
			       : "JwtSignatureError: Failed to validate JWT signature";
	default:
		return "QueryCanceled: Query was cancelled";
	}
}

static const char *judge(const struct line *f)
{
	if (stall_is(f, "no") && strstr(f->text, "\"private\":true"))
		return "Unauthorized: You do not have permissions to read from this topic";
	return !calm && draw(100) < trouble ? words_of_trouble(f) : NULL;
}

/* ---- what must be true at any time ---- */

static void check_links(void)
{
	unsigned n_unproven[LINKS_MAX] = { 0 }, n_trials = 0;
	struct join *j;

	RB_FOREACH(j, join_id_tree, &rig.hub->joins) {
		if (j->state != JOIN_JOINING)
			continue;
		n_trials += j->is_trial;
		n_unproven[j->link->number] += j->is_trial || j->sent_unproven;
	}
	MUST_MSG(n_trials <= 1, "%u trials at a time", n_trials);
	for (unsigned i = 0; i < LINKS_MAX && rig.conf.probation != HUB_PROBATION_OFF; i++)
		MUST_MSG(n_unproven[i] <= 1, "link %u: %u unproven ones out", i, n_unproven[i]);
}

/* Refused in its place for its user's own fault. */
static bool is_failure(const struct stall_refusal *r)
{
	return r->said && strncmp(r->words, "Unauthorized", 12) == 0;
}

/* Where there is one connection only: what is borne in five minutes, of one user and of all. */
static void check_budget(void)
{
	const struct stall_refusal *first, *r;
	unsigned n, n_own;

	if (rig.conf.max_links > 1 || rig.conf.probation == HUB_PROBATION_OFF)
		return;
	for (unsigned i = 0; i < stall.n_refusals; i++) {
		first = &stall.refusals[i];
		n = n_own = 0;
		for (r = first; r < stall.refusals + stall.n_refusals; r++) {
			if (!is_failure(first) || !is_failure(r) ||
			    r->at_ms >= first->at_ms + BUDGET_MS)
				continue;
			n++;
			n_own += strncmp(r->topic, first->topic, strlen("realtime:no2000")) == 0;
		}
		MUST_MSG(n <= BUDGET_OF_ALL, "%u failures of all in 5 min", n);
		MUST_MSG(n_own <= BUDGET_OF_USER, "%u failures of one user in 5 min", n_own);
	}
}

static void run(uint64_t ms)
{
	uint64_t until = rig.now + ms;

	while (rig.now < until) {
		stall_run(until - rig.now < 100 ? until - rig.now : 100);
		check_links();
	}
}

/* ---- the users ---- */

static unsigned user_of(const struct fake_peer *p)
{
	return p->peer->cred.uid - FIRST_UID;
}

static void ask(struct fake_peer *p, const char *method, const char *params)
{
	if (p->n_asked < 60 && p->attached && !p->finished) {
		while (p->asked[next_id])
			next_id = (next_id + 1) % FAKE_IDS;
		peer_ask(p, next_id, method, params);
	}
}

/* Topics that anybody may have, and those that this user may not. */
static void name_topic(const struct fake_peer *p, unsigned n, char *topic, size_t size)
{
	if (n < TOPICS)
		snprintf(topic, size, "ok%u", n);
	else
		snprintf(topic, size, "no%04u-%u", FIRST_UID + user_of(p), n);
}

static void subscribe(struct fake_peer *p, unsigned n, bool is_private, unsigned timeout_ms,
		      const char *more)
{
	char topic[30], params[200];

	name_topic(p, n, topic, sizeof(topic));
	snprintf(params, sizeof(params), "{'topic':'%s','private':%s,'timeout_ms':%u%s}", topic,
		 is_private ? "true" : "false", timeout_ms, more);
	ask(p, "subscribe", params);
}

static void unsubscribe(struct fake_peer *p)
{
	char params[100];

	if (draw(5) == 0)
		snprintf(params, sizeof(params), "{'all':true}");
	else
		snprintf(params, sizeof(params), "{'topic':'ok%u','private':%s}", draw(TOPICS),
			 draw(2) ? "true" : "false");
	ask(p, "unsubscribe", params);
}

static void give_token(struct fake_peer *p)
{
	char params[4000], sub[20];

	snprintf(sub, sizeof(sub), "user-%u", draw(3));
	if (draw(3) == 0)
		snprintf(params, sizeof(params), "{'token':null}");
	else
		snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':%u}",
			 token_of_user(sub, draw(6)), 1000 + draw(30000));
	ask(p, "auth", params);
}

static void use(struct fake_peer *p)
{
	static const char *const more[] = { "", ",'keep':true", ",'presence':{}",
					    ",'wait':'joined'" };
	char params[100];

	switch (draw(8)) {
	case 0:
		unsubscribe(p);
		break;
	case 1:
		give_token(p);
		break;
	case 2:
		snprintf(params, sizeof(params),
			 "{'topic':'ok%u','private':true,'event':'e','payload':1}", draw(TOPICS));
		ask(p, "broadcast", params);
		break;
	case 3:
		snprintf(params, sizeof(params), "{'topic':'ok%u','private':true,'state':{}}",
			 draw(3));
		ask(p, "track", params);
		break;
	default:
		subscribe(p, draw(TOPICS + 6), draw(4) > 0, 500 + draw(30000), more[draw(4)]);
		break;
	}
}

static struct fake_peer *attach(unsigned n)
{
	rig.uid = FIRST_UID + n % USERS;
	return peer_ready();
}

static void come_and_go(unsigned *n_attached)
{
	unsigned n = draw(PEERS);

	if (*n_attached == FAKE_PEERS || draw(3))
		return;
	peer_close(peers[n]);
	peers[n] = attach(n);
	++*n_attached;
}

static void break_links(void)
{
	unsigned link = draw(rig.conf.max_links);

	switch (draw(4)) {
	case 0:
		stall.silent[link] = !stall.silent[link];
		break;
	case 1:
		stall.refuses[link] = !stall.refuses[link];
		break;
	default:
		rig.at = link;
		if (rig.links[link].is_open && !rig.links[link].is_closing)
			server_drop(draw(2) ? SESSION_FAULT_LOST : SESSION_FAULT_RESTART, "gone");
		rig.at = 0;
		break;
	}
}

/* ---- the end: all is well ---- */

static void become_calm(void)
{
	calm = true;
	memset(stall.silent, 0, sizeof(stall.silent));
	memset(stall.refuses, 0, sizeof(stall.refuses));
	for (unsigned i = 0; i < PEERS; i++) {
		ask(peers[i], "unsubscribe", "{'all':true}");
		ask(peers[i], "untrack", "{'topic':'ok0','private':true}");
		ask(peers[i], "untrack", "{'topic':'ok1','private':true}");
		ask(peers[i], "untrack", "{'topic':'ok2','private':true}");
	}
	/* Pauses of parks, of links, and of the memory for refusals. */
	run(1200000);
	for (unsigned i = 0; i < PEERS; i++)
		ask(peers[i], "auth", "{'token':null}");
	run(1000);
}

static bool holds_all(const struct fake_peer *p)
{
	const struct sub *s;
	unsigned n = 0;

	TAILQ_FOREACH(s, &p->peer->subs, in_peer) {
		n += s->answered && s->on_channel && s->chan->join->state == JOIN_JOINED;
	}
	return n == TOPICS;
}

static void all_is_joined(void)
{
	for (unsigned i = 0; i < PEERS; i++) {
		for (unsigned n = 0; n < TOPICS; n++)
			subscribe(peers[i], n, n % 2, 60000, "");
	}
	run(100000);
	for (unsigned i = 0; i < PEERS; i++) {
		MUST_MSG(!peers[i]->n_asked, "peer %u: %u requests have no answer", i,
			 peers[i]->n_asked);
		if (!holds_all(peers[i]) && getenv("STORY"))
			for (size_t k = peers[i]->got.n > 25 ? peers[i]->got.n - 25 : 0;
			     k < peers[i]->got.n; k++)
				fprintf(stderr, "%s\n", peers[i]->got.at[k].text);
		MUST_MSG(holds_all(peers[i]), "peer %u has not all that is allowed", i);
	}
}

static void choose(struct hub_conf *conf)
{
	conf->max_links = 1 + draw(4);
	conf->probation = (enum hub_probation)draw(3);
	conf->connect_always = draw(2);
	conf->session.seed = seed;
}

START_TEST(story)
{
	unsigned n_attached = PEERS;

	seed = (uint64_t)_i * 7919 + 1;
	calm = false;
	next_id = 0;
	trouble = draw(30);
	rig_start(choose);
	stall_start(judge);
	for (unsigned i = 0; i < PEERS; i++)
		peers[i] = attach(i);
	for (unsigned step = 0; step < STEPS; step++) {
		use(peers[draw(PEERS)]);
		if (draw(10) == 0)
			come_and_go(&n_attached);
		if (draw(12) == 0)
			break_links();
		run(draw(4) ? draw(1000) : draw(20000));
		if (getenv("STORY"))
			fprintf(stderr, "%" PRIu64 "\n", rig.now);
	}
	become_calm();
	all_is_joined();
	check_budget();
	stall_done();
	rig_teardown();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_random_probation");
	TCase *t = tcase_create("random");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, story, 0, STORIES);
	suite_add_tcase(s, t);
	return suite_run(s);
}
