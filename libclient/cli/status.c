/* SPDX-License-Identifier: MIT */
/* `rtbridge status`: how the daemon is, on one screen or as one JSON object; `rtbridge channels`
 * and `rtbridge clients`: those parts of it alone. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { STATUS_WAIT_MS = 10000 };

static char part_channels[] = "channels", part_clients[] = "clients";

/* The first line is for scripts, too: state, since when, where to, name=value. */
static void print_head(struct mp v, const char *state)
{
	struct mp conn = mp_find(v, "connection"), link = mp_first(mp_find(v, "links"));
	int64_t rtt = mp_int(mp_find(link, "rtt_ms"), -1), next;
	struct mp last = mp_find(v, "last_disconnect"), http = mp_find(v, "http");
	char age[32], url[512], trouble[512], token[32];

	cli_put_plain(stdout, state);
	printf(" %s ", cli_age_of(conn, age, sizeof(age)));
	mp_text(mp_find(v, "url"), url, sizeof(url));
	cli_put_plain(stdout, url[0] ? url : "-");
	printf(" channels=%zu clients=%zu", mp_count(mp_find(v, "channels")),
	       mp_count(mp_find(v, "clients")));
	if (mp_count(mp_find(v, "postgres_changes")))
		printf(" bindings=%zu", mp_count(mp_find(v, "postgres_changes")));
	if (rtt >= 0)
		printf(" rtt=%lldms", (long long)rtt);
	/* The connection may be there, and nothing of the daemon's identity be joined. */
	mp_text(mp_find(mp_find(v, "token"), "state"), token, sizeof(token));
	if (token[0] && strcmp(token, "good") != 0) {
		printf(" token=");
		cli_put_plain(stdout, token);
	}
	putchar('\n');
	cli_print_trouble(conn);
	if (mp_find(v, "token").p)
		cli_print_token(mp_find(v, "token"), "  token ");
	mp_text(mp_find(http, "text"), trouble, sizeof(trouble));
	if (trouble[0]) {
		next = mp_int(mp_find(http, "next_try_ms"), 0);
		printf("  cannot send by HTTP: ");
		cli_put_plain(stdout, trouble);
		printf("; next try in %.1f s\n", (double)next / 1000);
	}
	if (last.p && cli_is_well(state)) {
		printf("  last disconnect %s ago", cli_age_of(last, age, sizeof(age)));
		cli_print_trouble(last);
		if (!mp_find(last, "reason").p)
			putchar('\n');
	}
}

static void cell_text(struct cli_table *t, struct mp map, const char *key)
{
	char buf[512];

	mp_text(mp_find(map, key), buf, sizeof(buf));
	cli_table_cell(t, "%s", buf[0] ? buf : "-");
}

static void cell_int(struct cli_table *t, struct mp map, const char *key)
{
	int64_t v = mp_int(mp_find(map, key), INT64_MIN);

	if (v != INT64_MIN)
		cli_table_cell(t, "%lld", (long long)v);
	else
		cli_table_cell(t, "-");
}

/* "ok, 5 there"; "-" when nobody here watches. */
static void cell_presence(struct cli_table *t, struct mp channel)
{
	struct mp n = mp_find(channel, "entries");
	char state[32];

	mp_text(mp_find(channel, "presence"), state, sizeof(state));
	if (n.p && strcmp(state, "ok") == 0)
		cli_table_cell(t, "ok, %lld there", (long long)mp_int(n, 0));
	else
		cli_table_cell(t, "%s", state[0] ? state : "-");
}

/* "2 of 3": not all that want to be are shown. */
static void cell_trackers(struct cli_table *t, struct mp channel)
{
	int64_t wanted = mp_int(mp_find(channel, "trackers"), -1);
	int64_t shown = mp_int(mp_find(channel, "shown"), wanted);

	if (wanted >= 0 && shown != wanted)
		cli_table_cell(t, "%lld of %lld", (long long)shown, (long long)wanted);
	else
		cell_int(t, channel, "trackers");
}

/* Why it is not well: "too_many: no connection has room; next try in 4.2 s". */
static void cell_reason(struct cli_table *t, struct mp map)
{
	int64_t next = mp_int(mp_find(map, "retry_in_ms"), -1);
	char code[64], text[512], when[48] = "";

	mp_text(mp_find(map, "code"), code, sizeof(code));
	mp_text(mp_find(map, "text"), text, sizeof(text));
	if (next >= 0)
		snprintf(when, sizeof(when), "%snext try in %.1f s", code[0] || text[0] ? "; " : "",
			 (double)next / 1000);
	cli_table_cell(t, "%s%s%s%s", code, code[0] && text[0] ? ": " : "", text, when);
}

static void head_cells(struct cli_table *t, const char *const *names)
{
	for (t->n_columns = 0; names[t->n_columns]; t->n_columns++)
		cli_table_cell(t, "%s", names[t->n_columns]);
}

/* Of the further ones; what is wrong with the shared one stands at the top. */
static void print_links_trouble(struct mp links)
{
	for (struct mp l = mp_first(links); l.p; l = mp_next(l)) {
		if (mp_int(mp_find(l, "link"), 0) == 0 || !mp_find(l, "text").p)
			continue;
		printf("  link %lld:", (long long)mp_int(mp_find(l, "link"), 0));
		cli_print_trouble(l);
	}
}

static void print_links(struct mp links)
{
	static const char *const names[] = { "LINK", "STATE", "SINCE", "JOINS",
					     "RTT",  "UID",   "WHY",   NULL };
	struct cli_table t = { 0 };
	char age[32];

	if (!mp_count(links))
		return;
	putchar('\n');
	head_cells(&t, names);
	for (struct mp l = mp_first(links); l.p; l = mp_next(l)) {
		cell_int(&t, l, "link");
		cell_text(&t, l, "state");
		cli_table_cell(&t, "%s", cli_age_of(l, age, sizeof(age)));
		cell_int(&t, l, "joins");
		cell_int(&t, l, "rtt_ms");
		cell_int(&t, l, "uid");
		cell_text(&t, l, "why");
	}
	cli_table_print(&t, stdout);
	print_links_trouble(links);
}

/* A column for what most need not know of: 0 is the daemon's own. */
static bool has_identities(struct mp array)
{
	for (struct mp v = mp_first(array); v.p; v = mp_next(v))
		if (mp_int(mp_find(v, "identity"), 0) != 0)
			return true;
	return false;
}

static void print_channels(struct mp channels)
{
	static const char *const names[] = { "CHAN",   "TOPIC",       "ACCESS",   "STATE",
					     "LINK",   "SUBSCRIBERS", "PRESENCE", "TRACKERS",
					     "QUEUED", "REASON",      NULL };
	static const char *const more[] = { "CHAN",     "TOPIC",  "ACCESS",      "IDENTITY",
					    "STATE",    "LINK",   "SUBSCRIBERS", "PRESENCE",
					    "TRACKERS", "QUEUED", "REASON",      NULL };
	bool has_more = has_identities(channels);
	struct cli_table t = { 0 };

	if (!mp_count(channels))
		return;
	head_cells(&t, has_more ? more : names);
	for (struct mp c = mp_first(channels); c.p; c = mp_next(c)) {
		cell_int(&t, c, "chan");
		cell_text(&t, c, "topic");
		cli_table_cell(&t, "%s", mp_bool(mp_find(c, "private")) ? "private" : "public");
		if (has_more)
			cell_int(&t, c, "identity");
		cell_text(&t, c, "state");
		cell_int(&t, c, "link");
		cell_int(&t, c, "subscribers");
		cell_presence(&t, c);
		cell_trackers(&t, c);
		cell_int(&t, c, "queued_sends");
		cell_reason(&t, c);
	}
	cli_table_print(&t, stdout);
}

/* "public.todos"; what is not said is all. */
static void cell_table(struct cli_table *t, struct mp binding)
{
	char schema[256], table[256];

	/* The daemon leaves out what is very long. */
	if (!binding.p) {
		cli_table_cell(t, "(too long to show)");
		return;
	}
	mp_text(mp_find(binding, "schema"), schema, sizeof(schema));
	mp_text(mp_find(binding, "table"), table, sizeof(table));
	cli_table_cell(t, "%s.%s", schema[0] ? schema : "*", table[0] ? table : "*");
}

static void cell_names(struct cli_table *t, struct mp names)
{
	char buf[512] = "-", one[256];
	const size_t most = sizeof(buf) - sizeof("," CLI_CUT);
	size_t n = 0;

	for (struct mp name = mp_first(names); name.p; name = mp_next(name)) {
		mp_text(name, one, sizeof(one));
		if (n + 1 + strlen(one) > most) {
			snprintf(buf + n, sizeof(buf) - n, "," CLI_CUT);
			break;
		}
		n += (size_t)snprintf(buf + n, sizeof(buf) - n, "%s%s", n > 0 ? "," : "", one);
	}
	cli_table_cell(t, "%s", buf);
}

static void print_bindings(struct mp bindings)
{
	static const char *const names[] = { "BINDING", "EVENT",  "TABLE", "FILTER",
					     "COLUMNS", "STATE",  "FEED",  "CLIENTS",
					     "ROWS",    "REASON", NULL };
	struct cli_table t = { 0 };

	if (!mp_count(bindings))
		return;
	putchar('\n');
	head_cells(&t, names);
	for (struct mp b = mp_first(bindings); b.p; b = mp_next(b)) {
		struct mp binding = mp_find(b, "binding");
		char event[32];

		mp_text(mp_find(binding, "event"), event, sizeof(event));
		cell_int(&t, b, "id");
		cli_table_cell(&t, "%s", event[0] ? event : binding.p ? "*" : "-");
		cell_table(&t, binding);
		cell_text(&t, binding, "filter");
		cell_names(&t, mp_find(binding, "select"));
		cell_text(&t, b, "state");
		cell_int(&t, b, "feed");
		cell_int(&t, b, "clients");
		cell_int(&t, b, "rows");
		cell_reason(&t, b);
	}
	cli_table_print(&t, stdout);
}

/* What carries the bindings. */
static void print_feeds(struct mp feeds, bool private_only)
{
	static const char *const names[] = { "FEED",     "LINK",  "STATE",  "CHAN",
					     "BINDINGS", "READY", "REASON", NULL };
	struct cli_table t = { 0 };

	if (private_only)
		printf("\ndatabase changes need private channels here ([upstream] private_only)\n");
	if (!mp_count(feeds))
		return;
	putchar('\n');
	head_cells(&t, names);
	for (struct mp f = mp_first(feeds); f.p; f = mp_next(f)) {
		cell_int(&t, f, "feed");
		cell_int(&t, f, "link");
		cell_text(&t, f, "state");
		cell_int(&t, f, "chan");
		cell_int(&t, f, "bindings");
		cli_table_cell(&t, "%s", mp_bool(mp_find(f, "ready")) ? "yes" : "no");
		cell_reason(&t, f);
	}
	cli_table_print(&t, stdout);
}

static void print_clients(struct mp clients)
{
	static const char *const names[] = { "SESSION", "UID",    "PID",          "NAME", "VERSION",
					     "TOPICS",  "TRACKS", "QUEUED_BYTES", NULL };
	struct cli_table t = { 0 };

	if (!mp_count(clients))
		return;
	head_cells(&t, names);
	for (struct mp c = mp_first(clients); c.p; c = mp_next(c)) {
		cell_int(&t, c, "session");
		cell_int(&t, c, "uid");
		cell_int(&t, c, "pid");
		cell_text(&t, c, "name");
		cell_text(&t, c, "version");
		cell_int(&t, c, "subscriptions");
		cell_int(&t, c, "trackers");
		cell_int(&t, c, "queued_bytes");
	}
	cli_table_print(&t, stdout);
}

static int print_json_status(const void *value, size_t size)
{
	char *json, error[128];
	int r = rtb_msgpack_to_json(value, size, &json, NULL, error, sizeof(error));

	if (r < 0 || json[0] != '{') {
		cli_error("cannot print the status: %s", r < 0 ? error : "it is no object");
		return CLI_ERROR;
	}
	printf("{\"type\":\"status\"%s%s\n", json[1] == '}' ? "" : ",", json + 1);
	rtb_free(json);
	return CLI_OK;
}

/* Whose tokens are in use beside the daemon's. */
static void print_identities(struct mp identities)
{
	static const char *const names[] = { "IDENTITY", "ROLE",     "STATE", "EXPIRES",
					     "CLIENTS",  "CHANNELS", NULL };
	struct cli_table t = { 0 };
	char until[64];

	if (!mp_count(identities))
		return;
	putchar('\n');
	head_cells(&t, names);
	for (struct mp i = mp_first(identities); i.p; i = mp_next(i)) {
		cell_int(&t, i, "identity");
		cell_text(&t, i, "role");
		cell_text(&t, i, "state");
		cli_format_until(mp_int(mp_find(i, "expires"), -1), until, sizeof(until));
		cli_table_cell(&t, "%s", until);
		cell_int(&t, i, "clients");
		cell_int(&t, i, "channels");
	}
	cli_table_print(&t, stdout);
}

static void print_all(struct mp v, const char *state)
{
	print_head(v, state);
	print_links(mp_find(v, "links"));
	if (mp_count(mp_find(v, "channels")))
		putchar('\n');
	print_channels(mp_find(v, "channels"));
	print_identities(mp_find(v, "identities"));
	print_bindings(mp_find(v, "postgres_changes"));
	print_feeds(mp_find(v, "feeds"), mp_bool(mp_find(v, "private_only")));
	if (mp_count(mp_find(v, "clients")))
		putchar('\n');
	print_clients(mp_find(v, "clients"));
	if (mp_find(v, "admin").p && !mp_bool(mp_find(v, "admin")))
		printf("\nonly what this user may know of; the right admin of the daemon's access "
		       "rules shows all\n");
}

/* The value of one member; NULL: all of it. */
static int print_json(struct mp v, const char *part)
{
	char *json, error[128];
	int r;

	if (!part)
		return print_json_status(v.p, v.size);
	v = mp_alone(mp_find(v, part));
	r = rtb_msgpack_to_json(v.p, v.size, &json, NULL, error, sizeof(error));
	if (r < 0) {
		cli_error("cannot print the %s: %s", part, v.p ? error : "the daemon told none");
		return CLI_ERROR;
	}
	printf("{\"type\":\"%s\",\"%s\":%s}\n", part, part, json);
	rtb_free(json);
	return CLI_OK;
}

static void on_status(struct rtb_client *c, int error, const char *error_text, const void *value,
		      size_t size, void *user)
{
	struct mp v = { value, size };
	struct cli *cli = user;
	char state[32];
	int code = CLI_OK;

	(void)c;
	if (error < 0) {
		cli_error("cannot ask the daemon: %s", error_text);
		cli_finish(cli, CLI_ERROR);
		return;
	}
	mp_text(mp_find(mp_find(v, "connection"), "state"), state, sizeof(state));
	if (cli->json)
		code = print_json(v, cli->verb);
	else if (!cli->verb)
		print_all(v, state);
	else if (strcmp(cli->verb, part_channels) == 0)
		print_channels(mp_find(v, cli->verb));
	else
		print_clients(mp_find(v, cli->verb));
	cli_finish(cli, code != CLI_OK ? code : cli_is_well(state) ? CLI_OK : CLI_OFFLINE);
}

/* `part` NULL: all. */
static int run(struct cli *cli, char *part)
{
	cli->verb = part;
	return cli_ask(cli, rtb_status, on_status, STATUS_WAIT_MS);
}

int cli_status(struct cli *cli)
{
	return run(cli, NULL);
}

int cli_channels(struct cli *cli)
{
	return run(cli, part_channels);
}

int cli_clients(struct cli *cli)
{
	return run(cli, part_clients);
}
