/* SPDX-License-Identifier: MIT */
#include "hub_text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_frame.h"
#include "proto/rtbp_json.h"

/* ---- patterns ---- */

static bool same(char pattern, char c)
{
	return pattern == c || (pattern == '\'' && c == '"');
}

bool text_matches(const char *pattern, const char *text)
{
	const char *star = NULL, *from = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			from = text;
		} else if (same(*pattern, *text)) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = ++from;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

char *quoted(const char *text)
{
	char *copy = strdup(text);

	MUST(copy);
	for (char *c = copy; *c; c++) {
		if (*c == '\'')
			*c = '"';
	}
	return copy;
}

/* ---- values ---- */

static void put_value(FILE *out, struct rtbp_val v);

static void put_container(FILE *out, struct rtbp_val v)
{
	bool is_map = rtbp_is(v, RTBP_MAP), first = true;
	struct rtbp_iter it;
	struct rtbp_val e;

	MUST(is_map ? rtbp_iter_map(v, &it) : rtbp_iter_array(v, &it));
	fputc(is_map ? '{' : '[', out);
	while (rtbp_iter_next(&it, &e)) {
		if (!first)
			fputc(',', out);
		first = false;
		put_value(out, e);
		if (is_map) {
			fputc(':', out);
			MUST(rtbp_iter_next(&it, &e));
			put_value(out, e);
		}
	}
	fputc(is_map ? '}' : ']', out);
}

static void put_value(FILE *out, struct rtbp_val v)
{
	struct rtbp_buf json = RTBP_BUF_INIT;
	struct rtbp_str bin;

	if (rtbp_is(v, RTBP_MAP) || rtbp_is(v, RTBP_ARRAY)) {
		put_container(out, v);
	} else if (rtbp_get_bin(v, &bin)) {
		fputs("{\"bin\":\"", out);
		for (size_t i = 0; i < bin.size; i++)
			fprintf(out, "%02x", (unsigned char)bin.p[i]);
		fputs("\"}", out);
	} else {
		/* Also the proof that each text that peers get is UTF-8. */
		MUST(rtbp_mp_to_json(v.p, v.size, &json, NULL) == 0);
		fwrite(json.data, 1, json.size, out);
		rtbp_buf_done(&json);
	}
}

char *render(struct rtbp_val v)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	put_value(out, v);
	fclose(out);
	return text;
}

/* ---- lines ---- */

static struct line *line_new(struct lines *l)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 64;
		l->at = reallocarray(l->at, l->cap, sizeof(*l->at));
		MUST(l->at);
	}
	l->at[l->n] = (struct line){ .text = NULL };
	return &l->at[l->n++];
}

void lines_done(struct lines *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->at[i].text);
	free(l->at);
	*l = (struct lines){ .at = NULL };
}

/* ---- frames ---- */

static uint64_t ref_of(const char *text)
{
	return text ? strtoull(text, NULL, 10) : 0;
}

static const char *const members[] = { "join_ref", "ref", "topic", "event", "payload" };

/* Of the serializer 1.0.0, whose frames are maps: as the other one would say it. */
static json_t *map_to_array(json_t *map)
{
	bool has_join_ref = json_object_get(map, members[0]) != NULL;
	json_t *array = json_array();

	MUST(json_object_size(map) == 4u + has_join_ref);
	if (!has_join_ref) /* a heartbeat */
		MUST(json_array_append_new(array, json_null()) == 0);
	for (size_t i = !has_join_ref; i < 5; i++)
		MUST(json_array_append(array, json_object_get(map, members[i])) == 0);
	json_decref(map);
	return array;
}

char *frame_text(const char *text)
{
	char *json = quoted(text), *as_map;
	json_t *array, *map;

	if (rig.conf.session.vsn == PHX_VSN_2)
		return json;
	array = json_loads(json, JSON_DECODE_ANY, NULL);
	if (!json_is_array(array) || json_array_size(array) != 5) {
		json_decref(array);
		return json;
	}
	map = json_object();
	for (size_t i = 0; i < 5; i++)
		MUST(json_object_set(map, members[i], json_array_get(array, i)) == 0);
	as_map = json_dumps(map, JSON_COMPACT);
	json_decref(map);
	json_decref(array);
	free(json);
	return as_map;
}

static void text_frame(struct line *f, const char *data, size_t size)
{
	json_error_t error;
	json_t *array = json_loadb(data, size, JSON_REJECT_DUPLICATES, &error);
	bool is_map = json_is_object(array);

	MUST_MSG(array, "no JSON to the server: %s", error.text);
	MUST(is_map == (rig.conf.session.vsn == PHX_VSN_1));
	if (is_map)
		array = map_to_array(array);
	MUST(json_array_size(array) == 5);
	for (size_t i = 1; i < 4; i++)
		MUST(json_is_string(json_array_get(array, i)));
	MUST(json_is_object(json_array_get(array, 4)));
	f->join_ref = ref_of(json_string_value(json_array_get(array, 0)));
	f->ref = ref_of(json_string_value(json_array_get(array, 1)));
	snprintf(f->topic, sizeof(f->topic), "%s", json_string_value(json_array_get(array, 2)));
	snprintf(f->event, sizeof(f->event), "%s", json_string_value(json_array_get(array, 3)));
	f->text = is_map ? json_dumps(array, JSON_COMPACT) : strndup(data, size);
	json_decref(array);
}

static void binary_frame(struct line *f, const uint8_t *data, size_t size)
{
	const char *p = (const char *)data + 7;
	char join_ref[24], ref[24];

	MUST(size >= 7);
	MUST(data[0] == 3);
	MUST(data[5] == 0); /* metadata: the server would refuse it */
	MUST(size >= 7u + data[1] + data[2] + data[3] + data[4]);
	snprintf(join_ref, sizeof(join_ref), "%.*s", data[1], p);
	snprintf(ref, sizeof(ref), "%.*s", data[2], p + data[1]);
	snprintf(f->topic, sizeof(f->topic), "%.*s", data[3], p + data[1] + data[2]);
	snprintf(f->event, sizeof(f->event), "%.*s", data[4], p + data[1] + data[2] + data[3]);
	f->join_ref = ref_of(join_ref);
	f->ref = ref_of(ref);
	p += data[1] + data[2] + data[3] + data[4];
	MUST(asprintf(&f->text, "[3,\"%s\",\"%s\",\"%s\",\"%s\",%s%.*s%s]", join_ref, ref, f->topic,
		      f->event, data[6] ? "" : "bin:",
		      (int)(size - (size_t)(p - (const char *)data)), p, "") >= 0);
}

void frame_add(struct lines *l, unsigned link, uint64_t epoch, bool binary, const void *data,
	       size_t size)
{
	struct line *f = line_new(l);

	f->at_ms = rig.now;
	f->link = link;
	f->epoch = epoch;
	if (binary)
		binary_frame(f, data, size);
	else
		text_frame(f, data, size);
	MUST(f->ref > 0);
}

void post_add(struct lines *l, uint64_t id, const char *name, bool is_json, const void *body,
	      size_t size)
{
	struct line *f = line_new(l);
	const uint8_t *bytes = body;
	size_t text_size;
	FILE *out = open_memstream(&f->text, &text_size);
	json_t *json = is_json ? json_loadb(body, size, JSON_DECODE_ANY, NULL) : NULL;

	MUST(out && (!is_json || json));
	json_decref(json);
	f->at_ms = rig.now;
	f->ref = id;
	fprintf(out, "%s ", name);
	for (size_t i = 0; i < size; i++)
		fprintf(out, is_json ? "%c" : "%02x", bytes[i]);
	fclose(out);
}

/* ---- messages ---- */

char *blob_text(struct blob *blob, struct rtbp_msg *ret_msg)
{
	struct rtbp_fault fault = { 0 };
	struct rtbp_msg m;
	const uint8_t *body = blob->data + RTBP_HEADER_BYTES;
	size_t size = blob->size - RTBP_HEADER_BYTES;
	uint32_t length;

	MUST(blob->size > RTBP_HEADER_BYTES);
	length = (uint32_t)blob->data[0] << 24 | (uint32_t)blob->data[1] << 16 |
		 (uint32_t)blob->data[2] << 8 | blob->data[3];
	MUST(length == size);
	MUST_MSG(rtbp_msg_parse(body, size, &m, &fault) == 0, "no message: byte %zu: %s",
		 fault.offset, fault.text);
	if (ret_msg)
		*ret_msg = m;
	return render((struct rtbp_val){ body, size });
}

void message_add(struct fake_peer *p, struct blob *blob)
{
	struct line *line = line_new(&p->got);
	struct rtbp_msg m;

	line->text = blob_text(blob, &m);
	if (m.type == RTBP_RESPONSE) {
		MUST_MSG(m.id < FAKE_IDS && p->asked[m.id],
			 "a response to no request, or a second one: %s", line->text);
		p->asked[m.id] = false;
		p->n_asked--;
	}
	if (p->on_message)
		p->on_message(p, &m);
}
