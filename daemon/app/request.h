/* SPDX-License-Identifier: MIT */
#pragma once
/* request: what the hub wants to have sent by HTTP, as wire takes it: the project's address and
 * keys are put to it here. */
#include <stdint.h>

struct conf;
struct hub_answer;
struct hub_post;
struct wire;
struct wire_answer;

/* Return: as wire_post(). */
int request_post(struct wire *wire, const struct conf *conf, uint64_t id,
		 const struct hub_post *post);
/* Borrows from @a. */
void request_answer(const struct wire_answer *a, struct hub_answer *ret);
