/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * app: builds all rooms and wires them together; the only place that sees every one of them.
 *
 *   wire --ops--> hub <--ops-- conn          news goes up through these
 *   wire <------- hub -------> conn          calls go down through the hub's and the peers' ops
 */
#include "app/conf.h"

struct app;

/**
 * app_new() - everything up to listening; the connection is begun, not waited for
 * @conf: borrowed for the app's life
 *
 * Return: 0; a negative errno with a sentence in ret->text.
 */
int app_new(const struct conf *conf, struct app **ret, struct conf_text *ret_text);
/* Runs until SIGTERM or SIGINT has been carried out. Return: 0; a negative errno when the loop
 * broke. */
int app_run(struct app *app);
struct app *app_free(struct app *app);
