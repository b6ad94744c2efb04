/* SPDX-License-Identifier: MIT */
/* What the server's texts and codes mean: daemon/realtime/reasons.h. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/reasons.h"
#include "suite.h"

static const struct {
	const char *text;
	enum reason_class class;
	const char *code;
} texts[] = {
	/* refused joins */
	{ "TopicNameRequired: You must provide a topic name", REASON_PERMANENT, "topic_required" },
	{ "InvalidJWTToken: Token has expired 12 seconds ago", REASON_AUTH, "token_expired" },
	{ "InvalidJWTExpiration: Token expiration time is invalid", REASON_AUTH, "token_expired" },
	{ "InvalidJWTToken: Fields `role` and `exp` are required in JWT", REASON_AUTH,
	  "token_incomplete" },
	{ "InvalidJWTToken: Token expiration time is invalid", REASON_AUTH, "token_invalid" },
	{ "MalformedJWT: The token provided is not a valid JWT", REASON_AUTH, "token_malformed" },
	{ "JwtSignatureError: Failed to validate JWT signature", REASON_AUTH, "token_signature" },
	{ "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"K\", check your JWT "
	  "secret or JWKS configuration",
	  REASON_AUTH, "token_signer" },
	{ "Unauthorized: You do not have permissions to read from this Channel topic: room",
	  REASON_PERMANENT, "unauthorized" },
	{ "PrivateOnly: This project only allows private channels", REASON_PRIVATE_ONLY,
	  "private_only" },
	{ "ChannelRateLimitReached: Too many channels", REASON_TOO_MANY_CHANNELS,
	  "too_many_channels" },
	{ "too many channels joined", REASON_TOO_MANY_CHANNELS, "too_many_channels" },
	{ "ConnectionRateLimitReached: Too many connected users", REASON_TOO_MANY_USERS,
	  "too_many_connections" },
	{ "ClientJoinRateLimitReached: Too many joins per second", REASON_JOIN_RATE, "join_rate" },
	{ "TenantNotFound: Tenant with the given ID does not exist", REASON_PROJECT,
	  "project_not_found" },
	{ "RealtimeDisabledForTenant: Realtime disabled for this tenant", REASON_PROJECT,
	  "project_disabled" },
	{ "RealtimeRestarting: Realtime is restarting, please standby", REASON_OUTAGE,
	  "restarting" },
	{ "InitializingProjectConnection: Connecting to the project database", REASON_OUTAGE,
	  "initializing" },
	{ "UnableToConnectToProject: Realtime was unable to connect to the project database",
	  REASON_OUTAGE, "database_unreachable" },
	{ "IncreaseConnectionPool: Please increase your connection pool size", REASON_OUTAGE,
	  "database_connections" },
	{ "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't "
	  "connect",
	  REASON_OUTAGE, "database_connections" },
	{ "DatabaseConnectionRateLimitReached: Too many database connections attempts per second",
	  REASON_OUTAGE, "database_connections" },
	{ "QueryCanceled: %{}", REASON_TRANSIENT, "database_query" },
	{ "MissingPartition: Realtime was unable to find the expected messages partition",
	  REASON_TRANSIENT, "database_partition" },
	{ "TimeoutOnRpcCall: Node request timeout", REASON_TRANSIENT, "server_rpc" },
	{ "ErrorOnRpcCall: RPC call error: :x", REASON_TRANSIENT, "server_rpc" },
	{ "MusterJoinError: x", REASON_TRANSIENT, "server_rpc" },
	{ "UnableToReplayMessages: Replay is not allowed for public channels", REASON_PERMANENT,
	  "replay_refused" },
	{ "UnableToReplayMessages: Replay params are not valid", REASON_PERMANENT,
	  "replay_refused" },
	{ "UnableToReplayMessages: Realtime was unable to replay messages", REASON_TRANSIENT,
	  "replay_failed" },
	{ "Unknown Error on Channel", REASON_CRASH, "crash" },
	{ "UnknownErrorOnChannel: expected params to be a :map, got: `[]`", REASON_CRASH, "crash" },
	{ "join crashed", REASON_CRASH, "crash" },
	{ "channel_crash", REASON_CRASH, "crash" },
	{ "unmatched topic", REASON_TRANSIENT, "not_joined" },
	{ "the server did not answer the join", REASON_TRANSIENT, "join_timeout" },
	/* ends of channels, without code */
	{ "Too many messages per second", REASON_RATE, "message_rate" },
	{ "Too many presence messages per second", REASON_PRESENCE_RATE, "presence_rate" },
	{ "Client presence rate limit exceeded", REASON_PRESENCE_RATE, "presence_calls" },
	{ "Track message size exceeded", REASON_TRANSIENT, "track_too_big" },
	{ "Token has expired 0 seconds ago", REASON_AUTH, "token_expired" },
	{ "Fields `role` and `exp` are required in JWT", REASON_AUTH, "token_incomplete" },
	{ "The token provided is not a valid JWT", REASON_AUTH, "token_malformed" },
	{ "Failed to generate JWT signer for key ID (kid) \"K\"", REASON_AUTH, "token_signer" },
	{ ":signature_error", REASON_AUTH, "token_signature" },
	{ ":error_generating_signer", REASON_AUTH, "token_signer" },
	{ "You do not have permissions to read from this Channel topic: room", REASON_PERMANENT,
	  "unauthorized" },
	{ "You no longer have permission to read from this Channel topic: room", REASON_PERMANENT,
	  "unauthorized" },
	{ "Realtime was unable to connect to the project database", REASON_OUTAGE,
	  "database_unreachable" },
	{ "Query was cancelled, please try again", REASON_TRANSIENT, "database_query" },
	{ "Node request timeout", REASON_TRANSIENT, "server_rpc" },
	{ "RPC call error: :x", REASON_TRANSIENT, "server_rpc" },
	{ "Replication connection was not established in time", REASON_TRANSIENT,
	  "database_replication" },
	/* ends of channels by a bare name: what a new token met on its way */
	{ ":initializing", REASON_OUTAGE, "initializing" },
	{ ":tenant_database_connection_initializing", REASON_OUTAGE, "initializing" },
	{ ":increase_connection_pool", REASON_OUTAGE, "database_connections" },
	{ ":tenant_db_too_many_connections", REASON_OUTAGE, "database_connections" },
	{ ":connect_rate_limit_reached", REASON_OUTAGE, "database_connections" },
	{ ":tenant_suspended", REASON_PROJECT, "project_disabled" },
	{ ":expected_claims_map", REASON_AUTH, "token_malformed" },
	{ ":expected_header_map", REASON_AUTH, "token_malformed" },
	{ "[message: \"Invalid token\", claim: \"nbf\", claim_val: 4102444800]", REASON_AUTH,
	  "token_invalid" },
	{ "0", REASON_AUTH, "token_expired" },
	{ "00", REASON_UNKNOWN, "unknown" },
	/* of older servers */
	{ "InvalidJWTToken: Token claims must be a map", REASON_AUTH, "token_invalid" },
	{ "Token claims must be a map", REASON_AUTH, "token_malformed" },
	{ "Invalid token", REASON_AUTH, "token_invalid" },
	{ "InvalidJWTToken: Invalid value for JWT claim \"exp\" with value 1", REASON_AUTH,
	  "token_invalid" },
	{ "Received an invalid access token from client: :x", REASON_AUTH, "token_invalid" },
	{ "DatabaseConnectionIssue: %Postgrex.Error{}", REASON_OUTAGE, "database_unreachable" },
	{ "Realtime was unable to connect to the tenant database", REASON_OUTAGE,
	  "database_unreachable" },
	{ "You do not have permissions to read Broadcast messages from this channel",
	  REASON_PERMANENT, "unauthorized" },
	{ "RlsPolicyError: %Postgrex.Error{}", REASON_PERMANENT, "unauthorized" },
	/* about database changes, not about the project */
	{ "RealtimeDisabledForConfiguration: Unable to subscribe to changes", REASON_PERMANENT,
	  "binding_refused" },
	{ "Unable to subscribe to changes with given parameters. Please check", REASON_PERMANENT,
	  "binding_refused" },
	{ "{:error, \"Too many database timeouts\"}", REASON_TRANSIENT, "database_query" },
	/* with a code that the server only logs so far */
	{ "MessagePerSecondRateLimitReached: Too many messages per second", REASON_RATE,
	  "message_rate" },
	{ "ClientPresenceRateLimitReached: Client presence rate limit exceeded",
	  REASON_PRESENCE_RATE, "presence_calls" },
	{ "PresenceRateLimitReached: x", REASON_PRESENCE_RATE, "presence_rate" },
	{ "JoinsRateLimitReached: Too many joins per second", REASON_JOIN_RATE, "join_rate" },
	{ "UnableToConnectToTenantDatabase: x", REASON_OUTAGE, "database_unreachable" },
	{ "UnableToSetPolicies: Realtime was unable to connect to the project database",
	  REASON_OUTAGE, "database_unreachable" },
	{ "UnableToSubscribeToPostgres: Unable to subscribe to changes with given parameters",
	  REASON_PERMANENT, "binding_refused" },
	{ "ChannelShutdown: Query was cancelled, please try again", REASON_TRANSIENT,
	  "database_query" },
	{ "NewCode: RpcProxy: Node request timeout", REASON_UNKNOWN, "unknown" },
	{ "NewCode: ", REASON_UNKNOWN, "unknown" },
	{ "NewCode:", REASON_UNKNOWN, "unknown" },
	{ ": Node request timeout", REASON_UNKNOWN, "unknown" },
	/* refused upgrades */
	{ "Token has expired", REASON_AUTH, "token_expired" },
	{ "Failed to validate JWT signature", REASON_AUTH, "token_signature" },
	{ "Realtime was disabled for this tenant", REASON_PROJECT, "project_disabled" },
	{ "Tenant not found", REASON_PROJECT, "project_not_found" },
	{ "Too many connected users", REASON_TOO_MANY_USERS, "too_many_connections" },
	{ "Too many joins per second", REASON_JOIN_RATE, "join_rate" },
	/* names that users choose */
	{ "Unauthorized: You do not have permissions to read from this Channel topic: expired",
	  REASON_PERMANENT, "unauthorized" },
	{ "Unauthorized: You do not have permissions to read from this Channel topic: the token "
	  "provided is not a valid JWT",
	  REASON_PERMANENT, "unauthorized" },
	{ "You no longer have permission to read from this Channel topic: only allows private "
	  "channels",
	  REASON_PERMANENT, "unauthorized" },
	/* nobody knows */
	{ "", REASON_UNKNOWN, "unknown" },
	{ "expire", REASON_UNKNOWN, "unknown" },
	{ "Brand new reason", REASON_UNKNOWN, "unknown" },
};

START_TEST(test_text)
{
	size_t n = strlen(texts[_i].text);
	char *text = malloc(n ? n : 1); /* no NUL behind it */
	const struct reason *r;

	ck_assert_ptr_nonnull(text);
	memcpy(text, texts[_i].text, n);
	r = reason_find(text, n);
	free(text);
	ck_assert_str_eq(r->code, texts[_i].code);
	ck_assert_int_eq(r->class, texts[_i].class);
	ck_assert_uint_gt(strlen(r->advice), 5);
}
END_TEST

/* What needs a change waits for it; all the rest comes again by itself, the sooner the less it is
 * anybody's doing. */
static const struct {
	enum reason_class class;
	int32_t least_ms, most_ms;
} classes[] = {
	{ REASON_TRANSIENT, 1000, 30000 },
	{ REASON_PERMANENT, REASON_NEVER, REASON_NEVER },
	{ REASON_AUTH, REASON_NEVER, REASON_NEVER },
	{ REASON_JOIN_RATE, 60000, 60000 },
	{ REASON_RATE, 60000, 60000 },
	{ REASON_PRESENCE_RATE, 30000, 60000 },
	{ REASON_TOO_MANY_CHANNELS, REASON_NEVER, REASON_NEVER },
	{ REASON_TOO_MANY_USERS, 60000, 60000 },
	{ REASON_PRIVATE_ONLY, REASON_NEVER, REASON_NEVER },
	{ REASON_PROJECT, 300000, 300000 },
	{ REASON_OUTAGE, 1000, 10000 },
	{ REASON_CRASH, 1000, 5000 },
	{ REASON_UNKNOWN, 1000, 1000 },
};

static void retries_by_class(const struct reason *r)
{
	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++) {
		if (classes[i].class != r->class)
			continue;
		ck_assert_msg(r->retry_ms >= classes[i].least_ms &&
				      r->retry_ms <= classes[i].most_ms,
			      "%s: %d", r->code, r->retry_ms);
		return;
	}
	ck_abort_msg("%s: a class that the test does not know", r->code);
}

/* A short word for programs, and what to do as one part of a sentence. */
static void reads_well(const struct reason *r)
{
	size_t n = strlen(r->advice);

	ck_assert_uint_eq(strspn(r->code, "abcdefghijklmnopqrstuvwxyz_"), strlen(r->code));
	ck_assert_uint_gt(n, 20);
	ck_assert_msg(r->advice[0] >= 'a' && r->advice[0] <= 'z', "%s", r->advice);
	ck_assert_msg(r->advice[n - 1] != '.', "%s", r->advice);
}

/* A row that stands behind one that takes its text would never be found. */
START_TEST(test_rows)
{
	const struct reason *r, *of_code;
	const char *text;
	size_t i;

	for (i = 0; (r = reason_row(i, &text)); i++) {
		ck_assert_msg(reason_find(text, strlen(text)) == r, "shadowed: %s", text);
		retries_by_class(r);
		reads_well(r);
		/* Who has only the word is told the same. */
		of_code = reason_of_code(r->code);
		ck_assert_int_eq(of_code->class, r->class);
		ck_assert_str_eq(of_code->advice, r->advice);
	}
	ck_assert_uint_gt(i, 60);
	r = reason_find("Brand new reason", 16);
	retries_by_class(r);
	reads_well(r);
	ck_assert_ptr_eq(reason_of_code("unknown"), r);
	ck_assert_ptr_null(reason_of_code("connection"));
}
END_TEST

/* The section of the protocol that lists the words; to be freed. */
static char *words_of_protocol(void)
{
	FILE *f = fopen(RTB_PROTOCOL, "r");
	char *all = calloc(1, 1 << 20), *section;
	size_t n;

	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(all);
	n = fread(all, 1, (1 << 20) - 1, f);
	fclose(f);
	section = strstr(all, "\n## 8. Words for reasons\n");
	ck_assert_ptr_nonnull(section);
	memmove(all, section, n - (size_t)(section - all) + 1);
	return all;
}

static void is_listed(const char *words, const char *word)
{
	char quoted[64];

	snprintf(quoted, sizeof(quoted), "`%s`", word);
	ck_assert_msg(strstr(words, quoted) != NULL, "PROTOCOL.md does not list %s", quoted);
}

START_TEST(test_documented)
{
	char *words = words_of_protocol();
	const struct reason *r;
	const char *text;

	for (size_t i = 0; (r = reason_row(i, &text)); i++)
		is_listed(words, r->code);
	is_listed(words, reason_of_code("unknown")->code);
	for (unsigned f = SESSION_FAULT_NONE + 1;; f++) {
		const char *name = reasons_of_fault((enum session_fault)f)->name;

		if (strcmp(name, "none") == 0)
			break;
		is_listed(words, name);
	}
	free(words);
}
END_TEST

START_TEST(test_no_text)
{
	ck_assert_int_eq(reason_find(NULL, 0)->class, REASON_UNKNOWN);
}
END_TEST

START_TEST(test_http)
{
	static const struct {
		unsigned status;
		enum session_fault fault;
	} rows[] = {
		{ 401, SESSION_FAULT_AUTH },          { 403, SESSION_FAULT_FORBIDDEN },
		{ 404, SESSION_FAULT_NOT_FOUND },     { 400, SESSION_FAULT_NOT_FOUND },
		{ 410, SESSION_FAULT_NOT_FOUND },     { 426, SESSION_FAULT_NOT_FOUND },
		{ 407, SESSION_FAULT_CONFIG },        { 408, SESSION_FAULT_SERVER },
		{ 429, SESSION_FAULT_RATE },          { 500, SESSION_FAULT_SERVER },
		{ 503, SESSION_FAULT_SERVER },        { 522, SESSION_FAULT_SERVER },
		{ 200, SESSION_FAULT_NOT_WEBSOCKET }, { 204, SESSION_FAULT_NOT_WEBSOCKET },
		{ 302, SESSION_FAULT_NOT_WEBSOCKET }, { 100, SESSION_FAULT_NOT_WEBSOCKET },
		{ 101, SESSION_FAULT_HANDSHAKE },     { 0, SESSION_FAULT_HANDSHAKE },
		{ 999, SESSION_FAULT_HANDSHAKE },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(reasons_from_http(rows[i].status) == rows[i].fault, "%u",
			      rows[i].status);
}
END_TEST

START_TEST(test_close)
{
	ck_assert_int_eq(reasons_from_close(1000), SESSION_FAULT_CLOSED);
	ck_assert_int_eq(reasons_from_close(1005), SESSION_FAULT_CLOSED);
	ck_assert_int_eq(reasons_from_close(1003), SESSION_FAULT_POLICY);
	ck_assert_int_eq(reasons_from_close(1008), SESSION_FAULT_POLICY);
	ck_assert_int_eq(reasons_from_close(1009), SESSION_FAULT_POLICY);
	ck_assert_int_eq(reasons_from_close(4000), SESSION_FAULT_CLOSED);
	ck_assert_int_eq(reasons_from_close(1001), SESSION_FAULT_RESTART);
	ck_assert_int_eq(reasons_from_close(1012), SESSION_FAULT_RESTART);
	ck_assert_int_eq(reasons_from_close(1002), SESSION_FAULT_RESTART);
	ck_assert_int_eq(reasons_from_close(1013), SESSION_FAULT_OVERLOAD);
	ck_assert_int_eq(reasons_from_close(1011), SESSION_FAULT_SERVER);
	ck_assert_int_eq(reasons_from_close(1014), SESSION_FAULT_SERVER);
}
END_TEST

START_TEST(test_faults)
{
	for (unsigned f = SESSION_FAULT_NONE + 1; f <= SESSION_FAULT_CONFIG; f++) {
		const struct fault_reason *r = reasons_of_fault((enum session_fault)f);

		ck_assert_uint_gt(strlen(r->name), 1);
		ck_assert_uint_gt(strlen(r->advice), 5);
		ck_assert_str_ne(r->name, "none");
		/* A state that asks for action is one that is tried seldom. */
		ck_assert_int_eq(strcmp(r->state, "backoff") != 0, r->grown_ms != 0);
		for (unsigned g = SESSION_FAULT_NONE; g < f; g++)
			ck_assert_str_ne(r->name, reasons_of_fault((enum session_fault)g)->name);
	}
	ck_assert_str_eq(reasons_of_fault(SESSION_FAULT_AUTH)->state, "auth_failed");
	ck_assert_str_eq(reasons_of_fault(SESSION_FAULT_TLS)->state, "config_error");
	ck_assert_str_eq(reasons_of_fault(SESSION_FAULT_NOT_WEBSOCKET)->state, "backoff");
	ck_assert_str_eq(reasons_of_fault((enum session_fault)99)->name, "none");
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("reasons");
	Suite *suite = suite_create("reasons");

	tcase_add_loop_test(tc, test_text, 0, sizeof(texts) / sizeof(*texts));
	tcase_add_test(tc, test_rows);
	tcase_add_test(tc, test_documented);
	tcase_add_test(tc, test_no_text);
	tcase_add_test(tc, test_http);
	tcase_add_test(tc, test_close);
	tcase_add_test(tc, test_faults);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
