/* SPDX-License-Identifier: MIT */
/*
 * The files of the configuration: libini_config takes them apart (it knows the line of each value);
 * conf_set() judges.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini_configobj.h>
#include <ini_valueobj.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/conf.h"
#include "base/cleanup.h"
#include "proto/rtbp_val.h"

static void ini_file_freep(struct ini_cfgfile **f)
{
	if (*f)
		ini_config_file_destroy(*f);
}

static void ini_freep(struct ini_cfgobj **c)
{
	if (*c)
		ini_config_destroy(*c);
}

/* All values of one key, in the order of the file. */
static int read_key(struct conf *conf, const char *path, struct ini_cfgobj *ini,
		    const char *section, const char *key, struct conf_text *ret)
{
	int mode = INI_GET_FIRST_VALUE, error, r;
	struct value_obj *vo;
	const char *value;
	char where[300];
	uint32_t line;

	for (;;) {
		vo = NULL;
		if (ini_get_config_valueobj(section, key, ini, mode, &vo) != 0 || !vo)
			return 0;
		mode = INI_GET_NEXT_VALUE;
		line = 0;
		(void)value_get_line(vo, &line);
		value = ini_get_const_string_config_value(vo, &error);
		snprintf(where, sizeof(where), "%s:%u", path, line);
		r = conf_set(conf, where, section, key, value ? value : "", ret);
		if (r < 0)
			return r;
	}
}

static int read_section(struct conf *conf, const char *path, struct ini_cfgobj *ini,
			const char *section, struct conf_text *ret)
{
	int n = 0, error = 0, r = 0;
	char **names = ini_get_attribute_list(ini, section, &n, &error);

	for (int i = 0; i < n && r == 0; i++) {
		bool seen =
			false; /* a key that repeats is listed as often; its values come together */

		for (int k = 0; k < i; k++)
			seen |= strcmp(names[k], names[i]) == 0;
		if (!seen)
			r = read_key(conf, path, ini, section, names[i], ret);
	}
	ini_free_attribute_list(names);
	return r;
}

static int syntax_error(const char *path, struct ini_cfgobj *ini, struct conf_text *ret)
{
	char **errors = NULL;

	if (ini_config_get_errors(ini, &errors) == 0 && errors && errors[0])
		snprintf(ret->text, sizeof(ret->text), "%s: %s", path, errors[0]);
	else
		snprintf(ret->text, sizeof(ret->text), "%s: not a configuration file", path);
	ini_config_free_errors(errors);
	return -EINVAL;
}

/* A regular file: a FIFO would hold the start up for ever. */
static FILE *open_file(const char *path, struct conf_text *ret)
{
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	FILE *f = NULL;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0) {
		if (S_ISREG(st.st_mode))
			f = fdopen(fd, "r");
		else
			errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	}
	if (f)
		fd = -1; /* f owns it */
	else
		snprintf(ret->text, sizeof(ret->text), "%s: %s", path,
			 errno == EINVAL   ? "not a regular file"
			 : errno == ENOENT ? "no such file; write it, or name another with --config"
					   : strerror(errno));
	return f;
}

/* What is wrong with one line; *ret_empty: nothing but comments up to here. */
static const char *check_line(const char *line, size_t size, bool *ret_empty)
{
	size_t at = strspn(line, " \t\r\n");

	if (memchr(line, '\0', size))
		return "a NUL byte";
	if (!rtbp_utf8_valid(line, size))
		return "a character that is not UTF-8";
	if (line[at] == '\0' || line[at] == '#' || line[at] == ';' || !*ret_empty)
		return NULL;
	*ret_empty = false;
	return line[at] == '[' ? NULL : "a [section] must come before the first key";
}

/* libini_config passes over keys in front of the first section in silence, ends a line at a NUL,
 * takes a file without contents for an error, and does not say which line is not UTF-8. */
static int check_lines(const char *path, bool *ret_empty, struct conf_text *ret)
{
	static const char mark[] = "\xef\xbb\xbf"; /* UTF-8 as some editors begin it */
	FILE *f = open_file(path, ret);
	const char *wrong = NULL;
	char *line = NULL;
	size_t cap = 0, skip;
	ssize_t size;

	if (!f)
		return -errno;
	*ret_empty = true;
	for (unsigned n = 1; !wrong && (size = getline(&line, &cap, f)) >= 0; n++) {
		skip = n == 1 && strncmp(line, mark, 3) == 0 ? 3 : 0;
		wrong = check_line(line + skip, (size_t)size - skip, ret_empty);
		if (wrong)
			snprintf(ret->text, sizeof(ret->text), "%s:%u: %s", path, n, wrong);
	}
	free(line);
	fclose(f);
	return wrong ? -EINVAL : 0;
}

static int read_file(struct conf *conf, const char *path, struct conf_text *ret)
{
	CLEANUP(ini_file_freep) struct ini_cfgfile *file = NULL;
	CLEANUP(ini_freep) struct ini_cfgobj *ini = NULL;
	bool empty = true;
	char **sections;
	int n = 0, error, r;

	r = check_lines(path, &empty, ret);
	if (r < 0 || empty)
		return r;
	error = ini_config_file_open(path, 0, &file);
	if (error) {
		snprintf(ret->text, sizeof(ret->text), "%s: %s", path, strerror(error));
		return -error;
	}
	if (ini_config_create(&ini) != 0)
		return -ENOMEM;
	if (ini_config_parse(file, INI_STOP_ON_NONE, INI_MV1S_ALLOW | INI_MV2S_ALLOW | INI_MS_MERGE,
			     INI_PARSE_NOWRAP | INI_PARSE_NO_C_COMMENTS, ini) != 0 ||
	    ini_config_error_count(ini) > 0)
		return syntax_error(path, ini, ret);
	sections = ini_get_section_list(ini, &n, &error);
	for (int i = 0; i < n && r == 0; i++)
		r = read_section(conf, path, ini, sections[i], ret);
	ini_free_section_list(sections);
	return r;
}

static int is_conf(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return e->d_name[0] != '.' && n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

int conf_read(struct conf *conf, const char *path, struct conf_text *ret)
{
	CLEANUP(freep) char *dir = NULL;
	struct dirent **entries = NULL;
	char *drop_in;
	int n, r;

	r = read_file(conf, path, ret);
	if (r < 0)
		return r;
	if (asprintf(&dir, "%s.d", path) < 0)
		return -ENOMEM;
	n = scandir(dir, &entries, is_conf, alphasort);
	if (n < 0 && errno != ENOENT) {
		r = -errno;
		snprintf(ret->text, sizeof(ret->text), "%s: %s", dir, strerror(-r));
		return r;
	}
	for (int i = 0; i < n; i++) {
		if (r == 0 && asprintf(&drop_in, "%s/%s", dir, entries[i]->d_name) < 0) {
			r = -ENOMEM;
		} else if (r == 0) {
			r = read_file(conf, drop_in, ret);
			free(drop_in);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}
