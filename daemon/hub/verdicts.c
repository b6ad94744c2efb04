/* SPDX-License-Identifier: MIT */
/* verdicts: what the server has said about a join, for as long as that is worth something. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mix.h"
#include "hub/impl.h"

/* What the topic of a verdict about a token begins with. Topics of clients have no control
 * characters. */
enum { OF_TOKEN = '\x01' };

int verdict_key_compare(struct verdict *a, struct verdict *b)
{
	const struct verdict_key *x = &a->key, *y = &b->key;

	if (x->uid != y->uid)
		return x->uid < y->uid ? -1 : 1;
	if (x->identity != y->identity)
		return x->identity < y->identity ? -1 : 1;
	if (x->is_private != y->is_private)
		return x->is_private ? 1 : -1;
	return hub_compare_str(x->topic, y->topic);
}

RB_GENERATE(verdict_tree, verdict, by_key, verdict_key_compare)

void verdicts_init(struct verdicts *v, bool are_refusals)
{
	*v = (struct verdicts){ .are_refusals = are_refusals };
	RB_INIT(&v->tree);
	TAILQ_INIT(&v->ages);
}

static void drop(struct verdicts *v, struct verdict *e)
{
	RB_REMOVE(verdict_tree, &v->tree, e);
	TAILQ_REMOVE(&v->ages, e, by_age);
	v->n--;
	free(e->topic);
	free(e);
}

void verdicts_done(struct verdicts *v)
{
	while (!TAILQ_EMPTY(&v->ages))
		drop(v, TAILQ_FIRST(&v->ages));
}

static struct verdict *find(const struct verdicts *v, const struct verdict_key *key)
{
	struct verdict wanted = { .key = *key };

	return RB_FIND(verdict_tree, (struct verdict_tree *)&v->tree, &wanted);
}

/* Who fills the memory pushes out its own. */
static void make_room(struct verdicts *v, uid_t by)
{
	struct verdict *e, *oldest = NULL;
	unsigned n = 0;

	TAILQ_FOREACH(e, &v->ages, by_age) {
		if (e->by != by)
			continue;
		oldest = oldest ? oldest : e;
		n++;
	}
	if (n >= (v->are_refusals ? REFUSALS_OF_USER_MAX : PROVEN_OF_USER_MAX))
		drop(v, oldest);
	else if (v->n >= VERDICTS_MAX)
		drop(v, TAILQ_FIRST(&v->ages));
}

static struct verdict *add(struct verdicts *v, const struct verdict_key *key, uid_t by)
{
	struct verdict *e = calloc(1, sizeof(*e));

	if (e)
		e->topic = strndup(key->topic.p, key->topic.size);
	if (!e || !e->topic) {
		free(e);
		return NULL;
	}
	make_room(v, by);
	e->key = *key;
	e->by = by;
	e->key.topic.p = e->topic;
	RB_INSERT(verdict_tree, &v->tree, e);
	TAILQ_INSERT_TAIL(&v->ages, e, by_age);
	v->n++;
	return e;
}

void verdicts_put(struct verdicts *v, const struct verdict_key *key, uid_t by, uint64_t now,
		  const char *code, const char *text)
{
	struct verdict *e = find(v, key);

	if (!e && !(e = add(v, key, by)))
		return;
	TAILQ_REMOVE(&v->ages, e, by_age);
	TAILQ_INSERT_TAIL(&v->ages, e, by_age);
	if (!v->are_refusals) {
		e->until_ms = now + PROVEN_MS;
	} else {
		if (!e->pause_ms || now - e->at_ms > REFUSED_FORGET_MS)
			e->pause_ms = REFUSED_MIN_MS;
		else if (now >= e->until_ms) /* asked anew; not the same refusal once more */
			e->pause_ms =
				e->pause_ms < REFUSED_MAX_MS / 2 ? e->pause_ms * 2 : REFUSED_MAX_MS;
		e->until_ms = now + e->pause_ms;
	}
	e->at_ms = now;
	snprintf(e->code, sizeof(e->code), "%s", code);
	snprintf(e->text, sizeof(e->text), "%s", text);
}

const struct verdict *verdicts_find(const struct verdicts *v, const struct verdict_key *key,
				    uint64_t now)
{
	const struct verdict *e = find(v, key);

	return e && now < e->until_ms ? e : NULL;
}

void verdicts_forget(struct verdicts *v, const struct verdict_key *key)
{
	struct verdict *e = find(v, key);

	if (e)
		drop(v, e);
}

void verdicts_forget_identity(struct verdicts *v, uint64_t identity)
{
	struct verdict *e, *next;

	for (e = TAILQ_FIRST(&v->ages); e; e = next) {
		next = TAILQ_NEXT(e, by_age);
		if (e->key.identity == identity && e->topic[0] != OF_TOKEN)
			drop(v, e);
	}
}

void verdicts_forget_topics(struct verdicts *v)
{
	struct verdict *e, *next;

	for (e = TAILQ_FIRST(&v->ages); e; e = next) {
		next = TAILQ_NEXT(e, by_age);
		if (e->topic[0] != OF_TOKEN)
			drop(v, e);
	}
}

struct verdict_key verdict_key_of_token(const struct hub *hub, struct rtbp_str bytes, uid_t uid,
					char room[48])
{
	uint64_t a = mix_bytes(hub->row_seed, bytes.p, bytes.size);

	snprintf(room, 48, "%c%016" PRIx64 "%016" PRIx64, OF_TOKEN, a,
		 mix_bytes(~hub->row_seed, bytes.p, bytes.size));
	return (struct verdict_key){ .uid = uid, .topic = { room, strlen(room) } };
}

void verdict_name_token(const struct hub *hub, const struct token *t, char ret[48])
{
	(void)verdict_key_of_token(
		hub, (struct rtbp_str){ secret_bytes(t->bytes), secret_size(t->bytes) }, t->uid,
		ret);
}
