/* SPDX-License-Identifier: MIT */
#pragma once
/* What the stories about stored messages share: two peers, and a server that has two links. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub_fixture.h"

static struct fake_peer *a, *b;

static void links_two(struct hub_conf *conf)
{
	conf->max_links = 2;
}

static void setup(void)
{
	rig_start(links_two);
	server_open();
	a = peer_ready();
	b = peer_ready();
}

/* A message that the database has sent; the payload is its number. */
static void stored(unsigned n, bool replayed)
{
	server_text("['%s',null,'realtime:t','broadcast',{'type':'broadcast','event':'%s',"
		    "'payload':{'n':%u},'meta':{'id':'id-%u'%s}}]",
		    replayed ? "1" : "null", n % 2 ? "odd" : "even", n, n,
		    replayed ? ",'replayed':true" : "");
}

static void expect_stored(struct fake_peer *p, unsigned n, bool replayed)
{
	char pattern[200];

	snprintf(pattern, sizeof(pattern),
		 "[2,'broadcast',{*'payload':{'n':%u},'meta':{'id':'id-%u'%s}}]", n, n,
		 replayed ? ",'replayed':true" : "");
	expect(p, pattern);
}

static struct line *expect_probe(unsigned link)
{
	struct line *f = expect_frame("*'presence',{}]");

	ck_assert_uint_eq(f->link, link);
	return f;
}

static void subscribed(struct fake_peer *p, const char *broadcast)
{
	char params[200];

	snprintf(params, sizeof(params), "{'topic':'t','private':true,'broadcast':%s}", broadcast);
	peer_ask(p, 1, "subscribe", params);
	if (p == a)
		server_join("t");
	expect(p, "[1,1,null,{'chan':1,'topic':'t','private':true,'state':'ready'}]");
}
