/* SPDX-License-Identifier: MIT */
#include "app/token_store.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
	HASH_BYTES = 32,
	HASH_TEXT = 2 * HASH_BYTES,
	LINE_MAX_BYTES = HASH_TEXT + 1 + TOKEN_STORE_BYTES_MAX + 1,
};

#define STATE_NAME "refresh-token"
#define LOCK_NAME  "refresh-token.lock"
#define NEW_NAME   "refresh-token.new"

struct token_store {
	char *dir, *seed, *path; /* `path`: of the state */
	int dir_fd, lock_fd;
	int seed_fd;                /* locked; -1: there is none */
	char hash[HASH_TEXT + 1];   /* of the seed that the session descends from; "": not loaded */
	char before[HASH_TEXT + 1]; /* as it was when that was loaded: token_store_forget() */
};

struct reason {
	char *text;
	size_t size;
};

__attribute__((format(printf, 3, 4))) static int fail(struct reason why, int error,
						      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why.text, why.size, format, args);
	va_end(args);
	return error;
}

/* ---- the folder ---- */

/* Each part of the path that is not there; the last ones alone are ours to judge. */
static int make_folders(const char *dir)
{
	CLEANUP(freep) char *path = strdup(dir);
	int e;

	if (!path)
		return -ENOMEM;
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) < 0) {
			e = errno; /* that it is there may be said as EROFS or EACCES as well */
			if (e != EEXIST && access(path, F_OK) < 0)
				return -e;
		}
		if (c == '\0')
			return 0;
		*p = c;
	}
}

static int open_folder(const char *dir, int *ret_fd, struct reason why)
{
	struct stat st;
	int r = make_folders(dir);

	if (r < 0)
		return fail(why, r,
			    "%s: the folder cannot be made: %s; make it, or name another one "
			    "(state_dir)",
			    dir, strerror(-r));
	*ret_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd < 0 || fstat(*ret_fd, &st) < 0)
		return fail(why, -errno,
			    "%s: %s; see that it is a folder of the daemon's own, or name another "
			    "one (state_dir)",
			    dir, strerror(errno));
	if (st.st_uid != geteuid())
		return fail(why, -EPERM,
			    "%s belongs to uid %u, and the daemon runs as %u; give it a folder of "
			    "its own (state_dir)",
			    dir, (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return fail(why, -EPERM, "%s: mode %04o lets others write to it; run: chmod 700 %s",
			    dir, (unsigned)(st.st_mode & 07777), dir);
	return 0;
}

/* ---- locks ---- */

static int lock(int fd, const char *dir, const char *name, struct reason why)
{
	const char *slash = *dir ? "/" : "";

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return fail(why, -EBUSY,
			    "%s%s%s is in use by another daemon; a refresh token serves one alone: "
			    "give each daemon a folder (state_dir) and a login of its own",
			    dir, slash, name);
	return fail(why, -errno,
		    "%s%s%s cannot be locked: %s; name a folder on a disk of this machine "
		    "(state_dir)",
		    dir, slash, name, strerror(errno));
}

static int lock_folder(const char *dir, int dir_fd, int *ret_fd, struct reason why)
{
	*ret_fd = openat(dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*ret_fd < 0)
		return fail(why, -errno,
			    "%s: the daemon cannot write there (%s), and a refresh token that is "
			    "not kept is lost; let it, or name another folder (state_dir)",
			    dir, strerror(errno));
	return lock(*ret_fd, dir, LOCK_NAME, why);
}

static bool is_file(int fd, const struct stat *st)
{
	struct stat own;

	return fd >= 0 && fstat(fd, &own) == 0 && own.st_dev == st->st_dev &&
	       own.st_ino == st->st_ino;
}

/* The folder that has the name now, and the lock in it: somebody may have removed them, or put others
 * there, and what is written into a removed folder is lost. */
static int enter_folder(struct token_store *s, struct reason why)
{
	CLEANUP(closep) int dir_fd = -1;
	CLEANUP(closep) int lock_fd = -1;
	struct stat st;
	int r;

	if (stat(s->dir, &st) == 0 && is_file(s->dir_fd, &st) &&
	    fstatat(s->dir_fd, LOCK_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    is_file(s->lock_fd, &st))
		return 0;
	r = open_folder(s->dir, &dir_fd, why);
	if (r == 0)
		r = lock_folder(s->dir, dir_fd, &lock_fd, why);
	if (r < 0)
		return r;
	closep(&s->dir_fd);
	closep(&s->lock_fd);
	s->dir_fd = dir_fd;
	s->lock_fd = lock_fd;
	dir_fd = lock_fd = -1;
	return 0;
}

/* The file that has the seed's name now. Another file system's locks may need a descriptor that can
 * write (NFS): there the folder's lock must do. */
static int lock_seed(struct token_store *s, struct reason why)
{
	int fd = open(s->seed, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r;
	struct stat now;

	if (fd < 0) /* it need not be there, and its reader will say what is wrong with it */
		return 0;
	if (fstat(fd, &now) == 0 && is_file(s->seed_fd, &now)) {
		close(fd);
		return 0;
	}
	r = lock(fd, "", s->seed, why);
	if (r == -EBUSY) {
		close(fd);
		return r;
	}
	if (s->seed_fd >= 0)
		close(s->seed_fd);
	s->seed_fd = fd;
	return 0;
}

int token_store_new(const char *dir, const char *seed, struct token_store **ret, char *ret_text,
		    size_t text_size)
{
	struct reason why = { ret_text, text_size };
	struct token_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return fail(why, -ENOMEM, "no memory");
	s->dir_fd = s->lock_fd = s->seed_fd = -1;
	s->dir = strdup(dir);
	s->seed = strdup(seed);
	if (asprintf(&s->path, "%s/" STATE_NAME, dir) < 0)
		s->path = NULL;
	r = s->dir && s->seed && s->path ? enter_folder(s, why) : fail(why, -ENOMEM, "no memory");
	if (r == 0)
		r = lock_seed(s, why);
	if (r < 0) {
		token_store_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct token_store *token_store_free(struct token_store *s)
{
	if (s) {
		closep(&s->seed_fd);
		closep(&s->lock_fd);
		closep(&s->dir_fd);
		free(s->dir);
		free(s->seed);
		free(s->path);
		free(s);
	}
	return NULL;
}

/* ---- reading ---- */

static int hash_of(const struct secret *seed, char *ret)
{
	unsigned char bytes[HASH_BYTES];
	unsigned size = 0;

	if (!EVP_Digest(secret_bytes(seed), secret_size(seed), bytes, &size, EVP_sha256(), NULL) ||
	    size != HASH_BYTES)
		return -ENOMEM;
	for (unsigned i = 0; i < HASH_BYTES; i++)
		snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* In the folder that is locked, whatever has its name meanwhile. Return: 0; -ENOENT: none; -errno with a
 * sentence. */
static int read_line(struct token_store *s, struct secret **ret, struct reason why)
{
	CLEANUP(closep)
	int fd = openat(s->dir_fd, STATE_NAME,
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
	struct secret *line;
	struct stat st;
	ssize_t n = 1;
	size_t room;
	char *to;
	int e;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return fail(why, -errno, "%s: %s; see that the daemon may read it", s->path,
			    strerror(errno));
	if (fstat(fd, &st) < 0 || st.st_mode & (S_IRWXG | S_IRWXO))
		return fail(why, -EPERM, "%s: others may read it; run: chmod 600 %s", s->path,
			    s->path);
	/* One byte more: what is too long is none of ours, either. */
	line = secret_new_empty(LINE_MAX_BYTES + 1);
	if (!line)
		return fail(why, -ENOMEM, "no memory");
	while (n != 0) {
		to = secret_space(line, &room);
		n = room > 0 ? read(fd, to, room) : 0;
		e = errno;
		if (n < 0 && e != EINTR) {
			secret_free(line);
			return fail(why, -e, "%s: %s; see that the daemon may read it", s->path,
				    strerror(e));
		}
		if (n > 0)
			secret_grow(line, (size_t)n);
	}
	*ret = line;
	return 0;
}

/* The state's line apart. Return: as read_line(). */
static int read_state(struct token_store *s, char *ret_hash, struct secret **ret, struct reason why)
{
	struct secret *line;
	const char *bytes;
	int r = read_line(s, &line, why);

	if (r < 0)
		return r;
	bytes = secret_bytes(line);
	if (secret_size(line) > LINE_MAX_BYTES || !secret_trim(line) ||
	    secret_size(line) <= HASH_TEXT + 1 || bytes[HASH_TEXT] != ':' ||
	    strspn(bytes, "0123456789abcdef") != HASH_TEXT) {
		secret_free(line);
		return fail(why, -EINVAL,
			    "%s: not what the daemon writes there; log in again, put the new "
			    "refresh token into %s and remove this file",
			    s->path, s->seed);
	}
	memcpy(ret_hash, bytes, HASH_TEXT);
	ret_hash[HASH_TEXT] = '\0';
	*ret = secret_new(bytes + HASH_TEXT + 1, secret_size(line) - HASH_TEXT - 1);
	secret_free(line);
	return *ret ? 0 : fail(why, -ENOMEM, "no memory");
}

static void descend_from(struct token_store *s, const char *hash)
{
	memcpy(s->before, s->hash, sizeof(s->before));
	memcpy(s->hash, hash, sizeof(s->hash));
}

void token_store_forget(struct token_store *s)
{
	memcpy(s->hash, s->before, sizeof(s->hash));
}

/* A seed that is gone after the session has begun is no trouble. @r: why it cannot be read. */
static int load_without_seed(struct token_store *s, int r, struct secret **ret, struct reason why)
{
	char hash[HASH_TEXT + 1];
	int q;

	if (r != -ENOENT)
		return r;
	if (s->hash[0])
		return TOKEN_STORE_SAME;
	q = read_state(s, hash, ret, why);
	if (q == -ENOENT)
		return fail(why, -ENOENT,
			    "%s: no such file; put a refresh token into it (and nothing else)",
			    s->seed);
	if (q == 0)
		descend_from(s, hash);
	return q;
}

int token_store_load(struct token_store *s, struct secret **ret, char *ret_text, size_t text_size)
{
	struct reason why = { ret_text, text_size };
	char hash[HASH_TEXT + 1] = "", seed_hash[HASH_TEXT + 1];
	struct secret *seed, *state = NULL;
	int r = enter_folder(s, why);

	if (r == 0)
		r = lock_seed(s, why);
	if (r < 0)
		return r;
	r = secret_read_file(s->seed, TOKEN_STORE_BYTES_MAX, &seed, ret_text, text_size);
	if (r < 0)
		return load_without_seed(s, r, ret, why);
	if (hash_of(seed, seed_hash) < 0)
		r = fail(why, -ENOMEM, "no memory");
	else if (strcmp(s->hash, seed_hash) == 0)
		r = TOKEN_STORE_SAME;
	else
		r = read_state(s, hash, &state, why);
	if (r != 0 && r != -ENOENT) {
		secret_free(seed);
		return r;
	}
	if (r == 0 && strcmp(hash, seed_hash) == 0) {
		secret_free(seed);
		*ret = state;
	} else {
		secret_free(state);
		*ret = seed;
	}
	descend_from(s, seed_hash);
	return 0;
}

/* ---- writing ---- */

static int write_all(int fd, const char *data, size_t size)
{
	ssize_t n;

	while (size > 0) {
		n = write(fd, data, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Return: NULL and 0; else the step that failed, and why. */
static const char *write_new(struct token_store *s, const struct secret *line, int *ret_error)
{
	CLEANUP(closep) int fd = -1;

	*ret_error = 0;
	/* What a crash left there is not finished. */
	(void)unlinkat(s->dir_fd, NEW_NAME, 0);
	fd = openat(s->dir_fd, NEW_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd < 0 || fchmod(fd, 0600) < 0) {
		*ret_error = -errno;
		return "made";
	}
	*ret_error = write_all(fd, secret_bytes(line), secret_size(line));
	if (*ret_error < 0)
		return "written";
	if (fsync(fd) < 0) {
		*ret_error = -errno;
		return "brought to the disk";
	}
	return NULL;
}

int token_store_save(struct token_store *s, const struct secret *token, char *ret_text,
		     size_t text_size)
{
	struct reason why = { ret_text, text_size };
	struct secret *line;
	const char *step;
	size_t room;
	char *to;
	int r = enter_folder(s, why);

	if (r < 0)
		return r;
	line = secret_new_empty(LINE_MAX_BYTES);
	if (!line)
		return fail(why, -ENOMEM, "no memory");
	if (secret_size(token) > TOKEN_STORE_BYTES_MAX) {
		secret_free(line);
		return fail(why, -EFBIG, "the refresh token is over %d bytes long",
			    TOKEN_STORE_BYTES_MAX);
	}
	to = secret_space(line, &room);
	memcpy(to, s->hash, HASH_TEXT);
	to[HASH_TEXT] = ':';
	memcpy(to + HASH_TEXT + 1, secret_bytes(token), secret_size(token));
	to[HASH_TEXT + 1 + secret_size(token)] = '\n';
	secret_grow(line, HASH_TEXT + 1 + secret_size(token) + 1);
	step = write_new(s, line, &r);
	secret_free(line);
	if (step) {
		(void)unlinkat(s->dir_fd, NEW_NAME, 0);
		return fail(why, r,
			    "%s/" NEW_NAME " cannot be %s: %s; see that there is room, and that "
			    "the daemon may write there",
			    s->dir, step, strerror(-r));
	}
	if (renameat(s->dir_fd, NEW_NAME, s->dir_fd, STATE_NAME) < 0) {
		r = -errno;
		(void)unlinkat(s->dir_fd, NEW_NAME, 0);
		return fail(why, r,
			    "%s cannot be replaced: %s; see that the daemon may write there",
			    s->path, strerror(-r));
	}
	if (fsync(s->dir_fd) < 0)
		return fail(why, -errno,
			    "%s cannot be brought to the disk: %s; see what the kernel says of it",
			    s->dir, strerror(errno));
	return 0;
}
