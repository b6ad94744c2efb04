/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What each client must get of database changes, kept from its requests, answers and notices alone:
 * every row of a binding that it was told is ready, once and in order, unless a gap says that it
 * may have been missed. Failures end the test.
 */
#include "hub_fixture.h"

enum {
	MODEL_TOPICS = 3, /* "", "x", "y"; the first is no channel */
	MODEL_BINDINGS = 40,
	MODEL_GOOD = 30, /* of 10 tables, each with 3 events; the server does not take the others */
	MODEL_TABLES = 10,
	MODEL_WISH_MAX = 8,
	MODEL_ROWS = 600,
	/* A row is delivered, or lost with its link, before so much time has passed. */
	MODEL_ROW_LATE_MS = 200,
};

void model_start(void);
/* Something happens that a gap may be told of. */
void model_interrupted(void);
/* A row changes now. Return: its number; 0: there were enough. */
unsigned model_row(unsigned table, unsigned event);
/* All rows so far have been delivered, or are lost. */
void model_flushed(void);
/* The ids of the peer's next requests, which are to be sent at once. */
uint32_t model_next_id(const struct fake_peer *p);
uint32_t model_subscribe(const struct fake_peer *p, unsigned topic, const unsigned *list,
			 unsigned n);
uint32_t model_unsubscribe(const struct fake_peer *p, unsigned topic);
void model_on_message(struct fake_peer *p, const struct rtbp_msg *msg);
/* Everything has worked for a while: the peer knows how things stand, and has all rows. */
void model_check_end(unsigned peer);
