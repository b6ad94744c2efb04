/* SPDX-License-Identifier: MIT */
#pragma once
/* What the files of conf share. */
#include "app/conf.h"

/* Writes the complaint. Returns @error. */
int conf_complain(struct conf_text *ret, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
