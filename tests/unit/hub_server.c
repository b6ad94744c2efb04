/* SPDX-License-Identifier: MIT */
#include "hub_server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_json.h"

const struct story_topic story_topics[TOPICS] = {
	{ "a", false, false }, { "b", true, false }, { "c", false, false },
	{ "d", false, true },  { "a", true, false },
};

enum { CHANNELS = LINKS_MAX * TOPICS, SERVER_CALLS_MAX = 5, SERVER_WINDOW_MS = 30000 };

static struct channel {
	bool used, presence, state_due;
	unsigned link, topic;
	uint64_t epoch, ref;
	char key[64];
} channels[CHANNELS];

static struct entry {
	bool used;
	unsigned topic;
	struct channel *owner; /* NULL: somebody outside */
	char key[64], ref[24], state[1024];
} entries[ENTRIES];

static unsigned (*draw)(unsigned n);
static size_t cursors[LINKS_MAX];
static unsigned n_refs;

void story_server_start(unsigned (*with)(unsigned n))
{
	memset(channels, 0, sizeof(channels));
	memset(entries, 0, sizeof(entries));
	memset(cursors, 0, sizeof(cursors));
	n_refs = 0;
	draw = with;
}

unsigned story_topic(const char *name, bool is_private)
{
	unsigned t = 0;

	while (t < TOPICS && (strcmp(story_topics[t].name, name) != 0 ||
			      story_topics[t].is_private != is_private))
		t++;
	return t;
}

/* ---- who is there ---- */

static bool is_there(const struct channel *c)
{
	const struct fake_link *l = &rig.links[c->link];

	return c->used && l->is_open && !l->is_closing && l->epoch == c->epoch;
}

static void meta(FILE *out, const struct entry *e, const char *prev)
{
	fprintf(out, "{'phx_ref':'%s',", e->ref);
	if (prev)
		fprintf(out, "'phx_ref_prev':'%s',", prev);
	fprintf(out, "%s", e->state + 1);
}

static char *diff_part(const struct entry *e, const char *prev)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	fprintf(out, "{'%s':{'metas':[", e->key);
	meta(out, e, prev);
	fprintf(out, "]}}");
	fclose(out);
	return text;
}

static void on_link(unsigned link, const char *text)
{
	unsigned at = rig.at;

	rig.at = link;
	server_text("%s", text);
	rig.at = at;
}

/* `left` and `came` may be the same entry, before and after; either may be NULL. */
static void tell(unsigned topic, const struct entry *left, const struct entry *came)
{
	char *joins = came ? diff_part(came, left ? left->ref : NULL) : strdup("{}");
	char *leaves = left ? diff_part(left, NULL) : strdup("{}");
	char *text;

	MUST(asprintf(&text, "[null,null,'realtime:%s','presence_diff',{'joins':%s,'leaves':%s}]",
		      story_topics[topic].name, joins, leaves) >= 0);
	for (unsigned i = 0; i < CHANNELS; i++) {
		if (is_there(&channels[i]) && channels[i].topic == topic && channels[i].presence &&
		    !story_topics[topic].denied)
			on_link(channels[i].link, text);
	}
	free(text);
	free(joins);
	free(leaves);
}

static struct entry *entry_of(const struct channel *c)
{
	for (unsigned i = 0; i < ENTRIES; i++) {
		if (entries[i].used && entries[i].owner == c)
			return &entries[i];
	}
	return NULL;
}

static void entry_remove(struct entry *e)
{
	struct entry old = *e;

	e->used = false;
	tell(old.topic, &old, NULL);
}

static void entry_put(struct entry *e, unsigned topic, struct channel *owner, const char *key,
		      const char *state)
{
	struct entry old = { .used = false };

	for (unsigned i = 0; !e && i < ENTRIES; i++)
		e = entries[i].used ? NULL : &entries[i];
	MUST(e);
	old = *e;
	e->used = true;
	e->topic = topic;
	e->owner = owner;
	snprintf(e->key, sizeof(e->key), "%s", key);
	snprintf(e->ref, sizeof(e->ref), "R%u", ++n_refs);
	MUST(strlen(state) < sizeof(e->state));
	snprintf(e->state, sizeof(e->state), "%s", state);
	tell(topic, old.used ? &old : NULL, e);
}

static void channel_end(struct channel *c)
{
	struct entry *e = entry_of(c);

	c->used = false;
	if (e)
		entry_remove(e);
}

void story_server_notice_ends(void)
{
	for (unsigned i = 0; i < CHANNELS; i++) {
		if (channels[i].used && !is_there(&channels[i]))
			channel_end(&channels[i]);
	}
}

/* The state; grouped by key, as the server does. */
static void send_state(struct channel *c)
{
	bool done[ENTRIES] = { false }, first = true;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	c->state_due = false;
	fprintf(out, "['%" PRIu64 "',null,'realtime:%s','presence_state',{", c->ref,
		story_topics[c->topic].name);
	for (unsigned i = 0; i < ENTRIES; i++) {
		if (!entries[i].used || entries[i].topic != c->topic || done[i])
			continue;
		fprintf(out, "%s'%s':{'metas':[", first ? "" : ",", entries[i].key);
		first = false;
		for (unsigned k = i; k < ENTRIES; k++) {
			if (!entries[k].used || entries[k].topic != c->topic ||
			    strcmp(entries[k].key, entries[i].key) != 0)
				continue;
			done[k] = true;
			if (k > i)
				fputc(',', out);
			meta(out, &entries[k], NULL);
		}
		fprintf(out, "]}");
	}
	fprintf(out, "}]");
	fclose(out);
	on_link(c->link, text);
	free(text);
}

/* ---- frames ---- */

static struct channel *channel_of(unsigned link, const char *wire_topic)
{
	for (unsigned i = 0; i < CHANNELS; i++) {
		if (is_there(&channels[i]) && channels[i].link == link &&
		    strcmp(story_topics[channels[i].topic].name, wire_topic + 9) == 0)
			return &channels[i];
	}
	return NULL;
}

static void say_close(const struct channel *c)
{
	char text[200];

	snprintf(text, sizeof(text), "['%" PRIu64 "','%" PRIu64 "','realtime:%s','phx_close',{}]",
		 c->ref, c->ref, story_topics[c->topic].name);
	on_link(c->link, text);
}

static void on_join(size_t i, bool kind)
{
	struct line f = rig.frames.at[i];
	struct channel *c = channel_of(f.link, f.topic), new = { .used = true };
	unsigned fate = kind ? 99 : draw(14);
	const char *key = strstr(f.text, "\"key\":\"");

	/* One that only tries the topic out has none. */
	MUST(key && (key[7] == '"' || sscanf(key + 7, "%63[^\"]", new.key) == 1));
	new.link = f.link;
	new.epoch = f.epoch;
	new.ref = f.ref;
	new.presence = strstr(f.text, "\"enabled\":true") != NULL;
	new.topic = story_topic(f.topic + 9, strstr(f.text, "\"private\":true") != NULL);
	MUST(new.topic < TOPICS);
	if (c) {
		struct channel old = *c;

		channel_end(c);
		say_close(&old);
	}
	if (fate < 2) {
		server_reply(&rig.frames.at[i], false,
			     fate ? "{'reason':'RealtimeRestarting: x'}"
				  : "{'reason':'Unauthorized: no'}");
		return;
	}
	new.state_due = new.presence && !story_topics[new.topic].denied;
	for (c = channels; c->used; c++)
		MUST(c < channels + CHANNELS - 1);
	*c = new;
	if (fate > 2)
		server_reply(&rig.frames.at[i], true, "{}");
	if (is_there(c) && c->state_due && fate % 2)
		send_state(c);
}

static void on_presence(size_t i, bool kind)
{
	struct line f = rig.frames.at[i];
	struct channel *c = channel_of(f.link, f.topic);
	const char *payload = strstr(f.text, "\"payload\":");
	unsigned fate = kind ? 99 : draw(20);
	struct entry *e = c ? entry_of(c) : NULL;
	char *state;

	if (!c || c->ref != f.join_ref)
		return;
	if (c->state_due)
		send_state(c);
	if (fate == 0 && payload) {
		server_reply(&rig.frames.at[i], false, "{'reason':'not allowed'}");
		return;
	}
	if (payload) {
		state = strdup(payload + 10);
		MUST(state);
		state[strlen(state) - 2] = '\0';
		entry_put(e, c->topic, c, c->key, state);
		free(state);
	} else if (strstr(f.text, "untrack") && e) {
		entry_remove(e);
	}
	if (fate != 1)
		server_reply(&rig.frames.at[i], true, "{}");
}

static void on_frame(size_t i, bool kind)
{
	struct line f = rig.frames.at[i];
	struct channel *c = channel_of(f.link, f.topic);

	if (strcmp(f.event, "phx_join") == 0) {
		on_join(i, kind);
	} else if (strcmp(f.event, "presence") == 0) {
		on_presence(i, kind);
	} else if (strcmp(f.event, "phx_leave") == 0) {
		if (c && c->ref == f.join_ref)
			channel_end(c);
		server_reply(&rig.frames.at[i], true, "{}");
	} else if (c && c->ref == f.join_ref && (kind || draw(8))) {
		server_reply(&rig.frames.at[i], true, "{}");
	}
}

bool story_server_answer(bool kind)
{
	unsigned first = draw(LINKS_MAX);

	story_server_notice_ends();
	for (unsigned n = 0; n < LINKS_MAX; n++) {
		unsigned link = (first + n) % LINKS_MAX;

		while (cursors[link] < rig.frames.n) {
			struct line *f = &rig.frames.at[cursors[link]++];

			if (f->link != link || !frame_is_current(f) ||
			    strcmp(f->event, "heartbeat") == 0)
				continue;
			on_frame(cursors[link] - 1, kind);
			return true;
		}
	}
	/* Then what was put off. */
	for (unsigned i = 0; i < CHANNELS; i++) {
		if (is_there(&channels[i]) && channels[i].state_due) {
			send_state(&channels[i]);
			return true;
		}
	}
	return false;
}

void story_server_outside(void)
{
	static const char *const keys[] = { "k1", "k2", "out" };
	struct entry *e = &entries[draw(ENTRIES)];
	unsigned n = 0;
	char state[40];

	story_server_notice_ends();
	snprintf(state, sizeof(state), "{\"n\":%u}", 100000 + n_refs);
	if (e->used && !e->owner && draw(2)) {
		entry_remove(e);
	} else if (e->used && !e->owner) {
		entry_put(e, e->topic, NULL, e->key, state);
	} else {
		for (unsigned i = 0; i < ENTRIES; i++)
			n += entries[i].used && !entries[i].owner;
		if (n < 12)
			entry_put(NULL, draw(TOPICS), NULL, keys[draw(3)], state);
	}
}

void story_server_close(void)
{
	static const char *const texts[] = { "Too many messages per second",
					     "Client presence rate limit exceeded",
					     "Track message size exceeded" };
	struct channel *c = &channels[draw(CHANNELS)], old;
	char text[300];

	story_server_notice_ends();
	if (!is_there(c))
		return;
	if (draw(2)) {
		snprintf(text, sizeof(text),
			 "['%" PRIu64 "',null,'realtime:%s','system',{'status':'error',"
			 "'message':'%s'}]",
			 c->ref, story_topics[c->topic].name, texts[draw(3)]);
		on_link(c->link, text);
	}
	old = *c;
	channel_end(c);
	say_close(&old);
}

/* ---- what is true ---- */

struct seen *view_find(struct view *v, const char *key, const char *ref)
{
	for (unsigned i = 0; i < v->n; i++) {
		if (strcmp(v->at[i].key, key) == 0 && strcmp(v->at[i].ref, ref) == 0)
			return &v->at[i];
	}
	return NULL;
}

static void view_add(struct view *v, const char *key, const char *ref, struct rtbp_val state)
{
	struct seen *s = &v->at[v->n++];
	char *text = render(state);

	MUST(v->n < VIEW_MAX);
	snprintf(s->key, sizeof(s->key), "%s", key);
	snprintf(s->ref, sizeof(s->ref), "%s", ref);
	MUST((size_t)snprintf(s->state, sizeof(s->state), "%s", text) < sizeof(s->state));
	free(text);
}

static void view_entry(struct view *v, const struct entry *e)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_val state, members, k, m;
	struct rtbp_iter it;
	struct rtbp_str s;
	char key[64];

	MUST(rtbp_json_to_mp(e->state, strlen(e->state), 64, &b, NULL) == 0);
	state = (struct rtbp_val){ b.data, b.size };
	members = rtbp_find(state, "members", 7);
	if (strncmp(e->key, "rtbridge:", 9) != 0) {
		view_add(v, e->key, e->ref, state);
	} else {
		MUST(rtbp_iter_map(members, &it));
		while (rtbp_iter_next(&it, &k)) {
			MUST(rtbp_get_str(k, &s) && rtbp_iter_next(&it, &m));
			snprintf(key, sizeof(key), "%.*s", (int)s.size, s.p);
			view_add(v, key, e->key, m);
		}
	}
	rtbp_buf_done(&b);
}

void story_server_view(unsigned topic, struct view *ret)
{
	ret->n = 0;
	for (unsigned i = 0; i < ENTRIES; i++) {
		if (entries[i].used && entries[i].topic == topic)
			view_entry(ret, &entries[i]);
	}
}

void story_server_ours(unsigned topic, struct view *ret)
{
	ret->n = 0;
	for (unsigned i = 0; i < ENTRIES; i++) {
		if (entries[i].used && entries[i].topic == topic && entries[i].owner)
			view_entry(ret, &entries[i]);
	}
	for (unsigned i = 0; i < ret->n; i++)
		ret->at[i].ref[0] = '\0';
}

static bool is_call(const struct line *f)
{
	return strcmp(f->event, "presence") == 0 && strstr(f->text, "\"type\"");
}

void story_server_check_calls(void)
{
	for (size_t i = 0; i < rig.frames.n; i++) {
		const struct line *f = &rig.frames.at[i], *g;
		unsigned n = 0;

		for (size_t k = 0; is_call(f) && k <= i; k++) {
			g = &rig.frames.at[k];
			n += is_call(g) && g->link == f->link && g->epoch == f->epoch &&
			     g->join_ref == f->join_ref && strcmp(g->topic, f->topic) == 0 &&
			     g->at_ms + SERVER_WINDOW_MS >= f->at_ms;
		}
		MUST_MSG(n <= SERVER_CALLS_MAX, "the %uth presence call in 30 s: %s", n, f->text);
	}
}
