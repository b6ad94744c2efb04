/* SPDX-License-Identifier: MIT */
/*
 * Numbers: the grammar, the rule which of integer, float64 and text carries a number without loss
 * (rtbp_json.h), and the shortest text of a float64.
 *
 * Nothing here depends on the process's locale: strtod_l() reads in a C locale, and of snprintf()'s
 * output only digits and exponent are used, not its point.
 */
#include "proto/rtbp_json_impl.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	DIGITS_SURE = DBL_DIG, /* so many digits always survive text -> float64 -> text */
	DIGITS_MAX = 17,       /* so many always suffice for float64 -> text -> float64 */
	EXP_SURE = 300,        /* below this (either sign) DIGITS_SURE holds: no subnormals */
	EXP_MAX = 400,         /* beyond: no float64 */
	EXACT_POW10 = 22,      /* 10^22 is the last power of ten that is a float64 */
	PLAIN_EXP_MIN = -4,    /* 0.0001 is printed plain, 0.00001 as 1e-5 */
	PLAIN_EXP_MAX = 15,    /* 9e15 is printed plain, 1e16 not */
};

/* A positive decimal number, d.ddd x 10^exp, without zeros at either end. */
struct decimal {
	char digits[DIGITS_MAX + 1];
	int n; /* digits in use, at least 1 */
	int exp;
};

/* What the grammar finds. Digit counts are below 2^32, so int64_t sums cannot overflow. */
struct number_text {
	const uint8_t *digits;      /* the first digit */
	int64_t n_int, n_frac, exp; /* digits before and after the point; exponent, 0 without one */
	uint64_t value;             /* all digits as one integer, modulo 2^64 */
	bool is_negative, has_exp;
	uint8_t last; /* the last digit before the exponent */
};

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* The float64 nearest to `dec`. NaN, equal to nothing, in a process too poor for a C locale. */
static double decimal_value(const struct decimal *dec)
{
	char text[DIGITS_MAX + 16];

	(void)pthread_once(&c_locale_once, make_c_locale);
	if (!c_locale)
		return (double)NAN;
	snprintf(text, sizeof(text), "%.*se%d", dec->n, dec->digits, dec->exp - (dec->n - 1));
	return strtod_l(text, NULL, c_locale);
}

static void decimal_trim(struct decimal *dec)
{
	while (dec->n > 1 && dec->digits[dec->n - 1] == '0')
		dec->n--;
}

/* The decimal of `n` digits (trimmed) that is nearest to `d` > 0. */
static void decimal_nearest(double d, int n, struct decimal *ret)
{
	char text[64];
	const char *p = text;

	snprintf(text, sizeof(text), "%.*e", n - 1, d);
	ret->n = 0;
	/* All that is not a digit before the 'e' is the locale's point. */
	for (; *p && *p != 'e'; p++)
		if (*p >= '0' && *p <= '9' && ret->n < n)
			ret->digits[ret->n++] = *p;
	ret->exp = *p ? atoi(p + 1) : 0;
	decimal_trim(ret);
}

/* The next decimal of `n` digits above `dec`. */
static void decimal_next(struct decimal *dec, int n)
{
	int i = n - 1;

	memset(dec->digits + dec->n, '0', (size_t)(n - dec->n));
	dec->n = n;
	while (i >= 0 && dec->digits[i] == '9')
		dec->digits[i--] = '0';
	if (i >= 0) {
		dec->digits[i]++;
	} else {
		dec->digits[0] = '1';
		dec->exp++;
	}
	decimal_trim(dec);
}

/*
 * The short road to the shortest decimal: no more than DIGITS_SURE digits, of which few stand after
 * the point. With so few digits no other decimal reads back as the same float64.
 */
static bool decimal_short(double d, struct decimal *ret)
{
	double pow10 = 1;
	uint64_t w;

	if (FLT_EVAL_METHOD != 0 || d < 1e-4 || d >= 1e15)
		return false;
	for (int k = 0; k <= DIGITS_SURE && d * pow10 < 1e15; k++, pow10 *= 10) {
		w = (uint64_t)(d * pow10 + 0.5);
		/* Two exact numbers, one correctly rounded division: what strtod() would say. */
		if ((double)w / pow10 != d || w >= UINT64_C(1000000000000000))
			continue;
		ret->n = (int)rtbp_num_print_uint(w, ret->digits);
		ret->exp = ret->n - 1 - k;
		decimal_trim(ret);
		return true;
	}
	return false;
}

/*
 * The shortest decimal that reads back as `d` > 0, of several the nearest. Below a power of two the
 * neighbours are half as far as above it, so there the nearest decimal may miss while the next one
 * above hits (2^-44 is 5.684341886080802e-14).
 */
static void decimal_shortest(double d, struct decimal *ret)
{
	int exp2;
	bool is_pow2 = frexp(d, &exp2) == 0.5;

	if (decimal_short(d, ret))
		return;
	for (int n = d < DBL_MIN ? 1 : DIGITS_SURE; n <= DIGITS_MAX; n++) {
		decimal_nearest(d, n, ret);
		if (n == DIGITS_MAX || decimal_value(ret) == d)
			return;
		if (is_pow2) {
			decimal_next(ret, n);
			if (decimal_value(ret) == d)
				return;
		}
	}
}

static inline bool is_digit(const uint8_t *p, const uint8_t *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

static const uint8_t *scan_digits(const uint8_t *p, const uint8_t *end, uint64_t *value)
{
	for (; is_digit(p, end); p++)
		*value = *value * 10 + (uint64_t)(*p - '0');
	return p;
}

/* Reads the exponent's digits; saturates far above what digit counts can make up for. */
static const uint8_t *scan_exp(const uint8_t *p, const uint8_t *end, int64_t *ret_exp)
{
	bool is_negative = false;
	int64_t exp = 0;

	if (p < end && (*p == '+' || *p == '-'))
		is_negative = *p++ == '-';
	for (; is_digit(p, end); p++)
		if (exp < INT64_C(1000000000000))
			exp = exp * 10 + (*p - '0');
	*ret_exp = is_negative ? -exp : exp;
	return p;
}

/* The grammar. Returns the number's end, or NULL with *ret_bad set. */
static const uint8_t *scan_number(const uint8_t *p, const uint8_t *end, struct number_text *t,
				  const uint8_t **ret_bad)
{
	const uint8_t *start;

	*t = (struct number_text){ 0 };
	if (p < end && *p == '-') {
		t->is_negative = true;
		p++;
	}
	t->digits = start = p;
	p = scan_digits(p, end, &t->value);
	t->n_int = p - start;
	*ret_bad = p;
	if (!t->n_int)
		return NULL;
	if (t->n_int > 1 && *start == '0') {
		*ret_bad = start + 1;
		return NULL;
	}
	if (p < end && *p == '.') {
		start = ++p;
		p = scan_digits(p, end, &t->value);
		t->n_frac = p - start;
		*ret_bad = p;
		if (!t->n_frac)
			return NULL;
	}
	t->last = p[-1];
	if (p < end && (*p == 'e' || *p == 'E')) {
		t->has_exp = true;
		p = scan_exp(p + 1, end, &t->exp);
		*ret_bad = p;
		if (p[-1] < '0' || p[-1] > '9')
			return NULL;
	}
	return p;
}

/* Takes an integer when it fits 64 bits. "-0" does not: only a float64 keeps its sign. */
static bool decide_integer(const struct number_text *t, struct rtbp_num *ret)
{
	const uint64_t ten19 = UINT64_C(10000000000000000000);

	if (t->n_frac || t->has_exp || t->n_int > 20)
		return false;
	/* 20 digits fit when the first is 1 and the sum did not wrap below 10^19. */
	if (t->n_int == 20 && (t->digits[0] != '1' || t->value < ten19))
		return false;
	if (!t->is_negative) {
		*ret = (struct rtbp_num){ .kind = RTBP_NUM_UINT, .u = t->value };
		return true;
	}
	if (!t->value || t->value > UINT64_C(1) << 63)
		return false;
	*ret = (struct rtbp_num){ .kind = RTBP_NUM_INT, .i = (int64_t)(0 - t->value) };
	return true;
}

/* The digits of `t` without zeros at the ends. False: more than any float64's text has. */
static bool decimal_from_text(const struct number_text *t, struct decimal *ret)
{
	int64_t n = t->n_int + t->n_frac, first = -1, n_sig = 0, exp;
	const uint8_t *p = t->digits;

	for (int64_t i = 0; i < n; i++, p++) {
		if (i == t->n_int)
			p++; /* the point */
		if (*p == '0')
			continue;
		if (first < 0)
			first = i;
		if (i - first >= DIGITS_MAX)
			return false;
		while (n_sig < i - first)
			ret->digits[n_sig++] = '0';
		ret->digits[n_sig++] = (char)*p;
	}
	exp = t->n_int - 1 - first + t->exp;
	if (!n_sig || exp < -EXP_MAX || exp > EXP_MAX)
		return false;
	ret->n = (int)n_sig;
	ret->exp = (int)exp;
	return true;
}

#ifdef __SIZEOF_INT128__

__extension__ typedef unsigned __int128 uint128;

/* m x 2^exp with 2^52 <= m < 2^53: a float64 taken apart. */
struct binary {
	uint64_t m;
	int exp;
};

enum { WIDE_POW10 = 19 }; /* 10^19 is the last power of ten that fits 64 bits */

/* The float64 nearest to w / pow10, for 10^14 < w < 2^57 and pow10 up to 10^19. */
static struct binary divide(uint64_t w, uint64_t pow10)
{
	enum { SHIFT = 70 }; /* so the quotient has 54 bits at least, and w << SHIFT 127 at most */
	uint128 n = (uint128)w << SHIFT, q = n / pow10, half, low;
	uint64_t high = (uint64_t)(q >> 64);
	int drop = (high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)q)) - 53;
	struct binary b = { (uint64_t)(q >> drop), drop - SHIFT };

	half = (uint128)1 << (drop - 1);
	low = q & (2 * half - 1);
	if (low > half || (low == half && (q * pow10 != n || (b.m & 1))))
		b.m++;
	if (b.m >> 53) {
		b.m >>= 1;
		b.exp++;
	}
	return b;
}

/*
 * decide_float() for 16 and 17 digits of ordinary size, in integers; same answers, ten times as
 * fast. Returns false when it does not apply.
 */
static bool decide_wide(const struct decimal *dec, double *ret_d, bool *ret_survives)
{
	int k = dec->n - 1 - dec->exp;
	uint64_t w = 0, pow10 = 1, below, above;
	uint128 unit, x, y;
	struct binary b, c;

	if (dec->n <= DIGITS_SURE || k < 0 || k > WIDE_POW10)
		return false;
	for (int i = 0; i < dec->n; i++)
		w = w * 10 + (uint64_t)(dec->digits[i] - '0');
	for (int i = 0; i < k; i++)
		pow10 *= 10;
	b = divide(w, pow10);
	/* At powers of two the neighbours are not equally far: see decimal_shortest(). */
	if (b.m == UINT64_C(1) << 52)
		return false;
	*ret_d = ldexp((double)b.m, b.exp);
	/* Nothing shorter may read back as b. What does is an interval around w ... */
	below = w - w % 10;
	above = below + 10;
	c = divide(below, pow10);
	*ret_survives = c.m != b.m || c.exp != b.exp;
	c = divide(above, pow10);
	*ret_survives = *ret_survives && (c.m != b.m || c.exp != b.exp);
	/* ... and of the texts as long as w it must be the nearest, an even one if two are. */
	unit = (uint128)1 << (b.exp < 0 ? -b.exp : 0);
	x = (uint128)b.m * pow10 << (b.exp > 0 ? b.exp : 0);
	y = w * unit;
	x = 2 * (x > y ? x - y : y - x);
	*ret_survives = *ret_survives && (x < unit || (x == unit && w % 2 == 0));
	return true;
}

#else

static bool decide_wide(const struct decimal *dec, double *ret_d, bool *ret_survives)
{
	(void)dec, (void)ret_d, (void)ret_survives;
	return false;
}

#endif

/* Does a float64 carry these digits? The careful road, for what try_exact() does not answer. */
static bool decide_float(const struct number_text *t, double *ret_d)
{
	struct decimal dec, back;
	bool survives;
	double d;

	if (!decimal_from_text(t, &dec))
		return false;
	if (decide_wide(&dec, ret_d, &survives))
		return survives;
	d = decimal_value(&dec);
	if (!isfinite(d) || d == 0)
		return false;
	*ret_d = d;
	if (dec.n <= DIGITS_SURE && dec.exp > -EXP_SURE && dec.exp < EXP_SURE)
		return true;
	decimal_shortest(d, &back);
	return back.n == dec.n && back.exp == dec.exp &&
	       !memcmp(back.digits, dec.digits, (size_t)dec.n);
}

/*
 * The short road: up to 15 digits times or by an exact power of ten is one correctly rounded
 * operation, and so few digits always survive.
 */
static bool try_exact(const struct number_text *t, double *ret_d)
{
	static const double pow10[EXACT_POW10 + 1] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,
						       1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
						       1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
						       1e18, 1e19, 1e20, 1e21, 1e22 };
	int64_t exp = t->exp - t->n_frac;

	if (t->n_int + t->n_frac > 19 || t->value >= UINT64_C(1000000000000000))
		return false;
	if (!t->value) {
		*ret_d = 0;
		return true;
	}
	/* With wider registers (x87) the operation would round twice. */
	if (FLT_EVAL_METHOD != 0 || exp < -EXACT_POW10 || exp > EXACT_POW10)
		return false;
	*ret_d = exp < 0 ? (double)t->value / pow10[-exp] : (double)t->value * pow10[exp];
	return true;
}

size_t rtbp_num_read(const uint8_t *p, const uint8_t *end, struct rtbp_num *ret,
		     const uint8_t **ret_bad)
{
	struct number_text t;
	const uint8_t *stop = scan_number(p, end, &t, ret_bad);
	double d = 0;

	if (!stop)
		return 0;
	if (!ret || decide_integer(&t, ret))
		return (size_t)(stop - p);
	/* 1.50 is more than 1.5: it says how exact it is. 1.0 says only that it is no integer. */
	if ((t.n_frac > 1 && t.last == '0') || !(try_exact(&t, &d) || decide_float(&t, &d)))
		*ret = (struct rtbp_num){ .kind = RTBP_NUM_TEXT };
	else
		*ret = (struct rtbp_num){ .kind = RTBP_NUM_FLOAT, .d = t.is_negative ? -d : d };
	return (size_t)(stop - p);
}

size_t rtbp_num_print_uint(uint64_t u, char *ret)
{
	char text[20];
	size_t n = 0;

	do
		text[sizeof(text) - ++n] = (char)('0' + u % 10);
	while (u /= 10);
	memcpy(ret, text + sizeof(text) - n, n);
	return n;
}

static char *put_digits(char *p, const char *digits, int n)
{
	memcpy(p, digits, (size_t)n);
	return p + n;
}

static char *put_zeros(char *p, int n)
{
	memset(p, '0', (size_t)n);
	return p + n;
}

/* 12300.0, 1.23, 0.00123: an exponent between PLAIN_EXP_MIN and PLAIN_EXP_MAX. */
static char *put_plain(char *p, const struct decimal *dec)
{
	int n_int = dec->exp + 1;

	if (n_int <= 0) {
		p = put_zeros(p, 1);
		*p++ = '.';
		p = put_zeros(p, -n_int);
		return put_digits(p, dec->digits, dec->n);
	}
	if (n_int >= dec->n) {
		p = put_digits(p, dec->digits, dec->n);
		p = put_zeros(p, n_int - dec->n);
		*p++ = '.';
		return put_zeros(p, 1);
	}
	p = put_digits(p, dec->digits, n_int);
	*p++ = '.';
	return put_digits(p, dec->digits + n_int, dec->n - n_int);
}

size_t rtbp_num_print(double d, char *ret)
{
	struct decimal dec = { .n = 0 };
	char *p = ret;

	if (signbit(d)) {
		*p++ = '-';
		d = -d;
	}
	if (d < 1e15 && d == (double)(uint64_t)d) {
		p += rtbp_num_print_uint((uint64_t)d, p);
		p = put_digits(p, ".0", 2);
		return (size_t)(p - ret);
	}
	decimal_shortest(d, &dec);
	if (dec.exp >= PLAIN_EXP_MIN && dec.exp <= PLAIN_EXP_MAX) {
		p = put_plain(p, &dec);
		return (size_t)(p - ret);
	}
	p = put_digits(p, dec.digits, 1);
	if (dec.n > 1) {
		*p++ = '.';
		p = put_digits(p, dec.digits + 1, dec.n - 1);
	}
	*p++ = 'e';
	if (dec.exp < 0)
		*p++ = '-';
	p += rtbp_num_print_uint((uint64_t)abs(dec.exp), p);
	return (size_t)(p - ret);
}
