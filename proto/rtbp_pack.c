/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_pack.h"

#include <msgpack/pack.h>
#include <string.h>

static int write_buf(void *data, const char *bytes, size_t size)
{
	struct rtbp_buf *b = data;

	rtbp_buf_put(b, bytes, size);
	return b->error ? -1 : 0;
}

static msgpack_packer packer(struct rtbp_buf *b)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, b, write_buf);
	return pk;
}

void rtbp_pack_nil(struct rtbp_buf *b)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_nil(&pk);
}

void rtbp_pack_bool(struct rtbp_buf *b, bool v)
{
	msgpack_packer pk = packer(b);

	if (v)
		msgpack_pack_true(&pk);
	else
		msgpack_pack_false(&pk);
}

void rtbp_pack_uint(struct rtbp_buf *b, uint64_t v)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_uint64(&pk, v);
}

void rtbp_pack_int(struct rtbp_buf *b, int64_t v)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_int64(&pk, v);
}

void rtbp_pack_float(struct rtbp_buf *b, double v)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_double(&pk, v);
}

void rtbp_pack_str(struct rtbp_buf *b, const char *p, size_t size)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_str(&pk, size);
	msgpack_pack_str_body(&pk, p, size);
}

void rtbp_pack_text(struct rtbp_buf *b, const char *text)
{
	rtbp_pack_str(b, text, strlen(text));
}

void rtbp_pack_bin(struct rtbp_buf *b, const void *p, size_t size)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_bin(&pk, size);
	msgpack_pack_bin_body(&pk, p, size);
}

void rtbp_pack_ext(struct rtbp_buf *b, int8_t type, const void *p, size_t size)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_ext(&pk, size, type);
	msgpack_pack_ext_body(&pk, p, size);
}

void rtbp_pack_array(struct rtbp_buf *b, uint32_t n)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_array(&pk, n);
}

void rtbp_pack_map(struct rtbp_buf *b, uint32_t n_pairs)
{
	msgpack_packer pk = packer(b);

	msgpack_pack_map(&pk, n_pairs);
}

void rtbp_pack_val(struct rtbp_buf *b, struct rtbp_val v)
{
	rtbp_buf_put(b, v.p, v.size);
}

void rtbp_pack_field(struct rtbp_buf *b, enum rtbp_field field)
{
	rtbp_pack_text(b, rtbp_field_name(field));
}

void rtbp_pack_field_text(struct rtbp_buf *b, enum rtbp_field field, const char *text)
{
	rtbp_pack_field(b, field);
	rtbp_pack_text(b, text);
}

void rtbp_pack_field_uint(struct rtbp_buf *b, enum rtbp_field field, uint64_t v)
{
	rtbp_pack_field(b, field);
	rtbp_pack_uint(b, v);
}

void rtbp_pack_field_bool(struct rtbp_buf *b, enum rtbp_field field, bool v)
{
	rtbp_pack_field(b, field);
	rtbp_pack_bool(b, v);
}

size_t rtbp_pack_map_begin(struct rtbp_buf *b)
{
	static const uint8_t map16[3] = { 0xde, 0, 0 };
	size_t begin = b->size;

	rtbp_buf_put(b, map16, sizeof(map16));
	return begin;
}

void rtbp_pack_map_end(struct rtbp_buf *b, size_t begin, uint16_t n_pairs)
{
	if (!rtbp_buf_ok(b))
		return;
	b->data[begin + 1] = (uint8_t)(n_pairs >> 8);
	b->data[begin + 2] = (uint8_t)n_pairs;
}
