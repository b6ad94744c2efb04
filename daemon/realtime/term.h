/* SPDX-License-Identifier: MIT */
#pragma once
/* term: how large the server finds a value. It holds its size limits against the external term
 * format of Erlang, in which small things are larger than in JSON (an empty list in a list is 1
 * byte more than nothing there, `null` 5 to 6, each pair of a map 5 for the key's length). */
#include <stddef.h>

#include "proto/rtbp_val.h"

enum { TERM_HEADER = 6 }; /* of a string, a list or a map; the version byte in front of it all */

/* Bytes of a checked value, rather too many than too few. */
size_t term_size(struct rtbp_val v);
