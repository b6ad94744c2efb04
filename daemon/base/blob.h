/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Immutable bytes shared by many out-queues of thread M: one packed message for N peers. Plain
 * counts: a blob never leaves its thread.
 */
#include <stddef.h>
#include <stdint.h>

struct blob {
	uint32_t n_refs;
	size_t size;
	uint8_t data[];
};

/* Copies the bytes; the caller holds the one reference. NULL without memory. */
struct blob *blob_new(const void *data, size_t size);
struct blob *blob_ref(struct blob *b);
/* NULL is fine. Returns NULL. */
struct blob *blob_unref(struct blob *b);
