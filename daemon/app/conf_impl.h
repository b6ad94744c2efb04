/* SPDX-License-Identifier: MIT */
#pragma once
/* What the files of conf share. */
#include "app/conf.h"

/* Writes the complaint. Returns @error. */
int conf_complain(struct conf_text *ret, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Walks over all keys from i = 0 on. Return: the key's section, NULL behind the last one; @ret_name:
 * the key, when `to` asks for something else there that a running daemon cannot change, else NULL. */
const char *conf_key_differs(unsigned i, const struct conf *from, const struct conf *to,
			     const char **ret_name);
