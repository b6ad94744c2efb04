/* SPDX-License-Identifier: MIT */
#pragma once
/* A token bucket: how often something may be done. Pure; time comes with each call. */
#include <stdbool.h>
#include <stdint.h>

struct bucket {
	uint32_t per_s, burst;
	int64_t milli; /* tokens, in thousandths; may be in debt */
	uint64_t at_ms;
};

/* Full. */
void bucket_init(struct bucket *b, uint32_t per_s, uint32_t burst, uint64_t now);

/* Takes one token, leaving at least -`debt` tokens. Return: 0; else the time at which there will be
 * one: nothing was taken. */
uint64_t bucket_take(struct bucket *b, uint64_t now, uint32_t debt);
/* It was not used after all. */
void bucket_give_back(struct bucket *b);
