/* SPDX-License-Identifier: MIT */
#pragma once
/* A configuration in a folder of its own, for one file of a Check program. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/conf.h"

#define KEY "eyJ.the-secret.key"

static struct conf conf;
static struct conf_text why;
static char *dir, *file, *key;

static inline void put(const char *path, const void *data, size_t size, mode_t mode)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(data, 1, size, f), size);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static inline char *path_in(const char *name)
{
	char *path;

	ck_assert_int_ge(asprintf(&path, "%s/%s", dir, name), 0);
	return path;
}

static inline void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	ck_assert_int_ge(asprintf(&dir, "%s/rtb-conf-XXXXXX", tmp ? tmp : "/tmp"), 0);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	file = path_in("x.conf");
	key = path_in("key");
	put(key, KEY "\n", strlen(KEY) + 1, 0600);
	ck_assert_int_eq(conf_init(&conf), 0);
	why.text[0] = '\0';
}

static inline void teardown(void)
{
	char *command;

	conf_done(&conf);
	ck_assert_int_ge(asprintf(&command, "rm -rf '%s'", dir), 0);
	ck_assert_int_eq(system(command), 0); /* NOLINT: a path of our own making */
	free(command);
	free(dir);
	free(file);
	free(key);
}

static inline int read_text(const char *text)
{
	put(file, text, strlen(text), 0644);
	return conf_read(&conf, file, &why);
}

/* The file is refused, and the complaint holds "FILE:LINE" and `word`. */
static inline void refused(const char *text, unsigned line, const char *word)
{
	char where[300];

	ck_assert_msg(read_text(text) == -EINVAL, "taken: %s", text);
	snprintf(where, sizeof(where), "%s:%u: ", file, line);
	ck_assert_msg(strncmp(why.text, where, strlen(where)) == 0, "%s; expected %s", why.text,
		      where);
	ck_assert_msg(strstr(why.text, word), "%s; expected %s", why.text, word);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
}

static inline int finish(const char *url)
{
	ck_assert_int_eq(conf_set(&conf, "--url", "upstream", "url", url, &why), 0);
	ck_assert_int_eq(conf_set(&conf, "--key", "upstream", "apikey_file", key, &why), 0);
	return conf_finish(&conf, &why);
}

/* What --check would print. */
static inline char *printed(int64_t now_s)
{
	char *out = path_in("out"), *text = NULL;
	int saved = dup(STDOUT_FILENO),
	    fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t cap = 0;
	FILE *f;

	ck_assert(saved >= 0 && fd >= 0);
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	conf_print(&conf, now_s);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	f = fopen(out, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_gt(getdelim(&text, &cap, '\0', f), 0);
	fclose(f);
	free(out);
	return text;
}
