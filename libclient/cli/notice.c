/* SPDX-License-Identifier: MIT */
/* Notices: the daemon or the server went away, messages were missed, and when that is over. */
#include <string.h>
#include <time.h>

#include "cli.h"

static void notice_plain(const struct cli_notice *n)
{
	fflush(stdout);
	cli_put_time(stderr);
	fprintf(stderr, "-- %s ", n->type);
	if (n->topic || n->pg) {
		cli_put_plain(stderr, n->topic ? n->topic : n->pg);
		fputc(' ', stderr);
	}
	fputs(n->state, stderr);
	if (*n->code || *n->text) {
		fputs(": ", stderr);
		cli_put_plain(stderr, *n->text ? n->text : n->code);
	}
	if (n->retry_in_ms >= 0)
		fprintf(stderr, "; next try in %.1f s", (double)n->retry_in_ms / 1000);
	fputc('\n', stderr);
}

static void put_about(const char *topic, const char *pg)
{
	if (topic)
		cli_put_json_field(stdout, "topic", topic);
	if (pg)
		cli_put_json_field(stdout, "pg", pg);
}

void cli_notice(const struct cli *cli, const struct cli_notice *n)
{
	if (!cli->notices_in_json) {
		notice_plain(n);
		return;
	}
	printf("{\"type\":\"%s\"", n->type);
	put_about(n->topic, n->pg);
	cli_put_json_field(stdout, "state", n->state);
	cli_put_json_field(stdout, "code", n->code);
	cli_put_json_field(stdout, "text", n->text);
	if (n->retry_in_ms >= 0)
		printf(",\"retry_in_ms\":%lld", (long long)n->retry_in_ms);
	printf("}\n");
}

void cli_notice_state(struct cli *cli, enum rtb_state state, int why)
{
	bool is_detached = state != RTB_ATTACHED;

	/* One line when it goes, one when it is back; the attempts between only with -v. */
	if (cli->verbose || is_detached != cli->is_detached)
		cli_notice(cli, &(struct cli_notice){
					.type = "state",
					.state = is_detached ? "attaching" : "attached",
					.code = "",
					.text = why ? rtb_client_error_text(cli->client) : "",
					.retry_in_ms = -1 });
	cli->is_detached = is_detached;
}

void cli_notice_connection(struct cli *cli, const struct rtb_connection *conn)
{
	bool is_well = strcmp(conn->state, "online") == 0 || strcmp(conn->state, "idle") == 0;
	bool is_bad = !is_well && strcmp(conn->state, "connecting") != 0;

	if (cli->verbose || is_bad || (is_well && cli->is_upstream_troubled))
		cli_notice(cli, &(struct cli_notice){ .type = "connection",
						      .state = conn->state,
						      .code = conn->reason,
						      .text = conn->text,
						      .retry_in_ms = conn->next_try_ms });
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
void cli_notice_gap(const struct cli *cli, const struct rtb_gap *gap, const char *pg)
{
	if (cli->notices_in_json) {
		printf("{\"type\":\"gap\"");
		put_about(pg ? NULL : gap->topic, pg);
		printf(",\"from\":%lld,\"to\":%lld", (long long)gap->from_unix_ms,
		       (long long)gap->to_unix_ms);
		cli_put_json_field(stdout, "cause", gap->cause);
		printf("}\n");
		return;
	}
	fflush(stdout);
	cli_put_time(stderr);
	fputs("-- gap ", stderr);
	cli_put_plain(stderr, pg ? pg : gap->topic);
	fprintf(stderr, ": %s may have been missed from ", pg ? "changes" : "messages");
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
	} else if (strcmp(ch->code, "forbidden") == 0) {
		advice = "; see the access rules of the daemon";
		code = CLI_DENIED;
	} else if (cli_is_token_code(ch->code)) {
		advice = "; see --token-file";
		code = CLI_DENIED;
	} else if (strcmp(ch->code, "private_only") == 0) {
		advice = "; see --private";
		code = CLI_DENIED;
	}
	cli_error("cannot join %s: %s (%s)%s", ch->topic, ch->text, ch->code, advice);
	return code;
}

/* Words of the server about a --pg, and what to do. */
static const struct refusal {
	const char *code, *advice;
} refusals[] = {
	{ "binding_refused", "is the table in the publication supabase_realtime, are the columns "
			     "there, and does the value of the filter fit its column?" },
	{ "bad_filter", "a filter is column=operator.value, like prio=gt.3" },
	{ "bad_select", "--select needs columns of one table, by its name" },
	{ "bad_binding", "see `rtbridge sub --help`" },
	{ "rejected", "see the policies of the project" },
	{ "unauthorized", "see the policies of the project" },
	{ "forbidden", "see the access rules of the daemon" },
	{ "bad_token", "see --token-file" },
	{ "private_only", "the project needs one TOPIC that the token may read, with --private" },
	{ "topic_required", "the project needs one TOPIC that the token may read, with --private" },
};

static const struct refusal *find_refusal(const struct rtb_watch_status *status)
{
	const char *code = cli_is_token_code(status->code) ? "bad_token" : status->code;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++)
		if (strcmp(code, refusals[i].code) == 0)
			return &refusals[i];
	return NULL;
}

void cli_tell_refused(const char *pg, const struct rtb_watch_status *status)
{
	const struct refusal *refusal = find_refusal(status);

	cli_error("cannot watch %s: %s (%s)%s%s", pg, status->text, status->code,
		  refusal ? "; " : "", refusal ? refusal->advice : "");
}

int cli_refused_code(const struct rtb_watch_status *status)
{
	return find_refusal(status) ? CLI_DENIED : CLI_REFUSED;
}
