/* SPDX-License-Identifier: MIT */
/* A reader on rtbridged: says hello, subscribes, and leaves the descriptor where the first
 * broadcast begins. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "proto/rtbp_msg.h"

static void expect_result(int fd, uint32_t id)
{
	struct rtbp_fault fault;
	struct rtbp_msg m;
	uint32_t length;
	uint8_t *body;

	/* Notices may come before the answer. */
	for (;;) {
		bench_read_all(fd, &length, sizeof(length));
		length = ntohl(length);
		body = malloc(length);
		if (!body)
			bench_die("memory");
		bench_read_all(fd, body, length);
		if (rtbp_msg_parse(body, length, &m, &fault) != 0)
			bench_die("the daemon sent no message");
		free(body);
		if (m.type == RTBP_RESPONSE && m.id == id) {
			if (m.error.p)
				bench_die("the daemon refused a request");
			return;
		}
	}
}

int attach_rtbridge(const char *path)
{
	int fd = bench_connect_unix(path);
	struct rtbp_buf b = RTBP_BUF_INIT;
	size_t begin = rtbp_msg_begin_request(&b, 1, RTBP_M_HELLO);

	rtbp_pack_map(&b, 1);
	rtbp_pack_field_uint(&b, RTBP_F_PROTOCOL, RTBP_PROTOCOL);
	(void)rtbp_msg_end(&b, begin);
	bench_write_all(fd, b.data, b.size);
	expect_result(fd, 1);
	rtbp_buf_reset(&b, b.cap);
	begin = rtbp_msg_begin_request(&b, 2, RTBP_M_SUBSCRIBE);
	rtbp_pack_map(&b, 1);
	rtbp_pack_field_text(&b, RTBP_F_TOPIC, "bench");
	(void)rtbp_msg_end(&b, begin);
	bench_write_all(fd, b.data, b.size);
	expect_result(fd, 2);
	rtbp_buf_done(&b);
	return fd;
}
