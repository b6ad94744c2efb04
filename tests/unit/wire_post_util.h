/* SPDX-License-Identifier: MIT */
#pragma once
/* For the tests of HTTP requests: tests/wire/http_server.py with certificates made for the
 * occasion. */
#include <ftw.h>
#include <limits.h>

#include "wire_util.h"

static struct server server;
static char folder[] = "/tmp/rtb-wire-http-XXXXXX";
static char ca_file[PATH_MAX];

/* With "plain" and "good" there is always one that works; the others are in make_certs.sh. */
static inline void http_server_start(void)
{
	const char *const make[] = { "sh", RTB_WIRE_TESTS "/make_certs.sh", folder, NULL };
	const char *const argv[] = { RTB_PYTHON,    RTB_WIRE_TESTS "/http_server.py",
				     folder,        "good",
				     "unknown",     "wrong-name",
				     "expired",     "future",
				     "self-signed", NULL };
	int status;
	pid_t pid;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
	ck_assert_int_eq(posix_spawnp(&pid, "sh", NULL, NULL, (char **)(uintptr_t)make, environ),
			 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	server_start(&server, argv);
}

static inline int http_remove_one(const char *path, const struct stat *st, int flag,
				  struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void http_server_stop(void)
{
	server_stop(&server);
	nftw(folder, http_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void post_rig(struct rig *rig)
{
	rig_init(rig);
	rig->conf.ca_file = ca_file;
	rig_start(rig);
}

static inline struct wire_post post_to(bool tls, const char *path)
{
	return (struct wire_post){
		.target = { .tls = tls,
			    .host = "127.0.0.1",
			    .port = server_port(&server, tls ? "good" : "plain"),
			    .path = path },
		.content_type = "application/json",
		.body = "{\"messages\":[]}",
		.size = 15,
		.timeout_ms = WIRE_DEADLINE_MS,
	};
}

static inline void post(struct rig *rig, unsigned id, bool tls, const char *path)
{
	struct wire_post p = post_to(tls, path);

	ck_assert_int_eq(rig_try_post(rig, id, &p), 0);
}
