/* SPDX-License-Identifier: MIT */
#include "hub_auth_server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub_tokens.h"

const char *const story_topics_of_auth[STORY_TOPICS] = { "a", "b", "c", "d", "e" };

struct story_token story_tokens[STORY_TOKENS];
unsigned n_story_tokens;

enum { AUTH_CHANNELS = 200, CHANNEL_TABLES = 60 };

static struct auth_channel {
	bool used, is_private, presence;
	unsigned link, identity, token, n_tables, tables[CHANNEL_TABLES];
	uint64_t epoch, ref;
	char topic[300];
} channels[AUTH_CHANNELS];

static unsigned (*draw)(unsigned n);
static size_t cursors[LINKS_MAX];
static uint64_t opened[LINKS_MAX];
static unsigned n_said;

void auth_server_start(unsigned (*with)(unsigned n))
{
	memset(channels, 0, sizeof(channels));
	memset(cursors, 0, sizeof(cursors));
	memset(opened, 0, sizeof(opened));
	n_said = n_story_tokens = 0;
	draw = with;
}

void auth_server_done(void)
{
	while (n_story_tokens)
		free(story_tokens[--n_story_tokens].text);
}

static int64_t wall_s(void)
{
	return clock_wall(&rig.clock) / 1000;
}

unsigned auth_server_token(unsigned identity, bool forged, int64_t exp_in_s)
{
	char claims[80];

	if (n_story_tokens == STORY_TOKENS)
		return STORY_TOKENS;
	snprintf(claims, sizeof(claims), "'role':'authenticated','sub':'user %u'", identity);
	story_tokens[n_story_tokens] = (struct story_token){
		.text = strdup(token_of(claims, exp_in_s, n_story_tokens)),
		.identity = identity,
		.forged = forged,
		.exp_s = wall_s() + exp_in_s,
	};
	return n_story_tokens++;
}

/* ---- channels ---- */

static bool is_there(const struct auth_channel *c)
{
	const struct fake_link *l = &rig.links[c->link];

	return c->used && l->is_open && !l->is_closing && l->epoch == c->epoch;
}

static struct auth_channel *find(const struct line *f)
{
	for (unsigned i = 0; i < AUTH_CHANNELS; i++) {
		if (is_there(&channels[i]) && channels[i].link == f->link &&
		    strcmp(channels[i].topic, f->topic) == 0)
			return &channels[i];
	}
	return NULL;
}

static void on_link(unsigned link, const char *text)
{
	unsigned at = rig.at;

	rig.at = link;
	server_text("%s", text);
	rig.at = at;
}

static void close_channel(struct auth_channel *c, const char *words)
{
	struct auth_channel old = *c;
	char text[800];

	c->used = false;
	if (words) {
		snprintf(text, sizeof(text),
			 "['%" PRIu64 "',null,'%s','system',{'status':'error','message':'%s',"
			 "'extension':'system','channel':'x'}]",
			 old.ref, old.topic, words);
		on_link(old.link, text);
	}
	if (!rig.links[old.link].is_open || rig.links[old.link].epoch != old.epoch)
		return;
	snprintf(text, sizeof(text), "['%" PRIu64 "','%" PRIu64 "','%s','%s',{}]", old.ref, old.ref,
		 old.topic, words || draw(2) ? "phx_close" : "phx_error");
	on_link(old.link, text);
}

/* ---- frames ---- */

/* Whose it is. The daemon's own is none of the list: STORY_TOKENS. */
static unsigned token_in(const char *text)
{
	const char *p = strstr(text, "\"access_token\":\"");

	MUST(p);
	p += strlen("\"access_token\":\"");
	if (strncmp(p, "the-key\"", 8) == 0)
		return STORY_TOKENS;
	for (unsigned i = 0; i < n_story_tokens; i++) {
		size_t n = strlen(story_tokens[i].text);

		if (strncmp(p, story_tokens[i].text, n) == 0 && p[n] == '"')
			return i;
	}
	ck_abort_msg("a token that nobody gave: %s", text);
}

static const char *wrong_with(unsigned token)
{
	const struct story_token *t = &story_tokens[token];

	if (token == STORY_TOKENS)
		return NULL;
	if (t->forged)
		return SIGNATURE_WORDS;
	if (t->revoked || t->exp_s <= wall_s())
		return "InvalidJWTToken: Token has expired 5 seconds ago";
	return NULL;
}

static void read_tables(struct auth_channel *c, const char *text, FILE *out)
{
	const char *p = text;

	while ((p = strstr(p, "\"table\":\"t"))) {
		p += strlen("\"table\":\"t");
		MUST(c->n_tables < CHANNEL_TABLES);
		fprintf(out, "%s{'id':%u}", c->n_tables ? "," : "", c->n_tables + 1);
		c->tables[c->n_tables++] = (unsigned)strtoul(p, NULL, 10);
	}
}

static void on_join(size_t i, bool kind)
{
	struct line f = rig.frames.at[i];
	struct auth_channel *c = find(&f), new = { .used = true };
	const char *wrong;
	char *response = NULL, text[400];
	size_t size;
	FILE *out;

	if (c)
		close_channel(c, NULL);
	if (!frame_is_current(&f))
		return;
	new.token = token_in(f.text);
	new.identity = new.token == STORY_TOKENS ? 0 : story_tokens[new.token].identity;
	new.is_private = strstr(f.text, "\"private\":true") != NULL;
	wrong = wrong_with(new.token);
	if (!wrong && new.is_private &&new.identity % 2)
		wrong = "Unauthorized: You do not have permissions to read from this Channel topic";
	if (!wrong && !kind && draw(12) == 0)
		wrong = "RealtimeRestarting: x";
	if (wrong) {
		snprintf(text, sizeof(text), "{'reason':'%s'}", wrong);
		server_reply(&rig.frames.at[i], false, text);
		return;
	}
	new.presence = strstr(f.text, "\"enabled\":true") != NULL;
	new.link = f.link;
	new.epoch = f.epoch;
	new.ref = f.ref;
	snprintf(new.topic, sizeof(new.topic), "%s", f.topic);
	out = open_memstream(&response, &size);
	MUST(out);
	fputs("{'postgres_changes':[", out);
	read_tables(&new, f.text, out);
	fputs("]}", out);
	fclose(out);
	for (c = channels; c->used && is_there(c); c++)
		MUST(c < channels + AUTH_CHANNELS - 1);
	*c = new;
	server_reply(&rig.frames.at[i], true, response);
	free(response);
	if (is_there(c) && c->ref == new.ref && c->n_tables) {
		snprintf(text, sizeof(text),
			 "['%" PRIu64 "',null,'%s','system',{'message':'ok','status':'ok',"
			 "'extension':'postgres_changes','channel':'x'}]",
			 new.ref, new.topic);
		on_link(new.link, text);
	}
	if (is_there(c) && c->ref == new.ref && c->presence) {
		snprintf(text, sizeof(text),
			 "['%" PRIu64
			 "',null,'%s','presence_state',{'of%u':{'metas':[{'phx_ref':'R'}]}}]",
			 new.ref, new.topic, new.identity);
		on_link(new.link, text);
	}
}

/* A better token for a channel: one that is good, of the same identity. */
static void on_token(const struct line *f)
{
	struct auth_channel *c = find(f);
	unsigned token = token_in(f->text);

	MUST(token < STORY_TOKENS);
	MUST_MSG(!story_tokens[token].forged, "pushed though it was never accepted");
	if (!c || c->ref != f->join_ref)
		return;
	MUST_MSG(c->identity == story_tokens[token].identity, "pushed to another's channel");
	c->token = token;
}

static void on_frame(size_t i, bool kind)
{
	struct line f = rig.frames.at[i];
	struct auth_channel *c = find(&f);

	if (strcmp(f.event, "phx_join") == 0) {
		on_join(i, kind);
	} else if (strcmp(f.event, "access_token") == 0) {
		on_token(&f);
	} else if (strcmp(f.event, "phx_leave") == 0) {
		if (c && c->ref == f.join_ref)
			c->used = false;
		server_reply(&rig.frames.at[i], true, "{}");
	} else if (c && c->ref == f.join_ref && (kind || draw(8))) {
		server_reply(&rig.frames.at[i], true, "{}");
	}
}

bool auth_server_answer(bool kind)
{
	unsigned first = draw(LINKS_MAX);

	for (unsigned n = 0; n < LINKS_MAX; n++) {
		unsigned link = (first + n) % LINKS_MAX;

		while (cursors[link] < rig.frames.n) {
			struct line *f = &rig.frames.at[cursors[link]++];

			if (f->link != link || !frame_is_current(f) || f->answered ||
			    strcmp(f->event, "heartbeat") == 0)
				continue;
			on_frame(cursors[link] - 1, kind);
			return true;
		}
	}
	return false;
}

/* ---- of its own accord ---- */

static struct auth_channel *any_channel(void)
{
	unsigned first = draw(AUTH_CHANNELS), k;

	for (unsigned i = 0; i < AUTH_CHANNELS; i++) {
		k = (first + i) % AUTH_CHANNELS;
		if (is_there(&channels[k]))
			return &channels[k];
	}
	return NULL;
}

void auth_server_says(void)
{
	struct auth_channel *c = any_channel();
	unsigned row;
	char text[600];

	if (!c)
		return;
	if (c->n_tables) {
		row = draw(c->n_tables);
		snprintf(text, sizeof(text),
			 "['%" PRIu64 "',null,'%s','postgres_changes',{'ids':[%u],'data':{'type':"
			 "'INSERT','schema':'public','table':'t%u','record':{'of':%u,'n':%u}}}]",
			 c->ref, c->topic, row + 1, c->tables[row], c->identity, n_said++);
	} else if (c->presence && draw(2)) {
		snprintf(text, sizeof(text),
			 "[null,null,'%s','presence_diff',{'joins':{'of%u':{'metas':[{'phx_ref':"
			 "'N%u'}]}},'leaves':{}}]",
			 c->topic, c->identity, n_said++);
	} else {
		snprintf(text, sizeof(text),
			 "[null,null,'%s','broadcast',{'type':'broadcast','event':'e','payload':{"
			 "'of':%u,'n':%u}}]",
			 c->topic, c->identity, n_said++);
	}
	on_link(c->link, text);
}

void auth_server_closes(void)
{
	struct auth_channel *c = any_channel();

	if (!c)
		return;
	switch (draw(3)) {
	case 0:
		if (c->token == STORY_TOKENS)
			return; /* nothing would come back for a long time */
		story_tokens[c->token].revoked = true;
		close_channel(c, "Token has expired 12 seconds ago");
		break;
	case 1:
		close_channel(c, "You no longer have permission to read from this topic");
		break;
	default:
		close_channel(c, NULL);
		break;
	}
}

void auth_server_opens(void)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (!rig.links[i].is_open || rig.links[i].is_closing ||
		    opened[i] == rig.links[i].epoch)
			continue;
		opened[i] = rig.links[i].epoch;
		rig.at = i;
		server_open();
		rig.at = 0;
	}
}
