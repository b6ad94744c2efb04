/* SPDX-License-Identifier: MIT */
#pragma once
/* The words of stories about database changes: bindings, rows, answers and notices as text. `id` is
 * the daemon's; the first subscription of a story is chan 1, without a topic. */

#define T(table)       "{'schema':'public','table':'" table "'}"
#define ON(table)      "{'event':'*','schema':'public','table':'" table "'}"
#define ASK(bindings)  "{'postgres_changes':[" bindings "]}"
#define ROW(type, n)   "{'type':'" type "','record':{'n':" n "}}"
#define TOLD(ids, row) "[2,'postgres_changes',{'ids':[" ids "],'data':" row "}]"
#define HEAD           "'chan':1,'topic':'','private':false,"
#define READY(id)      "{'id':" id ",'state':'ready'}"
#define PENDING(id)    "{'id':" id ",'state':'pending'}"
#define CHANNEL(state, bindings) \
	"[2,'channel',{" HEAD "'state':'" state "','postgres_changes':[" bindings "]}]"
#define ANSWER(id, state, bindings) \
	"[1," id ",null,{" HEAD "'state':'" state "','postgres_changes':[" bindings "]}]"
#define SUBSCRIBED   "Subscribed to PostgreSQL"
#define TROUBLE      "{:error, \\'Too many database timeouts\\'}"
#define TROUBLE_CODE "database_query"
