/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Writing MessagePack into a rtbp_buf. Errors stick to the buffer (rtbp_buf.h): ask once at the
 * end. The caller promises as many values as the container headers announce.
 */
#include <stdbool.h>
#include <stdint.h>

#include "proto/rtbp_buf.h"
#include "proto/rtbp_val.h"

void rtbp_pack_nil(struct rtbp_buf *b);
void rtbp_pack_bool(struct rtbp_buf *b, bool v);
void rtbp_pack_uint(struct rtbp_buf *b, uint64_t v);
void rtbp_pack_int(struct rtbp_buf *b, int64_t v);
void rtbp_pack_float(struct rtbp_buf *b, double v);
void rtbp_pack_str(struct rtbp_buf *b, const char *p, size_t size);
void rtbp_pack_text(struct rtbp_buf *b, const char *text);
void rtbp_pack_bin(struct rtbp_buf *b, const void *p, size_t size);
void rtbp_pack_ext(struct rtbp_buf *b, int8_t type, const void *p, size_t size);
void rtbp_pack_array(struct rtbp_buf *b, uint32_t n);
void rtbp_pack_map(struct rtbp_buf *b, uint32_t n_pairs);

/* Copies a checked value as it stands. */
void rtbp_pack_val(struct rtbp_buf *b, struct rtbp_val v);

/* A map key of the protocol; its value follows. */
void rtbp_pack_field(struct rtbp_buf *b, enum rtbp_field field);
/* Key and value in one. */
void rtbp_pack_field_text(struct rtbp_buf *b, enum rtbp_field field, const char *text);
void rtbp_pack_field_uint(struct rtbp_buf *b, enum rtbp_field field, uint64_t v);
void rtbp_pack_field_bool(struct rtbp_buf *b, enum rtbp_field field, bool v);

/*
 * A map whose number of pairs is known only at its end (at most 65535): the header is written for
 * 16 bits and patched by rtbp_pack_map_end().
 */
size_t rtbp_pack_map_begin(struct rtbp_buf *b);
void rtbp_pack_map_end(struct rtbp_buf *b, size_t begin, uint16_t n_pairs);
