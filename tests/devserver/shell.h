/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The sockets of the devserver: libwebsockets' raw role carries the bytes (TCP or TLS), conn.h
 * makes sense of them. The only file that includes libwebsockets.
 */
#include "core.h"
#include "pgsql.h"

struct ds_listen {
	const char *host; /* numeric IPv4 address */
	int port;         /* 0: any */
	const char *tls_cert;
	const char *tls_key;
	bool tls_old; /* TLS 1.1 at most */
};

/**
 * ds_shell_run() - listens, prints the URL on stdout and serves until SIGTERM or SIGINT
 *
 * Return: the exit status of the process; what is wrong has been said on stderr.
 */
int ds_shell_run(const struct ds_listen *at, const struct ds_pgsql_conf *pg,
		 const struct ds_conf *conf);
