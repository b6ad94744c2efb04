/* SPDX-License-Identifier: MIT */
/*
 * main() for a fuzz target in ordinary builds: feeds it every file of the given files and
 * directories, once and in order of name. What a target dislikes it says by abort().
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay_file(const char *path, off_t file_size)
{
	size_t size = (size_t)file_size;
	/* Exactly as large as the input, so that a sanitizer sees one byte too many. */
	uint8_t *data = malloc(size ? size : 1);
	FILE *file = fopen(path, "rb");
	bool ok = data && file && fread(data, 1, size, file) == size;

	if (ok) {
		/* On the terminal before a crash, so that its last line names the culprit. */
		printf("%s\n", path);
		fflush(stdout);
		LLVMFuzzerTestOneInput(data, size);
	} else {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	}
	if (file)
		fclose(file);
	free(data);
	return ok;
}

static bool replay(const char *path, size_t *n_files);

static bool replay_dir(const char *path, size_t *n_files)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);
	bool ok = n >= 0;
	char *child;

	for (int i = 0; i < n; i++) {
		if (ok && names[i]->d_name[0] != '.') {
			ok = asprintf(&child, "%s/%s", path, names[i]->d_name) >= 0;
			if (ok) {
				ok = replay(child, n_files);
				free(child);
			}
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return ok;
}

static bool replay(const char *path, size_t *n_files)
{
	struct stat st;

	if (stat(path, &st)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return false;
	}
	if (S_ISDIR(st.st_mode))
		return replay_dir(path, n_files);
	++*n_files;
	return replay_file(path, st.st_size);
}

int main(int argc, char **argv)
{
	size_t n_files = 0;

	for (int i = 1; i < argc; i++)
		if (!replay(argv[i], &n_files))
			return EXIT_FAILURE;
	if (!n_files) {
		fprintf(stderr, "no input: name files or directories\n");
		return EXIT_FAILURE;
	}
	printf("%zu inputs replayed\n", n_files);
	return EXIT_SUCCESS;
}
