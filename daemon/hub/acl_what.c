/* SPDX-License-Identifier: MIT */
/*
 * What an access rule is about: a topic or a table.
 *
 * A rule that fits nothing is as dangerous as none: a `deny` that does nothing looks like one that
 * does. So what is written as in other places (quotes, "realtime:", a comment behind it) and would
 * stand for something else here is refused; a backslash, or double quotes around a table's name,
 * say that it is meant.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl_impl.h"
#include "proto/rtbp_msg.h"
#include "proto/rtbp_table.h"

enum {
	ACL_WHAT_MAX = 1024, /* bytes of a glob, or of SCHEMA.TABLE */
	NAME_MAX_BYTES = 255 /* of a schema or table: no wish may name a longer one */
};

static int check_text(const char *text, const char *expected, struct acl_text *t)
{
	size_t size = strlen(text);

	if (size == 0)
		return acl_wrong(t, -EINVAL, "expected %s at the end", expected);
	if (size > ACL_WHAT_MAX)
		return acl_wrong(t, -EINVAL, "the rule is too long: at most %d bytes for %s",
				 ACL_WHAT_MAX, expected);
	if (!rtbp_utf8_valid(text, size))
		return acl_wrong(t, -EINVAL, "a character that is not UTF-8");
	return 0;
}

/* Behind what is to be said about comments, which may be set off by a tab. */
static int check_controls(const char *text, struct acl_text *t)
{
	if (!rtbp_name_ok((struct rtbp_str){ text, strlen(text) }, ACL_WHAT_MAX))
		return acl_wrong(t, -EINVAL, "a control character, which no name can have");
	return 0;
}

/* ---- topics ---- */

static int parse_glob(const char *text, struct rule *rule, struct acl_text *t)
{
	uint16_t op;

	rule->glob = calloc(strlen(text), sizeof(*rule->glob));
	if (!rule->glob)
		return acl_wrong(t, -ENOMEM, "no memory");
	for (const char *p = text; *p; p++) {
		op = (uint8_t)*p;
		if (*p == '*')
			op = GLOB_ANY;
		else if (*p == '?')
			op = GLOB_ONE;
		else if (*p == '%' && p[1] == 'u')
			op = GLOB_USER;
		else if (*p == '%')
			return acl_wrong(t, -EINVAL, "expected %%u; a %% itself is written \\%%");
		else if (*p == '\\' && !p[1])
			return acl_wrong(t, -EINVAL, "expected a character behind the last \\");
		else if (*p == '\\')
			op = (uint8_t)p[1];
		if (*p == '\\' || *p == '%')
			p++;
		rule->has_user |= op == GLOB_USER;
		/* ** is *: a run of them would be tried one by one. */
		if (op != GLOB_ANY || rule->n_glob == 0 || rule->glob[rule->n_glob - 1] != GLOB_ANY)
			rule->glob[rule->n_glob++] = op;
	}
	return 0;
}

static bool is_quote(char c)
{
	return c == '"' || c == '\'';
}

/* What may not stand at `p`, of which `before` is the character in front. NULL: nothing. */
static const char *topic_mistake(const char *p, char before)
{
	bool after_blank = before == ' ' || before == '\t';

	if ((*p == '#' || *p == ';') && after_blank)
		return "a comment has a line of its own; a # or ; that belongs to the topic is "
		       "written \\# or \\;";
	if ((*p == ' ' || *p == '\t') && before == ',')
		return "a rule has one topic: write a further rule for each further one; a comma "
		       "in front of a blank that belongs to the topic is written \\,";
	if (is_quote(*p) && (!before || !p[1]))
		return "a topic stands without quotes; one that belongs to it is written with a \\ "
		       "in front";
	return NULL;
}

/* What is there by mistake, most likely. A backslash in front says that it is not. */
static int check_topic(const char *text, struct acl_text *t)
{
	const char *mistake = NULL;
	char before = '\0';

	if (strncmp(text, "realtime:", 9) == 0)
		return acl_wrong(t, -EINVAL,
				 "a topic stands without the prefix realtime: here; write \"%s\"",
				 text[9] ? text + 9 : "*");
	if (*text == '#' && (!text[1] || text[1] == ' ' || text[1] == '\t'))
		return acl_wrong(t, -EINVAL, "expected a topic; a comment has a line of its own");
	for (const char *p = text; *p && !mistake; p++) {
		if (*p == '\\' && p[1]) {
			before = '\\';
			p++;
		} else {
			mistake = topic_mistake(p, before);
			before = *p;
		}
	}
	return mistake ? acl_wrong(t, -EINVAL, "%s", mistake) : 0;
}

/* No topic is so: it would never fit. */
static int check_glob(const struct rule *rule, struct acl_text *t)
{
	static const char reserved[] = "rtbridge:";
	size_t least = 0, same = 0;

	for (size_t i = 0; i < rule->n_glob; i++)
		least += rule->glob[i] != GLOB_ANY;
	while (same < rule->n_glob && reserved[same] && rule->glob[same] == (uint8_t)reserved[same])
		same++;
	if (!reserved[same])
		return acl_wrong(t, -EINVAL,
				 "no topic can begin with rtbridge:, which is reserved");
	if (least > RTBP_TOPIC_MAX)
		return acl_wrong(t, -EINVAL, "no topic is so long: they have at most %d bytes",
				 RTBP_TOPIC_MAX);
	return 0;
}

static int parse_topic(const char *text, struct rule *rule, struct acl_text *t)
{
	int r = check_text(text, "a topic (with * and ?)", t);

	if (r == 0)
		r = check_topic(text, t);
	if (r == 0)
		r = check_controls(text, t);
	if (r == 0)
		r = parse_glob(text, rule, t);
	return r < 0 ? r : check_glob(rule, t);
}

/* ---- tables ---- */

/* Bytes of the character that begins a sequence of UTF-8. */
static int character_size(const char *p)
{
	uint8_t c = (uint8_t)*p;

	return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* May stand in a name without quotes. What could be meant as something else (a pattern, an event, a
 * comment, another list's next name) may not, and no quotes and blanks as word processors make
 * them. */
static bool is_plain(const char *p)
{
	if ((uint8_t)*p < 0x80)
		return (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		       (*p >= '0' && *p <= '9') || (*p && strchr("_$-", *p));
	/* U+00A0, U+00AB, U+00BB; U+2000 to U+203F */
	return strncmp(p, "\xc2\xa0", 2) != 0 && strncmp(p, "\xc2\xab", 2) != 0 &&
	       strncmp(p, "\xc2\xbb", 2) != 0 && strncmp(p, "\xe2\x80", 2) != 0;
}

static int not_plain(const char *p, struct acl_text *t)
{
	const char *next = acl_skip_blanks(p);

	if (*p == '*')
		return acl_wrong(t, -EINVAL,
				 "expected SCHEMA.TABLE, each a whole name, or * for all; a * in a "
				 "name needs double quotes around the name");
	if (*p == '%')
		return acl_wrong(t, -EINVAL,
				 "%%u stands in topics alone; a name with a %% needs double quotes "
				 "around it");
	if (*p == ':' || *p == '?')
		return acl_wrong(t, -EINVAL,
				 "a rule has no event and no filter; a name with a %c needs double "
				 "quotes around it",
				 *p);
	if (*p == '"')
		return acl_wrong(t, -EINVAL,
				 "double quotes stand around a whole name; one in a name is "
				 "written twice");
	if (next > p && (*next == '#' || *next == ';'))
		return acl_wrong(t, -EINVAL, "a comment has a line of its own");
	if ((uint8_t)*p < 0x20 || *p == 0x7f)
		return check_controls(p, t);
	return acl_wrong(t, -EINVAL,
			 "a name with \"%.*s\" in it needs double quotes around it, as in "
			 "public.\"My.Table\"",
			 character_size(p), p);
}

/* The name between double quotes. @room: for it. */
static int take_quoted(const char **at, char *room, struct acl_text *t)
{
	const char *p = *at + 1;
	char *out = room;

	for (; *p && (*p != '"' || p[1] == '"'); p++) {
		p += *p == '"';
		*out++ = *p;
	}
	*out = '\0';
	if (!*p)
		return acl_wrong(t, -EINVAL, "a double quote is not closed");
	if (out == room)
		return acl_wrong(t, -EINVAL, "there is no name between the double quotes");
	/* In what is asked and in rows it looks as if all were meant. */
	if (strcmp(room, "*") == 0)
		return acl_wrong(t, -EINVAL,
				 "a schema or table that is called * cannot be told from all of "
				 "them; write * without quotes for all");
	*at = p + 1;
	return 0;
}

/* One of the two names. *ret: NULL for all. */
static int take_name(const char **at, char **ret, struct acl_text *t)
{
	const char *p = *at;
	char room[ACL_WHAT_MAX + 1] = "";
	size_t n = 0;
	int r;

	if (*p == '*' && strchr(". \t", p[1])) { /* or the end */
		*at = p + 1;
		return 0;
	}
	if (*p == '"') {
		r = take_quoted(at, room, t);
		if (r < 0)
			return r;
	} else {
		while (is_plain(p + n))
			n++;
		memcpy(room, p, n);
		*at = p + n;
		if (n == 0 && (!*p || *p == '.'))
			return acl_wrong(t, -EINVAL,
					 "expected SCHEMA.TABLE, each a whole name, or * for all");
		if (p[n] && p[n] != '.' && *acl_skip_blanks(p + n))
			return not_plain(p + n, t);
	}
	n = strlen(room);
	if (n > NAME_MAX_BYTES)
		return acl_wrong(t, -EINVAL, "the name is too long: at most %d bytes",
				 NAME_MAX_BYTES);
	if (check_controls(room, t) < 0)
		return -EINVAL;
	*ret = malloc(n + 1);
	if (!*ret)
		return acl_wrong(t, -ENOMEM, "no memory");
	memcpy(*ret, room, n + 1);
	return 0;
}

/* A whole name was read, and this may not follow. */
static int name_goes_on(const char *at, struct acl_text *t)
{
	if (*at == '.')
		return acl_wrong(t, -EINVAL,
				 "a name with a dot needs double quotes around it, as in "
				 "public.\"My.Table\"");
	if (at[-1] == '"' && *at != ' ' && *at != '\t')
		return acl_wrong(t, -EINVAL,
				 "a quoted name ends at its double quote; one in a name is written "
				 "twice");
	return not_plain(at, t);
}

static int parse_table(const char *text, struct rule *rule, struct acl_text *t)
{
	const char *at = text;
	int r = check_text(text, "SCHEMA.TABLE", t);

	if (r == 0)
		r = take_name(&at, &rule->schema, t);
	if (r < 0)
		return r;
	if (!*acl_skip_blanks(at))
		return acl_wrong(
			t, -EINVAL,
			"expected SCHEMA.TABLE behind \"table\", such as public.messages%s",
			*text == '"' && rule->schema && strchr(rule->schema, '.')
				? "; each of the two has double quotes of its own"
				: "");
	if (*at != '.')
		return name_goes_on(at, t);
	at++;
	r = take_name(&at, &rule->table, t);
	if (r == 0 && *acl_skip_blanks(at))
		r = name_goes_on(at, t);
	return r;
}

/* ---- either ---- */

int acl_parse_what(const char *at, struct rule *rule, struct acl_text *t)
{
	struct rtbp_str word = acl_next_word(&at);

	at = acl_skip_blanks(at);
	if (rule->rights == ACL_ADMIN)
		return word.size == 0 ? 0
				      : acl_wrong(t, -EINVAL,
						  "expected nothing behind admin instead of "
						  "\"%.*s\"%s",
						  ACL_WORD(word), acl_about_comment(word));
	if (rtbp_str_is(word, "topic")) {
		rule->what = WHAT_TOPIC;
		return parse_topic(at, rule, t);
	}
	if (!rtbp_str_is(word, "table"))
		return acl_wrong(t, -EINVAL,
				 "expected \"topic GLOB\" or \"table SCHEMA.TABLE\" instead of "
				 "\"%.*s\"%s",
				 ACL_WORD(word), acl_about_comment(word));
	if (rule->rights != ACL_READ)
		return acl_wrong(t, -EINVAL, "a table has the right read alone");
	rule->what = WHAT_TABLE;
	return parse_table(at, rule, t);
}
