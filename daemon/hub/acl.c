/* SPDX-License-Identifier: MIT */
#include "hub/acl.h"

#include <stdlib.h>
#include <string.h>

#include "hub/acl_impl.h"

enum { ACL_OF_TOPIC = ACL_READ | ACL_WRITE | ACL_PRESENCE };

/* ---- who ---- */

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

/* The next character's end. */
static size_t past_character(struct rtbp_str s, size_t i)
{
	do {
		i++;
	} while (i < s.size && ((uint8_t)s.p[i] & 0xc0) == 0x80);
	return i;
}

/* %u of a user without a name to put there is whatever a name could be: see may_fit(). */
static bool is_any(uint16_t op, struct rtbp_str user)
{
	return op == GLOB_ANY || (op == GLOB_USER && user.size == 0);
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
		if (g < rule->n_glob && is_any(rule->glob[g], user)) {
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
	while (g < rule->n_glob && is_any(rule->glob[g], user))
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

/* Who cannot be judged is refused: without a name an `allow` with %u fits nowhere, and a `deny`
 * wherever it would for some name. */
static bool may_fit(const struct rule *rule, struct rtbp_str user)
{
	return user.size > 0 || !rule->has_user || !rule->allow;
}

static bool fits_topic(const struct rule *rule, struct rtbp_str topic, struct rtbp_str user)
{
	return may_fit(rule, user) && fits_glob(rule, topic, user);
}

/* ---- the same rules ---- */

static bool is_same_who(const struct who_spec *a, const struct who_spec *b)
{
	return a->kind == b->kind && (a->kind == WHO_ALL || a->id == b->id);
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same_rule(const struct rule *a, const struct rule *b)
{
	return a->allow == b->allow && is_same_who(&a->who, &b->who) && a->rights == b->rights &&
	       a->what == b->what && a->n_glob == b->n_glob &&
	       (!a->n_glob || memcmp(a->glob, b->glob, a->n_glob * sizeof(*a->glob)) == 0) &&
	       is_same_text(a->schema, b->schema) && is_same_text(a->table, b->table);
}

bool acl_is_same(const struct acl *a, const struct acl *b)
{
	if (a->owner != b->owner || a->socket_group != b->socket_group ||
	    a->n_rules != b->n_rules || a->n_own != b->n_own)
		return false;
	for (size_t i = 0; i < a->n_rules; i++) {
		if (!is_same_rule(&a->rules[i], &b->rules[i]))
			return false;
	}
	for (size_t i = 0; i < a->n_own; i++) {
		if (!is_same_who(&a->own[i], &b->own[i]))
			return false;
	}
	return true;
}

/* ---- birth and death ---- */

void acl_rule_done(struct rule *rule)
{
	free(rule->glob);
	free(rule->schema);
	free(rule->table);
}

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
			acl_rule_done(&acl->rules[i]);
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
		    fits_topic(rule, topic, user))
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
static bool is_for_all(const struct rule *rule, struct rtbp_str user)
{
	size_t n = 0;

	if (rule->what != WHAT_TOPIC)
		return !rule->schema && !rule->table;
	while (n < rule->n_glob && is_any(rule->glob[n], user))
		n++;
	return n == rule->n_glob;
}

bool acl_may_attach(const struct acl *acl, const struct acl_who *who)
{
	/* What rules before have taken as a whole; by kind of thing. */
	unsigned all[] = {
		[WHAT_NONE] = ACL_ADMIN, [WHAT_TOPIC] = ACL_OF_TOPIC, [WHAT_TABLE] = ACL_READ
	};
	struct rtbp_str user = user_name(who);

	for (size_t i = 0; i < acl->n_rules; i++) {
		const struct rule *rule = &acl->rules[i];

		if (!fits_who(&rule->who, who) || !may_fit(rule, user))
			continue;
		if (rule->allow && rule->rights & all[rule->what])
			return true;
		if (!rule->allow && is_for_all(rule, user))
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
