/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One order of POST /_devserver/fault, while it is carried out, and what the files with orders
 * share.
 */
#include <jansson.h>

#include "core_int.h"

struct ds_order {
	struct ds_core *c;
	json_t *json;
	struct ds_str raw; /* the same as it came, for numbers with many digits */
	const char *op;
	char *error;
	size_t error_size;
};

/* Return: false, with the reason kept. */
bool ds_order_fail(struct ds_order *o, const char *text, const char *what);
const char *ds_order_text(struct ds_order *o, const char *key, const char *otherwise);
int64_t ds_order_number(struct ds_order *o, const char *key, int64_t otherwise);
/* A copy of a text member, or NULL; the caller frees it. */
char *ds_order_copy(struct ds_order *o, const char *key);
/* A rule of this kind, to be used @count times unless the order says how often; never NULL. */
struct ds_rule *ds_order_add(struct ds_order *o, enum ds_rule_op op, int64_t count);
/* A rule of this kind, to be used @count times unless the order says how often. */
bool ds_order_rule(struct ds_order *o, enum ds_rule_op op, int64_t count);
/* Has the order only these members, of which the last is NULL? If not, the reason is kept. */
bool ds_order_known(struct ds_order *o, const char *const *known);
/* Is this one of the order's "sockets"? */
bool ds_order_chosen(struct ds_order *o, const struct ds_socket *s);

/* fault_tenant.c */
bool ds_op_disconnect(struct ds_order *o);
bool ds_op_policies(struct ds_order *o);

/* fault_postgres.c */
bool ds_op_postgres_channels(struct ds_order *o);
bool ds_op_postgres_delay(struct ds_order *o);
bool ds_op_postgres_error(struct ds_order *o);
bool ds_op_postgres_refuse(struct ds_order *o);
bool ds_op_postgres_row(struct ds_order *o);

/* fault_link.c */
bool ds_op_bad_upgrade(struct ds_order *o);
bool ds_op_close(struct ds_order *o);
bool ds_op_fragments(struct ds_order *o);
bool ds_op_half_frame(struct ds_order *o);
bool ds_op_heartbeats(struct ds_order *o);
bool ds_op_late_close(struct ds_order *o);
bool ds_op_push(struct ds_order *o);
bool ds_op_raw(struct ds_order *o);
bool ds_op_stall(struct ds_order *o);
/* Nobody stands still any more, and heartbeats are answered. */
void ds_link_clear(struct ds_core *c);

/* fault_token.c */
bool ds_op_session(struct ds_order *o);
bool ds_op_token_answer(struct ds_order *o);

/* web.c */
bool ds_op_http(struct ds_order *o);

/* stored.c */
bool ds_op_db_send(struct ds_order *o);
bool ds_op_refuse_replay(struct ds_order *o);
bool ds_op_replication(struct ds_order *o);
