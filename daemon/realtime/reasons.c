/* SPDX-License-Identifier: MIT */
#include "realtime/reasons.h"

#include <string.h>

/* Rates are averages over 60 s: coming back earlier only meets the same average. */
enum { SECOND = 1000, MINUTE = 60 * SECOND };

static const char advice_token[] =
	"the token is not accepted: get a new one from where it was issued";
static const char advice_signature[] =
	"the token was not signed for this project: check which project it belongs to";
static const char advice_read[] =
	"the policies on realtime.messages give this token no right to read this topic";
static const char advice_wait[] = "nothing; the daemon tries again";
static const char advice_database[] =
	"nothing at first; if it stays, look at the project's database and its connection limits";
static const char advice_rate[] = "send less, or raise the project's limit of messages per second";
static const char advice_binding[] =
	"the table must exist and be in the publication supabase_realtime, its columns and values "
	"must fit the filter";
static const char advice_filter[] = "a filter is column=operator.value, several joined by commas";

enum where { PREFIX, ANYWHERE };

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
	{ PREFIX,
	  "PrivateOnly",
	  { REASON_PRIVATE_ONLY, "private_only", REASON_NEVER,
	    "the project allows private channels only: subscribe with private" } },
	{ PREFIX,
	  "TopicNameRequired",
	  { REASON_PERMANENT, "topic_required", REASON_NEVER, "give the topic a name" } },
	{ PREFIX,
	  "InvalidJoinPayload",
	  { REASON_PERMANENT, "bad_join", REASON_NEVER,
	    "the server does not take these options: check them against its version" } },
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
	  "Error parsing `filter` params",
	  { REASON_PERMANENT, "bad_filter", REASON_NEVER, advice_filter } },
	{ PREFIX,
	  "Error parsing `select` params",
	  { REASON_PERMANENT, "bad_select", REASON_NEVER,
	    "select is a list of the table's columns; it needs a schema and a table" } },
	{ PREFIX,
	  "Column selection is not supported",
	  { REASON_PERMANENT, "bad_select", REASON_NEVER,
	    "select is a list of the table's columns; it needs a schema and a table" } },
	{ PREFIX,
	  "No subscription params provided",
	  { REASON_PERMANENT, "bad_binding", REASON_NEVER, "name a schema or a table" } },

	{ PREFIX,
	  "ClientJoinRateLimitReached",
	  { REASON_JOIN_RATE, "join_rate", MINUTE,
	    "join fewer topics at once; the limit counts all clients of the project" } },
	{ PREFIX,
	  "Too many joins per second",
	  { REASON_JOIN_RATE, "join_rate", MINUTE,
	    "join fewer topics at once; the limit counts all clients of the project" } },
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
	    "the project has as many connections as its plan allows" } },
	{ PREFIX,
	  "Too many connected users",
	  { REASON_TOO_MANY_USERS, "too_many_connections", MINUTE,
	    "the project has as many connections as its plan allows" } },
	{ PREFIX,
	  "Too many messages per second",
	  { REASON_RATE, "message_rate", MINUTE, advice_rate } },
	{ PREFIX,
	  "Too many presence messages per second",
	  { REASON_PRESENCE_RATE, "presence_rate", MINUTE,
	    "track less often; the limit counts all clients of the project" } },
	{ PREFIX,
	  "Client presence rate limit exceeded",
	  { REASON_PRESENCE_RATE, "presence_calls", 30 * SECOND,
	    "track less often: five calls in 30 s on one topic" } },
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
	    "Realtime is switched off for this project, or the project is paused" } },
	{ PREFIX,
	  "Realtime disabled for this tenant",
	  { REASON_PROJECT, "project_disabled", 5 * MINUTE,
	    "Realtime is switched off for this project, or the project is paused" } },
	{ PREFIX,
	  "Realtime was disabled for this tenant",
	  { REASON_PROJECT, "project_disabled", 5 * MINUTE,
	    "Realtime is switched off for this project, or the project is paused" } },

	{ PREFIX, "RealtimeRestarting", { REASON_OUTAGE, "restarting", SECOND, advice_wait } },
	{ PREFIX,
	  "InitializingProjectConnection",
	  { REASON_OUTAGE, "initializing", SECOND, advice_wait } },
	{ PREFIX,
	  "UnableToConnectToProject",
	  { REASON_OUTAGE, "database_unreachable", 5 * SECOND, advice_database } },
	{ PREFIX,
	  "Realtime was unable to connect to the project database",
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

	{ PREFIX, "channel_crash", { REASON_CRASH, "crash", SECOND, advice_wait } },
	{ PREFIX, "join crashed", { REASON_CRASH, "crash", 5 * SECOND, advice_wait } },
	{ PREFIX, "UnknownErrorOnChannel", { REASON_CRASH, "crash", 5 * SECOND, advice_wait } },
	{ PREFIX, "Unknown Error on Channel", { REASON_CRASH, "crash", 5 * SECOND, advice_wait } },

	/* Behind all others: these look for words anywhere, and other texts end in names that users
	 * choose. */
	{ ANYWHERE,
	  "only allows private channels",
	  { REASON_PRIVATE_ONLY, "private_only", REASON_NEVER,
	    "the project allows private channels only: subscribe with private" } },
	{ ANYWHERE, "expired", { REASON_AUTH, "token_expired", REASON_NEVER, advice_token } },
	{ PREFIX,
	  "InvalidJWTExpiration",
	  { REASON_AUTH, "token_expired", REASON_NEVER, advice_token } },
	{ ANYWHERE,
	  "Fields `role` and `exp` are required",
	  { REASON_AUTH, "token_incomplete", REASON_NEVER,
	    "the token lacks a role or an expiry: get one from the project's auth service" } },
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
	{ PREFIX, "InvalidJWTToken", { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
	{ ANYWHERE,
	  "Token expiration time is invalid",
	  { REASON_AUTH, "token_invalid", REASON_NEVER, advice_token } },
};

static const struct reason unknown = { REASON_UNKNOWN, "unknown", SECOND, advice_wait };

static bool matches(enum where where, const char *pattern, const char *text, size_t size)
{
	size_t n = strlen(pattern);

	if (where == PREFIX)
		return size >= n && memcmp(text, pattern, n) == 0;
	return memmem(text, size, pattern, n) != NULL;
}

const struct reason *reason_find(const char *text, size_t size)
{
	if (!size)
		return &unknown;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (matches(rows[i].where, rows[i].text, text, size))
			return &rows[i].reason;
	}
	return &unknown;
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
	[SESSION_FAULT_LOST] = { "lost", "backoff", 0, 0,
				 "nothing; if it happens often, check the network" },
	[SESSION_FAULT_HEARTBEAT] = { "heartbeat", "backoff", 0, 0,
				      "nothing; if it happens often, check the network" },
	[SESSION_FAULT_PROTOCOL] = { "protocol", "backoff", 0, 0,
				     "check that url leads to a Realtime server; a proxy may spoil "
				     "what it passes" },
	[SESSION_FAULT_CONFIG] = { "config", "config_error", SLOW_FLOOR, SLOW_GROWN,
				   "correct the configuration ([upstream] url, allow_insecure) and "
				   "restart the daemon" },
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
	case 1011:
	case 1014:
		return SESSION_FAULT_SERVER;
	default:
		return SESSION_FAULT_CLOSED;
	}
}
