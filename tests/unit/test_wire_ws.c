/* SPDX-License-Identifier: MIT */
/* wire against an independent WebSocket implementation (the npm package ws). */
#include "wire_util.h"

static struct server server;

static void start_server(void)
{
	const char *const argv[] = { RTB_NODE, RTB_WIRE_TESTS "/echo_server.js", RTB_NODE_MODULES,
				     NULL };

	server_start(&server, argv);
}

static void stop_server(void)
{
	server_stop(&server);
}

struct load {
	unsigned n_sent, n_messages;
	uint32_t random;
	uint64_t hash; /* as struct rec's, of what was sent */
	uint8_t *bytes;
};

enum { BIGGEST = 1 << 20, WINDOW = 8 };

static uint32_t next_random(struct load *l)
{
	l->random = l->random * 1664525 + 1013904223;
	return l->random >> 8;
}

/* Empty, small, at the borders of the length encodings and the buffers, large. */
static size_t next_size(struct load *l)
{
	static const size_t sizes[] = { 0,     1,     125,   126,   127,    65535,  65536,
					65537, 70000, 65519, 65520, 131072, BIGGEST };
	uint32_t r = next_random(l);

	if (l->n_sent < sizeof(sizes) / sizeof(*sizes))
		return sizes[l->n_sent];
	return r % 4 == 0 ? r % 200000 : r % 1500;
}

static void send_next(struct rig *rig, struct load *l)
{
	size_t size = next_size(l);
	bool binary = next_random(l) & 1;

	for (size_t i = 0; i < size; i++)
		l->bytes[i] = (uint8_t)(binary ? next_random(l) : 'a' + next_random(l) % 26);
	ck_assert_int_eq(wire_send(rig->w, 0, rig->recs[0].epoch, binary, l->bytes, size), 0);
	l->hash = hash_message(l->hash, binary, l->bytes, size);
	l->n_sent++;
}

static void keep_sending(struct rig *rig, unsigned link)
{
	struct load *l = rig->user;

	while (l->n_sent < l->n_messages && l->n_sent < rig->recs[link].n_messages + WINDOW)
		send_next(rig, l);
}

static void exchange(const char *path, unsigned n_messages, size_t up_bytes)
{
	struct load load = { .n_messages = n_messages, .random = 4711 };
	struct wire_stats stats;
	struct rig rig;

	load.bytes = malloc(BIGGEST);
	rig_init(&rig);
	rig.conf.up_bytes = up_bytes;
	rig.user = &load;
	rig_start(&rig);
	rig_open(&rig, 0, false, "127.0.0.1", server_port(&server, "plain"), path);
	load.hash = rig.recs[0].hash;
	rig.on_opened = rig.on_message = keep_sending;
	rig_until(&rig, rig.recs[0].n_messages == n_messages || rig.recs[0].n_closed);
	ck_assert_msg(rig.recs[0].n_closed == 0, "%s", rig.recs[0].end.text);
	ck_assert_uint_eq(rig.recs[0].hash, load.hash);
	wire_get_stats(rig.w, &stats);
	ck_assert_uint_eq(stats.messages_in, n_messages);
	ck_assert_uint_eq(stats.messages_out, n_messages);
	ck_assert_uint_eq(stats.bytes_in, rig.recs[0].n_bytes);
	ck_assert_uint_eq(stats.bytes_out, rig.recs[0].n_bytes);
	ck_assert_uint_eq(stats.down_queued, 0);
	wire_close(rig.w, 0, rig.recs[0].epoch, 1000);
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	rig_stop(&rig);
	free(load.bytes);
}

START_TEST(test_echo)
{
	exchange("/echo", 300, 16 << 20);
}
END_TEST

START_TEST(test_pieces_and_pings)
{
	exchange("/pieces", 300, 16 << 20);
}
END_TEST

/* Reading pauses and resumes all the time. */
START_TEST(test_small_mailbox)
{
	exchange("/pieces", 300, 20000);
}
END_TEST

START_TEST(test_killed_server)
{
	struct server mine;
	const char *const argv[] = { RTB_NODE, RTB_WIRE_TESTS "/echo_server.js", RTB_NODE_MODULES,
				     NULL };
	struct rig rig;

	server_start(&mine, argv);
	rig_init(&rig);
	rig_start(&rig);
	for (unsigned i = 0; i < 4; i++)
		rig_open(&rig, i, false, "127.0.0.1", server_port(&mine, "plain"), "/echo");
	for (unsigned i = 0; i < 4; i++)
		rig_until(&rig, rig.recs[i].n_opened == 1);
	kill(mine.pid, SIGKILL);
	server_stop(&mine);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(rig_until_closed(&rig, i)->why, WIRE_LOST);
	rig_open(&rig, 0, false, "127.0.0.1", server_port(&mine, "plain"), "/echo");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_CONNECT);
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_ws");
	TCase *t = tcase_create("npm ws");

	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_echo);
	tcase_add_test(t, test_pieces_and_pings);
	tcase_add_test(t, test_small_mailbox);
	tcase_add_test(t, test_killed_server);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
