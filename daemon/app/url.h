/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * url: from the address that a person writes to the parts of the WebSocket's address.
 *
 *     https://REF.supabase.co            -> wss, REF.supabase.co, 443, /realtime/v1/websocket
 *     https://HOST/realtime/v1, .../socket -> the same with /websocket behind
 *     ws://HOST:PORT/any/path/websocket  -> as it stands
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct url_parts {
	bool tls;
	char host[256]; /* no brackets */
	uint16_t port;
	char path[512]; /* from '/', without query; url_parse(): ending "/websocket" */
};

/* Return: 0; -EINVAL with a sentence in ret_text: what is wrong, what is expected. */
int url_parse(const char *url, struct url_parts *ret, char *ret_text, size_t text_size);

/* The address of something else: the path stays as it stands, without slashes at its end. */
int url_parse_base(const char *url, struct url_parts *ret, char *ret_text, size_t text_size);

/* Whether the host is surely this machine: localhost or a loopback address. Looks nothing up: other
 * names may be as well. */
bool url_host_is_local(const char *host);
