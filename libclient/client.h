/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The inside of librtbridge: one client, its attachment, its topics, its open requests.
 *
 * Nothing here is public; names start with rtbc_. The files may call each other, but only client.c
 * moves the attachment's phase, and user callbacks run only below rtb_client_process() (and, for
 * results, rtb_client_free()), always between rtbc_enter() and rtbc_leave().
 *
 * Because no callback can process or free, two rules keep walks over lists safe: while a callback
 * runs, subscriptions and topics are only marked dead and added at the tail; what is dead is freed
 * by rtbc_subs_reap() when the outermost call ends.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "libclient/include/rtbridge/rtbridge.h"
#include "libclient/presence.h"
#include "libclient/token.h"
#include "libclient/track.h"
#include "libclient/watch.h"
#include "proto/rtbp_frame.h"
#include "proto/rtbp_msg.h"

enum {
	RTBC_BUCKETS = 256,            /* of each hash; chains stay short up to some 10 000 */
	RTBC_SEND_QUEUE = 1024 * 1024, /* default of options.send_queue_bytes */
	RTBC_PENDING_MAX = 65536,      /* sends and questions without an answer, then RTB_E_BUSY */
	RTBC_HELLO_MS = 10000,         /* a loaded daemon may take a while to accept */
	RTBC_BACKOFF_FIRST_MS = 50,
	RTBC_BACKOFF_CAP_MS = 1000, /* attached again within 2 s of the daemon's return */
	RTBC_STABLE_MS = 5000,      /* an attachment that lasted so long forgets the backoff */
	RTBC_NOMEM_RETRY_MS = 50,
	RTBC_CODE_MAX = 32,
	RTBC_TEXT_MAX = 512,
	RTBC_SEND_ID_MAX = 64, /* bytes of a send's name */
	RTBC_TTL_MS = 10000,   /* of a send, unless it is said: the daemon's default */
	/* A send whose answer was lost: how long a new attachment may take, and the answer to the
	 * question for it, and how long behind its time to live it may be pending. */
	RTBC_LOST_MS = 10000,
	RTBC_ASK_FIRST_MS = 250, /* between two questions, doubling */
	RTBC_ASK_CAP_MS = 4000,
};

enum rtbc_phase {
	RTBC_WAITING,  /* no socket; the next attempt is at `attach_at` */
	RTBC_HELLO,    /* connected, hello is not answered yet */
	RTBC_ATTACHED, /* everything works */
	RTBC_FAILED,   /* over */
};

enum rtbc_kind {
	RTBC_SEND,      /* result(): outcome of a broadcast */
	RTBC_REPLY,     /* reply(): status, sync */
	RTBC_OUTCOME,   /* result(): what became of the send with this name */
	RTBC_SUBSCRIBE, /* topic, serial */
	RTBC_TRACK,     /* tracker, serial: its version */
	RTBC_UNTRACK,   /* tracker */
	RTBC_AUTH,      /* user: the slot */
	RTBC_IGNORE,    /* unsubscribe */
};

/* Of a send with a name: what is known of it. */
enum rtbc_stage {
	RTBC_SENT,  /* in client->pending: the answer is to come */
	RTBC_LOST,  /* in client->lost: it was lost with the attachment, or the send was pending */
	RTBC_ASKED, /* in client->lost: the daemon was asked what became of it */
};

/* A request without an answer. */
struct rtbc_pending {
	TAILQ_ENTRY(rtbc_pending) order_link, bucket_link, topic_link;
	int64_t id;
	enum rtbc_kind kind;
	enum rtbc_stage stage;
	bool has_name;    /* the daemon was told one */
	uint32_t ttl_ms;  /* of a send */
	int32_t pause_ms; /* before the next question */
	/* Monotonic ms. LOST: when to ask; ASKED: when the answer is given up. */
	int64_t at, until; /* until: when a pending one is */
	union {
		rtb_result_fn result;
		rtb_reply_fn reply;
	};
	void *user;
	struct rtbc_topic *topic;    /* kept alive by topic->n_pending */
	struct rtb_tracker *tracker; /* the same */
	uint64_t serial;
	char name[]; /* as the caller gave it; "": it is made of the id (rtbc_send_name()) */
};

TAILQ_HEAD(rtbc_pending_list, rtbc_pending);
TAILQ_HEAD(rtbc_topic_list, rtbc_topic);
TAILQ_HEAD(rtbc_sub_list, rtb_sub);
TAILQ_HEAD(rtbc_tracker_list, rtb_tracker);

/* The daemon keeps the subscription that it has when it refuses to change it. */
struct rtbc_refusal {
	/* The wishes of the requests behind `held` up to `serial` are refused; 0: none. */
	uint64_t held, serial;
	uint64_t n; /* of different ones */
	bool is_final;
	int64_t retry_in_ms;
	char code[RTBC_CODE_MAX];
	char text[RTBC_TEXT_MAX];
};

/* One (topic, private): what the client's subscriptions and watches of it share. The name "" is for
 * watches without a topic. */
struct rtbc_topic {
	TAILQ_ENTRY(rtbc_topic) link, dirty_link;
	struct rtbc_topic *name_next, *chan_next; /* hash chains */
	struct rtb_client *client;
	struct rtbc_sub_list subs;
	struct rtbc_binding_list bindings;
	size_t n_asked;                   /* bindings of the last request */
	unsigned n_live;                  /* subs and watches that are not dead */
	unsigned n_pending;               /* subscribe requests that keep it alive */
	struct rtbc_pending_list pending; /* those without an answer, oldest first */
	bool is_private;
	bool is_dirty;         /* in client->dirty: the daemon has to be told something */
	bool is_asked;         /* the daemon has our wish (on this attachment) */
	uint64_t chan;         /* 0: unknown */
	uint64_t serial;       /* of the last subscribe request */
	uint64_t first_serial; /* of the first one since is_asked; answers to earlier ones are stale
				*/
	uint64_t acked;        /* highest serial answered with success; 0: none */
	int64_t retry_at;      /* monotonic ms; -1: no retry planned */
	uint8_t *sent;         /* the wishes as last asked for */
	size_t sent_size;
	struct rtbc_presence presence;
	struct rtbc_refusal refusal;
	bool was_over;                    /* rejected or closed when the last request was sent */
	uint64_t replay_serial;           /* the request whose replay is on its way; 0: none */
	uint64_t n_following;             /* stored messages that a gap has announced */
	bool is_held;                     /* not asked for, because its token is being decided */
	uint64_t token_serial;            /* rtbc_token_serial() when the last request was sent */
	char missed_cause[RTBC_CODE_MAX]; /* of the subscriptions' missed_from */
	enum rtb_channel_state state;
	uint64_t n_changes; /* of state, code, text */
	int64_t retry_in_ms;
	char code[RTBC_CODE_MAX];
	char text[RTBC_TEXT_MAX];
	size_t name_size;
	char name[];
};

struct rtb_sub {
	TAILQ_ENTRY(rtb_sub) link;
	struct rtbc_topic *topic;
	struct rtb_sub_handlers handlers;
	void *user;
	bool is_dead, self, all, presence;
	const char *presence_key; /* among `events`; NULL: none */
	uint64_t serial;          /* the subscribe request that covers its wishes */
	enum rtb_channel_state reported;
	uint64_t reported_changes, reported_refusal;
	enum rtb_presence_status reported_presence;
	uint64_t synced;     /* the topic's presence.n_syncs when it was told; 0: never */
	int64_t missed_from; /* wall ms: the daemon had ended it; 0: not, or the gap was told */
	bool replication_ready;
	struct rtbc_replay *replay; /* behind the event names; NULL: none is wanted */
	char events[];              /* NUL-terminated one after the other; an empty one ends them */
};

enum {
	RTBC_SEEN = 64,
	RTBC_REPLAY_MAX = 25,    /* messages: the server gives no more */
	RTBC_META_ID_SIZE = 128, /* with its NUL */
};

/* A subscription's wish for stored messages: replay.c. */
struct rtbc_replay {
	enum {
		RTBC_REPLAY_DUE,   /* to be asked for */
		RTBC_REPLAY_ASKED, /* by the request topic->replay_serial */
		RTBC_REPLAY_OPEN,  /* they come now */
		RTBC_REPLAY_DONE,
	} stage;
	bool was_done; /* one has come: what is missed now is what came since */
	int64_t since; /* wall ms, as wished */
	uint32_t limit;
	int64_t last; /* wall ms: when the last broadcast was handed over; 0: none yet */
	uint64_t n;   /* handed over of this replay */
	uint64_t seen[RTBC_SEEN]; /* hashes of ids, as a ring */
	unsigned n_seen;
};

struct rtb_client {
	/* given */
	char *path, *name, *version;
	struct rtb_handlers handlers;
	void *user;
	size_t queue_limit;
	bool once;
	pid_t pid;

	/* attachment */
	enum rtbc_phase phase;
	int epoll_fd, timer_fd, fd; /* fd -1: not connected */
	bool wants_write;           /* EPOLLOUT is armed */
	bool is_write_dead;  /* the daemon no longer reads; what it said is still to be read */
	unsigned n_attempts; /* failed in a row */
	int64_t attach_at, hello_by, attached_at, kick_at; /* monotonic ms; -1: none */
	int64_t armed_at;
	int64_t heard_at; /* wall ms: when all that the daemon had sent was read last */
	int last_why;     /* last told by the state callback */
	uint64_t random;
	size_t frame_limit, payload_limit; /* payload_limit: of the plan; SIZE_MAX: not known */
	bool has_outcome, has_replay;      /* this daemon has the feature */
	struct rtbp_reader reader;
	const uint8_t *held; /* a frame that could not be handled for lack of memory */
	size_t held_size;
	struct rtbp_buf out;
	size_t out_sent;
	bool out_has_token; /* at its end: nothing may be put behind it, and it is to be wiped */

	/* requests */
	int64_t next_id;
	size_t n_pending;
	struct rtbc_pending_list pending;
	struct rtbc_pending_list pending_by_id[RTBC_BUCKETS];
	struct rtbc_pending_list lost; /* sends whose answers were lost, oldest first */
	bool is_ask_due;               /* the daemon has to be asked for some of them */
	int64_t lost_at;               /* monotonic ms: when one of them is due; -1: none */
	int64_t detached_at;           /* monotonic ms */
	size_t n_sends;                /* without an outcome: in either list */
	uint64_t hash_seed;            /* random, and nobody's business */
	char name_prefix[18];          /* of the sends' names: random, and a dash */

	/* tokens */
	struct rtbc_token_list tokens; /* the first one is for all topics */
	struct rtbc_token_told_list tokens_told;
	bool is_token_due;    /* the daemon has to be told something, perhaps */
	bool waits_for_token; /* refused at hello: not attached before another one is set */
	uint64_t n_tokens_taken;

	/* topics */
	struct rtbc_topic_list topics, dirty;
	struct rtbc_topic *by_name[RTBC_BUCKETS], *by_chan[RTBC_BUCKETS];
	bool is_report_due; /* some sub has not heard of its state */
	bool is_reap_due;   /* of topics, subs or trackers */

	/* watches */
	struct rtbc_binding *by_binding[RTBC_BUCKETS]; /* by the daemon's id */
	uint64_t n_rows;                               /* changes and gaps that came */
	size_t binding_limit; /* of the daemon; 0: it offers no database changes */
	size_t n_asked;       /* bindings of all topics' last requests */
	bool has_left_out;    /* bindings over the limit */

	/* trackers */
	struct rtbc_tracker_list trackers; /* oldest first; the dead ones among them */
	bool is_track_due;                 /* the daemon has to be told something, perhaps */
	bool is_track_report_due;

	/* calls */
	bool in_callback, in_process;
	int n_callbacks;
	/* By rtb_wait_ready(), rtb_wait_shown(), rtb_wait_watch(); cleared when it is ended. */
	const struct rtb_sub *waited;
	const struct rtb_tracker *waited_tracker;
	const struct rtb_watch *waited_watch;
	char error_text[RTBC_TEXT_MAX];
};

/* client.c */

int64_t rtbc_now_ms(void);
int64_t rtbc_wall_ms(void); /* since 1970 */
/* Keeps the text for rtb_client_error_text(). Returns `error`, for `return`. */
int rtbc_fail(struct rtb_client *c, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* RTB_E_DETACHED, RTB_E_TOKEN or RTB_E_FAILED with its text, 0 when attached. */
int rtbc_check_attached(struct rtb_client *c);
/* Makes process() be called again in `ms`. */
void rtbc_kick(struct rtb_client *c, int64_t ms);
static inline void rtbc_enter(struct rtb_client *c)
{
	c->in_callback = true;
	c->n_callbacks++;
}
static inline void rtbc_leave(struct rtb_client *c)
{
	c->in_callback = false;
}
/* Tells the daemon what it has not been told: tokens, topics, trackers. Return: 0, RTB_E_BUSY,
 * -ENOMEM (both: try later). */
int rtbc_flush(struct rtb_client *c);
/* The same if attached; what cannot be sent now will be before anything that is asked later. */
void rtbc_flush_now(struct rtb_client *c);
/* The hello was answered: `result` is a map. */
void rtbc_on_hello(struct rtb_client *c, struct rtbp_val result);
/* The attachment ended, or could not be made; error_text says why. With `is_final` for good. */
void rtbc_detach(struct rtb_client *c, int why, bool is_final);
/* Copies at most `size` - 1 bytes, cut between characters. */
void rtbc_copy(char *to, size_t size, struct rtbp_str from);
/* `at`: monotonic ms, -1: none. Return: it has come, and was set to none. Otherwise `next` is
 * brought forward to it. */
static inline bool rtbc_is_due(int64_t *at, int64_t now_ms, int64_t *next)
{
	bool is_due = *at >= 0 && *at <= now_ms;

	if (is_due)
		*at = -1;
	else if (*at >= 0 && (*next < 0 || *at < *next))
		*next = *at;
	return is_due;
}

/* conn.c */

/* Return: 0, -EAGAIN (the daemon's backlog is full), or an error with its text. */
int rtbc_connect(struct rtb_client *c);
void rtbc_disconnect(struct rtb_client *c);
/* Reads what is there (bounded) and dispatches it. Return: 0, -ENOMEM. May detach. */
int rtbc_read(struct rtb_client *c);
void rtbc_write(struct rtb_client *c);
/* Before the queue's memory is given back, or its bytes are left behind by a move. */
void rtbc_out_wipe(struct rtb_client *c);
/* Bytes not yet written. */
size_t rtbc_queued(const struct rtb_client *c);
/* Bytes were added to the queue: sees to it that they leave. */
void rtbc_want_write(struct rtb_client *c);

/* route.c */

/* Return: 0; -ENOMEM: nothing was done, dispatch it again; 1: detached, stop reading. */
int rtbc_dispatch(struct rtb_client *c, const void *body, size_t size);
void rtbc_tell_connection(struct rtb_client *c, struct rtbp_val v);
/* A string of a map, cut to `size`; "" when it is not there. */
void rtbc_get_text(struct rtbp_val map, enum rtbp_field field, char *to, size_t size);
/* Whether the answer to hello has it. */
bool rtbc_has_feature(struct rtbp_val result, const char *name);
/* Detaches. Return: 1, for `return`. */
int rtbc_protocol_error(struct rtb_client *c, const char *what, size_t offset);

/* subs.c, subs_wire.c */

enum rtb_channel_state rtbc_sub_state(const struct rtb_sub *sub);
/* Why it is not part of what the daemon has; NULL: it is, or that is not known yet, or the whole
 * topic is over. */
const struct rtbc_refusal *rtbc_sub_refusal(const struct rtb_sub *sub);
/* Finds or makes it. NULL: no memory. */
struct rtbc_topic *rtbc_topic_get(struct rtb_client *c, struct rtbp_str name, bool is_private);
/* A sub or watch has ended outside process(): what nobody wants any more is forgotten, perhaps the
 * topic itself. */
void rtbc_topic_left(struct rtbc_topic *t);
struct rtbc_topic *rtbc_topic_by_chan(struct rtb_client *c, uint64_t chan);
void rtbc_topic_set_chan(struct rtbc_topic *t, uint64_t chan);
/* Changes what is known about a topic; the reports come with rtbc_topic_report(). */
void rtbc_topic_set(struct rtbc_topic *t, enum rtb_channel_state state, const char *code,
		    const char *text, int64_t retry_in_ms);
/* Calls the channel callback of each subscription that has not heard of its state, then the
 * presence callback with SYNC where it is due; the state callback of each such watch. */
void rtbc_topic_report(struct rtbc_topic *t);
void rtbc_sub_report(struct rtb_sub *sub);
void rtbc_topic_touch(struct rtbc_topic *t);
/* The next flush asks even if the wishes are the same as before. */
void rtbc_topic_ask_anew(struct rtbc_topic *t);
void rtbc_topic_deliver(struct rtbc_topic *t, const struct rtb_broadcast *msg, size_t event_size);
void rtbc_topic_tell_gap(struct rtbc_topic *t, const struct rtb_gap *gap);
void rtbc_sub_tell_gap(struct rtb_sub *sub, const struct rtb_gap *gap);
/* The daemon has nothing of it any more, as far as we know. */
void rtbc_topic_forget(struct rtbc_topic *t);
/* The same, but requests are on their way, which the daemon takes for new. Return: whether there
 * are any; else nothing was done. */
bool rtbc_topic_restart(struct rtbc_topic *t, const char *code, const char *text);
void rtbc_subs_report(struct rtb_client *c);
/* Frees what is dead or over; not while a callback runs. */
void rtbc_subs_reap(struct rtb_client *c);
void rtbc_subs_free(struct rtb_client *c);

/* Sends what the daemon has not been told yet. Return: 0, RTB_E_BUSY, -ENOMEM (both: try later). */
int rtbc_subs_flush(struct rtb_client *c);
void rtbc_subs_on_attach(struct rtb_client *c);
void rtbc_subs_on_detach(struct rtb_client *c);
/* Due retries of single topics. */
void rtbc_subs_tick(struct rtb_client *c, int64_t now_ms);
/* Return: 0; -ENOMEM, RTB_E_PROTOCOL: nothing was done; 1: detached. */
int rtbc_on_subscribed(struct rtbc_topic *t, uint64_t serial, struct rtbp_val result);
void rtbc_on_subscribe_error(struct rtb_client *c, struct rtbc_topic *t, uint64_t serial,
			     const struct rtbp_error_info *e);
void rtbc_on_channel(struct rtb_client *c, struct rtbp_val params);

/* send.c */

/* Starts a request in the queue; the caller packs the params, then calls rtbc_request_end(). NULL:
 * @ret_error is RTB_E_BUSY or -ENOMEM. */
struct rtbc_pending *rtbc_request_begin(struct rtb_client *c, enum rtbp_method method,
					enum rtbc_kind kind, size_t *ret_begin, int *ret_error);
/* Return: the id (> 0), or RTB_E_BUSY, RTB_E_TOO_BIG, -ENOMEM: then the request never was. */
int64_t rtbc_request_end(struct rtb_client *c, struct rtbc_pending *p, size_t begin);
/* The same with room for a name. */
struct rtbc_pending *rtbc_request_begin_named(struct rtb_client *c, enum rtbp_method method,
					      enum rtbc_kind kind, const char *name,
					      size_t *ret_begin, int *ret_error);
/* The end of any request that is packed: checks the limits; on an error its bytes are taken back.
 * Return: 0, RTB_E_BUSY, RTB_E_TOO_BIG, -ENOMEM. */
int rtbc_request_check(struct rtb_client *c, size_t begin);
/* NULL when there is none. */
struct rtbc_pending *rtbc_pending_find(struct rtb_client *c, uint32_t wire_id);
/* Takes a request out of the table; the caller frees it. */
void rtbc_pending_take(struct rtb_client *c, struct rtbc_pending *p);
void rtbc_pending_free(struct rtb_client *c, struct rtbc_pending *p);
void rtbc_on_result(struct rtb_client *c, const struct rtbc_pending *p, struct rtbp_val result);
void rtbc_on_refused(struct rtb_client *c, const struct rtbc_pending *p,
		     const struct rtbp_error_info *e);
/* What a program is told of such an answer. */
int rtbc_error_of(const struct rtbp_error_info *e);
/* All of them end, with the attachment or (without replies) with the client: sends are unknown, if
 * they cannot be asked for, replies get RTB_E_DETACHED if `with_replies`. */
void rtbc_pending_end_all(struct rtb_client *c, bool with_replies);
/* The send or question ends as "unknown"; `p` is freed. */
void rtbc_end_unknown(struct rtb_client *c, struct rtbc_pending *p, const char *why,
		      const char *code);
/* Frees what is left, without callbacks. */
void rtbc_pending_drop_all(struct rtb_client *c);
/* Its callback will not be called. */
void rtbc_forget(struct rtb_client *c, int64_t id);

/* words.c */

/* As it is on the wire. */
const char *rtbc_via_name(enum rtb_via via);

/* outcome.c */

enum { RTBC_NAME_SIZE = RTBC_SEND_ID_MAX + 1 };
/* The name of a send or question, "" when it has none; `buf` may hold it. */
const char *rtbc_send_name(const struct rtb_client *c, const struct rtbc_pending *p,
			   char buf[RTBC_NAME_SIZE]);
/* Its answer was lost with the attachment: the next one is asked. Takes `p`, which is in no list of
 * requests, but in the table. */
void rtbc_lost_add(struct rtb_client *c, struct rtbc_pending *p);
/* The answer about a lost send; one without a question is ignored. */
void rtbc_lost_answered(struct rtb_client *c, struct rtbc_pending *p, struct rtbp_val result,
			const struct rtbp_error_info *e);
void rtbc_lost_on_attach(struct rtb_client *c);
void rtbc_lost_on_detach(struct rtb_client *c);
/* Asks for those that are due. Return: as rtbc_flush(). */
int rtbc_lost_flush(struct rtb_client *c);
/* What is due: questions, and ends. In every phase. */
void rtbc_lost_tick(struct rtb_client *c, int64_t now_ms);
/* All of them end as "unknown". */
void rtbc_lost_end_all(struct rtb_client *c, const char *why);

/* replay.c */

/* Whether a request has to ask for stored messages, however equal the wishes are. */
bool rtbc_replay_is_due(const struct rtbc_topic *t);
/* The `replay` member of the next request, and whose wish it carries. */
void rtbc_replay_pack(struct rtbc_topic *t, struct rtbp_buf *b);
/* That request was sent, with the topic's serial. */
void rtbc_replay_asked(struct rtbc_topic *t);
/* Nothing that was asked for comes any more: it will be asked for again. */
void rtbc_replay_reset(struct rtbc_topic *t);
/* The same, but for what the requests from topic->first_serial on ask for. */
void rtbc_replay_restart(struct rtbc_topic *t);
/* The request with this serial was refused, and the daemon keeps what it has. */
void rtbc_replay_refused(struct rtbc_topic *t, uint64_t serial);
/* The request with this serial was answered with success: they follow. */
void rtbc_replay_answered(struct rtbc_topic *t, uint64_t serial);
/* Whether a broadcast is for this subscription, which is there; notes that it is handed over. */
bool rtbc_replay_takes(struct rtb_sub *sub, const struct rtb_broadcast *msg);
/* A broadcast has been delivered to all who take it. */
void rtbc_replay_passed(struct rtbc_topic *t, const struct rtb_broadcast *msg);
void rtbc_replay_on_gap(struct rtbc_topic *t, const struct rtb_gap *gap);
enum rtb_stored rtbc_get_stored(struct rtbp_val params);
/* Notifications. */
void rtbc_on_replay(struct rtb_client *c, struct rtbp_val params);
void rtbc_on_system(struct rtb_client *c, struct rtbp_val params);
