/* SPDX-License-Identifier: MIT */
/* Who may open a socket: serializer version, tenant, API key, in the real server's order. */
#include "core_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "jwt.h"

static struct ds_refusal refuse(struct ds_core *c, int status, const char *error, int64_t delay_ms)
{
	struct ds_refusal r = { .status = status, .delay_ms = delay_ms, .retry_after_s = -1 };

	c->n_refused++;
	snprintf(r.error, sizeof(r.error), "%s", error);
	return r;
}

/* Three numbers with dots, the first two 1.0 or 2.0. */
static bool vsn_ok(struct ds_str vsn)
{
	size_t i = 4;

	if (!vsn.p)
		return true;
	if (vsn.n < 5 || (memcmp(vsn.p, "1.0.", 4) != 0 && memcmp(vsn.p, "2.0.", 4) != 0))
		return false;
	while (i < vsn.n && vsn.p[i] >= '0' && vsn.p[i] <= '9')
		i++;
	return i == vsn.n;
}

enum ds_tenant ds_tenant_of(const struct ds_core *c, struct ds_str host)
{
	struct ds_str label = { host.p, 0 };

	while (label.n < host.n && host.p[label.n] != '.' && host.p[label.n] != ':')
		label.n++;
	if (c->conf.suspended && ds_str_eq(label, ds_str(c->conf.suspended)))
		return DS_TENANT_SUSPENDED;
	if (!c->conf.tenant || ds_str_eq(label, ds_str(c->conf.tenant)))
		return DS_TENANT_OK;
	return DS_TENANT_UNKNOWN;
}

static const char *default_error(int status)
{
	switch (status) {
	case 401:
		return "Token has expired";
	case 403:
		return "Realtime was disabled for this tenant";
	case 404:
		return "Tenant not found";
	case 429:
		return "Too many connected users";
	case 500:
		return "Error connecting to Realtime";
	default:
		return "";
	}
}

/* Let in by rule or not, what it is told of that is wrong. */
static struct ds_refusal let_in(struct ds_core *c)
{
	struct ds_str none = { NULL, 0 };
	struct ds_refusal r = { .status = 0 };
	struct ds_rule_hit hit;

	if (ds_rules_use(&c->rules, DS_RULE_BAD_UPGRADE, none, none, &hit)) {
		snprintf(r.bad, sizeof(r.bad), "%s", hit.text);
		free(hit.text);
	}
	return r;
}

static bool refused_by_rule(struct ds_core *c, struct ds_refusal *ret)
{
	struct ds_str none = { NULL, 0 };
	struct ds_rule_hit hit;

	if (ds_rules_use(&c->rules, DS_RULE_HANG_UPGRADE, none, none, &hit)) {
		*ret = refuse(c, 0, "", 0);
		ret->hang = true;
		free(hit.text);
		return true;
	}
	if (!ds_rules_use(&c->rules, DS_RULE_REFUSE_UPGRADE, none, none, &hit))
		return false;
	*ret = refuse(c, hit.status, hit.text ? hit.text : default_error(hit.status), hit.ms);
	ret->retry_after_s = hit.retry_after_s;
	free(hit.text);
	return true;
}

struct ds_refusal ds_core_upgrade(struct ds_core *c, struct ds_str host, struct ds_str vsn,
				  struct ds_str apikey)
{
	int64_t exp_ms, delay = c->conf.connect_error_delay_ms;
	const char *limit;
	struct ds_refusal r;

	if (refused_by_rule(c, &r))
		return r;
	if (!vsn_ok(vsn))
		return refuse(c, 403, "", 0);
	if (ds_tenant_of(c, host) == DS_TENANT_UNKNOWN)
		return refuse(c, 404, "Tenant not found", delay);
	if (ds_tenant_of(c, host) == DS_TENANT_SUSPENDED)
		return refuse(c, 403, "Realtime was disabled for this tenant", delay);
	if (!apikey.p)
		return refuse(c, 401, "API key is missing", delay);
	switch (ds_jwt_check(ds_json_trim(apikey), c->conf.jwt_secret, c->wall_ms, &exp_ms)) {
	case DS_JWT_OK:
		limit = ds_limit_upgrade(c);
		return limit ? refuse(c, 429, limit, delay) : let_in(c);
	case DS_JWT_MALFORMED:
		return refuse(c, 401, "The token provided is not a valid JWT", delay);
	case DS_JWT_SIGNER:
		return refuse(c, 401,
			      "Failed to generate JWT signer, check your JWT secret or JWKS "
			      "configuration",
			      delay);
	case DS_JWT_SIGNATURE:
		return refuse(c, 401, "Failed to validate JWT signature", delay);
	case DS_JWT_EXPIRED:
		return refuse(c, 401, "Token has expired", delay);
	case DS_JWT_CLAIMS:
		return refuse(c, 401, "Fields `role` and `exp` are required in JWT", delay);
	case DS_JWT_EXP_TYPE:
		break;
	}
	return refuse(c, 500, "Error connecting to Realtime", delay);
}
