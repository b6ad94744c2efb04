/* SPDX-License-Identifier: MIT */
#include "app/names.h"

#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/accounts.h"
#include "base/log.h"

struct name {
	RB_ENTRY(name) node;
	TAILQ_ENTRY(name) idle; /* while nobody has it; who has gone last stands last */
	uid_t uid;
	unsigned users;
	bool asked;
	uint64_t asked_ms;
	char text[NAMES_BYTES_MAX + 1];
};

RB_HEAD(name_tree, name);

struct names {
	const struct clock *clock;
	names_fn fn;
	bool need;
	struct name_tree tree;
	TAILQ_HEAD(, name) idle;
	unsigned n_idle;
};

static int by_uid(const struct name *a, const struct name *b)
{
	return (a->uid > b->uid) - (a->uid < b->uid);
}

RB_GENERATE_INTERNAL(name_tree, name, node, by_uid, static __attribute__((unused)))

int names_of_system(uid_t uid, char *ret)
{
	int r = accounts_name(uid, ret, NAMES_BYTES_MAX + 1);

	if (r == ACCOUNTS_NONE)
		ret[0] = '\0';
	return r < 0 ? r : 0;
}

struct names *names_new(const struct clock *clock, names_fn fn)
{
	struct names *n = calloc(1, sizeof(*n));

	if (n) {
		n->clock = clock;
		n->fn = fn;
		RB_INIT(&n->tree);
		TAILQ_INIT(&n->idle);
	}
	return n;
}

static void drop(struct names *n, struct name *name)
{
	TAILQ_REMOVE(&n->idle, name, idle);
	n->n_idle--;
	RB_REMOVE(name_tree, &n->tree, name);
	free(name);
}

struct names *names_free(struct names *n)
{
	struct name *name;

	if (n) {
		while ((name = TAILQ_FIRST(&n->idle)))
			drop(n, name);
		free(n);
	}
	return NULL;
}

/* Without an answer the name stays: rules must not change with every trouble of a server. */
static void ask(struct names *n, struct name *name)
{
	int r = n->fn(name->uid, name->text);

	if (r < 0)
		log_warning("the name of uid %u cannot be looked up: %s; for access rules with %%u "
			    "it %s",
			    (unsigned)name->uid, strerror(-r),
			    name->text[0] ? "stays as it was" : "has none");
	name->asked = true;
	name->asked_ms = clock_now(n->clock);
}

void names_need(struct names *n, bool need)
{
	struct name *name;

	n->need = need;
	while ((name = TAILQ_FIRST(&n->idle)))
		drop(n, name);
	RB_FOREACH(name, name_tree, &n->tree) {
		if (need)
			ask(n, name);
		else
			name->asked = false;
	}
}

struct name *names_take(struct names *n, uid_t uid)
{
	struct name key = { .uid = uid }, *name = RB_FIND(name_tree, &n->tree, &key);

	if (!name) {
		name = calloc(1, sizeof(*name));
		if (!name)
			return NULL;
		name->uid = uid;
		RB_INSERT(name_tree, &n->tree, name);
	} else if (name->users == 0) {
		TAILQ_REMOVE(&n->idle, name, idle);
		n->n_idle--;
	}
	name->users++;
	if (n->need && (!name->asked || clock_now(n->clock) - name->asked_ms >= NAMES_AGE_MS))
		ask(n, name);
	return name;
}

void names_give(struct names *n, struct name *name)
{
	if (--name->users > 0)
		return;
	TAILQ_INSERT_TAIL(&n->idle, name, idle);
	if (++n->n_idle > NAMES_IDLE_MAX)
		drop(n, TAILQ_FIRST(&n->idle));
}

const char *name_text(const struct name *name)
{
	return name->text;
}
