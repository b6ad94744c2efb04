/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where a name is: the lookup, the addresses of the last good one when the name service fails, their
 * order, and the refusal of unencrypted ways to other machines. With a proxy it is the proxy's name
 * that is looked up. M only.
 *
 * Each slot (of the resolver) finds one name at a time.
 */
#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"
#include "wire/wire_attempt.h"

struct wire_find;
struct wire_reach;

/* why and text say why it ends here: WIRE_DNS, WIRE_INSECURE; ok: the attempt has its addresses. */
struct wire_found {
	bool ok;
	enum wire_why why;
	char text[256];
};

/* May call wire_find_start() and wire_find_stop(). */
typedef void (*wire_find_fn)(void *ctx, unsigned slot, const struct wire_found *found);

/* `reach` is borrowed for life. Return: 0; a negative errno. */
int wire_find_new(bool allow_insecure, struct wire_reach *reach, wire_find_fn fn, void *ctx,
		  struct wire_find **ret);
struct wire_find *wire_find_free(struct wire_find *f);

/* Readable when wire_find_dispatch() has work. */
int wire_find_fd(const struct wire_find *f);
void wire_find_dispatch(struct wire_find *f);

/* Finds the addresses of `a`, which is borrowed until fn is called (once: from here for an address
 * or when no lookup can start, else from wire_find_dispatch()) or until wire_find_stop(). */
void wire_find_start(struct wire_find *f, unsigned slot, struct wire_attempt *a, uint32_t dns_ms);
void wire_find_stop(struct wire_find *f, unsigned slot);
