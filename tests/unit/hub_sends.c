/* SPDX-License-Identifier: MIT */
#include "hub_sends.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_json.h"

void peer_ask_bin(struct fake_peer *p, uint32_t id, const char *params, const char *bytes)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	char *json = quoted(params);
	size_t at;

	MUST(id < FAKE_IDS && !p->asked[id]);
	p->asked[id] = true;
	p->n_asked++;
	rtbp_pack_array(&b, 4);
	rtbp_pack_uint(&b, RTBP_REQUEST);
	rtbp_pack_uint(&b, id);
	rtbp_pack_text(&b, "broadcast");
	at = b.size;
	MUST(rtbp_json_to_mp(json, strlen(json), 70, &b, NULL) == 0);
	MUST((b.data[at] & 0xf0) == 0x80 && b.data[at] < 0x8f);
	b.data[at]++; /* a member more */
	rtbp_pack_field(&b, RTBP_F_PAYLOAD);
	rtbp_pack_bin(&b, bytes, strlen(bytes));
	peer_frame(p, b.data, b.size);
	free(json);
	rtbp_buf_done(&b);
}

/* ---- the server's side of HTTP ---- */

static unsigned joined_links(const char *topic, bool is_private)
{
	struct join *j;
	unsigned set = 0;

	RB_FOREACH(j, join_id_tree, &rig.hub->joins) {
		if (j->state == JOIN_JOINED && j->is_private == is_private &&
		    strcmp(j->wire_topic + strlen("realtime:"), topic) == 0)
			set |= 1u << j->link->number;
	}
	return set;
}

static void to_links(const char *topic, bool is_private, bool binary, const void *data, size_t size)
{
	unsigned at = rig.at, set = joined_links(topic, is_private);

	for (rig.at = 0; rig.at < LINKS_MAX; rig.at++) {
		if (set & 1u << rig.at)
			server_bytes(binary, data, size);
	}
	rig.at = at;
}

static void echo_message(const json_t *m)
{
	const char *topic = json_string_value(json_object_get(m, "topic"));
	bool is_private = json_is_true(json_object_get(m, "private"));
	json_t *frame;
	char *text;

	MUST(topic && json_is_object(json_object_get(m, "payload")));
	frame = json_pack("[n,n,s+,s,{s:s,s:O,s:O,s:{s:O}}]", "realtime:", topic, "broadcast",
			  "type", "broadcast", "event", json_object_get(m, "event"), "payload",
			  json_object_get(m, "payload"), "meta", "id", json_object_get(m, "id"));
	MUST(frame);
	text = json_dumps(frame, JSON_COMPACT);
	to_links(topic, is_private, false, text, strlen(text));
	free(text);
	json_decref(frame);
}

static void echo_batch(const char *body)
{
	json_t *json = json_loads(body, 0, NULL), *m;
	size_t i;

	MUST(json && json_array_size(json_object_get(json, "messages")) > 0);
	json_array_foreach(json_object_get(json, "messages"), i, m) echo_message(m);
	json_decref(json);
}

static unsigned hex(char c)
{
	return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)((c | 32) - 'a' + 10);
}

static size_t unhex(const char *from, size_t n, char *to)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		*to++ = (char)(hex(from[i]) << 4 | hex(from[i + 1]));
	*to = '\0';
	return n / 2;
}

/* What stands between here and `end`, without its percents. Return: behind `end`. */
static const char *part(const char *from, const char *end, char *to)
{
	const char *behind = strstr(from, end);

	MUST(behind);
	for (; from < behind; from++) {
		if (*from == '%') {
			unhex(from + 1, 2, to++);
			from += 2;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return behind + strlen(end);
}

static void echo_binary(const char *text)
{
	const char *body = strrchr(text, ' ') + 1;
	char topic[300], event[300], is_private[10], bytes[4000];
	struct rtbp_buf b = RTBP_BUF_INIT;
	size_t n = strlen(body);

	MUST(n < sizeof(bytes));
	text = part(text + strlen("/broadcast/"), "/events/", topic);
	text = part(text, "?private=", event);
	(void)part(text, " ", is_private);
	n = unhex(body, n, bytes);
	rtbp_buf_byte(&b, 4);
	rtbp_buf_byte(&b, (uint8_t)(9 + strlen(topic)));
	rtbp_buf_byte(&b, (uint8_t)strlen(event));
	rtbp_buf_byte(&b, 0);
	rtbp_buf_byte(&b, 0);
	rtbp_buf_text(&b, "realtime:");
	rtbp_buf_text(&b, topic);
	rtbp_buf_text(&b, event);
	rtbp_buf_put(&b, bytes, n);
	to_links(topic, strcmp(is_private, "true") == 0, true, b.data, b.size);
	rtbp_buf_done(&b);
}

void post_echoes(const struct line *post)
{
	if (strncmp(post->text, "/broadcast/", 11) == 0)
		echo_binary(post->text);
	else
		echo_batch(strchr(post->text, '{'));
}

void post_taken(struct line *post)
{
	post_echoes(post);
	server_answer(post, 202, "");
}

void post_unreachable(struct line *post)
{
	struct hub_answer a = { .text = "connect: refused" };

	server_answer_all(post, &a);
}

static bool has_more(const struct lines *l)
{
	size_t i = l->next;

	while (i < l->n && l->at[i].taken)
		i++;
	return i < l->n;
}

struct line *any_post(void)
{
	return has_more(&rig.posts) ? expect_post("*") : NULL;
}

struct line *any_frame(void)
{
	return has_more(&rig.frames) ? expect_frame("*") : NULL;
}

/* ---- what a peer got ---- */

void haul(struct fake_peer *p, struct haul *ret)
{
	*ret = (struct haul){ .n_copies = 0 };
	for (; p->got.next < p->got.n; p->got.next++) {
		const char *text = p->got.at[p->got.next].text;

		if (p->got.at[p->got.next].taken)
			continue;
		if (strncmp(text, "[1,", 3) == 0) {
			ret->n_answers++;
			snprintf(ret->answer, sizeof(ret->answer), "%s", text);
		} else if (strncmp(text, "[2,\"broadcast\"", 14) == 0) {
			ret->n_copies++;
			ret->copy_is_behind |= ret->n_answers > 0;
			snprintf(ret->copy, sizeof(ret->copy), "%s", text);
		}
	}
}

void expect_outcome(struct fake_peer *p, uint32_t id, const char *name, const char *pattern)
{
	char params[100], whole[400];

	snprintf(params, sizeof(params), "{'id':'%s'}", name);
	peer_ask(p, id, "outcome", params);
	snprintf(whole, sizeof(whole), "[1,%u,%s]", (unsigned)id, pattern);
	expect(p, whole);
}
