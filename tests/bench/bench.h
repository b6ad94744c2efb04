/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * bench: one feeder, one medium, N readers. The feeder stays at most BENCH_WINDOW messages ahead of
 * the slowest reader (a shared counter tells), so that every medium is measured with nothing lost
 * and nothing piled up. Readers count bytes: all messages of one medium have the same size.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BENCH_PAYLOAD_BYTES = 300,
	BENCH_WINDOW = 256,
	BENCH_BATCH = 32, /* messages that a feeder writes at once, where it batches */
	BENCH_MAX_READERS = 1000,
};

/* In memory shared by feeder and readers. */
struct bench_shared {
	_Atomic uint64_t consumed; /* messages that every reader has */
	_Atomic uint64_t readers_ready;
	_Atomic int stop;
};

/* How many messages may be sent now; spins and yields until there is room or the end. 0: stop. */
unsigned bench_room(struct bench_shared *s, uint64_t sent, unsigned want);

/* A payload of BENCH_PAYLOAD_BYTES bytes of JSON text. */
const char *bench_payload(void);

_Noreturn void bench_die(const char *what);
void bench_write_all(int fd, const void *data, size_t size);
/* Reads exactly, blocking. */
void bench_read_all(int fd, void *data, size_t size);
int bench_connect_unix(const char *path);

/* Media: each feeds until `stop`. */
void feed_raw(struct bench_shared *s, const int *fds, unsigned n, unsigned batch);
void feed_redis(struct bench_shared *s, const char *path);
/* A WebSocket server that does just enough for rtbridged, then floods; `listen_fd` listens on
 * loopback. */
void feed_upstream(struct bench_shared *s, int listen_fd);

/* Attaches one reader: returns a blocking descriptor on which only messages follow. */
int attach_redis(const char *path);
int attach_rtbridge(const char *path);
