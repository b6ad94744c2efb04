/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * conf: what the operator wants, read from INI files and checked as a whole before anything starts.
 *
 * FILE, then those of FILE.d that end in .conf, in the order of their names; a later value replaces
 * an earlier one, keys that may repeat (params, header, rule, identity) add up, in this order.
 * Every complaint names file, line and key, and says what would be right.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/secret.h"
#include "realtime/phx.h"

enum {
	CONF_KEY_BYTES_MAX = 8 * 1024, /* of an API key: the server's header limit is 4 KiB */
	CONF_PROXY_AUTH_MAX = 1024,
	CONF_LIST_MAX = 32, /* params, header lines */
};

struct acl;

/* Where HTTP requests go. */
struct conf_place {
	bool tls;
	char *host; /* NULL: nowhere */
	uint16_t port;
	char *path; /* without a slash at the end: may be empty */
	char *url;  /* for people */
};

struct conf {
	/* [upstream] */
	char *url; /* as written */
	char *apikey_file;
	enum phx_vsn vsn;
	char *params[CONF_LIST_MAX + 1];  /* "name=value", as written; NULL-terminated */
	char *headers[CONF_LIST_MAX + 1]; /* "x-name: value"; NULL-terminated */
	char *ca_file;                    /* NULL: the system's */
	bool allow_insecure;
	char *proxy;           /* http://HOST:PORT, as written; NULL: none */
	char *proxy_auth_file; /* holds USER:PASSWORD; NULL: none */
	uint64_t backoff_min_ms, backoff_max_ms, stable_ms, heartbeat_ms, heartbeat_reply_ms;
	uint64_t dns_ms, connect_ms, attempt_ms, tcp_timeout_ms, join_timeout_ms, joins_per_s;
	enum conf_probation {
		CONF_PROBATION_AFTER_FAILURE,
		CONF_PROBATION_ALWAYS,
		CONF_PROBATION_OFF
	} probation;
	enum conf_connect { CONF_CONNECT_ON_DEMAND, CONF_CONNECT_ALWAYS } connect;
	/* The daemon's own token; at most one of the first three. */
	char *token_file, *token_command, *refresh_token_file;
	char *auth_url;  /* of GoTrue, as written; NULL: beside Realtime's */
	char *state_dir; /* NULL: none is known */
	uint64_t token_lead_ms, token_timeout_ms;
	/* [socket] */
	char *socket_path;
	mode_t socket_mode;
	char *socket_group; /* NULL: none */
	/* [limits] */
	uint64_t max_clients, max_subscriptions, max_channels, max_links, client_queue_bytes,
		frame_bytes, send_bytes, presence_bytes;
	uint64_t max_bindings;
	enum conf_private { CONF_PRIVATE_AUTO, CONF_PRIVATE_YES, CONF_PRIVATE_NO } private_only;
	/* [presence] */
	enum conf_trackers {
		CONF_TRACKERS_LINKS,
		CONF_TRACKERS_MERGE,
		CONF_TRACKERS_REFUSE
	} trackers;
	/* [plan]: what the project may, at the server */
	enum conf_plan { CONF_PLAN_CUSTOM, CONF_PLAN_FREE, CONF_PLAN_PRO, CONF_PLAN_TEAM } plan;
	uint64_t payload_kb; /* of a message; 0: not said */
	/* [access] */
	struct acl *acl; /* without the socket's group, which is not known before there is one */
	unsigned n_rules, n_identities;
	/* [log] */
	enum log_level log_level;

	/* Derived by conf_finish(). */
	bool tls;
	char *host;
	uint16_t port;
	char *path;            /* ".../websocket", without query */
	char *public_url;      /* for people: scheme, host, port, path */
	struct conf_place api; /* ".../api": what is below is asked by HTTP */
	size_t payload_bytes;  /* of the plan; 0: not known */
	enum conf_token {
		CONF_TOKEN_NONE,
		CONF_TOKEN_FILE,
		CONF_TOKEN_COMMAND,
		CONF_TOKEN_REFRESH
	} token;
	struct conf_place auth;     /* GoTrue; of CONF_TOKEN_REFRESH */
	struct conf_place proxy_at; /* path is empty */
	struct secret *proxy_auth;  /* USER:PASSWORD; NULL: none */
	struct secret *apikey;
	struct secret *request; /* path and query with the key: what is asked of the server */
	/* What the key says of itself. */
	enum conf_key {
		CONF_KEY_PLAIN,        /* publishable, or a token of a role that policies bind */
		CONF_KEY_SERVICE_ROLE, /* a token that none binds */
		CONF_KEY_SECRET,       /* sb_secret_...: the same */
		CONF_KEY_ODD,          /* neither sb_... nor a token */
	} key_kind;
	const char *key_odd; /* static: why it is no token, as the end of a sentence about it */
	int64_t key_exp_s;   /* seconds since the Unix epoch; 0: not known */
};

struct conf_text {
	char text[512]; /* the first complaint */
};

/* All keys at their defaults. Return: 0, -ENOMEM. */
int conf_init(struct conf *conf);
void conf_done(struct conf *conf);

/**
 * conf_read() - read a file and its drop-ins over what is there
 *
 * Return: 0; -errno when the file cannot be read; -EINVAL for contents; with ret->text filled.
 */
int conf_read(struct conf *conf, const char *path, struct conf_text *ret);

/**
 * conf_set() - set one key, as if it stood in a file
 * @where: what to call the place in complaints ("FILE:LINE", "--socket")
 */
int conf_set(struct conf *conf, const char *where, const char *section, const char *key,
	     const char *value, struct conf_text *ret);

/* Checks what belongs together, reads the key file, derives the addresses. Return: as conf_read().
 */
int conf_finish(struct conf *conf, struct conf_text *ret);

enum { CONF_SAME = 1 };

/**
 * conf_rekey() - read the key's file anew
 * @ret_old: the old key, which the caller frees when nobody has it any more; NULL: freed here
 *
 * Return: 0: another key, in apikey, request and what is said of it; CONF_SAME: nothing has changed;
 * or as conf_read(), and nothing has changed.
 */
int conf_rekey(struct conf *conf, struct secret **ret_old, struct conf_text *ret);

/* Where a configuration comes from: a reload reads the same again. */
struct conf_source {
	const char *path;
	const char *socket_path; /* NULL or, from the command line: in the place of [socket] path */
	const char *log_level;   /* the same for [log] level */
};

/**
 * conf_load() - conf_init(), conf_read() and conf_finish() in one
 * @ret: conf_done() frees it, also after an error
 *
 * Return: as conf_read(); with a sentence in ret_text->text also for -ENOMEM.
 */
int conf_load(const struct conf_source *source, struct conf *ret, struct conf_text *ret_text);

/**
 * conf_differs() - does `to` ask for anything that a running daemon cannot change?
 * @ret: then the keys, as "[limits] links, [upstream] url"
 *
 * Both must be finished. Access rules and the log's level can be changed and do not count.
 */
bool conf_differs(const struct conf *from, const struct conf *to, struct conf_text *ret);

/**
 * conf_warning() - what is taken and is still not as it should be; for --check and the start alike
 * @i: from 0 on
 * @now_s: wall clock
 *
 * Return: false when there is no i-th one; else a sentence for people in @ret.
 */
bool conf_warning(const struct conf *conf, unsigned i, int64_t now_s, struct conf_text *ret);

/* Prints what was derived, without secrets, to standard output (--check). */
void conf_print(const struct conf *conf, int64_t now_s);
