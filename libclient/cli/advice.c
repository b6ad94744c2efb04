/* SPDX-License-Identifier: MIT */
/* What is refused, and what to do about it. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "cli.h"

static const char policies[] = "see the policies of the project";

/* Words of the server or the daemon. */
static const struct refusal {
	const char *code, *advice;
	int exit_code;
} refusals[] = {
	{ "rejected", policies, CLI_DENIED },
	{ "unauthorized", policies, CLI_DENIED },
	{ "forbidden", "see the access rules ([access]) in the daemon's configuration",
	  CLI_DENIED },
	{ "bad_token", "see --token-file", CLI_DENIED },
	{ "private_only", "see --private", CLI_DENIED },
	{ "topic_required", "see --private", CLI_DENIED },
	{ "binding_refused",
	  "is the table in the publication supabase_realtime, are the columns there, and does the "
	  "value of the filter fit its column?",
	  CLI_DENIED },
	{ "bad_filter", "a filter is column=operator.value, like prio=gt.3", CLI_DENIED },
	{ "bad_select", "--select needs columns of one table, by its name", CLI_DENIED },
	{ "bad_binding", "see `rtbridge sub --help`", CLI_DENIED },
	{ "join_budget",
	  "with one more connection ([limits] links in the daemon's configuration) it would be "
	  "tried apart, at once",
	  CLI_REFUSED },
};

static const struct refusal *find_refusal(const char *code)
{
	const char *known = cli_is_token_code(code) ? "bad_token" : code;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++)
		if (strcmp(known, refusals[i].code) == 0)
			return &refusals[i];
	return NULL;
}

int cli_exit_of(const char *code)
{
	const struct refusal *refusal = find_refusal(code);

	return refusal ? refusal->exit_code : CLI_REFUSED;
}

/* Return: into `buf`, or static. */
static const char *token_advice(const struct cli *cli, const char *code, char *buf, size_t size)
{
	if (cli->token_file)
		(void)snprintf(buf, size, "put another token into %s", cli->token_file);
	else if (strcmp(code, "bad_token") != 0)
		return "without --token-file that is the daemon's own token or key, for who runs "
		       "the "
		       "daemon to replace: see `rtbridge status`, `rtbridged --check`";
	else
		return "see --token-file";
	return buf;
}

const char *cli_advice(const struct cli *cli, const char *code, const char *text, char *buf,
		       size_t size)
{
	const struct refusal *refusal = find_refusal(code);
	const char *words = refusal ? refusal->advice : NULL;
	char token[512];

	if (cli_is_token_code(code))
		words = token_advice(cli, code, token, sizeof(token));
	/* The access rules ask for a token (identity = own), and there is none. */
	else if (strcmp(code, "forbidden") == 0 && !cli->token_file &&
		 strstr(text, "a token of its own"))
		words = "give one by --token-file FILE or $RTBRIDGE_TOKEN_FILE";
	(void)snprintf(buf, size, "%s%s", words ? "; " : "", words ? words : "");
	return buf;
}

int cli_tell_rejected(const struct cli *cli, const struct rtb_channel *ch)
{
	char advice[CLI_ADVICE];

	cli_error("cannot join %s: %s (%s)%s", ch->topic, ch->text, ch->code,
		  cli_advice(cli, ch->code, ch->text, advice, sizeof(advice)));
	return cli_exit_of(ch->code);
}

void cli_tell_refused(const struct cli *cli, const char *pg, const struct rtb_watch_status *status)
{
	char advice[CLI_ADVICE];

	(void)cli_advice(cli, status->code, status->text, advice, sizeof(advice));
	if (strcmp(status->code, "private_only") == 0 ||
	    strcmp(status->code, "topic_required") == 0)
		(void)strcpy(advice, "; the project needs one TOPIC that the token may read, with "
				     "--private");
	cli_error("cannot watch %s: %s (%s)%s", pg, status->text, status->code, advice);
}

/* ---- the socket ---- */

/* "user root", or a number that has no name. */
static void name_owner(const char *what, unsigned id, const char *name, char *buf, size_t size)
{
	if (name)
		(void)snprintf(buf, size, "%s %s", what, name);
	else
		(void)snprintf(buf, size, "%s %u", what, id);
}

static void tell_who(const char *text, const struct stat *st)
{
	bool user = st->st_mode & S_IWUSR, group = st->st_mode & S_IWGRP;
	const struct passwd *pw = getpwuid(st->st_uid);
	const struct group *gr = getgrgid(st->st_gid);
	char u[80], g[80];

	name_owner("user", (unsigned)st->st_uid, pw ? pw->pw_name : NULL, u, sizeof(u));
	name_owner("group", (unsigned)st->st_gid, gr ? gr->gr_name : NULL, g, sizeof(g));
	cli_error("cannot reach the daemon: %s; its mode %04o lets %s%s%s connect%s ([socket] mode "
		  "and group in the daemon's configuration)",
		  text, (unsigned)(st->st_mode & 07777),
		  user    ? u
		  : group ? ""
			  : "nobody",
		  user && group ? " and " : "", group ? g : "",
		  group  ? ": become a member, and log in anew"
		  : user ? " alone"
			 : "");
}

void cli_tell_no_access(const struct cli *cli)
{
	const char *text = rtb_client_error_text(cli->client);
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct stat st;

	if (cli->socket)
		(void)snprintf(path, sizeof(path), "%s", cli->socket);
	else if (rtb_default_socket(path, sizeof(path)) < 0)
		path[0] = '\0';
	if (stat(path, &st) < 0)
		cli_error("cannot reach the daemon: %s%s", text,
			  errno == EACCES ? "; a directory on the way to it is closed to this user"
					  : "");
	else if (st.st_mode & S_IWOTH) /* something else than its mode */
		cli_error("cannot reach the daemon: %s", text);
	else
		tell_who(text, &st);
}
