# SPDX-License-Identifier: MIT
"""Database changes of the devserver as the official client (npm @supabase/realtime-js) sees them."""

import os
import secrets
import unittest

from conformance import Js
from rtbtest.devserver import DevServer
from rtbtest.postgres import Postgres

NOTES = {"schema": "public", "table": "notes"}
POSTGRES = None


def setUpModule():
    global POSTGRES
    POSTGRES = unittest.enterModuleContext(Postgres())


class Changes(unittest.TestCase):
    js_vsn = "2.0.0"

    def setUp(self):
        name = "test_" + secrets.token_hex(4)
        conninfo = POSTGRES.create_database(name)
        self.addCleanup(POSTGRES.drop_database, name)
        self.sql = lambda text: POSTGRES.sql(text, name)
        self.server = self.enterContext(DevServer(os.path.join(os.environ["RTB_BIN"], "rtbridge-devserver"), postgres=conninfo))
        self.sql("create table notes (id int8 primary key, n numeric, t text, tags text[]);"
                 "grant select on notes to anon; alter publication supabase_realtime add table notes")
        self.js = Js(self.server.url, self.server.token(), self.js_vsn)
        self.addCleanup(self.js.close)

    def watch(self, topic, *bindings):
        """Joins; a mismatch of the bindings and the server's answer would be a CHANNEL_ERROR."""
        self.js.do("changes", topic=topic, bindings=bindings)
        self.assertEqual(self.js.wait("status", topic=topic)["status"], "SUBSCRIBED")
        return self.js.wait("system", topic=topic)

    def change(self, topic, binding=0):
        payload = self.js.wait("change", topic=topic, binding=binding)["payload"]
        self.assertEqual((payload["schema"], payload["table"], payload["errors"]), ("public", "notes", None))
        self.assertRegex(payload["commit_timestamp"], r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
        return payload["eventType"], payload["new"], payload["old"]

    def test_insert_update_delete(self):
        said = self.watch("all", dict(NOTES, event="*"))
        self.assertEqual((said["status"], said["message"]), ("ok", "Subscribed to PostgreSQL"))
        self.sql("insert into notes values (1, 1.5, 'x', '{a,b}'); update notes set t = 'y'; delete from notes")
        row = {"id": 1, "n": 1.5, "t": "x", "tags": ["a", "b"]}
        self.assertEqual(self.change("all"), ("INSERT", row, {}))
        self.assertEqual(self.change("all"), ("UPDATE", dict(row, t="y"), {"id": 1}))
        self.assertEqual(self.change("all"), ("DELETE", {}, {"id": 1}))

    def test_several_bindings(self):
        self.watch("several", dict(NOTES, event="INSERT"), dict(NOTES, event="UPDATE", filter="t=eq.y"),
                   dict(NOTES, event="*", filter="n=gte.2"), dict(event="DELETE", schema="public"))
        self.sql("insert into notes values (1, 1, 'x'), (2, 2, 'x'); update notes set t = 'y' where id = 1;"
                 "delete from notes where id = 1; delete from notes where id = 2")
        for binding, wanted in enumerate(([("INSERT", 1), ("INSERT", 2)], [("UPDATE", 1)], [("INSERT", 2)], [("DELETE", 1), ("DELETE", 2)])):
            got = [self.change("several", binding) for _ in wanted]
            self.assertEqual([(event, (new or old)["id"]) for event, new, old in got], wanted)
        # Nothing else: rows come in the order of their commits, and this one is the last.
        self.sql("insert into notes values (3, 0, 'end')")
        self.assertEqual(self.change("several", 0)[1]["id"], 3)
        self.assertEqual([m for m in self.js.kept if m["type"] == "change"], [])

    def test_a_binding_that_the_database_refuses(self):
        said = self.watch("bad", dict(event="*", schema="public", table="none"))
        self.assertEqual(said["status"], "error")
        self.assertIn("table: none", said["message"])

    def test_after_a_leave(self):
        self.watch("one", dict(NOTES, event="*"))
        self.watch("two", dict(NOTES, event="*"))
        self.js.do("leave", topic="one")
        self.assertEqual(self.js.wait("left")["result"], "ok")
        self.js.wait("status", topic="one", status="CLOSED")
        self.sql("insert into notes values (1)")
        self.assertEqual(self.change("two")[1]["id"], 1)
        self.assertEqual([m for m in self.js.kept if m["type"] == "change"], [])
        self.assertEqual(self.watch("one", dict(NOTES, event="INSERT"))["status"], "ok")
        self.sql("insert into notes values (2)")
        self.assertEqual(self.change("one")[1]["id"], 2)


class ChangesVsn1(Changes):
    js_vsn = "1.0.0"


if __name__ == "__main__":
    unittest.main()
