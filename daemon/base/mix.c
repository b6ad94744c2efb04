/* SPDX-License-Identifier: MIT */
#include "base/mix.h"

#include <string.h>

uint64_t mix64(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint64_t mix_next(uint64_t *state)
{
	return mix64(*state += 0x9e3779b97f4a7c15);
}

uint64_t mix_bytes(uint64_t seed, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t h = seed ^ size, part;

	for (; size >= 8; p += 8, size -= 8) {
		memcpy(&part, p, 8);
		h = mix64(h ^ part);
	}
	part = 0;
	if (size)
		memcpy(&part, p, size);
	return mix64(h ^ part);
}
