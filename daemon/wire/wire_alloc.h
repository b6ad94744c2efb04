/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Memory for what may hold a key or a token: wiped before it goes back to the heap, and, where it
 * lives longer than a turn, kept out of core dumps and (if the limits allow) out of the swap.
 *
 * It may not know what is stored in it. Any thread.
 */
#include <stddef.h>

/* malloc() and free() with a wipe of the whole block before the free. NULL is fine. */
void *wire_alloc(size_t size);
void wire_wipe_free(void *p);

/* The allocator given to libwebsockets (its lws_set_allocator() form: size 0 frees). Blocks from
 * WIRE_ALLOC_PRIVATE bytes on get pages of their own that no core dump contains: the request with
 * the key in its path is in the stash, the header table and the service buffer. Accepts blocks
 * that came from malloc(), because the process may have used libwebsockets before. */
enum { WIRE_ALLOC_PRIVATE = 128 };
void *wire_alloc_realloc(void *p, size_t size, const char *reason);
