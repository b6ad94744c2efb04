/* SPDX-License-Identifier: MIT */
/* Who is there: entries and changes, as JSON Lines and for people. */
#include "cli.h"

static const char *const event_names[] = {
	[RTB_PRESENCE_SYNC] = "sync",
	[RTB_PRESENCE_JOIN] = "join",
	[RTB_PRESENCE_LEAVE] = "leave",
	[RTB_PRESENCE_UPDATE] = "update",
};

static void put_fields(const struct rtb_presence_entry *entry)
{
	printf("\"key\":");
	cli_put_json_text(stdout, entry->key);
	printf(",\"ref\":");
	cli_put_json_text(stdout, entry->ref);
	cli_put_value("state", entry->state, entry->state_size);
}

void cli_put_entry(const struct rtb_presence_entry *entry)
{
	putchar('{');
	put_fields(entry);
	putchar('}');
}

static void put_json(const struct rtb_sub *sub, const struct rtb_presence *change)
{
	const struct rtb_presence_entry *e = NULL;
	const char *comma = "";

	printf("{\"type\":\"presence\",\"topic\":");
	cli_put_json_text(stdout, change->topic);
	printf(",\"event\":\"%s\",", event_names[change->event]);
	if (change->entry) {
		put_fields(change->entry);
	} else {
		printf("\"entries\":[");
		for (; (e = rtb_presence_next(sub, e)); comma = ",") {
			fputs(comma, stdout);
			cli_put_entry(e);
		}
		putchar(']');
	}
	if (change->previous)
		cli_put_value("previous", change->previous->state, change->previous->state_size);
	printf("}\n");
}

static void put_lead(const char *topic, const char *word)
{
	cli_put_time(stdout);
	cli_put_plain(stdout, topic);
	printf(" [%s] ", word);
}

static void put_who(const struct rtb_presence_entry *entry)
{
	cli_put_plain(stdout, entry->key[0] ? entry->key : "-");
	putchar(' ');
	cli_put_value_plain(entry->state, entry->state_size);
}

static void put_plain(const struct rtb_sub *sub, const struct rtb_presence *change)
{
	const struct rtb_presence_entry *e = NULL;

	put_lead(change->topic, event_names[change->event]);
	if (!change->entry) {
		printf("%zu there\n", rtb_presence_count(sub));
		while ((e = rtb_presence_next(sub, e))) {
			put_lead(change->topic, "there");
			put_who(e);
			putchar('\n');
		}
		return;
	}
	put_who(change->entry);
	if (change->previous) {
		printf(", was ");
		cli_put_value_plain(change->previous->state, change->previous->state_size);
	}
	putchar('\n');
}

void cli_put_presence(const struct rtb_sub *sub, const struct rtb_presence *change, bool json)
{
	if (json)
		put_json(sub, change);
	else
		put_plain(sub, change);
}
