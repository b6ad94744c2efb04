/* SPDX-License-Identifier: MIT */
#pragma once
/* Tokens for stories about the hub: in form only, the hub verifies no signature. And what such
 * stories say again and again. */
#include "hub_fixture.h"

#include <stdbool.h>
#include <stdint.h>

struct acl;

/**
 * token_of() - the text of a token
 * @claims: JSON members with ' for ", without exp: "'role':'authenticated','sub':'alice'"
 * @exp_in_s: from the rig's wall clock now
 * @serial: makes the bytes of otherwise equal tokens differ
 *
 * Valid until TOKENS further ones were made.
 */
enum { TOKENS = 64 };
const char *token_of(const char *claims, int64_t exp_in_s, unsigned serial);
/* Of a user: role authenticated, an hour. */
const char *token_of_user(const char *sub, unsigned serial);
/* With any header: '{...}' as JSON with ' for ". */
const char *token_with_header(const char *header, const char *claims, int64_t exp_in_s);
/* All of it said by the story: the payload, too. */
const char *token_of_parts(const char *header, const char *payload, const char *signature);

/* Rules, one on a line, as they stand behind `rule =`; behind `identity =` if they begin with
 * "own". User 1000 is the daemon's. To be freed. */
struct acl *rules_of(const char *lines);

/* ---- what is said again and again ---- */

/* Three further links may be opened. */
void with_links(struct hub_conf *conf);
void open_link(unsigned link);
/* `auth` with this token, for all topics; the next message must match, unless it is NULL. */
void give(struct fake_peer *p, uint32_t id, const char *token, const char *answer);
void give_for(struct fake_peer *p, uint32_t id, const char *topic, const char *token,
	      const char *answer);
/* The next frame must join this topic with this token. */
struct line *expect_join(const char *topic, const char *token);
/* The next frame must tell the channel of this topic, on this link, this token. */
void expect_push(const char *topic, unsigned link, const char *token);
/* The next frame must be the trial of this token on this link: answered so. */
void server_tries(unsigned link, const char *token, bool ok, const char *response);
/* The next frame leaves a trial's topic: answered. */
void trial_left(void);
/* Attached, hello said with this token; the answer must match. */
struct fake_peer *peer_with(const char *token, const char *answer);
/* Subscribed with id `id`, the topic is joined already. */
void peer_shares(struct fake_peer *p, uint32_t id, const char *topic);
/* Subscribed with id `id`; the server takes the join, which must carry this token. */
void peer_joins(struct fake_peer *p, uint32_t id, const char *topic, const char *token);
/* How many frames to the server have these bytes. */
unsigned frames_with(const char *bytes);
/* How many presence, broadcast, ... messages to the peer have these bytes, seen or not. */
unsigned messages_with(const struct fake_peer *p, const char *bytes);

#define SIGNATURE_WORDS "JwtSignatureError: Failed to validate JWT signature"
#define REFUSED_TOKEN   "{'reason':'" SIGNATURE_WORDS "'}"
#define UNPROVEN(id)    "[1," id ",null,{'state':'unproven','expires':*}]"
#define ACCEPTED(id)    "[1," id ",null,{'state':'accepted','expires':*}]"
