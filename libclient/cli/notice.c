/* SPDX-License-Identifier: MIT */
/* Notices: the daemon or the server went away, messages were missed, and when that is over. */
#include <string.h>
#include <time.h>

#include "cli.h"

const char *cli_when(const char *what, int64_t ms, char *buf, size_t size)
{
	buf[0] = '\0';
	if (ms >= 0)
		(void)snprintf(buf, size, "; %s %.1f s", what, (double)ms / 1000);
	return buf;
}

static void notice_plain(const struct cli_notice *n)
{
	char when[CLI_WHEN];

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
	fputs(cli_when("next try in", n->retry_in_ms, when, sizeof(when)), stderr);
	if (n->advice)
		cli_put_plain(stderr, n->advice);
	fputc('\n', stderr);
}

static void put_about(const char *topic, const char *pg)
{
	if (topic)
		cli_put_json_field(stdout, "topic", topic);
	if (pg)
		cli_put_json_field(stdout, "pg", pg);
}

static void tell_advice(const struct cli_notice *n)
{
	char when[CLI_WHEN];

	cli_error("%s %s: %s (%s)%s%s", n->topic ? n->topic : n->pg, n->state, n->text, n->code,
		  cli_when("next try in", n->retry_in_ms, when, sizeof(when)), n->advice);
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
	if (n->advice && *n->advice)
		tell_advice(n);
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

static const char *const stored_names[] = {
	[RTB_STORED_NONE] = "none",
	[RTB_STORED_REPLAYED] = "replayed",
	[RTB_STORED_TRUNCATED] = "truncated",
};

static void put_stored(enum rtb_stored stored, uint64_t n)
{
	printf(",\"stored\":\"%s\",\"n\":%llu", stored_names[stored], (unsigned long long)n);
}

void cli_notice_replay(const struct cli *cli, const struct rtb_replay *replay)
{
	if (cli->notices_in_json) {
		printf("{\"type\":\"replay\"");
		put_about(replay->topic, NULL);
		put_stored(replay->stored, replay->n);
		cli_put_json_field(stdout, "text", replay->text);
		printf("}\n");
		return;
	}
	fflush(stdout);
	cli_put_time(stderr);
	fputs("-- replay ", stderr);
	cli_put_plain(stderr, replay->topic);
	fprintf(stderr, ": %llu stored messages", (unsigned long long)replay->n);
	if (replay->stored == RTB_STORED_TRUNCATED)
		fputs("; older ones may be missing", stderr);
	else if (replay->stored == RTB_STORED_NONE)
		fputs(", it could not be done: ", stderr);
	cli_put_plain(stderr, replay->text);
	fputc('\n', stderr);
}

void cli_notice_system(const struct cli *cli, const struct rtb_system *notice)
{
	if (cli->notices_in_json) {
		printf("{\"type\":\"system\"");
		put_about(notice->topic, NULL);
		cli_put_json_field(stdout, "extension", notice->extension);
		cli_put_json_field(stdout, "status", notice->status);
		cli_put_json_field(stdout, "text", notice->text);
		printf("}\n");
		return;
	}
	fflush(stdout);
	cli_put_time(stderr);
	fputs("-- system ", stderr);
	cli_put_plain(stderr, notice->topic);
	fputc(' ', stderr);
	cli_put_plain(stderr, notice->extension);
	fputs(*notice->extension ? " " : "", stderr);
	cli_put_plain(stderr, notice->status);
	fputs(*notice->text ? ": " : "", stderr);
	cli_put_plain(stderr, notice->text);
	fputc('\n', stderr);
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
		if (gap->stored != RTB_STORED_NONE)
			put_stored(gap->stored, gap->n);
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
	if (gap->stored != RTB_STORED_NONE)
		fprintf(stderr, "; %s of those that are stored follow",
			gap->stored == RTB_STORED_REPLAYED ? "all" : "the newest");
	fputc('\n', stderr);
}
