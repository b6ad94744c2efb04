/* SPDX-License-Identifier: MIT */
/*
 * place: the server takes fewer channels on a connection than the configuration says. A channel that
 * it refused for that goes to another connection, as one does that finds the configured number
 * reached; where there is none, it is refused, and tried again when a channel has been left. Once the
 * number is known nothing is sent to be refused for it: each refusal costs the connection 5 s.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

enum { PLACE_MS = 60000 }; /* more than until the turn's end */

static const char too_many[] = "too_many_channels";
/* It begins as the server's words do: trials are judged by them. */
static const char no_place[] =
	"Too many channels: the server takes no more on this connection, and no "
	"other has a place";

static unsigned n_joined(struct link *link)
{
	struct join *j;
	unsigned n = 0;

	RB_FOREACH(j, join_topic_tree, &link->joins)
		n += j->state == JOIN_JOINED;
	return n;
}

/* At the server, or about to be. What is being left is left before the next join is read. */
static unsigned n_taken(struct link *link)
{
	struct join *j;
	unsigned n = 0;

	RB_FOREACH(j, join_topic_tree, &link->joins)
		n += j->state == JOIN_JOINED || j->state == JOIN_JOINING ||
		     (j->state == JOIN_WAITING && j->live);
	return n;
}

unsigned link_max(const struct link *link)
{
	unsigned max = link->hub->conf.max_channels;

	return link->max_here && link->max_here < max ? link->max_here : max;
}

bool place_is_full(struct link *link)
{
	return link->max_here && n_taken(link) >= link->max_here;
}

void place_seek(struct join *j)
{
	j->needs_place = j->hub->seeks_places = true;
	hub_wake(j->hub);
}

bool place_wanted(struct join *j, const char *text)
{
	unsigned n = n_joined(j->link);

	/* It was more before: then one that is just ending was counted. */
	if (n > j->link->max_here)
		j->link->max_here = n;
	if (!j->link->max_here)
		j->link->max_here = 1;
	if (!chan_of_join(j) || !j->ops->wanted(j))
		return false;
	j->live = false;
	join_set_reason(j, too_many, text);
	j->retry_at_ms = hub_now(j->hub) + PLACE_MS;
	join_queue(j);
	place_seek(j);
	return true;
}

/* Return: false: there is no place, or no memory. */
static bool place_anew(struct join *j)
{
	struct chan *ch = chan_of_join(j);
	char why[JOIN_WHY_MAX], topic[101];
	struct join *next;
	struct link *link;
	const char *text;

	hub_copy_text(ch->topic, topic, sizeof(topic));
	snprintf(why, sizeof(why),
		 "%s channel %s, because the server takes no more on the connections before",
		 ch->is_private ? "private" : "public", topic);
	ch->held = true;
	link = link_place(j->hub, j->uid, NULL, ch->topic, why, &text);
	next = link ? join_new(link, ch->topic, ch->is_private, ch->identity, j->ops, ch) : NULL;
	if (next) {
		join_set_cause(next, j->uid, why);
		next->is_asked = j->is_asked;
		next->had_joined = j->had_joined;
		next->gap_from_wall_ms = j->gap_from_wall_ms;
		memcpy(next->gap_cause, j->gap_cause, sizeof(next->gap_cause));
		log_notice("%s: the server takes %u channels on link %u: joined on link %u instead",
			   j->wire_topic, j->link->max_here, j->link->number, link->number);
		join_kill(j);
		ch->join = ch->slot.join = next;
	}
	ch->held = false;
	return next != NULL;
}

/* By number: what one is told may be the end of others. */
void places_run(struct hub *hub)
{
	struct join next = { .id = 0 }, *j;
	struct chan *ch;

	if (!hub->seeks_places || hub->dying)
		return;
	hub->seeks_places = false;
	while ((j = RB_NFIND(join_id_tree, &hub->joins, &next))) {
		next.id = j->id + 1;
		if (!j->needs_place)
			continue;
		j->needs_place = false;
		ch = chan_of_join(j);
		if (j->state != JOIN_WAITING || !j->ops->wanted(j))
			continue;
		if (ch && place_anew(j))
			chan_update(ch);
		else
			join_refuse_here(j, too_many, no_place);
	}
	joins_run(hub);
}

/* May it be joined on that link, which has a place? On another one than its own if that has room as
 * link_has_room() counts, and only a channel. */
static bool may_go_to(const struct join *j, struct link *link, bool has_room)
{
	return j->link == link || (has_room && chan_of_join(j) && !link_has_topic(link, j->topic));
}

static struct join *find_refused(struct link *link, bool has_room)
{
	struct join *j, *found = NULL;

	RB_FOREACH(j, join_id_tree, &link->hub->joins) {
		if (j->state != JOIN_REJECTED || strcmp(j->code, too_many) != 0 ||
		    !j->ops->wanted(j) || !may_go_to(j, link, has_room))
			continue;
		if (j->link == link)
			return j;
		found = found ? found : j;
	}
	return found;
}

void place_left(struct link *link)
{
	unsigned max = link_max(link), n_staying = 0;
	struct join *j;

	if (link->hub->dying || !link->wanted || link->is_probation || n_taken(link) >= max)
		return;
	RB_FOREACH(j, join_topic_tree, &link->joins)
		n_staying += j->state != JOIN_LEAVING;
	j = find_refused(link, n_staying < max);
	if (!j)
		return;
	join_retry(j);
	if (j->link != link)
		place_seek(j);
	link->hub->seeks_places = true; /* the queues go on then */
	hub_wake(link->hub);
}

void place_given_up(const struct join *j)
{
	if (strcmp(j->code, too_many) != 0)
		place_left(j->link);
}
