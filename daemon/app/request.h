/* SPDX-License-Identifier: MIT */
#pragma once
/* request: what the hub and the daemon's own session want to have sent by HTTP, as wire takes it: the
 * project's addresses and keys are put to it here. */
#include <stddef.h>
#include <stdint.h>

struct conf;
struct gotrue_answer;
struct hub_answer;
struct hub_post;
struct wire;
struct wire_answer;

/* Return: as wire_post(). */
int request_post(struct wire *wire, const struct conf *conf, uint64_t id,
		 const struct hub_post *post);
/* Borrows from @a. */
void request_answer(const struct wire_answer *a, struct hub_answer *ret);

/* To Auth. Return: as wire_post(). */
int request_refresh(struct wire *wire, const struct conf *conf, uint64_t id, const void *body,
		    size_t size);
/* Borrows from @a. */
void request_refresh_answer(const struct wire_answer *a, struct gotrue_answer *ret);
