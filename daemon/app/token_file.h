/* SPDX-License-Identifier: MIT */
#pragma once
/* token_file: the daemon's own token, read from a file that somebody else keeps fresh. */
#include "app/token_source.h"

struct loop;
struct watch;

/* @path, @news: borrowed. @watch: borrowed; NULL: the file is not watched. NULL without memory. */
struct token_source *token_file_new(struct loop *loop, struct watch *watch, const char *path,
				    const struct token_news *news);
