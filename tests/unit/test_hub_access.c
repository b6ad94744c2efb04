/* SPDX-License-Identifier: MIT */
/* Stories about the access rules: each right, allowed and refused; and what others may know. */
#include "hub_changes_server.h"
#include "hub_changes_text.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

#define FORBIDDEN_ID "{'id':0,'state':'error','code':'forbidden','text':*}"

static struct acl *rules;
static const char *lines;
static struct fake_peer *owner, *a, *b;

static void with_rules(struct hub_conf *conf)
{
	with_links(conf);
	rules = rules_of(lines);
	conf->acl = rules;
}

/* The daemon's owner, and two who may what the rules say: 1001 and 1002. */
static void begin(const char *with)
{
	lines = with;
	rig_start(with_rules);
	server_open();
	owner = peer_ready();
	rig.uid = 1001;
	a = peer_ready();
	rig.uid = 1002;
	b = peer_ready();
}

static void end(void)
{
	rig_teardown();
	rules = acl_free(rules);
}

/* Asks: the answer must be `forbidden`, and the server hear nothing. */
static void expect_forbidden(struct fake_peer *p, uint32_t id, const char *method,
			     const char *params)
{
	char pattern[200];

	peer_ask(p, id, method, params);
	snprintf(pattern, sizeof(pattern), "[1,%u,[301,'forbidden','*',null],null]", id);
	expect(p, pattern);
	expect_nothing(p);
	expect_no_frame();
}

START_TEST(each_right_of_a_topic)
{
	begin("allow user 1001 read topic r\nallow user 1001 write topic w\n"
	      "allow user 1001 presence topic p\nallow user 1001 read,presence topic rp\n"
	      "allow user 1002 read topic z\n");
	expect_forbidden(a, 1, "subscribe", "{'topic':'w'}");
	expect_forbidden(a, 2, "subscribe", "{'topic':'p'}");
	expect_forbidden(a, 3, "subscribe", "{'topic':'r','presence':{}}");
	expect_forbidden(a, 4, "subscribe", "{'topic':'p','presence':{}}"); /* and broadcasts */
	expect_forbidden(a, 5, "broadcast", "{'topic':'r','event':'e','payload':1}");
	expect_forbidden(a, 6, "broadcast", "{'topic':'p','event':'e','payload':1}");
	expect_forbidden(a, 7, "track", "{'topic':'r','state':{}}");
	expect_forbidden(a, 8, "track", "{'topic':'w','state':{}}");
	expect_forbidden(a, 9, "subscribe", "{'topic':'r','private':true,'presence':{}}");
	peer_call(a, "broadcast", "{'topic':'r','event':'e','payload':1}");
	expect(a, "[2,'error',{'method':'broadcast','error':[301,'forbidden',*]}]");
	expect_no_frame();
	/* What is allowed. */
	peer_ask(a, 10, "subscribe", "{'topic':'r'}");
	server_join("r");
	expect(a, "[1,10,null,{*'ready'}]");
	peer_ask(a, 11, "broadcast", "{'topic':'w','event':'e','payload':1}");
	server_join("w");
	server_reply(expect_frame("[3,*'realtime:w','e',1]"), true, "{}");
	expect(a, "[1,11,null,{'outcome':'acked',*");
	/* A subscription with a right for it does not bring the others. */
	expect_forbidden(a, 12, "broadcast", "{'chan':1,'event':'e','payload':1}");
	expect_forbidden(a, 13, "track", "{'chan':1,'state':{}}");
	expect_forbidden(a, 14, "subscribe", "{'topic':'r','presence':{}}");
	server_broadcast("r", "e", "1");
	expect(a, "[2,'broadcast',{'chan':1,*");
}
END_TEST

#define NOT_ALLOWED "the access rules do not allow this user "

/* Who is refused is told which right is missing. */
START_TEST(the_missing_right)
{
	static const struct {
		const char *method, *params, *missing;
	} rows[] = {
		{ "subscribe", "{'topic':'none'}", "to read this topic" },
		{ "subscribe", "{'topic':'none','presence':{}}", "to read this topic" },
		{ "subscribe", "{'topic':'r','presence':{}}", "the presence of this topic" },
		{ "broadcast", "{'topic':'r','event':'e','payload':1}", "to write to this topic" },
		{ "track", "{'topic':'r','state':{}}", "the presence of this topic" },
	};
	char pattern[200];

	begin("allow user 1001 read topic r\nallow user 1002 read topic z\n");
	for (uint32_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		peer_ask(a, i, rows[i].method, rows[i].params);
		snprintf(pattern, sizeof(pattern),
			 "[1,%u,[301,'forbidden','" NOT_ALLOWED "%s',null],null]", i,
			 rows[i].missing);
		expect(a, pattern);
	}
	peer_ask(a, 9, "subscribe", ASK(T("t")));
	expect(a, "[1,9,null,{*'code':'forbidden','text':'" NOT_ALLOWED "to read this table'}]}]");
}
END_TEST

START_TEST(presence_alone)
{
	begin("allow user 1001 presence topic p\nallow user 1002 read topic z\n");
	rig.probes = true;
	peer_ask(a, 1, "track", "{'topic':'p','state':{'n':1}}");
	server_reply(expect_frame("[*'realtime:p','phx_join',*"), true, "{}");
	server_reply(expect_frame("[*'presence',{*'n':1*"), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked',*");
	server_broadcast("p", "e", "1");
	expect_nothing(a);
}
END_TEST

/* "not allowed" says nothing of what is there: the same bytes with and without. */
START_TEST(not_there_and_not_allowed)
{
	static const char *const asked[][2] = {
		{ "subscribe", "" },
		{ "subscribe", ",'presence':{}" },
		{ "subscribe", ",'private':true" },
		{ "broadcast", ",'event':'e','payload':1" },
		{ "track", ",'state':{}" },
		{ "unsubscribe", "" },
		{ "untrack", "" },
		{ "presence", "" },
		{ "auth", ",'token':null" },
	};
	char params[100], there[500], other[500];
	const char *got;
	uint32_t id = 1;

	begin("allow * read topic z\n");
	peer_join(owner, "here", "{}");
	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
		snprintf(params, sizeof(params), "{'topic':'here'%s}", asked[i][1]);
		peer_ask(b, id, asked[i][0], params);
		got = expect(b, "[1,*");
		snprintf(there, sizeof(there), "%s", strchr(got + 3, ','));
		id++;
		snprintf(params, sizeof(params), "{'topic':'nope'%s}", asked[i][1]);
		peer_ask(b, id, asked[i][0], params);
		got = expect(b, "[1,*");
		snprintf(other, sizeof(other), "%s", strchr(got + 3, ','));
		id++;
		ck_assert_str_eq(there, other);
	}
	/* By a number that is another's, and one that is nobody's. */
	for (unsigned n = 1; n < 100; n += 98) {
		snprintf(params, sizeof(params), "{'chan':%u,'event':'e','payload':1,'state':{}}",
			 n);
		peer_ask(b, id, "broadcast", params);
		expect(b, "[1,*,[206,'not_subscribed','this client has no subscription with this "
			  "chan',null],null]");
		peer_ask(b, id + 1, "track", params);
		expect(b, "[1,*,[206,'not_subscribed','this client has no subscription with this "
			  "chan',null],null]");
		peer_ask(b, id + 2, "presence", params);
		expect(b, "[1,*,[206,'not_subscribed','this client has no subscription with this "
			  "chan',null],null]");
		id += 3;
	}
	expect_no_frame();
}
END_TEST

START_TEST(denied_at_attach)
{
	struct fake_peer *p;

	begin("allow user 1001 read topic r\nallow user 1002 read topic r\n");
	rig.uid = 1003;
	p = peer_attach();
	expect_farewell(p, "denied", false);
	rig.uid = 0; /* root may all, as the owner may */
	p = peer_ready();
	peer_ask(p, 1, "subscribe", "{'topic':'any'}");
	server_join("any");
	expect(p, "[1,1,null,{*'ready'}]");
}
END_TEST

/* ---- database changes ---- */

START_TEST(bindings)
{
	struct line join;

	begin("allow user 1001 read table public.t\nallow user 1001 read table other.*\n"
	      "allow user 1002 read topic z\n");
	peer_ask(a, 1, "subscribe",
		 ASK(T("t") "," T("u") ",{'schema':'other','table':'x'}," T(
			 "u") ",{'table':'t'},{'schema':'public'},{'schema':'*'}"
			      ",{'schema':'other'},{'schema':'*','table':'t'}"));
	/* Those that are not allowed are never asked for. */
	join = server_feed(ON("t") ",{'event':'*','schema':'other','table':'x'}"
				   ",{'event':'*','table':'t'},{'event':'*','schema':'other'}",
			   "11,12,13,14");
	expect(a, ANSWER("1", "ready",
			 READY("1") "," FORBIDDEN_ID "," READY("2") "," FORBIDDEN_ID "," READY(
				 "3") "," FORBIDDEN_ID "," FORBIDDEN_ID
				      "," READY("4") "," FORBIDDEN_ID));
	server_row(&join, "11,13",
		   "{'type':'INSERT','schema':'public','table':'t','record':{'n':1}}");
	expect(a, "[2,'postgres_changes',{'ids':[1,3],*");
	/* Who names a topic beside changes could learn something of it. */
	peer_ask(b, 1, "subscribe", "{'topic':'y','postgres_changes':[" T("t") "]}");
	expect(b, "[1,1,[301,'forbidden',*],null]");
	peer_ask(b, 2, "subscribe", "{'topic':'z','postgres_changes':[" T("t") "]}");
	expect(b, "[1,2,null,{'chan':2,*'ready','postgres_changes':[" FORBIDDEN_ID "]}]");
	peer_ask(b, 3, "subscribe", ASK(T("t")));
	expect(b, "[1,3,null,{'chan':*'ready','postgres_changes':[" FORBIDDEN_ID "]}]");
}
END_TEST

/* None is allowed: answered at once, and no feed is made. */
START_TEST(no_binding_is_allowed)
{
	begin("allow user 1001 read topic t\nallow user 1002 read topic z\n");
	peer_ask(a, 1, "subscribe", ASK(T("t")));
	expect(a, ANSWER("1", "ready", FORBIDDEN_ID));
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
	/* Beside a channel that is. */
	peer_ask(a, 2, "subscribe", "{'topic':'t','broadcast':{},'postgres_changes':[" T("t") "]}");
	server_join("t");
	expect(a, "[1,2,null,{*'topic':'t',*'ready','postgres_changes':[" FORBIDDEN_ID "]}]");
	expect_nothing(a);
	/* What % would be for the server is no name of a table. */
	peer_ask(a, 3, "subscribe", ASK(T("t%")));
	expect(a, "[1,3,[200,*%*");
	peer_ask(a, 4, "subscribe", ASK("{'schema':'%','table':'t'}"));
	expect(a, "[1,4,[200,*%*");
	expect_no_frame();
}
END_TEST

/* The server reads names as patterns of LIKE: each row is looked at again. */
START_TEST(rows_are_looked_at_again)
{
	struct line join;

	begin("deny user 1001 read table public.todos\nallow user 1001 read table public.todo_\n"
	      "allow user 1002 read table public.*\n");
	peer_ask(a, 1, "subscribe", ASK(T("todo_")));
	join = server_feed(ON("todo_"), "11");
	expect(a, ANSWER("1", "ready", READY("1")));
	peer_ask(b, 1, "subscribe", ASK(T("todo_")));
	expect(b, "[1,1,null,{*" READY("1") "*");
	server_row(&join, "11",
		   "{'type':'INSERT','schema':'public','table':'todos','record':{'n':1}}");
	expect(b, "[2,'postgres_changes',{'ids':[1],*");
	server_row(&join, "11",
		   "{'type':'INSERT','schema':'other','table':'todo_','record':{'n':2}}");
	expect_nothing(b);
	server_row(&join, "11",
		   "{'type':'INSERT','schema':'public','table':'todo_','record':{'n':3}}");
	expect(b, "[2,'postgres_changes',{'ids':[1],*");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':3*");
	/* What does not say of which table it is may be of any. */
	server_row(&join, "11", "{'type':'INSERT','record':{'n':4}}");
	server_row(&join, "11", "{'type':'INSERT','schema':7,'table':['todo_'],'record':{'n':4}}");
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

/* ---- identity = own ---- */

START_TEST(own_identity)
{
	const char *alice;

	begin("allow user 1001 read,write,presence topic *\nallow user 1001 read table *.*\n"
	      "allow user 1002 read topic z\nown user 1001\n");
	alice = token_of_user("alice", 1);
	peer_join(owner, "t", "{}");
	expect_forbidden(a, 1, "subscribe", "{'topic':'t'}");
	expect_forbidden(a, 2, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect_forbidden(a, 3, "track", "{'topic':'t','state':{}}");
	expect_forbidden(a, 4, "subscribe", ASK(T("t")));
	/* A token for one topic is none for the others. */
	give_for(a, 5, "u", alice, UNPROVEN("5"));
	peer_joins(a, 6, "u", alice);
	expect_forbidden(a, 7, "subscribe", "{'topic':'t'}");
	peer_ask(a, 8, "auth", "{'topic':'u','token':null}");
	expect(a, "[1,8,null,{'state':'cleared'}]");
	expect(a, "[2,'channel',{*'code':'token_cleared',*");
	expect_forbidden(a, 9, "subscribe", "{'topic':'u'}");
}
END_TEST

/* ---- what others may know ---- */

#define SECRET "secret-topic"

/* All that 1001 can ask about how things stand. */
static unsigned knows(struct fake_peer *p, uint32_t id, const char *word)
{
	unsigned n;

	peer_skip(p, "");
	peer_ask(p, id, "status", "{}");
	peer_ask(p, id + 1, "channels", "{}");
	peer_ask(p, id + 2, "clients", "{}");
	n = p->n_asked;
	ck_assert_uint_eq(n, 0);
	return peer_skip(p, word);
}

START_TEST(what_others_may_know)
{
	const char *alice;
	struct fake_peer *p;

	begin("allow user 1001 read topic r\nallow user 1002 read,write,presence topic *\n"
	      "allow user 1002 read table *.*\n");
	alice = token_of_user("alice", 1);
	rig.uid = 1002;
	p = peer_attach();
	peer_ask(p, 0, "hello", "{'protocol':1,'client':{'name':'secret-app','version':'1'}}");
	expect(p, "[1,0,*");
	peer_ask(p, 1, "subscribe", "{'topic':'" SECRET "'}");
	server_join(SECRET);
	peer_ask(p, 2, "subscribe", "{'topic':'" SECRET "','private':true}");
	open_link(1);
	server_join(SECRET);
	peer_ask(p, 3, "subscribe", "{'postgres_changes':[" T("secret_table") "]}");
	expect_feed(ON("secret_table"));
	give_for(p, 4, "r", alice, NULL);
	peer_ask(p, 5, "subscribe", "{'topic':'r'}");
	server_reply(expect_join("r", alice), true, "{}");
	peer_skip(p, "");
	ck_assert_uint_eq(knows(a, 1, "secret"), 0);
	ck_assert_uint_eq(knows(a, 4, "1002"), 0);
	ck_assert_uint_eq(knows(a, 7, "'topic'"), 0);
	ck_assert_uint_eq(knows(a, 10, "\"topic\""), 0);
	ck_assert_uint_eq(knows(a, 13, "\"authenticated\""), 0);
	ck_assert_uint_eq(knows(a, 16, "\"admin\":false"), 1);
	ck_assert_uint_eq(knows(a, 19, "needed by another user"), 1);
	ck_assert_uint_eq(knows(owner, 1, "secret-app"), 2);
	ck_assert_uint_eq(knows(owner, 4, SECRET), 2);
	ck_assert_uint_eq(knows(owner, 7, "\"admin\":true"), 1);
	ck_assert_uint_eq(knows(owner, 10, "secret_table"), 1);
	ck_assert_uint_eq(knows(owner, 13, "\"authenticated\""), 1);
	/* 1002 knows its own. */
	ck_assert_uint_eq(knows(b, 1, SECRET), 2);
	ck_assert_uint_eq(knows(b, 4, "secret-app"), 2);
	ck_assert_uint_eq(knows(b, 7, "secret_table"), 1);
	ck_assert_uint_eq(knows(b, 10, "\"authenticated\""), 1);
}
END_TEST

/* Of channels of another identity: those that its own clients use, whichever of them asks. */
START_TEST(own_users_channels_of_other_identities)
{
	const char *alice;
	struct fake_peer *other;

	begin("allow user 1001 read topic r\nallow user 1002 read topic r\n");
	alice = token_of_user("alice", 1);
	give(a, 1, alice, UNPROVEN("1"));
	peer_joins(a, 2, "r", alice);
	rig.uid = 1001;
	other = peer_ready();
	peer_ask(other, 1, "channels", "{}");
	expect(other, "[1,1,null,{'channels':[{'chan':1,'topic':'r',*'identity':1,*}]}]");
	peer_ask(b, 1, "channels", "{}");
	expect(b, "[1,1,null,{'channels':[]}]");
	/* Not any more when its use has ended. */
	peer_close(a);
	peer_ask(other, 2, "channels", "{}");
	expect(other, "[1,2,null,{'channels':[]}]");
}
END_TEST

/* One client that gave a token for several topics is one client. */
START_TEST(clients_of_an_identity)
{
	const char *alice;

	begin("allow * read topic r\n");
	alice = token_of_user("alice", 1);
	give(a, 1, alice, UNPROVEN("1"));
	give_for(a, 2, "r", alice, UNPROVEN("2"));
	peer_ask(owner, 1, "status", "{}");
	expect(owner, "[1,1,null,{*'identities':[{'identity':1,'role':'authenticated','state':"
		      "'unproven','expires':*,'clients':1,'channels':0}],*");
	give(b, 1, alice, UNPROVEN("1"));
	peer_ask(owner, 2, "status", "{}");
	expect(owner, "[1,2,null,{*'identities':[{'identity':1,*,'clients':2,'channels':0}],*");
}
END_TEST

static void private_only(struct hub_conf *conf)
{
	with_rules(conf);
	conf->private_only = HUB_PRIVATE_YES;
}

/* Equal bindings ride on the channel of one of those who want them: its number and its trouble are
 * nothing for the others. */
START_TEST(feeds_on_channels_of_others)
{
	struct line join;

	lines = "allow user 1001 read topic mine\nallow user 1002 read topic theirs\n"
		"allow * read table *.*\n";
	rig_start(private_only);
	server_open();
	rig.uid = 1001;
	a = peer_ready();
	rig.uid = 1002;
	b = peer_ready();
	peer_ask(b, 1, "subscribe",
		 "{'topic':'theirs','private':true,'postgres_changes':[" T("t") "]}");
	join = *expect_frame("[*'realtime:theirs','phx_join',*");
	server_takes(&join, "11");
	server_system(&join, true, SUBSCRIBED);
	expect(b, "[1,1,null,{'chan':1,*'ready'*");
	peer_ask(a, 1, "subscribe",
		 "{'topic':'mine','private':true,'postgres_changes':[" T("t") "]}");
	expect(a, "[1,1,null,{'chan':2,*'ready','postgres_changes':[" READY("1") "]}]");
	peer_ask(a, 2, "status", "{}");
	expect(a, "[1,2,null,{*'feeds':[{'feed':1,'identity':0,'link':0,'state':*,'bindings':1,"
		  "'ready':true}],*");
	peer_ask(b, 2, "status", "{}");
	expect(b, "[1,2,null,{*'feeds':[{'feed':1,'identity':0,'link':0,'state':*,'bindings':1,"
		  "'ready':true,'chan':1}],*");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_access");
	TCase *t = tcase_create("access");

	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, each_right_of_a_topic);
	tcase_add_test(t, the_missing_right);
	tcase_add_test(t, presence_alone);
	tcase_add_test(t, not_there_and_not_allowed);
	tcase_add_test(t, denied_at_attach);
	tcase_add_test(t, bindings);
	tcase_add_test(t, no_binding_is_allowed);
	tcase_add_test(t, rows_are_looked_at_again);
	tcase_add_test(t, own_identity);
	tcase_add_test(t, what_others_may_know);
	tcase_add_test(t, own_users_channels_of_other_identities);
	tcase_add_test(t, clients_of_an_identity);
	tcase_add_test(t, feeds_on_channels_of_others);
	suite_add_tcase(s, t);
	return suite_run(s);
}
