/* SPDX-License-Identifier: MIT */
#include "base/watch.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop_util.h"

static struct loop *loop;
static struct watch *watch;
static struct watch_file *file, *other;
static unsigned fds_before, calls, other_calls;
static char dir[] = "/tmp/rtb-watch-XXXXXX";
static char paths[8][128];

/* "%s/..." below the test's folder; eight live at a time. */
static const char *in(const char *name)
{
	static unsigned at;
	char *to = paths[at++ % 8];

	snprintf(to, sizeof(paths[0]), "%s/%s", dir, name);
	return to;
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void make_dir(const char *name)
{
	ck_assert_int_eq(mkdir(in(name), 0700), 0);
}

static void move(const char *from, const char *to)
{
	ck_assert_int_eq(rename(in(from), in(to)), 0);
}

static void make_link(const char *target, const char *name)
{
	ck_assert_int_eq(symlink(target, in(name)), 0);
}

static void on_change(void *ctx)
{
	(*(unsigned *)ctx)++;
	loop_stop(loop);
}

static void setup(void)
{
	fds_before = open_fds();
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	calls = other_calls = 0;
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	ck_assert_int_eq(watch_new(loop, &watch), 0);
}

/* The kernel's watches of this process. */
static unsigned kernel_watches(void)
{
	DIR *d = opendir("/proc/self/fdinfo");
	char path[300], line[512];
	struct dirent *e;
	unsigned n = 0;
	FILE *f;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		while (f && fgets(line, sizeof(line), f))
			n += strncmp(line, "inotify wd", 10) == 0;
		if (f)
			fclose(f);
	}
	closedir(d);
	return n;
}

static void teardown(void)
{
	char command[100];

	file = watch_remove(file);
	other = watch_remove(other);
	ck_assert_uint_eq(kernel_watches(), 0);
	watch_free(watch);
	loop_free(loop);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0); /* NOLINT: a path of our own making */
	ck_assert_uint_eq(open_fds(), fds_before);
}

static void begin(const char *name)
{
	ck_assert_int_eq(watch_add(watch, in(name), on_change, &calls, &file), 0);
}

/* One call, for all that has been done. */
static void told(const char *what)
{
	unsigned before = calls;

	run_until_stopped(loop, what);
	ck_assert_msg(calls == before + 1, "%s: %u", what, calls - before);
}

START_TEST(a_file_in_its_folder)
{
	begin("t");
	put(in("t"), "a");
	told("made");
	put(in("t"), "b");
	told("written in place");
	put(in("new"), "c");
	move("new", "t");
	told("another renamed over it");
	ck_assert_int_eq(chmod(in("t"), 0400), 0);
	told("its mode");
	move("t", "old");
	told("renamed away");
	move("old", "t");
	told("and back");
	ck_assert_int_eq(unlink(in("t")), 0);
	told("removed");
	ck_assert_int_eq(link(in("new2"), in("t")), -1);
	put(in("new2"), "d");
	ck_assert_int_eq(link(in("new2"), in("t")), 0);
	told("linked");
}
END_TEST

START_TEST(others_are_not_told)
{
	begin("t");
	ck_assert_int_eq(watch_add(watch, in("u"), on_change, &other_calls, &other), 0);
	put(in("x"), "a");
	put(in("tt"), "a");
	move("x", "y");
	put(in("u"), "the marker");
	run_until_stopped(loop, "the other file");
	ck_assert_uint_eq(other_calls, 1);
	ck_assert_uint_eq(calls, 0);
	other = watch_remove(other);
	put(in("u"), "nobody looks");
	put(in("t"), "a");
	told("the one that is left");
	ck_assert_uint_eq(other_calls, 1);
}
END_TEST

/* What of the kernel's events has not been read yet. */
static int unread(void)
{
	DIR *d = opendir("/proc/self/fd");
	char path[300], to[64];
	struct dirent *e;
	int fd = -1, n = -1;
	ssize_t size;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%s", e->d_name);
		size = readlink(path, to, sizeof(to) - 1);
		to[size > 0 ? size : 0] = '\0';
		if (strcmp(to, "anon_inode:inotify") == 0)
			fd = atoi(e->d_name);
	}
	closedir(d);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

/* In a folder that others fill, nobody else would have a turn. */
START_TEST(a_flood_is_read_in_turns)
{
	char name[16];
	int n;

	begin("t");
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "other-%u", i);
		put(in(name), "");
	}
	put(in("t"), "behind them");
	n = unread();
	ck_assert_int_gt(n, 64 * 1024);
	run_turn(loop);
	ck_assert(unread() > 0 && unread() < n);
	ck_assert_uint_eq(calls, 0);
	told("the file behind");
	ck_assert_int_eq(unread(), 0);
}
END_TEST

/* How Kubernetes changes all files of a secret at once. */
START_TEST(a_link_of_a_link_is_swapped)
{
	make_dir("..1");
	put(in("..1/t"), "a");
	make_link("..1", "..data");
	make_link("..data/t", "t");
	begin("t");
	for (unsigned i = 2; i < 6; i++) {
		char name[8], path[16];

		snprintf(name, sizeof(name), "..%u", i);
		snprintf(path, sizeof(path), "..%u/t", i);
		make_dir(name);
		put(in(path), "b");
		make_link(name, "..data_tmp");
		move("..data_tmp", "..data");
		told("swapped");
		put(in(path), "c");
		told("written in the new folder");
		snprintf(path, sizeof(path), "..%u/t", i - 1);
		put(in(path), "nobody looks any more");
	}
	put(in("..5/t"), "d");
	told("the last one");
}
END_TEST

START_TEST(links_of_all_kinds)
{
	char target[128];

	make_dir("real");
	make_dir("real/deep");
	make_dir("links");
	snprintf(target, sizeof(target), "%s//real/./deep/../deep", dir);
	make_link(target, "links/absolute");
	make_link("../links/absolute/t", "links/up");
	begin("links/../links/up");
	put(in("real/deep/t"), "a");
	told("where the links lead");
	ck_assert_int_eq(unlink(in("links/up")), 0);
	told("a link is gone");
	put(in("links/up"), "a file in its place");
	told("the place is taken");
	/* One that leads to itself is nowhere, and no trouble. */
	ck_assert_int_eq(unlink(in("links/up")), 0);
	told("gone again");
	make_link("up", "links/up");
	told("a circle");
	ck_assert_int_eq(unlink(in("links/up")), 0);
	told("the circle is gone");
	put(in("links/up"), "b");
	told("a file again");
}
END_TEST

START_TEST(folders_come_and_go)
{
	begin("a/b/t");
	make_dir("a");
	told("the upper folder");
	make_dir("a/b");
	told("the lower folder");
	put(in("a/b/t"), "a");
	told("the file");
	move("a", "z");
	told("all moved away");
	put(in("z/b/t"), "nobody looks");
	make_dir("a");
	make_dir("a/b");
	put(in("a/b/t"), "b");
	told("all anew");
	put(in("a/b/t"), "c");
	told("written in the new one");
	ck_assert_int_eq(unlink(in("a/b/t")), 0);
	ck_assert_int_eq(rmdir(in("a/b")), 0);
	told("removed with its folder");
	make_dir("a/b");
	told("the folder");
	put(in("a/b/t"), "d");
	told("the file in it");
	/* A folder made elsewhere and put here as a whole. */
	make_dir("n");
	make_dir("n/b");
	put(in("n/b/t"), "e");
	move("a", "old");
	move("n", "a");
	told("swapped");
	put(in("a/b/t"), "f");
	told("written in that");
	/* A file where a folder should be. */
	move("a", "old2");
	put(in("a"), "g");
	told("no folder");
}
END_TEST

START_TEST(many_events_are_one)
{
	uint64_t begun = clock_now(&clock_system);

	begin("t");
	for (unsigned i = 0; i < 50; i++)
		put(in("t"), "a");
	told("all of them");
	ck_assert_uint_ge(clock_now(&clock_system) - begun, WATCH_QUIET_MS);
	put(in("t"), "b");
	told("the next one");
	ck_assert_uint_eq(calls, 2);
}
END_TEST

static struct loop_timer writer;

static void write_again(void *ctx)
{
	(void)ctx;
	put(in("t"), "again");
	loop_timer_set(&writer, 20);
}

static FILE *half;
static unsigned halves;

static void write_half(void *ctx)
{
	(void)ctx;
	ck_assert_uint_eq(calls, 0);
	ck_assert_int_ge(fputs("more", half), 0);
	ck_assert_int_eq(fflush(half), 0);
	if (++halves < 10)
		loop_timer_set(&writer, 30);
	else
		fclose(half);
}

/* Made, and not closed for a quarter of a second: who looked after the first event would find the half of it. */
START_TEST(not_while_it_is_written)
{
	begin("t");
	half = fopen(in("t"), "we");
	ck_assert_ptr_nonnull(half);
	ck_assert_int_eq(loop_timer_init(loop, &writer, write_half, NULL), 0);
	loop_timer_set(&writer, 0);
	told("the whole of it");
	ck_assert_uint_eq(halves, 10);
	loop_timer_done(&writer);
}
END_TEST

/* It never rests for WATCH_QUIET_MS. */
START_TEST(not_put_off_for_ever)
{
	begin("t");
	ck_assert_int_eq(loop_timer_init(loop, &writer, write_again, NULL), 0);
	loop_timer_set(&writer, 0);
	told("although it goes on");
	told("and again");
	loop_timer_done(&writer);
}
END_TEST

START_TEST(lost_events_are_told)
{
	FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%u", &n), 1);
	fclose(f);
	begin("t");
	/* Neither name is ours; by turns, or they would be put together. */
	for (unsigned i = 0; i <= n / 2; i++) {
		ck_assert_int_eq(mkdir(in(i % 2 ? "x" : "y"), 0700), 0);
		ck_assert_int_eq(rmdir(in(i % 2 ? "x" : "y")), 0);
	}
	told("an overflow");
}
END_TEST

START_TEST(relative_and_shared)
{
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned one;

	ck_assert_int_ge(here, 0);
	begin("t");
	one = kernel_watches();
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(watch_add(watch, "t", on_change, &other_calls, &other), 0);
	ck_assert_uint_eq(kernel_watches(), one);
	ck_assert_int_eq(fchdir(here), 0);
	close(here);
	put(in("t"), "a");
	while (calls + other_calls < 2)
		run_until_stopped(loop, "both");
	ck_assert_uint_eq(calls, 1);
	/* What both have stays while one has it. */
	file = watch_remove(file);
	ck_assert_uint_eq(kernel_watches(), one);
	put(in("t"), "b");
	run_until_stopped(loop, "the other one");
	ck_assert_uint_eq(other_calls, 2);
}
END_TEST

static void remove_itself(void *ctx)
{
	(void)ctx;
	calls++;
	file = watch_remove(file);
	loop_stop(loop);
}

START_TEST(removed_from_its_call)
{
	ck_assert_int_eq(watch_add(watch, in("t"), remove_itself, NULL, &file), 0);
	put(in("t"), "a");
	told("removed");
	ck_assert_ptr_null(file);
	/* And between the event and the call. */
	begin("t");
	put(in("t"), "b");
	run_turn(loop);
	file = watch_remove(file);
	ck_assert_int_eq(watch_add(watch, in("u"), on_change, &other_calls, &other), 0);
	put(in("u"), "the marker");
	run_until_stopped(loop, "the marker");
	ck_assert_uint_eq(calls, 1);
}
END_TEST

START_TEST(long_paths)
{
	char path[5000];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(watch_add(watch, path, on_change, &calls, &file), -ENAMETOOLONG);
	path[1000] = '\0'; /* one name that no file can have */
	ck_assert_int_eq(watch_add(watch, path, on_change, &calls, &file), 0);
	ck_assert_ptr_null(watch_free(NULL));
	ck_assert_ptr_null(watch_remove(NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("watch");
	TCase *c = tcase_create("watch");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_file_in_its_folder);
	tcase_add_test(c, others_are_not_told);
	tcase_add_test(c, a_flood_is_read_in_turns);
	tcase_add_test(c, a_link_of_a_link_is_swapped);
	tcase_add_test(c, links_of_all_kinds);
	tcase_add_test(c, folders_come_and_go);
	tcase_add_test(c, many_events_are_one);
	tcase_add_test(c, not_while_it_is_written);
	tcase_add_test(c, not_put_off_for_ever);
	tcase_add_test(c, lost_events_are_told);
	tcase_add_test(c, relative_and_shared);
	tcase_add_test(c, removed_from_its_call);
	tcase_add_test(c, long_paths);
	suite_add_tcase(s, c);
	return suite_run(s);
}
