/* SPDX-License-Identifier: MIT */
/*
 * Runs proto/rtbp_json.h for differential.py: jobs on stdin, results on stdout, one after the
 * other.
 *
 *   job     u8 kind: 'j' JSON to MessagePack, 'm' MessagePack to JSON, 'q' quote; u32 size; bytes
 *   result  i32 what the function returned; u32 offset of the fault; u32 size; bytes: the output,
 * or the fault's path
 *
 * Integers are big endian.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_json.h"

enum { DEPTH = RTBP_JSON_DEPTH };

static bool read_all(void *data, size_t size)
{
	return fread(data, 1, size, stdin) == size;
}

static bool write_all(const void *data, size_t size)
{
	return fwrite(data, 1, size, stdout) == size;
}

static int run(char kind, const void *data, size_t size, struct rtbp_buf *out,
	       struct rtbp_json_fault *fault)
{
	switch (kind) {
	case 'j':
		return rtbp_json_to_mp(data, size, DEPTH, out, fault);
	case 'm':
		return rtbp_mp_to_json(data, size, out, fault);
	default:
		rtbp_json_quote(out, data, size);
		return out->error;
	}
}

/* One job whose kind has been read. */
static bool job(char kind)
{
	struct rtbp_json_fault fault = { 0 };
	struct rtbp_buf out = RTBP_BUF_INIT;
	uint32_t size, head[3];
	char *data;
	bool ok;
	int r;

	if (!read_all(&size, sizeof(size)))
		return false;
	size = ntohl(size);
	data = malloc(size ? size : 1);
	if (!data || !read_all(data, size)) {
		free(data);
		return false;
	}
	r = run(kind, data, size, &out, &fault);
	if (r > 0)
		rtbp_buf_text(&out, fault.path);
	head[0] = htonl((uint32_t)r);
	head[1] = htonl((uint32_t)fault.offset);
	head[2] = htonl((uint32_t)out.size);
	ok = write_all(head, sizeof(head)) && (!out.size || write_all(out.data, out.size));
	rtbp_buf_done(&out);
	free(data);
	return ok;
}

int main(void)
{
	int kind;

	while ((kind = getchar()) != EOF)
		if (!job((char)kind))
			return EXIT_FAILURE;
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
