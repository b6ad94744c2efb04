/* SPDX-License-Identifier: MIT */
#include "ipc/sockfile.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "listener_util.h"

/* ---- the socket's file ---- */

START_TEST(file_has_the_mode_asked_for)
{
	static const mode_t modes[] = { 0600, 0660, 0666 };
	struct stat st;

	for (unsigned i = 0; i < 3; i++) {
		conf.mode = modes[i];
		umask(i == 1 ? 0 : 077);
		expect_start();
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_uint_eq(st.st_mode, S_IFSOCK | modes[i]);
		ck_assert_uint_eq(st.st_uid, geteuid());
		ck_assert_uint_eq(umask(022), i == 1 ? 0 : 077); /* as it was */
		listener = listener_free(listener);
	}
}
END_TEST

START_TEST(file_gets_the_group_asked_for)
{
	const struct group *own = getgrgid(getegid());
	char name[64];
	struct stat st;
	gid_t gid = getegid();

	if (geteuid() == 0) {
		own = getgrnam("daemon");
		gid = own ? own->gr_gid : gid;
	}
	ck_assert_ptr_nonnull(own);
	snprintf(name, sizeof(name), "%s", own->gr_name);
	conf.group = name;
	conf.mode = 0660;
	expect_start();
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_gid, gid);
	ck_assert_uint_eq(st.st_mode & 07777, 0660);
}
END_TEST

START_TEST(unknown_group_is_refused)
{
	conf.group = "rtb-no-such-group";
	expect_refusal(-EINVAL, path, "rtb-no-such-group");
	ck_assert_uint_eq(kind_of(path), 0);
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
	plant_socket(false);
	ck_assert_int_eq(client_connect(), -ECONNREFUSED);
	expect_start();
	ck_assert_int_eq(client_connect(), 0);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
}
END_TEST

START_TEST(living_daemon_is_refused)
{
	struct listener *first;

	expect_start();
	first = listener;
	listener = NULL;
	expect_refusal(-EADDRINUSE, path, "another rtbridged");
	ck_assert_int_eq(client_connect(), 0); /* the first one is untouched */
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
	/* Even with its socket's file removed behind its back, it is alive. */
	ck_assert_int_eq(unlink(path), 0);
	expect_refusal(-EADDRINUSE, path, "another rtbridged");
	listener = first;
}
END_TEST

START_TEST(living_stranger_is_refused)
{
	int fd = plant_socket(true);

	expect_refusal(-EADDRINUSE, path, "another program");
	ck_assert_int_eq(client_connect(), 0);
	close(fd);
	expect_start(); /* stale now */
}
END_TEST

START_TEST(what_is_no_socket_stays)
{
	plant_file(path);
	expect_refusal(-EEXIST, path, "a regular file");
	ck_assert_uint_eq(kind_of(path), S_IFREG);
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	expect_refusal(-EEXIST, path, "a directory");
	ck_assert_uint_eq(kind_of(path), S_IFDIR);
	rmdir(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect_refusal(-EEXIST, path, "a FIFO");
	ck_assert_uint_eq(kind_of(path), S_IFIFO);
}
END_TEST

START_TEST(links_are_not_followed)
{
	char real[64];

	plant_socket(false);
	snprintf(real, sizeof(real), "%s/real", dir);
	ck_assert_int_eq(rename(path, real), 0);
	ck_assert_int_eq(symlink(real, path), 0);
	expect_refusal(-EEXIST, path, "a symbolic link");
	ck_assert_uint_eq(kind_of(path), S_IFLNK);
	ck_assert_uint_eq(kind_of(real), S_IFSOCK);
	unlink(real);
	expect_refusal(-EEXIST, path, "a symbolic link"); /* dangling */
	unlink(path);
	unlink(lock_path);
	ck_assert_int_eq(symlink(real, lock_path), 0);
	expect_refusal(-EEXIST, lock_path, "no regular file");
	ck_assert_uint_eq(kind_of(real), 0); /* not made through the link */
}
END_TEST

START_TEST(foreign_files_stay)
{
	if (geteuid() != 0)
		return; /* only root can give a file away */
	plant_socket(false);
	ck_assert_int_eq(chown(path, NOBODY, NOBODY), 0);
	expect_refusal(-EEXIST, path, "belongs to uid 65534");
	ck_assert_uint_eq(kind_of(path), S_IFSOCK);
	unlink(path);
	ck_assert_int_eq(chown(lock_path, NOBODY, NOBODY), 0);
	expect_refusal(-EEXIST, lock_path, "belongs to uid 65534");
	ck_assert_uint_eq(kind_of(path), 0);
}
END_TEST

START_TEST(bad_places_for_the_lock)
{
	ck_assert_int_eq(mkdir(lock_path, 0700), 0);
	expect_refusal(-EEXIST, lock_path, "no regular file");
	rmdir(lock_path);
	ck_assert_int_eq(mkfifo(lock_path, 0600), 0);
	expect_refusal(-EEXIST, lock_path, "no regular file");
}
END_TEST

START_TEST(last_directory_is_made)
{
	char deep[64], under[64];
	struct stat st;

	snprintf(under, sizeof(under), "%s/new", dir);
	snprintf(deep, sizeof(deep), "%s/new/sock", dir);
	conf.path = deep;
	umask(077);
	expect_start();
	umask(022);
	ck_assert_int_eq(stat(under, &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFDIR | 0755);
	listener = listener_free(listener);
	ck_assert_uint_eq(kind_of(deep), 0);
	strcat(deep, ".lock");
	ck_assert_int_eq(unlink(deep), 0);
	ck_assert_int_eq(rmdir(under), 0);
	snprintf(deep, sizeof(deep), "%s/new/new/sock", dir);
	expect_refusal(-ENOENT, deep, "does not exist");
}
END_TEST

START_TEST(path_must_fit)
{
	char long_path[200];

	memset(long_path, 'x', sizeof(long_path));
	memcpy(long_path, dir, strlen(dir));
	long_path[strlen(dir)] = '/';
	long_path[108] = '\0';
	conf.path = long_path;
	expect_refusal(-ENAMETOOLONG, long_path, "at most 107 bytes");
	long_path[107] = '\0';
	expect_start(); /* just fits */
	listener = listener_free(listener);
	ck_assert_uint_eq(kind_of(long_path), 0);
	strcat(long_path, ".lock");
	ck_assert_int_eq(unlink(long_path), 0);
	conf.path = "";
	expect_refusal(-EINVAL, "", "empty");
}
END_TEST

START_TEST(free_removes_only_its_own_file)
{
	expect_start();
	ck_assert_int_eq(unlink(path), 0);
	int fd = plant_socket(true); /* somebody else's by now */
	listener = listener_free(listener);
	ck_assert_uint_eq(kind_of(path), S_IFSOCK);
	ck_assert_int_eq(client_connect(), 0);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sockfile");
	TCase *c = tcase_create("listener");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, file_has_the_mode_asked_for);
	tcase_add_test(c, file_gets_the_group_asked_for);
	tcase_add_test(c, unknown_group_is_refused);
	tcase_add_test(c, stale_socket_is_replaced);
	tcase_add_test(c, living_daemon_is_refused);
	tcase_add_test(c, living_stranger_is_refused);
	tcase_add_test(c, what_is_no_socket_stays);
	tcase_add_test(c, links_are_not_followed);
	tcase_add_test(c, foreign_files_stay);
	tcase_add_test(c, bad_places_for_the_lock);
	tcase_add_test(c, last_directory_is_made);
	tcase_add_test(c, path_must_fit);
	tcase_add_test(c, free_removes_only_its_own_file);
	suite_add_tcase(s, c);
	return suite_run(s);
}
