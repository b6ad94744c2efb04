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
 * @conf: borrowed for the app's life; a reload changes its access rules and its log level
 * @source: the same; where a reload reads it anew
 *
 * Return: 0; a negative errno with a sentence in ret->text.
 */
int app_new(struct conf *conf, const struct conf_source *source, struct app **ret,
	    struct conf_text *ret_text);
/* A SIGHUP reads and checks the whole configuration anew. What is wrong is logged, and the old one
 * stays in force; else the access rules and the log level become the new ones, and a warning names
 * what needs a restart.
 *
 * Runs until SIGTERM or SIGINT has been carried out. Return: 0; a negative errno when the loop
 * broke. */
int app_run(struct app *app);
struct app *app_free(struct app *app);
