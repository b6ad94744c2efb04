/* SPDX-License-Identifier: MIT */
/*
 * send_http: broadcasts by HTTP, where no join is needed.
 *
 *     chan's queue --posts_run()--> one request (batch of maps, or one bin) --> ops->post
 *         ^                               |
 *         |  not one byte of it left,     | hub_on_answered(): an outcome for each
 *         +--or refused as a batch--------+
 *
 * A channel has one request on its way at a time, so that its messages stay in order; what comes
 * meanwhile goes together in the next one. Channels take turns; one user's requests take half of
 * the places at most.
 *
 * The server delivers to every join, ours too, and filters nothing. So what is sent is remembered
 * until it comes back (an echo): the sender gets it only if it wants its own messages.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mix.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

static struct send_queue *queue_of(struct chan *ch)
{
	return &ch->sends.ways[SEND_HTTP];
}

/* ---- what comes back ---- */

static uint64_t hash_bin(const struct hub *hub, struct rtbp_str event, struct rtbp_val payload)
{
	struct rtbp_str bin = { NULL, 0 };

	(void)rtbp_get_bin(payload, &bin);
	return mix_bytes(mix_bytes(hub->row_seed, event.p, event.size), bin.p, bin.size);
}

static bool is_bin(const struct send *s)
{
	return rtbp_is(s->news.payload, RTBP_BIN);
}

static uint64_t hash_send(const struct send *s)
{
	const struct hub *hub = s->chan->hub;

	return is_bin(s) ? hash_bin(hub, s->news.event, s->news.payload)
			 : news_hash_id(hub, (struct rtbp_str){ s->name, strlen(s->name) });
}

static void echo_free(struct chan *ch, struct echo *e)
{
	TAILQ_REMOVE(&ch->sends.echoes, e, entry);
	ch->sends.n_echoes--;
	free(e);
}

static void echoes_trim(struct chan *ch)
{
	struct echo *e;

	while ((e = TAILQ_FIRST(&ch->sends.echoes)) &&
	       (e->until_ms <= hub_now(ch->hub) || ch->sends.n_echoes > ECHOES_MAX))
		echo_free(ch, e);
}

static void echo_expect(const struct send *s)
{
	struct chan *ch = s->chan;
	struct echo *e = calloc(1, sizeof(*e));

	if (!e)
		return; /* its sender gets it back, for once */
	e->hash = hash_send(s);
	e->has_id = !is_bin(s);
	e->sender = s->news.sender;
	e->until_ms = hub_now(ch->hub) + ECHO_MS;
	TAILQ_INSERT_TAIL(&ch->sends.echoes, e, entry);
	ch->sends.n_echoes++;
	echoes_trim(ch);
}

/* It has not been sent, or was refused: what looks like it comes from somebody else. */
static void echo_unexpect(const struct send *s)
{
	uint64_t hash = hash_send(s);
	struct echo *e;

	TAILQ_FOREACH_REVERSE(e, &s->chan->sends.echoes, echo_list, entry)
	{
		if (e->hash == hash && e->sender == s->news.sender && e->has_id == !is_bin(s)) {
			echo_free(s->chan, e);
			return;
		}
	}
}

uint64_t posts_sender(struct chan *ch, struct rtbp_val meta, struct rtbp_str event,
		      struct rtbp_val payload)
{
	uint64_t hash, sender;
	struct rtbp_str id;
	struct echo *e;
	bool has_id;

	echoes_trim(ch);
	if (TAILQ_EMPTY(&ch->sends.echoes))
		return 0;
	has_id = rtbp_get_str(rtbp_find(meta, "id", 2), &id);
	if (!has_id && !rtbp_is(payload, RTBP_BIN))
		return 0;
	hash = has_id ? news_hash_id(ch->hub, id) : hash_bin(ch->hub, event, payload);
	TAILQ_FOREACH(e, &ch->sends.echoes, entry) {
		if (e->hash == hash && e->has_id == has_id)
			break;
	}
	if (!e)
		return 0;
	sender = e->sender;
	echo_free(ch, e);
	return sender;
}

/* ---- which channel is next ---- */

/* The turn that it makes is what is wanted. */
static void post_timer_due(void *ctx)
{
	hub_wake(ctx);
}

void posts_init(struct hub *hub)
{
	TAILQ_INIT(&hub->posts_waiting);
	timer_init(&hub->post_timer, post_timer_due, hub);
}

static void wait_no_more(struct chan *ch)
{
	if (!ch->sends.waits_to_post)
		return;
	TAILQ_REMOVE(&ch->hub->posts_waiting, ch, sends.in_posts);
	ch->sends.waits_to_post = false;
	if (ch->sends.waiter)
		ch->sends.waiter->n_waiting--;
	ch->sends.waiter = NULL;
}

void posts_add(struct chan *ch)
{
	if (ch->sends.waits_to_post || ch->sends.is_posting || !queue_of(ch)->next)
		return;
	ch->sends.waits_to_post = true;
	ch->sends.waiter = queue_of(ch)->next->user;
	if (ch->sends.waiter)
		ch->sends.waiter->n_waiting++;
	TAILQ_INSERT_TAIL(&ch->hub->posts_waiting, ch, sends.in_posts);
	hub_wake(ch->hub);
}

void posts_forget(struct chan *ch)
{
	struct echo *e;

	wait_no_more(ch);
	while ((e = TAILQ_FIRST(&ch->sends.echoes)))
		echo_free(ch, e);
}

/* ---- the request ---- */

static void put_message(struct rtbp_buf *b, struct send *s)
{
	struct rtbp_json_fault fault; /* it was looked for when the request came */

	rtbp_buf_text(b, "{\"topic\":");
	rtbp_json_quote(b, s->chan->topic.p, s->chan->topic.size);
	rtbp_buf_text(b, ",\"event\":");
	rtbp_json_quote(b, s->news.event.p, s->news.event.size);
	rtbp_buf_text(b, ",\"payload\":");
	if (rtbp_mp_to_json(s->news.payload.p, s->news.payload.size, b, &fault) != 0)
		rtbp_buf_text(b, "null");
	rtbp_buf_text(b, ",\"id\":");
	rtbp_json_quote(b, s->name, strlen(s->name));
	rtbp_buf_text(b, s->chan->is_private ? ",\"private\":true}" : ",\"private\":false}");
}

/* Return: how many of the queue's head are in it. */
static unsigned put_batch(struct chan *ch, struct rtbp_buf *b)
{
	struct send *s = queue_of(ch)->next;
	unsigned n = 0, most = ch->sends.n_singly ? 1 : POST_MESSAGES_MAX;
	size_t before;

	rtbp_buf_text(b, "{\"messages\":[");
	for (; s && n < most && !is_bin(s); s = TAILQ_NEXT(s, entry)) {
		before = b->size;
		if (n)
			rtbp_buf_byte(b, ',');
		put_message(b, s);
		if (n && rtbp_buf_ok(b) && b->size > POST_BYTES_MAX) {
			b->size = before;
			break;
		}
		n++;
	}
	rtbp_buf_text(b, "]}");
	return n;
}

static void put_percent(struct rtbp_buf *b, struct rtbp_str s)
{
	char hex[4];

	for (size_t i = 0; i < s.size; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';

		if (plain) {
			rtbp_buf_byte(b, c);
		} else {
			snprintf(hex, sizeof(hex), "%%%02X", c);
			rtbp_buf_text(b, hex);
		}
	}
}

/* "/broadcast/TOPIC/events/EVENT?private=true", with its NUL. */
static void put_single_path(struct rtbp_buf *b, const struct send *s)
{
	rtbp_buf_text(b, "/broadcast/");
	put_percent(b, s->chan->topic);
	rtbp_buf_text(b, "/events/");
	put_percent(b, s->news.event);
	rtbp_buf_text(b, s->chan->is_private ? "?private=true" : "?private=false");
	rtbp_buf_byte(b, '\0');
}

/* Return: as ops->post(), with the number of sends in it. */
static int post_push(struct chan *ch, uint64_t id, const struct secret *token, unsigned *ret_n)
{
	struct hub *hub = ch->hub;
	struct send *s = queue_of(ch)->next;
	struct rtbp_buf *b = hub_scratch(hub);
	struct hub_post post = { .token = token, .timeout_ms = SEND_POST_MS };
	struct rtbp_str bin;

	*ret_n = 1;
	if (rtbp_get_bin(s->news.payload, &bin)) {
		put_single_path(b, s);
		post.path = (const char *)b->data;
		post.content_type = "application/octet-stream";
		post.body = bin.p;
		post.size = bin.size;
	} else {
		*ret_n = put_batch(ch, b);
		post.path = "/broadcast";
		post.content_type = "application/json";
		post.body = b->data;
		post.size = b->size;
	}
	if (!rtbp_buf_ok(b))
		return -ENOMEM;
	if (post.size > LINK_FRAME_MAX)
		return -EMSGSIZE;
	return hub->ops->post(hub->ctx, id, &post);
}

/* It can never be sent. */
static void cannot_send(struct chan *ch, int r, unsigned n)
{
	struct send *s;

	for (; n && (s = queue_of(ch)->next); n--) {
		if (r == -ENOMEM)
			send_end_as(s, "busy", "the daemon is out of memory");
		else if (r == -EMSGSIZE)
			send_end_as(s, "too_big", "over 5000000 bytes as JSON");
		else
			send_end_as(s, "unsupported",
				    "it cannot be put into an HTTP request to this server");
	}
}

static void set_given(struct post *post)
{
	struct chan *ch = post->chan;
	struct send *s;

	ch->sends.is_posting = true;
	if (post->user)
		post->user->n_posts++;
	for (unsigned i = 0; i < post->n; i++) {
		s = queue_of(ch)->next;
		echo_expect(s);
		send_set_given(s, true);
	}
	ch->hub->counters.messages_out += post->n;
	log_debug("out: %u by HTTP to %s", post->n, ch->topic_text);
}

/* Return: false: nothing more can be given now. */
static bool post_some(struct post *post, struct chan *ch)
{
	struct hub *hub = ch->hub;
	const struct token *token = ch->identity ? identity_token(ch->identity) : NULL;
	struct own_token *own = ch->identity ? NULL : own_token(hub);
	const struct secret *bytes = token ? token->bytes : own ? own->bytes : NULL;
	struct send *s;
	unsigned n = 0;
	int r;

	if (ch->identity && !token) {
		while ((s = queue_of(ch)->next))
			send_end_as(s, "denied", "every token of this identity has ended");
		return true;
	}
	/* It has ended since the channel was chosen: it waits, and does not go with the API key. */
	if (!ch->identity && hub->conf.has_own_token && !own)
		return true;
	post->id = hub->next_id++;
	post->user = queue_of(ch)->next->user;
	r = post_push(ch, post->id, bytes, &n);
	if (r == 0) {
		post->chan = ch;
		post->n = n;
		post->own = own_ref(own);
		post->token_number = token ? token->number : 0;
		post->key_serial = hub->own.key_serial;
		set_given(post);
		wait_no_more(ch);
		return true;
	}
	post->id = 0;
	if (r < 0)
		cannot_send(ch, r, n);
	else
		timer_arm(&hub->timers, &hub->post_timer, hub_now(hub) + LINK_BUSY_RETRY_MS);
	return r < 0;
}

static struct post *find_post(struct hub *hub, uint64_t id)
{
	for (unsigned i = 0; i < POSTS_MAX; i++) {
		if (hub->posts[i].id == id)
			return &hub->posts[i];
	}
	return NULL;
}

static bool has_share(const struct hub *hub, const struct send *s)
{
	return user_may_have(hub, s->user, s->user ? s->user->n_posts + 1 : 1, POSTS_MAX);
}

/* Of those whose user may have one more, that of the user who has the fewest; then the first in
 * turn. Several users with many channels do not keep out who has one. */
static struct chan *next_chan(struct hub *hub)
{
	struct chan *ch, *next, *best = NULL;
	unsigned n, fewest = POSTS_MAX;
	const struct send *s;

	for (ch = TAILQ_FIRST(&hub->posts_waiting); ch && fewest; ch = next) {
		next = TAILQ_NEXT(ch, sends.in_posts);
		s = queue_of(ch)->next;
		n = s && s->user ? s->user->n_posts : 0;
		if (!s) {
			wait_no_more(ch); /* it has expired meanwhile */
		} else if (n < fewest && has_share(hub, s) && !own_is_missing_for_chan(ch)) {
			best = ch;
			fewest = n;
		}
	}
	return best;
}

void posts_run(struct hub *hub)
{
	struct post *post;
	struct chan *ch;
	/* Who has been told that the daemon stops counts what had no answer as unknown: it stays
	 * so. */
	bool goes_on = hub_now(hub) >= hub->post_retry_at_ms && hub->drain < HUB_FAREWELL;

	while (goes_on && (post = find_post(hub, 0)) && (ch = next_chan(hub))) {
		ch->held = true; /* with its last send a channel may go */
		goes_on = post_some(post, ch);
		ch->held = false;
		chan_update(ch);
	}
}

/* ---- the answer ---- */

/* The server's words, {"message": TEXT} or {"error": TEXT}; "" for any other body: nobody knows
 * what is in it. */
static void words_of(const struct post *post, const struct hub_answer *a, char *text, size_t size)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf mp = RTBP_BUF_INIT;
	struct rtbp_str s = { NULL, 0 };
	struct rtbp_json_fault fault;
	struct rtbp_val v;

	text[0] = '\0';
	if (!a->size || rtbp_json_to_mp(a->body, a->size, 8, &mp, &fault) != 0)
		return;
	v = (struct rtbp_val){ mp.data, mp.size };
	if (!rtbp_get_str(rtbp_find(v, "message", 7), &s))
		(void)rtbp_get_str(rtbp_find(v, "error", 5), &s);
	if (s.size && rtbp_utf8_valid(s.p, s.size) && !post_may_be_quoted(post, s))
		hub_copy_text(s, text, size);
}

static bool says(const struct hub_answer *a, const char *words)
{
	return a->size && memmem(a->body, a->size, words, strlen(words)) != NULL;
}

static const char *outcome_of(const struct hub_answer *a)
{
	if (a->status >= 200 && a->status < 300)
		return "sent";
	switch (a->status) {
	case 401:
	case 403:
		return "denied";
	case 404:
	case 405:
	case 415:
		return "unsupported";
	case 413:
		return "too_big";
	case 422:
		if (says(a, "Payload size exceeds"))
			return "too_big";
		return says(a, "is invalid") || says(a, "can't be blank") ? "bad_payload"
									  : "denied";
	case 429:
		return "rate_limited";
	default:
		/* 400 is our own fault or somebody's in between; of 30x, 5x and whatever else
		 * nobody can say what has been done. */
		return a->status == 400 ? "unsupported" : "unknown";
	}
}

static void say_result(const struct post *post, const struct hub_answer *a, char *text, size_t size,
		       struct send_result *ret)
{
	char words[121];

	*ret = (struct send_result){ outcome_of(a), NULL, -1 };
	if (a->retry_after_s)
		ret->retry_ms = (int64_t)a->retry_after_s * 1000;
	if (strcmp(ret->outcome, "sent") == 0)
		return;
	ret->text = text;
	words_of(post, a, words, sizeof(words));
	if (!words[0] && a->status == 422)
		snprintf(words, sizeof(words), "%s",
			 says(a, "Payload size exceeds")
				 ? "the payload is over the project's limit"
				 : "the server finds a part of the message invalid");
	if (!a->status)
		snprintf(text, size, "%s", a->text);
	else
		snprintf(text, size, "HTTP status %u%s%s", a->status, words[0] ? ": " : "", words);
}

static void end_barred(struct chan *ch)
{
	struct send *s, *next;

	for (s = queue_of(ch)->next; s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (s->barred)
			send_end_as(s, "denied",
				    "not sent: what its client may do has changed meanwhile");
	}
}

/* Those of the request are queued again, in their order: nothing of them was done. */
static void take_back(struct chan *ch, unsigned n)
{
	struct send *s = TAILQ_FIRST(&queue_of(ch)->list), *last = NULL;

	for (unsigned i = 0; i < n; i++, s = TAILQ_NEXT(s, entry))
		last = s;
	for (; last; last = TAILQ_PREV(last, send_list, entry)) {
		echo_unexpect(last);
		send_set_given(last, false);
	}
	ch->hub->counters.messages_out -= n;
	end_barred(ch);
}

static void note_failure(struct hub *hub, const struct hub_answer *a)
{
	uint64_t pause = POST_RETRY_MIN_MS;

	for (unsigned i = 0; i < hub->post_failures && pause < POST_RETRY_MAX_MS; i++)
		pause *= 2;
	if (pause > POST_RETRY_MAX_MS)
		pause = POST_RETRY_MAX_MS;
	if (pause / 2 < UINT64_C(1000) * a->retry_after_s)
		pause = UINT64_C(2000) * a->retry_after_s; /* half of it is jitter */
	snprintf(hub->post_text, sizeof(hub->post_text), "%s", a->text);
	if (hub_now(hub) < hub->post_retry_at_ms)
		return; /* one of several that were on their way together */
	if (!hub->post_failures++)
		log_warning("cannot send by HTTP, trying again: %s", a->text);
	hub->post_retry_at_ms = hub_now(hub) + pause / 2 + hub_random(hub, pause / 2);
	timer_arm(&hub->timers, &hub->post_timer, hub->post_retry_at_ms);
}

static void note_success(struct hub *hub)
{
	if (hub->post_failures)
		log_notice("HTTP works again");
	hub->post_failures = 0;
	hub->post_retry_at_ms = 0;
	hub->post_text[0] = '\0';
}

static void conclude(const struct post *post, const struct hub_answer *a)
{
	struct chan *ch = post->chan;
	unsigned n = post->n;
	struct send_result result;
	struct send *s;
	char text[256];

	say_result(post, a, text, sizeof(text), &result);
	if (strcmp(result.outcome, "sent") != 0)
		log_info("%s: %u by HTTP: %s (%s)", ch->topic_text, n, result.outcome, text);
	for (; n; n--) {
		s = TAILQ_FIRST(&queue_of(ch)->list);
		if (strcmp(result.outcome, "sent") != 0 && strcmp(result.outcome, "unknown") != 0)
			echo_unexpect(s);
		send_end(s, &result);
	}
}

/* One bad message refuses all of a batch; alone each is judged by itself. */
static bool is_about_batch(const struct hub_answer *a, unsigned n)
{
	return n > 1 && (a->status == 413 || a->status == 422 ||
			 (a->status == 429 && says(a, "batch size")));
}

/* The server did nothing for want of a better token of the daemon's own, in its own words: those of
 * a gateway are about the API key. Nothing of it was done. */
static bool is_about_own_token(const struct post *post, const struct hub_answer *a)
{
	return post->own && a->status == 401 && says(a, "\"Unauthorized\"");
}

void hub_on_answered(struct hub *hub, uint64_t id, const struct hub_answer *a)
{
	struct post *post = id ? find_post(hub, id) : NULL, done;
	struct chan *ch;

	if (!post)
		return;
	done = *post;
	*post = (struct post){ 0 };
	ch = done.chan;
	if (done.user)
		done.user->n_posts--;
	ch->held = true;
	ch->sends.is_posting = false;
	if (!a->status && !a->was_sent) {
		take_back(ch, done.n);
		note_failure(hub, a);
	} else {
		note_success(hub);
		if (is_about_batch(a, done.n)) {
			take_back(ch, done.n);
			ch->sends.n_singly = done.n;
		} else if (is_about_own_token(&done, a)) {
			take_back(ch, done.n);
			own_was_refused(hub, done.own->serial, "token_invalid",
					"HTTP status 401: Unauthorized");
		} else {
			ch->sends.n_singly -= ch->sends.n_singly > 0;
			conclude(&done, a);
		}
	}
	own_unref(done.own);
	ch->held = false;
	posts_add(ch);
	chan_update(ch);
	hub_wake(hub);
}
