/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_table.h"

#include <string.h>

static const char *const method_names[] = {
#define X(id, name) name,
	RTBP_METHODS(X)
#undef X
};

static const char *const notice_names[] = {
#define X(id, name) name,
	RTBP_NOTICES(X)
#undef X
};

static const char *const field_names[] = {
#define X(id, name) name,
	RTBP_FIELDS(X)
#undef X
};

static const struct {
	int code;
	const char *name;
	const char *sentence;
} errors[] = {
#define X(id, code, name, sentence) { code, name, sentence },
	RTBP_ERRORS(X)
#undef X
};

const char *rtbp_method_name(enum rtbp_method method)
{
	return method_names[method];
}

const char *rtbp_notice_name(enum rtbp_notice notice)
{
	return notice_names[notice];
}

const char *rtbp_field_name(enum rtbp_field field)
{
	return field_names[field];
}

const char *rtbp_error_name(int code)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (errors[i].code == code)
			return errors[i].name;
	}
	return "error";
}

const char *rtbp_error_sentence(int code)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (errors[i].code == code)
			return errors[i].sentence;
	}
	return "an error that this version does not know";
}

static int find(const char *const *names, size_t n, const char *name, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		if (strlen(names[i]) == size && memcmp(names[i], name, size) == 0)
			return (int)i;
	}
	return -1;
}

int rtbp_method_find(const char *name, size_t size)
{
	return find(method_names, RTBP_N_METHODS, name, size);
}

int rtbp_notice_find(const char *name, size_t size)
{
	return find(notice_names, RTBP_N_NOTICES, name, size);
}
