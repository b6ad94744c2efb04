/* SPDX-License-Identifier: MIT */
#include "base/accounts.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { ENTRY_MAX = 1 << 20 }; /* bytes of an entry; groups name their members */

/* What is asked, and how; the answer's text lies in `buf`. */
struct question {
	int (*ask)(struct question *q, char *buf, size_t size); /* as getpwnam_r() */
	const char *name;
	uid_t uid;
	struct passwd passwd, *user; /* NULL: none */
	struct group entry, *group;  /* NULL: none */
};

static int ask_user(struct question *q, char *buf, size_t size)
{
	return getpwnam_r(q->name, &q->passwd, buf, size, &q->user);
}

static int ask_uid(struct question *q, char *buf, size_t size)
{
	return getpwuid_r(q->uid, &q->passwd, buf, size, &q->user);
}

static int ask_group(struct question *q, char *buf, size_t size)
{
	return getgrnam_r(q->name, &q->entry, buf, size, &q->group);
}

/* @buf: freed by the caller, after an error, too. */
static int look_up(struct question *q, char **buf)
{
	int r = ERANGE;
	char *larger;

	for (size_t size = 4096; r == ERANGE && size <= ENTRY_MAX; size *= 4) {
		larger = realloc(*buf, size);
		if (!larger)
			return -ENOMEM;
		*buf = larger;
		do {
			r = q->ask(q, *buf, size);
		} while (r == EINTR);
	}
	if (r != 0)
		return -r;
	return q->user || q->group ? 0 : ACCOUNTS_NONE;
}

int accounts_uid(const char *user, uid_t *ret)
{
	struct question q = { .ask = ask_user, .name = user };
	CLEANUP(freep) char *buf = NULL;
	int r = look_up(&q, &buf);

	if (r == 0)
		*ret = q.user->pw_uid;
	return r;
}

int accounts_gid(const char *group, gid_t *ret)
{
	struct question q = { .ask = ask_group, .name = group };
	CLEANUP(freep) char *buf = NULL;
	int r = look_up(&q, &buf);

	if (r == 0)
		*ret = q.group->gr_gid;
	return r;
}

int accounts_name(uid_t uid, char *ret, size_t size)
{
	struct question q = { .ask = ask_uid, .uid = uid };
	CLEANUP(freep) char *buf = NULL;
	int r = look_up(&q, &buf);

	if (r == 0 && strlen(q.user->pw_name) >= size)
		return ACCOUNTS_NONE;
	if (r == 0)
		strcpy(ret, q.user->pw_name);
	return r;
}
