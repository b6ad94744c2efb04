/* SPDX-License-Identifier: MIT */
/*
 * fanout MEDIUM READERS MILLISECONDS [PATH-OR-DAEMON]: deliveries per second through one medium, as
 * one number on stdout.
 *
 *     raw-batch, raw-each     a C program that only writes the bytes, 32 messages at once or one by
 * one redis PATH              redis pub/sub on its Unix socket rtbridge DAEMON         WebSocket
 * messages from a flooding server through rtbridged
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

_Noreturn void bench_die(const char *what)
{
	fprintf(stderr, "fanout: %s (%s)\n", what, strerror(errno));
	exit(1);
}

const char *bench_payload(void)
{
	static char text[BENCH_PAYLOAD_BYTES + 1];

	if (!text[0]) {
		int n = snprintf(text, sizeof(text),
				 "{\"n\":1234567,\"user\":\"worker-17\",\"text\":\"");

		memset(text + n, 'x', sizeof(text) - 1 - (size_t)n);
		memcpy(text + BENCH_PAYLOAD_BYTES - 2, "\"}", 2);
	}
	return text;
}

unsigned bench_room(struct bench_shared *s, uint64_t sent, unsigned want)
{
	uint64_t ahead;

	while (!atomic_load(&s->stop)) {
		ahead = sent - atomic_load(&s->consumed);
		if (ahead + want <= BENCH_WINDOW)
			return want;
		sched_yield();
	}
	return 0;
}

void bench_write_all(int fd, const void *data, size_t size)
{
	const char *p = data;
	ssize_t n;

	while (size > 0) {
		n = send(fd, p, size, MSG_NOSIGNAL);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			exit(0); /* the readers have gone: the measurement is over */
		if (n < 0 && errno != EINTR)
			bench_die("write");
		if (n > 0) {
			p += n;
			size -= (size_t)n;
		}
	}
}

void bench_read_all(int fd, void *data, size_t size)
{
	char *p = data;
	ssize_t n;

	while (size > 0) {
		n = read(fd, p, size);
		if (n == 0)
			exit(0);
		if (n < 0 && errno != EINTR)
			bench_die("read");
		if (n > 0) {
			p += n;
			size -= (size_t)n;
		}
	}
}

int bench_connect_unix(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timespec pause = { .tv_nsec = 10000000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	for (int i = 0; fd >= 0 && i < 1000; i++) {
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		nanosleep(&pause, NULL); /* the medium is starting */
	}
	bench_die(path);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- readers: all in one process, as many workers on one machine would be on few cores ---- */

struct readers {
	unsigned n;
	int fds[BENCH_MAX_READERS];
	uint64_t bytes[BENCH_MAX_READERS];
	size_t message_bytes;
};

static uint64_t slowest(const struct readers *r)
{
	uint64_t min = r->bytes[0];

	for (unsigned i = 1; i < r->n; i++) {
		if (r->bytes[i] < min)
			min = r->bytes[i];
	}
	return min / r->message_bytes;
}

/* Return: deliveries per second after a warm-up of a tenth of the time. */
static double consume(struct bench_shared *s, struct readers *r, double seconds)
{
	static char sink[256 * 1024];
	struct epoll_event events[64], e = { .events = EPOLLIN };
	double start = now_s(), from = 0, to = start + seconds;
	uint64_t at_from = 0, total = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC), n;
	ssize_t got;

	for (unsigned i = 0; i < r->n; i++) {
		e.data.u32 = i;
		epoll_ctl(ep, EPOLL_CTL_ADD, r->fds[i], &e);
	}
	while (now_s() < to) {
		n = epoll_wait(ep, events, 64, 100);
		for (int i = 0; i < n; i++) {
			got = recv(r->fds[events[i].data.u32], sink, sizeof(sink), MSG_DONTWAIT);
			if (got <= 0)
				bench_die("a reader was cut off");
			r->bytes[events[i].data.u32] += (uint64_t)got;
			total += (uint64_t)got;
		}
		atomic_store(&s->consumed, slowest(r));
		if (from == 0 && now_s() > start + seconds / 10) {
			from = now_s();
			at_from = total;
		}
	}
	to = now_s();
	close(ep);
	return (double)(total - at_from) / (double)r->message_bytes / (to - from);
}

/* ---- media ---- */

static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid < 0)
		bench_die("fork");
	return pid;
}

static pid_t start_raw(struct bench_shared *s, struct readers *r, unsigned batch)
{
	int writers[BENCH_MAX_READERS], pair[2];
	pid_t pid;

	for (unsigned i = 0; i < r->n; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			bench_die("socketpair");
		r->fds[i] = pair[0];
		writers[i] = pair[1];
	}
	r->message_bytes = BENCH_PAYLOAD_BYTES;
	pid = fork_child();
	if (pid == 0) {
		feed_raw(s, writers, r->n, batch);
		_exit(0);
	}
	for (unsigned i = 0; i < r->n; i++)
		close(writers[i]);
	return pid;
}

static pid_t start_redis(struct bench_shared *s, struct readers *r, const char *path)
{
	pid_t pid;

	for (unsigned i = 0; i < r->n; i++)
		r->fds[i] = attach_redis(path);
	r->message_bytes =
		strlen("*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$300\r\n\r\n") + BENCH_PAYLOAD_BYTES;
	pid = fork_child();
	if (pid == 0) {
		feed_redis(s, path);
		_exit(0);
	}
	return pid;
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0 || chmod(path, 0600) < 0)
		bench_die(path);
}

static pid_t start_daemon(const char *binary, const char *dir, unsigned port)
{
	char text[512], config[256];
	pid_t pid;

	write_file(dir, "key", "bench-key\n");
	snprintf(text, sizeof(text),
		 "[upstream]\nurl = ws://127.0.0.1:%u/socket\napikey_file = %s/key\n[socket]\npath "
		 "= %s/sock\n"
		 "[log]\nlevel = error\n",
		 port, dir, dir);
	write_file(dir, "conf", text);
	snprintf(config, sizeof(config), "%s/conf", dir);
	pid = fork_child();
	if (pid == 0) {
		execl(binary, binary, "--config", config, (char *)NULL);
		bench_die(binary);
	}
	return pid;
}

/* The size of one delivery: read off the first one, before anything is counted. */
static size_t first_size(int fd)
{
	uint32_t length;

	while (recv(fd, &length, sizeof(length), MSG_PEEK) < (ssize_t)sizeof(length))
		;
	return ntohl(length) + sizeof(length);
}

static pid_t start_rtbridge(struct bench_shared *s, struct readers *r, const char *binary,
			    pid_t *ret_daemon, const char *dir)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(a);
	char path[256];
	pid_t pid;

	if (bind(listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listen_fd, 8) < 0 ||
	    getsockname(listen_fd, (struct sockaddr *)&a, &size) < 0)
		bench_die("listen");
	pid = fork_child();
	if (pid == 0) {
		feed_upstream(s, listen_fd);
		_exit(0);
	}
	close(listen_fd);
	*ret_daemon = start_daemon(binary, dir, ntohs(a.sin_port));
	snprintf(path, sizeof(path), "%s/sock", dir);
	/* The feeder starts with the first join: it must wait until all readers are there. */
	for (unsigned i = 0; i < r->n; i++)
		r->fds[i] = attach_rtbridge(path);
	atomic_store(&s->consumed, 0);
	atomic_store(&s->readers_ready, 1);
	r->message_bytes = first_size(r->fds[r->n - 1]);
	return pid;
}

static void stop_child(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	static struct readers r;
	struct bench_shared *s;
	char dir[] = "/tmp/rtbridge-bench.XXXXXX", command[64];
	pid_t feeder, daemon = 0;
	double rate;

	if (argc < 4) {
		fprintf(stderr, "usage: fanout raw-batch|raw-each|redis|rtbridge READERS MS "
				"[PATH-OR-DAEMON]\n");
		return 2;
	}
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r.n = (unsigned)atoi(argv[2]);
	if (s == MAP_FAILED || r.n < 1 || r.n > BENCH_MAX_READERS || !mkdtemp(dir))
		bench_die("setup");
	if (strcmp(argv[1], "raw-batch") == 0)
		feeder = start_raw(s, &r, BENCH_BATCH);
	else if (strcmp(argv[1], "raw-each") == 0)
		feeder = start_raw(s, &r, 1);
	else if (strcmp(argv[1], "redis") == 0 && argc > 4)
		feeder = start_redis(s, &r, argv[4]);
	else if (strcmp(argv[1], "rtbridge") == 0 && argc > 4)
		feeder = start_rtbridge(s, &r, argv[4], &daemon, dir);
	else
		bench_die("no such medium");
	rate = consume(s, &r, atoi(argv[3]) / 1000.0);
	atomic_store(&s->stop, 1);
	for (unsigned i = 0; i < r.n; i++)
		close(r.fds[i]);
	stop_child(daemon);
	stop_child(feeder);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		return 1;
	printf("%.0f\n", rate);
	return 0;
}
