/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

struct secret {
	size_t size;
	size_t room;
	size_t mapped;
	char bytes[];
};

/* Pages of our own: a wipe or an madvise cannot touch a neighbour, and free() cannot keep a copy.
 */
static struct secret *secret_map(size_t room)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t mapped = (sizeof(struct secret) + room + 1 + page - 1) / page * page;
	struct secret *s;

	s = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return NULL;
	/* Locking may be forbidden by RLIMIT_MEMLOCK: then the pages may be swapped, which is no
	 * reason to stop. */
	(void)mlock(s, mapped);
	(void)madvise(s, mapped, MADV_DONTDUMP);
	s->mapped = mapped;
	s->room = room;
	return s;
}

struct secret *secret_new(const void *bytes, size_t size)
{
	struct secret *s = secret_map(size);

	if (!s)
		return NULL;
	memcpy(s->bytes, bytes, size);
	s->bytes[size] = '\0';
	s->size = size;
	return s;
}

struct secret *secret_free(struct secret *s)
{
	size_t mapped;

	if (s) {
		mapped = s->mapped;
		explicit_bzero(s, mapped);
		munmap(s, mapped);
	}
	return NULL;
}

const char *secret_bytes(const struct secret *s)
{
	return s->bytes;
}

size_t secret_size(const struct secret *s)
{
	return s->size;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	if (!a || !b)
		return a == b;
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

struct secret *secret_new_empty(size_t room)
{
	return secret_map(room); /* zeroed by the kernel */
}

char *secret_space(struct secret *s, size_t *ret_room)
{
	*ret_room = s->room - s->size;
	return s->bytes + s->size;
}

void secret_grow(struct secret *s, size_t n)
{
	s->size += n;
	s->bytes[s->size] = '\0';
}

/* Mode 0600 would shut out a daemon that is neither the file's owner nor root. */
static bool is_another_users(const struct stat *st)
{
	return geteuid() != 0 && st->st_uid != geteuid();
}

/* What is mounted (a container's secret) has root for its owner and cannot be given away. */
static const char *other_way(const struct stat *st)
{
	return st->st_uid == 0 ? " (or mode 0440 and a group of the daemon's)" : "";
}

/* Return: @error. */
static int secret_cannot_read(const char *path, int error, char *text, size_t text_size)
{
	unsigned me = (unsigned)geteuid();
	struct stat st;

	if (error != -EACCES)
		snprintf(text, text_size, "%s: %s", path, strerror(-error));
	else if (stat(path, &st) < 0)
		snprintf(text, text_size,
			 "%s: %s; the daemon (uid %u) may not enter a folder on the way to it",
			 path, strerror(-error), me);
	else if (is_another_users(&st))
		snprintf(text, text_size,
			 "%s: %s; it belongs to uid %u (mode %04o), the daemon runs as uid %u; "
			 "run: chown %u %s%s",
			 path, strerror(-error), (unsigned)st.st_uid,
			 (unsigned)(st.st_mode & 07777), me, me, path, other_way(&st));
	else
		snprintf(text, text_size, "%s: %s; run: chmod 600 %s", path, strerror(-error),
			 path);
	return error;
}

static int secret_check_mode(const char *path, const struct stat *st, size_t max_bytes, char *text,
			     size_t text_size)
{
	bool root_group_readable = st->st_uid == 0 && !(st->st_mode & (S_IWGRP | S_IRWXO));

	if (!S_ISREG(st->st_mode)) {
		snprintf(text, text_size, "%s: not a regular file; write it into one", path);
		return -EINVAL;
	}
	if ((st->st_mode & (S_IRWXG | S_IRWXO)) && !root_group_readable && is_another_users(st)) {
		snprintf(text, text_size,
			 "%s: mode %04o lets others read it, and it belongs to uid %u; the daemon "
			 "runs as uid %u: run chown %u and chmod 600 on it%s",
			 path, (unsigned)(st->st_mode & 07777), (unsigned)st->st_uid,
			 (unsigned)geteuid(), (unsigned)geteuid(), other_way(st));
		return -EPERM;
	}
	if ((st->st_mode & (S_IRWXG | S_IRWXO)) && !root_group_readable) {
		snprintf(text, text_size, "%s: mode %04o lets others read it; run: chmod 600 %s",
			 path, (unsigned)(st->st_mode & 07777), path);
		return -EPERM;
	}
	if ((uintmax_t)st->st_size > max_bytes) {
		snprintf(text, text_size,
			 "%s: %jd bytes, at most %zu expected; is this the right file?", path,
			 (intmax_t)st->st_size, max_bytes);
		return -EFBIG;
	}
	return 0;
}

static bool is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool secret_trim(struct secret *s)
{
	size_t start = 0;

	while (s->size > 0 && is_white(s->bytes[s->size - 1]))
		s->size--;
	while (start < s->size && is_white(s->bytes[start]))
		start++;
	memmove(s->bytes, s->bytes + start, s->size - start);
	explicit_bzero(s->bytes + s->size - start, start);
	s->size -= start;
	s->bytes[s->size] = '\0';
	return s->size > 0 && strlen(s->bytes) == s->size && !strpbrk(s->bytes, " \t\r\n");
}

int secret_read_file(const char *path, size_t max_bytes, struct secret **ret, char *text,
		     size_t text_size)
{
	CLEANUP(closep) int fd = -1;
	struct secret *s;
	struct stat st;
	size_t room;
	ssize_t n;
	int r;

	/* Not blocking: a FIFO in the file's place must not hang the start. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return secret_cannot_read(path, -errno, text, text_size);
	r = secret_check_mode(path, &st, max_bytes, text, text_size);
	if (r < 0)
		return r;
	s = secret_map(max_bytes);
	if (!s) {
		snprintf(text, text_size, "%s: no memory", path);
		return -ENOMEM;
	}
	for (;;) {
		char *to = secret_space(s, &room);

		n = room > 0 ? read(fd, to, room) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		secret_grow(s, (size_t)n);
	}
	if (n < 0) {
		r = -errno;
		snprintf(text, text_size, "%s: %s", path, strerror(-r));
		secret_free(s);
		return r;
	}
	if (!secret_trim(s)) {
		snprintf(text, text_size, "%s: %s; it must hold the key, token or password alone",
			 path, s->size == 0 ? "empty" : "more than one word");
		secret_free(s);
		return -EINVAL;
	}
	*ret = s;
	return 0;
}

void secret_wipe_buf(struct rtbp_buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	rtbp_buf_done(b);
}
