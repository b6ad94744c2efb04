/* SPDX-License-Identifier: MIT */
/*
 * Why a topic is not there yet.
 *
 * Who waits for a channel hears nothing until it is joined or refused; the daemon's status knows
 * why. It is asked once, after a while in which waiting is no news.
 */
#include <string.h>

#include "cli.h"

void cli_waiting_start(struct cli_waiting *w, struct cli *cli, const char *topic, int64_t after_ms)
{
	int64_t now = cli_now_ms();

	/* In time for who will not wait that long. */
	if (cli->end_ms >= 0 && (cli->end_ms - now) / 2 < after_ms)
		after_ms = (cli->end_ms - now) / 2;
	*w = (struct cli_waiting){
		.cli = cli, .topic = topic, .at_ms = now + after_ms, .retry_at_ms = -1
	};
}

void cli_waiting_end(struct cli_waiting *w)
{
	w->at_ms = -1;
	w->is_over = true;
}

int64_t cli_waiting_retry_ms(const struct cli_waiting *w)
{
	int64_t left = w->retry_at_ms - cli_now_ms();

	return w->retry_at_ms < 0 || left < 0 ? -1 : left;
}

static bool is_joined(const char *state)
{
	return strcmp(state, "joined") == 0 || strcmp(state, "ready") == 0;
}

/* Ours; of several identities the one that is not joined. */
static struct mp find_channel(const struct cli_waiting *w, struct mp status)
{
	struct mp channel = mp_first(mp_find(status, "channels"));
	char topic[256], state[32];

	for (; channel.p; channel = mp_next(channel)) {
		mp_text(mp_find(channel, "topic"), topic, sizeof(topic));
		mp_text(mp_find(channel, "state"), state, sizeof(state));
		if (strcmp(topic, w->topic) == 0 && !is_joined(state) &&
		    mp_bool(mp_find(channel, "private")) == w->cli->is_private)
			break;
	}
	return channel;
}

/* HTTP needs no connection; one that is in trouble says why that does not get through either. */
static bool is_in_trouble(const char *state)
{
	return strcmp(state, "online") != 0 && strcmp(state, "idle") != 0 &&
	       strcmp(state, "connecting") != 0;
}

static void tell(const struct cli_waiting *w, bool is_joining, int64_t retry_in_ms)
{
	char advice[CLI_ADVICE], code[40] = "", when[CLI_WHEN];

	if (w->code[0])
		(void)snprintf(code, sizeof(code), " (%s)", w->code);
	(void)cli_advice(w->cli, w->code, w->text, advice, sizeof(advice));
	cli_error("%s is not %s yet: %s%s%s%s", is_joining ? w->topic : "the message",
		  is_joining ? "joined" : "sent", w->text, code,
		  cli_when("next try in", retry_in_ms, when, sizeof(when)),
		  advice[0] ? advice : "; see `rtbridge status`");
}

static void on_status(struct rtb_client *c, int error, const char *error_text, const void *value,
		      size_t size, void *user)
{
	struct mp status = { value, size }, connection, channel;
	struct cli_waiting *w = user;
	char state[32], reason[512];
	int64_t retry;

	(void)c;
	(void)error_text;
	if (error || w->is_over || w->cli->is_done)
		return;
	connection = mp_find(status, "connection");
	mp_text(mp_find(connection, "state"), state, sizeof(state));
	channel = w->only_posts ? (struct mp){ NULL, 0 } : find_channel(w, status);
	if (!channel.p && w->may_post && !is_in_trouble(state))
		return;
	if (strcmp(state, "online") != 0) {
		mp_text(mp_find(connection, "text"), reason, sizeof(reason));
		(void)snprintf(w->text, sizeof(w->text),
			       "the daemon's connection to the server is %s%s%s", state,
			       reason[0] ? ": " : "", reason);
		retry = mp_int(mp_find(connection, "next_try_ms"), -1);
	} else if (channel.p) {
		mp_text(mp_find(channel, "code"), w->code, sizeof(w->code));
		mp_text(mp_find(channel, "text"), w->text, sizeof(w->text));
		retry = mp_int(mp_find(channel, "retry_in_ms"), -1);
	} else {
		return; /* joined, or none that this user may know of */
	}
	if (!w->text[0])
		(void)snprintf(w->text, sizeof(w->text), "%s",
			       w->code[0] ? w->code : "the server has not answered");
	w->retry_at_ms = retry < 0 ? -1 : cli_now_ms() + retry;
	tell(w, channel.p || !w->may_post, retry);
}

int64_t cli_waiting_look(struct cli_waiting *w)
{
	int64_t id;

	if (w->at_ms < 0 || w->at_ms > cli_now_ms() || !w->cli->client)
		return w->at_ms;
	id = rtb_status(w->cli->client, on_status, w);
	/* Not attached, for one, which has been told. */
	w->at_ms = id < 0 ? cli_now_ms() + CLI_WAITING_MS : -1;
	return w->at_ms;
}
