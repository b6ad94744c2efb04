/* SPDX-License-Identifier: MIT */
#include "realtime/reasons.h"

#include <string.h>

/* Rates are averages over 60 s: coming back earlier only meets the same average. */
enum { SECOND = 1000, MINUTE = 60 * SECOND };

static const char advice_token[] =
	"get a new token from where this one was issued: the server does not accept it";
static const char advice_signature[] =
	"check which project the token belongs to: it was not signed for this one";
static const char advice_read[] =
	"use a token that may read this topic, or give this one the right: the policies on "
	"realtime.messages decide";
static const char advice_wait[] = "nothing; the daemon tries again";
static const char advice_database[] =
	"nothing at first; if it stays, look at the project's database and its connection limits";
static const char advice_rate[] = "send less, or raise the project's limit of messages per second";
static const char advice_joins[] =
	"join fewer topics at once; the limit counts all clients of the project";
static const char advice_presence[] =
	"track less often; the limit counts all clients of the project";
static const char advice_calls[] = "track less often: five calls in 30 s on one topic";
static const char advice_binding[] =
	"see that the table exists and is in the publication supabase_realtime, and that the "
	"filter fits its columns";
static const char advice_filter[] =
	"write the filter as column=operator.value, several joined by commas";

enum where { PREFIX, ANYWHERE, WHOLE };

/* First match wins, so the special rows stand before the general ones. */
static const struct {
	enum where where;
	const char *text;
	struct reason reason;
} rows[] = {
	{ PREFIX, "Unauthorized", { REASON_PERMANENT, "unauthorized", REASON_NEVER, advice_read } },
	{ PREFIX,
	  "You do not have permission",
	  { REASON_PERMANENT, "unauthorized", REASON_NEVER, advice_read } },
	{ PREFIX,
	  "You no longer have permission",
	  { REASON_PERMANENT, "unauthorized", REASON_NEVER, advice_read } },
	/* A policy that fails counts as one that refuses, in newer servers by its text, too. */
	{ PREFIX,
	  "RlsPolicyError",
	  { REASON_PERMANENT, "unauthorized", REASON_NEVER, advice_read } },
	{ PREFIX,
	  "PrivateOnly",
	  { REASON_PRIVATE_ONLY, "private_only", REASON_NEVER,
	    "subscribe with private: the project allows private channels only" } },
	{ PREFIX,
	  "TopicNameRequired",
	  { REASON_PERMANENT, "topic_required", REASON_NEVER, "give the topic a name" } },
	{ PREFIX,
	  "InvalidJoinPayload",
	  { REASON_PERMANENT, "bad_join", REASON_NEVER,
	    "check the options against the server's version: it does not take them" } },
	{ PREFIX,
	  "UnableToReplayMessages: Replay",
	  { REASON_PERMANENT, "replay_refused", REASON_NEVER,
	    "ask for a replay on private topics only, with whole numbers" } },
	{ PREFIX,
	  "UnableToReplayMessages",
	  { REASON_TRANSIENT, "replay_failed", 5 * SECOND, advice_wait } },

	/* Of database changes: the channel stays. */
	{ PREFIX,
	  "Unable to subscribe to changes with given parameters",
	  { REASON_PERMANENT, "binding_refused", REASON_NEVER, advice_binding } },
	{ PREFIX,
	  "RealtimeDisabledForConfiguration",
	  { REASON_PERMANENT, "binding_refused", REASON_NEVER, advice_binding } },
	{ PREFIX,
	  "Error parsing `filter` params",
	  { REASON_PERMANENT, "bad_filter", REASON_NEVER, advice_filter } },
	{ PREFIX,
	  "Error parsing `select` params",
	  { REASON_PERMANENT, "bad_select", REASON_NEVER,
	    "list columns of the table in select, and name schema and table" } },
	{ PREFIX,
	  "Column selection is not supported",
	  { REASON_PERMANENT, "bad_select", REASON_NEVER,
	    "list columns of the table in select, and name schema and table" } },
	{ PREFIX,
	  "No subscription params provided",
	  { REASON_PERMANENT, "bad_binding", REASON_NEVER, "name a schema or a table" } },

	{ PREFIX,
	  "ClientJoinRateLimitReached",
	  { REASON_JOIN_RATE, "join_rate", MINUTE, advice_joins } },
	{ PREFIX,
	  "Too many joins per second",
	  { REASON_JOIN_RATE, "join_rate", MINUTE, advice_joins } },
	{ PREFIX,
	  "JoinsRateLimitReached",
	  { REASON_JOIN_RATE, "join_rate", MINUTE, advice_joins } },
	{ PREFIX,
	  "ChannelRateLimitReached",
	  { REASON_TOO_MANY_CHANNELS, "too_many_channels", REASON_NEVER,
	    "leave some topics, or let the daemon open a further link" } },
	{ PREFIX,
	  "Too many channels",
	  { REASON_TOO_MANY_CHANNELS, "too_many_channels", REASON_NEVER,
	    "leave some topics, or let the daemon open a further link" } },
	{ PREFIX,
	  "too many channels joined",
	  { REASON_TOO_MANY_CHANNELS, "too_many_channels", REASON_NEVER,
	    "leave some topics, or let the daemon open a further link" } },
	{ PREFIX,
	  "ConnectionRateLimitReached",
	  { REASON_TOO_MANY_USERS, "too_many_connections", MINUTE,
	    "close connections of other clients, or raise the project's limit of connections" } },
	{ PREFIX,
	  "Too many connected users",
	  { REASON_TOO_MANY_USERS, "too_many_connections", MINUTE,
	    "close connections of other clients, or raise the project's limit of connections" } },
	{ PREFIX,
	  "Too many messages per second",
	  { REASON_RATE, "message_rate", MINUTE, advice_rate } },
	{ PREFIX,
	  "MessagePerSecondRateLimitReached",
	  { REASON_RATE, "message_rate", MINUTE, advice_rate } },
	{ PREFIX,
	  "Too many presence messages per second",
	  { REASON_PRESENCE_RATE, "presence_rate", MINUTE, advice_presence } },
	{ PREFIX,
	  "PresenceRateLimitReached",
	  { REASON_PRESENCE_RATE, "presence_rate", MINUTE, advice_presence } },
	{ PREFIX,
	  "Client presence rate limit exceeded",
	  { REASON_PRESENCE_RATE, "presence_calls", 30 * SECOND, advice_calls } },
	{ PREFIX,
	  "ClientPresenceRateLimitReached",
	  { REASON_PRESENCE_RATE, "presence_calls", 30 * SECOND, advice_calls } },
	{ PREFIX,
	  "Track message size exceeded",
	  { REASON_TRANSIENT, "track_too_big", SECOND, "track a smaller state" } },

	{ PREFIX,
	  "TenantNotFound",
	  { REASON_PROJECT, "project_not_found", 5 * MINUTE,
	    "check the url: the server knows no such project" } },
	{ PREFIX,
	  "Tenant not found",
	  { REASON_PROJECT, "project_not_found", 5 * MINUTE,
	    "check the url: the server knows no such project" } },
	{ PREFIX,
	  "RealtimeDisabled",
	  { REASON_PROJECT, "project_disabled", 5 * MINUTE,
	    "switch Realtime on for this project, or resume the project if it is paused" } },
	{ PREFIX,
	  "Realtime disabled for this tenant",
	  { REASON_PROJECT, "project_disabled", 5 * MINUTE,
	    "switch Realtime on for this project, or resume the project if it is paused" } },
	{ PREFIX,
	  "Realtime was disabled for this tenant",
	  { REASON_PROJECT, "project_disabled", 5 * MINUTE,
	    "switch Realtime on for this project, or resume the project if it is paused" } },

	{ PREFIX,
	  ":tenant_suspended",
	  { REASON_PROJECT, "project_disabled", 5 * MINUTE,
	    "switch Realtime on for this project, or resume the project if it is paused" } },

	{ PREFIX, "RealtimeRestarting", { REASON_OUTAGE, "restarting", SECOND, advice_wait } },
	{ PREFIX,
	  "InitializingProjectConnection",
	  { REASON_OUTAGE, "initializing", SECOND, advice_wait } },
	/* A new token needs the database, too; what fails then is told by its bare name. */
	{ PREFIX, ":initializing", { REASON_OUTAGE, "initializing", SECOND, advice_wait } },
	{ PREFIX,
	  ":tenant_database_connection_initializing",
	  { REASON_OUTAGE, "initializing", SECOND, advice_wait } },
	{ PREFIX,
	  "UnableToConnectToProject",
	  { REASON_OUTAGE, "database_unreachable", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "Realtime was unable to connect to the project database",
	  { REASON_OUTAGE, "database_unreachable", 5 * SECOND, advice_database } },
	/* Servers of 2024 and before. */
	{ PREFIX,
	  "Realtime was unable to connect to the tenant database",
	  { REASON_OUTAGE, "database_unreachable", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "UnableToConnectToTenantDatabase",
	  { REASON_OUTAGE, "database_unreachable", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "DatabaseConnectionIssue",
	  { REASON_OUTAGE, "database_unreachable", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "IncreaseConnectionPool",
	  { REASON_OUTAGE, "database_connections", 10 * SECOND, advice_database } },
	{ PREFIX,
	  "DatabaseLackOfConnections",
	  { REASON_OUTAGE, "database_connections", 10 * SECOND, advice_database } },
	{ PREFIX,
	  "DatabaseConnectionRateLimitReached",
	  { REASON_OUTAGE, "database_connections", 10 * SECOND, advice_database } },
	{ PREFIX,
	  ":increase_connection_pool",
	  { REASON_OUTAGE, "database_connections", 10 * SECOND, advice_database } },
	{ PREFIX,
	  ":tenant_db_too_many_connections",
	  { REASON_OUTAGE, "database_connections", 10 * SECOND, advice_database } },
	{ PREFIX,
	  ":connect_rate_limit_reached",
	  { REASON_OUTAGE, "database_connections", 10 * SECOND, advice_database } },
	{ PREFIX,
	  "QueryCanceled",
	  { REASON_TRANSIENT, "database_query", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "Query was cancelled",
	  { REASON_TRANSIENT, "database_query", 5 * SECOND, advice_database } },
	{ ANYWHERE,
	  "Too many database timeouts",
	  { REASON_TRANSIENT, "database_query", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "MissingPartition",
	  { REASON_TRANSIENT, "database_partition", 30 * SECOND, advice_database } },
	{ PREFIX,
	  "Replication connection was not established",
	  { REASON_TRANSIENT, "database_replication", 5 * SECOND, advice_database } },
	{ PREFIX, "TimeoutOnRpcCall", { REASON_TRANSIENT, "server_rpc", SECOND, advice_wait } },
	{ PREFIX, "Node request timeout", { REASON_TRANSIENT, "server_rpc", SECOND, advice_wait } },
	{ PREFIX, "ErrorOnRpcCall", { REASON_TRANSIENT, "server_rpc", SECOND, advice_wait } },
	{ PREFIX, "RPC call error", { REASON_TRANSIENT, "server_rpc", SECOND, advice_wait } },
	{ PREFIX, "MusterJoinError", { REASON_TRANSIENT, "server_rpc", SECOND, advice_wait } },
	{ PREFIX, "unmatched topic", { REASON_TRANSIENT, "not_joined", SECOND, advice_wait } },

	/* Ours: what is said where the server says nothing. */
	{ PREFIX,
	  "the server did not answer the join",
	  { REASON_TRANSIENT, "join_timeout", SECOND,
	    "nothing at first; if it stays, look at the project's state: it may be overloaded" } },

	{ PREFIX, "channel_crash", { REASON_CRASH, "crash", SECOND, advice_wait } },
	{ PREFIX, "join crashed", { REASON_CRASH, "crash", 5 * SECOND, advice_wait } },
	{ PREFIX, "UnknownErrorOn", { REASON_CRASH, "crash", 5 * SECOND, advice_wait } },
	{ PREFIX, "Unknown Error on Channel", { REASON_CRASH, "crash", 5 * SECOND, advice_wait } },

	/* Behind all others: these look for words anywhere, and other texts end in names that users
	 * choose. */
	{ ANYWHERE,
	  "only allows private channels",
	  { REASON_PRIVATE_ONLY, "private_only", REASON_NEVER,
	    "subscribe with private: the project allows private channels only" } },
	{ ANYWHERE, "expired", { REASON_AUTH, "token_expired", REASON_NEVER, advice_token } },
	{ PREFIX,
	  "InvalidJWTExpiration",
	  { REASON_AUTH, "token_expired", REASON_NEVER, advice_token } },
	{ ANYWHERE,
	  "Fields `role` and `exp` are required",
	  { REASON_AUTH, "token_incomplete", REASON_NEVER,
	    "get a token from the project's auth service: this one lacks a role or an expiry" } },
	{ PREFIX, "MalformedJWT", { REASON_AUTH, "token_malformed", REASON_NEVER, advice_token } },
	{ ANYWHERE,
	  "token provided is not a valid JWT",
	  { REASON_AUTH, "token_malformed", REASON_NEVER, advice_token } },
	{ PREFIX,
	  "JwtSignatureError",
	  { REASON_AUTH, "token_signature", REASON_NEVER, advice_signature } },
	{ ANYWHERE,
	  "Failed to validate JWT signature",
	  { REASON_AUTH, "token_signature", REASON_NEVER, advice_signature } },
	{ PREFIX,
	  ":signature_error",
	  { REASON_AUTH, "token_signature", REASON_NEVER, advice_signature } },
	{ PREFIX,
	  "JwtSignerError",
	  { REASON_AUTH, "token_signer", REASON_NEVER, advice_signature } },
	{ ANYWHERE,
	  "Failed to generate JWT signer",
	  { REASON_AUTH, "token_signer", REASON_NEVER, advice_signature } },
	{ PREFIX,
	  ":error_generating_signer",
	  { REASON_AUTH, "token_signer", REASON_NEVER, advice_signature } },
	{ PREFIX,
	  "Token claims must be a map",
	  { REASON_AUTH, "token_malformed", REASON_NEVER, advice_token } },
	{ PREFIX,
	  ":expected_claims_map",
	  { REASON_AUTH, "token_malformed", REASON_NEVER, advice_token } },
	{ PREFIX,
	  ":expected_header_map",
	  { REASON_AUTH, "token_malformed", REASON_NEVER, advice_token } },
	{ PREFIX, "Invalid token", { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
	{ PREFIX,
	  "Received an invalid access token",
	  { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
	{ PREFIX,
	  "Invalid value for JWT claim",
	  { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
	/* [message: "Invalid token", claim: "exp", claim_val: "soon"] */
	{ ANYWHERE, "claim_val: ", { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
	/* How many seconds are left, when the last of them ends between two looks at the clock. */
	{ WHOLE, "0", { REASON_AUTH, "token_expired", REASON_NEVER, advice_token } },
	{ PREFIX, "InvalidJWTToken", { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
	{ ANYWHERE,
	  "Token expiration time is invalid",
	  { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
};

static const struct reason unknown = { REASON_UNKNOWN, "unknown", SECOND, advice_wait };

enum { ROWS = sizeof(rows) / sizeof(*rows) };

static bool matches(enum where where, const char *pattern, const char *text, size_t size)
{
	size_t n = strlen(pattern);

	if (where == ANYWHERE)
		return memmem(text, size, pattern, n) != NULL;
	return (where == PREFIX ? size >= n : size == n) && memcmp(text, pattern, n) == 0;
}

static const struct reason *find(const char *text, size_t size)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (matches(rows[i].where, rows[i].text, text, size))
			return &rows[i].reason;
	}
	return NULL;
}

static bool is_letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* "Code: " in front of a sentence. Return: its size, 0: there is none. */
static size_t code_size(const char *text, size_t size)
{
	size_t n = 0;

	while (n < size && is_letter(text[n]))
		n++;
	return n && size - n > 2 && text[n] == ':' && text[n + 1] == ' ' ? n + 2 : 0;
}

const struct reason *reason_find(const char *text, size_t size)
{
	const struct reason *reason;
	size_t skip;

	if (!size)
		return &unknown;
	reason = find(text, size);
	/* Servers say the same sentence with a code and without; which ones have one, changes. */
	skip = reason ? 0 : code_size(text, size);
	if (skip)
		reason = find(text + skip, size - skip);
	return reason ? reason : &unknown;
}

const struct reason *reason_of_code(const char *code)
{
	for (size_t i = 0; i < ROWS; i++) {
		if (strcmp(rows[i].reason.code, code) == 0)
			return &rows[i].reason;
	}
	return strcmp(code, unknown.code) == 0 ? &unknown : NULL;
}

const struct reason *reason_row(size_t i, const char **ret_text)
{
	if (i >= ROWS)
		return NULL;
	*ret_text = rows[i].text;
	return &rows[i].reason;
}

enum { SLOW_FLOOR = MINUTE, SLOW_GROWN = 15 * MINUTE };

static const struct fault_reason faults[] = {
	[SESSION_FAULT_NONE] = { "none", "backoff", 0, 0, "" },
	[SESSION_FAULT_DNS] = { "dns", "backoff", 0, 0,
				"check the host in url and this machine's name service" },
	[SESSION_FAULT_CONNECT] = { "connect", "backoff", 0, 0,
				    "check the network, a firewall, and that the server runs" },
	[SESSION_FAULT_TLS] = { "tls", "config_error", SLOW_FLOOR, SLOW_GROWN,
				"check the certificate, ca_file, the host in url, and this "
				"machine's clock" },
	[SESSION_FAULT_HANDSHAKE] = { "handshake", "backoff", 0, 0,
				      "the server took the connection but no WebSocket came of it: "
				      "check url and any proxy in between" },
	[SESSION_FAULT_NOT_WEBSOCKET] = { "not_websocket", "backoff", 0, 0,
					  "something else than Realtime answers: a captive portal, "
					  "a "
					  "proxy, or a wrong url" },
	[SESSION_FAULT_AUTH] = { "auth", "auth_failed", SLOW_FLOOR, SLOW_GROWN,
				 "the API key in apikey_file is not accepted: check that it is "
				 "whole, of this "
				 "project, and not expired" },
	[SESSION_FAULT_FORBIDDEN] = { "forbidden", "config_error", SLOW_FLOOR, SLOW_GROWN,
				      "the project is paused, Realtime is switched off, or the "
				      "server does not speak this vsn" },
	[SESSION_FAULT_NOT_FOUND] = { "not_found", "config_error", SLOW_FLOOR, SLOW_GROWN,
				      "check url: no such project or path there" },
	[SESSION_FAULT_RATE] = { "rate_limited", "backoff", MINUTE, 0,
				 "too many connections or joins for the project's plan; the daemon "
				 "waits" },
	[SESSION_FAULT_SERVER] = { "server", "backoff", 0, 0,
				   "the server has trouble; the daemon tries again" },
	[SESSION_FAULT_CLOSED] = { "closed", "backoff", 0, 0,
				   "nothing; the daemon connects again" },
	[SESSION_FAULT_RESTART] = { "restart", "backoff", 0, 0,
				    "nothing; the server restarts and the daemon comes back" },
	[SESSION_FAULT_OVERLOAD] = { "overload", "backoff", 10 * SECOND, 0,
				     "nothing; the server is busy and the daemon waits" },
	[SESSION_FAULT_POLICY] = { "policy", "backoff", 0, 0,
				   "look at the server's log, or a gateway's in between: what was "
				   "sent is not borne there" },
	[SESSION_FAULT_POLICY_AGAIN] = { "policy_again", "config_error", SLOW_FLOOR, SLOW_GROWN,
					 "look at the server's log, or a gateway's in between: "
					 "what "
					 "is sent is not borne there, again and again; check vsn, "
					 "params and header, and the size of what clients send" },
	[SESSION_FAULT_LOST] = { "lost", "backoff", 0, 0,
				 "nothing; if it happens often, check the network" },
	[SESSION_FAULT_HEARTBEAT] = { "heartbeat", "backoff", 0, 0,
				      "nothing; if it happens often, check the network" },
	[SESSION_FAULT_PROTOCOL] = { "protocol", "backoff", 0, 0,
				     "check that url leads to a Realtime server; a proxy may spoil "
				     "what it passes" },
	[SESSION_FAULT_SLEPT] = { "slept", "backoff", 0, 0, "nothing; the daemon connects again" },
	[SESSION_FAULT_CONFIG] = { "config", "config_error", SLOW_FLOOR, SLOW_GROWN,
				   "correct the configuration ([upstream] url, allow_insecure, "
				   "proxy, proxy_auth_file) and restart the daemon" },
};

const struct fault_reason *reasons_of_fault(enum session_fault fault)
{
	if ((size_t)fault >= sizeof(faults) / sizeof(*faults))
		fault = SESSION_FAULT_NONE;
	return &faults[fault];
}

enum session_fault reasons_from_http(unsigned status)
{
	switch (status) {
	case 401:
		return SESSION_FAULT_AUTH;
	case 403:
		return SESSION_FAULT_FORBIDDEN;
	case 407: /* the proxy wants a password */
		return SESSION_FAULT_CONFIG;
	case 408:
	case 425:
		return SESSION_FAULT_SERVER;
	case 429:
		return SESSION_FAULT_RATE;
	default:
		break;
	}
	if (status == 101 || status < 100 || status > 599)
		return SESSION_FAULT_HANDSHAKE;
	if (status >= 500)
		return SESSION_FAULT_SERVER;
	return status >= 400 ? SESSION_FAULT_NOT_FOUND : SESSION_FAULT_NOT_WEBSOCKET;
}

enum session_fault reasons_from_close(unsigned code)
{
	switch (code) {
	case 1001:
	case 1012:
	case 1002: /* libwebsockets 4.1 tells 1012 to 1014 as 1002; 1012 is what servers send */
		return SESSION_FAULT_RESTART;
	case 1013:
		return SESSION_FAULT_OVERLOAD;
	case 1003:
	case 1007:
	case 1008:
	case 1009:
	case 1010:
		return SESSION_FAULT_POLICY;
	case 1011:
	case 1014:
		return SESSION_FAULT_SERVER;
	default:
		return SESSION_FAULT_CLOSED;
	}
}
