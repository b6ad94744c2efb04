/* SPDX-License-Identifier: MIT */
#include "hub_fixture.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proto/rtbp_json.h"

#include "hub_own.h"
#include "hub_text.h"

struct rig rig;

/* ---- the link's lower end ---- */

static int fake_open(void *ctx, unsigned link, uint64_t epoch)
{
	struct fake_link *l = &rig.links[link];

	(void)ctx;
	MUST(link < LINKS_MAX);
	MUST(!l->is_open);
	MUST(epoch > l->epoch);
	if (rig.open_result)
		return rig.open_result;
	l->epoch = epoch;
	l->is_open = true;
	l->n_opened++;
	return 0;
}

static int fake_send(void *ctx, unsigned link, uint64_t epoch, bool binary, const void *data,
		     size_t size)
{
	struct fake_link *l = &rig.links[link];

	(void)ctx;
	MUST(l->is_open && !l->is_closing);
	MUST(epoch == l->epoch);
	if (rig.send_result)
		return rig.send_result;
	frame_add(&rig.frames, link, epoch, binary, data, size);
	return 0;
}

static void fake_close(void *ctx, unsigned link, uint64_t epoch, uint16_t code)
{
	struct fake_link *l = &rig.links[link];

	(void)ctx;
	(void)code;
	MUST(l->is_open && !l->is_closing);
	MUST(epoch == l->epoch);
	l->is_closing = true;
}

static void fake_wake(void *ctx)
{
	(void)ctx;
	rig.awake = true;
}

static void fake_drained(void *ctx)
{
	(void)ctx;
	MUST(!rig.drained);
	rig.drained = true;
}

static void fake_status(void *ctx, const char *line)
{
	(void)ctx;
	snprintf(rig.status, sizeof(rig.status), "%s", line);
}

static int fake_post(void *ctx, uint64_t id, const struct hub_post *post)
{
	char name[2000];

	(void)ctx;
	MUST(post->timeout_ms > 0);
	if (rig.post_result)
		return rig.post_result;
	snprintf(name, sizeof(name), "%s %s %s", post->path, post->content_type,
		 post->token ? secret_bytes(post->token) : "-");
	post_add(&rig.posts, id, name, strstr(post->content_type, "json") != NULL, post->body,
		 post->size);
	return 0;
}

static const struct hub_ops hub_ops = {
	.link_open = fake_open,
	.link_send = fake_send,
	.link_close = fake_close,
	.post = fake_post,
	.wake = fake_wake,
	.drained = fake_drained,
	.status = fake_status,
	.token_refused = owner_token_refused,
	.key_refused = owner_key_refused,
	.token_wanted = owner_token_wanted,
};

/* ---- time ---- */

bool frame_is_current(const struct line *f)
{
	const struct fake_link *l = &rig.links[f->link];

	return l->is_open && !l->is_closing && l->epoch == f->epoch;
}

/* Heartbeats are the rig's own business: answered here, never seen by a test. So are probes, if the
 * test says so. */
static bool is_own_business(const struct line *f)
{
	return strcmp(f->event, "heartbeat") == 0 ||
	       (rig.probes && text_matches("*'presence',{}]", f->text));
}

static bool answer_own_business(void)
{
	struct line *f;

	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		f = &rig.frames.at[i];
		if (f->taken || !is_own_business(f))
			continue;
		f->taken = true;
		rig.n_heartbeats += strcmp(f->event, "heartbeat") == 0;
		if (rig.mute || !frame_is_current(f))
			continue;
		if (f->answered)
			continue; /* by the test itself */
		server_reply(f, true, "{}");
		return true;
	}
	return false;
}

void turn(void)
{
	struct session_end end = { .fault = SESSION_FAULT_NONE, .text = "closed by us" };

	if (rig.no_turns)
		return;
	for (unsigned n = 0; n < 1000; n++) {
		unsigned i = 0;

		while (i < LINKS_MAX && !rig.links[i].is_closing)
			i++;
		if (i < LINKS_MAX && !rig.stuck) {
			rig.links[i].is_open = rig.links[i].is_closing = false;
			hub_on_closed(rig.hub, i, rig.links[i].epoch, &end);
		} else if (rig.awake) {
			rig.awake = false;
			hub_turn_end(rig.hub);
			hub_check(rig.hub);
		} else if (!answer_own_business()) {
			return;
		}
	}
	ck_abort_msg("the hub wakes itself for ever");
}

void advance(uint64_t ms)
{
	uint64_t until = rig.now + ms, deadline;
	unsigned n_same = 0;

	while ((deadline = hub_deadline(rig.hub)) <= until) {
		n_same = deadline <= rig.now ? n_same + 1 : 0;
		MUST_MSG(n_same < 1000, "the deadline does not move on");
		if (deadline > rig.now)
			rig.now = deadline;
		hub_tick(rig.hub);
		turn();
	}
	rig.now = until;
}

/* ---- birth and death ---- */

void rig_start(void (*change)(struct hub_conf *conf))
{
	rig = (struct rig){ .now = 1000000, .uid = 1000 };
	log_set_level(LOG_LEVEL_ERROR);
	rig.clock = rig_clock;
	hub_conf_init(&rig.conf);
	rig.conf.session.seed = 1;
	rig.conf.max_links = 1;
	rig.conf.owner = 1000;
	rig.conf.connect_always = true;
	rig.conf.url = "wss://example.test:443/realtime/v1/websocket";
	rig.apikey = secret_new("the-key", 7);
	rig.conf.apikey = rig.apikey;
	if (change)
		change(&rig.conf);
	MUST(hub_new(&rig.conf, &rig.clock, &hub_ops, &rig, &rig.hub) == 0);
	hub_start(rig.hub);
	turn();
}

void rig_setup(void)
{
	rig_start(NULL);
}

void rig_setup_online(void)
{
	rig_setup();
	server_open();
}

void rig_teardown(void)
{
	rig.no_turns = false;
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		if (rig.peers[i].attached)
			peer_close(&rig.peers[i]);
	}
	turn();
	rig.hub = hub_free(rig.hub);
	for (unsigned i = 0; i < FAKE_PEERS; i++) {
		lines_done(&rig.peers[i].got);
		free(rig.peers[i].farewell);
	}
	lines_done(&rig.frames);
	lines_done(&rig.posts);
	rig.apikey = secret_free(rig.apikey);
}

/* ---- the server ---- */

void server_open(void)
{
	MUST(rig.links[rig.at].is_open);
	hub_on_opened(rig.hub, rig.at, rig.links[rig.at].epoch);
	turn();
}

void server_drop(enum session_fault fault, const char *text)
{
	struct session_end end = { .fault = fault, .text = text };

	MUST(rig.links[rig.at].is_open);
	rig.links[rig.at].is_open = rig.links[rig.at].is_closing = false;
	hub_on_closed(rig.hub, rig.at, rig.links[rig.at].epoch, &end);
	turn();
}

void server_bytes(bool binary, const void *data, size_t size)
{
	/* Exactly as large as the frame, so that a sanitizer sees one byte too many. */
	uint8_t *copy = malloc(size ? size : 1);

	MUST(copy);
	memcpy(copy, data, size);
	hub_on_frame(rig.hub, rig.at, rig.links[rig.at].epoch, binary, copy, size);
	free(copy);
	turn();
}

void server_text(const char *format, ...)
{
	char *text, *json;
	va_list args;

	va_start(args, format);
	MUST(vasprintf(&text, format, args) >= 0);
	va_end(args);
	json = frame_text(text);
	server_bytes(false, json, strlen(json));
	free(json);
	free(text);
}

void server_broadcast(const char *topic, const char *event, const char *payload_json)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	char *json = quoted(payload_json);

	rtbp_buf_byte(&b, 4);
	rtbp_buf_byte(&b, (uint8_t)(9 + strlen(topic)));
	rtbp_buf_byte(&b, (uint8_t)strlen(event));
	rtbp_buf_byte(&b, 0);
	rtbp_buf_byte(&b, 1);
	rtbp_buf_text(&b, "realtime:");
	rtbp_buf_text(&b, topic);
	rtbp_buf_text(&b, event);
	rtbp_buf_text(&b, json);
	server_bytes(true, b.data, b.size);
	rtbp_buf_done(&b);
	free(json);
}

static struct line *next_line(struct lines *l)
{
	while (l->next < l->n && l->at[l->next].taken)
		l->next++;
	return l->next < l->n ? &l->at[l->next] : NULL;
}

struct line *expect_frame(const char *pattern)
{
	struct line *f = next_line(&rig.frames);

	MUST_MSG(f, "no frame to the server; expected %s", pattern);
	MUST_MSG(text_matches(pattern, f->text), "to the server: %s; expected %s", f->text,
		 pattern);
	f->taken = true;
	return f;
}

void expect_no_frame(void)
{
	struct line *f = next_line(&rig.frames);

	MUST_MSG(!f, "to the server: %s; expected nothing", f->text);
}

struct line *expect_post(const char *pattern)
{
	struct line *f = next_line(&rig.posts);

	MUST_MSG(f, "no request to the server; expected %s", pattern);
	MUST_MSG(text_matches(pattern, f->text), "requested: %s; expected %s", f->text, pattern);
	f->taken = true;
	return f;
}

void expect_no_post(void)
{
	struct line *f = next_line(&rig.posts);

	MUST_MSG(!f, "requested: %s; expected nothing", f->text);
}

void server_answer_all(struct line *f, const struct hub_answer *a)
{
	MUST(!f->answered);
	f->answered = true;
	hub_on_answered(rig.hub, f->ref, a);
	turn();
}

void server_answer(struct line *f, unsigned status, const char *body)
{
	char *json = quoted(body);
	struct hub_answer a = {
		.was_sent = true,
		.status = status,
		.body = json,
		.size = strlen(json),
		.text = status ? "" : "the connection ended before an answer",
	};

	server_answer_all(f, &a);
	free(json);
}

void server_reply(struct line *f, bool ok, const char *response)
{
	unsigned at = rig.at;

	MUST(!f->answered);
	f->answered = true;
	rig.at = f->link;
	server_text("['%" PRIu64 "','%" PRIu64 "','%s','phx_reply',{'status':'%s','response':%s}]",
		    f->join_ref, f->ref, f->topic, ok ? "ok" : "error", response);
	rig.at = at;
}

struct line *server_join(const char *topic)
{
	char pattern[400];
	struct line *f;

	snprintf(pattern, sizeof(pattern), "[*,*,'realtime:%s','phx_join',*", topic);
	f = expect_frame(pattern);
	server_reply(f, true, "{'postgres_changes':[]}");
	return f;
}

void server_serve(void)
{
	struct line *f;

	while ((f = next_line(&rig.frames)) && rig.links[f->link].is_open &&
	       !rig.links[f->link].is_closing) {
		f->taken = true;
		if (frame_is_current(f) && !f->answered)
			server_reply(f, true, "{}");
	}
}

/* ---- the peers ---- */

static int fake_peer_send(void *io, struct blob *blob)
{
	struct fake_peer *p = io;

	MUST_MSG(p->attached, "the hub sends to a connection that is gone");
	MUST_MSG(!p->finished, "the hub sends behind a farewell");
	if (p->send_result && p->room == 0)
		return p->send_result;
	if (p->send_result)
		p->room--;
	message_add(p, blob);
	return 0;
}

static void fake_finish(void *io, struct blob *farewell, bool drop)
{
	struct fake_peer *p = io;

	MUST(p->attached && !p->finished);
	p->finished = true;
	p->dropped = drop;
	if (farewell)
		p->farewell = blob_text(farewell, NULL);
}

static void fake_abort(void *io, const char *text)
{
	struct fake_peer *p = io;

	(void)text;
	MUST(p->attached);
	p->finished = true;
}

static void fake_pause(void *io, bool paused)
{
	struct fake_peer *p = io;

	MUST(p->attached);
	MUST_MSG(p->paused != paused, "the hub pauses or resumes twice");
	p->paused = paused;
}

static size_t fake_queued(void *io)
{
	struct fake_peer *p = io;

	MUST(p->attached);
	if (p->finished)
		return 0;
	return p->queued ? p->queued : 4711;
}

static const struct peer_io peer_io = {
	.send = fake_peer_send,
	.finish = fake_finish,
	.abort = fake_abort,
	.pause = fake_pause,
	.queued_bytes = fake_queued,
};

struct fake_peer *peer_attach(void)
{
	struct peer_cred cred = { .uid = rig.uid, .gid = rig.uid, .pid = 4242 };
	struct fake_peer *p = NULL;

	for (unsigned i = 0; i < FAKE_PEERS && !p; i++) {
		if (!rig.peers[i].attached && !rig.peers[i].got.n && !rig.peers[i].farewell)
			p = &rig.peers[i];
	}
	MUST(p);
	p->attached = true;
	MUST(hub_attach(rig.hub, &cred, &peer_io, p, &p->peer) == 0);
	turn();
	return p;
}

struct fake_peer *peer_ready(void)
{
	struct fake_peer *p = peer_attach();

	peer_ask(p, 0, "hello", "{'protocol':1,'client':{'name':'test','version':'1'}}");
	expect(p, "[1,0,null,{'protocol':1,*");
	return p;
}

void peer_frame(struct fake_peer *p, const void *body, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	MUST(copy);
	memcpy(copy, body, size);
	hub_on_peer_frame(p->peer, copy, size);
	free(copy);
	turn();
}

static void peer_message(struct fake_peer *p, struct rtbp_buf *b, const char *method,
			 const char *params)
{
	char *json = quoted(params);

	rtbp_pack_text(b, method);
	MUST(rtbp_json_to_mp(json, strlen(json), 70, b, NULL) == 0);
	free(json);
	peer_frame(p, b->data, b->size);
	rtbp_buf_done(b);
}

void peer_ask(struct fake_peer *p, uint32_t id, const char *method, const char *params)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	MUST(id < FAKE_IDS);
	MUST_MSG(!p->asked[id], "the test uses id %u twice", id);
	p->asked[id] = true;
	p->n_asked++;
	rtbp_pack_array(&b, 4);
	rtbp_pack_uint(&b, RTBP_REQUEST);
	rtbp_pack_uint(&b, id);
	peer_message(p, &b, method, params);
}

void peer_call(struct fake_peer *p, const char *method, const char *params)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	rtbp_pack_array(&b, 3);
	rtbp_pack_uint(&b, RTBP_NOTIFICATION);
	peer_message(p, &b, method, params);
}

void peer_close(struct fake_peer *p)
{
	MUST(p->attached);
	p->attached = false;
	hub_on_peer_closed(p->peer, "closed by the test");
	turn();
}

const char *expect(struct fake_peer *p, const char *pattern)
{
	struct line *m = next_line(&p->got);

	MUST_MSG(m, "no message to peer %zu; expected %s", (size_t)(p - rig.peers), pattern);
	MUST_MSG(text_matches(pattern, m->text), "to peer %zu: %s; expected %s",
		 (size_t)(p - rig.peers), m->text, pattern);
	m->taken = true;
	return m->text;
}

unsigned peer_skip(struct fake_peer *p, const char *word)
{
	unsigned n = 0;

	for (; p->got.next < p->got.n; p->got.next++) {
		if (!p->got.at[p->got.next].taken)
			n += strstr(p->got.at[p->got.next].text, word) != NULL;
	}
	return n;
}

void expect_nothing(struct fake_peer *p)
{
	struct line *m = next_line(&p->got);

	MUST_MSG(!m, "to peer %zu: %s; expected nothing", (size_t)(p - rig.peers), m->text);
}

void expect_farewell(struct fake_peer *p, const char *error_name, bool drop)
{
	char pattern[100];

	MUST_MSG(p->finished && p->farewell, "no farewell; expected %s", error_name);
	snprintf(pattern, sizeof(pattern), "[2,'error',{'error':[*,'%s',*]}]", error_name);
	MUST_MSG(text_matches(pattern, p->farewell), "%s; expected %s", p->farewell, pattern);
	MUST(p->dropped == drop);
}

void peer_join(struct fake_peer *p, const char *topic, const char *broadcast)
{
	char params[600];

	snprintf(params, sizeof(params), "{'topic':'%s','broadcast':%s}", topic, broadcast);
	peer_ask(p, 1, "subscribe", params);
	server_serve();
	expect(p, "[1,1,null,{'chan':*,'topic':*,'private':false,'state':'ready'}]");
}
