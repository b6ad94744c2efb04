/* SPDX-License-Identifier: MIT */
#include "shell.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <time.h>

#include "conn.h"
#include "shell_tls.h"

#define CHUNK           65536
#define CHUNKS_A_TURN   16      /* then the other sockets have their turn */
#define FLUSH_US        5000000 /* for a peer that does not read its last bytes */
#define LINGER_US       1000000 /* for the peer's own end of the connection */
#define LINGER_SHORT_US 300000  /* ... when the process ends; and TLS has no half close here */
#define SHUTDOWN_MS     3000
#define FDS_MAX         65536 /* libwebsockets keeps a table as long as the limit */

struct slot {
	TAILQ_ENTRY(slot) link;
	struct ds_conn conn;
	struct lws *wsi;
	bool flushing;
	bool lingering;
	bool deaf;
};

TAILQ_HEAD(slot_list, slot);

/* One of the connections to the database. */
struct pg_watch {
	enum ds_pgsql_link link;
	struct lws *wsi;
	unsigned epoch; /* for which the descriptor was taken */
	bool reading;
};

struct shell {
	struct lws_context *lws;
	struct lws_vhost *vhost;
	struct ds_core *core;
	struct ds_pgsql *pg; /* NULL: no database */
	struct pg_watch watches[DS_PGSQL_LINKS];
	struct slot_list slots;
	bool tls;
	bool tls_old;
	unsigned n_conns;
	int64_t armed_ms;
	lws_sorted_usec_list_t timer;
	lws_sorted_usec_list_t stop_timer;
	unsigned char chunk[LWS_PRE + CHUNK];
};

static volatile sig_atomic_t stop_asked;
static struct lws_context *stop_context;

static int64_t ms_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void tell_time(struct shell *sh)
{
	ds_core_clock(sh->core, ms_of(CLOCK_MONOTONIC), ms_of(CLOCK_REALTIME));
}

static void arm(struct shell *sh);

static void on_timer(lws_sorted_usec_list_t *sul)
{
	struct shell *sh = lws_container_of(sul, struct shell, timer);

	sh->armed_ms = -1;
	tell_time(sh);
	ds_core_tick(sh->core);
	arm(sh);
}

static size_t most_unsent(const struct shell *sh)
{
	const struct slot *slot;
	size_t most = 0;

	TAILQ_FOREACH(slot, &sh->slots, link)
		if (ds_conn_unsent(&slot->conn).n > most)
			most = ds_conn_unsent(&slot->conn).n;
	return most;
}

/* libwebsockets closes what it watches, so it gets a descriptor of its own. */
static void watch(struct shell *sh, struct pg_watch *w)
{
	int fd = ds_pgsql_fd(sh->pg, w->link);
	lws_sock_file_fd_type own;

	if (w->wsi && w->epoch != ds_pgsql_epoch(sh->pg)) {
		lws_set_opaque_user_data(w->wsi, NULL);
		lws_set_timeout(w->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
		w->wsi = NULL;
	}
	if (!w->wsi && fd >= 0) {
		own.filefd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (own.filefd < 0)
			return;
		w->wsi = lws_adopt_descriptor_vhost(sh->vhost, LWS_ADOPT_RAW_FILE_DESC, own,
						    "postgres", NULL);
		if (!w->wsi)
			return;
		lws_set_opaque_user_data(w->wsi, w);
		w->epoch = ds_pgsql_epoch(sh->pg);
		w->reading = true;
	}
	if (!w->wsi)
		return;
	if (w->reading != ds_pgsql_wants_read(sh->pg, w->link)) {
		w->reading = !w->reading;
		lws_rx_flow_control(w->wsi, w->reading);
	}
	if (ds_pgsql_wants_write(sh->pg, w->link))
		lws_callback_on_writable(w->wsi);
}

static void turn_postgres(struct shell *sh)
{
	if (!sh->pg || stop_asked)
		return;
	ds_pgsql_turn(sh->pg, sh->core, ms_of(CLOCK_MONOTONIC), most_unsent(sh));
	for (int i = 0; i < DS_PGSQL_LINKS; i++)
		watch(sh, &sh->watches[i]);
}

static void arm(struct shell *sh)
{
	int64_t due, left;

	turn_postgres(sh);
	due = ds_core_deadline(sh->core);
	if (sh->pg && !stop_asked) {
		left = ds_pgsql_deadline(sh->pg);
		due = due < 0 || left < due ? left : due;
	}
	if (due == sh->armed_ms || due < 0)
		return;
	sh->armed_ms = due;
	left = due - ms_of(CLOCK_MONOTONIC);
	/* One more, for the part of a millisecond that the clock has dropped. */
	lws_sul_schedule(sh->lws, 0, &sh->timer, on_timer,
			 (left < 0 ? 0 : left + 1) * LWS_US_PER_MS);
}

/* Reset rather than close: the peer sees a connection that broke. */
static void kill_hard(struct slot *slot)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(lws_get_socket_fd(slot->wsi), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	lws_set_timeout(slot->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static void on_wake(void *arg)
{
	struct slot *slot = arg;

	if (slot->conn.deaf != slot->deaf) {
		slot->deaf = slot->conn.deaf;
		lws_rx_flow_control(slot->wsi, !slot->deaf);
	}
	switch (slot->conn.state) {
	case DS_CONN_DROP:
		kill_hard(slot);
		return;
	case DS_CONN_DELAYED:
		lws_set_timer_usecs(slot->wsi, slot->conn.delay_ms * LWS_US_PER_MS);
		break;
	case DS_CONN_FLUSH:
		if (!slot->flushing)
			lws_set_timer_usecs(slot->wsi, FLUSH_US);
		slot->flushing = true;
		break;
	default:
		break;
	}
	lws_callback_on_writable(slot->wsi);
}

/* All is written: let the peer read it before the connection ends. */
static void linger(struct shell *sh, struct slot *slot)
{
	if (slot->lingering)
		return;
	slot->lingering = true;
	if (!sh->tls)
		shutdown(lws_get_socket_fd(slot->wsi), SHUT_WR);
	lws_set_timer_usecs(slot->wsi, sh->tls || stop_asked ? LINGER_SHORT_US : LINGER_US);
}

static int on_writeable(struct shell *sh, struct slot *slot)
{
	struct ds_str rest = ds_conn_unsent(&slot->conn);

	for (int i = 0; i < CHUNKS_A_TURN && rest.n && !lws_send_pipe_choked(slot->wsi); i++) {
		size_t n = rest.n < CHUNK ? rest.n : CHUNK;

		memcpy(sh->chunk + LWS_PRE, rest.p, n);
		if (lws_write(slot->wsi, sh->chunk + LWS_PRE, n, LWS_WRITE_RAW) < 0)
			return -1;
		ds_conn_sent(&slot->conn, n); /* what did not fit is kept by libwebsockets */
		rest = ds_conn_unsent(&slot->conn);
	}
	if (rest.n || lws_partial_buffered(slot->wsi))
		lws_callback_on_writable(slot->wsi);
	else if (slot->conn.state == DS_CONN_FLUSH)
		linger(sh, slot);
	return 0;
}

static bool peer_is_local(struct lws *wsi)
{
	struct sockaddr_storage peer;
	socklen_t n = sizeof(peer);
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer;

	if (getpeername(lws_get_socket_fd(wsi), (struct sockaddr *)&peer, &n) != 0)
		return false;
	return peer.ss_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127;
}

static void on_timeout(struct slot *slot)
{
	if (slot->conn.state == DS_CONN_DELAYED)
		ds_conn_delay_over(&slot->conn);
	else if (slot->conn.state == DS_CONN_FLUSH)
		lws_set_timeout(slot->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static void on_adopt(struct shell *sh, struct slot *slot, struct lws *wsi)
{
	int one = 1;

	slot->wsi = wsi;
	TAILQ_INSERT_TAIL(&sh->slots, slot, link);
	setsockopt(lws_get_socket_fd(wsi), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ds_conn_init(&slot->conn, sh->core, peer_is_local(wsi));
	slot->conn.wake = on_wake;
	slot->conn.arg = slot;
	sh->n_conns++;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		    size_t len)
{
	struct shell *sh = lws_context_user(lws_get_context(wsi));
	struct slot *slot = user;
	int r = 0;

	switch (reason) {
	case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
		if (sh->tls_old)
			ds_shell_tls_old(user);
		return 0;
	case LWS_CALLBACK_RAW_ADOPT:
		if (stop_asked)
			return -1;
		on_adopt(sh, slot, wsi);
		return 0;
	case LWS_CALLBACK_RAW_RX:
		tell_time(sh);
		ds_conn_input(&slot->conn, (struct ds_str){ in, len });
		break;
	case LWS_CALLBACK_RAW_WRITEABLE:
		r = on_writeable(sh, slot);
		break;
	case LWS_CALLBACK_TIMER:
		tell_time(sh);
		on_timeout(slot);
		break;
	case LWS_CALLBACK_RAW_CLOSE:
		if (!slot || !slot->wsi)
			return 0;
		tell_time(sh);
		ds_conn_done(&slot->conn);
		slot->wsi = NULL;
		TAILQ_REMOVE(&sh->slots, slot, link);
		sh->n_conns--;
		if (stop_asked)
			lws_cancel_service(sh->lws); /* or the loop would sleep before it looks */
		break;
	default:
		return 0;
	}
	arm(sh);
	return r;
}

static int on_postgres(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		       size_t len)
{
	struct shell *sh = lws_context_user(lws_get_context(wsi));
	struct pg_watch *w = lws_get_opaque_user_data(wsi);

	(void)user;
	(void)in;
	(void)len;
	if (!w || stop_asked)
		return 0;
	switch (reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
	case LWS_CALLBACK_RAW_WRITEABLE_FILE:
		tell_time(sh);
		ds_pgsql_ready(sh->pg, w->link, sh->core, ms_of(CLOCK_MONOTONIC));
		arm(sh);
		break;
	case LWS_CALLBACK_RAW_CLOSE_FILE:
		w->wsi = NULL;
		break;
	default:
		break;
	}
	return 0;
}

static void on_log(int level, const char *line)
{
	(void)level;
	fprintf(stderr, "rtbridge-devserver: %s", line);
}

static void on_signal(int signal)
{
	(void)signal;
	stop_asked = 1;
	if (stop_context)
		lws_cancel_service(stop_context);
}

/* libwebsockets says only that it failed; this says why. */
static bool can_listen(const struct ds_listen *at)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons((uint16_t)at->port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = -1;

	if (inet_pton(AF_INET, at->host, &addr.sin_addr) != 1)
		errno = EINVAL;
	else if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0)
		r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (r < 0)
		fprintf(stderr, "rtbridge-devserver: cannot listen on %s:%d: %s%s\n", at->host,
			at->port, strerror(errno),
			errno == EADDRINUSE ? "; stop the other program or choose another port (0 "
					      "is any free one)"
					    : "");
	if (fd >= 0)
		close(fd);
	return r == 0;
}

static bool can_read(const char *path)
{
	if (!path || access(path, R_OK) == 0)
		return true;
	fprintf(stderr, "rtbridge-devserver: cannot read %s: %s\n", path, strerror(errno));
	return false;
}

static struct lws_vhost *start(struct shell *sh, const struct ds_listen *at)
{
	static const struct lws_protocols protocols[] = {
		{ .name = "devserver",
		  .callback = on_event,
		  .per_session_data_size = sizeof(struct slot),
		  .rx_buffer_size = CHUNK },
		{ .name = "postgres", .callback = on_postgres },
		{ 0 },
	};
	struct lws_context_creation_info info = { 0 };
	struct lws_vhost *vhost;

	info.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DISABLE_IPV6;
	info.pt_serv_buf_size = CHUNK;
	info.user = sh;
	if (sh->tls)
		info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
	sh->lws = lws_create_context(&info);
	if (!sh->lws)
		return NULL;
	info.options |= LWS_SERVER_OPTION_ADOPT_APPLY_LISTEN_ACCEPT_CONFIG;
	info.listen_accept_role = "raw-skt";
	info.listen_accept_protocol = "devserver";
	info.protocols = protocols;
	info.iface = at->host;
	info.port = at->port;
	info.ssl_cert_filepath = at->tls_cert;
	info.ssl_private_key_filepath = at->tls_key;
	vhost = lws_create_vhost(sh->lws, &info);
	return vhost && lws_get_vhost_listen_port(vhost) > 0 ? vhost : NULL;
}

static void on_stop_timer(lws_sorted_usec_list_t *sul)
{
	(void)sul; /* it has woken the loop */
}

/* Who is not in the middle of a WebSocket's end is not waited for. */
static void drop_requests(struct shell *sh)
{
	struct slot *slot;

	TAILQ_FOREACH(slot, &sh->slots, link)
		if (slot->conn.state != DS_CONN_OPEN && slot->conn.state != DS_CONN_FLUSH)
			kill_hard(slot);
}

static void serve(struct shell *sh)
{
	int64_t until;

	while (!stop_asked && lws_service(sh->lws, 0) >= 0)
		;
	tell_time(sh);
	ds_core_shutdown(sh->core);
	drop_requests(sh);
	until = ms_of(CLOCK_MONOTONIC) + SHUTDOWN_MS;
	lws_sul_schedule(sh->lws, 0, &sh->stop_timer, on_stop_timer, SHUTDOWN_MS * LWS_US_PER_MS);
	while (sh->n_conns && ms_of(CLOCK_MONOTONIC) < until && lws_service(sh->lws, 0) >= 0)
		;
}

static void few_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= FDS_MAX)
		return;
	limit.rlim_cur = FDS_MAX;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Return: false if there is to be a database, or a file of rules, but it is of no use. */
static bool start_core(struct shell *sh, const struct ds_pgsql_conf *pg, const struct ds_conf *conf)
{
	struct ds_ops ops = *ds_conn_ops();
	char why[200] = "";

	if (pg->conninfo) {
		sh->pg = ds_pgsql_new(pg, &ops);
		if (!sh->pg)
			return false;
		for (int i = 0; i < DS_PGSQL_LINKS; i++)
			sh->watches[i].link = (enum ds_pgsql_link)i;
	}
	sh->core = ds_core_new(conf, &ops);
	if (!conf->policies || ds_core_reload(sh->core, why, sizeof(why)))
		return true;
	fprintf(stderr, "rtbridge-devserver: --policies: %s\n", why);
	sh->core = ds_core_free(sh->core);
	ds_pgsql_free(sh->pg);
	return false;
}

int ds_shell_run(const struct ds_listen *at, const struct ds_pgsql_conf *pg,
		 const struct ds_conf *conf)
{
	struct sigaction act = { .sa_handler = on_signal };
	static struct shell sh;
	int r = 1;

	sh = (struct shell){ .tls = at->tls_cert != NULL, .tls_old = at->tls_old, .armed_ms = -1 };
	TAILQ_INIT(&sh.slots);
	few_fds();
	if (!can_listen(at) || !can_read(at->tls_cert) || !can_read(at->tls_key))
		return 1;
	lws_set_log_level(LLL_ERR, on_log);
	if (!start_core(&sh, pg, conf))
		return 1;
	sh.vhost = start(&sh, at);
	if (sh.vhost) {
		stop_context = sh.lws;
		sigaction(SIGTERM, &act, NULL);
		sigaction(SIGINT, &act, NULL);
		printf("%s://%s:%d/socket\n", sh.tls ? "wss" : "ws", at->host,
		       lws_get_vhost_listen_port(sh.vhost));
		r = fflush(stdout) == 0 ? 0 : 1;
		arm(&sh);
		serve(&sh);
		stop_context = NULL;
	} else {
		fprintf(stderr, "rtbridge-devserver: cannot listen on %s:%d\n", at->host, at->port);
	}
	lws_set_log_level(0, NULL);
	if (sh.lws)
		lws_context_destroy(sh.lws);
	ds_core_free(sh.core);
	ds_pgsql_free(sh.pg);
	return r;
}
