#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Database changes of the devserver beyond the recordings: bindings, filters, who may see what, order; and orders.

usage: behaviour_postgres.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import json
import re
import secrets
import sys
import unittest
import uuid

import behaviour
from behaviour import T, WithServer
from rtbtest.markers import Markers
from rtbtest.postgres import Postgres, Psql
from rtbtest.wait import until

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SUBSCRIBED = "Subscribed to PostgreSQL"
NOTES = {"schema": "public", "table": "notes"}
POSTGRES = None


def setUpModule():
    global POSTGRES
    POSTGRES = unittest.enterModuleContext(Postgres())


def brief(m):
    """[type, the row or what is known of the old one] of a change; other messages as they are."""
    if m[3] != "postgres_changes":
        return m
    data = m[4]["data"]
    return [data["type"], data.get("record", data.get("old_record"))]


class WithBindings(WithServer):
    def said(self, ws, topic=T):
        """What the next `system` message says about the subscription: "ok", or the error."""
        m = ws.expect("system", topic)
        self.assertEqual((m[0], m[1]), (None if ws.v1 else ws.join_refs[topic], None))
        self.assertEqual((m[4]["extension"], m[4]["channel"]), ("postgres_changes", topic.removeprefix("realtime:")))
        if m[4]["status"] == "ok":
            self.assertEqual(m[4]["message"], SUBSCRIBED)
            return "ok"
        return m[4]["message"]

    def bind(self, ws, *bindings, topic=T, token=None):
        """Joins with these bindings: their ids, and what was said about the subscription."""
        reply = ws.join(topic, {"postgres_changes": list(bindings)}, token)
        self.assertEqual(reply["status"], "ok")
        answers = reply["response"]["postgres_changes"]
        ids = [answer.pop("id") for answer in answers]
        self.assertEqual(answers, [b for b in bindings if b is not None])
        return ids, self.said(ws, topic)

    def feed(self, *bindings, topic=T, token=None, **more):
        """A client whose changes flow, and the ids."""
        ws = self.client(**more)
        ids, said = self.bind(ws, *(bindings or (NOTES,)), topic=topic, token=token)
        self.assertEqual(said, "ok")
        return ws, ids


class WithDatabase(WithBindings):
    """A fresh database with a table `notes`, and a devserver on it."""

    def setUp(self):
        self.name = "test_" + secrets.token_hex(4)
        conninfo = POSTGRES.create_database(self.name)
        self.addCleanup(POSTGRES.drop_database, self.name)
        self.options = dict(type(self).options, postgres=conninfo)
        super().setUp()
        self.table("notes", "id int8 primary key, a int4, t text")
        self.markers = Markers(self.server, self.sql)
        self.addCleanup(self.markers.close)

    def sql(self, text):
        return POSTGRES.sql(text, self.name)

    def table(self, name, columns, *more, schema="public", published=True):
        whole = f'{schema}."{name}"'
        self.sql(f"create table {whole} ({columns});"
                 f"grant usage on schema {schema} to anon, authenticated, service_role;"
                 f"grant select on {whole} to anon, authenticated, service_role;")
        if published:
            self.sql(f"alter publication supabase_realtime add table {whole}")
        for what in more:
            self.sql(what)

    def came(self, ws):
        """All messages that have come up to now; rows of what is committed among them."""
        self.markers.wait()
        return ws.heartbeat()

    def rows(self, ws, topic=T):
        """The same in brief: nothing but changes of this topic."""
        got = self.came(ws)
        for m in got:
            self.assertEqual(m[:4], [None, None, topic, "postgres_changes"])
            self.assertEqual(set(m[4]), {"data", "ids"})
        return [brief(m) for m in got]


class Bindings(WithDatabase):
    def test_one_frame_with_all_ids(self):
        ws, ids = self.feed(NOTES, dict(NOTES, event="INSERT"), dict(NOTES, event="*", filter="a=eq.1"),
                            dict(NOTES, event="DELETE"), dict(NOTES, event="*", filter="a=eq.2"), NOTES)
        self.assertEqual(ids[0], ids[5])
        self.assertEqual(len(set(ids)), 5)
        self.sql("insert into notes values (1, 1, 'x'); delete from notes")
        got = self.came(ws)
        self.assertEqual([brief(m) for m in got], [["INSERT", {"id": 1, "a": 1, "t": "x"}], ["DELETE", {"id": 1}]])
        self.assertEqual(sorted(got[0][4]["ids"]), sorted([ids[0], ids[0], ids[1], ids[2]]))
        self.assertEqual(sorted(got[1][4]["ids"]), sorted([ids[0], ids[0], ids[3]]))

    def test_the_same_params_have_the_same_id(self):
        a, b = self.client(), self.client(vsn="1.0.0")
        [first], _ = self.bind(a, {"event": "*", "schema": "public", "table": "notes"})
        [again], _ = self.bind(b, {"table": "notes", "schema": "public", "event": "*"}, topic="realtime:other")
        [other], _ = self.bind(a, dict(NOTES, event="INSERT"), topic="realtime:third")
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)
        for number in first, other:
            self.assertTrue(0 <= number < 2 ** 27)

    def test_nulls_are_dropped(self):
        ws = self.client()
        ids, said = self.bind(ws, None, NOTES, None)
        self.assertEqual((len(ids), said), (1, "ok"))
        self.sql("insert into notes values (1)")
        self.assertEqual(self.rows(ws), [["INSERT", {"id": 1, "a": None, "t": None}]])

    def test_all_or_nothing(self):
        self.table("hidden", "id int8 primary key", published=False)
        no_table = "Unable to subscribe to changes with given parameters. Please check Realtime is enabled"
        exception = "Unable to subscribe to changes with given parameters. An exception happened"
        for bad, error in ((dict(NOTES, filter="none=eq.1"), exception), (dict(NOTES, filter="a=eq.x"), exception),
                           ({"schema": "public", "table": "hidden"}, no_table), (dict(NOTES, filter="a=eq"), "Error parsing `filter`"),
                           ({"schema": "public", "table": None}, "No subscription params provided"),
                           (dict(NOTES, filter=None), "No subscription params provided"),
                           ({"schema": "public", "filter": "a=eq.1"}, "No subscription params provided"),
                           (dict(NOTES, select=["none"]), exception)):
            for bindings in [NOTES, bad], [bad, NOTES]:
                ws = self.client()
                ids, said = self.bind(ws, *bindings)
                self.assertEqual(len(ids), 2)
                self.assertTrue(said.startswith(error), said)
                self.sql("insert into notes values (1); delete from notes")
                self.assertEqual(self.rows(ws), [], bad)
                ws.close()
        # The channel is there all the same, and a new join of it may do better.
        ws, _ = self.feed()
        self.sql("insert into notes values (1)")
        self.assertEqual(len(self.rows(ws)), 1)

    def test_names_are_patterns(self):
        for schema in "s1", "s2", "sx1":
            self.sql(f"create schema {schema}")
            for name in "my_t", "myxt", "myxxt":
                self.table(name, "id int8 primary key", schema=schema)
        wanted = {("s1", "my_t"): "s1.my_t s1.myxt", ("s_", "my_t"): "s1.my_t s1.myxt s2.my_t s2.myxt",
                  ("s%1", "my%"): "s1.my_t s1.myxt s1.myxxt sx1.my_t sx1.myxt sx1.myxxt", ("%", "myxxt"): "s1.myxxt s2.myxxt sx1.myxxt",
                  ("s2", "*"): "s2.my_t s2.myxt s2.myxxt", ("*", "myxt"): "s1.myxt s2.myxt sx1.myxt"}
        ws = self.client()
        for i, (schema, name) in enumerate(wanted):
            self.assertEqual(self.bind(ws, {"schema": schema, "table": name}, topic=f"realtime:{i}")[1], "ok")
        self.sql("".join(f"insert into {s}.{t} values (1);" for s in ("s1", "s2", "sx1") for t in ("my_t", "myxt", "myxxt")))
        got = self.came(ws)
        for i, pattern in enumerate(wanted):
            data = [m[4]["data"] for m in got if m[2] == f"realtime:{i}"]
            self.assertEqual(" ".join(f"{d['schema']}.{d['table']}" for d in data), wanted[pattern])

    def test_events(self):
        ws = self.client()
        for event in "insert", "Update", "DELETE", "*", "what":
            self.bind(ws, dict(NOTES, event=event), topic=f"realtime:{event}")
        self.sql("insert into notes values (1); update notes set a = 2; delete from notes")
        got = self.came(ws)
        for event in "insert", "Update", "DELETE", "*", "what":
            types = [m[4]["data"]["type"] for m in got if m[2] == f"realtime:{event}"]
            self.assertEqual(types, [event.upper()] if event not in ("*", "what") else ["INSERT", "UPDATE", "DELETE"])

    def test_shapes(self):
        self.sql("create schema other")
        self.table("notes", "id int8 primary key", schema="other")
        ws = self.client()
        for topic, binding in (("table", {"table": "notes"}), ("schema", {"schema": "other"}), ("both", {"schema": "other", "table": "notes"})):
            self.assertEqual(self.bind(ws, binding, topic=f"realtime:{topic}")[1], "ok")
        self.sql("insert into notes values (1); insert into other.notes values (2)")
        got = self.came(ws)
        self.assertEqual(sorted((m[2], m[4]["data"]["schema"]) for m in got),
                         [("realtime:both", "other"), ("realtime:schema", "other"), ("realtime:table", "public")])
        for bad, error in (({"event": "*"}, 'No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: '
                            '%{"event" => "*"}'),
                           (dict(NOTES, select="id"), "Error parsing `select` params: expected a list"),
                           ({"schema": "public", "table": "*", "select": ["id"]}, "Column selection is not supported for wildcard"),
                           (dict(NOTES, filter="a=eq.1,,t=eq.x"), "Error parsing `filter` params: "),
                           (dict(NOTES, filter="a=in.1"), "Error parsing `filter` params: ")):
            said = self.bind(self.client(), bad)[1]
            self.assertTrue(said.startswith(error), said)

    def test_deletes_and_filters(self):
        self.table("whole", "id int8 primary key, a int4", "alter table whole replica identity full")
        whole = {"schema": "public", "table": "whole"}
        ws = self.client()
        for topic, binding in (("a", dict(NOTES, event="DELETE", filter="a=eq.1")), ("id", dict(NOTES, event="DELETE", filter="id=eq.1")),
                               ("full", dict(whole, event="DELETE", filter="a=eq.1")), ("none", dict(whole, event="DELETE", filter="a=eq.2"))):
            self.assertEqual(self.bind(ws, binding, topic=f"realtime:{topic}")[1], "ok")
        self.sql("insert into notes values (1, 1), (2, 1); insert into whole values (1, 1); delete from notes; delete from whole")
        self.assertEqual([(m[2], brief(m)) for m in self.came(ws)],
                         [("realtime:id", ["DELETE", {"id": 1}]), ("realtime:full", ["DELETE", {"id": 1, "a": 1}])])

    def test_select(self):
        ws, ids = self.feed(dict(NOTES, select=["t"]))
        self.sql("insert into notes values (1, 2, 'x'); update notes set a = 3; delete from notes")
        got = self.came(ws)
        self.assertEqual([brief(m) for m in got], [["INSERT", {"id": 1, "t": "x"}], ["UPDATE", {"id": 1, "t": "x"}], ["DELETE", {"id": 1}]])
        for m in got:
            self.assertEqual(m[4]["data"]["columns"], [{"name": "id", "type": "int8"}, {"name": "t", "type": "text"}])

    def test_bindings_with_different_columns(self):
        ws, ids = self.feed(dict(NOTES, select=["t"]), NOTES, dict(NOTES, select=["a"]))
        self.sql("insert into notes values (1, 2, 'x')")
        got = {tuple(m[4]["ids"]): m[4]["data"]["record"] for m in self.came(ws)}
        self.assertEqual(got, {(ids[0],): {"id": 1, "t": "x"}, (ids[1],): {"id": 1, "a": 2, "t": "x"}, (ids[2],): {"id": 1, "a": 2}})


class Filters(WithDatabase):
    # A filter, and what it means. The rows are judged by PostgreSQL itself.
    MEANING = {
        "n=eq.2": "n = 2", "n=neq.2": "n <> 2", "n=lt.2": "n < 2", "n=lte.2": "n <= 2", "n=gt.1": "n > 1", "n=gte.1": "n >= 1",
        "n=in.(1,3)": "n in (1, 3)", "n=not.in.(1,3)": "n not in (1, 3)", "n=not.gt.1": "not n > 1", "n=not.eq.2": "not n = 2",
        "t=eq.": "t = ''", "t=eq.a,b": None, 't=eq."a,b"': "t = 'a,b'", r't=eq."q\"x"': "t = 'q\"x'", 't=in.("a,b",x)': "t in ('a,b', 'x')",
        "t=like.a%": "t like 'a%'", "t=ilike.A%": "t ilike 'A%'", "t=not.like.a%": "t not like 'a%'", "t=match.^[ax]": "t ~ '^[ax]'",
        "t=imatch.^[AX]": "t ~* '^[AX]'", "t=is.null": "t is null", "t=not.is.null": "t is not null", "b=is.true": "b is true",
        "b=is.false": "b is false", "b=is.unknown": "b is unknown", "b=not.is.true": "b is not true", "b=eq.false": "not b",
        "n=isdistinct.2": "n is distinct from 2", "n=not.isdistinct.2": "n is not distinct from 2", "n=gt.1,t=is.null": "n > 1 and t is null",
        "n=gte.1,n=lt.3,b=is.true": "n between 1 and 2 and b", "t=gt.b": "t > 'b'", "": "true", " ": "true",
    }

    def test_what_they_mean(self):
        self.table("rows", "id int8 primary key, n int4, t text, b bool")
        rows = [(n, t, b) for n in ("1", "2", "3", "null") for t in ("'a'", "'a,b'", "'A'", "'x'", "'q\"x'", "''", "null")
                for b in ("true", "false", "null")]
        ws = self.client()
        for i, text in enumerate(self.MEANING):
            said = self.bind(ws, {"schema": "public", "table": "rows", "filter": text}, topic=f"realtime:{i}")[1]
            self.assertEqual(said.startswith("Error parsing `filter` params"), self.MEANING[text] is None, said)
        self.sql("insert into rows values " + ",".join(f"({i}, {n}, {t}, {b})" for i, (n, t, b) in enumerate(rows)))
        got = self.came(ws)
        for i, (text, meaning) in enumerate(self.MEANING.items()):
            want = self.sql(f"select id from rows where {meaning or 'false'} order by id").split()
            self.assertEqual([str(m[4]["data"]["record"]["id"]) for m in got if m[2] == f"realtime:{i}"], want, text)

    def test_a_hundred_values(self):
        values = ",".join(map(str, range(100)))
        ws, _ = self.feed(dict(NOTES, filter=f"a=in.({values})"))
        self.sql("insert into notes values (1, 99), (2, 100)")
        self.assertEqual(self.rows(ws), [["INSERT", {"id": 1, "a": 99, "t": None}]])


class Values(WithDatabase):
    def test_digits(self):
        self.table("digits", "id int8 primary key, n numeric, m numeric(40,10), j jsonb, f float8")
        ws, _ = self.feed({"schema": "public", "table": "digits"})
        self.sql("insert into digits values (-9223372036854775808, 123456789012345678901234567890.10, 1.5, "
                 "'{\"x\": 12345678901234567890.50}', 0.1)")
        self.markers.wait()
        text = ws.recv()
        row = json.loads(text, parse_int=str, parse_float=str)[4]["data"]["record"]
        self.assertEqual(row, {"id": "-9223372036854775808", "n": "123456789012345678901234567890.10", "m": "1.5000000000",
                               "j": {"x": "12345678901234567890.50"}, "f": "0.1"})

    def test_texts(self):
        ws, _ = self.feed()
        texts = ["", "é 😀", "\"\\/\b\f\n\r\t\x01\x7f\u2028", "null", "{\"a\": 1}", "[1]", "1", "x" * 10000]
        for i, text in enumerate(texts):
            quoted = text.replace("'", "''")
            self.sql(f"insert into notes values ({i}, 0, '{quoted}')")
        self.assertEqual([row[1]["t"] for row in self.rows(ws)], texts)

    def test_the_message(self):
        for vsn in "1.0.0", "2.0.0":
            ws, [number] = self.feed(vsn=vsn)
            self.sql("insert into notes values (1, 2, 'x'); update notes set a = 3; delete from notes")
            got = self.came(ws)
            columns = [{"name": "id", "type": "int8"}, {"name": "a", "type": "int4"}, {"name": "t", "type": "text"}]
            common = {"schema": "public", "table": "notes", "columns": columns, "errors": None}
            for m in got:
                self.assertRegex(m[4]["data"].pop("commit_timestamp"), STAMP)
            self.assertEqual(got, [[None, None, T, "postgres_changes", {"ids": [number], "data": dict(common, **data)}] for data in (
                {"type": "INSERT", "record": {"id": 1, "a": 2, "t": "x"}},
                {"type": "UPDATE", "record": {"id": 1, "a": 3, "t": "x"}, "old_record": {"id": 1}},
                {"type": "DELETE", "old_record": {"id": 1}})])


class Order(WithDatabase):
    def test_the_order_of_the_commits(self):
        ws, _ = self.feed()
        sessions = [Psql(POSTGRES.conninfo_of(self.name)) for _ in range(3)]
        for i, session in enumerate(sessions):
            self.addCleanup(session.close)
            session.run(f"begin; insert into notes values ({i}); insert into notes values ({i + 10})")
        for i in 1, 2, 0:
            sessions[i].run("commit")
        self.assertEqual([row[1]["id"] for row in self.rows(ws)], [1, 11, 2, 12, 0, 10])

    def test_many_rows(self):
        sockets = [self.feed(vsn=vsn)[0] for vsn in ("1.0.0", "2.0.0")]
        self.sql("insert into notes select i, i from generate_series(1, 700) i")
        self.sql("".join(f"insert into notes values ({i});" for i in range(701, 801)))
        for ws in sockets:
            self.assertEqual([row[1]["id"] for row in self.rows(ws)], list(range(1, 801)))

    def test_a_rolled_back_row_is_none(self):
        ws, _ = self.feed()
        self.sql("begin; insert into notes values (1); rollback; insert into notes values (2)")
        self.assertEqual([row[1]["id"] for row in self.rows(ws)], [2])

    def test_a_leave_ends_it_for_oneself(self):
        leaver, stayer, gone = (self.feed()[0] for _ in range(3))
        self.bind(leaver, NOTES, topic="realtime:other")
        ref = leaver.push(T, "phx_leave", {})
        leaver.expect("phx_close", T)
        gone.abort()
        self.sql("insert into notes values (1)")
        self.assertEqual(self.rows(leaver, "realtime:other"), [["INSERT", {"id": 1, "a": None, "t": None}]], ref)
        self.assertEqual(len(self.rows(stayer)), 1)

    def test_a_join_that_replaces_another(self):
        ws, _ = self.feed(dict(NOTES, event="INSERT"))
        self.assertEqual(ws.join(T, {"postgres_changes": [dict(NOTES, event="DELETE")]})["status"], "ok")
        self.assertEqual(self.said(ws), "ok")
        self.sql("insert into notes values (1); delete from notes")
        self.assertEqual(self.rows(ws), [["DELETE", {"id": 1}]])

    def test_an_ended_channel(self):
        ws, _ = self.feed()
        ws.push(T, "access_token", {"access_token": "nonsense"})
        ws.expect("phx_close", T)
        self.sql("insert into notes values (1)")
        self.assertEqual(self.rows(ws), [])

    def test_a_join_of_the_old_form(self):
        ws = self.client()
        topic = "realtime:public:notes:a=eq.1"
        ws.push(topic, "phx_join", {"access_token": self.server.token()}, ref="1", join_ref="1")
        self.assertEqual(ws.expect("phx_reply", topic)[4]["status"], "ok")
        self.assertEqual(ws.expect("system", topic)[4]["status"], "ok")
        self.sql("insert into notes values (1, 1), (2, 2); update notes set t = 'x'")
        got = self.came(ws)
        self.assertEqual([(m[:4], m[4]["type"], m[4]["record"]["id"]) for m in got],
                         [([None, None, topic, "INSERT"], "INSERT", 1), ([None, None, topic, "UPDATE"], "UPDATE", 1)])

    def test_what_was_before_the_join_is_not_told(self):
        self.sql("insert into notes values (1)")
        self.markers.wait()
        ws, _ = self.feed()
        self.sql("insert into notes values (2)")
        self.assertEqual([row[1]["id"] for row in self.rows(ws)], [2])

    def test_a_restarted_database(self):
        ws, _ = self.feed()
        POSTGRES.stop()
        self.assertEqual(ws.heartbeat(), [])
        POSTGRES.start()
        sent, got = [], []

        def arrives():
            sent.append(len(sent) + 1)
            self.sql(f"insert into notes values ({sent[-1]})")
            got.extend(brief(m) for m in ws.heartbeat())
            return got

        until(arrives, "rows come again")
        before = len(sent)
        self.sql(f"insert into notes values ({before + 1})")
        got += self.rows(ws)
        # Those of the meantime may be lost; from the first one on all come, in order, and nothing else is said.
        first = got[0][1]["id"]
        self.assertEqual([row[1]["id"] for row in got], list(range(first, before + 2)))


class Rights(WithDatabase):
    def setUp(self):
        super().setUp()
        self.users = [str(uuid.uuid4()) for _ in range(2)]
        self.tokens = [self.server.token("authenticated", sub=user) for user in self.users]
        self.table("own", "id int8 primary key, owner uuid, t text", "alter table own enable row level security",
                   "create policy own on own for select to authenticated using (owner = auth.uid())")
        self.own = {"schema": "public", "table": "own"}

    def fill(self):
        self.sql(f"insert into own values (1, '{self.users[0]}', 'x'), (2, '{self.users[1]}', 'y'), (3, null, 'z')")

    def test_two_users_on_one_socket(self):
        ws = self.client()
        ids = [self.bind(ws, self.own, topic=f"realtime:{i}", token=token)[0] for i, token in enumerate(self.tokens)]
        self.assertEqual(ids[0], ids[1])
        self.fill()
        self.assertEqual([(m[2], m[4]["data"]["record"]["id"], m[4]["ids"]) for m in self.came(ws)],
                         [("realtime:0", 1, ids[0]), ("realtime:1", 2, ids[1])])

    def test_roles(self):
        anon, _ = self.feed(self.own)
        service, _ = self.feed(self.own, token=self.server.token("service_role"))
        self.fill()
        self.assertEqual(self.rows(anon), [])
        self.assertEqual([row[1]["id"] for row in self.rows(service)], [1, 2, 3])
        self.sql("delete from own")
        # A delete is told to everybody, with the primary key alone.
        for ws in anon, service:
            self.assertEqual(self.rows(ws), [["DELETE", {"id": i}] for i in (1, 2, 3)])

    def test_hidden_columns(self):
        self.sql("revoke select on notes from anon; grant select (id, t) on notes to anon")
        anon, _ = self.feed()
        service, _ = self.feed(token=self.server.token("service_role"))
        self.sql("insert into notes values (1, 2, 'x')")
        [m] = self.came(anon)
        self.assertEqual((brief(m), m[4]["data"]["columns"]),
                         (["INSERT", {"id": 1, "t": "x"}], [{"name": "id", "type": "int8"}, {"name": "t", "type": "text"}]))
        self.assertEqual(self.rows(service), [["INSERT", {"id": 1, "a": 2, "t": "x"}]])

    def test_a_hidden_primary_key(self):
        anon, _ = self.feed()
        self.sql("revoke select on notes from anon; insert into notes values (1)")
        [m] = self.came(anon)
        self.assertEqual((brief(m), m[4]["data"]["columns"], m[4]["data"]["errors"], m[4]["data"]["commit_timestamp"]),
                         (["INSERT", {}], [], ["Error 401: Unauthorized"], None))

    def test_a_new_token_is_another_user(self):
        ws, _ = self.feed(self.own, token=self.tokens[0])
        self.sql(f"insert into own values (1, '{self.users[0]}'), (2, '{self.users[1]}')")
        self.assertEqual([row[1]["id"] for row in self.rows(ws)], [1])
        ws.push(T, "access_token", {"access_token": self.tokens[1]})
        self.assertEqual(self.said(ws), "ok")
        self.sql(f"insert into own values (3, '{self.users[0]}'), (4, '{self.users[1]}')")
        self.assertEqual([row[1]["id"] for row in self.rows(ws)], [4])

    def test_a_new_token_loses_no_row(self):
        ws, _ = self.feed()
        for i in range(40):
            self.sql(f"insert into notes values ({i})")
            if i % 10 == 5:
                ws.push(T, "access_token", {"access_token": self.server.token(n=i)})
        got = self.came(ws)
        self.assertEqual([m[4]["data"]["record"]["id"] for m in got if m[3] == "postgres_changes"], list(range(40)))
        while sum(m[3] == "system" for m in got) < 4:
            got.append(ws.expect("system", T))
        self.assertEqual(self.rows(ws), [])


class Orders(WithBindings):
    """Without a database: all tables exist, rows come by order."""

    def test_rows(self):
        ws = self.client()
        all_ids = {topic: self.bind(ws, binding, topic=f"realtime:{topic}")[0] for topic, binding in (
            ("all", NOTES), ("insert", dict(NOTES, event="INSERT")), ("eq", dict(NOTES, filter="a=eq.1")), ("other", {"schema": "x"}))}
        self.server.postgres_row("notes", "INSERT", record={"id": 12345678901234567890, "a": 1})
        self.server.postgres_row("notes", "UPDATE", record={"a": 2}, old_record={"id": 7}, errors=["Error 413: Payload Too Large"],
                                 columns=[{"name": "a", "type": "int4"}], commit_timestamp="2024-01-02T03:04:05.678Z")
        self.server.postgres_row("notes", "DELETE", old_record={"a": 1})
        self.server.postgres_row("t", "INSERT", schema="x", record={})
        got = ws.heartbeat()
        for m in got:
            self.assertEqual(m[4]["ids"], all_ids[m[2].removeprefix("realtime:")])
        types = {topic: [brief(m) for m in got if m[2] == "realtime:" + topic] for topic in all_ids}
        rows = [["INSERT", {"id": 12345678901234567890, "a": 1}], ["UPDATE", {"a": 2}], ["DELETE", {"a": 1}]]
        self.assertEqual(types, {"all": rows, "insert": rows[:1], "eq": [rows[0], rows[2]], "other": [["INSERT", {}]]})
        first, second = [m[4]["data"] for m in got if m[2] == "realtime:all"][:2]
        self.assertRegex(first.pop("commit_timestamp"), STAMP)
        self.assertEqual(first, {"type": "INSERT", "schema": "public", "table": "notes", "columns": [], "errors": None, "record": rows[0][1]})
        self.assertEqual(second, {"type": "UPDATE", "schema": "public", "table": "notes", "columns": [{"name": "a", "type": "int4"}],
                                  "errors": ["Error 413: Payload Too Large"], "record": {"a": 2}, "old_record": {"id": 7},
                                  "commit_timestamp": "2024-01-02T03:04:05.678Z"})

    def test_refusals(self):
        self.server.postgres_refuse("public", "bad", times=2)
        for topic, table, good in (("1", "bad", False), ("2", "notes", True), ("3", "bad", False), ("4", "bad", True)):
            said = self.bind(self.client(), {"schema": "public", "table": table}, topic=f"realtime:{topic}")[1]
            self.assertEqual(said, "ok" if good else "Unable to subscribe to changes with given parameters. Please check Realtime is "
                             "enabled for the given connect parameters: [event: *, schema: public, table: bad, filters: [], select: nil]")

    def test_a_late_subscription(self):
        self.server.postgres_delay(2000, prefix="realtime:slow")
        fast, slow = self.client(), self.client()
        self.assertEqual(self.bind(fast, NOTES)[1], "ok")
        slow.join("realtime:slow:1", {"postgres_changes": [NOTES]})
        self.server.postgres_row("notes", "INSERT", record={})
        self.assertEqual(slow.heartbeat(), [])
        self.assertEqual([brief(m) for m in fast.heartbeat()], [["INSERT", {}]])
        self.assertEqual(self.said(slow, "realtime:slow:1"), "ok")
        self.server.postgres_row("notes", "INSERT", record={})
        self.assertEqual([brief(m) for m in slow.heartbeat()], [["INSERT", {}]])

    def test_raw_messages(self):
        ws, other = self.feed()[0], self.feed(topic="realtime:other")[0]
        for payload in {}, None, [1], {"ids": [1], "data": {"type": "x"}}, "text":
            self.server.postgres_raw(T, payload)
            self.assertEqual(ws.heartbeat(), [[None, None, T, "postgres_changes", payload]])
        self.assertEqual(other.heartbeat(), [])

    def test_again(self):
        ws, _ = self.feed()
        self.server.postgres_again(T)
        self.assertEqual(self.said(ws), "ok")

    def test_lost(self):
        ws, _ = self.feed()
        self.server.postgres_lost(T, ms=2000)
        self.assertIn("Too many database timeouts", self.said(ws))
        self.server.postgres_row("notes", "INSERT", record={})
        self.assertEqual(ws.heartbeat(), [])
        self.assertEqual(self.said(ws), "ok")
        self.server.postgres_row("notes", "INSERT", record={})
        self.assertEqual([brief(m) for m in ws.heartbeat()], [["INSERT", {}]])

    def test_the_status(self):
        ws, _ = self.feed()
        self.server.postgres_row("notes", "INSERT", record={})
        self.server.postgres_row("other", "INSERT", record={})
        ws.heartbeat()
        [topic] = self.server.wait_subscribed(T)["sockets"][0]["topics"]
        self.assertEqual((topic["bindings"], topic["subscribed"], topic["rows"]), (1, True, 1))

    def test_bad_orders(self):
        for order in ({"op": "postgres_row"}, {"op": "postgres_row", "table": "t"}, {"op": "postgres_row", "table": "t", "type": "TRUNCATE"},
                      {"op": "postgres_row", "table": 1, "type": "INSERT"}, {"op": "postgres_refuse", "table": "t"},
                      {"op": "postgres_refuse", "schema": "s"}, {"op": "postgres_delay"}, {"op": "postgres_delay", "ms": -1},
                      {"op": "postgres_raw", "topic": T}, {"op": "postgres_raw", "payload": {}}, {"op": "postgres_again"},
                      {"op": "postgres_lost"}):
            status, _, text = self.server.request("POST", "/_devserver/fault", json.dumps(order))
            self.assertEqual(status, 400, order)
            self.assertTrue(json.loads(text)["error"])


class PrivateOnly(WithBindings):
    options = {"private_only": True}

    def test_public_joins_are_refused(self):
        ws = self.client()
        self.assertEqual(ws.join(T, {"postgres_changes": [NOTES]}),
                         {"status": "error", "response": {"reason": "PrivateOnly: This project only allows private channels"}})
        self.assertEqual(ws.join(T, {"private": True, "postgres_changes": [NOTES]})["status"], "ok")
        self.assertEqual(self.said(ws), "ok")


if __name__ == "__main__":
    behaviour.BIN = sys.argv.pop(1)
    unittest.main()
