/* SPDX-License-Identifier: MIT */
#pragma once
/* token_command: the daemon's own token, printed by a command of the operator's (base/child.h). */
#include "app/token_source.h"

struct loop;

/* @command, @news: borrowed. NULL without memory. */
struct token_source *token_command_new(struct loop *loop, const char *command, uint32_t timeout_ms,
				       const struct token_news *news);
