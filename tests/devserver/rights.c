/* SPDX-License-Identifier: MIT */
/*
 * What a private channel may do. As the real server does it: the rights to read are looked up at
 * the join and at a new token, those to write when they are first needed, and all are kept until
 * the next token, whatever becomes of the policies.
 */
#include "core_int.h"

enum ds_tri ds_rights_look_up(const struct ds_core *c, const struct ds_claims *claims,
			      const char *name, enum ds_right right)
{
	if (!c->policies || ds_policies_allow(c->policies, right, claims->role, claims->sub, name))
		return DS_YES;
	return DS_NO;
}

bool ds_rights_read(const struct ds_core *c, struct ds_rights *r, bool private,
		    const struct ds_claims *claims, const char *name, bool presence)
{
	*r = (struct ds_rights){ { DS_UNASKED } };
	if (!private)
		return true;
	r->of[DS_READ] = ds_rights_look_up(c, claims, name, DS_READ);
	if (presence)
		r->of[DS_PRESENCE_READ] = ds_rights_look_up(c, claims, name, DS_PRESENCE_READ);
	return r->of[DS_READ] == DS_YES || r->of[DS_PRESENCE_READ] == DS_YES;
}

static bool lost(const struct ds_rights *old, const struct ds_rights *now, enum ds_right right)
{
	return old->of[right] == DS_YES && now->of[right] == DS_NO;
}

bool ds_rights_lost(const struct ds_rights *old, const struct ds_rights *now)
{
	return lost(old, now, DS_READ) || lost(old, now, DS_PRESENCE_READ);
}

bool ds_rights_ask(const struct ds_core *c, struct ds_channel *ch, enum ds_right right)
{
	enum ds_tri *tri = &ch->rights.of[right];

	if (!ch->private)
		return true;
	if (*tri == DS_UNASKED)
		*tri = ds_rights_look_up(c, &ch->claims, ch->name, right);
	return *tri == DS_YES;
}

bool ds_rights_has(const struct ds_channel *ch, enum ds_right right)
{
	return !ch->private || ch->rights.of[right] == DS_YES;
}
