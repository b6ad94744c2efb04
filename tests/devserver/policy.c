/* SPDX-License-Identifier: MIT */
#include "policy.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#define SUB "sub="

TAILQ_HEAD(rules, rule);

struct rule {
	TAILQ_ENTRY(rule) link;
	enum ds_right right;
	char *role; /* these two NULL: everybody */
	char *sub;
	char *topic;
};

struct ds_policies {
	struct rules rules;
};

static const char *const names[DS_RIGHTS] = { "read", "write", "presence_read", "presence_write" };

/* The next word of @line, which loses it; empty at the end. */
static struct ds_str word(struct ds_str *line)
{
	struct ds_str w;

	while (line->n && strchr(" \t\r", *line->p))
		line->p++, line->n--;
	w = (struct ds_str){ line->p, 0 };
	while (line->n && !strchr(" \t\r", *line->p))
		line->p++, line->n--, w.n++;
	return w;
}

static bool find_right(struct ds_str name, enum ds_right *ret)
{
	for (int i = 0; i < DS_RIGHTS; i++)
		if (ds_str_eq(name, ds_str(names[i]))) {
			*ret = (enum ds_right)i;
			return true;
		}
	return false;
}

/* Return: NULL, or what is wrong with the line. */
static const char *add_rule(struct ds_policies *p, struct ds_str line)
{
	struct ds_str right = word(&line), who = word(&line), topic = word(&line);
	size_t sub = strlen(SUB);
	enum ds_right which;
	struct rule *r;

	if (right.n == 0 || right.p[0] == '#')
		return NULL;
	if (!find_right(right, &which))
		return "a rule begins with read, write, presence_read or presence_write";
	if (topic.n == 0 || word(&line).n)
		return "a rule is a right, a role or sub=SUB or *, and a topic";
	r = ds_alloc(sizeof(*r));
	r->right = which;
	r->topic = ds_str_dup(topic);
	if (who.n >= sub && memcmp(who.p, SUB, sub) == 0)
		r->sub = ds_str_dup((struct ds_str){ who.p + sub, who.n - sub });
	else if (!ds_str_eq(who, DS_STR("*")))
		r->role = ds_str_dup(who);
	TAILQ_INSERT_TAIL(&p->rules, r, link);
	return NULL;
}

struct ds_policies *ds_policies_new(struct ds_str text, char *ret_error, size_t error_size)
{
	struct ds_policies *p = ds_alloc(sizeof(*p));

	TAILQ_INIT(&p->rules);
	for (unsigned n = 1; text.n > 0; n++) {
		const char *end = memchr(text.p, '\n', text.n);
		size_t size = end ? (size_t)(end - text.p) : text.n;
		const char *why = add_rule(p, (struct ds_str){ text.p, size });

		if (memchr(text.p, 0, size))
			why = "a rule is text";
		if (why) {
			snprintf(ret_error, error_size, "line %u: %s", n, why);
			return ds_policies_free(p);
		}
		size += end != NULL;
		text = (struct ds_str){ text.p + size, text.n - size };
	}
	return p;
}

struct ds_policies *ds_policies_free(struct ds_policies *p)
{
	struct rule *r;

	if (!p)
		return NULL;
	while ((r = TAILQ_FIRST(&p->rules)) != NULL) {
		TAILQ_REMOVE(&p->rules, r, link);
		free(r->role);
		free(r->sub);
		free(r->topic);
		free(r);
	}
	free(p);
	return NULL;
}

bool ds_policies_knows(const struct ds_policies *p, const char *role)
{
	const struct rule *r;

	if (strcmp(role, "anon") == 0 || strcmp(role, "authenticated") == 0 ||
	    strcmp(role, "service_role") == 0)
		return true;
	TAILQ_FOREACH(r, &p->rules, link)
		if (r->role && strcmp(r->role, role) == 0)
			return true;
	return false;
}

bool ds_policies_allow(const struct ds_policies *p, enum ds_right right, const char *role,
		       const char *sub, const char *topic)
{
	const struct rule *r;

	if (role && strcmp(role, "service_role") == 0)
		return true;
	if (!role || !ds_policies_knows(p, role))
		return false;
	TAILQ_FOREACH(r, &p->rules, link) {
		if (r->right != right || (r->role && strcmp(r->role, role) != 0) ||
		    (r->sub && (!sub || strcmp(r->sub, sub) != 0)))
			continue;
		if (fnmatch(r->topic, topic, 0) == 0)
			return true;
	}
	return false;
}
