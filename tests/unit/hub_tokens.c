/* SPDX-License-Identifier: MIT */
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

static void put_base64url(struct rtbp_buf *b, const char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = 0;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (i + k < n ? (uint8_t)text[i + k] : 0);
		for (size_t k = 0; k < 4 && i * 8 + k * 6 < n * 8; k++)
			rtbp_buf_byte(b, (uint8_t)digits[v >> (18 - 6 * k) & 63]);
	}
}

const char *token_of_parts(const char *header, const char *payload, const char *signature)
{
	static struct rtbp_buf made[TOKENS];
	static unsigned next;
	struct rtbp_buf *b = &made[next++ % TOKENS];
	char *first = quoted(header), *second = quoted(payload);

	rtbp_buf_done(b);
	*b = (struct rtbp_buf)RTBP_BUF_INIT;
	put_base64url(b, first);
	rtbp_buf_byte(b, '.');
	put_base64url(b, second);
	rtbp_buf_byte(b, '.');
	put_base64url(b, signature);
	rtbp_buf_byte(b, 0);
	MUST(rtbp_buf_ok(b));
	free(first);
	free(second);
	return (const char *)b->data;
}

static const char *make(const char *header, const char *claims, int64_t exp_in_s, unsigned serial)
{
	int64_t now_s = clock_wall(&rig.clock) / 1000;
	char *payload, signature[32];
	const char *token;

	MUST(asprintf(&payload, "{%s,'exp':%" PRId64 ",'jti':'%u'}", claims, now_s + exp_in_s,
		      serial) >= 0);
	snprintf(signature, sizeof(signature), "signature %u", serial);
	token = token_of_parts(header, payload, signature);
	free(payload);
	return token;
}

const char *token_of(const char *claims, int64_t exp_in_s, unsigned serial)
{
	return make("{'alg':'HS256','typ':'JWT'}", claims, exp_in_s, serial);
}

const char *token_with_header(const char *header, const char *claims, int64_t exp_in_s)
{
	return make(header, claims, exp_in_s, 1);
}

const char *token_of_user(const char *sub, unsigned serial)
{
	char claims[200];

	snprintf(claims, sizeof(claims), "'role':'authenticated','sub':'%s'", sub);
	return token_of(claims, 3600, serial);
}

struct acl *rules_of(const char *lines)
{
	struct acl *acl = acl_new(1000, (gid_t)-1);
	char *copy = strdup(lines), *rest = copy, *line, text[200];

	MUST(acl && copy);
	while ((line = strsep(&rest, "\n"))) {
		if (strncmp(line, "own", 3) == 0)
			MUST_MSG(acl_identity(acl, line, text, sizeof(text)) == 0, "%s", text);
		else if (line[0])
			MUST_MSG(acl_rule(acl, line, text, sizeof(text)) == 0, "%s", text);
	}
	free(copy);
	return acl;
}

/* ---- what is said again and again ---- */

enum { TOKEN_TEXT_MAX = 20000 };

void with_links(struct hub_conf *conf)
{
	conf->max_links = 4;
}

void open_link(unsigned link)
{
	rig.at = link;
	server_open();
	rig.at = 0;
}

void give(struct fake_peer *p, uint32_t id, const char *token, const char *answer)
{
	char params[TOKEN_TEXT_MAX];

	snprintf(params, sizeof(params), "{'token':'%s'}", token);
	peer_ask(p, id, "auth", params);
	if (answer)
		expect(p, answer);
}

void give_for(struct fake_peer *p, uint32_t id, const char *topic, const char *token,
	      const char *answer)
{
	char params[TOKEN_TEXT_MAX];

	snprintf(params, sizeof(params), "{'topic':'%s','token':'%s'}", topic, token);
	peer_ask(p, id, "auth", params);
	if (answer)
		expect(p, answer);
}

struct line *expect_join(const char *topic, const char *token)
{
	char pattern[TOKEN_TEXT_MAX];

	snprintf(pattern, sizeof(pattern), "[*,*,'realtime:%s','phx_join',{*'access_token':'%s'}]",
		 topic, token);
	return expect_frame(pattern);
}

void expect_push(const char *topic, unsigned link, const char *token)
{
	char pattern[TOKEN_TEXT_MAX];

	snprintf(pattern, sizeof(pattern),
		 "[*,*,'realtime:%s','access_token',{'access_token':'%s'}]", topic, token);
	ck_assert_uint_eq(expect_frame(pattern)->link, link);
}

void server_tries(unsigned link, const char *token, bool ok, const char *response)
{
	struct line *f = expect_join("rtbridge:*", token);

	ck_assert_uint_eq(f->link, link);
	server_reply(f, ok, response);
}

void trial_left(void)
{
	server_reply(expect_frame("[*'realtime:rtbridge:*','phx_leave',{}]"), true, "{}");
}

struct fake_peer *peer_with(const char *token, const char *answer)
{
	struct fake_peer *p = peer_attach();
	char params[TOKEN_TEXT_MAX];

	snprintf(params, sizeof(params), "{'protocol':1,'client':{'name':'test'},'token':'%s'}",
		 token);
	peer_ask(p, 0, "hello", params);
	expect(p, answer);
	return p;
}

static void ask_topic(struct fake_peer *p, uint32_t id, const char *topic)
{
	char params[400];

	snprintf(params, sizeof(params), "{'topic':'%s'}", topic);
	peer_ask(p, id, "subscribe", params);
}

void peer_shares(struct fake_peer *p, uint32_t id, const char *topic)
{
	char answer[400];

	ask_topic(p, id, topic);
	snprintf(answer, sizeof(answer), "[1,%u,null,{'chan':*,'topic':'%s',*'ready'}]", id, topic);
	expect(p, answer);
	expect_no_frame();
}

void peer_joins(struct fake_peer *p, uint32_t id, const char *topic, const char *token)
{
	char answer[400];

	ask_topic(p, id, topic);
	server_reply(expect_join(topic, token), true, "{}");
	snprintf(answer, sizeof(answer), "[1,%u,null,{'chan':*,'topic':'%s',*'ready'}]", id, topic);
	expect(p, answer);
}

static unsigned lines_with(const struct lines *l, const char *bytes)
{
	unsigned n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += strstr(l->at[i].text, bytes) != NULL;
	return n;
}

unsigned frames_with(const char *bytes)
{
	return lines_with(&rig.frames, bytes);
}

unsigned messages_with(const struct fake_peer *p, const char *bytes)
{
	return lines_with(&p->got, bytes);
}
