/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How large the real server finds a message: it holds its limit against the size of the value in
 * Erlang's external term format, where a string has 5 bytes beside its text, an empty list in a
 * list 1, true 6. Knows no channels.
 */
#include "buf.h"

/** ds_term_size() - of a decoded JSON value; @json is what ds_json_valid() accepted */
size_t ds_term_size(struct ds_str json);
/** ds_term_bytes() - of a string of @n bytes */
size_t ds_term_bytes(size_t n);

/* What a frame of kind 3 has beside the bytes of its event and its payload: it is a tuple of them,
 * the word json or binary, and metadata. */
#define DS_TERM_PUSH_JSON   18
#define DS_TERM_PUSH_BINARY 20
