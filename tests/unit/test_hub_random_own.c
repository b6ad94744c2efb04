/* SPDX-License-Identifier: MIT */
/*
 * Stories by chance about the daemon's own token: it comes, ends, is refused, while connections,
 * channels and wishes come and go, and the server of some stories takes a few channels on a connection
 * only. No request ever carries the API key, a token that has ended, or one that the server is known to
 * refuse; a refusal is told once; nothing is sent beyond the number of channels that is known; and when a
 * good token is there at last, everything that is wanted is there, or has no place. Equal seeds are equal
 * stories.
 */
#include "hub_own.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PEERS = 3, TOPICS = 8, STEPS = 250, TOKENS_MAX_HERE = 400, SEEN = 40 };

static uint64_t seed;
static struct fake_peer *peers[PEERS];
static uint32_t next_id[PEERS];
static uint64_t serial;
static struct {
	bool is_bad, is_known; /* known: the hub has heard that it is */
	uint64_t ends_ms;      /* as clock_boot() */
} tokens[TOKENS_MAX_HERE];
static size_t seen, seen_posts;  /* frames, requests that were looked at */
static size_t checked;           /* frames that were looked at */
static struct line joined[SEEN]; /* what the server has, ref 0: nothing */
static unsigned most; /* channels that it takes on a connection; 0: as many as are wanted */
static struct {
	uint64_t epoch;  /* of the connection on which it refused one beyond that */
	size_t n_frames; /* were sent then */
} full[LINKS_MAX];
static struct secret *key;

static unsigned roll(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

static uint64_t boot(void)
{
	return rig.now + rig.slept_ms;
}

/* ---- the server ---- */

/* The number of the token that this text carries; it must be one that may be used. */
static uint64_t token_in(const char *text)
{
	const char *p = strstr(text, "own-");
	uint64_t n;

	MUST_MSG(p && !strstr(text, "the-key") && !strstr(text, "second"), "it carries: %s", text);
	n = strtoull(p + 4, NULL, 10);
	MUST(n > 0 && n <= serial);
	return n;
}

static bool is_there(const struct line *j)
{
	return j->ref && frame_is_current(j);
}

/* What the server has of this topic on the link of this frame; else where it may be remembered. */
static struct line *place_for(const struct line *f)
{
	struct line *found = NULL;

	for (unsigned i = 0; i < SEEN; i++) {
		if (is_there(&joined[i]) && joined[i].link == f->link &&
		    strcmp(joined[i].topic, f->topic) == 0)
			return &joined[i];
		if (!is_there(&joined[i]))
			found = &joined[i];
	}
	MUST(found);
	return found;
}

static unsigned n_there(unsigned link)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SEEN; i++)
		n += is_there(&joined[i]) && joined[i].link == link;
	return n;
}

/* @i: its number. Return: whether it has been refused. */
static bool refuse_beyond(struct line *f, size_t i)
{
	bool is_known = full[f->link].epoch == f->epoch && i >= full[f->link].n_frames;

	if (!most || is_there(place_for(f)) || n_there(f->link) < most)
		return false;
	MUST_MSG(!is_known, "sent though it is known that there is no place: %s", f->text);
	if (full[f->link].epoch != f->epoch) {
		full[f->link].epoch = f->epoch;
		full[f->link].n_frames = rig.frames.n;
	}
	server_reply(f, false, "{'reason':'ChannelRateLimitReached: Too many channels'}");
	return true;
}

static void on_join(struct line *f, size_t i)
{
	uint64_t n = token_in(f->text);
	struct line copy = *f, *place; /* the list moves as it grows */

	if (refuse_beyond(f, i))
		return;
	if (tokens[n].is_bad || boot() >= tokens[n].ends_ms) {
		place = place_for(f); /* a join replaces what was there */
		place->ref = 0;
		server_reply(f, false, roll(2) ? REFUSED_TOKEN : "{'reason':'" OWN_EXPIRED "'}");
		return;
	}
	place = place_for(f);
	copy.text = NULL;
	*place = copy;
	server_reply(f, true, "{}");
}

static void on_leave(struct line *f)
{
	struct line *j = place_for(f);

	if (is_there(j) && j->ref == f->join_ref)
		j->ref = 0;
	if (!f->answered)
		server_reply(f, true, "{}");
}

static void on_token(const struct line *f)
{
	uint64_t n = token_in(f->text);

	for (unsigned i = 0; i < SEEN; i++) {
		struct line *j = &joined[i];

		if (!tokens[n].is_bad || !is_there(j) || j->link != f->link ||
		    strcmp(j->topic, f->topic) != 0 || j->ref != f->join_ref)
			continue;
		own_closed(j, "Failed to validate JWT signature");
		j->ref = 0;
		return;
	}
}

static void serve(void)
{
	struct line *f;

	for (; seen < rig.frames.n; seen++) {
		f = &rig.frames.at[seen];
		if (f->taken || !frame_is_current(f))
			continue;
		f->taken = true;
		if (strcmp(f->event, "phx_join") == 0)
			on_join(f, seen);
		else if (strcmp(f->event, "phx_leave") == 0)
			on_leave(f);
		else if (strcmp(f->event, "access_token") == 0)
			on_token(f);
		else if (!f->answered)
			server_reply(f, true, "{}");
	}
}

static void serve_posts(void)
{
	struct line *p;

	for (; seen_posts < rig.posts.n; seen_posts++) {
		p = &rig.posts.at[seen_posts];
		p->taken = true;
		if (tokens[token_in(p->text)].is_bad)
			server_answer(p, 401, "{\"message\":\"Unauthorized\"}");
		else
			server_answer(p, 202, "");
	}
}

static void open_links(void)
{
	for (rig.at = 0; rig.at < LINKS_MAX; rig.at++) {
		if (rig.links[rig.at].is_open && !rig.links[rig.at].is_closing &&
		    !link_is_online(&rig.hub->links[rig.at]))
			server_open();
	}
	rig.at = 0;
}

/* ---- what happens ---- */

static void ask(unsigned who, const char *method, const char *params)
{
	if (next_id[who] < FAKE_IDS - 1)
		peer_ask(peers[who], next_id[who]++, method, params);
}

static void wish(unsigned who)
{
	unsigned topic = roll(TOPICS);
	char params[200];

	snprintf(params, sizeof(params),
		 "{'topic':'t%u','private':%s,'keep':true,'timeout_ms':%u%s}", topic,
		 topic % 2 ? "true" : "false", roll(3) * 1000, roll(4) ? "" : ",'presence':{}");
	if (roll(3)) {
		ask(who, "subscribe", params);
	} else if (roll(2)) {
		snprintf(params, sizeof(params), "{'topic':'t%u','private':%s}", topic,
			 topic % 2 ? "true" : "false");
		ask(who, "unsubscribe", params);
	} else {
		snprintf(params, sizeof(params),
			 "{'topic':'t%u','event':'e','payload':{},'via':'http','ttl_ms':5000}",
			 topic);
		ask(who, "broadcast", params);
	}
}

static void give_one(bool good)
{
	uint64_t lives_ms = good ? 36000000 : 1000 + roll(100000);

	serial++;
	MUST(serial < TOKENS_MAX_HERE);
	tokens[serial].is_bad = !good && roll(3) == 0;
	tokens[serial].ends_ms = boot() + lives_ms;
	own_give(serial, lives_ms);
	own_says("good", (int64_t)(lives_ms / 2), "", "");
}

static void close_one(void)
{
	static const char *const words[] = { OWN_EXPIRED, "Failed to validate JWT signature",
					     "channel closed for some reason",
					     "You no longer have permission to read" };
	struct line *j = &joined[roll(SEEN)];

	if (!is_there(j))
		return;
	own_closed(j, words[roll(4)]);
	j->ref = 0;
}

static void drop(void)
{
	rig.at = roll(LINKS_MAX);
	if (rig.links[rig.at].is_open && !rig.links[rig.at].is_closing)
		server_drop(roll(4) ? SESSION_FAULT_LOST : SESSION_FAULT_AUTH, "dropped");
	rig.at = 0;
}

static void replace_key(void)
{
	struct secret *before = key;

	key = secret_new("second", 6);
	hub_set_apikey(rig.hub, key);
	secret_free(before);
	turn();
}

static void step(void)
{
	switch (roll(16)) {
	case 0:
		give_one(false);
		break;
	case 1:
		own_take(++serial);
		tokens[serial].is_bad = true;
		own_says("bad", roll(2) ? -1 : 3000, "token_expired", "it has ended");
		break;
	case 2:
		drop();
		break;
	case 3:
		close_one();
		break;
	case 4:
		fall_asleep(roll(20000));
		break;
	case 5:
		if (roll(8) == 0)
			ask(0, "reconnect", "{}");
		else if (roll(4) == 0)
			replace_key();
		break;
	case 6:
		ask(roll(PEERS), "refresh_token", "{'timeout_ms':1000}");
		break;
	case 7:
	case 8:
		serve_posts();
		break;
	case 9:
	case 10:
		open_links();
		break;
	case 11:
	case 12:
		advance(roll(5000));
		break;
	case 13:
		serve();
		break;
	default:
		wish(roll(PEERS));
		break;
	}
	if (roll(3))
		serve();
}

/* Of what was sent in this step. Sleep comes in steps of its own. */
static void check_sent(void)
{
	const struct line *f;
	uint64_t n;

	for (; checked < rig.frames.n; checked++) {
		f = &rig.frames.at[checked];
		if (strcmp(f->event, "phx_join") != 0 && strcmp(f->event, "access_token") != 0)
			continue;
		n = token_in(f->text);
		MUST_MSG(f->at_ms + rig.slept_ms < tokens[n].ends_ms, "%" PRIu64 " has ended", n);
		MUST_MSG(!tokens[n].is_known, "%" PRIu64 " was refused", n);
	}
	if (owner.n_refused)
		tokens[owner.serial].is_known = true;
}

/* Each connection's number is learned by a refusal of its own, and of those a user has two in five
 * minutes. */
static bool has_no_place(const struct join *j)
{
	if (!most)
		return false;
	if (j->state == JOIN_WAITING)
		return strcmp(j->code, "join_budget") == 0 && j->retry_at_ms > rig.now;
	return j->state == JOIN_REJECTED && strcmp(j->code, "too_many_channels") == 0 &&
	       n_there(j->link->number) >= most;
}

static void everything_is_there(void)
{
	struct join *j;

	RB_FOREACH(j, join_id_tree, &rig.hub->joins)
		MUST_MSG(!j->ops->wanted(j) || j->state == JOIN_JOINED || has_no_place(j),
			 "%s: state %d, code %s: %s", j->wire_topic, j->state, j->code, j->text);
	MUST(TAILQ_EMPTY(&rig.hub->posts_waiting));
	for (unsigned i = 0; i < PEERS; i++)
		MUST_MSG(peers[i]->n_asked == 0, "peer %u has %u requests without an answer", i,
			 peers[i]->n_asked);
}

START_TEST(story)
{
	seed = (uint64_t)_i * 7919 + 17;
	serial = 0;
	seen = seen_posts = checked = 0;
	most = roll(2) ? 0 : 1 + roll(4);
	memset(full, 0, sizeof(full));
	memset(joined, 0, sizeof(joined));
	memset(tokens, 0, sizeof(tokens));
	own_start(NULL);
	rig.probes = true;
	for (unsigned i = 0; i < PEERS; i++) {
		rig.uid = 1000 + i;
		peers[i] = peer_ready();
		next_id[i] = 1;
	}
	for (unsigned i = 0; i < STEPS; i++) {
		step();
		check_sent();
	}
	give_one(true);
	advance(ASKED_PAUSE_MS);
	ask(0, "reconnect", "{}"); /* what was refused for good */
	for (unsigned i = 0; i < 1200; i++) {
		open_links();
		serve();
		serve_posts();
		advance(500);
		check_sent();
	}
	serve();
	everything_is_there();
	own_end();
	key = secret_free(key);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("stories");
	Suite *s = suite_create("hub_random_own");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, story, 0, 150);
	suite_add_tcase(s, t);
	return suite_run(s);
}
