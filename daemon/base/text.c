/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <string.h>

#include "proto/rtbp_val.h"

void text_clean(char *text)
{
	bool valid = rtbp_utf8_valid(text, strlen(text));

	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p == '\t' || *p == '\n' || *p == '\r') {
			*p = ' ';
		} else if (*p < 0x20 || *p == 0x7f || (!valid && *p >= 0x80)) {
			*p = '?';
		} else if (valid && *p == 0xc2 && p[1] < 0xa0) {
			p[0] = p[1] = '?';
		}
	}
}
