/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A key or token. Lives in pages of its own that are locked in memory and left out of core dumps,
 * is wiped when freed, and has no formatter: whoever wants the bytes takes them by secret_bytes()
 * at the one place that sends them, into a buffer that is wiped in turn.
 */
#include <stdbool.h>
#include <stddef.h>

#include "proto/rtbp_buf.h"

struct secret;

/* Copies `size` bytes. Return: the secret, NUL-terminated inside; NULL without memory. */
struct secret *secret_new(const void *bytes, size_t size);
struct secret *secret_free(struct secret *s);

const char *secret_bytes(const struct secret *s);
size_t secret_size(const struct secret *s);
bool secret_equal(const struct secret *a, const struct secret *b); /* NULL is equal to NULL */

/* One that is read into piece by piece: room for `room` bytes, none of them there yet. */
struct secret *secret_new_empty(size_t room);
/* Where the next bytes go, and for how many there is room. */
char *secret_space(struct secret *s, size_t *ret_room);
void secret_grow(struct secret *s, size_t n); /* `n` of them are there now */

/* Takes away the white space around it. Return: whether what is left is one word: not empty, no white
 * space or NUL inside. */
bool secret_trim(struct secret *s);

/**
 * secret_read_file() - read a key or token from a file, without the white space around it
 * @max_bytes: larger files are refused
 *
 * Refuses what is no regular file, what is empty, what holds white space inside, and what group or
 * others may read (a group-readable file is accepted when it belongs to root, as systemd
 * credentials and container secrets do). The file's bytes touch no unlocked memory.
 *
 * Return: 0; a negative errno with a sentence in `ret_text` (path, what is wrong, what to do).
 */
int secret_read_file(const char *path, size_t max_bytes, struct secret **ret, char *ret_text,
		     size_t text_size);

/* Frees a buffer that secrets were copied into, wiped first. */
void secret_wipe_buf(struct rtbp_buf *b);
