/* SPDX-License-Identifier: MIT */
#pragma once
/* Numbers that look like chance: for jitter, and for telling contents apart. No secrecy. */
#include <stddef.h>
#include <stdint.h>

/* One to one; each bit of the result depends on all of `x` (the last step of splitmix64). */
uint64_t mix64(uint64_t x);
/* splitmix64: the next number; any state will do to begin with, zero too. */
uint64_t mix_next(uint64_t *state);
/* A hash of bytes; `seed` is part of it. */
uint64_t mix_bytes(uint64_t seed, const void *data, size_t size);
