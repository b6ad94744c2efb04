/* SPDX-License-Identifier: MIT */
/* Payloads: JSON text <-> MessagePack for callers that keep no MessagePack library. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

static int finish(int r, struct rtbp_buf *b, const struct rtbp_json_fault *fault, char **ret,
		  size_t *ret_size, char *error, size_t error_size)
{
	size_t size;

	if (r == 0) {
		rtbp_buf_byte(b, 0);
		r = b->error;
	}
	if (r == 0) {
		*ret = (char *)rtbp_buf_take(b, &size);
		if (ret_size)
			*ret_size = size - 1;
		return 0;
	}
	rtbp_buf_done(b);
	if (r < 0)
		return r == -EMSGSIZE ? -ENOMEM : r;
	if (error && error_size) {
		if (fault->path[0])
			(void)snprintf(error, error_size, "%s at %s", fault->text, fault->path);
		else
			(void)snprintf(error, error_size, "%s at byte %zu", fault->text,
				       fault->offset);
	}
	return RTB_E_PAYLOAD;
}

int rtb_json_to_msgpack(const char *json, size_t size, void **ret, size_t *ret_size, char *error,
			size_t error_size)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_json_fault fault = { 0 };
	char *bytes;
	int r;

	r = rtbp_json_to_mp(json, size, RTBP_JSON_DEPTH, &b, &fault);
	r = finish(r, &b, &fault, &bytes, ret_size, error, error_size);
	if (r == 0)
		*ret = bytes;
	return r;
}

int rtb_msgpack_to_json(const void *msgpack, size_t size, char **ret, size_t *ret_size, char *error,
			size_t error_size)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_json_fault fault = { 0 };

	return finish(rtbp_mp_to_json(msgpack, size, &b, &fault), &b, &fault, ret, ret_size, error,
		      error_size);
}

void rtb_free(void *p)
{
	free(p);
}
