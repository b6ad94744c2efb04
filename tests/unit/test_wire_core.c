/* SPDX-License-Identifier: MIT */
/* No core dump of a connected process contains the key or the token that it has sent. gcore(1)
 * leaves out what the kernel would leave out. */
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/secret.h"
#include "wire_util.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* Their allocators keep freed memory on purpose and their shadow is terabytes wide. */
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static char folder[] = "/tmp/rtb-wire-core-XXXXXX";
static char ca_file[PATH_MAX];
static struct server server, http_server;

static int run(const char *const *argv)
{
	posix_spawn_file_actions_t actions;
	int status = -1;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ) == 0)
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&actions);
	return status;
}

static void start_server(void)
{
	const char *const make[] = { "sh", RTB_WIRE_TESTS "/make_certs.sh", folder, NULL };
	const char *const argv[] = { RTB_PYTHON, RTB_WIRE_TESTS "/tls_server.py", folder, "good",
				     NULL };
	const char *const http_argv[] = { RTB_PYTHON, RTB_WIRE_TESTS "/http_server.py", folder,
					  "good", NULL };

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
	ck_assert_int_eq(run(make), 0);
	server_start(&server, argv);
	server_start(&http_server, http_argv);
}

static void stop_server(void)
{
	const char *const argv[] = { "rm", "-rf", folder, NULL };

	server_stop(&server);
	server_stop(&http_server);
	run(argv);
}

/* What the test itself knows of the secrets: in memory that is not dumped, as the daemon's own
 * copies are. */
struct vault {
	char key[41], token[41], control[41];
	char path[256], message[512], request[8192], auth[64], apikey[64];
	const char *headers[3];
	struct rig rig; /* keeps answers */
};

static struct vault *vault_new(void)
{
	struct vault *v =
		mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(v, MAP_FAILED);
	ck_assert_int_eq(madvise(v, sizeof(*v), MADV_DONTDUMP), 0);
	return v;
}

/* Made at run time: as literals they would be in every core. */
static void mark_make(char *mark, size_t size, unsigned seed)
{
	for (size_t i = 0; i + 1 < size; i++) {
		seed = seed * 1103515245 + 12345;
		mark[i] = (char)('A' + (seed >> 16) % 26);
	}
	mark[size - 1] = '\0';
}

static void append(char *to, const char *text)
{
	memcpy(to + strlen(to), text, strlen(text) + 1);
}

static void vault_fill(struct vault *v)
{
	mark_make(v->key, sizeof(v->key), 17);
	mark_make(v->token, sizeof(v->token), 4711);
	mark_make(v->control, sizeof(v->control), 815);
	append(v->path, "/sink?apikey=");
	append(v->path, v->key);
	append(v->path, "&vsn=2.0.0");
	append(v->message, "[\"1\",\"1\",\"realtime:x\",\"phx_join\",{\"access_token\":\"");
	append(v->message, v->token);
	append(v->message, "\"}]");
	append(v->auth, "authorization: Bearer ");
	append(v->auth, v->token);
	append(v->apikey, "apikey: ");
	append(v->apikey, v->key);
	v->headers[0] = v->auth;
	v->headers[1] = v->apikey;
}

static int count_in_file(const char *path, const char *mark)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), n = 0;
	struct stat st;
	char *map, *at;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
	for (at = map; (at = memmem(at, (size_t)(map + st.st_size - at), mark, strlen(mark))); at++)
		n++;
	munmap(map, (size_t)st.st_size);
	close(fd);
	return n;
}

static void expect_clean_core(const struct vault *v)
{
	char base[PATH_MAX], path[PATH_MAX + 32], pid[16];
	const char *const argv[] = { "gcore", "-o", base, pid, NULL };
	char *control = strdup(v->control);

	snprintf(base, sizeof(base), "%s/core", folder);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	snprintf(path, sizeof(path), "%s.%s", base, pid);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	ck_assert_msg(run(argv) == 0, "gcore failed");
	/* Else the test would find nothing, whatever is there. */
	ck_assert_int_ge(count_in_file(path, v->control), 1);
	ck_assert_int_eq(count_in_file(path, v->key), 0);
	ck_assert_int_eq(count_in_file(path, v->token), 0);
	unlink(path);
	free(control);
}

static void open_and_send(struct rig *rig, const struct vault *v, bool tls)
{
	struct wire_stats stats;

	rig_open(rig, 0, tls, "localhost", server_port(&server, tls ? "good" : "plain"), v->path);
	rig_until(rig, rig->recs[0].n_opened == 1);
	ck_assert_int_eq(
		wire_send(rig->w, 0, rig->recs[0].epoch, false, v->message, strlen(v->message)), 0);
	/* The server answers each message with its length. */
	rig_until(rig, rig->recs[0].n_messages == 1);
	wire_get_stats(rig->w, &stats);
	ck_assert_uint_eq(stats.messages_out, 1);
}

START_TEST(test_core_open_and_closed)
{
	struct vault *v = vault_new();
	struct rig rig;

	vault_fill(v);
	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	open_and_send(&rig, v, _i == 1);
	expect_clean_core(v);
	wire_close(rig.w, 0, rig.recs[0].epoch, 1000);
	rig_until_closed(&rig, 0);
	expect_clean_core(v);
	rig_stop(&rig);
	expect_clean_core(v);
	munmap(v, sizeof(*v));
}
END_TEST

static void post_secrets(struct vault *v, bool tls, uint16_t port, const char *path)
{
	struct wire_post p = {
		.target = { .tls = tls,
			    .host = "127.0.0.1",
			    .port = port,
			    .path = path,
			    .headers = v->headers },
		.content_type = "application/json",
		.body = v->message,
		.size = strlen(v->message),
		.timeout_ms = WIRE_DEADLINE_MS,
	};

	ck_assert_int_eq(rig_try_post(&v->rig, 0, &p), 0);
}

/* A request with secrets everywhere, and an answer that repeats them. */
START_TEST(test_core_post)
{
	struct vault *v = vault_new();
	struct rig *rig = &v->rig;

	vault_fill(v);
	snprintf(v->path, sizeof(v->path), "/bytes?apikey=%s", v->key);
	rig_init(rig);
	rig->conf.ca_file = ca_file;
	rig_start(rig);
	post_secrets(v, _i == 1, server_port(&http_server, _i == 1 ? "good" : "plain"), v->path);
	rig_until_answered(rig, 0);
	ck_assert_uint_eq(rig->posts[0].answer.status, 200);
	ck_assert_ptr_nonnull(strstr(rig->posts[0].body, v->key));
	ck_assert_ptr_nonnull(strstr(rig->posts[0].body, v->token));
	expect_clean_core(v);
	rig_stop(rig);
	expect_clean_core(v);
	munmap(v, sizeof(*v));
}
END_TEST

static int listen_here(uint16_t *ret_port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, len), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*ret_port = ntohs(sin.sin_port);
	return fd;
}

/* Takes the one connection, reads up to `end`. */
static int read_words(int fd, struct vault *v, const char *end)
{
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	size_t got = 0;

	ck_assert_int_ge(peer, 0);
	while (!memmem(v->request, got, end, strlen(end))) {
		ssize_t n = recv(peer, v->request + got, sizeof(v->request) - got, 0);

		ck_assert_int_gt(n, 0);
		got += (size_t)n;
	}
	return peer;
}

static int read_request(int fd, struct vault *v, const char *end)
{
	int peer = read_words(fd, v, end);

	ck_assert_ptr_nonnull(memmem(v->request, sizeof(v->request), v->key, strlen(v->key)));
	return peer;
}

/* It is sent, and still there to be answered. */
START_TEST(test_core_post_in_flight)
{
	struct vault *v = vault_new();
	uint16_t port;
	int fd = listen_here(&port), peer;

	vault_fill(v);
	rig_init(&v->rig);
	rig_start(&v->rig);
	post_secrets(v, false, port, v->path);
	peer = read_request(fd, v, v->message);
	expect_clean_core(v);
	close(peer);
	ck_assert_int_eq(rig_until_answered(&v->rig, 0)->why, WIRE_LOST);
	expect_clean_core(v);
	rig_stop(&v->rig);
	close(fd);
	munmap(v, sizeof(*v));
}
END_TEST

/* The worst moment: the request is sent, the answer is not there. */
START_TEST(test_core_in_the_handshake)
{
	struct vault *v = vault_new();
	struct rig *rig = &v->rig;
	uint16_t port;
	int fd = listen_here(&port), peer;

	vault_fill(v);
	rig_init(rig);
	rig_start(rig);
	rig_open(rig, 0, false, "127.0.0.1", port, v->path);
	peer = read_request(fd, v, "\r\n\r\n");
	expect_clean_core(v);
	close(peer);
	ck_assert_int_eq(rig_until_closed(rig, 0)->why, WIRE_HANDSHAKE);
	expect_clean_core(v);
	rig_stop(rig);
	close(fd);
	munmap(v, sizeof(*v));
}
END_TEST

/* The password as a proxy is sent it, and as it came. */
START_TEST(test_core_proxy)
{
	struct vault *v = vault_new();
	struct rig *rig = &v->rig;
	struct secret *auth;
	uint16_t port;
	int fd = listen_here(&port), peer;

	vault_fill(v);
	snprintf(v->auth, sizeof(v->auth), "user:%s", v->token);
	auth = secret_new(v->auth, strlen(v->auth));
	rig_init(rig);
	rig->conf.proxy_host = "127.0.0.1";
	rig->conf.proxy_port = port;
	rig->conf.proxy_auth = auth;
	rig_start(rig);
	rig_open(rig, 0, true, "localhost", 443, v->path);
	peer = read_words(fd, v, "\r\n\r\n");
	/* From here on the token is what is behind "Basic ". */
	ck_assert_int_eq(sscanf(strstr(v->request, "Basic "), "Basic %40[A-Za-z0-9+/]", v->token),
			 1);
	ck_assert_uint_eq(strlen(v->token), 40);
	expect_clean_core(v);
	close(peer);
	ck_assert_int_eq(rig_until_closed(rig, 0)->why, WIRE_CONNECT);
	expect_clean_core(v);
	rig_stop(rig);
	secret_free(auth);
	close(fd);
	munmap(v, sizeof(*v));
}
END_TEST

int main(void)
{
	const char *const probe[] = { "gcore", NULL };
	Suite *suite;
	TCase *t;

	/* Without gdb, and under sanitizers (which keep freed memory on purpose), there is nothing
	 * to look at. 77: skipped. */
	if (SANITIZED || run(probe) == -1) {
		puts("skipped: needs gcore (package gdb) and a build without sanitizers");
		return 77;
	}
	suite = suite_create("wire_core");
	t = tcase_create("core");
	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_core_open_and_closed, 0, 2);
	tcase_add_test(t, test_core_in_the_handshake);
	tcase_add_loop_test(t, test_core_post, 0, 2);
	tcase_add_test(t, test_core_post_in_flight);
	tcase_add_test(t, test_core_proxy);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
