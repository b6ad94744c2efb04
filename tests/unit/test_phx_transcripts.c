/* SPDX-License-Identifier: MIT */
/*
 * Every frame that a real server sent, from tests/transcripts (or $RTB_TRANSCRIPTS), goes through
 * phx_decode(); a JSON library is the oracle for what must come out.
 */
#include <dirent.h>
#include <jansson.h>

#include "tests/unit/test_phx_util.h"

#ifndef RTB_TRANSCRIPTS
#error "RTB_TRANSCRIPTS is the folder with the recorded frames"
#endif

enum { MAX_CONNS = 256 };

/* Which serializer each socket of one file speaks, by the address it connected to. */
struct conns {
	char name[MAX_CONNS][80];
	enum phx_vsn vsn[MAX_CONNS];
	unsigned n;
};

static const char *dir;
static unsigned n_text, n_binary, n_undecodable;

static const char *text_of(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static enum phx_vsn vsn_of(const struct conns *c, const char *name)
{
	for (unsigned i = c->n; i > 0; i--) {
		if (strcmp(c->name[i - 1], name) == 0)
			return c->vsn[i - 1];
	}
	return PHX_VSN_1;
}

static void connects(struct conns *c, json_t *line)
{
	ck_assert_uint_lt(c->n, MAX_CONNS);
	snprintf(c->name[c->n], sizeof(c->name[0]), "%s", text_of(line, "conn"));
	c->vsn[c->n++] = strstr(text_of(line, "url"), "vsn=2.") ? PHX_VSN_2 : PHX_VSN_1;
}

static void ref_matches(struct rtbp_str s, json_t *want)
{
	char number[32];

	if (!want || json_is_null(want)) {
		ck_assert_ptr_null(s.p);
	} else if (json_is_integer(want)) {
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(want));
		str_is(s, number);
	} else {
		ck_assert(s.p && s.size == json_string_length(want));
		ck_assert(!memcmp(s.p, json_string_value(want), s.size));
	}
}

/* Through our JSON writer and back into the oracle's tree. */
static void value_matches(struct rtbp_val v, json_t *want)
{
	struct rtbp_buf out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;
	json_t *got;

	ck_assert(v.p && want);
	ck_assert_int_eq(rtbp_mp_to_json(v.p, v.size, &out, &fault), 0);
	got = json_loadb((const char *)out.data, out.size, JSON_DECODE_ANY, NULL);
	ck_assert_ptr_nonnull(got);
	ck_assert_msg(json_equal(got, want), "%.*s", (int)out.size, (const char *)out.data);
	json_decref(got);
	rtbp_buf_done(&out);
}

static void broadcast_matches(json_t *payload)
{
	json_t *event = json_object_get(payload, "event"), *meta = json_object_get(payload, "meta");

	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	if (!json_is_string(event)) {
		ck_assert_ptr_null(msg.user_event.p);
		value_matches(msg.payload, payload);
		return;
	}
	str_is(msg.user_event, json_string_value(event));
	if (json_object_get(payload, "payload"))
		value_matches(msg.payload, json_object_get(payload, "payload"));
	else
		json_is(msg.payload, "{}");
	if (json_is_object(meta))
		value_matches(msg.meta, meta);
}

static void text_frame(enum phx_vsn vsn, const char *text)
{
	json_t *f = json_loads(text, 0, NULL), *payload, *status;

	n_text++;
	ck_assert_msg(decode(vsn, false, text, strlen(text)) == 0, "%s: %s", why, text);
	if (!f) { /* somebody's broken payload in it */
		ck_assert(msg.undecodable);
		ck_assert_int_eq(msg.kind, PHX_BROADCAST);
		n_undecodable++;
		return;
	}
	str_is(msg.topic,
	       vsn == PHX_VSN_2 ? json_string_value(json_array_get(f, 2)) : text_of(f, "topic"));
	str_is(msg.event,
	       vsn == PHX_VSN_2 ? json_string_value(json_array_get(f, 3)) : text_of(f, "event"));
	ref_matches(msg.join_ref,
		    vsn == PHX_VSN_2 ? json_array_get(f, 0) : json_object_get(f, "join_ref"));
	ref_matches(msg.ref, vsn == PHX_VSN_2 ? json_array_get(f, 1) : json_object_get(f, "ref"));
	payload = vsn == PHX_VSN_2 ? json_array_get(f, 4) : json_object_get(f, "payload");
	status = json_object_get(payload, "status");
	if (rtbp_str_is(msg.event, "phx_reply")) {
		ck_assert_int_eq(msg.kind, PHX_REPLY);
		ck_assert_int_eq(msg.ok, strcmp(json_string_value(status), "ok") == 0);
		value_matches(msg.payload, json_object_get(payload, "response"));
	} else if (rtbp_str_is(msg.event, "broadcast")) {
		broadcast_matches(payload);
	} else {
		ck_assert_int_eq(msg.kind, PHX_MESSAGE);
		value_matches(msg.payload, payload);
	}
	json_decref(f);
}

static size_t unbase64(const char *s, uint8_t *out)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, n_bits = 0;
	size_t n = 0;

	for (; *s && *s != '='; s++) {
		bits = bits << 6 | (unsigned)(strchr(alphabet, *s) - alphabet);
		n_bits += 6;
		if (n_bits >= 8)
			out[n++] = (uint8_t)(bits >> (n_bits -= 8));
	}
	return n;
}

static void binary_frame(enum phx_vsn vsn, const char *base64)
{
	uint8_t *bytes = malloc(strlen(base64) + 1);
	size_t size = unbase64(base64, bytes);

	n_binary++;
	ck_assert_msg(decode(vsn, true, bytes, size) == 0, "%s", why);
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	ck_assert(!strncmp(msg.topic.p, "realtime:", 9));
	if (msg.undecodable)
		n_undecodable++;
	free(bytes);
}

static void one_file(const char *name)
{
	struct conns conns = { .n = 0 };
	char *line_text = NULL, path[1024];
	size_t cap = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	while (getline(&line_text, &cap, file) > 0) {
		json_t *line = json_loads(line_text, 0, NULL);
		const char *data = text_of(line, "data"), *opcode = text_of(line, "opcode");
		enum phx_vsn vsn = vsn_of(&conns, text_of(line, "conn"));

		ck_assert_ptr_nonnull(line);
		if (strcmp(text_of(line, "what"), "connect") == 0)
			connects(&conns, line);
		else if (strcmp(text_of(line, "dir"), "recv") != 0 || strstr(data, "chars in all)"))
			; /* ours, or a text that the recorder cut */
		else if (strcmp(opcode, "text") == 0)
			text_frame(vsn, data);
		else if (strcmp(opcode, "binary") == 0)
			binary_frame(vsn, data);
		json_decref(line);
	}
	free(line_text);
	fclose(file);
}

START_TEST(test_transcripts)
{
	unsigned n_files = 0;
	struct dirent *entry;
	DIR *d;

	dir = getenv("RTB_TRANSCRIPTS") ? getenv("RTB_TRANSCRIPTS") : RTB_TRANSCRIPTS;
	d = opendir(dir);
	ck_assert_msg(d != NULL, "%s: %s", dir, strerror(errno));
	while ((entry = readdir(d))) {
		size_t n = strlen(entry->d_name);

		if (n > 6 && strcmp(entry->d_name + n - 6, ".jsonl") == 0) {
			one_file(entry->d_name);
			n_files++;
		}
	}
	closedir(d);
	printf("%u files, %u text and %u binary frames, %u undecodable\n", n_files, n_text,
	       n_binary, n_undecodable);
	ck_assert_uint_gt(n_files, 0);
	ck_assert_uint_gt(n_text, 100);
	ck_assert_uint_gt(n_binary, 10);
	/* The recordings have one payload that is no JSON, seen on both vsn. */
	ck_assert_uint_ge(n_undecodable, 3);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_transcripts);
}

int main(void)
{
	return run("phx_transcripts", add);
}
