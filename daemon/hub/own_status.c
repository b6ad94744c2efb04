/* SPDX-License-Identifier: MIT */
/* own_status: how it stands with the daemon's own token, told; and what clients with the right `admin`
 * may ask for: another token, another connection. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

static void copy(char *to, size_t size, const char *from)
{
	hub_copy_text((struct rtbp_str){ from ? from : "", from ? strlen(from) : 0 }, to, size);
}

bool own_has_status(const struct hub *hub)
{
	return hub->own.status.source[0] != '\0';
}

void hub_set_token_status(struct hub *hub, const struct hub_token_status *st)
{
	struct own_status *own = &hub->own.status;

	copy(own->source, sizeof(own->source), st->source);
	copy(own->state, sizeof(own->state), st->state);
	copy(own->role, sizeof(own->role), st->role);
	copy(own->code, sizeof(own->code), st->code);
	copy(own->text, sizeof(own->text), st->text);
	own->since_wall_ms = st->since_wall_ms;
	own->ends_wall_ms = st->ends_wall_ms;
	own->next_try_boot_ms = st->next_try_ms < 0
					? UINT64_MAX
					: clock_boot(hub->clock) + (uint64_t)st->next_try_ms;
	/* Who gets the token knows best why there is none. */
	if (hub->park_own.lasts && own->text[0])
		copy(hub->park_own.text, sizeof(hub->park_own.text), own->text);
	report_line(hub);
	if (st->next_try_ms != 0)
		refreshes_answer(hub);
	joins_run(hub);
	hub_wake(hub);
}

void own_status_pack(const struct hub *hub, struct rtbp_buf *b)
{
	const struct own_status *own = &hub->own.status;
	uint64_t now = clock_boot(hub->clock), at = own->next_try_boot_ms;
	size_t map = rtbp_pack_map_begin(b);
	uint16_t n = 3;

	rtbp_pack_field_text(b, RTBP_F_SOURCE, own->source);
	rtbp_pack_field_text(b, RTBP_F_STATE, own->state);
	rtbp_pack_field_uint(b, RTBP_F_SINCE, (uint64_t)own->since_wall_ms);
	if (own->role[0]) {
		rtbp_pack_field_text(b, RTBP_F_ROLE, own->role);
		n++;
	}
	if (own->ends_wall_ms >= 0) {
		rtbp_pack_field_uint(b, RTBP_F_EXPIRES, (uint64_t)(own->ends_wall_ms / 1000));
		n++;
	}
	if (at != UINT64_MAX) {
		rtbp_pack_field_uint(b, RTBP_F_NEXT_TRY_MS, at > now ? at - now : 0);
		n++;
	}
	if (own->code[0]) {
		rtbp_pack_field_text(b, RTBP_F_CODE, own->code);
		n++;
	}
	if (own->text[0]) {
		rtbp_pack_field_text(b, RTBP_F_TEXT, own->text);
		n++;
	}
	rtbp_pack_map_end(b, map, n);
}

/* When it ends matters while another one does not come. */
void own_status_line(const struct hub *hub, char *ret, size_t size)
{
	const struct own_status *own = &hub->own.status;
	int64_t left_s = own->ends_wall_ms / 1000 - hub_wall_s(hub);
	char end[64] = "";

	ret[0] = '\0';
	if (!own_has_status(hub) || (!own->text[0] && strcmp(own->state, "good") == 0))
		return;
	if (own->ends_wall_ms >= 0 && left_s > 0)
		snprintf(end, sizeof(end), "ends in %" PRId64 " %s, ",
			 left_s < 120 ? left_s : (left_s + 59) / 60, left_s < 120 ? "s" : "min");
	snprintf(ret, size, "; token: %s%s%s%s", end, own->state, own->text[0] ? ": " : "",
		 own->text);
}

/* ---- who waits for another token ---- */

void refresh_asked_free(struct refresh_asked *r)
{
	struct hub *hub = r->peer->hub;

	timer_disarm(&hub->timers, &r->timer);
	TAILQ_REMOVE(&hub->own.refreshes, r, entry);
	peer_request_done(r->peer, &r->request);
	free(r);
}

void refreshes_answer(struct hub *hub)
{
	struct refresh_asked *r;
	struct rtbp_buf *b;
	size_t begin;

	while ((r = TAILQ_FIRST(&hub->own.refreshes))) {
		if (r->request.wants_answer && r->peer->state == PEER_READY) {
			b = hub_scratch(hub);
			begin = rtbp_msg_begin_result(b, r->request.id);
			own_status_pack(hub, b);
			(void)rtbp_msg_end(b, begin);
			peer_send_scratch(r->peer);
		}
		refresh_asked_free(r);
	}
}

static void refresh_late(void *ctx)
{
	struct refresh_asked *r = ctx;

	peer_answer_error(r->peer, &r->request, RTBP_M_REFRESH_TOKEN, RTBP_E_TIMEOUT,
			  "the attempt to get another token has not ended yet", -1);
	refresh_asked_free(r);
}

/* ---- what is common to both wishes ---- */

static const char not_admin[] = "this needs the right admin ([access] rule)";

static const char *who_may_not(struct peer *p, enum rtbp_error *ret_code)
{
	*ret_code = RTBP_E_FORBIDDEN;
	if (!access_admin(p))
		return not_admin;
	*ret_code = RTBP_E_SHUTDOWN;
	return p->hub->drain != HUB_RUNNING ? "the daemon is stopping" : NULL;
}

/* Of all clients together: each such wish costs the server, and the others, something. -1: it may
 * be carried out now. */
static int64_t left_of_pause(const struct hub *hub, uint64_t again_ms)
{
	return hub_now(hub) < again_ms ? (int64_t)(again_ms - hub_now(hub)) : -1;
}

static const char asked_just_now[] =
	"somebody has asked for it within the last 10 s; see `rtbridge status` for what came of it";

/* ---- refresh_token ---- */

/* Return: NULL, or what is wrong. */
static const char *wrong_with(struct peer *p, struct rtbp_val params, uint64_t *ret_ms,
			      enum rtbp_error *ret_code)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	const struct request *other;
	const char *text = who_may_not(p, ret_code);

	*ret_ms = REFRESH_TIMEOUT_MS;
	if (text)
		return text;
	*ret_code = RTBP_E_BAD_REQUEST;
	if (v.p && (!rtbp_get_uint(v, ret_ms) || *ret_ms > SUBSCRIBE_TIMEOUT_MAX_MS))
		return "timeout_ms is an integer from 0 to 300000";
	*ret_code = RTBP_E_UNSUPPORTED;
	if (!p->hub->conf.has_own_token || !p->hub->ops->token_wanted || !own_has_status(p->hub))
		return "the daemon goes with the API key: it has no token of its own that could "
		       "be refreshed";
	*ret_code = RTBP_E_BUSY;
	TAILQ_FOREACH(other, &p->requests, entry) {
		if (other->kind == REQUEST_REFRESH)
			return "this client has asked for it already";
	}
	return left_of_pause(p->hub, p->hub->own.refresh_again_ms) >= 0 ? asked_just_now : NULL;
}

void refresh_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct hub *hub = p->hub;
	enum rtbp_error code;
	uint64_t timeout_ms;
	const char *text = wrong_with(p, params, &timeout_ms, &code);
	struct refresh_asked *r = text ? NULL : calloc(1, sizeof(*r));

	if (!r) {
		peer_answer_error(p, &now, RTBP_M_REFRESH_TOKEN, code, text ? text : "no memory",
				  text == asked_just_now
					  ? left_of_pause(hub, hub->own.refresh_again_ms)
					  : -1);
		return;
	}
	r->peer = p;
	timer_init(&r->timer, refresh_late, r);
	timer_arm(&hub->timers, &r->timer, hub_now(hub) + timeout_ms);
	peer_request_add(p, &r->request, REQUEST_REFRESH, id, wants_answer);
	TAILQ_INSERT_TAIL(&hub->own.refreshes, r, entry);
	hub->own.refresh_again_ms = hub_now(hub) + ASKED_PAUSE_MS;
	log_notice("another token is asked for by client %" PRIu64 " (uid %u)", p->session,
		   p->cred.uid);
	hub->ops->token_wanted(hub->ctx);
}

/* ---- reconnect ---- */

/* Whatever was given up, waited for or held against somebody is tried anew. */
static void lift_all(struct hub *hub)
{
	struct join *j;

	verdicts_forget_topics(&hub->refused);
	hub->park_all = hub->park_public = (struct park){ 0 };
	if (!hub->park_own.lasts)
		hub->park_own = (struct park){ 0 };
	for (unsigned i = 0; i < LINKS_MAX; i++)
		hub->links[i].park = (struct park){ 0 };
	hub->probation.no_link_until_ms = 0;
	hub->post_retry_at_ms = 0;
	joins_lift(hub, NULL, true);
	RB_FOREACH(j, join_id_tree, &hub->joins) {
		if (j->state == JOIN_WAITING && !j->trial)
			j->retry_at_ms = 0;
	}
}

void reconnect_request(struct peer *p, uint32_t id, bool wants_answer)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct hub *hub = p->hub;
	int64_t pause_ms = left_of_pause(hub, hub->own.reconnect_again_ms);
	enum rtbp_error code;
	const char *text = who_may_not(p, &code);
	struct rtbp_buf *b;
	size_t begin;

	if (text) {
		peer_answer_error(p, &now, RTBP_M_RECONNECT, code, text, -1);
		return;
	}
	if (pause_ms >= 0) {
		peer_answer_error(p, &now, RTBP_M_RECONNECT, RTBP_E_BUSY, asked_just_now, pause_ms);
		return;
	}
	hub->own.reconnect_again_ms = hub_now(hub) + ASKED_PAUSE_MS;
	log_notice("connecting anew: client %" PRIu64 " (uid %u) asked for it", p->session,
		   p->cred.uid);
	lift_all(hub);
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (hub->links[i].wanted)
			session_reconnect(hub->links[i].session, SESSION_FAULT_CLOSED,
					  "it was asked for (rtbridge reconnect)");
	}
	(void)link_shared(hub); /* it may have been idle */
	joins_run(hub);
	if (!wants_answer)
		return;
	b = hub_scratch(hub);
	begin = rtbp_msg_begin_result(b, id);
	report_pack_connection(hub, NULL, b);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}
