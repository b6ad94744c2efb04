/* SPDX-License-Identifier: MIT */
#include "app/app.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "app/awake.h"
#include "app/key.h"
#include "app/names.h"
#include "app/notify.h"
#include "app/request.h"
#include "app/rooms.h"
#include "app/token.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/watch.h"
#include "hub/acl.h"
#include "hub/hub.h"
#include "ipc/listener.h"
#include "wire/wire.h"

enum {
	DRAIN_MS = 2000,
};

/* One attached process: its connection and what the hub knows it as. */
struct client {
	TAILQ_ENTRY(client) entry;
	struct app *app;
	struct conn *conn;
	struct peer *peer;
	struct name *name; /* of its user */
	struct loop_task free_task;
};

struct app {
	struct conf *conf;
	const struct conf_source *source;
	struct loop *loop;
	struct wire *wire;
	struct hub *hub;
	struct listener *listener;
	struct names *names;
	struct awake *awake;
	struct watch *watch;
	struct key *key;
	struct token *token; /* the daemon's own; NULL: none */
	struct loop_fd wire_fd;
	struct loop_timer hub_timer;
	struct loop_task hub_task;
	struct loop_signal sigterm, sigint, sighup;
	TAILQ_HEAD(, client) clients;
	bool stopping, hub_drained;
	char status[512]; /* the line that the service manager was told last */
};

/* ---- the hub's turn and time ---- */

static void stop_when_done(struct app *app)
{
	if (app->hub_drained && TAILQ_EMPTY(&app->clients))
		loop_stop(app->loop);
}

static void app_hub_turn(void *ctx)
{
	struct app *app = ctx;
	uint64_t now, deadline;

	hub_turn_end(app->hub);
	deadline = hub_deadline(app->hub);
	now = clock_now(&clock_system);
	if (deadline == UINT64_MAX)
		loop_timer_clear(&app->hub_timer);
	else
		loop_timer_set(&app->hub_timer, deadline > now ? deadline - now : 0);
}

static void app_hub_timer(void *ctx)
{
	struct app *app = ctx;

	hub_tick(app->hub);
}

static void app_hub_wake(void *ctx)
{
	struct app *app = ctx;

	loop_task_add(app->loop, &app->hub_task);
}

static void app_hub_drained(void *ctx)
{
	struct app *app = ctx;
	struct client *c;

	app->hub_drained = true;
	TAILQ_FOREACH(c, &app->clients, entry)
		conn_abort(c->conn, "the daemon stops");
	stop_when_done(app);
}

static void app_hub_status(void *ctx, const char *line)
{
	struct app *app = ctx;

	/* Only news: each one is a message to the service manager. */
	if (strcmp(app->status, line) == 0)
		return;
	snprintf(app->status, sizeof(app->status), "%s", line);
	notify_status(line);
}

/* ---- hub to wire ---- */

static int app_link_open(void *ctx, unsigned link, uint64_t epoch)
{
	struct app *app = ctx;
	struct wire_target target = {
		.tls = app->conf->tls,
		.host = app->conf->host,
		.port = app->conf->port,
		.path = secret_bytes(app->conf->request),
		.headers = (const char *const *)app->conf->headers,
	};

	return wire_open(app->wire, link, epoch, &target);
}

static int app_link_send(void *ctx, unsigned link, uint64_t epoch, bool binary, const void *data,
			 size_t size)
{
	struct app *app = ctx;

	return wire_send(app->wire, link, epoch, binary, data, size);
}

static void app_link_close(void *ctx, unsigned link, uint64_t epoch, uint16_t code)
{
	struct app *app = ctx;

	wire_close(app->wire, link, epoch, code);
}

static int app_post(void *ctx, uint64_t id, const struct hub_post *post)
{
	struct app *app = ctx;

	return request_post(app->wire, app->conf, id, post);
}

static void app_token_refused(void *ctx, uint64_t serial, const char *code, const char *text)
{
	struct app *app = ctx;

	token_on_refused(app->token, serial, code, text);
}

static void app_token_wanted(void *ctx)
{
	struct app *app = ctx;

	token_on_wanted(app->token);
}

static void app_key_refused(void *ctx)
{
	struct app *app = ctx;

	key_ask(app->key);
}

static const struct hub_ops hub_ops = {
	.link_open = app_link_open,
	.link_send = app_link_send,
	.link_close = app_link_close,
	.post = app_post,
	.wake = app_hub_wake,
	.drained = app_hub_drained,
	.status = app_hub_status,
	.token_refused = app_token_refused,
	.key_refused = app_key_refused,
	.token_wanted = app_token_wanted,
};

/* ---- wire to hub ---- */

static void app_wire_opened(void *ctx, unsigned link, uint64_t epoch)
{
	struct app *app = ctx;

	hub_on_opened(app->hub, link, epoch);
}

static void app_wire_message(void *ctx, unsigned link, uint64_t epoch, bool binary,
			     const uint8_t *data, size_t size)
{
	struct app *app = ctx;

	hub_on_frame(app->hub, link, epoch, binary, data, size);
}

static void app_wire_closed(void *ctx, unsigned link, uint64_t epoch, const struct wire_end *end)
{
	struct app *app = ctx;
	struct session_end session_end;

	rooms_end(end, &session_end);
	hub_on_closed(app->hub, link, epoch, &session_end);
}

static void app_wire_answered(void *ctx, uint64_t id, const struct wire_answer *answer)
{
	struct app *app = ctx;
	struct hub_answer a;

	if (token_on_answered(app->token, id, answer))
		return;
	request_answer(answer, &a);
	hub_on_answered(app->hub, id, &a);
}

static const struct wire_ops wire_ops = {
	.opened = app_wire_opened,
	.message = app_wire_message,
	.closed = app_wire_closed,
	.answered = app_wire_answered,
};

static void app_wire_ready(void *ctx, int fd, unsigned ready)
{
	struct app *app = ctx;

	(void)fd;
	(void)ready;
	wire_dispatch(app->wire);
}

/* ---- the machine to hub ---- */

static void app_on_slept(void *ctx, uint64_t ms)
{
	struct app *app = ctx;

	token_on_slept(app->token);
	hub_on_slept(app->hub, ms);
}

static void app_on_network(void *ctx)
{
	struct app *app = ctx;

	hub_on_network(app->hub);
}

static const struct awake_ops awake_ops = {
	.slept = app_on_slept,
	.network = app_on_network,
};

/* ---- hub to conn ---- */

static int client_send(void *io, struct blob *blob)
{
	struct client *c = io;
	int r = conn_send(c->conn, blob);

	/* Who left without reading is no slow consumer, and what it had sent before still counts:
	 * ops->closed comes behind the last of it. */
	return r == CONN_E_CLOSED ? 0 : r;
}

static void client_finish(void *io, struct blob *farewell, bool drop)
{
	struct client *c = io;

	conn_finish(c->conn, farewell, drop);
}

static void client_abort(void *io, const char *text)
{
	struct client *c = io;

	conn_abort(c->conn, text);
}

static void client_pause(void *io, bool paused)
{
	struct client *c = io;

	conn_pause(c->conn, paused);
}

static size_t client_queued(void *io)
{
	struct client *c = io;

	return conn_queued_bytes(c->conn);
}

static const struct peer_io peer_io = {
	.send = client_send,
	.finish = client_finish,
	.abort = client_abort,
	.pause = client_pause,
	.queued_bytes = client_queued,
};

/* ---- conn to hub ---- */

static void client_release(struct client *c)
{
	if (c->name)
		names_give(c->app->names, c->name);
	conn_free(c->conn);
	free(c);
}

static void client_free(void *ctx)
{
	struct client *c = ctx;
	struct app *app = c->app;

	TAILQ_REMOVE(&app->clients, c, entry);
	client_release(c);
	stop_when_done(app);
}

static void client_on_frame(void *ctx, const uint8_t *body, size_t size)
{
	struct client *c = ctx;

	hub_on_peer_frame(c->peer, body, size);
}

static void client_on_oversize(void *ctx, size_t size)
{
	struct client *c = ctx;

	hub_on_peer_oversize(c->peer, size);
}

static void client_on_closed(void *ctx, const char *text)
{
	struct client *c = ctx;

	hub_on_peer_closed(c->peer, text);
	c->free_task.fn = client_free;
	c->free_task.ctx = c;
	loop_task_add(c->app->loop, &c->free_task);
}

static const struct conn_ops conn_ops = {
	.frame = client_on_frame,
	.oversize = client_on_oversize,
	.closed = client_on_closed,
};

static int client_attach(struct client *c, const struct conn_cred *cred)
{
	struct peer_cred peer = {
		.uid = cred->uid,
		.gid = cred->gid,
		.pid = cred->pid,
		.groups = cred->groups,
		.n_groups = cred->n_groups,
	};

	c->name = names_take(c->app->names, cred->uid);
	if (!c->name)
		return -ENOMEM;
	/* Empty while no rule needs names; a reload that brings one fills it in. */
	peer.name = name_text(c->name);
	return hub_attach(c->app->hub, &peer, &peer_io, c, &c->peer);
}

static void app_on_accept(void *ctx, int fd, const struct conn_cred *cred)
{
	struct app *app = ctx;
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->app = app;
	if (conn_new(app->loop, fd, cred, app->conf->frame_bytes, app->conf->client_queue_bytes,
		     &conn_ops, c, &c->conn) < 0) {
		free(c);
		return;
	}
	/* The conn's groups live as long as it does, the listener's for this call. */
	if (client_attach(c, conn_get_cred(c->conn)) < 0) {
		client_release(c);
		return;
	}
	TAILQ_INSERT_TAIL(&app->clients, c, entry);
}

/* ---- signals ---- */

static void app_on_term(void *ctx, int signo)
{
	struct app *app = ctx;

	if (app->stopping) {
		log_notice("%s again: stopping at once", signo == SIGINT ? "SIGINT" : "SIGTERM");
		loop_stop(app->loop);
		return;
	}
	app->stopping = true;
	log_notice("stopping: sends on their way have %d ms", DRAIN_MS);
	notify_stopping();
	listener_stop(app->listener);
	hub_drain(app->hub, DRAIN_MS);
}

/* What a running daemon can change becomes that of `conf`, which gets the old in its place. */
static void app_adopt(struct app *app, struct conf *conf)
{
	struct conf *own = app->conf;
	struct acl *old = own->acl;

	acl_set_socket_group(conf->acl, listener_group(app->listener));
	names_need(app->names, acl_needs_names(conf->acl));
	hub_set_acl(app->hub, conf->acl);
	own->acl = conf->acl;
	conf->acl = old;
	own->n_rules = conf->n_rules;
	own->n_identities = conf->n_identities;
	own->log_level = conf->log_level;
	log_set_level(own->log_level);
}

static void app_on_hup(void *ctx, int signo)
{
	struct app *app = ctx;
	struct conf_text text;
	struct conf conf;

	(void)signo;
	if (app->stopping)
		return;
	notify_reloading();
	if (conf_load(app->source, &conf, &text) < 0) {
		log_error("SIGHUP: %s; the configuration stays as it was", text.text);
	} else {
		app_adopt(app, &conf);
		key_reread(app->key);
		token_reread(app->token);
		log_notice("SIGHUP: %u access rules, %u about identities, log level %s",
			   conf.n_rules, conf.n_identities, log_level_name(conf.log_level));
		if (conf_differs(app->conf, &conf, &text))
			log_warning("SIGHUP: changed and not in force before a restart: %s",
				    text.text);
	}
	conf_done(&conf);
	notify_ready();
}

/* ---- birth and death ---- */

static int app_build_hub(struct app *app)
{
	struct hub_conf conf;
	int r = rooms_hub(app->conf, &conf);

	return r < 0 ? r : hub_new(&conf, &clock_system, &hub_ops, app, &app->hub);
}

static int app_build_wire(struct app *app)
{
	struct wire_conf conf;
	int r;

	rooms_wire(app->conf, &conf);
	r = wire_new(&conf, &wire_ops, app, &app->wire);
	if (r < 0)
		return r;
	r = loop_fd_init(app->loop, &app->wire_fd, wire_fd(app->wire), app_wire_ready, app);
	return r == 0 ? loop_fd_want(&app->wire_fd, LOOP_READ) : r;
}

/* Where tokens come from may have refused the old one. */
static void app_key_changed(void *ctx)
{
	struct app *app = ctx;

	token_reread(app->token);
}

/* What is read anew while the daemon runs. */
static int app_build_keys(struct app *app, struct conf_text *ret)
{
	int r = watch_new(app->loop, &app->watch);

	if (r < 0)
		log_warning("files cannot be watched (%s): the key and the token are read anew "
			    "only when they end or are refused",
			    strerror(-r));
	app->key = key_new(app->loop, app->watch, app->hub, app->conf, app_key_changed, app);
	return app->key ? token_new(app->loop, app->watch, app->wire, app->hub, app->key, app->conf,
				    &app->token, ret)
			: -ENOMEM;
}

static int app_build(struct app *app, struct conf_text *ret)
{
	struct listener_conf listen = {
		.path = app->conf->socket_path,
		.mode = app->conf->socket_mode,
		.group = app->conf->socket_group,
	};
	int r;

	app->loop = loop_new();
	app->names = names_new(&clock_system, names_of_system);
	if (!app->loop || !app->names)
		return -ENOMEM;
	names_need(app->names, acl_needs_names(app->conf->acl));
	r = loop_timer_init(app->loop, &app->hub_timer, app_hub_timer, app);
	if (r == 0)
		r = loop_signal_init(app->loop, &app->sigterm, SIGTERM, app_on_term, app);
	if (r == 0)
		r = loop_signal_init(app->loop, &app->sigint, SIGINT, app_on_term, app);
	if (r == 0)
		r = loop_signal_init(app->loop, &app->sighup, SIGHUP, app_on_hup, app);
	if (r == 0)
		r = app_build_hub(app);
	if (r == 0)
		r = awake_new(app->loop, &awake_ops, app, &app->awake);
	/* The socket before the connection: a second daemon must fail before it disturbs the first
	 * one's project. */
	if (r == 0)
		r = listener_new(app->loop, &listen, app_on_accept, app, &app->listener, ret->text,
				 sizeof(ret->text));
	if (r == 0) {
		acl_set_socket_group(app->conf->acl, listener_group(app->listener));
		r = app_build_wire(app);
	}
	return r == 0 ? app_build_keys(app, ret) : r;
}

int app_new(struct conf *conf, const struct conf_source *source, struct app **ret,
	    struct conf_text *ret_text)
{
	struct app *app = calloc(1, sizeof(*app));
	int r;

	if (!app)
		return -ENOMEM;
	app->conf = conf;
	app->source = source;
	TAILQ_INIT(&app->clients);
	app->hub_task = (struct loop_task){ .fn = app_hub_turn, .ctx = app };
	ret_text->text[0] = '\0';
	r = app_build(app, ret_text);
	if (r < 0) {
		if (!ret_text->text[0])
			snprintf(ret_text->text, sizeof(ret_text->text), "cannot start: %s",
				 strerror(-r));
		app_free(app);
		return r;
	}
	*ret = app;
	return 0;
}

int app_run(struct app *app)
{
	log_notice("rtbridged %s: listening on %s for %s", RTB_VERSION, app->conf->socket_path,
		   app->conf->public_url);
	notify_ready();
	hub_start(app->hub);
	token_start(app->token);
	return loop_run(app->loop);
}

struct app *app_free(struct app *app)
{
	struct client *c;

	if (!app)
		return NULL;
	app->listener = listener_free(app->listener);
	app->awake = awake_free(app->awake);
	app->token = token_free(app->token);
	app->key = key_free(app->key);
	app->watch = watch_free(app->watch);
	loop_fd_done(&app->wire_fd);
	app->wire = wire_free(app->wire);
	app->hub = hub_free(app->hub);
	while ((c = TAILQ_FIRST(&app->clients))) {
		TAILQ_REMOVE(&app->clients, c, entry);
		client_release(c);
	}
	app->names = names_free(app->names);
	loop_timer_done(&app->hub_timer);
	loop_signal_done(&app->sigterm);
	loop_signal_done(&app->sigint);
	loop_signal_done(&app->sighup);
	loop_free(app->loop);
	free(app);
	return NULL;
}
