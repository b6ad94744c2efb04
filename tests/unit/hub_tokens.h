/* SPDX-License-Identifier: MIT */
#pragma once
/* Tokens for stories about the hub: in form only, the hub verifies no signature. */
#include <stdint.h>

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
