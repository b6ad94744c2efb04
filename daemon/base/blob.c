/* SPDX-License-Identifier: MIT */
#include "base/blob.h"

#include <stdlib.h>
#include <string.h>

struct blob *blob_new(const void *data, size_t size)
{
	struct blob *b = malloc(sizeof(*b) + size);

	if (!b)
		return NULL;
	b->n_refs = 1;
	b->size = size;
	if (size)
		memcpy(b->data, data, size);
	return b;
}

struct blob *blob_ref(struct blob *b)
{
	b->n_refs++;
	return b;
}

struct blob *blob_unref(struct blob *b)
{
	if (b && --b->n_refs == 0)
		free(b);
	return NULL;
}
