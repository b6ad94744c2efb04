/* SPDX-License-Identifier: MIT */
#pragma once
/* hub_fixture's own: frames and messages written down as lines. */
#include "hub_fixture.h"

void lines_done(struct lines *l);
/* A frame of the server from an array as text, ' for ": as the rig's serializer says it; to be
 * freed. */
char *frame_text(const char *text);
/* A frame to the server; it must be one. */
void frame_add(struct lines *l, unsigned link, uint64_t epoch, bool binary, const void *data,
	       size_t size);
/* A request by HTTP: NAME and its body. */
void post_add(struct lines *l, uint64_t id, const char *name, bool is_json, const void *body,
	      size_t size);
/* A message to a peer; it must be one, and if it is a response then to a request without one. */
void message_add(struct fake_peer *p, struct blob *blob);
/* A message as text, to be freed; @ret_msg may be NULL. */
char *blob_text(struct blob *blob, struct rtbp_msg *ret_msg);
