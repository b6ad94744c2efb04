/* SPDX-License-Identifier: MIT */
/*
 * Just enough of a Realtime server to flood rtbridged: it upgrades one connection, answers joins,
 * leaves and heartbeats, and then writes prepared broadcast frames. It is no reference for
 * anything.
 */
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

static const char topic[] = "realtime:bench";

static void upgrade(int fd)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char request[8192], key[128], answer[256];
	unsigned char digest[20], accept[64];
	size_t n = 0;
	char *at;
	int size;

	do {
		if (n == sizeof(request) - 1)
			bench_die("upgrade request too large");
		bench_read_all(fd, request + n, 1);
		request[++n] = '\0';
	} while (n < 4 || memcmp(request + n - 4, "\r\n\r\n", 4) != 0);
	at = strcasestr(request, "sec-websocket-key:");
	if (!at || sscanf(at + 18, " %60[^\r\n ]", key) != 1)
		bench_die("no key in the upgrade request");
	strcat(key, guid);
	EVP_Digest(key, strlen(key), digest, NULL, EVP_sha1(), NULL);
	EVP_EncodeBlock(accept, digest, sizeof(digest));
	size = snprintf(
		answer, sizeof(answer),
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: %s\r\n\r\n",
		accept);
	bench_write_all(fd, answer, (size_t)size);
}

static size_t frame(char *to, const char *text, size_t size)
{
	to[0] = (char)0x81;
	if (size < 126) {
		to[1] = (char)size;
		memcpy(to + 2, text, size);
		return size + 2;
	}
	to[1] = 126;
	to[2] = (char)(size >> 8);
	to[3] = (char)size;
	memcpy(to + 4, text, size);
	return size + 4;
}

/* One masked frame of the client; answers what wants an answer. Return: whether it was a join. */
static int answer_one(int fd)
{
	unsigned char head[8], mask[4];
	char text[8192], reply[512], out[600], join_ref[32] = "", ref[32] = "", at_topic[128],
					       event[32];
	size_t size;
	int n;

	bench_read_all(fd, head, 2);
	size = head[1] & 0x7f;
	if (size == 126) {
		bench_read_all(fd, head + 2, 2);
		size = (size_t)head[2] << 8 | head[3];
	}
	if (size >= sizeof(text))
		bench_die("the daemon sent a large frame");
	bench_read_all(fd, mask, 4);
	bench_read_all(fd, text, size);
	for (size_t i = 0; i < size; i++)
		text[i] = (char)(text[i] ^ mask[i % 4]);
	text[size] = '\0';
	if ((head[0] & 0x0f) != 1)
		return 0;
	n = sscanf(text, "[%31[^,],%31[^,],\"%127[^\"]\",\"%31[^\"]\"", join_ref, ref, at_topic,
		   event);
	if (n != 4)
		bench_die("cannot read what the daemon sent");
	n = snprintf(reply, sizeof(reply),
		     "[%s,%s,\"%s\",\"phx_reply\",{\"status\":\"ok\",\"response\":{%s}}]", join_ref,
		     ref, at_topic,
		     strcmp(event, "phx_join") == 0 ? "\"postgres_changes\":[]" : "");
	bench_write_all(fd, out, frame(out, reply, (size_t)n));
	return strcmp(event, "phx_join") == 0;
}

void feed_upstream(struct bench_shared *s, int listen_fd)
{
	char text[BENCH_PAYLOAD_BYTES + 256], one[sizeof(text) + 16], *block;
	struct pollfd p;
	uint64_t sent = 0;
	unsigned room;
	size_t size;
	int fd;

	size = (size_t)snprintf(text, sizeof(text),
				"[null,null,\"%s\",\"broadcast\",{\"type\":\"broadcast\",\"event\":"
				"\"n\",\"payload\":%s}]",
				topic, bench_payload());
	size = frame(one, text, size);
	block = malloc(BENCH_BATCH * size);
	if (!block)
		bench_die("memory");
	for (unsigned i = 0; i < BENCH_BATCH; i++)
		memcpy(block + i * size, one, size);
	fd = accept(listen_fd, NULL, NULL);
	if (fd < 0)
		bench_die("accept");
	upgrade(fd);
	while (!answer_one(fd))
		;
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	while (!atomic_load(&s->readers_ready)) {
		if (poll(&p, 1, 10) == 1)
			(void)answer_one(fd);
	}
	while ((room = bench_room(s, sent, BENCH_BATCH)) > 0) {
		bench_write_all(fd, block, room * size);
		sent += room;
		if (poll(&p, 1, 0) == 1)
			(void)answer_one(fd);
	}
	free(block);
	close(fd);
}
