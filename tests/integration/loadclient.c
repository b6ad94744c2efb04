/* SPDX-License-Identifier: MIT */
/*
 * A program on librtbridge for the restart stories: subscribes to TOPIC, sends RATE numbered
 * messages a second for DURATION seconds, and writes what it sees as lines on stdout:
 *
 *     state STATE MS            its attachment ("attached", "attaching")
 *     connection STATE MS       the daemon's connection
 *     channel STATE MS          its subscription
 *     sent N MS | refused N ERROR  its own sends
 *     outcome N WORD            each exactly once
 *     got SENDER N              what arrived
 *     end
 *
 * MS is CLOCK_MONOTONIC in milliseconds, the same for all processes of the machine. After the last
 * outcome it goes on receiving until standard input ends.
 */
#include <poll.h>
#include <rtbridge/rtbridge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct load {
	struct rtb_client *client;
	const char *topic, *name;
	unsigned rate, duration_s;
	long n_sent, n_open;
	long long start_ms;
};

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	static const char *const names[] = { "attaching", "attached", "failed" };

	(void)c;
	(void)why;
	(void)user;
	printf("state %s %lld\n", names[state], now_ms());
}

static void on_connection(struct rtb_client *c, const struct rtb_connection *conn, void *user)
{
	(void)c;
	(void)user;
	printf("connection %s %lld\n", conn->state, now_ms());
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	static const char *const names[] = { "joining",   "joined",   "ready",
					     "rejoining", "rejected", "closed" };

	(void)sub;
	(void)user;
	printf("channel %s %lld\n", names[ch->state], now_ms());
}

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	char *json = NULL, sender[64] = "?";
	size_t size;
	long n = -1;

	(void)sub;
	(void)user;
	if (rtb_msgpack_to_json(msg->payload, msg->payload_size, &json, &size, NULL, 0) == 0) {
		const char *s = strstr(json, "\"s\":\""), *k = strstr(json, "\"n\":");

		if (s)
			sscanf(s + 5, "%63[^\"]", sender);
		if (k)
			n = strtol(k + 4, NULL, 10);
	}
	rtb_free(json);
	printf("got %s %ld\n", sender, n);
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	(void)c;
	(void)id;
	printf("outcome %ld %s\n", (long)(intptr_t)user, rtb_outcome_name(result->outcome));
}

static void send_one(struct load *l)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	long n = l->n_sent++;
	char json[128];
	int64_t r;

	o.result = on_result;
	o.user = (void *)(intptr_t)n;
	snprintf(json, sizeof(json), "{\"s\":\"%s\",\"n\":%ld}", l->name, n);
	r = rtb_broadcast_json(l->client, l->topic, "n", json, (size_t)-1, &o);
	if (r > 0)
		printf("sent %ld %lld\n", n, now_ms());
	else
		printf("refused %ld %d\n", n, (int)r);
}

static void run(struct load *l)
{
	struct pollfd fds[2] = { { .fd = rtb_client_fd(l->client) },
				 { .fd = 0, .events = POLLIN } };
	long total = (long)l->rate * l->duration_s, due;
	int timeout, own;
	char byte;

	for (;;) {
		due = (long)((now_ms() - l->start_ms) * l->rate / 1000);
		while (l->n_sent < total && l->n_sent <= due)
			send_one(l);
		if (l->n_sent == total && total >= 0) {
			printf("end\n");
			total = -1;
		}
		fflush(stdout);
		timeout = rtb_client_timeout_ms(l->client);
		own = l->n_sent < total ? 5 : 1000;
		fds[0].events = rtb_client_events(l->client);
		if (poll(fds, 2, timeout < 0 || timeout > own ? own : timeout) < 0)
			return;
		if (rtb_client_process(l->client) < 0)
			return;
		if (fds[1].revents && fread(&byte, 1, 1, stdin) == 0)
			return;
	}
}

int main(int argc, char **argv)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_sub_options so = RTB_SUB_OPTIONS_INIT;
	struct load l = { 0 };
	struct rtb_sub *sub;

	if (argc != 6) {
		fprintf(stderr, "usage: loadclient SOCKET TOPIC NAME RATE SECONDS\n");
		return 2;
	}
	o.socket_path = argv[1];
	o.name = l.name = argv[3];
	o.handlers.state = on_state;
	o.handlers.connection = on_connection;
	so.handlers.broadcast = on_broadcast;
	so.handlers.channel = on_channel;
	l.topic = argv[2];
	l.rate = (unsigned)atoi(argv[4]);
	l.duration_s = (unsigned)atoi(argv[5]);
	if (rtb_client_new(&o, &l.client) < 0 || rtb_subscribe(l.client, l.topic, &so, &sub) < 0 ||
	    rtb_wait_ready(sub, 60000) < 0) {
		fprintf(stderr, "loadclient: %s\n",
			l.client ? rtb_client_error_text(l.client) : "no client");
		return 1;
	}
	l.start_ms = now_ms();
	run(&l);
	rtb_client_free(l.client);
	return 0;
}
