/* SPDX-License-Identifier: MIT */
/*
 * A configuration file of any bytes.
 *
 * Checked: it is taken, or refused with a sentence that begins with the file's name; what was taken
 * is within the limits of its keys; nothing leaks.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app/conf.h"
#include "app/url.h"
#include "hub/acl.h"

/* Whatever they say, they are to be asked. */
static void check_rules(const struct conf *conf)
{
	static const char *const names[] = { "alice", "*", "", NULL };
	static const char topic[] = "user:alice:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\303\244";
	const struct acl *acl = conf->acl;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct acl_who who = { .uid = 4000000000, .gid = 4000000000, .name = names[i] };
		struct rtbp_str t = { topic, sizeof(topic) - 1 }, all = { "*", 1 };
		bool something = acl_topic(acl, &who, ACL_READ, t) ||
				 acl_topic(acl, &who, ACL_WRITE | ACL_PRESENCE, t) ||
				 acl_table(acl, &who, all, all) || acl_table(acl, &who, t, t) ||
				 acl_admin(acl, &who);

		/* Nobody who may do something is kept out, and who is no owner needs a rule. */
		FUZZ_CHECK(!something || (acl_may_attach(acl, &who) && conf->n_rules > 0));
		FUZZ_CHECK(!acl_needs_own_identity(acl, &who) || conf->n_identities > 0);
	}
}

static void check_taken(const struct conf *conf)
{
	struct url_parts u;
	char text[256];

	FUZZ_CHECK(!conf->url || url_parse(conf->url, &u, text, sizeof(text)) == 0);
	FUZZ_CHECK(conf->socket_path[0] == '/');
	FUZZ_CHECK(conf->socket_mode & 0600 && conf->socket_mode <= 0777);
	FUZZ_CHECK(conf->max_clients >= 1 && conf->max_clients <= 100000);
	FUZZ_CHECK(conf->max_channels >= 1 && conf->max_channels <= 10000);
	FUZZ_CHECK(conf->frame_bytes >= 4096 && conf->frame_bytes <= 16 * 1024 * 1024);
	FUZZ_CHECK(!conf->params[CONF_LIST_MAX] && !conf->headers[CONF_LIST_MAX]);
	check_rules(conf);
	for (char *const *p = conf->params; *p; p++)
		FUZZ_CHECK(strchr(*p, '=') && !strpbrk(*p, " \t\r\n#?"));
	for (char *const *p = conf->headers; *p; p++)
		FUZZ_CHECK(strchr(*p, ':') && !strpbrk(*p, "\r\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("conf", MFD_CLOEXEC), r;
	struct conf_text why = { "" };
	struct conf conf;
	char path[64];

	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FUZZ_CHECK(conf_init(&conf) == 0);
	r = conf_read(&conf, path, &why);
	FUZZ_CHECK(r == 0 || r == -EINVAL);
	if (r == 0)
		check_taken(&conf);
	else
		FUZZ_CHECK(strncmp(why.text, path, strlen(path)) == 0 && strlen(why.text) < 512);
	conf_done(&conf);
	close(fd);
	return 0;
}
