/* SPDX-License-Identifier: MIT */
/*
 * One change of one row: from the notification to struct rtb_change.
 *
 * Rows may be large, so all but the few strings that must end in a NUL stays where it is. These are
 * copied before anybody is told, so that the frame can be tried again without memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

enum { SCRATCH_WORDS = 64 }; /* on the stack: enough for all but absurd names */

struct strings {
	struct rtbp_str type, schema, table, commit_timestamp;
	struct rtbp_val errors;
};

static void take(struct rtbp_val v, enum rtbp_kind kind, const void **ret, size_t *ret_size)
{
	if (!rtbp_is(v, kind))
		return;
	*ret = v.p;
	*ret_size = v.size;
}

/* One walk: a look-up by name would go over the row for each. */
static void read_data(struct rtbp_val data, struct rtb_change *change, struct strings *strings)
{
	struct rtbp_val key, v;
	struct rtbp_iter it;
	struct rtbp_str k;

	change->data = data.p;
	change->data_size = data.size;
	if (!rtbp_iter_map(data, &it))
		return;
	while (rtbp_iter_next(&it, &key) && rtbp_iter_next(&it, &v)) {
		if (!rtbp_get_str(key, &k))
			continue;
		if (rtbp_str_is(k, rtbp_field_name(RTBP_F_TYPE)))
			(void)rtbp_get_str(v, &strings->type);
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_SCHEMA)))
			(void)rtbp_get_str(v, &strings->schema);
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_TABLE)))
			(void)rtbp_get_str(v, &strings->table);
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_COMMIT_TIMESTAMP)))
			(void)rtbp_get_str(v, &strings->commit_timestamp);
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_ERRORS)))
			strings->errors = v;
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_RECORD)))
			take(v, RTBP_MAP, &change->record, &change->record_size);
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_OLD_RECORD)))
			take(v, RTBP_MAP, &change->old_record, &change->old_record_size);
		else if (rtbp_str_is(k, rtbp_field_name(RTBP_F_COLUMNS)))
			take(v, RTBP_ARRAY, &change->columns, &change->columns_size);
	}
}

static bool next_error(struct rtbp_iter *it, struct rtbp_str *ret)
{
	struct rtbp_val v;

	while (rtbp_iter_next(it, &v))
		if (rtbp_get_str(v, ret))
			return true;
	return false;
}

/* Bytes that the copies need; *ret_n: how many errors. */
static size_t scratch_size(const struct strings *s, size_t *ret_n)
{
	size_t size = s->type.size + s->schema.size + s->table.size + s->commit_timestamp.size + 4;
	struct rtbp_iter it;
	struct rtbp_str e;

	*ret_n = 0;
	if (!rtbp_iter_array(s->errors, &it))
		return size;
	for (; next_error(&it, &e); ++*ret_n)
		size += e.size + 1;
	return size + (*ret_n + 1) * sizeof(char *);
}

static const char *copy(char **at, struct rtbp_str s)
{
	char *to = *at;

	rtbc_copy(to, s.size + 1, s);
	*at += s.size + 1;
	return to;
}

/* The pointers come first, where they are aligned. */
static void copy_all(const struct strings *s, size_t n_errors, const char **scratch,
		     struct rtb_change *change)
{
	char *at = (char *)(n_errors ? scratch + n_errors + 1 : scratch);
	struct rtbp_iter it;
	struct rtbp_str e;
	size_t n = 0;

	change->type = copy(&at, s->type);
	change->schema = copy(&at, s->schema);
	change->table = copy(&at, s->table);
	change->commit_timestamp = copy(&at, s->commit_timestamp);
	if (!n_errors || !rtbp_iter_array(s->errors, &it))
		return;
	while (next_error(&it, &e))
		scratch[n++] = copy(&at, e);
	scratch[n] = NULL;
	change->errors = scratch;
}

int rtbc_on_change(struct rtb_client *c, struct rtbp_val params)
{
	struct rtbp_val ids = rtbp_field(params, RTBP_F_IDS);
	struct rtbp_val data = rtbp_field(params, RTBP_F_DATA);
	const char *small[SCRATCH_WORDS], **scratch = small;
	struct rtb_change change = { 0 };
	struct strings strings = { 0 };
	size_t size, n_errors;

	if (!rtbp_is(ids, RTBP_ARRAY) || !rtbp_is(data, RTBP_MAP))
		return rtbc_protocol_error(c, "a database change that is none", 0);
	read_data(data, &change, &strings);
	size = scratch_size(&strings, &n_errors);
	if (size > sizeof(small)) {
		scratch = malloc(size);
		if (!scratch)
			return -ENOMEM;
	}
	copy_all(&strings, n_errors, scratch, &change);
	rtbc_watches_deliver(c, ids, &change);
	if (scratch != small)
		free(scratch);
	return 0;
}
