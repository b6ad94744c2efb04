/* SPDX-License-Identifier: MIT */
#pragma once
/* What the files of a connection share. */
#include "conn.h"

void ds_conn_wake(struct ds_conn *cn);
void ds_conn_finish(struct ds_conn *cn, enum ds_conn_state state);
/* A whole answer, after which the connection ends. */
void ds_conn_answer(struct ds_conn *cn, int status, const char *type, struct ds_str body);

enum { DS_BODY_UNKNOWN = -1, DS_BODY_TOO_LONG = -2 };
/* The length of the body, or one of these. */
long ds_conn_body_bytes(const struct ds_request *r, long most);
/* Is the whole body there? If not, the connection waits for more of it. */
bool ds_conn_whole(struct ds_conn *cn, const struct ds_request *r, size_t body_bytes);

/* conn_local.c: /_devserver */
void ds_conn_local(struct ds_conn *cn, const struct ds_request *r);
/* conn_rest.c: the HTTP API. Called again with more of the body; takes what it has read off cn->in
 * if a further request may follow. */
void ds_conn_rest(struct ds_conn *cn, const struct ds_request *r);
/* Does a test want something else to become of this request, which is none to the HTTP API? */
bool ds_conn_web_instead(struct ds_conn *cn, const struct ds_request *r);

/* conn_fault.c */
/* The answer as gateways pass it on: chunks, each after a while. */
void ds_conn_chunked(struct ds_conn *cn, const struct ds_answer *a);
/* The head and the body of @a, and then more of a body, for ever. */
void ds_conn_endless(struct ds_conn *cn, const struct ds_answer *a);
/* One piece more of what never ends. */
void ds_conn_more(struct ds_conn *cn);
void ds_conn_misbehave(void *conn, const struct ds_misdeed *m);
/* The answer to an upgrade, good or bad as @bad says. */
void ds_conn_101(struct ds_conn *cn, struct ds_str key, const char *bad);
