/* SPDX-License-Identifier: MIT */
/* librtbridge: attaching, losing the daemon, finding it again. */
#include <signal.h>
#include <sys/wait.h>

#include "test_client_fake.h"
#include "suite.h"

struct log {
	int n_states, n_connections, n_errors;
	enum rtb_state last_state;
	int last_why;
	int whys[64];
	char connection[32];
	char error[64];
	char text[512];
};

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	struct log *log = user;

	log->last_state = state;
	log->last_why = why;
	if (log->n_states < 64)
		log->whys[log->n_states] = why;
	log->n_states++;
	(void)snprintf(log->text, sizeof(log->text), "%s", rtb_client_error_text(c));
}

static void on_connection(struct rtb_client *c, const struct rtb_connection *conn, void *user)
{
	struct log *log = user;

	(void)c;
	log->n_connections++;
	(void)snprintf(log->connection, sizeof(log->connection), "%s %s %s %lld %lld", conn->state,
		       conn->reason, conn->text, (long long)conn->since_unix_ms,
		       (long long)conn->next_try_ms);
}

static void on_error(struct rtb_client *c, int code, const char *name, const char *text, void *user)
{
	struct log *log = user;

	(void)c;
	log->n_errors++;
	(void)snprintf(log->error, sizeof(log->error), "%d %s %s", code, name, text);
}

static struct rtb_client *client_with_log(struct fake *f, struct log *log, bool once)
{
	struct rtb_options o = RTB_OPTIONS_INIT;

	*log = (struct log){ 0 };
	o.name = "tester";
	o.version = "7";
	o.handlers.state = on_state;
	o.handlers.connection = on_connection;
	o.handlers.error = on_error;
	o.user = log;
	o.once = once;
	return fake_client(f, &o);
}

START_TEST(hello_says_who_we_are)
{
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	ck_assert_int_eq(rtb_client_state(c), RTB_ATTACHING);
	ck_assert_int_eq(rtb_client_timeout_ms(c), 0);
	fake_accept(&f, c);
	m = fake_expect(&f, c, RTBP_M_HELLO);
	ck_assert_str_eq(field_json(m.params, RTBP_F_PROTOCOL), "1");
	ck_assert_str_eq(field_json(m.params, RTBP_F_CLIENT),
			 "{\"name\":\"tester\",\"version\":\"7\"}");
	ck_assert_int_eq(log.n_states, 0);
	say_hello(&f);
	fake_flush(&f, c);
	UNTIL(c, log.n_connections == 1);
	ck_assert_int_eq(log.n_states, 1);
	ck_assert_int_eq(log.last_state, RTB_ATTACHED);
	ck_assert_str_eq(log.connection, "online   1700000000000 -1");
	ck_assert_int_eq(rtb_client_timeout_ms(c), -1);
	ck_assert_str_eq(rtb_client_error_text(c), "");
	c = rtb_client_free(c);
	ck_assert_ptr_null(c);
	fake_stop(&f);
}
END_TEST

START_TEST(without_a_daemon_it_waits)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;
	int fd;

	fake_init(&f);
	c = client_with_log(&f, &log, false);
	fd = rtb_client_fd(c);
	UNTIL(c, log.n_states == 1);
	ck_assert_int_eq(log.last_state, RTB_ATTACHING);
	ck_assert_int_eq(log.last_why, -ENOENT);
	ck_assert_ptr_nonnull(strstr(log.text, f.path));
	ck_assert_int_ge(rtb_client_timeout_ms(c), 0);
	ck_assert_int_le(rtb_client_timeout_ms(c), 1000);
	/* The same failure again is no news. */
	for (int i = 0; i < 5; i++) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		/* The descriptor wakes for the timer, too. */
		ck_assert_int_eq(poll(&p, 1, FAKE_DEADLINE_S * 1000), 1);
		ck_assert_int_ge(rtb_client_process(c), 0);
	}
	ck_assert_int_eq(log.n_states, 1);
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "1", (size_t)-1, NULL), RTB_E_DETACHED);
	fake_listen(&f);
	fake_attach(&f, c);
	ck_assert_int_eq(log.last_why, 0);
	ck_assert_int_eq(rtb_client_fd(c), fd);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(comes_back_after_a_restart)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	fake_attach(&f, c);
	for (int i = 0; i < 3; i++) {
		fake_close(&f);
		UNTIL(c, log.last_why == -ENOENT);
		ck_assert_int_eq(log.whys[log.n_states - 2], RTB_E_DETACHED);
		fake_listen(&f);
		fake_attach(&f, c);
		ck_assert_int_eq(log.last_state, RTB_ATTACHED);
		ck_assert_int_eq(log.n_connections, i + 2);
	}
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

/* Each ends the connection; the first two for good. */
static const struct {
	enum rtbp_error code;
	bool is_final, is_answer;
} ends[] = {
	{ RTBP_E_VERSION, true, true },         { RTBP_E_DENIED, true, true },
	{ RTBP_E_VERSION, true, false },        { RTBP_E_DENIED, true, false },
	{ RTBP_E_SLOW_CONSUMER, false, false }, { RTBP_E_SHUTDOWN, false, false },
	{ RTBP_E_FULL, false, false },          { RTBP_E_FULL, false, true },
	{ RTBP_E_HELLO_TIMEOUT, false, false }, { RTBP_E_PROTOCOL, false, false },
};

START_TEST(the_daemon_ends_it)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	fake_accept(&f, c);
	fake_expect(&f, c, RTBP_M_HELLO);
	if (ends[_i].is_answer)
		rtbp_msg_put_error(&f.out, 0, ends[_i].code, "because of this", -1);
	else
		say_end(&f, ends[_i].code, "because of this");
	fake_flush(&f, c);
	UNTIL(c, log.n_states == 1);
	ck_assert_ptr_nonnull(strstr(log.text, "because of this"));
	ck_assert_ptr_nonnull(strstr(log.text, rtbp_error_name((int)ends[_i].code)));
	ck_assert_int_eq(log.last_state, ends[_i].is_final ? RTB_FAILED : RTB_ATTACHING);
	ck_assert_int_eq(log.last_why, ends[_i].is_final ? RTB_E_FAILED : RTB_E_DETACHED);
	ck_assert_int_eq(log.n_errors, 0);
	if (ends[_i].is_final) {
		struct rtb_sub *sub;

		ck_assert_int_eq(rtb_client_process(c), RTB_E_FAILED);
		ck_assert_int_eq(rtb_wait(c, 0), RTB_E_FAILED);
		ck_assert_int_eq(rtb_subscribe(c, "t", NULL, &sub), RTB_E_FAILED);
		ck_assert_int_eq(rtb_status(c, NULL, NULL), RTB_E_FAILED);
		ck_assert_int_eq(rtb_client_timeout_ms(c), -1);
		ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "because of this"));
	} else {
		fake_hang_up(&f);
		fake_attach(&f, c);
	}
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(last_words_are_read_although_writing_fails)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	fake_attach(&f, c);
	say_end(&f, RTBP_E_SHUTDOWN, "going down");
	fake_flush(&f, c);
	/* Not processed since: the reason is in the socket when the daemon is gone. */
	fake_hang_up(&f);
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	UNTIL(c, log.last_state == RTB_ATTACHING);
	ck_assert_ptr_nonnull(strstr(log.text, "going down"));
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(once_means_once)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_init(&f);
	c = client_with_log(&f, &log, true);
	UNTIL(c, log.n_states == 1);
	ck_assert_int_eq(log.last_state, RTB_FAILED);
	ck_assert_int_eq(log.last_why, -ENOENT);
	ck_assert_int_eq(rtb_client_process(c), RTB_E_FAILED);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

/* Bodies that are no message of the daemon, as hex. */
static const char *const bad_frames[] = {
	"00000000",                                /* empty */
	"00000001c1",                              /* never used byte */
	"00000002 91 00",                          /* too short an array */
	"00000004 93 02 a1 78",                    /* cut */
	"00000006 94 01 05 c0 c0 00",              /* trailing */
	"00000009 94 00 01 a4 73796e63 80",        /* a request */
	"00000004 93 09 a0 80",                    /* unknown type */
	"ffffffff",                                /* absurd length */
	"01000001",                                /* one byte over the limit */
	"0000000d 93 02 a9 62726f616463617374 80", /* broadcast without anything */
	"00000009 93 02 a5 6572726f72 80",         /* error without one */
	"00000005 94 01 07 90 c0",                 /* an answer whose error is none */
	"00000006 94 01 a1 78 c0 c0",              /* id no integer */
};

static void say_hex(struct fake *f, const char *hex)
{
	unsigned byte;

	for (; *hex; hex += 2) {
		while (*hex == ' ')
			hex++;
		ck_assert_int_eq(sscanf(hex, "%2x", &byte), 1);
		rtbp_buf_byte(&f->out, (uint8_t)byte);
	}
}

START_TEST(bad_frames_lead_to_a_new_attachment)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	fake_attach(&f, c);
	say_hex(&f, bad_frames[_i]);
	fake_flush(&f, c);
	UNTIL(c, log.last_state == RTB_ATTACHING);
	ck_assert_int_eq(log.last_why, RTB_E_PROTOCOL);
	ck_assert_str_ne(log.text, "");
	fake_hang_up(&f);
	fake_attach(&f, c);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(unknown_things_are_ignored)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	fake_attach(&f, c);
	say_hex(&f, "00000008 93 02 a4 6e657773 80"); /* notice "news" */
	say_hex(&f, "00000005 94 01 63 c0 80");       /* answer to nothing */
	say_broadcast(&f, 99, "e", "1");              /* unknown chan */
	say_channel(&f, 99, "ready", "", "");
	say_notice(&f, RTBP_N_CONNECTION,
		   "{\"state\":\"backoff\",\"since\":5,\"reason\":\"r\",\"text\":\"t\","
		   "\"next_try_ms\":100,\"later\":[1,2]}");
	fake_flush(&f, c);
	UNTIL(c, log.n_connections == 2);
	ck_assert_str_eq(log.connection, "backoff r t 5 100");
	ck_assert_int_eq(log.n_states, 1);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(errors_of_no_request)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	fake_start(&f);
	c = client_with_log(&f, &log, false);
	fake_attach(&f, c);
	say_end(&f, RTBP_E_BAD_TOPIC, "no");
	fake_flush(&f, c);
	UNTIL(c, log.n_errors == 1);
	ck_assert_str_eq(log.error, "201 bad_topic no");
	ck_assert_int_eq(rtb_client_state(c), RTB_ATTACHED);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

START_TEST(a_full_backlog_is_no_failure)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct rtb_client *c;
	int fds[64], n = 0, fd;
	struct fake f;
	struct log log;

	fake_start(&f);
	ck_assert_int_eq(listen(f.listen_fd, 0), 0);
	strcpy(addr.sun_path, f.path);
	for (; n < 64; n++) {
		fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(fds[n], (struct sockaddr *)&addr, sizeof(addr)) < 0)
			break;
	}
	ck_assert_int_lt(n, 64);
	ck_assert_int_eq(errno, EAGAIN);
	c = client_with_log(&f, &log, true); /* not even with `once` */
	UNTIL(c, strstr(rtb_client_error_text(c), "too many"));
	ck_assert_int_eq(rtb_client_state(c), RTB_ATTACHING);
	ck_assert_int_eq(log.n_states, 0);
	for (int i = 0; i < n; i++) {
		fd = accept(f.listen_fd, NULL, NULL);
		ck_assert_int_ge(fd, 0);
		(void)close(fd);
	}
	fake_attach(&f, c);
	for (int i = 0; i <= n; i++)
		(void)close(fds[i]);
	rtb_client_free(c);
	fake_stop(&f);
}
END_TEST

/* A listener of user `nobody`, in a directory that belongs to `owner`. */
static pid_t listen_as_nobody(struct fake *f, uid_t owner, int *ret_ready)
{
	char dir[80];
	int ends_fd[2];
	pid_t pid;
	char byte;

	fake_init(f);
	(void)snprintf(dir, sizeof(dir), "%s/d", f->dir);
	ck_assert_int_eq(mkdir(dir, 0755), 0);
	ck_assert_int_eq(chmod(dir, owner ? 0755 : 0777), 0);
	ck_assert_int_eq(chown(dir, owner, (gid_t)-1), 0);
	ck_assert_int_eq(chmod(f->dir, 0755), 0);
	(void)snprintf(f->path, sizeof(f->path), "%s/d/s", f->dir);
	ck_assert_int_eq(pipe(ends_fd), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(1);
		fake_listen(f);
		(void)!write(ends_fd[1], "x", 1);
		pause();
		_exit(0);
	}
	(void)close(ends_fd[1]);
	ck_assert_int_eq(read(ends_fd[0], &byte, 1), 1);
	*ret_ready = ends_fd[0];
	return pid;
}

START_TEST(only_a_trusted_daemon)
{
	bool is_owner = _i == 1;
	struct rtb_client *c;
	char dir[80];
	struct fake f;
	struct log log;
	int ready;
	pid_t pid;

	if (geteuid() != 0)
		return; /* takes another user */
	pid = listen_as_nobody(&f, is_owner ? 65534 : 0, &ready);
	c = client_with_log(&f, &log, false);
	if (is_owner) {
		for (int i = 0; i < 3; i++)
			(void)rtb_wait(c, 20);
		ck_assert_int_eq(log.n_states, 0); /* connected, waits for hello */
		ck_assert_int_gt(rtb_client_timeout_ms(c), 5000);
	} else {
		UNTIL(c, log.n_states == 1);
		ck_assert_int_eq(log.last_why, RTB_E_NOT_DAEMON);
		ck_assert_ptr_nonnull(strstr(log.text, "65534"));
	}
	rtb_client_free(c);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	(void)close(ready);
	(void)unlink(f.path);
	(void)snprintf(dir, sizeof(dir), "%s/d", f.dir);
	ck_assert_int_eq(rmdir(dir), 0);
	fake_stop(&f);
}
END_TEST

START_TEST(options_are_checked)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c = NULL;
	char path[200], buf[128];

	o.size = 3;
	ck_assert_int_eq(rtb_client_new(&o, &c), -EINVAL);
	o = (struct rtb_options)RTB_OPTIONS_INIT;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	o.socket_path = path;
	ck_assert_int_eq(rtb_client_new(&o, &c), -ENAMETOOLONG);
	o.socket_path = "";
	ck_assert_int_eq(rtb_client_new(&o, &c), -EINVAL);
	ck_assert_ptr_null(c);
	ck_assert_ptr_null(rtb_client_free(NULL));

	setenv("RTBRIDGE_SOCKET", "/x/y", 1);
	ck_assert_int_eq(rtb_default_socket(buf, sizeof(buf)), 4);
	ck_assert_str_eq(buf, "/x/y");
	ck_assert_int_eq(rtb_default_socket(buf, 4), -ENAMETOOLONG);
	unsetenv("RTBRIDGE_SOCKET");
	setenv("XDG_RUNTIME_DIR", "/nowhere", 1);
	ck_assert_int_gt(rtb_default_socket(buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "/run/rtbridge/rtbridge.sock");
	ck_assert_str_eq(rtb_strerror(RTB_E_BUSY), "the client's send queue is full");
	ck_assert_str_eq(rtb_strerror(-ENOENT), "No such file or directory");
	ck_assert_str_ne(rtb_strerror(-99999), "");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client");
	TCase *t = tcase_create("attach");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, hello_says_who_we_are);
	tcase_add_test(t, without_a_daemon_it_waits);
	tcase_add_test(t, comes_back_after_a_restart);
	tcase_add_loop_test(t, the_daemon_ends_it, 0, sizeof(ends) / sizeof(*ends));
	tcase_add_test(t, last_words_are_read_although_writing_fails);
	tcase_add_test(t, once_means_once);
	tcase_add_loop_test(t, bad_frames_lead_to_a_new_attachment, 0,
			    sizeof(bad_frames) / sizeof(*bad_frames));
	tcase_add_test(t, unknown_things_are_ignored);
	tcase_add_test(t, errors_of_no_request);
	tcase_add_test(t, a_full_backlog_is_no_failure);
	tcase_add_loop_test(t, only_a_trusted_daemon, 0, 2);
	tcase_add_test(t, options_are_checked);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
