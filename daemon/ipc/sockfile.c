/* SPDX-License-Identifier: MIT */
#include "ipc/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/accounts.h"
#include "base/cleanup.h"
#include "ipc/listener.h"

struct sockfile {
	char *path;
	int lock_fd;
	dev_t dev; /* of the socket's file, once it is made */
	ino_t ino;
};

/* Where a sentence about an error goes. */
struct why {
	char *text;
	size_t size;
};

__attribute__((format(printf, 3, 4))) static int why(struct why *w, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(w->text, w->size, format, args);
	va_end(args);
	return r;
}

/* ---- the directory ---- */

static int sockfile_make_directory(const char *path, struct why *w)
{
	CLEANUP(freep) char *dir = strdup(path);
	CLEANUP(closep) int fd = -1;
	char *slash;
	int r;

	if (!dir)
		return why(w, -ENOMEM, "%s: no memory", path);
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	if (mkdir(dir, 0755) < 0) {
		r = -errno;
		if (r == -EEXIST)
			return 0;
		return why(
			w, r,
			"%s: its directory %s does not exist and cannot be made: %s; make it, or "
			"set another socket path",
			path, dir, strerror(-r));
	}
	/* The umask may have taken what other users need to reach the socket. */
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0755) < 0) {
		r = -errno;
		return why(w, r, "%s: directory %s: %s", path, dir, strerror(-r));
	}
	return 0;
}

/* ---- the lock ---- */

static int sockfile_lock(struct sockfile *s, struct why *w)
{
	CLEANUP(freep) char *lock = NULL;
	struct stat st;
	int r;

	if (asprintf(&lock, "%s.lock", s->path) < 0) {
		lock = NULL;
		return why(w, -ENOMEM, "%s: no memory", s->path);
	}
	/* Not blocking and not following: a FIFO or a link in its place must do no harm. */
	s->lock_fd =
		open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
	if (s->lock_fd < 0 || fstat(s->lock_fd, &st) < 0) {
		r = -errno;
		if (r == -ELOOP || r == -EISDIR || r == -ENXIO)
			return why(w, -EEXIST, "%s: is no regular file; remove it", lock);
		return why(w, r, "%s: %s; the directory must exist and be writable for this user",
			   lock, strerror(-r));
	}
	if (!S_ISREG(st.st_mode))
		return why(w, -EEXIST, "%s: is no regular file; remove it", lock);
	if (st.st_uid != geteuid())
		return why(w, -EEXIST, "%s: belongs to uid %u, not to this user; remove it", lock,
			   (unsigned)st.st_uid);
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		r = -errno;
		if (r == -EWOULDBLOCK)
			return why(w, -EADDRINUSE,
				   "%s: another rtbridged uses this socket; stop it, or set "
				   "another socket path",
				   s->path);
		return why(w, r, "%s: cannot lock: %s", lock, strerror(-r));
	}
	return 0;
}

/* ---- what lies there already ---- */

static const char *sockfile_kind(mode_t mode)
{
	if (S_ISREG(mode))
		return "a regular file";
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISLNK(mode))
		return "a symbolic link";
	return S_ISFIFO(mode) ? "a FIFO" : "a device";
}

/* Does anybody listen there? A program that does not know our lock may (systemd, for one). */
static int sockfile_is_alive(const struct sockaddr_un *addr)
{
	CLEANUP(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
		return 1;
	/* A full backlog answers EAGAIN; no permission or another type is no proof of death. */
	return errno != ECONNREFUSED && errno != ENOENT;
}

static int sockfile_clear(const char *path, const struct sockaddr_un *addr, struct why *w)
{
	struct stat st;
	int r;

	if (lstat(path, &st) < 0) {
		r = -errno;
		return r == -ENOENT ? 0 : why(w, r, "%s: %s", path, strerror(-r));
	}
	if (!S_ISSOCK(st.st_mode))
		return why(w, -EEXIST,
			   "%s: is %s, not a socket; remove it, or set another socket path", path,
			   sockfile_kind(st.st_mode));
	if (st.st_uid != geteuid())
		return why(w, -EEXIST,
			   "%s: belongs to uid %u, not to this user; remove it, or set another "
			   "socket path",
			   path, (unsigned)st.st_uid);
	r = sockfile_is_alive(addr);
	if (r < 0)
		return why(w, r, "%s: cannot make a socket: %s", path, strerror(-r));
	if (r > 0)
		return why(w, -EADDRINUSE,
			   "%s: another program listens on this socket; stop it, or set another "
			   "socket path",
			   path);
	if (unlink(path) < 0) {
		r = -errno;
		return why(w, r, "%s: cannot remove the stale socket: %s", path, strerror(-r));
	}
	return 0;
}

/* ---- making it ---- */

static int sockfile_group(const struct listener_conf *conf, gid_t *ret, struct why *w)
{
	int r;

	*ret = (gid_t)-1;
	if (!conf->group)
		return 0;
	r = accounts_gid(conf->group, ret);
	if (r == ACCOUNTS_NONE)
		return why(w, -EINVAL,
			   "%s: group \"%s\" does not exist; make it, or set another socket group",
			   conf->path, conf->group);
	if (r < 0)
		return why(w, r, "%s: cannot look up the group \"%s\": %s", conf->path, conf->group,
			   strerror(-r));
	return 0;
}

/* Nobody can connect before listen(), and the file starts with no more than the owner's rights: at
 * no moment does it admit more than `mode` and `gid` say. */
static int sockfile_bind(struct sockfile *s, int fd, const struct sockaddr_un *addr,
			 const struct listener_conf *conf, gid_t gid, struct why *w)
{
	mode_t old = umask(0177);
	int r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;
	struct stat st;

	umask(old);
	if (r < 0)
		return why(w, r, "%s: cannot make the socket: %s", s->path, strerror(-r));
	if (lstat(s->path, &st) < 0) {
		r = -errno;
		return why(w, r, "%s: %s", s->path, strerror(-r));
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	if (gid != (gid_t)-1 && lchown(s->path, (uid_t)-1, gid) < 0) {
		r = -errno;
		return why(w, r,
			   "%s: cannot give it to group \"%s\": %s; the daemon's user must be a "
			   "member",
			   s->path, conf->group, strerror(-r));
	}
	if (chmod(s->path, conf->mode & 0777) < 0) {
		r = -errno;
		return why(w, r, "%s: cannot set mode %03o: %s", s->path,
			   (unsigned)conf->mode & 0777, strerror(-r));
	}
	return 0;
}

static int sockfile_setup(struct sockfile *s, const struct listener_conf *conf, int backlog,
			  int *ret_fd, struct why *w)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	CLEANUP(closep) int fd = -1;
	gid_t gid;
	int r;

	memcpy(addr.sun_path, s->path, strlen(s->path) + 1); /* sockfile_new() has measured it */
	r = sockfile_group(conf, &gid, w);
	if (r < 0)
		return r;
	r = sockfile_make_directory(s->path, w);
	if (r < 0)
		return r;
	r = sockfile_lock(s, w);
	if (r < 0)
		return r;
	r = sockfile_clear(s->path, &addr, w);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
		return why(w, r, "%s: cannot make a socket: %s", s->path, strerror(-r));
	}
	r = sockfile_bind(s, fd, &addr, conf, gid, w);
	if (r < 0)
		return r;
	if (listen(fd, backlog) < 0) {
		r = -errno;
		return why(w, r, "%s: cannot listen: %s", s->path, strerror(-r));
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int sockfile_new(const struct listener_conf *conf, int backlog, struct sockfile **ret, int *ret_fd,
		 char *ret_text, size_t text_size)
{
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	struct why w = { ret_text, text_size };
	struct sockfile *s;
	int r;

	if (!*conf->path)
		return why(&w, -EINVAL, "the socket path is empty; set one");
	if (strlen(conf->path) > max)
		return why(&w, -ENAMETOOLONG,
			   "%s: a socket path has at most %zu bytes, this one %zu; set a shorter "
			   "one",
			   conf->path, max, strlen(conf->path));
	s = calloc(1, sizeof(*s));
	if (!s)
		return why(&w, -ENOMEM, "%s: no memory", conf->path);
	s->lock_fd = -1;
	s->path = strdup(conf->path);
	if (s->path)
		r = sockfile_setup(s, conf, backlog, ret_fd, &w);
	else
		r = why(&w, -ENOMEM, "%s: no memory", conf->path);
	if (r < 0) {
		sockfile_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

struct sockfile *sockfile_free(struct sockfile *s)
{
	struct stat st;

	if (!s)
		return NULL;
	if (s->ino && lstat(s->path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == s->dev &&
	    st.st_ino == s->ino)
		unlink(s->path);
	/* Last: with the lock goes the right to touch the path. The lock's file stays. */
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	free(s);
	return NULL;
}
