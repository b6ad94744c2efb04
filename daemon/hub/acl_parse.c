/* SPDX-License-Identifier: MIT */
/* How the access rules are written. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "hub/acl_impl.h"

enum {
	ACL_RULES_MAX = 1000, /* and as many for identities */
	ACL_WHAT_MAX = 1024,  /* bytes of a glob, or of SCHEMA.TABLE */
	NAME_MAX_BYTES = 255, /* of a user or group */
	ENTRY_MAX = 1 << 20,  /* bytes of an entry of passwd or group; groups name their members */
};

/* ---- words ---- */

struct text {
	char *to;
	size_t size;
};

__attribute__((format(printf, 3, 4))) static int wrong(struct text *t, int r, const char *format,
						       ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->to, t->size, format, args);
	va_end(args);
	return r;
}

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t");
}

/* The next word of *at; empty at the end. */
static struct rtbp_str next_word(const char **at)
{
	struct rtbp_str word;

	word.p = skip_blanks(*at);
	word.size = strcspn(word.p, " \t");
	*at = word.p + word.size;
	return word;
}

#define WORD(w) (int)(w).size, (w).p

/* ---- who ---- */

/* A number that is no id of the system's own use. */
static bool parse_id(const char *name, id_t *ret)
{
	unsigned long n;
	char *end;

	if (name[strspn(name, "0123456789")])
		return false;
	errno = 0;
	n = strtoul(name, &end, 10);
	if (errno || n >= UINT32_MAX)
		return false;
	*ret = (id_t)n;
	return true;
}

/* Return: 0; ENOENT: there is none; another errno. */
static int look_up(enum who_kind kind, const char *name, id_t *ret)
{
	struct passwd passwd, *user;
	struct group entry, *group;
	CLEANUP(freep) char *buf = NULL;
	char *larger;
	int r = ERANGE;

	for (size_t size = 4096; r == ERANGE && size <= ENTRY_MAX; size *= 4) {
		larger = realloc(buf, size);
		if (!larger)
			return ENOMEM;
		buf = larger;
		user = NULL;
		group = NULL;
		do {
			r = kind == WHO_USER ? getpwnam_r(name, &passwd, buf, size, &user)
					     : getgrnam_r(name, &entry, buf, size, &group);
		} while (r == EINTR);
		if (r == 0 && user)
			*ret = user->pw_uid;
		else if (r == 0 && group)
			*ret = group->gr_gid;
		else if (r == 0)
			r = ENOENT;
	}
	return r;
}

static int parse_named(enum who_kind kind, const char **at, id_t *ret, struct text *t)
{
	const char *what = kind == WHO_USER ? "user" : "group";
	struct rtbp_str word = next_word(at);
	char name[NAME_MAX_BYTES + 1];
	int r;

	if (word.size == 0)
		return wrong(t, -EINVAL, "expected a name or a number behind \"%s\"", what);
	if (word.size >= sizeof(name))
		return wrong(t, -EINVAL, "the %s's name is too long", what);
	memcpy(name, word.p, word.size);
	name[word.size] = '\0';
	if (parse_id(name, ret))
		return 0;
	r = look_up(kind, name, ret);
	if (r == 0)
		return 0;
	if (r == ENOMEM)
		return wrong(t, -ENOMEM, "no memory");
	/* These stand for "not found" with some sources of names (getpwnam(3)). */
	if (r == ENOENT || r == ESRCH || r == EBADF || r == EPERM)
		return wrong(t, -EINVAL,
			     "there is no %s \"%s\"; write the name of one, or a number", what,
			     name);
	return wrong(t, -EINVAL, "the %s \"%s\" cannot be looked up: %s", what, name, strerror(r));
}

static int parse_who(const char **at, struct who_spec *ret, struct text *t)
{
	struct rtbp_str word = next_word(at);

	*ret = (struct who_spec){ .kind = WHO_ALL };
	if (rtbp_str_is(word, "*"))
		return 0;
	if (rtbp_str_is(word, "user"))
		ret->kind = WHO_USER;
	else if (rtbp_str_is(word, "group"))
		ret->kind = WHO_GROUP;
	else
		return wrong(t, -EINVAL,
			     "expected \"user NAME\", \"group NAME\" or * instead of "
			     "\"%.*s\"",
			     WORD(word));
	return parse_named(ret->kind, at, &ret->id, t);
}

/* ---- what ---- */

static int parse_glob(const char *text, struct rule *rule, struct text *t)
{
	uint16_t op;

	rule->glob = calloc(strlen(text), sizeof(*rule->glob));
	if (!rule->glob)
		return wrong(t, -ENOMEM, "no memory");
	for (const char *p = text; *p; p++) {
		op = (uint8_t)*p;
		if (*p == '*')
			op = GLOB_ANY;
		else if (*p == '?')
			op = GLOB_ONE;
		else if (*p == '%' && p[1] == 'u')
			op = GLOB_USER;
		else if (*p == '%')
			return wrong(t, -EINVAL, "expected %%u; a %% itself is written \\%%");
		else if (*p == '\\' && !p[1])
			return wrong(t, -EINVAL, "expected a character behind the last \\");
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

/* ---- rules ---- */

static int parse_rights(struct rtbp_str words, unsigned *ret, struct text *t)
{
	static const struct {
		const char *name;
		unsigned right;
	} rights[] = { { "read", ACL_READ },
		       { "write", ACL_WRITE },
		       { "presence", ACL_PRESENCE },
		       { "admin", ACL_ADMIN } };
	const char *p = words.p, *end = words.p + words.size;
	struct rtbp_str word;
	unsigned found;

	*ret = 0;
	do {
		word.p = p;
		while (p < end && *p != ',')
			p++;
		word.size = (size_t)(p - word.p);
		found = 0;
		for (size_t i = 0; i < sizeof(rights) / sizeof(*rights); i++) {
			if (rtbp_str_is(word, rights[i].name))
				found = rights[i].right;
		}
		if (!found)
			return wrong(t, -EINVAL,
				     "expected read, write, presence (joined by commas without "
				     "spaces) or admin instead of \"%.*s\"",
				     WORD(word));
		*ret |= found;
	} while (p++ < end);
	if (*ret & ACL_ADMIN && *ret != ACL_ADMIN)
		return wrong(t, -EINVAL, "admin stands alone; write a second rule for the others");
	return 0;
}

static int set_part(char **to, const char *text, size_t size, struct text *t)
{
	if (size == 1 && *text == '*')
		return 0;
	if (size == 0 || memchr(text, '*', size))
		return wrong(t, -EINVAL, "expected SCHEMA.TABLE, each a whole name, or * for all");
	*to = strndup(text, size);
	return *to ? 0 : wrong(t, -ENOMEM, "no memory");
}

static int parse_table(const char *text, struct rule *rule, struct text *t)
{
	size_t dot = strcspn(text, ".");
	int r;

	if (!text[dot])
		return wrong(t, -EINVAL,
			     "expected SCHEMA.TABLE behind \"table\", such as public.messages");
	r = set_part(&rule->schema, text, dot, t);
	return r < 0 ? r : set_part(&rule->table, text + dot + 1, strlen(text + dot + 1), t);
}

static int check_what(const char *text, const char *expected, struct text *t)
{
	size_t size = strlen(text);

	if (size == 0)
		return wrong(t, -EINVAL, "expected %s at the end", expected);
	if (size > ACL_WHAT_MAX)
		return wrong(t, -EINVAL, "the rule is too long: at most %d bytes for %s",
			     ACL_WHAT_MAX, expected);
	if (!rtbp_utf8_valid(text, size))
		return wrong(t, -EINVAL, "a character that is not UTF-8");
	for (const char *p = text; *p; p++) {
		if ((uint8_t)*p < 0x20 || *p == 0x7f)
			return wrong(t, -EINVAL, "a control character, which no name can have");
	}
	return 0;
}

static int parse_what(const char *at, struct rule *rule, struct text *t)
{
	struct rtbp_str word = next_word(&at);
	int r;

	at = skip_blanks(at);
	if (rule->rights == ACL_ADMIN)
		return word.size == 0 ? 0
				      : wrong(t, -EINVAL,
					      "expected nothing behind admin instead of \"%.*s\"",
					      WORD(word));
	if (rtbp_str_is(word, "topic")) {
		rule->what = WHAT_TOPIC;
		r = check_what(at, "a topic (with * and ?)", t);
		return r < 0 ? r : parse_glob(at, rule, t);
	}
	if (!rtbp_str_is(word, "table"))
		return wrong(t, -EINVAL,
			     "expected \"topic GLOB\" or \"table SCHEMA.TABLE\" instead of "
			     "\"%.*s\"",
			     WORD(word));
	if (rule->rights != ACL_READ)
		return wrong(t, -EINVAL, "a table has the right read alone");
	rule->what = WHAT_TABLE;
	r = check_what(at, "SCHEMA.TABLE", t);
	return r < 0 ? r : parse_table(at, rule, t);
}

static int parse_rule(const char *at, struct rule *rule, struct text *t)
{
	struct rtbp_str word = next_word(&at);
	int r;

	rule->allow = rtbp_str_is(word, "allow");
	if (!rule->allow && !rtbp_str_is(word, "deny"))
		return wrong(t, -EINVAL, "expected allow or deny instead of \"%.*s\"", WORD(word));
	r = parse_who(&at, &rule->who, t);
	if (r < 0)
		return r;
	r = parse_rights(next_word(&at), &rule->rights, t);
	return r < 0 ? r : parse_what(at, rule, t);
}

int acl_rule(struct acl *acl, const char *text, char *ret_text, size_t size)
{
	struct text t = { ret_text, size };
	struct rule rule = { .what = WHAT_NONE }, *rules;
	int r;

	if (acl->n_rules == ACL_RULES_MAX)
		return wrong(&t, -EINVAL, "at most %d rules are allowed", ACL_RULES_MAX);
	r = parse_rule(text, &rule, &t);
	rules = r < 0 ? NULL : reallocarray(acl->rules, acl->n_rules + 1, sizeof(*rules));
	if (!rules) {
		acl_rule_done(&rule);
		return r < 0 ? r : wrong(&t, -ENOMEM, "no memory");
	}
	acl->rules = rules;
	acl->rules[acl->n_rules++] = rule;
	acl->needs_names |= rule.has_user;
	return 0;
}

int acl_identity(struct acl *acl, const char *text, char *ret_text, size_t size)
{
	struct text t = { ret_text, size };
	struct rtbp_str word = next_word(&text);
	struct who_spec who, *own;
	int r;

	if (!rtbp_str_is(word, "own"))
		return wrong(&t, -EINVAL,
			     "expected \"own\" and who needs its own identity instead "
			     "of \"%.*s\"",
			     WORD(word));
	if (acl->n_own == ACL_RULES_MAX)
		return wrong(&t, -EINVAL, "at most %d of them are allowed", ACL_RULES_MAX);
	r = parse_who(&text, &who, &t);
	if (r < 0)
		return r;
	word = next_word(&text);
	if (word.size > 0)
		return wrong(&t, -EINVAL, "expected nothing more instead of \"%.*s\"", WORD(word));
	own = reallocarray(acl->own, acl->n_own + 1, sizeof(*own));
	if (!own)
		return wrong(&t, -ENOMEM, "no memory");
	acl->own = own;
	acl->own[acl->n_own++] = who;
	return 0;
}
