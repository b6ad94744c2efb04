/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * key: the API key while the daemon runs. Its file is watched, and read anew when the server refuses
 * the key at the door; another key is the hub's from then on. One that cannot be read or is none is
 * told, and the old one stays.
 */

struct conf;
struct hub;
struct key;
struct loop;
struct watch;

/* All borrowed, for its life; the key in @conf is replaced, then @changed is called. @watch: NULL: the
 * file is not watched. NULL without memory. */
struct key *key_new(struct loop *loop, struct watch *watch, struct hub *hub, struct conf *conf,
		    void (*changed)(void *ctx), void *ctx);
struct key *key_free(struct key *k); /* NULL is fine. Returns NULL. */

/* Read it at this turn's end; from inside the hub, too. */
void key_ask(struct key *k);
/* At once. */
void key_reread(struct key *k);
