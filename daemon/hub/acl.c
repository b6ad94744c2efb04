/* SPDX-License-Identifier: MIT */
#include "hub/acl.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum {
	ACL_RULES_MAX = 1000, /* and as many for identities */
	ACL_WHAT_MAX = 1024,  /* bytes of a glob, or of SCHEMA.TABLE */
	NAME_MAX_BYTES = 255, /* of a user or group */
	ENTRY_MAX = 1 << 20,  /* bytes of an entry of passwd or group; groups name their members */
	ACL_OF_TOPIC = ACL_READ | ACL_WRITE | ACL_PRESENCE,
};

enum who_kind { WHO_ALL, WHO_USER, WHO_GROUP };

struct who_spec {
	enum who_kind kind;
	id_t id;
};

/* A glob is a string of these; what is below 256 is a byte that stands for itself. */
enum { GLOB_ANY = 256, GLOB_ONE, GLOB_USER };

enum what_kind { WHAT_NONE, WHAT_TOPIC, WHAT_TABLE };

struct rule {
	bool allow, has_user; /* has_user: %u stands in the glob */
	struct who_spec who;
	unsigned rights;
	enum what_kind what;
	uint16_t *glob;
	size_t n_glob;
	char *schema, *table; /* NULL: all */
};

struct acl {
	uid_t owner;
	gid_t socket_group;
	struct rule *rules;
	size_t n_rules;
	struct who_spec *own; /* who needs its own identity */
	size_t n_own;
	bool needs_names;
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

static bool in_group(const struct acl_who *who, gid_t gid)
{
	if (gid == (gid_t)-1)
		return false;
	if (who->gid == gid)
		return true;
	for (size_t i = 0; i < who->n_groups; i++) {
		if (who->groups[i] == gid)
			return true;
	}
	return false;
}

static bool fits_who(const struct who_spec *spec, const struct acl_who *who)
{
	return spec->kind == WHO_ALL || (spec->kind == WHO_USER && who->uid == (uid_t)spec->id) ||
	       (spec->kind == WHO_GROUP && in_group(who, (gid_t)spec->id));
}

/* ---- globs ---- */

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

/* The next character's end. */
static size_t past_character(struct rtbp_str s, size_t i)
{
	do {
		i++;
	} while (i < s.size && ((uint8_t)s.p[i] & 0xc0) == 0x80);
	return i;
}

/* How much of `s` from `i` the piece `op` takes; 0: it does not fit there. */
static size_t taken(uint16_t op, struct rtbp_str s, size_t i, struct rtbp_str user)
{
	if (op == GLOB_ONE)
		return past_character(s, i) - i;
	if (op == GLOB_USER)
		return s.size - i >= user.size && memcmp(s.p + i, user.p, user.size) == 0
			       ? user.size
			       : 0;
	return (uint8_t)s.p[i] == op;
}

/* Only the last * has to be tried again: what the ones before it took can stay the least. So it
 * costs at most the product of both lengths. */
static bool fits_glob(const struct rule *rule, struct rtbp_str s, struct rtbp_str user)
{
	size_t i = 0, g = 0, star_i = 0, star_g = SIZE_MAX, n;

	while (i < s.size) {
		if (g < rule->n_glob && rule->glob[g] == GLOB_ANY) {
			star_i = i;
			star_g = ++g;
			continue;
		}
		n = g < rule->n_glob ? taken(rule->glob[g], s, i, user) : 0;
		if (n > 0) {
			i += n;
			g++;
		} else if (star_g != SIZE_MAX) {
			i = star_i = past_character(s, star_i);
			g = star_g;
		} else {
			return false;
		}
	}
	while (g < rule->n_glob && rule->glob[g] == GLOB_ANY)
		g++;
	return g == rule->n_glob;
}

/* The name as %u puts it; empty: it may not stand there. */
static struct rtbp_str user_name(const struct acl_who *who)
{
	if (!who->name || strpbrk(who->name, "*?%\\"))
		return (struct rtbp_str){ "", 0 };
	return (struct rtbp_str){ who->name, strlen(who->name) };
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

static void rule_done(struct rule *rule)
{
	free(rule->glob);
	free(rule->schema);
	free(rule->table);
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
		rule_done(&rule);
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

/* ---- birth and death ---- */

struct acl *acl_new(uid_t owner, gid_t socket_group)
{
	struct acl *acl = calloc(1, sizeof(*acl));

	if (acl) {
		acl->owner = owner;
		acl->socket_group = socket_group;
	}
	return acl;
}

struct acl *acl_free(struct acl *acl)
{
	if (acl) {
		for (size_t i = 0; i < acl->n_rules; i++)
			rule_done(&acl->rules[i]);
		free(acl->rules);
		free(acl->own);
		free(acl);
	}
	return NULL;
}

void acl_set_socket_group(struct acl *acl, gid_t gid)
{
	acl->socket_group = gid;
}

/* ---- questions ---- */

static bool by_default(const struct acl *acl, const struct acl_who *who)
{
	return acl_is_owner(acl, who->uid) || in_group(who, acl->socket_group);
}

/* One of the rights. */
static bool may_topic(const struct acl *acl, const struct acl_who *who, unsigned right,
		      struct rtbp_str topic, struct rtbp_str user)
{
	for (size_t i = 0; i < acl->n_rules; i++) {
		const struct rule *rule = &acl->rules[i];

		if (rule->what == WHAT_TOPIC && rule->rights & right && fits_who(&rule->who, who) &&
		    (user.size > 0 || !rule->has_user) && fits_glob(rule, topic, user))
			return rule->allow;
	}
	return by_default(acl, who);
}

bool acl_topic(const struct acl *acl, const struct acl_who *who, unsigned rights,
	       struct rtbp_str topic)
{
	struct rtbp_str user = user_name(who);

	for (unsigned right = 1; right <= rights; right <<= 1) {
		if (rights & right && !may_topic(acl, who, right, topic, user))
			return false;
	}
	return true;
}

/* Who asks for all is fitted by a rule for all alone. */
static bool fits_part(const char *part, struct rtbp_str asked)
{
	return !part || rtbp_str_is(asked, part);
}

bool acl_table(const struct acl *acl, const struct acl_who *who, struct rtbp_str schema,
	       struct rtbp_str table)
{
	for (size_t i = 0; i < acl->n_rules; i++) {
		const struct rule *rule = &acl->rules[i];

		if (rule->what == WHAT_TABLE && fits_who(&rule->who, who) &&
		    fits_part(rule->schema, schema) && fits_part(rule->table, table))
			return rule->allow;
	}
	return by_default(acl, who);
}

bool acl_admin(const struct acl *acl, const struct acl_who *who)
{
	for (size_t i = 0; i < acl->n_rules; i++) {
		const struct rule *rule = &acl->rules[i];

		if (rule->rights == ACL_ADMIN && fits_who(&rule->who, who))
			return rule->allow;
	}
	return by_default(acl, who);
}

/* Every topic, every table, the whole of `admin`. */
static bool is_for_all(const struct rule *rule)
{
	if (rule->what == WHAT_TOPIC)
		return rule->n_glob == 1 && rule->glob[0] == GLOB_ANY;
	return !rule->schema && !rule->table;
}

bool acl_may_attach(const struct acl *acl, const struct acl_who *who)
{
	/* What rules before have taken as a whole; by kind of thing. */
	unsigned all[] = {
		[WHAT_NONE] = ACL_ADMIN, [WHAT_TOPIC] = ACL_OF_TOPIC, [WHAT_TABLE] = ACL_READ
	};
	bool has_name = user_name(who).size > 0;

	for (size_t i = 0; i < acl->n_rules; i++) {
		const struct rule *rule = &acl->rules[i];

		if (!fits_who(&rule->who, who) || (rule->has_user && !has_name))
			continue;
		if (rule->allow && rule->rights & all[rule->what])
			return true;
		if (!rule->allow && is_for_all(rule))
			all[rule->what] &= ~rule->rights;
	}
	return by_default(acl, who) && (all[WHAT_NONE] || all[WHAT_TOPIC] || all[WHAT_TABLE]);
}

bool acl_needs_own_identity(const struct acl *acl, const struct acl_who *who)
{
	for (size_t i = 0; i < acl->n_own; i++) {
		if (fits_who(&acl->own[i], who))
			return true;
	}
	return false;
}

bool acl_needs_names(const struct acl *acl)
{
	return acl->needs_names;
}

bool acl_is_owner(const struct acl *acl, uid_t uid)
{
	return uid == 0 || uid == acl->owner;
}
