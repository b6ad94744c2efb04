/* SPDX-License-Identifier: MIT */
/*
 * JSON text to MessagePack.
 *
 * One pass over the text. A container's header is one byte at first, filled in at its end, when the
 * count is known; beyond 15 children the contents move up by 2 or 4 bytes. So every header is the
 * smallest, and one document has one encoding.
 *
 *   VALUE ── scalar ─────────────► NEXT ── ',' in array ──► VALUE
 *     │ '['                          │ ├── ',' in object ─► KEY ── "key" ':' ─► VALUE
 *     ├───► FIRST_VALUE (or ']')     │ └── ']' '}' ───────► NEXT
 *     │ '{'                          └── no container left: done
 *     └───► FIRST_KEY (or '}')
 */
#include "proto/rtbp_json_impl.h"

#include <errno.h>
#include <string.h>

enum state { VALUE, FIRST_VALUE, KEY, FIRST_KEY, NEXT };

/* An open container. */
struct frame {
	size_t head;      /* its header byte in out->data */
	size_t first_key; /* object: its first place in the stack of keys */
	uint32_t count;   /* array: children so far */
	bool is_map;
};

struct in {
	const uint8_t *start, *p, *end;
	struct rtbp_buf *out;
	struct rtbp_json_fault *fault;
	struct rtbp_keys keys;
	unsigned depth, max_depth;
	struct frame stack[RTBP_JSON_STACK];
};

static int fail_at(struct in *in, const uint8_t *where, int condition, const char *text)
{
	return rtbp_json_fail(in->fault, condition, (size_t)(where - in->start), text);
}

static int fail_cut(struct in *in)
{
	return fail_at(in, in->end, RTBP_JSON_E_SYNTAX, "the text ends too early");
}

static int number(struct in *in)
{
	struct rtbp_num num;
	const uint8_t *bad;
	size_t n = rtbp_num_read(in->p, in->end, &num, &bad);

	if (!n)
		return bad == in->end ? fail_cut(in)
				      : fail_at(in, bad, RTBP_JSON_E_SYNTAX, "not a number");
	switch (num.kind) {
	case RTBP_NUM_UINT:
		rtbp_mp_put_uint(in->out, num.u);
		break;
	case RTBP_NUM_INT:
		rtbp_mp_put_negative(in->out, num.i);
		break;
	case RTBP_NUM_FLOAT:
		rtbp_mp_put_float(in->out, num.d);
		break;
	case RTBP_NUM_TEXT:
		rtbp_mp_put_number_text(in->out, in->p, (uint32_t)n);
		break;
	}
	in->p += n;
	return 0;
}

static int word(struct in *in, const char *text, uint8_t code)
{
	size_t n = strlen(text), i = 0;

	while (i < n && in->p + i < in->end && in->p[i] == (uint8_t)text[i])
		i++;
	if (i < n && in->p + i == in->end)
		return fail_cut(in);
	if (i < n)
		return fail_at(in, in->p + i, RTBP_JSON_E_SYNTAX, "an unknown word");
	in->p += n;
	rtbp_json_byte(in->out, code);
	return 0;
}

/* Reads up to four hexadecimal digits at `p`; returns how many there are. */
static unsigned hex4(const uint8_t *p, const uint8_t *end, uint32_t *ret)
{
	unsigned n = 0;

	*ret = 0;
	for (; n < 4 && p < end; n++, p++) {
		uint32_t c = *p, low = c | 0x20;

		if (c >= '0' && c <= '9')
			*ret = *ret * 16 + (c - '0');
		else if (low >= 'a' && low <= 'f')
			*ret = *ret * 16 + (low - 'a' + 10);
		else
			break;
	}
	return n;
}

static void put_utf8(struct rtbp_buf *out, uint32_t c)
{
	uint8_t u[4];
	unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (unsigned i = n; --i; c >>= 6)
		u[i] = (uint8_t)(0x80 | (c & 0x3f));
	u[0] = (uint8_t)(n == 1 ? c : (0xf00 >> n) | c);
	rtbp_buf_put(out, u, n);
}

/* \uXXXX, in->p at its first digit. Halves of a pair that stand alone become U+FFFD. */
static int unicode_escape(struct in *in)
{
	uint32_t c, low;
	unsigned n = hex4(in->p, in->end, &c);
	bool is_pair;

	if (n < 4 && in->p + n == in->end)
		return fail_cut(in);
	if (n < 4)
		return fail_at(in, in->p + n, RTBP_JSON_E_SYNTAX, "\\u without four digits");
	in->p += 4;
	if (c >= 0xd800 && c <= 0xdfff) {
		is_pair = c < 0xdc00 && in->end - in->p >= 6 && in->p[0] == '\\' &&
			  in->p[1] == 'u' && hex4(in->p + 2, in->end, &low) == 4 && low >= 0xdc00 &&
			  low <= 0xdfff;
		if (is_pair)
			in->p += 6;
		c = is_pair ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
	}
	put_utf8(in->out, c);
	return 0;
}

/* in->p behind the backslash. */
static int escape(struct in *in)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (in->p == in->end)
		return fail_cut(in);
	if (*in->p == 'u') {
		in->p++;
		return unicode_escape(in);
	}
	found = *in->p ? strchr(from, *in->p) : NULL;
	if (!found)
		return fail_at(in, in->p, RTBP_JSON_E_SYNTAX, "an unknown escape");
	in->p++;
	rtbp_json_byte(in->out, (uint8_t)to[found - from]);
	return 0;
}

/* Goes on to the quote or backslash that ends a run of characters; checks the run. */
static int skip_run(struct in *in)
{
	unsigned n;

	for (;;) {
		in->p = rtbp_skip_plain(in->p, in->end);
		if (in->p == in->end)
			return fail_cut(in);
		if (*in->p == '"' || *in->p == '\\')
			return 0;
		if (*in->p < 0x20)
			return fail_at(in, in->p, RTBP_JSON_E_SYNTAX,
				       "a control character in a string");
		n = rtbp_utf8_len(in->p, in->end);
		if (!n)
			return fail_at(in, in->p, RTBP_JSON_E_UTF8, "a string is not UTF-8");
		in->p += n;
	}
}

/* The rest of a string that has escapes: `run` is where it starts, in->p at the first backslash. */
static int escaped_string(struct in *in, const uint8_t *run, uint32_t *ret_len)
{
	size_t head = in->out->size;
	int r;

	rtbp_json_byte(in->out, 0);
	while (*in->p == '\\') {
		rtbp_buf_put(in->out, run, (size_t)(in->p - run));
		in->p++;
		r = escape(in);
		if (r)
			return r;
		run = in->p;
		r = skip_run(in);
		if (r)
			return r;
	}
	rtbp_buf_put(in->out, run, (size_t)(in->p - run));
	if (in->out->error)
		return in->out->error;
	*ret_len = (uint32_t)(in->out->size - head - 1);
	rtbp_mp_settle_head(in->out, head, &rtbp_mp_head_str, *ret_len);
	return 0;
}

/* in->p at the opening quote; `ret_len` (may be NULL): bytes of the string in the output. */
static int string(struct in *in, uint32_t *ret_len)
{
	const uint8_t *run = ++in->p;
	unsigned n_head;
	uint32_t n;
	uint8_t *at;
	int r = skip_run(in);

	if (r)
		return r;
	if (*in->p == '\\') {
		r = escaped_string(in, run, &n);
		if (r)
			return r;
	} else {
		n = (uint32_t)(in->p - run);
		n_head = rtbp_mp_head_size(&rtbp_mp_head_str, n);
		at = rtbp_json_room(in->out, n_head + n);
		if (at) {
			rtbp_mp_write_head(at, &rtbp_mp_head_str, n);
			memcpy(at + n_head, run, n);
			in->out->size += n_head + n;
		}
	}
	in->p++;
	if (ret_len)
		*ret_len = n;
	return in->out->error;
}

static inline void skip_space(struct in *in)
{
	const uint8_t *p = in->p;

	/* one comparison where nothing is to skip: the usual case */
	while (p < in->end && *p <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	in->p = p;
}

static int key(struct in *in)
{
	uint32_t n;
	int r;

	if (*in->p != '"')
		return fail_at(in, in->p, RTBP_JSON_E_SYNTAX, "no key where one must stand");
	r = string(in, &n);
	if (r)
		return r;
	skip_space(in);
	if (in->p == in->end)
		return fail_cut(in);
	if (*in->p != ':')
		return fail_at(in, in->p, RTBP_JSON_E_SYNTAX, "no colon after a key");
	in->p++;
	return rtbp_keys_push(&in->keys, in->out->data, in->out->size - n, n);
}

static int open_container(struct in *in, bool is_map)
{
	struct frame *f;

	if (in->depth == in->max_depth)
		return fail_at(in, in->p, RTBP_JSON_E_DEPTH, "nested too deep");
	in->p++;
	f = &in->stack[in->depth++];
	f->head = in->out->size;
	f->first_key = in->keys.n;
	f->count = 0;
	f->is_map = is_map;
	rtbp_json_byte(in->out, 0);
	return in->out->error;
}

/* Where the pair of `key` starts: at the key's header. */
static size_t pair_start(const struct rtbp_key *key)
{
	return key->at - rtbp_mp_head_size(&rtbp_mp_head_str, key->len);
}

/* Takes the pairs out of the object just read whose key comes again; returns how many remain. */
static uint32_t drop_repeated(struct in *in, const struct frame *f)
{
	struct rtbp_key *v = in->keys.v + f->first_key;
	size_t n = in->keys.n - f->first_key;
	size_t n_dropped = rtbp_keys_find_repeated(v, n, in->out->data);
	size_t to, from, stop;

	in->keys.n = f->first_key;
	if (!n_dropped)
		return (uint32_t)n;
	to = pair_start(&v[0]);
	for (size_t i = 0; i < n; i++) {
		if (v[i].is_repeated)
			continue;
		from = pair_start(&v[i]);
		stop = i + 1 < n ? pair_start(&v[i + 1]) : in->out->size;
		memmove(in->out->data + to, in->out->data + from, stop - from);
		to += stop - from;
	}
	in->out->size = to;
	return (uint32_t)(n - n_dropped);
}

static int close_container(struct in *in)
{
	struct frame *f = &in->stack[--in->depth];

	in->p++;
	if (f->is_map)
		rtbp_mp_settle_head(in->out, f->head, &rtbp_mp_head_map, drop_repeated(in, f));
	else
		rtbp_mp_settle_head(in->out, f->head, &rtbp_mp_head_array, f->count);
	return in->out->error;
}

static int value(struct in *in, enum state *ret_next)
{
	*ret_next = NEXT;
	if (in->depth)
		in->stack[in->depth - 1].count++;
	switch (*in->p) {
	case '{':
		*ret_next = FIRST_KEY;
		return open_container(in, true);
	case '[':
		*ret_next = FIRST_VALUE;
		return open_container(in, false);
	case '"':
		return string(in, NULL);
	case 't':
		return word(in, "true", 0xc3);
	case 'f':
		return word(in, "false", 0xc2);
	case 'n':
		return word(in, "null", 0xc0);
	case '-':
	case '0' ... '9':
		return number(in);
	default:
		return fail_at(in, in->p, RTBP_JSON_E_SYNTAX, "no value where one must stand");
	}
}

/* Behind a value inside a container: a comma or the container's end. */
static int next(struct in *in, enum state *ret_next)
{
	bool is_map = in->stack[in->depth - 1].is_map;

	*ret_next = NEXT;
	if (*in->p == (is_map ? '}' : ']'))
		return close_container(in);
	if (*in->p != ',')
		return fail_at(in, in->p, RTBP_JSON_E_SYNTAX,
			       is_map ? "neither comma nor '}' in an object"
				      : "neither comma nor ']' in an array");
	in->p++;
	*ret_next = is_map ? KEY : VALUE;
	return 0;
}

/* What stands at in->p, no white space, by what may stand there. */
static int step(struct in *in, enum state *state)
{
	switch (*state) {
	case FIRST_VALUE:
		if (*in->p == ']')
			break;
		return value(in, state);
	case VALUE:
		return value(in, state);
	case FIRST_KEY:
		if (*in->p == '}')
			break;
		*state = VALUE;
		return key(in);
	case KEY:
		*state = VALUE;
		return key(in);
	case NEXT:
		return next(in, state);
	}
	*state = NEXT;
	return close_container(in);
}

static int convert(struct in *in)
{
	enum state state = VALUE;
	int r;

	do {
		skip_space(in);
		if (in->p == in->end)
			return fail_cut(in);
		r = step(in, &state);
		if (r)
			return r;
	} while (state != NEXT || in->depth);
	skip_space(in);
	if (in->p != in->end)
		return fail_at(in, in->p, RTBP_JSON_E_SYNTAX,
			       "something after the end of the document");
	return in->out->error;
}

int rtbp_json_to_mp(const char *json, size_t size, unsigned max_depth, struct rtbp_buf *out,
		    struct rtbp_json_fault *fault)
{
	struct in in; /* not zeroed: its stack is 8 KiB */
	size_t before = out->size;
	int r;

	if (out->error)
		return out->error;
	if (size > UINT32_MAX)
		return -EMSGSIZE;
	in.start = in.p = (const uint8_t *)(size ? json : "");
	in.end = in.start + size;
	in.out = out;
	in.fault = fault;
	in.depth = 0;
	in.max_depth = max_depth < RTBP_JSON_STACK ? max_depth : RTBP_JSON_STACK;
	rtbp_keys_init(&in.keys);
	r = convert(&in);
	rtbp_keys_done(&in.keys);
	if (out->error)
		r = out->error;
	if (r)
		out->size = before;
	return r;
}
