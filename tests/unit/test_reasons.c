/* SPDX-License-Identifier: MIT */
/* What the server's texts and codes mean: daemon/realtime/reasons.h. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/reasons.h"

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
	/* What needs a change waits for it; all the rest comes again by itself. */
	switch (r->class) {
	case REASON_PERMANENT:
	case REASON_AUTH:
	case REASON_PRIVATE_ONLY:
	case REASON_TOO_MANY_CHANNELS:
		ck_assert_int_eq(r->retry_ms, REASON_NEVER);
		break;
	case REASON_JOIN_RATE:
	case REASON_RATE:
	case REASON_TOO_MANY_USERS:
		ck_assert_int_eq(r->retry_ms, 60000);
		break;
	default:
		ck_assert_int_ge(r->retry_ms, 1000);
		break;
	}
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
	ck_assert_int_eq(reasons_from_close(1009), SESSION_FAULT_CLOSED);
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
	SRunner *runner;
	int n;

	tcase_add_loop_test(tc, test_text, 0, sizeof(texts) / sizeof(*texts));
	tcase_add_test(tc, test_no_text);
	tcase_add_test(tc, test_http);
	tcase_add_test(tc, test_close);
	tcase_add_test(tc, test_faults);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n ? EXIT_FAILURE : EXIT_SUCCESS;
}
