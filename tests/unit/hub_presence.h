/* SPDX-License-Identifier: MIT */
#pragma once
/* What the stories about presence share, beside hub_fixture.h: the server's words about it. JSON
 * with ' for ". */
#include "hub_fixture.h"

/* The join of `topic` with presence is the next frame: answered with ok. Then its probe follows and
 * is taken. Return: the join, copied: lines move when more are written down. */
struct line server_join_watched(const char *topic, struct line *ret_probe);
/* presence_state of the channel that this join made, on the link that the join is on. */
void server_state(const struct line *join, const char *state);
/* presence_diff, on link rig.at. */
void server_diff(const char *topic, const char *joins, const char *leaves);
/* The server closes the channel, with a `system` error in front when there is a text. */
void server_close(const struct line *join, const char *text);
/* The next frame is a presence call with this payload. */
struct line *expect_call(const char *topic, const char *payload_pattern);
/* Subscribes with presence, id 1; the server joins, shows `state`. Return: the join. */
struct line peer_watch(struct fake_peer *p, const char *topic, const char *state);
