/* SPDX-License-Identifier: MIT */
/* Stories about several trackers of one channel that share an entry, or may not be there. */
#include "hub_presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNTRACK          "{'type':'presence','event':'untrack'}"
#define MEMBERS(members) "{'type':'presence','event':'track','payload':{'members':{" members "}}}"
#define AS(key, n)       "{'topic':'t','key':'" key "','state':{'n':" n "}}"

static struct fake_peer *a, *b;

static void merge(struct hub_conf *conf)
{
	conf->trackers = HUB_TRACKERS_MERGE;
	conf->max_links = 3;
}

static void setup_merge(void)
{
	rig_start(merge);
	rig.probes = true;
	server_open();
	a = peer_ready();
	b = peer_ready();
}

static void refuse(struct hub_conf *conf)
{
	conf->trackers = HUB_TRACKERS_REFUSE;
	conf->max_links = 3;
}

static void setup_refuse(void)
{
	rig_start(refuse);
	rig.probes = true;
	server_open();
	a = peer_ready();
	b = peer_ready();
}

static void first_shown(void)
{
	peer_ask(a, 1, "track", AS("alice", "1"));
	expect_frame("*'phx_join',{*'presence':{'enabled':true,'key':'rtbridge:*'}*");
	server_reply(&rig.frames.at[0], true, "{}");
	server_reply(expect_call("t", MEMBERS("'alice':{'n':1}")), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'alice'}]");
}

START_TEST(members)
{
	first_shown();
	peer_ask(b, 1, "track", AS("bob", "2"));
	expect(b, "[1,1,null,{'outcome':'throttled','key':'bob',*'retry_in_ms':250}]");
	advance(250);
	server_reply(expect_call("t", MEMBERS("'alice':{'n':1},'bob':{'n':2}")), true, "{}");
	/* What is a's has not changed. */
	peer_ask(a, 2, "track", AS("alice", "1"));
	expect(a, "[1,2,null,{'outcome':'acked',*");
	advance(1000);
	peer_ask(a, 3, "track", AS("alice", "3"));
	server_reply(expect_call("t", MEMBERS("'alice':{'n':3},'bob':{'n':2}")), true, "{}");
	expect(a, "[1,3,null,{'outcome':'acked',*");
	/* One goes: the rest stays, and the reserve is used. */
	peer_ask(a, 4, "untrack", "{'topic':'t'}");
	server_reply(expect_call("t", MEMBERS("'bob':{'n':2}")), true, "{}");
	expect(a, "[1,4,null,{}]");
	peer_close(b);
	server_reply(expect_call("t", UNTRACK), true, "{}");
	expect_no_frame();
	ck_assert(!rig.links[1].is_open);
}
END_TEST

START_TEST(same_key)
{
	first_shown();
	peer_ask(b, 1, "track", AS("alice", "2"));
	expect(b, "[1,1,[210,'presence_taken','*merge*',null],null]");
	/* The key of a subscription is one, too, and the shared join does not have it. */
	peer_ask(b, 2, "subscribe", "{'topic':'t','presence':{'key':'alice'}}");
	expect(b, "[1,2,null,*");
	peer_ask(b, 3, "track", "{'topic':'t','state':{}}");
	expect(b, "[1,3,[210,'presence_taken',*");
	peer_ask(b, 4, "track", AS("bob", "2"));
	expect(b, "[1,4,null,{'outcome':'throttled','key':'bob',*");
	peer_ask(b, 5, "track", AS("alice", "2"));
	expect(b, "[1,5,[200,'bad_request',*");
	expect_no_frame();
}
END_TEST

START_TEST(made_keys)
{
	first_shown();
	peer_ask(b, 1, "track", "{'topic':'t','state':{}}");
	expect(b, "[1,1,null,{'outcome':'throttled','key':'*-4*-*','retry_in_ms':250}]");
	advance(250);
	expect_call("t", MEMBERS("'alice':{'n':1},'*-*-4*':{}"));
}
END_TEST

START_TEST(quoted_key)
{
	peer_ask(a, 1, "track", "{'topic':'t','key':'a\\\\\\u2028','state':{'k':'v'}}");
	server_join("t");
	expect_call("t", MEMBERS("'a\\\\*':{'k':'v'}"));
}
END_TEST

START_TEST(merged_size)
{
	struct fake_peer *p;
	char *params = malloc(RTBP_STATE_MAX + 200);
	size_t size = RTBP_STATE_MAX - 8;
	unsigned n = 0, taken = 0;

	ck_assert_ptr_nonnull(params);
	for (unsigned i = 0; i < 4; i++) {
		p = peer_ready();
		n = (unsigned)sprintf(params, "{'topic':'t','key':'k%u','state':{'x':'", i);
		memset(params + n, 'y', size);
		strcpy(params + n + size, "'}}");
		peer_ask(p, 1, "track", params);
		if (i < 3)
			expect_nothing(p);
		else
			expect(p, "[1,1,[210,'presence_taken','*too large*',null],null]");
		taken += p->n_asked;
	}
	ck_assert_uint_eq(taken, 3);
	/* Neither may one grow over it. */
	peer_ask(a, 1, "track", AS("small", "1"));
	expect_nothing(a);
	n = (unsigned)sprintf(params, "{'topic':'t','state':{'x':'");
	memset(params + n, 'y', size);
	strcpy(params + n + size, "'}}");
	peer_ask(a, 2, "track", params);
	expect(a, "[1,2,[210,'presence_taken','*too large*',null],null]");
	server_join("t");
	server_reply(expect_frame("[*,'presence',{*'small':{'n':1}}}}]"), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'small'}]");
	free(params);
}
END_TEST

/* The server's word is about the one entry, so it is about all of them. */
START_TEST(denied)
{
	peer_ask(a, 1, "track", AS("alice", "1"));
	peer_ask(b, 1, "track", AS("bob", "2"));
	server_join("t");
	server_reply(expect_call("t", MEMBERS("'alice':{'n':1},'bob':{'n':2}")), false,
		     "{'reason':'no'}");
	expect(a, "[1,1,null,{'outcome':'denied','key':'alice','text':'no'}]");
	expect(b, "[1,1,null,{'outcome':'denied','key':'bob','text':'no'}]");
	expect_no_frame();
}
END_TEST

/* A watcher is shown the members; those of the own daemon come back as any other. */
START_TEST(watched)
{
	first_shown();
	server_state(&rig.frames.at[0],
		     "{'rtbridge:1':{'metas':[{'phx_ref':'1','members':{'x':{'n':1},'y':{}}}]}}");
	/* Whoever tracks was joined with presence: a watcher finds it here. */
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	expect_no_frame();
	expect(b, "[1,1,null,{*'presence':{'state':'ok','snapshot':[{'key':'x','ref':'rtbridge:1',"
		  "'state':{'n':1}},{'key':'y','ref':'rtbridge:1','state':{}}]}}]");
	server_diff("t",
		    "{'rtbridge:1':{'metas':[{'phx_ref':'2','phx_ref_prev':'1','members':"
		    "{'x':{'n':2},'z':{}}}]}}",
		    "{'rtbridge:1':{'metas':[{'phx_ref':'1','members':{'x':{'n':1},'y':{}}}]}}");
	expect(b,
	       "[2,'presence',{*'leave':[{'key':'y',*}],'join':[{'key':'z',*}],"
	       "'update':[{'key':'x','prev':'rtbridge:1','ref':'rtbridge:1','state':{'n':2}}]}]");
}
END_TEST

START_TEST(one_only)
{
	peer_ask(a, 1, "track", AS("alice", "1"));
	server_join("t");
	server_reply(expect_frame("[*,'presence',{*{'n':1}}]"), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'alice'}]");
	peer_ask(b, 1, "track", AS("bob", "2"));
	expect(b, "[1,1,[210,'presence_taken','*refuse*',null],null]");
	peer_ask(b, 2, "track", AS("alice", "2"));
	expect(b, "[1,2,[210,*");
	expect_no_frame();
	ck_assert(!rig.links[1].is_open);
	/* Another channel is another matter; and when the first one goes, the place is free. */
	peer_ask(b, 3, "track", "{'topic':'u','state':{}}");
	server_join("u");
	peer_close(a);
	expect_frame("[*,'realtime:u','presence',*");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	advance(5000);
	peer_ask(b, 4, "track", AS("alice", "2"));
	server_reply(expect_frame("[*,'presence',{*{'n':2}}]"), true, "{}");
	expect(b, "[1,4,null,{'outcome':'acked','key':'alice'}]");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_merge");
	TCase *t = tcase_create("merge"), *r = tcase_create("refuse");

	tcase_add_checked_fixture(t, setup_merge, rig_teardown);
	tcase_add_test(t, members);
	tcase_add_test(t, same_key);
	tcase_add_test(t, made_keys);
	tcase_add_test(t, quoted_key);
	tcase_add_test(t, merged_size);
	tcase_add_test(t, denied);
	tcase_add_test(t, watched);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(r, setup_refuse, rig_teardown);
	tcase_add_test(r, one_only);
	suite_add_tcase(s, r);
	return suite_run(s);
}
