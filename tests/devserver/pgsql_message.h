/* SPDX-License-Identifier: MIT */
#pragma once
/* Rows of realtime.messages in the stream of changes: they are messages. Knows no connection. */
#include "core.h"

/** pgsql_is_message() - is this change, as wal2json writes it, one of that table? */
bool pgsql_is_message(struct ds_str change);
/** pgsql_message() - passes on what such a change sends: only a new row does */
void pgsql_message(struct ds_core *core, struct ds_str change);
