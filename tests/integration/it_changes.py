# SPDX-License-Identifier: MIT
"""Database changes from end to end: a real PostgreSQL, whose rows local clients get through the shared connection."""

import secrets
import unittest

from rtbtest.changes import Changes, Wanted, follow, follow_rows, start_postgres
from rtbtest.peer import RequestError


def setUpModule():
    start_postgres()


class Steady(Changes):
    """Stories in which nobody is to notice what others do."""

    def steady(self, watches):
        """None was told of an interruption."""
        self.assertEqual([w.stopped for w in watches if w.stopped], [])


class Many(Steady):
    """What many bindings of many clients cost, and that moving them about is not noticed."""

    sections = {"limits": {"channels": "40"}}

    def test_many_bindings_in_few_channels(self):
        table = self.numbered(parts=24)
        watches = self.watches(table, 20)
        with self.writer(table, count=2):
            wishes = [w.want([table.all(i)] + [table.part(j, i) for j in range(24)]) for i, w in enumerate(watches)]
            for w, wish in zip(watches, wishes):
                self.assertEqual([e["state"] for e in w.result(wish)["postgres_changes"]], ["ready"] * 25)
            self.assertEqual(len({id for w in watches for id in w.streams}), 500)
            feeds = self.feeds()
            self.assertEqual(sum(t["bindings"] for t in feeds), 500)
            self.assertLessEqual(len(feeds), 20)
            follow_rows(watches, table.last + 20)
            # Ordinary channels take the room.
            other = self.peer()
            for i in range(16):
                other.subscribe(f"topic:{i}")
            follow(watches, lambda: len(feeds := self.feeds()) <= 12 and sum(t["bindings"] for t in feeds) == 500, "feeds are merged")
            follow_rows(watches, table.last + 20)
        follow_rows(watches, table.last)
        self.steady(watches)
        self.assertEqual(len(self.server.sockets()), 1)


class Sharing(Steady):
    """Clients that have bindings in common, that come and go."""

    def test_the_same_bindings_need_one_feed(self):
        table = self.numbered(parts=4)
        watches = self.watches(table, 16)
        before = {t["topic"] for t in self.feeds()}
        with self.writer(table):
            wishes = [w.want([table.all()] + [table.part(i) for i in range(4)]) for w in watches]
            for w, wish in zip(watches, wishes):
                self.assertEqual([e["state"] for e in w.result(wish)["postgres_changes"]], ["ready"] * 5)
            self.assertEqual(len({id for w in watches for id in w.streams}), 5)
            self.assertEqual([t["bindings"] for t in self.feeds() if t["topic"] not in before], [5])
            follow_rows(watches, table.last + 100)
        follow_rows(watches, table.last)
        self.steady(watches)
        for w in watches:
            # In one feed a row is one message, whatever it is for.
            self.assertEqual(w.frames, max(s.last for s in w.streams.values()) - min(s.first for s in w.streams.values()) + 1)

    def test_coming_and_going_while_rows_flow(self):
        table = self.numbered(parts=10)
        stayers = self.watches(table, 4)
        for i, w in enumerate(stayers):
            w.watch([table.all(), table.all(i), table.part(i)])
        changer, guest = self.watch(table), self.watch(table)
        everybody = stayers + [changer, guest]
        kept = [table.all(), table.part(3, 7)]
        changer.watch(kept)
        with self.writer(table):
            for step in range(10):
                some = [table.part(i, 20 * step + i + 10) for i in range(10)]
                # As a whole, one subscription after the other; and by clients that come and go.
                changer.watch(kept + some)
                guest.watch([table.part(i, 20 * step + i + 20) for i in range(10)], topic="here")
                follow_rows(everybody, table.last + 5)
                if step % 2:
                    changer.watch(kept)
                    guest.call("unsubscribe", {"topic": "here"})
                    guest.close()
                    guest = self.watch(table)
                    everybody[-1] = guest
        follow_rows(everybody, table.last)
        self.steady(everybody)
        self.assertEqual(len(changer.ended), 100)
        for w in stayers:
            self.assertGreater(next(iter(w.streams.values())).count, 100)

    def test_a_joined_channel_is_not_disturbed(self):
        topic = "calm:" + secrets.token_hex(4)
        table = self.numbered()
        listener, sender, outside = self.peer(), self.peer(), self.outside()
        listener.subscribe(topic)
        sender.subscribe(topic)
        outside.join(topic)

        def join_refs():
            return [t["join_ref"] for s in self.server.status()["sockets"] for t in s["topics"]
                    if t["topic"] == "realtime:" + topic and t["ack"]]  # the outside client wants no acks
        joined, watch = join_refs(), self.watch(table)
        self.assertEqual(len(joined), 1)
        for i in range(20):
            # On the channel's own topic, with and without its broadcasts; instead of the ones before, or after their end.
            wish = watch.want([table.all(), table.part(i % 10, i)], topic, **({"broadcast": {}} if i % 3 else {}))
            self.assertEqual(sender.broadcast(topic, "n", 2 * i)["outcome"], "acked")
            outside.broadcast(topic, "n", 2 * i + 1)
            watch.result(wish)
            table.insert()
            follow_rows([watch], table.last)
            if i % 4 == 3:
                watch.call("unsubscribe", {"topic": topic})
                watch.streams = {}
        got = [listener.wait_notice("broadcast")["payload"] for _ in range(40)]
        self.assertEqual(sorted(got), list(range(40)))
        self.assertEqual([n for n in got if n % 2 == 0], list(range(0, 40, 2)))
        listener.sync(upstream=True)
        self.assertEqual(listener.notices, [])
        self.assertEqual(join_refs(), joined)
        self.steady([watch])


class SharingV1(Sharing):
    vsn = "1.0.0"


class Refusals(Steady):
    """The server takes all bindings of a join or none; a bad one harms nobody all the same."""

    def bad(self, binding, code, *words):
        """Alone: its entry."""
        [entry] = self.peer().subscribe("bad", postgres_changes=[binding])["postgres_changes"]
        self.assertEqual((entry["state"], entry["code"]), ("error", code), entry)
        for word in words:
            self.assertIn(word, entry["text"])
        return entry

    def test_one_bad_among_fifty(self):
        table = self.numbered(parts=49)
        other, watch = self.watch(table), self.watch(table)
        other.watch([table.all(1)])
        wanted = [table.part(i) for i in range(49)]
        wanted.insert(31, Wanted(lambda n: False, schema="public", table=table.name, filter="nowhere=eq.1"))
        with self.writer(table):
            answer = watch.watch(wanted)
            self.assertEqual(answer["state"], "ready")
            bad = answer["postgres_changes"][31]
            self.assertEqual((bad["state"], bad["code"]), ("error", "binding_refused"))
            self.assertIn("Unable to subscribe to changes with given parameters", bad["text"])
            self.assertIn("nowhere", bad["text"])
            self.assertEqual([e for i, e in enumerate(answer["postgres_changes"]) if i != 31 and set(e.items()) != {("id", e["id"]), ("state", "ready")}], [])
            follow_rows([watch, other], table.last + 100)
        follow_rows([watch, other], table.last)
        self.steady([other])
        self.assertEqual(watch.take("gap"), [])
        # The answer is remembered: asked again at once, the server is not.
        before = self.server.status()["joins_ever"]
        [again] = self.peer().subscribe("again", postgres_changes=[wanted[31].binding])["postgres_changes"]
        self.assertEqual(again, bad)
        self.assertEqual(self.server.status()["joins_ever"], before)

    def test_several_bad_ones(self):
        table = self.numbered(parts=20)
        at = {"schema": "public", "table": table.name}
        self.table("unpublished", "id int8 primary key", published=False)
        bad = [({"schema": "public", "table": "unpublished"}, "binding_refused", "unpublished"), (dict(at, filter="n=eq.x"), "binding_refused", "n"),
               (dict(at, filter="n=what.1"), "bad_filter", "Error parsing `filter`"), (dict(at, select=["none"]), "binding_refused", "none"),
               ({"schema": "public", "table": "*", "select": ["n"]}, "bad_select", "wildcard"), ({"schema": "nowhere"}, "binding_refused", "nowhere")]
        watch = self.watch(table)
        wanted = [table.part(i) for i in range(20)] + [Wanted(lambda n: False, **b) for b, _, _ in bad]
        entries = watch.watch(wanted)["postgres_changes"]
        self.assertEqual([e["state"] for e in entries], ["ready"] * 20 + ["error"] * 6)
        for entry, (_, code, word) in zip(entries[20:], bad):
            self.assertEqual(entry["code"], code, entry)
            self.assertIn(word, entry["text"])
        table.insert(100)
        follow_rows([watch], table.last)
        for binding, code, word in bad:
            self.bad(binding, code, word)

    def test_all_bad(self):
        answer = self.peer().subscribe("", postgres_changes=[{"schema": "none"}, {"table": "none"}])
        self.assertEqual((answer["state"], [e["state"] for e in answer["postgres_changes"]]), ("ready", ["error", "error"]))

    def test_what_is_no_binding(self):
        peer = self.peer()
        for bad, word in (([{}], "schema or a table"), ([{"event": "TRUNCATE", "schema": "public"}], "event"), ([{"schema": 1}], "schema"),
                          ([{"schema": "s", "filter": "a=eq.1"}], "filter"), (["public"], "map"), ({"schema": "public"}, "array"),
                          ([{"schema": "s", "table": "t", "filter": "a=eq." + "x" * 9000}], "8 KiB"), ([{"schema": "a\n"}], "schema"),
                          ([{"schema": "s", "table": "t", "select": "a"}], "select")):
            with self.assertRaises(RequestError, msg=str(bad)[:100]) as caught:
                peer.subscribe("x", postgres_changes=bad)
            self.assertEqual(caught.exception.name, "bad_request")
            self.assertIn(word, caught.exception.text)
        self.assertEqual(peer.subscribe("x", postgres_changes=[{"schema": "public"}])["state"], "ready")

    def test_too_many_for_a_client(self):
        peer = self.peer()
        most = peer.hello["limits"]["bindings"]
        with self.assertRaises(RequestError) as caught:
            peer.subscribe("x", postgres_changes=[{"schema": "public", "table": "marks", "filter": f"n=gt.{i}"} for i in range(most + 1)])
        self.assertEqual(caught.exception.name, "too_many")
        self.assertIn("bindings", caught.exception.text)


class Private(Changes):
    """A project that allows private channels only: nobody has told the daemon."""

    server_options = {"private_only": True}

    def test_changes_ride_on_private_channels(self):
        topic = "room:" + secrets.token_hex(4)
        table = self.numbered()
        none, listener, sender, watch = self.peer(), self.peer(), self.peer(), self.watch(table)
        [entry] = none.subscribe("", postgres_changes=[table.all().binding])["postgres_changes"]
        self.assertEqual((entry["state"], entry["code"]), ("error", "private_only"))
        self.assertIn("private", entry["text"])
        self.assertTrue(none.status()["private_only"])
        for p in listener, sender:
            p.subscribe(topic, private=True)
        watch.only_mine = True
        with self.writer(table):
            bad = Wanted(lambda n: False, schema="public", table="none")
            answer = watch.watch([table.all(1), table.part(0), bad], topic, private=True, timeout_ms=60000)
            self.assertEqual([e["state"] for e in answer["postgres_changes"]], ["ready", "ready", "error"])
            for n in range(20):
                self.assertEqual(sender.broadcast(topic, "n", n, private=True)["outcome"], "acked")
            follow_rows([watch], table.last + 50)
        follow_rows([watch], table.last)
        self.assertEqual([listener.wait_notice("broadcast")["payload"] for _ in range(20)], list(range(20)))
        # Joined anew for the changes, of which who listens there was told; once.
        self.assertEqual([g["cause"] for g in listener.take("gap")], ["postgres_changes"])
        self.assertEqual(watch.take("gap"), [])
        status = watch.status()
        self.assertEqual([(f["chan"], f["bindings"], f["ready"]) for f in status["feeds"]], [(watch.chan, 2, True)])
        self.assertEqual({t["topic"] for s in self.server.status()["sockets"] for t in s["topics"]}, {"realtime:" + topic})


class Interrupted(Changes):
    """The server's own trouble is told, with the bindings that it is about."""

    def feed(self):
        """The topic of the newest feed."""
        return [t["topic"] for t in self.feeds()][-1]

    def test_pending_and_then_ready(self):
        table = self.numbered()
        self.server.postgres_delay(600, prefix="realtime:rtbridge:")
        watch = self.watch(table)
        answer = watch.watch([table.all(), table.part(0)], wait="joined")
        self.assertEqual((answer["state"], [e["state"] for e in answer["postgres_changes"]]), ("joined", ["pending"] * 2))
        told = watch.wait_notice("channel", lambda n: n["state"] == "ready")
        self.assertEqual(told["postgres_changes"], [{"id": e["id"], "state": "ready"} for e in answer["postgres_changes"]])
        self.assertEqual((told["chan"], told["topic"], watch.gaps()), (answer["chan"], "", []))
        for s in watch.streams.values():
            s.after = table.last
        table.insert(30)
        follow_rows([watch], table.last)

    def test_status(self):
        table = self.numbered()
        watch, other = self.watches(table, 2)
        watch.watch([table.all(), table.part(0)])
        other.watch([table.all()])
        table.insert(20)
        follow_rows([watch, other], table.last)
        guest = self.peer()
        [bad] = guest.subscribe("", postgres_changes=[{"table": "none", "schema": "public"}])["postgres_changes"]
        entry = guest.status()["postgres_changes"][-1]
        self.assertEqual((entry["id"], entry["state"], entry["code"], entry["text"]), (bad["id"], "error", bad["code"], bad["text"]))
        self.assertNotIn("feed", entry)
        guest.call("unsubscribe", {"all": True})
        status = watch.status()
        mine = {e["id"]: e for e in status["postgres_changes"]}
        all_id, part_id = list(watch.streams)
        feed = mine[all_id]["feed"]
        self.assertEqual(mine[all_id], {"id": all_id, "identity": 0, "binding": table.all().binding, "state": "ready", "feed": feed, "clients": 2, "rows": 20})
        self.assertEqual(mine[part_id], {"id": part_id, "identity": 0, "binding": table.part(0).binding, "state": "ready", "feed": feed, "clients": 1, "rows": 2})
        self.assertNotIn(bad["id"], mine)
        self.assertIn({"feed": feed, "identity": 0, "link": 0, "state": "ready", "bindings": 2, "ready": True}, status["feeds"])
        self.assertFalse(status["private_only"])

    def interrupted(self, watch, cause, gaps=1):
        """What was ready is not, and is again; each binding had `gaps` gaps by now."""
        down = watch.wait_notice("channel", lambda n: any(e["state"] == "pending" for e in n["postgres_changes"]))
        told = [e for e in down["postgres_changes"] if e["state"] == "pending"]
        self.assertEqual({e["code"] for e in told}, {cause})
        self.assertTrue(all(e["text"] for e in told), down)
        up = watch.wait_notice("channel", lambda n: all(e["state"] == "ready" for e in n["postgres_changes"]))
        self.assertEqual(up["state"], "ready")
        # The gaps were told first.
        for s in watch.streams.values():
            self.assertEqual((len(s.gaps), s.gaps[-1]["cause"]), (gaps, cause))
            self.assertLess(s.gaps[-1]["to"] - s.gaps[-1]["from"], 60000)
        watch.take("channel")

    def test_a_subscription_is_lost(self):
        table = self.numbered()
        watch, other = self.watch(table), self.watch(table)
        other.watch([table.all(1)])
        watch.watch([table.all(), table.part(0)])
        with self.writer(table):
            follow_rows([watch, other], table.last + 20)
            self.server.postgres_lost(self.feed(), ms=500)
            self.interrupted(watch, "database_query")
            follow_rows([watch, other], table.last + 20)
        follow_rows([watch, other], table.last)
        [everything, part] = watch.streams.values()
        self.assertEqual((len(everything.holes), len(everything.gaps), len(part.gaps)), (1, 1, 1))
        self.assertEqual(other.stopped, [])

    def test_said_again(self):
        """As the server does after a new token."""
        table = self.numbered()
        watch = self.watch(table)
        watch.watch([table.all()])
        with self.writer(table):
            self.server.postgres_again(self.feed())
            follow_rows([watch], table.last + 50)
        follow_rows([watch], table.last)
        self.assertEqual((watch.stopped, watch.take("channel")), ([], []))

    def test_a_change_that_cannot_be_read(self):
        table = self.numbered()
        watch = self.watch(table)
        watch.watch([table.all()])
        table.insert(5)
        follow_rows([watch], table.last)
        self.server.postgres_raw(self.feed(), {"ids": "?", "data": 1})
        gap = watch.wait_notice("gap")
        self.assertEqual((gap["cause"], gap["ids"]), ("undecodable", list(watch.streams)))
        table.insert(5)
        follow_rows([watch], table.last)
        self.assertEqual(watch.streams[gap["ids"][0]].count, 10)

    def test_the_connection_is_lost(self):
        table = self.numbered()
        watches = self.watches(table, 3)
        for i, w in enumerate(watches):
            w.watch([table.all(), table.part(i)])
        with self.writer(table):
            for n, code in enumerate((1006, 1012), 1):
                follow_rows(watches, table.last + 20)
                self.server.fault(op="close", code=code)
                for w in watches:
                    self.interrupted(w, "connection", n)
                follow_rows(watches, table.last + 20)
        follow_rows(watches, table.last)
        for w in watches:
            self.assertEqual([(len(s.gaps), len(s.holes) <= 2) for s in w.streams.values()], [(2, True)] * 2)


class Slow(Changes):
    sections = {"limits": {"client_queue": str(1 << 20)}}

    def test_who_does_not_read_is_told_so(self):
        table = self.numbered()
        stopped, reader, other = self.watch(table, "stopped"), self.watch(table), self.watch(table)
        for w in stopped, reader, other:
            w.watch([table.all(), table.part(1)])
        before = reader.status()["counters"]["slow_consumers"]
        # Eight times as much as waits for a client.
        for _ in range(80):
            table.insert(100, "x" * 1000)
            follow_rows([reader, other], table.last)
        status = reader.status()
        self.assertNotIn("stopped", [c["name"] for c in status["clients"]])
        self.assertEqual(status["counters"]["slow_consumers"], before + 1)
        for w in reader, other:
            self.assertEqual((w.stopped, w.frames), ([], table.last))
        # What it gets is in order and without a hole, and the reason is the last of it.
        stopped.wait_closed()
        self.assertEqual([(method, n["error"][1]) for method, n in stopped.notices], [("error", "slow_consumer")])
        self.assertEqual(stopped.frames, max(s.last for s in stopped.streams.values()))
        self.assertLess(stopped.frames, table.last)


if __name__ == "__main__":
    unittest.main()
