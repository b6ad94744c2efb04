/* SPDX-License-Identifier: MIT */
/* What --check and the start warn of. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "app/conf.h"
#include "app/url.h"

/* Each says its one thing, or returns false. */
typedef bool (*warning_fn)(const struct conf *conf, int64_t now_s, struct conf_text *ret);

static bool in_clear(const struct conf *conf, int64_t now_s, struct conf_text *ret)
{
	(void)now_s;
	if (conf->tls || url_host_is_local(conf->host))
		return false;
	/* The address decides when it is looked up: wire refuses what is not loopback. */
	if (conf->allow_insecure)
		snprintf(
			ret->text, sizeof(ret->text),
			"[upstream] url: without TLS (allow_insecure) the key, the clients' tokens "
			"and all messages go in clear to %.200s; write https://",
			conf->host);
	else
		snprintf(ret->text, sizeof(ret->text),
			 "[upstream] url: without TLS the key would go in clear, so there is no "
			 "connection unless %.200s is this machine; write https:// (or "
			 "allow_insecure = yes)",
			 conf->host);
	return true;
}

/* What the daemon's own session is renewed with. */
static bool auth_in_clear(const struct conf *conf, int64_t now_s, struct conf_text *ret)
{
	(void)now_s;
	/* Derived from url it is said of that. */
	if (!conf->auth_url || !conf->auth.host || conf->auth.tls ||
	    url_host_is_local(conf->auth.host))
		return false;
	if (conf->allow_insecure)
		snprintf(
			ret->text, sizeof(ret->text),
			"[upstream] auth_url: without TLS (allow_insecure) the key and the refresh "
			"token go in clear to %.200s, and who reads them has the session; write "
			"https://",
			conf->auth.host);
	else
		snprintf(ret->text, sizeof(ret->text),
			 "[upstream] auth_url: without TLS the refresh token would go in clear, so "
			 "it is not renewed unless %.200s is this machine; write https:// (or "
			 "allow_insecure = yes)",
			 conf->auth.host);
	return true;
}

static bool binds_nobody(const struct conf *conf, int64_t now_s, struct conf_text *ret)
{
	(void)now_s;
	if (conf->key_kind != CONF_KEY_SERVICE_ROLE && conf->key_kind != CONF_KEY_SECRET)
		return false;
	snprintf(
		ret->text, sizeof(ret->text),
		"[upstream] apikey_file: the key is %s, which no policy binds: who goes with it "
		"may all there; use the anon (publishable) key as apikey, and let the clients that "
		"need more give a token of their own",
		conf->key_kind == CONF_KEY_SECRET ? "a secret one (sb_secret_...)"
						  : "of the role service_role");
	return true;
}

static bool is_odd(const struct conf *conf, int64_t now_s, struct conf_text *ret)
{
	(void)now_s;
	if (conf->key_kind != CONF_KEY_ODD)
		return false;
	snprintf(ret->text, sizeof(ret->text),
		 "[upstream] apikey_file: the key begins with no sb_, and as a JSON Web Token it "
		 "%s; "
		 "the server will refuse it: put the whole anon (publishable) key into the file",
		 conf->key_odd);
	return true;
}

static bool has_expired(const struct conf *conf, int64_t now_s, struct conf_text *ret)
{
	time_t exp = (time_t)conf->key_exp_s;
	char date[32];
	struct tm tm;

	if (!conf->key_exp_s || conf->key_exp_s > now_s || !gmtime_r(&exp, &tm) ||
	    strftime(date, sizeof(date), "%F", &tm) == 0)
		return false;
	snprintf(ret->text, sizeof(ret->text),
		 "[upstream] apikey_file: the key has expired on %s; the server will refuse it",
		 date);
	return true;
}

/* Rules are a sign of several users. */
static bool shares_one_link(const struct conf *conf, int64_t now_s, struct conf_text *ret)
{
	(void)now_s;
	if (conf->max_links > 1 || conf->n_rules + conf->n_identities == 0)
		return false;
	snprintf(ret->text, sizeof(ret->text),
		 "[limits] links: with 1, users' tokens and joins that may fail are tried on the "
		 "connection of all, and each that the server refuses stops everybody for 5 s; "
		 "links = 2 keeps them apart");
	return true;
}

bool conf_warning(const struct conf *conf, unsigned i, int64_t now_s, struct conf_text *ret)
{
	static const warning_fn warnings[] = { in_clear, auth_in_clear, binds_nobody,
					       is_odd,   has_expired,   shares_one_link };

	for (size_t k = 0; k < sizeof(warnings) / sizeof(*warnings); k++) {
		if (warnings[k](conf, now_s, ret) && i-- == 0)
			return true;
	}
	return false;
}
