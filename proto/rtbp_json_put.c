/* SPDX-License-Identifier: MIT */
/* The MessagePack that JSON becomes, each thing in its smallest encoding. */
#include "proto/rtbp_json_impl.h"

#include <string.h>

const struct rtbp_mp_head rtbp_mp_head_str = { 0xa0, 31, 0xd9, 0xda, 0xdb };
const struct rtbp_mp_head rtbp_mp_head_array = { 0x90, 15, 0, 0xdc, 0xdd };
const struct rtbp_mp_head rtbp_mp_head_map = { 0x80, 15, 0, 0xde, 0xdf };

/* Writes `n` as big endian of `size` bytes. */
static void put_be(uint8_t *at, uint64_t n, unsigned size)
{
	while (size--) {
		at[size] = (uint8_t)n;
		n >>= 8;
	}
}

unsigned rtbp_mp_head_size(const struct rtbp_mp_head *kind, uint32_t n)
{
	if (n <= kind->fix_max)
		return 1;
	if (kind->code8 && n <= UINT8_MAX)
		return 2;
	return n <= UINT16_MAX ? 3 : 5;
}

void rtbp_mp_write_head(uint8_t *at, const struct rtbp_mp_head *kind, uint32_t n)
{
	unsigned size = rtbp_mp_head_size(kind, n);

	switch (size) {
	case 1:
		at[0] = kind->fix | (uint8_t)n;
		return;
	case 2:
		at[0] = kind->code8;
		break;
	case 3:
		at[0] = kind->code16;
		break;
	default:
		at[0] = kind->code32;
	}
	put_be(at + 1, n, size - 1);
}

void rtbp_mp_settle_head(struct rtbp_buf *out, size_t head, const struct rtbp_mp_head *kind,
			 uint32_t n)
{
	size_t more = rtbp_mp_head_size(kind, n) - 1;

	if (more) {
		if (!rtbp_json_room(out, more))
			return;
		memmove(out->data + head + 1 + more, out->data + head + 1, out->size - head - 1);
		out->size += more;
	}
	rtbp_mp_write_head(out->data + head, kind, n);
}

/* Writes a code byte and `n` as big endian of `size` bytes. */
static void put_coded(struct rtbp_buf *out, uint8_t code, uint64_t n, unsigned size)
{
	uint8_t *at = rtbp_json_room(out, 1 + size);

	if (!at)
		return;
	at[0] = code;
	put_be(at + 1, n, size);
	out->size += 1 + size;
}

void rtbp_mp_put_uint(struct rtbp_buf *out, uint64_t u)
{
	if (u < 0x80)
		rtbp_json_byte(out, (uint8_t)u);
	else if (u <= UINT8_MAX)
		put_coded(out, 0xcc, u, 1);
	else if (u <= UINT16_MAX)
		put_coded(out, 0xcd, u, 2);
	else if (u <= UINT32_MAX)
		put_coded(out, 0xce, u, 4);
	else
		put_coded(out, 0xcf, u, 8);
}

void rtbp_mp_put_negative(struct rtbp_buf *out, int64_t i)
{
	if (i >= -32)
		rtbp_json_byte(out, (uint8_t)i);
	else if (i >= INT8_MIN)
		put_coded(out, 0xd0, (uint64_t)i, 1);
	else if (i >= INT16_MIN)
		put_coded(out, 0xd1, (uint64_t)i, 2);
	else if (i >= INT32_MIN)
		put_coded(out, 0xd2, (uint64_t)i, 4);
	else
		put_coded(out, 0xd3, (uint64_t)i, 8);
}

void rtbp_mp_put_number_text(struct rtbp_buf *out, const uint8_t *text, uint32_t n)
{
	if (n == 1 || n == 2 || n == 4 || n == 8 || n == 16)
		rtbp_json_byte(out, (uint8_t)(0xd4 + __builtin_ctz(n)));
	else if (n <= UINT8_MAX)
		put_coded(out, 0xc7, n, 1);
	else if (n <= UINT16_MAX)
		put_coded(out, 0xc8, n, 2);
	else
		put_coded(out, 0xc9, n, 4);
	rtbp_json_byte(out, RTBP_EXT_NUMBER);
	rtbp_buf_put(out, text, n);
}

void rtbp_mp_put_float(struct rtbp_buf *out, double d)
{
	uint64_t bits;

	memcpy(&bits, &d, sizeof(bits));
	put_coded(out, 0xcb, bits, 8);
}
