/* SPDX-License-Identifier: MIT */
/*
 * Random stories about database changes: clients that ask for some of 40 bindings, of which the
 * server does not take ten, and change their minds; a server that answers late, not at all, closes
 * and drops; rows that are numbered. The model of what each client must get stands in
 * hub_changes_model.c. Equal seeds are equal stories.
 */
#include "hub_changes_model.h"
#include "hub_changes_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORIES = 100, STEPS = 500, LIVE_PEERS = 8 };

static unsigned n_attached;
static bool was_busy; /* the links took nothing for a while */
static uint64_t seed;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

/* The hub itself gives a link up when its heartbeats cannot be sent. */
static void look_at_links(void)
{
	static uint64_t epochs[LINKS_MAX];

	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (epochs[i] != rig.links[i].epoch)
			model_interrupted();
		epochs[i] = rig.links[i].epoch;
	}
}

/* ---- what peers do ---- */

static const char *const topics[MODEL_TOPICS] = { "", "x", "y" };

static void put_binding(FILE *out, unsigned k)
{
	fprintf(out, "{'schema':'public','event':'%s','table':'%s%u'}",
		k < MODEL_GOOD ? db_events[k / MODEL_TABLES] : "*", k < MODEL_GOOD ? "t" : "bad",
		k < MODEL_GOOD ? k % MODEL_TABLES : k - MODEL_GOOD);
}

static void step_subscribe(struct fake_peer *p)
{
	static const char *const timeouts[] = { "0", "50", "3000", "15000" };
	unsigned topic = draw(MODEL_TOPICS), n = 1 + draw(MODEL_WISH_MAX);
	bool on_channel = topic && draw(3) == 0;
	unsigned list[MODEL_WISH_MAX];
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	if (on_channel && draw(4) == 0)
		n = 0; /* of the channel alone */
	fprintf(out, "{'topic':'%s','keep':%s,'wait':'%s','timeout_ms':%s%s,'postgres_changes':[",
		topics[topic], draw(3) ? "false" : "true", draw(3) ? "ready" : "joined",
		timeouts[draw(4)], on_channel ? ",'broadcast':{}" : "");
	for (unsigned i = 0; i < n; i++) {
		unsigned k = draw(8) ? draw(MODEL_GOOD) : draw(MODEL_BINDINGS);

		list[i] = k;
		if (i)
			fputc(',', out);
		put_binding(out, k);
	}
	fprintf(out, "]}");
	fclose(out);
	peer_ask(p, model_subscribe(p, topic, list, n), "subscribe", text);
	free(text);
}

static void step_unsubscribe(struct fake_peer *p)
{
	unsigned topic = draw(MODEL_TOPICS);
	char params[50];

	snprintf(params, sizeof(params), "{'topic':'%s'}", topics[topic]);
	peer_ask(p, model_unsubscribe(p, topic), "unsubscribe", params);
}

static struct fake_peer *some_peer(void)
{
	struct fake_peer *live[FAKE_PEERS];
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			live[n++] = &rig.peers[i];
	}
	if (n == 0 || (n < LIVE_PEERS && n_attached < FAKE_PEERS - 1 && draw(10) == 0)) {
		if (n_attached == FAKE_PEERS - 1)
			return NULL;
		n_attached++;
		live[0] = peer_attach();
		live[0]->on_message = model_on_message;
		n = 1;
		peer_ask(live[0], model_next_id(live[0]), "hello", "{'protocol':1}");
	}
	return live[draw(n)];
}

static void step_peer(void)
{
	struct fake_peer *p = some_peer();
	unsigned what = draw(20);

	if (!p)
		return;
	if (what == 0 && draw(2)) {
		peer_close(p);
	} else if (what == 1 && draw(4) == 0) {
		p->send_result = draw(2) ? 1 : -12;
		p->room = draw(5);
	} else if (what == 2) {
		peer_ask(p, model_next_id(p), "status", "{}");
	} else if (what < 6) {
		step_unsubscribe(p);
	} else {
		step_subscribe(p);
	}
}

/* ---- what the server does ---- */

static struct db_channel *some_channel(void)
{
	unsigned first = draw(DB_CHANNELS);

	for (unsigned i = 0; i < DB_CHANNELS; i++) {
		struct db_channel *c = &database.channels[(first + i) % DB_CHANNELS];

		if (database_has(c))
			return c;
	}
	return NULL;
}

static void flush(void)
{
	for (unsigned link = 0; link < LINKS_MAX; link++) {
		while (database_send(link))
			;
	}
	model_flushed();
}

static void step_row(void)
{
	unsigned table = draw(MODEL_TABLES), event = 1 + draw(3), n = model_row(table, event);

	if (n)
		database_row(table, db_events[event], n);
}

static void step_trouble(void)
{
	struct db_channel *c = some_channel();
	unsigned what = draw(8), link = draw(2);

	if (what == 0 && rig.links[link].is_open && !rig.links[link].is_closing) {
		model_interrupted();
		rig.at = link;
		server_drop(SESSION_FAULT_LOST, "dropped");
		rig.at = 0;
	} else if (what < 3) {
		database.n_refused++;
	} else if (what == 3) {
		database.n_silent++;
	} else if (what == 4) {
		database.n_troubled++;
		model_interrupted();
	} else if (c && what < 7) {
		model_interrupted();
		database_close(c);
	} else if (c && c->n && c->subscribed) {
		model_interrupted();
		database_trouble(c);
	}
}

static void step_server(void)
{
	unsigned what = draw(40);

	database.every_event = draw(10) == 0;
	if (what == 0)
		step_trouble();
	else if (what < 4)
		(void)database_open_link();
	else if (what < 12)
		step_row();
	else if (what < 20)
		(void)database_send(draw(2));
	else if (what < 28)
		(void)database_word(draw(DB_CHANNELS));
	else
		(void)database_frame(draw(2));
}

static void step_time(void)
{
	static const unsigned ms[] = { 0, 1, 10, 10, 100, 200, 500, 2000, 2000, 11000, 60000 };
	unsigned pass = ms[draw(sizeof(ms) / sizeof(*ms))];

	rig.no_turns = false;
	turn();
	flush();
	advance(pass);
}

/* ---- the story ---- */

static void step(void)
{
	unsigned what = draw(100);

	if (what < 20)
		step_peer();
	else if (what < 85)
		step_server();
	else if (what < 98)
		step_time();
	else if (what < 99)
		rig.send_result = rig.send_result ? 0 : (draw(2) ? 1 : -12);
	else
		rig.no_turns = true; /* until time goes on */
	was_busy |= rig.send_result != 0;
	look_at_links();
}

/* From here on everything works. */
static void settle(void)
{
	rig.no_turns = false;
	rig.send_result = 0;
	turn();
	flush();
	database.n_refused = database.n_silent = database.n_troubled = 0;
	for (unsigned i = 0; i < DB_CHANNELS; i++) {
		struct db_channel *c = &database.channels[i];

		c->told &= c->subscribed; /* those of which nothing was said */
	}
	for (unsigned i = 0; i < 400; i++) {
		database_serve_for(i < 100 ? 200 : 4000, i < 100 ? 20 : 1000);
		if (i % 10 == 0)
			step_row();
		flush();
	}
}

static void two_links(struct hub_conf *conf)
{
	conf->max_links = 2;
	conf->max_channels = 10;
}

START_TEST(story)
{
	model_start();
	n_attached = 0;
	was_busy = false;
	seed = (uint64_t)_i * 7919 + 3;
	database_start();
	database.late = true;
	rig_start(two_links);
	for (unsigned i = 0; i < STEPS; i++)
		step();
	settle();
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached && !rig.peers[i].finished)
			model_check_end(i);
	}
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			peer_close(&rig.peers[i]);
	}
	database_serve_for(60000, 500);
	MUST(rig.hub->n_feeds == 0);
	MUST(rig.hub->n_bindings == 0);
	MUST(rig.hub->n_chans == 0);
	/* A leave that finds no room is not tried again when the join had no answer. */
	MUST(was_busy || database_feeds() == 0);
	rig_teardown();
	database_start();
}
END_TEST

/* The same, cut off by the orderly stop. */
START_TEST(stopped_story)
{
	model_start();
	n_attached = 0;
	was_busy = false;
	seed = (uint64_t)_i * 104729 + 5;
	database_start();
	database.late = true;
	rig_start(two_links);
	for (unsigned i = 0; i < STEPS; i++) {
		if (i == STEPS / 2)
			hub_drain(rig.hub, 500);
		if (i < STEPS / 2 || draw(2))
			step();
	}
	rig.no_turns = false;
	turn();
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached && rig.peers[i].finished)
			peer_close(&rig.peers[i]);
	}
	advance(5000);
	MUST(rig.drained);
	rig_teardown();
	database_start();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_random_changes");
	TCase *t = tcase_create("stories");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, story, 0, STORIES);
	tcase_add_loop_test(t, stopped_story, 0, STORIES / 4);
	suite_add_tcase(s, t);
	return suite_run(s);
}
