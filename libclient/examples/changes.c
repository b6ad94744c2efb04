/* SPDX-License-Identifier: MIT */
/* Prints the id of each row that comes into public.todos, or into the table named. */
#include <inttypes.h>
#include <rtbridge/rtbridge.h>
#include <stdio.h>

static void on_change(struct rtb_watch *watch, const struct rtb_change *change, void *user)
{
	int64_t id;
	char *title;

	(void)watch;
	(void)user;
	if (rtb_change_int(change, RTB_NEW, "id", &id) < 0)
		return; /* no such column, or the server may not show it: change->errors says why */
	printf("%s %s.%s %" PRId64, change->commit_timestamp, change->schema, change->table, id);
	if (rtb_change_text(change, RTB_NEW, "title", &title) == 0) {
		printf(" %s", title);
		rtb_free(title);
	}
	putchar('\n');
}

static void on_state(struct rtb_watch *watch, const struct rtb_watch_status *status, void *user)
{
	static const char *const words[] = { "waiting for changes", "changes flow", "refused" };

	(void)watch;
	(void)user;
	fprintf(stderr, "changes: %s%s%s\n", words[status->state], status->text[0] ? ": " : "",
		status->text);
}

int main(int argc, char **argv)
{
	struct rtb_watch_options options = RTB_WATCH_OPTIONS_INIT;
	struct rtb_client *client;
	struct rtb_watch *watch;
	int r;

	options.event = "INSERT";
	options.schema = "public";
	options.table = argc > 1 ? argv[1] : "todos";
	options.change = on_change;
	options.state = on_state;
	r = rtb_client_new(NULL, &client);
	if (r == 0)
		r = rtb_watch(client, &options, &watch);
	while (r >= 0) {
		fflush(stdout);
		r = rtb_wait(client, -1);
	}
	fprintf(stderr, "changes: %s\n", rtb_strerror(r));
	return 1;
}
