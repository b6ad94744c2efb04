/* SPDX-License-Identifier: MIT */
#include "hub_changes_server.h"
#include "hub_changes_text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one by one ---- */

struct line expect_feed(const char *bindings)
{
	char pattern[2000];
	struct line *f;

	snprintf(pattern, sizeof(pattern),
		 "[*,*,'" FEED_TOPIC
		 "','phx_join',{*'postgres_changes':[%s],'private':false},'access_token':*",
		 bindings);
	f = expect_frame(pattern);
	return *f;
}

static void on_link_of(const struct line *join, const char *text)
{
	unsigned at = rig.at;

	rig.at = join->link;
	server_text("%s", text);
	rig.at = at;
}

void server_takes(struct line *join, const char *ids)
{
	char response[8000] = "{'postgres_changes':[", *end;
	size_t n = strlen(response);
	const char *p = ids;

	while (*p) {
		n += (size_t)snprintf(response + n, sizeof(response) - n, "%s{'id':%lu}",
				      p == ids ? "" : ",", strtoul(p, &end, 10));
		p = *end ? end + 1 : end;
	}
	MUST(n + 3 < sizeof(response));
	memcpy(response + n, "]}", 3);
	server_reply(join, true, response);
}

void server_system(const struct line *join, bool ok, const char *text)
{
	char *message;

	MUST(asprintf(&message,
		      "['%" PRIu64 "',null,'%s','system',{'message':'%s','status':'%s'," PG
		      ",'channel':'%s'}]",
		      join->ref, join->topic, text, ok ? "ok" : "error", join->topic + 9) >= 0);
	on_link_of(join, message);
	free(message);
}

void server_row(const struct line *join, const char *ids, const char *data)
{
	char *message;

	MUST(asprintf(&message, "[null,null,'%s','postgres_changes',{'ids':[%s],'data':%s}]",
		      join->topic, ids, data) >= 0);
	on_link_of(join, message);
	free(message);
}

void server_numbered(const struct line *join, const char *ids, unsigned n)
{
	char data[100];

	snprintf(data, sizeof(data), "{'type':'INSERT','record':{'n':%u}}", n);
	server_row(join, ids, data);
}

struct line expect_private(unsigned link, const char *bindings)
{
	char pattern[1000];
	struct line *f;

	snprintf(pattern, sizeof(pattern),
		 "[*,*,'realtime:p','phx_join',{*'postgres_changes':[%s],'private':true},*",
		 bindings);
	f = expect_frame(pattern);
	ck_assert_uint_eq(f->link, link);
	return *f;
}

void server_ends(const struct line *join)
{
	char *message;

	MUST(asprintf(&message, "['%" PRIu64 "','%" PRIu64 "','%s','phx_close',{}]", join->ref,
		      join->ref, join->topic) >= 0);
	on_link_of(join, message);
	free(message);
}

void server_left(const struct line *join)
{
	char pattern[400];

	snprintf(pattern, sizeof(pattern), "['%" PRIu64 "',*,'%s','phx_leave',{}]", join->ref,
		 join->topic);
	server_reply(expect_frame(pattern), true, "{}");
}

struct line server_feed(const char *bindings, const char *ids)
{
	struct line join = expect_feed(bindings);

	server_takes(&join, ids);
	server_system(&join, true, "Subscribed to PostgreSQL");
	return join;
}

struct line peer_flowing(struct fake_peer *p)
{
	struct line join;

	peer_ask(p, 1, "subscribe", ASK(T("t")));
	join = server_feed(ON("t"), "11");
	expect(p, ANSWER("1", "ready", READY("1")));
	return join;
}

/* ---- a whole server ---- */

const char *const db_events[4] = { "*", "INSERT", "UPDATE", "DELETE" };
struct database database;

static struct late_row {
	unsigned link;
	uint64_t epoch;
	char *text;
} * late_rows;
static size_t n_late, late_cap, cursors[LINKS_MAX];

void database_start(void)
{
	for (size_t i = 0; i < n_late; i++)
		free(late_rows[i].text);
	free(late_rows);
	late_rows = NULL;
	n_late = late_cap = 0;
	memset(cursors, 0, sizeof(cursors));
	memset(&database, 0, sizeof(database));
}

bool database_has(const struct db_channel *c)
{
	const struct fake_link *l = &rig.links[c->link];

	return c->used && l->is_open && !l->is_closing && l->epoch == c->epoch;
}

unsigned database_feeds(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < DB_CHANNELS; i++)
		n += database_has(&database.channels[i]) && database.channels[i].n;
	return n;
}

static void say(unsigned link, char *text)
{
	unsigned at = rig.at;

	rig.at = link;
	server_text("%s", text);
	rig.at = at;
	free(text);
}

static void say_system(const struct db_channel *c, bool ok, const char *text)
{
	char *message;

	MUST(asprintf(&message,
		      "['%" PRIu64 "',null,'%s','system',{'message':'%s','status':'%s'," PG "}]",
		      c->ref, c->topic, text, ok ? "ok" : "error") >= 0);
	say(c->link, message);
}

/* All or none, as the server does it. */
static void subscribe_channel(struct db_channel *c)
{
	bool bad = false;

	c->told = true;
	for (unsigned i = 0; i < c->n; i++)
		bad |= c->at[i].bad;
	if (bad) {
		say_system(c, false, BAD_TEXT);
		return;
	}
	c->subscribed = true;
	say_system(c, true, "Subscribed to PostgreSQL");
}

static void read_binding(struct db_binding *b, const json_t *item)
{
	const char *table = json_string_value(json_object_get(item, "table"));
	const char *event = json_string_value(json_object_get(item, "event"));

	MUST(table && event);
	b->bad = strncmp(table, "bad", 3) == 0;
	b->table = (unsigned)strtoul(table + (b->bad ? 3 : 1), NULL, 10);
	while (strcmp(db_events[b->event], event) != 0)
		b->event++;
	/* Equal ones have equal ids, wherever they are. */
	b->id = 1000 + b->table * 8 + b->bad * 4 + b->event;
}

static void read_join(struct db_channel *c, const struct line *f)
{
	json_t *frame = json_loads(f->text, 0, NULL), *config, *list;

	MUST(frame);
	config = json_object_get(json_array_get(frame, 4), "config");
	list = json_object_get(config, "postgres_changes");
	*c = (struct db_channel){ .used = true, .link = f->link, .epoch = f->epoch };
	c->ref = f->ref;
	snprintf(c->topic, sizeof(c->topic), "%s", f->topic);
	c->is_private = json_is_true(json_object_get(config, "private"));
	c->n = (unsigned)json_array_size(list);
	MUST(c->n <= DB_BINDINGS);
	for (unsigned i = 0; i < c->n; i++)
		read_binding(&c->at[i], json_array_get(list, i));
	json_decref(frame);
}

static struct db_channel *find_channel(const struct line *f)
{
	for (unsigned i = 0; i < DB_CHANNELS; i++) {
		struct db_channel *c = &database.channels[i];

		if (database_has(c) && c->link == f->link && strcmp(c->topic, f->topic) == 0)
			return c;
	}
	return NULL;
}

static void say_close(const struct db_channel *c)
{
	char *text;

	MUST(asprintf(&text, "['%" PRIu64 "','%" PRIu64 "','%s','phx_close',{}]", c->ref, c->ref,
		      c->topic) >= 0);
	say(c->link, text);
}

static void reply_ids(size_t frame, const struct db_channel *c)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	fprintf(out, "{'postgres_changes':[");
	for (unsigned i = 0; i < c->n; i++)
		fprintf(out, "%s{'id':%" PRIu64 "}", i ? "," : "", c->at[i].id);
	fprintf(out, "]}");
	fclose(out);
	server_reply(&rig.frames.at[frame], true, text);
	free(text);
}

static void on_join(size_t i)
{
	struct line f = rig.frames.at[i];
	struct db_channel *old = find_channel(&f), new, gone;
	unsigned on_link = 0, free_one = DB_CHANNELS;

	read_join(&new, &f);
	database.n_joins++;
	if (old) {
		gone = *old;
		old->used = false;
	}
	if (database.private_only && !new.is_private) {
		server_reply(&rig.frames.at[i], false,
			     "{'reason':'PrivateOnly: This project only allows private channels'}");
		return;
	}
	if (database.n_refused) {
		database.n_refused--;
		server_reply(&rig.frames.at[i], false, "{'reason':'RealtimeRestarting: x'}");
		return;
	}
	for (unsigned k = DB_CHANNELS; k-- > 0;) {
		if (!database_has(&database.channels[k]))
			free_one = k;
		else
			on_link += database.channels[k].link == f.link;
	}
	MUST(free_one < DB_CHANNELS);
	MUST_MSG(on_link < 100, "the link has as many channels as the server allows");
	database.channels[free_one] = new;
	reply_ids(i, &new);
	if (old)
		say_close(&gone);
}

static void on_frame(size_t i)
{
	struct line f = rig.frames.at[i];
	struct db_channel *c = find_channel(&f);

	if (strcmp(f.event, "phx_join") == 0) {
		on_join(i);
		return;
	}
	if (strcmp(f.event, "phx_leave") == 0) {
		database.n_leaves++;
		if (c && c->ref == f.join_ref)
			c->used = false;
	}
	if (!f.answered)
		server_reply(&rig.frames.at[i], true, "{}");
}

bool database_frame(unsigned first)
{
	for (unsigned n = 0; n < LINKS_MAX; n++) {
		unsigned link = (first + n) % LINKS_MAX;

		while (cursors[link] < rig.frames.n) {
			struct line *f = &rig.frames.at[cursors[link]++];

			if (f->link != link)
				continue;
			if (!frame_is_current(f) || f->taken || strcmp(f->event, "heartbeat") == 0)
				continue;
			f->taken = true;
			on_frame(cursors[link] - 1);
			return true;
		}
	}
	return false;
}

/* Afterwards the server tries again by itself. */
static void say_one(struct db_channel *c)
{
	if (database.n_silent) {
		database.n_silent--;
		c->told = true; /* never a word */
	} else if (database.n_troubled) {
		database.n_troubled--;
		say_system(c, false, "{:error, \\'Too many database timeouts\\'}");
	} else {
		subscribe_channel(c);
	}
}

bool database_word(unsigned first)
{
	for (unsigned i = 0; i < DB_CHANNELS; i++) {
		struct db_channel *c = &database.channels[(first + i) % DB_CHANNELS];

		if (!database_has(c) || !c->n || c->told)
			continue;
		say_one(c);
		return true;
	}
	return false;
}

bool database_open_link(void)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (!rig.links[i].is_open || rig.links[i].is_closing ||
		    !rig.hub->links[i].session ||
		    session_get_state(rig.hub->links[i].session) != SESSION_CONNECTING)
			continue;
		rig.at = i;
		server_open();
		rig.at = 0;
		return true;
	}
	return false;
}

void database_serve(void)
{
	while (database_open_link() || database_frame(0) || database_word(0))
		;
}

void database_serve_for(uint64_t ms, uint64_t step)
{
	for (uint64_t passed = 0; passed < ms; passed += step) {
		database_serve();
		advance(step);
	}
	database_serve();
}

/* ---- rows ---- */

static char *row_text(const struct db_channel *c, unsigned table, const char *type, unsigned n)
{
	bool any = false;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	fprintf(out, "[null,null,'%s','postgres_changes',{'ids':[", c->topic);
	for (unsigned i = 0; i < c->n; i++) {
		const struct db_binding *b = &c->at[i];

		if (b->table != table ||
		    (b->event && !database.every_event && strcmp(db_events[b->event], type) != 0))
			continue;
		fprintf(out, "%s%" PRIu64, any ? "," : "", b->id);
		any = true;
	}
	fprintf(out,
		"],'data':{'schema':'public','table':'t%u','type':'%s',"
		"'commit_timestamp':'2024-01-02T03:04:05.678Z','columns':[],'record':{'n':%u},"
		"'errors':null}}]",
		table, type, n);
	fclose(out);
	if (!any) {
		free(text);
		text = NULL;
	}
	return text;
}

static void queue_row(unsigned link, char *text)
{
	if (n_late == late_cap) {
		late_cap = late_cap ? late_cap * 2 : 64;
		late_rows = reallocarray(late_rows, late_cap, sizeof(*late_rows));
		MUST(late_rows);
	}
	late_rows[n_late++] = (struct late_row){ link, rig.links[link].epoch, text };
}

/* One process sends them all: on each link they come in one order. */
void database_row(unsigned table, const char *type, unsigned n)
{
	char *text;

	for (unsigned i = 0; i < DB_CHANNELS; i++) {
		struct db_channel *c = &database.channels[i];

		text = database_has(c) && c->subscribed ? row_text(c, table, type, n) : NULL;
		if (text)
			queue_row(c->link, text);
	}
	for (unsigned link = 0; link < LINKS_MAX && !database.late; link++) {
		while (database_send(link))
			;
	}
}

/* What was looked up for a link, or a channel, that has gone since is lost, or means nothing. */
bool database_send(unsigned link)
{
	struct late_row row;

	for (size_t i = 0; i < n_late; i++) {
		if (late_rows[i].link != link)
			continue;
		row = late_rows[i];
		memmove(&late_rows[i], &late_rows[i + 1], (--n_late - i) * sizeof(row));
		if (rig.links[link].is_open && !rig.links[link].is_closing &&
		    rig.links[link].epoch == row.epoch) {
			say(link, row.text);
			return true;
		}
		free(row.text);
		i--;
	}
	return false;
}

void database_close(struct db_channel *c)
{
	struct db_channel gone = *c;

	c->used = false;
	say_close(&gone);
}

void database_trouble(struct db_channel *c)
{
	c->subscribed = c->told = false;
	say_system(c, false, "{:error, \\'Too many database timeouts\\'}");
}
