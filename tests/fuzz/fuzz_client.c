/* SPDX-License-Identifier: MIT */
/*
 * What a daemon may say to librtbridge, and what a program does meanwhile. The input is lines:
 *
 *     [2,"channel",{...}]   a message of the daemon, as JSON
 *     wA, wAt               watch table A, without a topic or in "t"
 *     u3                    end the fourth watch
 *     s3, x                 subscribe to "t" with presence, end that
 *     rA                    subscribe to "t", private, with the stored messages since A
 *     p, pA, PA             send, as A; binary
 *     oA                    ask what became of A
 *     T, U                  it is time to ask for lost answers; to give them up
 *     kA, kAt, Kt           set token A for all topics or for "t", clear it
 *     aLINE                 one of these in the next callback
 *     d                     the daemon hangs up, the next one answers hello
 *     D                     the same, but it is an older one
 *     b                     the same, but it refuses the token
 *
 * Whatever comes: no callback of what has ended, all strings end, what is sent is a message, the
 * bindings asked for add up, and each send has one outcome.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

enum { N_HANDLES = 16, LINE_MAX_BYTES = 16384 };

static struct {
	struct rtb_client *c;
	int fd; /* the daemon's end */
	struct rtb_watch *watches[N_HANDLES];
	struct rtb_sub *subs[N_HANDLES];
	const char *armed; /* what the next callback does */
	size_t armed_size;
	struct rtbp_reader reader;
	size_t touched;
	long n_sends; /* without an outcome */
} world;

static void act(const char *line, size_t size);

static void use(const char *text)
{
	world.touched += strlen(text);
}

static void in_callback(void)
{
	const char *line = world.armed;

	world.armed = NULL;
	if (line)
		act(line, world.armed_size);
}

/* ---- callbacks ---- */

/* `user` is the place of the handle, which is empty once that has ended. */
static void on_change(struct rtb_watch *w, const struct rtb_change *ch, void *user)
{
	struct rtb_watch **at = user;
	const char *s;
	char *text;
	int64_t i;
	double d;
	size_t n;

	FUZZ_CHECK(*at == w);
	use(ch->type);
	use(ch->schema);
	use(ch->table);
	use(ch->commit_timestamp);
	for (const char *const *e = ch->errors; e && *e; e++)
		use(*e);
	for (int row = RTB_NEW; row <= RTB_OLD; row++) {
		(void)!rtb_change_int(ch, (enum rtb_row)row, "id", &i);
		(void)!rtb_change_double(ch, (enum rtb_row)row, "id", &d);
		if (rtb_change_str(ch, (enum rtb_row)row, "id", &s, &n) == 0 && n > 0)
			world.touched += (size_t)(s[0] + s[n - 1]);
		if (rtb_change_text(ch, (enum rtb_row)row, "id", &text) == 0) {
			use(text);
			rtb_free(text);
		}
	}
	in_callback();
}

static void on_state(struct rtb_watch *w, const struct rtb_watch_status *status, void *user)
{
	struct rtb_watch **at = user;

	FUZZ_CHECK(*at == w && status->state == rtb_watch_state(w));
	in_callback();
	use(status->code);
	use(status->text);
}

static void on_gap(struct rtb_watch *w, const struct rtb_gap *gap, void *user)
{
	struct rtb_watch **at = user;

	FUZZ_CHECK(*at == w);
	in_callback();
	use(gap->cause);
	use(gap->topic);
}

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	struct rtb_sub **at = user;

	FUZZ_CHECK(*at == sub && msg->payload_size > 0);
	in_callback();
	use(msg->event);
	use(msg->topic);
	use(msg->id);
}

static void on_replay(struct rtb_sub *sub, const struct rtb_replay *replay, void *user)
{
	struct rtb_sub **at = user;

	FUZZ_CHECK(*at == sub);
	use(replay->text);
	use(replay->topic);
	in_callback();
}

static void on_system(struct rtb_sub *sub, const struct rtb_system *notice, void *user)
{
	struct rtb_sub **at = user;

	FUZZ_CHECK(*at == sub);
	use(notice->extension);
	use(notice->status);
	use(notice->text);
	in_callback();
}

static void use_result(const struct rtb_result *result)
{
	use(result->text);
	use(result->code);
	use(result->word);
	use(result->id);
	FUZZ_CHECK(strlen(result->id) < RTBC_NAME_SIZE);
	FUZZ_CHECK((unsigned)result->via <= RTB_VIA_HTTP);
	FUZZ_CHECK((unsigned)result->outcome <= RTB_OTHER);
	FUZZ_CHECK(result->retry_after_ms >= -1);
	in_callback();
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	(void)user;
	FUZZ_CHECK(c == world.c && id > 0 && result->outcome != RTB_PENDING);
	world.n_sends--;
	use_result(result);
}

static void on_outcome(struct rtb_client *c, int64_t id, const struct rtb_result *result,
		       void *user)
{
	(void)user;
	FUZZ_CHECK(c == world.c && id > 0 && *result->id);
	use_result(result);
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	struct rtb_sub **at = user;

	FUZZ_CHECK(*at == sub);
	use(ch->code);
	use(ch->text);
	in_callback();
}

static void on_presence(struct rtb_sub *sub, const struct rtb_presence *p, void *user)
{
	const struct rtb_presence_entry *e = NULL;
	struct rtb_sub **at = user;
	size_t n = 0;

	FUZZ_CHECK(*at == sub && (p->event == RTB_PRESENCE_SYNC) == !p->entry);
	while ((e = rtb_presence_next(sub, e))) {
		use(e->key);
		use(e->ref);
		n++;
	}
	FUZZ_CHECK(n == rtb_presence_count(sub));
	in_callback();
}

static void on_sub_gap(struct rtb_sub *sub, const struct rtb_gap *gap, void *user)
{
	struct rtb_sub **at = user;

	FUZZ_CHECK(*at == sub);
	use(gap->cause);
	in_callback();
}

static void on_token(struct rtb_client *c, const char *topic, const struct rtb_token_result *result,
		     void *user)
{
	(void)user;
	FUZZ_CHECK(c == world.c && result->error <= 0);
	use(topic ? topic : "");
	use(result->text);
	in_callback();
}

static void on_token_end(struct rtb_client *c, const struct rtb_token_event *event, void *user)
{
	(void)c;
	(void)user;
	use(event->topic ? event->topic : "");
	use(event->code);
	use(event->text);
	in_callback();
}

/* ---- what the program does ---- */

static void watch(const char *line, size_t size)
{
	struct rtb_watch_options o = RTB_WATCH_OPTIONS_INIT;
	char table[] = { size > 1 ? line[1] : 'a', '\0' };
	size_t i = 0;
	int r;

	while (i < N_HANDLES && world.watches[i])
		i++;
	if (i == N_HANDLES)
		return;
	o.schema = "public";
	o.table = table;
	o.topic = size > 2 && line[2] == 't' ? "t" : NULL;
	o.change = on_change;
	o.state = on_state;
	o.gap = on_gap;
	o.user = &world.watches[i];
	r = rtb_watch(world.c, &o, &world.watches[i]);
	FUZZ_CHECK(r == 0 || r == RTB_E_BINDING || r == RTB_E_FAILED);
}

/* @since: of stored messages, and private; 0: neither */
static void subscribe(unsigned char since)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	size_t i = 0;
	int r;

	while (i < N_HANDLES && world.subs[i])
		i++;
	if (i == N_HANDLES)
		return;
	o.presence = !since;
	o.is_private = o.replay = since;
	o.replay_since_ms = since;
	o.handlers.replay = on_replay;
	o.handlers.system = on_system;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.handlers.presence = on_presence;
	o.handlers.gap = on_sub_gap;
	o.user = &world.subs[i];
	r = rtb_subscribe(world.c, "t", &o, &world.subs[i]);
	FUZZ_CHECK(r == 0 || r == RTB_E_FAILED);
}

static void set_token(const char *line, size_t size)
{
	char token[] = { 'e', size > 1 ? line[1] : 'a', '\0' };
	const char *topic = size > 1 && line[size - 1] == 't' ? "t" : NULL;
	int r = rtb_set_token(world.c, topic, line[0] == 'k' ? token : NULL, on_token, NULL);

	FUZZ_CHECK(r == 0 || r == RTB_E_TOKEN || r == RTB_E_FAILED);
}

static void broadcast(const char *line, size_t size)
{
	char id[] = { size > 1 ? line[1] : '\0', '\0' };
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	int64_t r;

	o.result = on_result;
	o.form = line[0] == 'P' ? RTB_BINARY : RTB_JSON;
	o.id = size > 1 ? id : NULL;
	world.n_sends++; /* no callback comes before it has returned */
	r = rtb_broadcast(world.c, "t", "e", "1", 1, &o);
	if (r < 0)
		world.n_sends--;
	FUZZ_CHECK(r > 0 || r == -EINVAL || r == RTB_E_BUSY || r == RTB_E_DETACHED ||
		   r == RTB_E_TOKEN || r == RTB_E_FAILED || r == RTB_E_TOO_BIG);
}

static void ask(const char *line, size_t size)
{
	char id[] = { size > 1 ? line[1] : '\0', '\0' };
	int64_t r = rtb_outcome(world.c, id, on_outcome, NULL);

	FUZZ_CHECK(r > 0 || r == -EINVAL || r == RTB_E_BUSY || r == RTB_E_DETACHED ||
		   r == RTB_E_TOKEN || r == RTB_E_FAILED || r == RTB_E_REFUSED ||
		   r == RTB_E_TOO_BIG);
}

/* Instead of waiting for it. */
static void pass_time(bool is_over)
{
	struct rtbc_pending *p;

	if (TAILQ_EMPTY(&world.c->lost))
		return;
	TAILQ_FOREACH(p, &world.c->lost, order_link) {
		p->at = 0;
		p->until = is_over ? 0 : p->until;
	}
	world.c->detached_at = is_over ? -RTBC_LOST_MS : world.c->detached_at;
	world.c->lost_at = 0;
}

static void act(const char *line, size_t size)
{
	size_t i = size > 1 ? (unsigned char)line[1] % N_HANDLES : 0;
	void *gone;

	switch (size ? line[0] : 0) {
	case 'w':
		watch(line, size);
		break;
	case 'u':
		gone = world.watches[i];
		world.watches[i] = NULL;
		FUZZ_CHECK(!rtb_unwatch(gone));
		break;
	case 's':
		subscribe(0);
		break;
	case 'r':
		subscribe(size > 1 && line[1] ? (unsigned char)line[1] : 1);
		break;
	case 'p':
	case 'P':
		broadcast(line, size);
		break;
	case 'o':
		ask(line, size);
		break;
	case 'T':
	case 'U':
		pass_time(line[0] == 'U');
		break;
	case 'k':
	case 'K':
		set_token(line, size);
		break;
	case 'x':
		gone = world.subs[i];
		world.subs[i] = NULL;
		FUZZ_CHECK(!rtb_unsubscribe(gone));
		break;
	default:
		break;
	}
}

/* ---- the daemon ---- */

static void check_asked(void)
{
	const struct rtbc_topic *t;
	size_t n = 0;

	TAILQ_FOREACH(t, &world.c->topics, link)
		n += t->n_asked;
	FUZZ_CHECK(n == world.c->n_asked);
	FUZZ_CHECK(n <= 8 || world.c->phase != RTBC_ATTACHED);
}

static void check_tokens(void)
{
	bool is_attached = world.c->phase == RTBC_ATTACHED;
	const struct rtbc_token *token;

	TAILQ_FOREACH(token, &world.c->tokens, link) {
		FUZZ_CHECK(!token->holds || token->holds->size > 0);
		FUZZ_CHECK(!token->refused || (token->refused->size > 0 && !token->holds));
		FUZZ_CHECK(is_attached || (!token->holds && !token->refused));
	}
	FUZZ_CHECK(!world.c->waits_for_token || world.c->phase == RTBC_WAITING);
	FUZZ_CHECK(TAILQ_EMPTY(&world.c->tokens_told) || world.c->kick_at >= 0);
}

static void check_sends(void)
{
	const struct rtbc_pending *p;
	long n = 0;

	TAILQ_FOREACH(p, &world.c->pending, order_link) {
		FUZZ_CHECK(p->stage == RTBC_SENT);
		n += p->kind == RTBC_SEND;
	}
	TAILQ_FOREACH(p, &world.c->lost, order_link) {
		FUZZ_CHECK(p->stage != RTBC_SENT && p->kind == RTBC_SEND && p->has_name);
		FUZZ_CHECK(p->stage == RTBC_LOST || world.c->phase == RTBC_ATTACHED);
		n++;
	}
	FUZZ_CHECK(n == world.n_sends && (size_t)n == world.c->n_sends);
	FUZZ_CHECK(TAILQ_EMPTY(&world.c->lost) || world.c->lost_at >= 0);
}

static void read_client(void)
{
	struct rtbp_fault fault;
	struct rtbp_msg m;
	const uint8_t *body;
	size_t room, size;
	uint8_t *at;
	ssize_t n;

	for (;;) {
		at = rtbp_reader_room(&world.reader, 65536, &room);
		FUZZ_CHECK(at);
		n = recv(world.fd, at, room, MSG_DONTWAIT);
		if (n <= 0)
			break;
		rtbp_reader_add(&world.reader, (size_t)n);
		while (rtbp_reader_next(&world.reader, &body, &size) == RTBP_FRAME_ONE)
			FUZZ_CHECK(rtbp_msg_parse(body, size, &m, &fault) == 0);
	}
}

static void turn(void)
{
	FUZZ_CHECK(rtb_client_process(world.c) != -ENOMEM);
	check_asked();
	check_tokens();
	check_sends();
	if (world.c->phase == RTBC_WAITING)
		world.c->attach_at = INT64_MAX / 2; /* only when the input says so */
	read_client();
}

static void say(const char *json, size_t size)
{
	static const uint8_t length[RTBP_HEADER_BYTES];
	struct rtbp_buf b = RTBP_BUF_INIT;

	rtbp_buf_put(&b, length, sizeof(length));
	if (rtbp_json_to_mp(json, size, RTBP_DEPTH_MAX, &b, NULL) == 0) {
		rtbp_put_length(b.data, b.size - RTBP_HEADER_BYTES);
		(void)!send(world.fd, b.data, b.size, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	rtbp_buf_done(&b);
	turn();
}

static const char hello[] =
	"[1,0,null,{\"protocol\":1,\"limits\":{\"bindings\":8},\"features\":[\"postgres_changes\","
	"\"auth\",\"outcome\",\"replay\"],"
	"\"connection\":{\"state\":\"online\",\"since\":1},\"token\":{\"state\":\"pending\"}}]";
static const char old_hello[] =
	"[1,0,null,{\"protocol\":1,\"limits\":{\"bindings\":8},\"features\":[\"postgres_changes\","
	"\"auth\"],"
	"\"connection\":{\"state\":\"online\",\"since\":1},\"token\":{\"state\":\"pending\"}}]";
static const char refusal[] = "[1,0,[211,\"bad_token\",\"no\",null],null]";

/* As rtbc_connect() leaves it. */
static void attach(const char *answer)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fds[2];

	if (world.c->phase != RTBC_WAITING)
		return;
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
	FUZZ_CHECK(!epoll_ctl(world.c->epoll_fd, EPOLL_CTL_ADD, fds[0], &ev));
	if (world.fd >= 0)
		close(world.fd);
	rtbp_reader_done(&world.reader);
	world.fd = fds[1];
	world.c->fd = fds[0];
	world.c->wants_write = world.c->is_write_dead = false;
	world.c->phase = RTBC_HELLO;
	world.c->hello_by = INT64_MAX / 2;
	world.c->waits_for_token = false;
	rtbc_token_hello_sent(world.c);
	say(answer, strlen(answer));
}

static void line(const char *p, size_t size)
{
	switch (size ? p[0] : 0) {
	case '[':
		say(p, size);
		return;
	case 'a':
		world.armed = p + 1;
		world.armed_size = size - 1;
		return;
	case 'd':
	case 'D':
	case 'b':
		(void)shutdown(world.fd, SHUT_RDWR);
		turn();
		attach(p[0] == 'd' ? hello : p[0] == 'D' ? old_hello : refusal);
		return;
	default:
		act(p, size);
		turn();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	const char *p = (const char *)data, *end = p + size, *nl;

	memset(&world, 0, sizeof(world));
	world.fd = -1;
	rtbp_reader_init(&world.reader, RTBP_FRAME_MAX_UP);
	o.socket_path = "/nonexistent/s";
	o.name = "fuzz";
	o.handlers.token = on_token_end;
	FUZZ_CHECK(rtb_client_new(&o, &world.c) == 0);
	attach(hello);
	for (; p < end; p = nl + 1) {
		nl = memchr(p, '\n', (size_t)(end - p));
		nl = nl ? nl : end;
		if (nl - p < LINE_MAX_BYTES)
			line(p, (size_t)(nl - p));
	}
	world.armed = NULL;
	FUZZ_CHECK(!rtb_client_free(world.c));
	FUZZ_CHECK(world.n_sends == 0);
	if (world.fd >= 0)
		close(world.fd);
	rtbp_reader_done(&world.reader);
	return 0;
}
