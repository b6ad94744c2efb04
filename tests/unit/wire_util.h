/* SPDX-License-Identifier: MIT */
#pragma once
/* For the tests of wire: helper servers as child processes, and a recorder for wire's news. */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/wire.h"
#include "suite.h"

/* Sanitizers on a shared machine: only a hang is a failure. */
enum { WIRE_DEADLINE_MS = 60000 };

extern char **environ;

struct server {
	pid_t pid;
	int in;
	int n_ports;
	struct {
		char name[16];
		uint16_t port;
	} ports[24];
};

static inline void server_start(struct server *s, const char *const *argv)
{
	posix_spawn_file_actions_t actions;
	int in[2], out[2], port;
	char line[256], name[16];
	FILE *lines;

	memset(s, 0, sizeof(*s));
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	ck_assert_int_eq(
		posix_spawnp(&s->pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ),
		0);
	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	s->in = in[1];
	lines = fdopen(out[0], "r");
	ck_assert_ptr_nonnull(lines);
	while (fgets(line, sizeof(line), lines) && strcmp(line, "READY\n") != 0) {
		if (sscanf(line, "PORT %15s %d", name, &port) == 2) {
			strcpy(s->ports[s->n_ports].name, name);
			s->ports[s->n_ports++].port = (uint16_t)port;
		}
	}
	fclose(lines);
	ck_assert_msg(s->n_ports > 0, "%s did not start", argv[1]);
}

static inline uint16_t server_port(const struct server *s, const char *name)
{
	for (int i = 0; i < s->n_ports; i++) {
		if (strcmp(s->ports[i].name, name) == 0)
			return s->ports[i].port;
	}
	ck_abort_msg("no port %s", name);
	return 0;
}

static inline void server_stop(struct server *s)
{
	close(s->in);
	waitpid(s->pid, NULL, 0);
}

/* What happened on one link. */
struct rec {
	int n_opened, n_closed;
	uint64_t epoch;
	struct wire_end end;
	unsigned n_messages;
	size_t n_bytes;
	uint64_t hash;  /* of all messages: kind, size, bytes, in order */
	char text[512]; /* the messages one after the other, as far as they fit */
	size_t text_size;
};

/* What became of one request; its id is its index. */
struct post_rec {
	int n_answered;
	unsigned n_order; /* how many answers came before it */
	struct wire_answer answer;
	char body[WIRE_ANSWER_MAX_BYTES + 1];
};

enum { RIG_POSTS = 16 };

struct rig {
	struct wire *w;
	struct wire_conf conf;
	struct rec recs[WIRE_MAX_LINKS];
	struct post_rec posts[RIG_POSTS];
	unsigned n_answers;
	void (*on_opened)(struct rig *rig, unsigned link);
	void (*on_message)(struct rig *rig, unsigned link);
	void *user;
	uint64_t next_epoch;
};

static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
	return hash;
}

static inline uint64_t hash_message(uint64_t hash, bool binary, const void *data, size_t size)
{
	uint64_t head[2] = { binary, size };

	return hash_bytes(hash_bytes(hash, head, sizeof(head)), data, size);
}

static inline void rig_opened(void *ctx, unsigned link, uint64_t epoch)
{
	struct rig *rig = ctx;
	struct rec *rec = &rig->recs[link];

	ck_assert_uint_eq(epoch, rec->epoch);
	ck_assert_int_eq(rec->n_opened++, 0);
	ck_assert_int_eq(rec->n_closed, 0);
	if (rig->on_opened)
		rig->on_opened(rig, link);
}

static inline void rig_message(void *ctx, unsigned link, uint64_t epoch, bool binary,
			       const uint8_t *data, size_t size)
{
	struct rig *rig = ctx;
	struct rec *rec = &rig->recs[link];
	size_t left = sizeof(rec->text) - 1 - rec->text_size;

	ck_assert_uint_eq(epoch, rec->epoch);
	ck_assert_int_eq(rec->n_opened, 1);
	ck_assert_int_eq(rec->n_closed, 0);
	rec->n_messages++;
	rec->n_bytes += size;
	rec->hash = hash_message(rec->hash, binary, data, size);
	left = left < size ? left : size;
	memcpy(rec->text + rec->text_size, data, left);
	rec->text_size += left;
	if (rig->on_message)
		rig->on_message(rig, link);
}

static inline void rig_closed(void *ctx, unsigned link, uint64_t epoch, const struct wire_end *end)
{
	struct rig *rig = ctx;
	struct rec *rec = &rig->recs[link];

	ck_assert_uint_eq(epoch, rec->epoch);
	ck_assert_int_eq(rec->n_closed++, 0);
	ck_assert_int_eq(end->was_open, rec->n_opened == 1);
	rec->end = *end;
}

static inline void rig_answered(void *ctx, uint64_t id, const struct wire_answer *answer)
{
	struct rig *rig = ctx;
	struct post_rec *rec = &rig->posts[id];

	ck_assert_uint_lt(id, RIG_POSTS);
	ck_assert_int_eq(rec->n_answered++, 0);
	rec->n_order = rig->n_answers++;
	ck_assert_uint_le(answer->size, WIRE_ANSWER_MAX_BYTES);
	ck_assert_uint_gt(strlen(answer->text), 0);
	rec->answer = *answer;
	memcpy(rec->body, answer->body, answer->size);
	rec->body[answer->size] = '\0';
	rec->answer.body = rec->body;
}

static const struct wire_ops rig_ops = { rig_opened, rig_message, rig_closed, rig_answered };

/* Change rig->conf before rig_start() for other limits. */
static inline void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->conf = (struct wire_conf){
		.max_message_bytes = 8 << 20,
		.up_bytes = 16 << 20,
		.down_bytes = 16 << 20,
		.dns_ms = WIRE_DEADLINE_MS,
		.connect_ms = WIRE_DEADLINE_MS,
		.attempt_ms = WIRE_DEADLINE_MS,
	};
}

static inline void rig_start(struct rig *rig)
{
	ck_assert_int_eq(wire_new(&rig->conf, &rig_ops, rig, &rig->w), 0);
}

static inline void rig_stop(struct rig *rig)
{
	rig->w = wire_free(rig->w);
}

static inline int rig_try_open(struct rig *rig, unsigned link, const struct wire_target *target)
{
	struct rec *rec = &rig->recs[link];

	memset(rec, 0, sizeof(*rec));
	rec->hash = UINT64_C(14695981039346656037);
	rec->epoch = ++rig->next_epoch;
	return wire_open(rig->w, link, rec->epoch, target);
}

static inline void rig_open(struct rig *rig, unsigned link, bool tls, const char *host,
			    uint16_t port, const char *path)
{
	struct wire_target target = { .tls = tls, .host = host, .port = port, .path = path };

	ck_assert_int_eq(rig_try_open(rig, link, &target), 0);
}

static inline int rig_try_post(struct rig *rig, unsigned id, const struct wire_post *post)
{
	memset(&rig->posts[id], 0, sizeof(rig->posts[id]));
	return wire_post(rig->w, id, post);
}

static inline int64_t rig_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline const char *why_name(enum wire_why why)
{
	static const char *const names[] = { "BY_US",     "BY_PEER",    "LOST",     "DNS",
					     "CONNECT",   "PROXY_AUTH", "TLS",      "HTTP",
					     "HANDSHAKE", "TOO_BIG",    "PROTOCOL", "INSECURE" };

	return names[why];
}

/* Waits for news and delivers them once. */
static inline void rig_turn(struct rig *rig, int64_t deadline, const char *what)
{
	struct pollfd p = { .fd = wire_fd(rig->w), .events = POLLIN };
	int64_t left = deadline - rig_now_ms();
	const struct rec *rec = rig->recs;

	if (left <= 0) {
		for (unsigned i = 0; i < WIRE_MAX_LINKS; i++) {
			if (rec[i].epoch)
				fprintf(stderr,
					"link %u: opened %d, messages %u, closed %d %s %s\n", i,
					rec[i].n_opened, rec[i].n_messages, rec[i].n_closed,
					why_name(rec[i].end.why), rec[i].end.text);
		}
		for (unsigned i = 0; i < RIG_POSTS; i++) {
			if (rig->posts[i].n_answered)
				fprintf(stderr, "post %u: %u %s\n", i, rig->posts[i].answer.status,
					rig->posts[i].answer.text);
		}
		ck_abort_msg("timeout waiting for: %s", what);
	}
	if (poll(&p, 1, (int)left) > 0)
		wire_dispatch(rig->w);
}

#define rig_until(rig, condition)                                    \
	do {                                                         \
		int64_t deadline_ = rig_now_ms() + WIRE_DEADLINE_MS; \
		while (!(condition))                                 \
			rig_turn((rig), deadline_, #condition);      \
	} while (0)

static inline const struct wire_end *rig_until_closed(struct rig *rig, unsigned link)
{
	rig_until(rig, rig->recs[link].n_closed == 1);
	return &rig->recs[link].end;
}

static inline const struct wire_answer *rig_until_answered(struct rig *rig, unsigned id)
{
	rig_until(rig, rig->posts[id].n_answered == 1);
	return &rig->posts[id].answer;
}

static inline int run_wire_suite(Suite *suite)
{
	log_set_level(LOG_LEVEL_ERROR);
	return suite_run(suite);
}
