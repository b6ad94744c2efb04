/* SPDX-License-Identifier: MIT */
#pragma once
/* The log lines of libwebsockets, and texts of the peer: made fit for our log, without keys. */
#include <stdbool.h>
#include <stddef.h>

/* One line of libwebsockets. Lines about one connection repeat with every attempt and say less than
 * wire_end.text, so they are `info` unless `starting`. */
void wire_log_lws(bool error, bool starting, const char *line);

/* Copies at most size-1 bytes of `from`, control characters as blanks, and the values of
 * apikey=, token= and the like replaced by "...", those of headers up to the line's end, in JSON, too.
 * Always terminated. */
void wire_log_clean(char *to, size_t size, const char *from, size_t from_size);
