# SPDX-License-Identifier: MIT
"""Database changes: what takes its time. Many rows through a restart of the server; what the daemon does after some seconds only."""

import secrets
import threading
import unittest

from rtbtest.changes import Changes, Wanted, follow_rows, look, start_postgres
from rtbtest.wait import DEADLINE, Deadline, until

ROWS = 100000
CHUNK = 1000
CLIENTS = 5


def setUpModule():
    start_postgres()


class ManyRows(Changes):
    sections = {"limits": {"client_queue": "64M"}}

    def test_through_a_restart(self):
        """Every row reaches every client in order and once; what is missing lies inside one gap that was told."""
        table = self.numbered()
        watches = self.watches(table, CLIENTS)
        for i, w in enumerate(watches):
            w.watch([table.all(), table.part(i)])

        def fill(upto):
            # Never far ahead: the server is to be restarted amid rows, but not amid all of them.
            while table.last < upto:
                table.insert(CHUNK)
                follow_rows(watches, table.last - 3 * CHUNK)
        fill(ROWS // 2)
        restart = threading.Thread(target=self.server.restart)
        restart.start()
        end = Deadline()
        while not all(s.gaps and not s.gap_open for w in watches for s in w.streams.values()):
            table.insert(20)
            look(watches)
            end.left("rows after the restart")
        restart.join(DEADLINE)
        fill(ROWS)
        follow_rows(watches, table.last)
        missing = set()
        for w in watches:
            self.assertEqual(w.take("error"), [])
            self.assertEqual([n["state"] for n in w.take("connection")], ["backoff", "online"])
            for s in w.streams.values():
                self.assertEqual((s.wanted.fits(s.first), s.first <= table.parts, s.has(table.last)), (True, True, True))
                self.assertEqual((len(s.gaps), len(s.holes) <= 1), (1, True))
                self.assertEqual(s.gaps[0]["cause"], "connection")
                hole = range(s.holes[0][0] + 1, s.holes[0][1]) if s.holes else range(0)
                lost = sum(s.wanted.fits(n) for n in hole)
                self.assertEqual(s.count + lost, sum(s.wanted.fits(n) for n in range(1, table.last + 1)))
                missing.add(lost)
        print(f"{table.last} rows, missing {sorted(missing)}; frames of the clients: {[w.frames for w in watches]}")
        self.assertGreater(max(missing), 0, "the restart was meant to cost something")


class Later(Changes):
    def test_a_table_that_is_published_later(self):
        at = self.table("later", "n int8 primary key", published=False)
        first, second = self.peer(), self.peer()
        [entry] = first.subscribe("", postgres_changes=[at])["postgres_changes"]
        self.assertEqual((entry["state"], entry["code"]), ("error", "binding_refused"))
        self.sql("alter publication supabase_realtime add table later")
        # The refusal is remembered for 10 s; then who asks makes it be tried again.
        [again] = second.subscribe("", postgres_changes=[at])["postgres_changes"]
        self.assertEqual(again, entry)
        until(lambda: second.subscribe("", postgres_changes=[at])["postgres_changes"][0]["state"] == "ready", "tried again", pause=0.5)
        told = first.wait_notice("channel", lambda n: n["postgres_changes"][0]["state"] == "ready")
        self.assertEqual(told["postgres_changes"], [{"id": entry["id"], "state": "ready"}])
        self.sql("insert into later values (1)")
        for peer in first, second:
            row = peer.wait_notice("postgres_changes")
            self.assertEqual((row["ids"], row["data"]["record"]), ([entry["id"]], {"n": 1}))
            self.assertEqual(peer.take("gap"), [])  # nothing was promised before


class PrivateTogether(Changes):
    server_options = {"private_only": True}

    def test_two_clients_on_one_topic(self):
        topic = "room:" + secrets.token_hex(4)
        table = self.numbered()
        listener, sender = self.peer(), self.peer()
        for p in listener, sender:
            p.subscribe(topic, private=True)
        a, b = self.watches(table, 2)
        a.only_mine = b.only_mine = True  # what the others ask for is none of theirs
        with self.writer(table):
            first = a.watch([table.all(1), table.part(0)], topic, private=True, timeout_ms=60000)
            self.assertEqual([e["state"] for e in first["postgres_changes"]], ["ready"] * 2)
            follow_rows([a], table.last + 20)
            wanted = [table.all(1), table.part(1), Wanted(lambda n: False, schema="public", table="none")]
            wish = b.want(wanted, topic, private=True, timeout_ms=60000)
            n = 0
            while wish not in b.responses:
                # Messages and rows flow while the channel is joined anew, but for the gap that is told.
                self.assertEqual(sender.broadcast(topic, "n", n, private=True, ttl_ms=60000)["outcome"], "acked")
                n += 1
                look([a, b])
            second = b.result(wish)
            self.assertEqual([e["state"] for e in second["postgres_changes"]], ["ready", "ready", "error"])
            self.assertEqual(second["postgres_changes"][0]["id"], first["postgres_changes"][0]["id"])
            follow_rows([a, b], table.last + 50)
        follow_rows([a, b], table.last)
        listener.sync(upstream=True)
        self.assertEqual([p["payload"] for p in listener.take("broadcast")], list(range(n)))
        for p in listener, sender, a:
            self.assertEqual({g["cause"] for g in p.take("gap")}, {"postgres_changes"})
        self.assertEqual({t["topic"] for s in self.server.status()["sockets"] for t in s["topics"]}, {"realtime:" + topic})
        # Who leaves takes nothing along.
        b.call("unsubscribe", {"chan": b.chan})
        b.streams = {}
        table.insert(10)
        follow_rows([a], table.last)
        b.sync(upstream=True)
        self.assertEqual(sender.broadcast(topic, "last", 1, private=True)["outcome"], "acked")
        listener.wait_notice("broadcast", lambda p: p["event"] == "last")


if __name__ == "__main__":
    unittest.main()
