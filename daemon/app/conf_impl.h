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

struct url_parts;

/* @path_size: as much of its path counts. Return: 0; -ENOMEM. */
int conf_place_set(struct conf_place *p, const struct url_parts *u, int path_size);
/* Where the daemon's own token comes from. @realtime: Realtime's address. Return: as conf_finish(). */
int conf_derive_token(struct conf *conf, const struct url_parts *realtime, struct conf_text *ret);
/* The lines about it for --check: also what is wrong with what stands in its files now. */
void conf_print_token(const struct conf *conf, int64_t now_s);
