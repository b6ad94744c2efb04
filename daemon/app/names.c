/* SPDX-License-Identifier: MIT */
#include "app/names.h"

#include <bsd/sys/tree.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cleanup.h"

enum { ENTRY_MAX = 1 << 20 }; /* bytes of an entry of passwd */

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

void names_of_system(uid_t uid, char *ret)
{
	struct passwd passwd, *user = NULL;
	CLEANUP(freep) char *buf = NULL;
	char *larger;
	int r = ERANGE;

	ret[0] = '\0';
	for (size_t size = 4096; r == ERANGE && size <= ENTRY_MAX; size *= 4) {
		larger = realloc(buf, size);
		if (!larger)
			return;
		buf = larger;
		do {
			r = getpwuid_r(uid, &passwd, buf, size, &user);
		} while (r == EINTR);
	}
	if (r == 0 && user && strlen(user->pw_name) <= NAMES_BYTES_MAX)
		strcpy(ret, user->pw_name);
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

static void ask(struct names *n, struct name *name)
{
	n->fn(name->uid, name->text);
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
