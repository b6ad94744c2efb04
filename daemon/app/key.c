/* SPDX-License-Identifier: MIT */
#include "app/key.h"

#include <stdlib.h>
#include <string.h>

#include "app/conf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/watch.h"
#include "hub/hub.h"

struct key {
	struct loop *loop;
	struct hub *hub;
	struct conf *conf;
	struct watch_file *watched;
	struct loop_task task;
	void (*changed)(void *ctx);
	void *ctx;
	struct conf_text told; /* what was wrong when it was logged last; "": nothing */
};

void key_reread(struct key *k)
{
	struct secret *old = NULL;
	struct conf_text text;
	int r = conf_rekey(k->conf, &old, &text);

	if (r < 0) {
		/* Each refused attempt asks again, and would say the same. */
		if (strcmp(text.text, k->told.text) != 0)
			log_warning("%s; the key stays as it was", text.text);
		k->told = text;
		return;
	}
	k->told.text[0] = '\0';
	if (r == CONF_SAME)
		return;
	log_notice("%s holds another key: it is used from now on", k->conf->apikey_file);
	/* As at the start: they may be about this one, too. */
	for (unsigned i = 0; conf_warning(k->conf, i, clock_wall(&clock_system) / 1000, &text); i++)
		log_warning("%s", text.text);
	hub_set_apikey(k->hub, k->conf->apikey);
	secret_free(old);
	k->changed(k->ctx);
}

static void key_read(void *ctx)
{
	key_reread(ctx);
}

void key_ask(struct key *k)
{
	loop_task_add(k->loop, &k->task);
}

struct key *key_new(struct loop *loop, struct watch *watch, struct hub *hub, struct conf *conf,
		    void (*changed)(void *ctx), void *ctx)
{
	struct key *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->loop = loop;
	k->hub = hub;
	k->conf = conf;
	k->changed = changed;
	k->ctx = ctx;
	k->task = (struct loop_task){ .fn = key_read, .ctx = k };
	/* Without it the server's refusal is what makes us look. */
	if (watch)
		(void)watch_add(watch, conf->apikey_file, key_read, k, &k->watched);
	return k;
}

struct key *key_free(struct key *k)
{
	if (k) {
		watch_remove(k->watched);
		loop_task_cancel(k->loop, &k->task);
		free(k);
	}
	return NULL;
}
