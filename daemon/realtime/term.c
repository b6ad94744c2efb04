/* SPDX-License-Identifier: MIT */
#include "realtime/term.h"

enum {
	TERM_ATOM = 12,   /* nil, true, false: two bytes and the name, in the older form three */
	TERM_NUMBER = 32, /* a float in the older form; integers are smaller */
};

/* Depth is that of a checked frame, so the recursion ends. */
size_t term_size(struct rtbp_val v)
{
	struct rtbp_str s = { NULL, 0 };
	struct rtbp_iter it;
	struct rtbp_val e;
	size_t size = TERM_HEADER + 1; /* a list ends with an empty one */
	int8_t type;

	if (rtbp_iter_map(v, &it) || rtbp_iter_array(v, &it)) {
		while (rtbp_iter_next(&it, &e))
			size += term_size(e);
		return size;
	}
	if (rtbp_get_str(v, &s) || rtbp_get_bin(v, &s))
		return TERM_HEADER + s.size;
	if (rtbp_get_ext(v, &type, &s))
		return TERM_NUMBER + s.size; /* a number of many digits */
	return rtbp_is(v, RTBP_INT) ? 12 : rtbp_is(v, RTBP_FLOAT) ? TERM_NUMBER : TERM_ATOM;
}
