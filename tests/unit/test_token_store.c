/* SPDX-License-Identifier: MIT */
/* The refresh token over restarts, full disks and crashes: app/token_store.h. */
#include "app/token_store.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop_util.h"
#include "suite.h"

/* ---- system calls that fail, or are the last ---- */

enum how { WELL, FAIL, DIE };

static unsigned n_calls, bad_call; /* 1: the first */
static enum how how;

/* Return: whether this one fails. */
static bool is_bad(void)
{
	if (++n_calls != bad_call || how == WELL)
		return false;
	if (how == DIE)
		_exit(0);
	errno = EIO;
	return true;
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
	/* Half of it is written before the power goes. */
	if (how == DIE && n_calls + 1 == bad_call)
		(void)__real_write(fd, data, size / 2);
	return is_bad() ? -1 : __real_write(fd, data, size);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return is_bad() ? -1 : __real_fsync(fd);
}

int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode)
{
	return is_bad() ? -1 : __real_fchmod(fd, mode);
}

int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new)
{
	return is_bad() ? -1 : __real_renameat(from, old, to, new);
}

/* ---- the folder ---- */

static char root[] = "/tmp/rtb-store-XXXXXX";
static char dir[64], seed[64], state[96];
static char text[384];
static struct token_store *s;
static unsigned fds_before;

static void put(const char *path, const char *bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(__real_write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
	close(fd);
}

static int store_open(void)
{
	return token_store_new(dir, seed, &s, text, sizeof(text));
}

static void store_close(void)
{
	s = token_store_free(s);
}

static void setup(void)
{
	fds_before = open_fds();
	how = WELL;
	n_calls = bad_call = 0;
	strcpy(root + strlen(root) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(dir, sizeof(dir), "%s/a/state", root);
	snprintf(seed, sizeof(seed), "%s/seed", root);
	snprintf(state, sizeof(state), "%s/refresh-token", dir);
	put(seed, "seed-token\n");
	ck_assert_msg(store_open() == 0, "%s", text);
}

static void teardown(void)
{
	char command[128];

	store_close();
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	ck_assert_int_eq(system(command), 0); /* NOLINT: a path of our own making */
	ck_assert_uint_eq(open_fds(), fds_before);
}

/* What the session would go on with after a restart; "": an error. */
static const char *after_restart(void)
{
	static char token[64];
	struct secret *t;
	int r;

	store_close();
	ck_assert_msg(store_open() == 0, "%s", text);
	r = token_store_load(s, &t, text, sizeof(text));
	token[0] = '\0';
	if (r == 0) {
		snprintf(token, sizeof(token), "%s", secret_bytes(t));
		secret_free(t);
	}
	return token;
}

static int save(const char *token)
{
	struct secret *t = secret_new(token, strlen(token));
	int r;

	ck_assert_ptr_nonnull(t);
	r = token_store_save(s, t, text, sizeof(text));
	secret_free(t);
	return r;
}

START_TEST(test_life)
{
	struct secret *t = NULL;
	struct stat st;

	ck_assert_str_eq(after_restart(), "seed-token");
	ck_assert_int_eq(save("first"), 0);
	ck_assert_int_eq(stat(state, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	ck_assert_str_eq(after_restart(), "first");
	/* The same seed says nothing new to who runs. */
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), TOKEN_STORE_SAME);
	ck_assert_ptr_null(t);
	ck_assert_int_eq(save("second"), 0);
	ck_assert_str_eq(after_restart(), "second");
	/* Somebody has logged in anew: the state is of another session. */
	put(seed, "another-seed");
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), 0);
	ck_assert_str_eq(secret_bytes(t), "another-seed");
	t = secret_free(t);
	ck_assert_int_eq(save("third"), 0);
	ck_assert_str_eq(after_restart(), "third");
	/* The seed may go when the session has begun. */
	ck_assert_int_eq(unlink(seed), 0);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), TOKEN_STORE_SAME);
	ck_assert_str_eq(after_restart(), "third");
	/* And neither is an error that says what to do. */
	ck_assert_int_eq(unlink(state), 0);
	store_close();
	ck_assert_int_eq(store_open(), 0);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), -ENOENT);
	ck_assert_msg(strstr(text, seed) && strstr(text, "put a refresh token"), "%s", text);
}
END_TEST

START_TEST(test_state_of_somebody)
{
	static const char *const lines[] = { "", "x", "no line of ours\n", "0123456789abcdef:x\n" };
	struct secret *t = NULL;

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		put(state, lines[i]);
		ck_assert_int_lt(token_store_load(s, &t, text, sizeof(text)), 0);
		ck_assert_ptr_null(t);
		ck_assert_msg(strstr(text, state), "%s", text);
	}
}
END_TEST

/* One session is for one. */
START_TEST(test_locks)
{
	struct token_store *other = NULL;
	char elsewhere[80];

	snprintf(elsewhere, sizeof(elsewhere), "%s/b", root);
	ck_assert_int_eq(token_store_new(dir, seed, &other, text, sizeof(text)), -EBUSY);
	ck_assert_msg(strstr(text, "refresh-token.lock") && strstr(text, "another daemon"), "%s",
		      text);
	ck_assert_msg(strstr(text, "a folder (state_dir) and a login of its own"), "%s", text);
	/* The same seed with another folder. */
	ck_assert_int_eq(token_store_new(elsewhere, seed, &other, text, sizeof(text)), -EBUSY);
	ck_assert_msg(strstr(text, seed), "%s", text);
	ck_assert_ptr_null(other);
	store_close();
	ck_assert_int_eq(token_store_new(elsewhere, seed, &other, text, sizeof(text)), 0);
	other = token_store_free(other);
}
END_TEST

START_TEST(test_folders)
{
	store_close();
	ck_assert_int_eq(chmod(dir, 0770), 0);
	ck_assert_int_eq(store_open(), -EPERM);
	ck_assert_msg(strstr(text, "chmod 700"), "%s", text);
	ck_assert_int_eq(chmod(dir, 0700), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(dir, 12345, (gid_t)-1), 0);
		ck_assert_int_eq(store_open(), -EPERM);
		ck_assert_msg(strstr(text, "12345") && strstr(text, "state_dir"), "%s", text);
		ck_assert_int_eq(chown(dir, geteuid(), (gid_t)-1), 0);
	}
	snprintf(dir, sizeof(dir), "%s/seed/below", root);
	ck_assert_int_eq(store_open(), -ENOTDIR);
	ck_assert_msg(strstr(text, "cannot be made"), "%s", text);
}
END_TEST

/* Not what was found when it was looked whether it is there all the same. */
START_TEST(test_why_no_folder)
{
	int e;

	store_close();
	ck_assert_int_eq(mkdir("/sys/rtbridge", 0700), -1);
	e = errno;
	ck_assert_int_ne(e, ENOENT);
	strcpy(dir, "/sys/rtbridge/state");
	ck_assert_int_eq(store_open(), -e);
	ck_assert_msg(strstr(text, strerror(e)) && strstr(text, "(state_dir)"), "%s", text);
}
END_TEST

/* What the caller could not take is given once more, and belongs to no session before it is taken. */
START_TEST(test_forget)
{
	struct secret *t = NULL;

	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), 0);
		ck_assert_str_eq(secret_bytes(t), "seed-token");
		t = secret_free(t);
		if (i < 2)
			token_store_forget(s);
	}
	ck_assert_int_eq(save("first"), 0);
	put(seed, "another-seed");
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), 0);
	t = secret_free(t);
	token_store_forget(s);
	ck_assert_int_eq(save("second"), 0); /* of the first session */
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), 0);
	ck_assert_str_eq(secret_bytes(t), "another-seed");
	t = secret_free(t);
	token_store_forget(s);
	ck_assert_str_eq(after_restart(), "another-seed");
	put(seed, "seed-token");
	ck_assert_str_eq(after_restart(), "second");
	/* The same for what the state alone holds. */
	ck_assert_int_eq(unlink(seed), 0);
	ck_assert_str_eq(after_restart(), "second");
	token_store_forget(s);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), 0);
	ck_assert_str_eq(secret_bytes(t), "second");
	t = secret_free(t);
}
END_TEST

static void check_locked(void)
{
	struct token_store *other = NULL;
	char none[80];

	snprintf(none, sizeof(none), "%s/none", root);
	ck_assert_int_eq(token_store_new(dir, none, &other, text, sizeof(text)), -EBUSY);
}

/* The folder, or the lock in it, goes away under a daemon that runs. */
START_TEST(test_removed)
{
	struct token_store *other = NULL;
	char old[80], file[128], none[80];
	struct secret *t = NULL;

	snprintf(old, sizeof(old), "%s/old", root);
	snprintf(none, sizeof(none), "%s/none", root);
	ck_assert_str_eq(after_restart(), "seed-token");
	ck_assert_int_eq(save("first"), 0);
	ck_assert_int_eq(rename(dir, old), 0);
	ck_assert_int_eq(save("second"), 0);
	check_locked();
	snprintf(file, sizeof(file), "%s/refresh-token.lock", dir);
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), TOKEN_STORE_SAME);
	check_locked();
	ck_assert_str_eq(after_restart(), "second");
	/* What is another daemon's by now is not written to. */
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(token_store_new(dir, none, &other, text, sizeof(text)), 0);
	ck_assert_int_eq(save("third"), -EBUSY);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), -EBUSY);
	other = token_store_free(other);
	ck_assert_int_eq(save("fourth"), 0);
	ck_assert_str_eq(after_restart(), "fourth");
}
END_TEST

/* A link to somewhere else, and what others may read. */
START_TEST(test_state_is_a_file)
{
	struct secret *t = NULL;

	put(state, "x");
	ck_assert_int_eq(chmod(state, 0644), 0);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), -EPERM);
	ck_assert_msg(strstr(text, "chmod 600"), "%s", text);
	ck_assert_int_eq(unlink(state), 0);
	ck_assert_int_eq(symlink(seed, state), 0);
	ck_assert_int_eq(token_store_load(s, &t, text, sizeof(text)), -ELOOP);
	ck_assert_msg(strstr(text, state), "%s", text);
}
END_TEST

/* Each step of a save fails: the one before is there still, or the new one, and the next save works. */
START_TEST(test_each_step_fails)
{
	const char *token;
	bool failed;

	ck_assert_str_eq(after_restart(), "seed-token");
	ck_assert_int_eq(save("old"), 0);
	for (bad_call = 1; bad_call < 100; bad_call++) {
		n_calls = 0;
		how = FAIL;
		failed = save("new") < 0;
		how = WELL;
		if (!failed)
			break;
		ck_assert_msg(strstr(text, dir) && strstr(text, strerror(EIO)), "%s", text);
		token = after_restart();
		ck_assert_msg(strcmp(token, "old") == 0 || strcmp(token, "new") == 0, "%s: %s",
			      token, text);
		ck_assert_int_eq(save("old"), 0);
	}
	/* made, written, synced, renamed, the folder synced */
	ck_assert_uint_eq(bad_call, 6);
	ck_assert_str_eq(after_restart(), "new");
}
END_TEST

/* The same with a process that ends there. */
START_TEST(test_dies_at_each_step)
{
	const char *token;
	int status;
	pid_t pid;

	ck_assert_str_eq(after_restart(), "seed-token");
	ck_assert_int_eq(save("old"), 0);
	for (bad_call = 1; bad_call < 6; bad_call++) {
		n_calls = 0;
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			how = DIE;
			_exit(save("new") == 0 ? 1 : 2);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "call %u: %d",
			      bad_call, status);
		token = after_restart();
		ck_assert_msg(strcmp(token, bad_call < 5 ? "old" : "new") == 0, "call %u: %s",
			      bad_call, token);
		ck_assert_int_eq(save("old"), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("token_store");
	TCase *t = tcase_create("token_store");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_life);
	tcase_add_test(t, test_state_of_somebody);
	tcase_add_test(t, test_locks);
	tcase_add_test(t, test_folders);
	tcase_add_test(t, test_why_no_folder);
	tcase_add_test(t, test_forget);
	tcase_add_test(t, test_removed);
	tcase_add_test(t, test_state_is_a_file);
	tcase_add_test(t, test_each_step_fails);
	tcase_add_test(t, test_dies_at_each_step);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
