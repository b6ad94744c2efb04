/* SPDX-License-Identifier: MIT */
#include "hub_own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hub_tokens.h"

struct owner owner;

void owner_token_refused(void *ctx, uint64_t serial, const char *code, const char *text)
{
	(void)ctx;
	MUST_MSG(!owner.n_refused || serial > owner.serial, "told of %" PRIu64 " twice", serial);
	owner.n_refused++;
	owner.serial = serial;
	snprintf(owner.code, sizeof(owner.code), "%s", code);
	snprintf(owner.text, sizeof(owner.text), "%s", text);
	/* As a keeper does: there is none any more, and why. */
	MUST(hub_set_token(rig.hub, NULL, serial + 1000, 0) == 0);
	if (owner.renews) {
		struct secret *next =
			secret_new(own_name(serial + 1), strlen(own_name(serial + 1)));

		MUST(next && hub_set_token(rig.hub, next, serial + 1, 3600000) == 0);
		secret_free(next);
	}
}

void owner_key_refused(void *ctx)
{
	(void)ctx;
	owner.n_key_refused++;
}

void owner_token_wanted(void *ctx)
{
	(void)ctx;
	owner.n_wanted++;
}

static void (*change_more)(struct hub_conf *conf);

static void with_own(struct hub_conf *conf)
{
	with_links(conf);
	conf->has_own_token = true;
	if (change_more)
		change_more(conf);
}

void own_start(void (*more)(struct hub_conf *conf))
{
	owner = (struct owner){ 0 };
	change_more = more;
	rig_start(with_own);
	server_open();
}

void own_end(void)
{
	rig_teardown();
}

const char *own_name(uint64_t serial)
{
	static char name[4][40];
	static unsigned next;

	next = (next + 1) % 4;
	snprintf(name[next], sizeof(name[next]), "own-%" PRIu64, serial);
	return name[next];
}

void own_give(uint64_t serial, uint64_t lives_ms)
{
	struct secret *token = secret_new(own_name(serial), strlen(own_name(serial)));

	MUST(token && hub_set_token(rig.hub, token, serial, lives_ms) == 0);
	secret_free(token);
	turn();
}

void own_take(uint64_t serial)
{
	MUST(hub_set_token(rig.hub, NULL, serial, 0) == 0);
	turn();
}

void own_says(const char *state, int64_t next_try_ms, const char *code, const char *text)
{
	struct hub_token_status st = {
		.source = "command",
		.state = state,
		.role = "service_role",
		.code = code,
		.text = text,
		.since_wall_ms = clock_wall(&rig.clock),
		.ends_wall_ms =
			strcmp(state, "waiting") == 0 ? -1 : clock_wall(&rig.clock) + 240000,
		.next_try_ms = next_try_ms,
	};

	hub_set_token_status(rig.hub, &st);
	turn();
}

void own_closed(struct line *join, const char *words)
{
	struct line f = *join;

	rig.at = f.link;
	server_text("['%" PRIu64 "',null,'%s','system',{'status':'error','message':'%s',"
		    "'extension':'system','channel':'x'}]",
		    f.ref, f.topic, words);
	server_text("['%" PRIu64 "','%" PRIu64 "','%s','phx_close',{}]", f.ref, f.ref, f.topic);
	rig.at = 0;
}
