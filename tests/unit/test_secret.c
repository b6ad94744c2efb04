/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop_util.h"

static char dir[] = "/tmp/rtb-secret-XXXXXX";
static char path[64];
static char text[256];
static unsigned fds_before;

static void setup(void)
{
	fds_before = open_fds();
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/key", dir);
	text[0] = '\0';
}

static void teardown(void)
{
	if (unlink(path) < 0)
		rmdir(path);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(open_fds(), fds_before);
}

static void put(const void *bytes, size_t size, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

static int get(size_t max, struct secret **ret)
{
	return secret_read_file(path, max, ret, text, sizeof(text));
}

/* The sentence names the path, and the key is not in it. */
static void expect_refusal(size_t max, int error, const char *part)
{
	struct secret *s = NULL;

	ck_assert_int_eq(get(max, &s), error);
	ck_assert_ptr_null(s);
	ck_assert_msg(strstr(text, path) == text, "%s", text);
	ck_assert_msg(strstr(text, part) != NULL, "%s lacks %s", text, part);
	ck_assert_ptr_null(strstr(text, "hush"));
}

START_TEST(holds_a_copy)
{
	char key[] = "hush\0hush";
	struct secret *s = secret_new(key, 9);

	ck_assert_ptr_nonnull(s);
	memset(key, 'x', sizeof(key));
	ck_assert_uint_eq(secret_size(s), 9);
	ck_assert_mem_eq(secret_bytes(s), "hush\0hush", 10);
	ck_assert_ptr_null(secret_free(s));
	ck_assert_ptr_null(secret_free(NULL));
}
END_TEST

START_TEST(may_be_empty_or_of_many_pages)
{
	static char key[100 * 1000];
	struct secret *s = secret_new("", 0);

	ck_assert_str_eq(secret_bytes(s), "");
	secret_free(s);
	memset(key, 'k', sizeof(key));
	s = secret_new(key, sizeof(key));
	ck_assert_uint_eq(secret_size(s), sizeof(key));
	ck_assert_mem_eq(secret_bytes(s), key, sizeof(key));
	ck_assert_int_eq(secret_bytes(s)[sizeof(key)], 0);
	secret_free(s);
}
END_TEST

/* The kernel's word for it: `dd` in VmFlags of the mapping is "not in core dumps". */
START_TEST(stays_out_of_core_dumps)
{
	struct secret *s = secret_new("hush", 4);
	uintptr_t at = (uintptr_t)secret_bytes(s), from, to;
	FILE *maps = fopen("/proc/self/smaps", "re");
	bool inside = false, found = false;
	char line[512];

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			inside = from <= at && at < to;
		if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			ck_assert_msg(strstr(line, " dd") != NULL, "%s", line);
			found = true;
		}
	}
	fclose(maps);
	ck_assert(found);
	secret_free(s);
}
END_TEST

START_TEST(file_is_read_without_white_space_around)
{
	struct secret *s = NULL;

	put(" \t\r\nhush-1.2\r\n\n", 15, 0600);
	ck_assert_int_eq(get(100, &s), 0);
	ck_assert_str_eq(secret_bytes(s), "hush-1.2");
	ck_assert_uint_eq(secret_size(s), 8);
	secret_free(s);
	put("hush", 4, 0400);
	ck_assert_int_eq(get(4, &s), 0); /* just fits */
	ck_assert_str_eq(secret_bytes(s), "hush");
	secret_free(s);
}
END_TEST

START_TEST(file_must_hold_one_word)
{
	put("", 0, 0600);
	expect_refusal(100, -EINVAL, "empty");
	put(" \n\n", 3, 0600);
	expect_refusal(100, -EINVAL, "empty");
	put("hush hush", 9, 0600);
	expect_refusal(100, -EINVAL, "more than one word");
	put("hush\nhush", 9, 0600);
	expect_refusal(100, -EINVAL, "more than one word");
	put("hush\0hush", 9, 0600);
	expect_refusal(100, -EINVAL, "more than one word");
	put("hush\0", 5, 0600);
	expect_refusal(100, -EINVAL, "more than one word");
	put("hushhush", 8, 0600);
	expect_refusal(7, -EFBIG, "at most 7");
}
END_TEST

START_TEST(file_must_be_private)
{
	static const mode_t open_modes[] = { 0644, 0604, 0602, 0620, 0660, 0777 };
	struct secret *s = NULL;

	for (unsigned i = 0; i < sizeof(open_modes) / sizeof(*open_modes); i++) {
		put("hush", 4, open_modes[i]);
		expect_refusal(100, -EPERM, "chmod 600");
	}
	put("hush", 4, 0440);
	if (geteuid() == 0) {
		/* As systemd and containers hand keys over: root's, readable by a group. */
		ck_assert_int_eq(get(100, &s), 0);
		secret_free(s);
		ck_assert_int_eq(chown(path, 65534, 65534), 0);
	}
	expect_refusal(100, -EPERM, "chmod 600");
}
END_TEST

START_TEST(other_things_are_no_key_file)
{
	char link[64];

	expect_refusal(100, -ENOENT, "No such file");
	ck_assert_int_eq(mkdir(path, 0700), 0);
	expect_refusal(100, -EINVAL, "regular file");
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect_refusal(100, -EINVAL, "regular file"); /* and does not hang */
	unlink(path);
	/* A link is how Kubernetes mounts a secret: followed. */
	snprintf(link, sizeof(link), "%s/real", dir);
	put("hush", 4, 0600);
	ck_assert_int_eq(rename(path, link), 0);
	ck_assert_int_eq(symlink("real", path), 0);
	struct secret *s = NULL;
	ck_assert_int_eq(get(100, &s), 0);
	secret_free(s);
	unlink(link);
}
END_TEST

START_TEST(grows_piece_by_piece)
{
	struct secret *s = secret_new_empty(6), *same;
	size_t room;

	ck_assert_ptr_nonnull(s);
	ck_assert_uint_eq(secret_size(s), 0);
	memcpy(secret_space(s, &room), " hu", 3);
	ck_assert_uint_eq(room, 6);
	secret_grow(s, 3);
	memcpy(secret_space(s, &room), "sh\n", 3);
	ck_assert_uint_eq(room, 3);
	secret_grow(s, 3);
	(void)secret_space(s, &room);
	ck_assert_uint_eq(room, 0);
	ck_assert(secret_trim(s));
	ck_assert_str_eq(secret_bytes(s), "hush");
	same = secret_new("hush", 4);
	ck_assert(secret_equal(s, same) && secret_equal(NULL, NULL));
	ck_assert(!secret_equal(s, NULL) && !secret_equal(NULL, s));
	secret_free(same);
	same = secret_new("hus", 3);
	ck_assert(!secret_equal(s, same));
	secret_free(same);
	secret_free(s);
	s = secret_new_empty(3);
	ck_assert(!secret_trim(s)); /* empty */
	memcpy(secret_space(s, &room), "a b", 3);
	secret_grow(s, 3);
	ck_assert(!secret_trim(s));
	secret_free(s);
}
END_TEST

START_TEST(buffers_are_given_back_empty)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	secret_wipe_buf(&b);
	rtbp_buf_text(&b, "hush");
	secret_wipe_buf(&b);
	ck_assert_ptr_null(b.data);
	ck_assert_uint_eq(b.size, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("secret");
	TCase *c = tcase_create("secret");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, holds_a_copy);
	tcase_add_test(c, may_be_empty_or_of_many_pages);
	tcase_add_test(c, stays_out_of_core_dumps);
	tcase_add_test(c, file_is_read_without_white_space_around);
	tcase_add_test(c, file_must_hold_one_word);
	tcase_add_test(c, file_must_be_private);
	tcase_add_test(c, other_things_are_no_key_file);
	tcase_add_test(c, grows_piece_by_piece);
	tcase_add_test(c, buffers_are_given_back_empty);
	suite_add_tcase(s, c);
	return suite_run(s);
}
