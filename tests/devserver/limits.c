/* SPDX-License-Identifier: MIT */
/* What a tenant may have: users, joins, messages and presence of all sockets together. */
#include "core_int.h"

static struct ds_rate *look(struct ds_core *c, struct ds_rate *r, unsigned limit)
{
	ds_rate_look(r, limit, c->conf.rate_tick_ms, c->mono_ms);
	return r;
}

static bool users_full(const struct ds_core *c)
{
	return c->conf.users_max > 0 && c->n_users >= c->conf.users_max;
}

const char *ds_limit_upgrade(struct ds_core *c)
{
	const struct ds_rate *joins = look(c, &c->joins, c->conf.joins_max);

	if (users_full(c))
		return "Too many connected users";
	return joins->triggered ? "Too many joins per second" : NULL;
}

const char *ds_limit_join(struct ds_core *c, const struct ds_socket *s)
{
	struct ds_rate *joins = look(c, &c->joins, c->conf.joins_max);

	if (!s->counted && users_full(c))
		return "ConnectionRateLimitReached: Too many connected users";
	if (joins->triggered)
		return "ClientJoinRateLimitReached: Too many joins per second";
	joins->count++;
	return s->n_channels >= c->conf.channels_max ? "ChannelRateLimitReached: Too many channels"
						     : NULL;
}

void ds_limit_joined(struct ds_core *c, struct ds_socket *s)
{
	look(c, &c->events, c->conf.events_max);
	look(c, &c->presences, c->conf.presences_max);
	c->n_users += !s->counted;
	s->counted = true;
}

void ds_limit_gone(struct ds_core *c, struct ds_socket *s)
{
	c->n_users -= s->counted;
	s->counted = false;
}

bool ds_limit_event(struct ds_core *c)
{
	struct ds_rate *events = look(c, &c->events, c->conf.events_max);

	events->count++;
	return !events->triggered;
}

bool ds_limit_request(struct ds_core *c, struct ds_buf *headers)
{
	struct ds_rate *requests = look(c, &c->requests, c->conf.events_max);
	unsigned limit = c->conf.events_max, average;

	look(c, &c->events, limit);
	requests->count++;
	if (limit == 0)
		return true;
	average = (unsigned)requests->average;
	ds_buf_fmt(headers,
		   "x-rate-rolling: %u\r\nx-rate-limit: %u\r\nx-rate-limit-remaining: %d\r\n",
		   average, limit, (int)limit - (int)average);
	return average < limit;
}

const char *ds_limit_posted(struct ds_core *c, unsigned n)
{
	double average = look(c, &c->events, c->conf.events_max)->average;
	unsigned limit = c->conf.events_max;

	if (limit == 0)
		return NULL;
	if (n ? average > limit : average >= limit)
		return "You have exceeded your rate limit";
	if (n + average > limit)
		return "Too many messages to broadcast, please reduce the batch size";
	return NULL;
}

bool ds_limit_presence(struct ds_core *c)
{
	struct ds_rate *presences = look(c, &c->presences, c->conf.presences_max);

	if (c->conf.presences_max > 0 && presences->average > c->conf.presences_max)
		return false;
	presences->count++;
	return true;
}

bool ds_limit_flooded(struct ds_core *c)
{
	return look(c, &c->events, c->conf.events_max)->triggered;
}

void ds_limit_diffs(struct ds_core *c, unsigned n)
{
	look(c, &c->presences, c->conf.presences_max)->count += n;
}

/* Looking from outside begins no counter. */
static void add_rate(struct ds_core *c, struct ds_buf *b, const char *name, struct ds_rate *r,
		     unsigned limit)
{
	if (r->begun)
		look(c, r, limit);
	ds_buf_fmt(b, "\"%s\":{\"average\":%.3f,\"triggered\":%s,\"count\":%llu},", name,
		   r->average, r->triggered ? "true" : "false", (unsigned long long)r->count);
}

void ds_limit_status(struct ds_core *c, struct ds_buf *b)
{
	ds_buf_fmt(b, "\"users\":%u,\"rates\":{", c->n_users);
	add_rate(c, b, "joins", &c->joins, c->conf.joins_max);
	add_rate(c, b, "events", &c->events, c->conf.events_max);
	add_rate(c, b, "presence", &c->presences, c->conf.presences_max);
	b->len--;
	ds_buf_text(b, "},");
}
