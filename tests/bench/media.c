/* SPDX-License-Identifier: MIT */
/* The media beside rtbridge: plain writes, and redis pub/sub on its Unix socket. */
#include <stdio.h>
#include <string.h>

#include "bench.h"

void feed_raw(struct bench_shared *s, const int *fds, unsigned n, unsigned batch)
{
	char block[BENCH_BATCH * BENCH_PAYLOAD_BYTES];
	uint64_t sent = 0;
	unsigned room;

	for (unsigned i = 0; i < BENCH_BATCH; i++)
		memcpy(block + i * BENCH_PAYLOAD_BYTES, bench_payload(), BENCH_PAYLOAD_BYTES);
	while ((room = bench_room(s, sent, batch)) > 0) {
		for (unsigned i = 0; i < n; i++)
			bench_write_all(fds[i], block, (size_t)room * BENCH_PAYLOAD_BYTES);
		sent += room;
	}
}

void feed_redis(struct bench_shared *s, const char *path)
{
	int fd = bench_connect_unix(path);
	char command[BENCH_PAYLOAD_BYTES + 64], block[BENCH_BATCH * sizeof(command)],
		reply[BENCH_BATCH * 16];
	uint64_t sent = 0;
	unsigned room, lines;
	int size;

	size = snprintf(command, sizeof(command),
			"*3\r\n$7\r\nPUBLISH\r\n$5\r\nbench\r\n$%d\r\n%s\r\n", BENCH_PAYLOAD_BYTES,
			bench_payload());
	for (unsigned i = 0; i < BENCH_BATCH; i++)
		memcpy(block + (size_t)i * (size_t)size, command, (size_t)size);
	while ((room = bench_room(s, sent, BENCH_BATCH)) > 0) {
		bench_write_all(fd, block, (size_t)room * (size_t)size);
		/* One ":N\r\n" for each. */
		for (lines = 0; lines < room;) {
			bench_read_all(fd, reply, 1);
			lines += reply[0] == '\n';
		}
		sent += room;
	}
}

int attach_redis(const char *path)
{
	static const char subscribe[] = "*2\r\n$9\r\nSUBSCRIBE\r\n$5\r\nbench\r\n";
	static const char expected[] = "*3\r\n$9\r\nsubscribe\r\n$5\r\nbench\r\n:1\r\n";
	char answer[sizeof(expected)];
	int fd = bench_connect_unix(path);

	bench_write_all(fd, subscribe, sizeof(subscribe) - 1);
	bench_read_all(fd, answer, sizeof(expected) - 1);
	if (memcmp(answer, expected, sizeof(expected) - 1) != 0)
		bench_die("redis answered SUBSCRIBE with something else");
	return fd;
}
