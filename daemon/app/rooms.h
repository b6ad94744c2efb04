/* SPDX-License-Identifier: MIT */
#pragma once
/* rooms: words of one room in those of another: the configuration as hub and wire take it, the ends of
 * wire's connections as the hub takes them. */

struct conf;
struct hub_conf;
struct session_end;
struct wire_conf;
struct wire_end;

/* Borrows from @conf. Return: 0; a negative errno without random numbers. */
int rooms_hub(const struct conf *conf, struct hub_conf *ret);
/* The same. */
void rooms_wire(const struct conf *conf, struct wire_conf *ret);
/* Borrows from @end. */
void rooms_end(const struct wire_end *end, struct session_end *ret);
