/* SPDX-License-Identifier: MIT */
/* Notices: the daemon or the server went away, messages were missed, and when that is over. */
#include <string.h>
#include <time.h>

#include "cli.h"

static void notice_plain(const char *type, const char *topic, const char *state, const char *code,
			 const char *text, int64_t retry_ms)
{
	fflush(stdout);
	cli_put_time(stderr);
	fprintf(stderr, "-- %s ", type);
	if (*topic) {
		cli_put_plain(stderr, topic);
		fputc(' ', stderr);
	}
	fputs(state, stderr);
	if (*code || *text) {
		fputs(": ", stderr);
		cli_put_plain(stderr, *text ? text : code);
	}
	if (retry_ms >= 0)
		fprintf(stderr, "; next try in %.1f s", (double)retry_ms / 1000);
	fputc('\n', stderr);
}

void cli_notice(const struct cli *cli, const char *type, const char *topic, const char *state,
		const char *code, const char *text, int64_t retry_ms)
{
	if (!cli->notices_in_json) {
		notice_plain(type, topic, state, code, text, retry_ms);
		return;
	}
	printf("{\"type\":\"%s\"", type);
	cli_put_json_field(stdout, "topic", topic);
	cli_put_json_field(stdout, "state", state);
	cli_put_json_field(stdout, "code", code);
	cli_put_json_field(stdout, "text", text);
	if (retry_ms >= 0)
		printf(",\"retry_in_ms\":%lld", (long long)retry_ms);
	printf("}\n");
}

void cli_notice_state(struct cli *cli, enum rtb_state state, int why)
{
	bool is_detached = state != RTB_ATTACHED;

	/* One line when it goes, one when it is back; the attempts between only with -v. */
	if (cli->verbose || is_detached != cli->is_detached)
		cli_notice(cli, "state", "", is_detached ? "attaching" : "attached", "",
			   why ? rtb_client_error_text(cli->client) : "", -1);
	cli->is_detached = is_detached;
}

void cli_notice_connection(struct cli *cli, const struct rtb_connection *conn)
{
	bool is_well = strcmp(conn->state, "online") == 0 || strcmp(conn->state, "idle") == 0;
	bool is_bad = !is_well && strcmp(conn->state, "connecting") != 0;

	if (cli->verbose || is_bad || (is_well && cli->is_upstream_troubled))
		cli_notice(cli, "connection", "", conn->state, conn->reason, conn->text,
			   conn->next_try_ms);
	cli->is_upstream_troubled = is_bad || (cli->is_upstream_troubled && !is_well);
}

static void put_clock(FILE *f, int64_t unix_ms)
{
	time_t s = (time_t)(unix_ms / 1000);
	char text[16] = "?";
	struct tm tm;

	if (localtime_r(&s, &tm))
		(void)strftime(text, sizeof(text), "%H:%M:%S", &tm);
	fputs(text, f);
}

/* Nobody has asked for a gap: it is trouble, and told always. */
void cli_notice_gap(const struct cli *cli, const struct rtb_gap *gap)
{
	if (cli->notices_in_json) {
		printf("{\"type\":\"gap\"");
		cli_put_json_field(stdout, "topic", gap->topic);
		printf(",\"from\":%lld,\"to\":%lld", (long long)gap->from_unix_ms,
		       (long long)gap->to_unix_ms);
		cli_put_json_field(stdout, "cause", gap->cause);
		printf("}\n");
		return;
	}
	fflush(stdout);
	cli_put_time(stderr);
	fputs("-- gap ", stderr);
	cli_put_plain(stderr, gap->topic);
	fputs(": messages may have been missed from ", stderr);
	put_clock(stderr, gap->from_unix_ms);
	fputs(" to ", stderr);
	put_clock(stderr, gap->to_unix_ms);
	if (*gap->cause) {
		fputs(" (", stderr);
		cli_put_plain(stderr, gap->cause);
		fputc(')', stderr);
	}
	fputc('\n', stderr);
}

/* Only what the server's policies decide is worth a look at them; a limit, for one, is ours. */
int cli_tell_rejected(const struct rtb_channel *ch)
{
	const char *advice = "";
	int code = CLI_REFUSED;

	if (strcmp(ch->code, "rejected") == 0 || strcmp(ch->code, "unauthorized") == 0) {
		advice = "; see the policies of the project";
		code = CLI_DENIED;
	} else if (strcmp(ch->code, "private_only") == 0) {
		advice = "; see --private";
		code = CLI_DENIED;
	}
	cli_error("cannot join %s: %s (%s)%s", ch->topic, ch->text, ch->code, advice);
	return code;
}
