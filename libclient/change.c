/* SPDX-License-Identifier: MIT */
/*
 * Values of columns.
 *
 * Numbers that neither an integer nor a float64 holds come as their text. That is read here without
 * the C library's idea of a decimal point, which depends on the locale.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

/* ---- numbers as text ---- */

enum {
	DIGITS_MAX = 780, /* no more decide which double is nearest, but whether others follow */
	EXPONENT_MAX = 100000000,
};

struct number {
	bool is_negative;
	struct rtbp_str whole, fraction; /* digits */
	int64_t exponent;
};

static struct rtbp_str take_digits(struct rtbp_str *s)
{
	struct rtbp_str digits = { s->p, 0 };

	while (digits.size < s->size && s->p[digits.size] >= '0' && s->p[digits.size] <= '9')
		digits.size++;
	s->p += digits.size;
	s->size -= digits.size;
	return digits;
}

static bool take_one_of(struct rtbp_str *s, const char *chars)
{
	if (s->size == 0 || !*s->p || !strchr(chars, *s->p))
		return false;
	s->p++;
	s->size--;
	return true;
}

static bool read_exponent(struct rtbp_str *s, int64_t *ret)
{
	bool is_negative = s->size > 0 && *s->p == '-';
	struct rtbp_str digits;
	int64_t n = 0;

	(void)take_one_of(s, "+-");
	digits = take_digits(s);
	for (size_t i = 0; i < digits.size && n < EXPONENT_MAX; i++)
		n = n * 10 + (digits.p[i] - '0');
	*ret = is_negative ? -n : n;
	return digits.size > 0;
}

static bool read_number(struct rtbp_str s, struct number *ret)
{
	*ret = (struct number){ 0 };
	ret->is_negative = take_one_of(&s, "-");
	ret->whole = take_digits(&s);
	if (ret->whole.size == 0)
		return false;
	if (take_one_of(&s, ".")) {
		ret->fraction = take_digits(&s);
		if (ret->fraction.size == 0)
			return false;
	}
	if (take_one_of(&s, "eE") && !read_exponent(&s, &ret->exponent))
		return false;
	return s.size == 0;
}

static size_t n_digits(const struct number *n)
{
	return n->whole.size + n->fraction.size;
}

static unsigned digit(const struct number *n, size_t i)
{
	char c = i < n->whole.size ? n->whole.p[i] : n->fraction.p[i - n->whole.size];

	return (unsigned)(c - '0');
}

static bool number_int(const struct number *n, int64_t *ret)
{
	uint64_t v = 0, most = (uint64_t)INT64_MAX + (n->is_negative ? 1 : 0);
	int64_t point = (int64_t)n->whole.size + n->exponent;
	size_t size = n_digits(n);

	/* Zeros that only the exponent says end soon: by not fitting. */
	for (int64_t i = 0; i < (int64_t)size || (i < point && v > 0); i++) {
		unsigned d = i < (int64_t)size ? digit(n, (size_t)i) : 0;

		if (i >= point && d)
			return false;
		if (i >= point)
			continue;
		if (v > (most - d) / 10)
			return false;
		v = v * 10 + d;
	}
	*ret = (int64_t)(n->is_negative ? 0 - v : v);
	return true;
}

/* Digits and an exponent, without a point: that is read in every locale. */
static bool number_double(const struct number *n, double *ret)
{
	char text[DIGITS_MAX + 40];
	size_t size = n_digits(n), i = 0, at = 0;
	int64_t exponent = n->exponent - (int64_t)n->fraction.size;
	bool has_more = false;

	if (n->is_negative)
		text[at++] = '-';
	text[at++] = '0';
	while (i < size && digit(n, i) == 0)
		i++;
	for (size_t end = i + DIGITS_MAX; i < size && i < end; i++)
		text[at++] = (char)('0' + digit(n, i));
	for (exponent += (int64_t)(size - i); i < size && !has_more; i++)
		has_more = digit(n, i) != 0;
	if (has_more) {
		text[at++] = '1';
		exponent--;
	}
	(void)snprintf(text + at, sizeof(text) - at, "e%lld", (long long)exponent);
	*ret = strtod(text, NULL);
	return !isinf(*ret);
}

/* ---- columns ---- */

/* Return: 0, -ENOENT. */
static int find(const struct rtb_change *change, enum rtb_row row, const char *column,
		struct rtbp_val *ret)
{
	struct rtbp_val map = { change->record, change->record_size };

	if (row == RTB_OLD)
		map = (struct rtbp_val){ change->old_record, change->old_record_size };
	*ret = rtbp_find(map, column, strlen(column));
	return ret->p ? 0 : -ENOENT;
}

/* Return: 0, -ENOENT, -ENODATA. */
static int find_value(const struct rtb_change *change, enum rtb_row row, const char *column,
		      struct rtbp_val *ret)
{
	int r = find(change, row, column, ret);

	return r == 0 && rtbp_is(*ret, RTBP_NIL) ? -ENODATA : r;
}

static bool get_number(struct rtbp_val v, struct number *ret)
{
	struct rtbp_str s;
	int8_t type;

	return rtbp_get_ext(v, &type, &s) && type == RTBP_EXT_NUMBER && read_number(s, ret);
}

int rtb_change_bool(const struct rtb_change *change, enum rtb_row row, const char *column,
		    bool *ret)
{
	struct rtbp_val v;
	int r = find_value(change, row, column, &v);

	if (r < 0)
		return r;
	return rtbp_get_bool(v, ret) ? 0 : RTB_E_TYPE;
}

int rtb_change_int(const struct rtb_change *change, enum rtb_row row, const char *column,
		   int64_t *ret)
{
	struct number n;
	struct rtbp_val v;
	double d;
	int r = find_value(change, row, column, &v);

	if (r < 0)
		return r;
	if (rtbp_get_int(v, ret))
		return 0;
	if (get_number(v, &n))
		return number_int(&n, ret) ? 0 : RTB_E_TYPE;
	/* The bounds are powers of two, which a double holds. */
	if (!rtbp_get_float(v, &d) || !(d >= -0x1p63 && d < 0x1p63) || d != (double)(int64_t)d)
		return RTB_E_TYPE;
	*ret = (int64_t)d;
	return 0;
}

int rtb_change_double(const struct rtb_change *change, enum rtb_row row, const char *column,
		      double *ret)
{
	struct number n;
	struct rtbp_val v;
	uint64_t u;
	int64_t i;
	double d;
	int r = find_value(change, row, column, &v);

	if (r < 0)
		return r;
	if (rtbp_get_int(v, &i))
		d = (double)i;
	else if (rtbp_get_uint(v, &u))
		d = (double)u;
	else if (!rtbp_get_float(v, &d) && (!get_number(v, &n) || !number_double(&n, &d)))
		return RTB_E_TYPE;
	*ret = d;
	return 0;
}

int rtb_change_str(const struct rtb_change *change, enum rtb_row row, const char *column,
		   const char **ret, size_t *ret_size)
{
	struct rtbp_val v;
	struct rtbp_str s;
	int r = find_value(change, row, column, &v);

	if (r < 0)
		return r;
	if (!rtbp_get_str(v, &s))
		return RTB_E_TYPE;
	*ret = s.p;
	*ret_size = s.size;
	return 0;
}

int rtb_change_text(const struct rtb_change *change, enum rtb_row row, const char *column,
		    char **ret)
{
	struct rtbp_val v;
	struct rtbp_str s;
	char *text;
	int r = find_value(change, row, column, &v);

	if (r < 0)
		return r;
	if (!rtbp_get_str(v, &s)) {
		r = rtb_msgpack_to_json(v.p, v.size, ret, NULL, NULL, 0);
		return r == RTB_E_PAYLOAD ? RTB_E_TYPE : r;
	}
	text = malloc(s.size + 1);
	if (!text)
		return -ENOMEM;
	rtbc_copy(text, s.size + 1, s);
	*ret = text;
	return 0;
}

int rtb_change_value(const struct rtb_change *change, enum rtb_row row, const char *column,
		     const void **ret, size_t *ret_size)
{
	struct rtbp_val v;
	int r = find(change, row, column, &v);

	if (r < 0)
		return r;
	*ret = v.p;
	*ret_size = v.size;
	return 0;
}
