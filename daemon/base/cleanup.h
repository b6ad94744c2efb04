/* SPDX-License-Identifier: MIT */
#pragma once
/* Locals that own: `CLEANUP(freep) char *text = NULL;` frees on every way out; TAKE(p) hands
 * ownership on. */
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define TAKE(p)                            \
	({                                 \
		__typeof__(p) take_ = (p); \
		(p) = NULL;                \
		take_;                     \
	})
#define MUST_CHECK __attribute__((warn_unused_result))

/* Makes `name##p`, a cleanup function for variables of pointer type that calls `free_fn` unless
 * NULL. */
#define DEFINE_CLEANUP(type, free_fn)           \
	static inline void free_fn##p(type **p) \
	{                                       \
		if (*p)                         \
			(void)free_fn(*p);      \
	}                                       \
	struct cleanup_needs_semicolon

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
