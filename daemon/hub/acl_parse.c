/* SPDX-License-Identifier: MIT */
/* How the access rules are written: but for what they are about, see acl_what.c. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/accounts.h"
#include "hub/acl_impl.h"

enum {
	ACL_RULES_MAX = 1000, /* and as many for identities */
	NAME_MAX_BYTES = 255, /* of a user or group */
};

/* ---- words ---- */

int acl_wrong(struct acl_text *t, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(t->to, t->size, format, args);
	va_end(args);
	return r;
}

const char *acl_skip_blanks(const char *p)
{
	return p + strspn(p, " \t");
}

struct rtbp_str acl_next_word(const char **at)
{
	struct rtbp_str word;

	word.p = acl_skip_blanks(*at);
	word.size = strcspn(word.p, " \t");
	*at = word.p + word.size;
	return word;
}

const char *acl_about_comment(struct rtbp_str word)
{
	return word.size > 0 && strchr("#;", *word.p) ? "; a comment has a line of its own" : "";
}

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

static int parse_named(enum who_kind kind, const char **at, id_t *ret, struct acl_text *t)
{
	const char *what = kind == WHO_USER ? "user" : "group";
	struct rtbp_str word = acl_next_word(at);
	char name[NAME_MAX_BYTES + 1];
	int r;

	if (word.size == 0)
		return acl_wrong(t, -EINVAL, "expected a name or a number behind \"%s\"", what);
	if (word.size >= sizeof(name))
		return acl_wrong(t, -EINVAL, "the %s's name is too long", what);
	memcpy(name, word.p, word.size);
	name[word.size] = '\0';
	if (parse_id(name, ret))
		return 0;
	r = kind == WHO_USER ? accounts_uid(name, ret) : accounts_gid(name, ret);
	if (r == 0)
		return 0;
	if (r == -ENOMEM)
		return acl_wrong(t, r, "no memory");
	/* These stand for "not found" with some sources of names (getpwnam(3)). */
	if (r == ACCOUNTS_NONE || r == -ENOENT || r == -ESRCH || r == -EBADF || r == -EPERM)
		return acl_wrong(t, -EINVAL,
				 "there is no %s \"%s\"; write the name of one, or a number", what,
				 name);
	return acl_wrong(t, -EINVAL, "the %s \"%s\" cannot be looked up: %s", what, name,
			 strerror(-r));
}

static int parse_who(const char **at, struct who_spec *ret, struct acl_text *t)
{
	struct rtbp_str word = acl_next_word(at);

	*ret = (struct who_spec){ .kind = WHO_ALL };
	if (rtbp_str_is(word, "*"))
		return 0;
	if (rtbp_str_is(word, "user"))
		ret->kind = WHO_USER;
	else if (rtbp_str_is(word, "group"))
		ret->kind = WHO_GROUP;
	else
		return acl_wrong(t, -EINVAL,
				 "expected \"user NAME\", \"group NAME\" or * instead of "
				 "\"%.*s\"",
				 ACL_WORD(word));
	return parse_named(ret->kind, at, &ret->id, t);
}

/* ---- rules ---- */

static unsigned right_of(struct rtbp_str word)
{
	static const struct {
		const char *name;
		unsigned right;
	} rights[] = { { "read", ACL_READ },
		       { "write", ACL_WRITE },
		       { "presence", ACL_PRESENCE },
		       { "admin", ACL_ADMIN } };

	for (size_t i = 0; i < sizeof(rights) / sizeof(*rights); i++) {
		if (rtbp_str_is(word, rights[i].name))
			return rights[i].right;
	}
	return 0;
}

/* Up to a comma or a blank; a comma and blanks behind it are passed over. */
static int parse_rights(const char **at, unsigned *ret, struct acl_text *t)
{
	struct rtbp_str word;
	unsigned right;
	bool more;

	*ret = 0;
	do {
		word.p = acl_skip_blanks(*at);
		word.size = strcspn(word.p, " \t,");
		right = right_of(word);
		if (!right)
			return acl_wrong(t, -EINVAL,
					 "expected read, write, presence (joined by commas) or "
					 "admin instead of \"%.*s\"",
					 ACL_WORD(word));
		*ret |= right;
		more = word.p[word.size] == ',';
		*at = word.p + word.size + more;
	} while (more);
	if (*ret & ACL_ADMIN && *ret != ACL_ADMIN)
		return acl_wrong(t, -EINVAL,
				 "admin stands alone; write a second rule for the others");
	return 0;
}

static int parse_rule(const char *at, struct rule *rule, struct acl_text *t)
{
	struct rtbp_str word = acl_next_word(&at);
	int r;

	rule->allow = rtbp_str_is(word, "allow");
	if (!rule->allow && !rtbp_str_is(word, "deny"))
		return acl_wrong(t, -EINVAL, "expected allow or deny instead of \"%.*s\"",
				 ACL_WORD(word));
	r = parse_who(&at, &rule->who, t);
	if (r < 0)
		return r;
	r = parse_rights(&at, &rule->rights, t);
	return r < 0 ? r : acl_parse_what(at, rule, t);
}

int acl_rule(struct acl *acl, const char *text, char *ret_text, size_t size)
{
	struct acl_text t = { ret_text, size };
	struct rule rule = { .what = WHAT_NONE }, *rules;
	int r;

	if (acl->n_rules == ACL_RULES_MAX)
		return acl_wrong(&t, -EINVAL, "at most %d rules are allowed", ACL_RULES_MAX);
	r = parse_rule(text, &rule, &t);
	rules = r < 0 ? NULL : reallocarray(acl->rules, acl->n_rules + 1, sizeof(*rules));
	if (!rules) {
		acl_rule_done(&rule);
		return r < 0 ? r : acl_wrong(&t, -ENOMEM, "no memory");
	}
	acl->rules = rules;
	acl->rules[acl->n_rules++] = rule;
	acl->needs_names |= rule.has_user;
	return 0;
}

int acl_identity(struct acl *acl, const char *text, char *ret_text, size_t size)
{
	struct acl_text t = { ret_text, size };
	struct rtbp_str word = acl_next_word(&text);
	struct who_spec who, *own;
	int r;

	if (!rtbp_str_is(word, "own"))
		return acl_wrong(&t, -EINVAL,
				 "expected \"own\" and who needs its own identity instead "
				 "of \"%.*s\"",
				 ACL_WORD(word));
	if (acl->n_own == ACL_RULES_MAX)
		return acl_wrong(&t, -EINVAL, "at most %d of them are allowed", ACL_RULES_MAX);
	r = parse_who(&text, &who, &t);
	if (r < 0)
		return r;
	word = acl_next_word(&text);
	if (word.size > 0)
		return acl_wrong(&t, -EINVAL, "expected nothing more instead of \"%.*s\"%s",
				 ACL_WORD(word), acl_about_comment(word));
	own = reallocarray(acl->own, acl->n_own + 1, sizeof(*own));
	if (!own)
		return acl_wrong(&t, -ENOMEM, "no memory");
	acl->own = own;
	acl->own[acl->n_own++] = who;
	return 0;
}
