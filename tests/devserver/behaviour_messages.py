#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Messages that a real database sends, beyond the recordings: transactions, rights, what is stored, an outage.

usage: behaviour_messages.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import secrets
import select
import sys
import time
import unittest

import behaviour_stored
from behaviour_stored import T, WithServer
from rtbtest.devserver import DevServer
from rtbtest.markers import Markers
from rtbtest.postgres import Postgres, Psql

POSTGRES = None


def setUpModule():
    global POSTGRES
    POSTGRES = unittest.enterModuleContext(Postgres())


class WithDatabase(WithServer):
    options = {}

    def setUp(self):
        self.name = "test_" + secrets.token_hex(4)
        self.conninfo = POSTGRES.create_database(self.name)
        self.addCleanup(POSTGRES.drop_database, self.name)
        self.server = DevServer(behaviour_stored.BIN, postgres=self.conninfo, **self.options)
        self.addCleanup(self.server.stop)

    def sql(self, text):
        return POSTGRES.sql(text, self.name)

    def send(self, *numbers):
        """One transaction."""
        self.sql("; ".join(["begin"] + [f"select realtime.send('{{\"n\": {n}}}', 'e', 'room')" for n in numbers] + ["commit"]))

    def heard(self, ws, n):
        """The next n broadcasts; what comes in between is no matter."""
        found = []
        while len(found) < n:
            m = ws.recv_message()
            if isinstance(m, bytes) or m[3] == "broadcast":
                found.append(behaviour_stored.Got(m))
        return found


class Sending(WithDatabase):
    def test_transactions(self):
        a = self.member({"private": True})
        other = Psql(self.conninfo)
        self.addCleanup(other.close)
        other.run("begin; select realtime.send('{\"n\": 1}', 'e', 'room')")
        self.send(2, 3)
        self.sql("begin; select realtime.send('{\"n\": 4}', 'e', 'room'); rollback")
        other.run("commit")
        self.assertEqual([g.payload["n"] for g in self.heard(a, 3)], [2, 3, 1])

    def test_what_else_happens_to_rows(self):
        a, public = self.member({"private": True}), self.member()
        self.send(1, 2)
        self.sql("update realtime.messages set private = false; delete from realtime.messages where payload ->> 'n' = '2'")
        self.sql("insert into realtime.messages (topic, extension, payload, event, private) values ('room', 'broadcast', '{\"n\": 3}', 'own', true)")
        self.sql("insert into realtime.messages (topic, extension, event, private) values ('room', 'broadcast', 'no payload', true)")
        self.sql("insert into realtime.messages (topic, extension, payload, private) values ('room', 'broadcast', '{}', true)")
        self.sql("create schema other; create table other.messages (topic text, event text, payload jsonb); insert into other.messages values ('room', 'e', '{}')")
        self.send(4)
        self.assertEqual([(g.event, g.payload["n"]) for g in self.heard(a, 4)], [("e", 1), ("e", 2), ("own", 3), ("e", 4)])
        self.assertEqual(self.got(public), [])
        self.assertEqual([g.payload["n"] for g in self.replayed() if g.payload], [3, 4])

    def test_a_trigger(self):
        a = self.member({"private": True})
        self.sql("create table notes (id int8 primary key, t text);"
                 "create function told() returns trigger language plpgsql security definer as $$ begin"
                 " perform realtime.broadcast_changes('room', tg_op, tg_op, tg_table_name, tg_table_schema, new, old); return null; end $$;"
                 "create trigger told after insert or update or delete on notes for each row execute function told();"
                 "insert into notes values (1, 'x'); update notes set t = 'y'; delete from notes")
        rows = [(None, {"id": 1, "t": "x"}), ({"id": 1, "t": "x"}, {"id": 1, "t": "y"}), ({"id": 1, "t": "y"}, None)]
        self.assertEqual([(g.event, g.payload["operation"], g.payload["schema"], g.payload["table"], g.payload["old_record"], g.payload["record"])
                          for g in self.heard(a, 3)],
                         [(op, op, "public", "notes", *row) for op, row in zip(("INSERT", "UPDATE", "DELETE"), rows)])

    def test_policies_of_the_table(self):
        """Who may not insert sends nothing, and does not fail over it."""
        a = self.member({"private": True})
        self.sql("set role anon; select realtime.send('{\"n\": 1}', 'e', 'room'); reset role")
        self.sql("create policy p on realtime.messages for insert to anon with check (realtime.topic() = 'room')")
        self.sql("set role anon; select realtime.send('{\"n\": 2}', 'e', 'room'); select realtime.send('{\"n\": 3}', 'e', 'else'); reset role")
        self.send(4)
        self.assertEqual([g.payload["n"] for g in self.heard(a, 2)], [2, 4])

    def test_what_is_there_is_left_alone(self):
        self.sql("create or replace function realtime.topic() returns text language sql as $$ select 'mine' $$; insert into realtime.messages "
                 "(topic, extension, payload, event, private) values ('room', 'broadcast', '{\"n\": 1}', 'e', true)")
        self.server.restart()
        self.assertEqual(self.sql("select realtime.topic()"), "mine")
        self.assertEqual(self.numbers(), [1])


class Stored(WithDatabase):
    options = {"pg_delay_ms": 200}

    def test_a_message_that_is_replayed_comes_once(self):
        """What is sent is stored at once and comes a moment later."""
        b = self.member({"private": True})
        self.send(1, 2)
        a = self.client()
        a.join(T, self.config())
        self.send(3)
        self.assertEqual([g.payload["n"] for g in self.heard(b, 3)], [1, 2, 3])
        found = self.heard(a, 3)
        self.assertEqual([(g.payload["n"], g.meta.get("replayed")) for g in found], [(1, True), (2, True), (3, None)])
        self.assertEqual(self.got(a), [])

    def test_since_and_limit(self):
        self.sql("insert into realtime.messages (topic, extension, payload, event, private, inserted_at) select 'room', 'broadcast', "
                 "jsonb_build_object('n', n), 'e', true, (now() - n * interval '1 s') at time zone 'utc' from generate_series(0, 60) n")
        self.sql("set timezone = 'Asia/Tokyo'; insert into realtime.messages (topic, extension, payload, event, private) values "
                 "('room', 'broadcast', '{\"n\": -1}', 'e', true), ('room', 'broadcast', '{\"n\": -2}', 'e', false), ('room', 'presence', '{\"n\": -3}', 'e', true)")
        self.assertEqual(self.numbers(), list(range(23, -2, -1)))
        self.assertEqual(self.numbers(0, 2), [0, -1])
        self.assertEqual(self.numbers(int(time.time() * 1000) + 30000), [])


class Outage(WithDatabase):
    def test_a_join_waits_for_the_database(self):
        self.send(1)
        b, c = self.client(), self.client()
        self.assertEqual(b.join("realtime:open", {"broadcast": {"ack": True}})["status"], "ok")
        self.addCleanup(POSTGRES.start)  # nothing if it runs
        POSTGRES.stop()
        self.server.wait_status(lambda st: st["database"] is False, "the database is missed")
        a = self.client()
        a.push(T, "phx_join", {"config": self.config()}, ref="1", join_ref="1")
        c.push("realtime:open", "phx_join", {"config": {}}, ref="1", join_ref="1")  # public ones wait as well
        beat = c.push("phoenix", "heartbeat", {}, join_ref=None)
        # Who wants nothing of the database is not held up.
        self.assertEqual(b.expect("phx_reply", ref=b.broadcast("realtime:open", "e", {}))[4]["status"], "ok")
        self.assertEqual(b.heartbeat(), [])
        for ws in (a, c):
            self.assertFalse(select.select([ws.sock], [], [], 0)[0])
        POSTGRES.start()
        self.assertEqual(a.expect("phx_reply")[4]["status"], "ok")
        self.assertEqual([c.recv_message()[1:4:2], c.recv_message()[1:4:2]], [["1", "phx_reply"], [beat, "phx_reply"]])
        self.assertEqual(self.heard(a, 1)[0].payload["n"], 1)
        markers = Markers(self.server, self.sql)  # the stream is there again
        self.addCleanup(markers.close)
        self.send(2)
        self.assertEqual(self.heard(a, 1)[0].payload["n"], 2)


if __name__ == "__main__":
    behaviour_stored.BIN = sys.argv.pop(1)
    unittest.main()
