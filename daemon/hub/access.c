/* SPDX-License-Identifier: MIT */
/* access: what the rules say of a peer, and what ends when they become others. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "hub/acl.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

static struct acl_who who_is(const struct peer *p)
{
	return (struct acl_who){
		.uid = p->cred.uid,
		.gid = p->cred.gid,
		.groups = p->cred.groups,
		.n_groups = p->cred.n_groups,
		.name = p->cred.name,
	};
}

bool access_topic(const struct peer *p, unsigned rights, struct rtbp_str topic)
{
	struct acl_who who = who_is(p);

	return !p->hub->conf.acl || !rights || acl_topic(p->hub->conf.acl, &who, rights, topic);
}

const char *access_refusal(const struct peer *p, unsigned rights, struct rtbp_str topic)
{
	static const struct {
		unsigned right;
		const char *text;
	} refusals[] = {
		{ ACL_READ, "the access rules do not allow this user to read this topic" },
		{ ACL_WRITE, "the access rules do not allow this user to write to this topic" },
		{ ACL_PRESENCE,
		  "the access rules do not allow this user the presence of this topic" },
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		if (!access_topic(p, rights & refusals[i].right, topic))
			return refusals[i].text;
	}
	return NULL;
}

unsigned access_rights(bool broadcasts, bool presence, struct rtbp_str topic)
{
	unsigned rights = (broadcasts ? ACL_READ : 0) | (presence ? ACL_PRESENCE : 0);

	return rights || topic.size == 0 ? rights : ACL_READ;
}

bool access_row(const struct peer *p, struct rtbp_val schema, struct rtbp_val table)
{
	struct acl_who who = who_is(p);
	struct rtbp_str s = { "*", 1 }, t = { "*", 1 };

	if (!p->hub->conf.acl)
		return true;
	/* What does not say where it comes from may come from anywhere. */
	(void)rtbp_get_str(schema, &s);
	(void)rtbp_get_str(table, &t);
	return acl_table(p->hub->conf.acl, &who, s, t);
}

bool access_binding(const struct peer *p, const char *text, size_t size)
{
	CLEANUP(rtbp_buf_done) struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_str schema = { "public", 6 }, table = { "*", 1 };
	struct acl_who who = who_is(p);
	struct rtbp_json_fault fault;
	struct rtbp_val v;

	if (!p->hub->conf.acl)
		return true;
	if (rtbp_json_to_mp(text, size, 4, &b, &fault) != 0)
		return false;
	v = (struct rtbp_val){ b.data, b.size };
	(void)rtbp_get_str(rtbp_find(v, "schema", 6), &schema);
	(void)rtbp_get_str(rtbp_find(v, "table", 5), &table);
	return acl_table(p->hub->conf.acl, &who, schema, table);
}

bool access_admin(const struct peer *p)
{
	struct acl_who who = who_is(p);

	return !p->hub->conf.acl || acl_admin(p->hub->conf.acl, &who);
}

bool access_needs_token(const struct peer *p)
{
	struct acl_who who = who_is(p);

	return p->hub->conf.acl && acl_needs_own_identity(p->hub->conf.acl, &who);
}

bool access_may_attach(const struct peer *p)
{
	struct acl_who who = who_is(p);

	return !p->hub->conf.acl || acl_may_attach(p->hub->conf.acl, &who);
}

/* ---- other rules ---- */

static const char changed[] = "the access rules have changed, and do not allow it any more";

static bool may_stay(const struct peer *p, const struct chan *ch, unsigned rights)
{
	return access_topic(p, rights, ch->topic) && (ch->identity || !access_needs_token(p));
}

static bool is_gone(struct peer *p, const struct chan *ch, unsigned rights, const void *ctx)
{
	(void)ctx;
	return !may_stay(p, ch, rights);
}

static void apply(struct peer *p)
{
	struct sub *s;

	ends_apply(p, is_gone, NULL, RTBP_E_FORBIDDEN, "forbidden", changed);
	TAILQ_FOREACH(s, &p->subs, in_peer)
		wants_check_access(s);
}

void hub_set_acl(struct hub *hub, const struct acl *acl)
{
	const struct acl *old = hub->conf.acl;
	struct peer *p;
	unsigned n;

	hub->conf.acl = acl;
	/* Of whom the sender is gone: nobody can be asked any more whether it may. */
	n = old && acl && acl_is_same(old, acl) ? 0 : sends_reject_orphans(hub);
	if (n)
		log_warning("the access rules have changed: %u messages that were to be sent for "
			    "clients that have gone are not sent",
			    n);
	TAILQ_FOREACH(p, &hub->peers, entry) {
		if (p->state < PEER_CLOSING && access_may_attach(p)) {
			apply(p);
			continue;
		}
		/* What it has said would go on without it; it may be ending already. */
		sends_reject(p, is_gone, NULL, RTBP_E_FORBIDDEN, changed);
		peer_end(p, RTBP_E_DENIED, changed, true);
	}
	/* Who has the daemon read its rules anew may have changed others elsewhere, too. */
	verdicts_forget_topics(&hub->refused);
	joins_lift(hub, NULL, true);
	joins_run(hub);
	hub_wake(hub);
}
