# SPDX-License-Identifier: MIT
"""Database changes from end to end: a real PostgreSQL, whose rows local clients get through the shared connection."""

import secrets
import unittest

from rtbtest.changes import Changes, follow, follow_rows, start_postgres
from rtbtest.peer import RequestError
from rtbtest.wait import until


def setUpModule():
    start_postgres()


class Steady(Changes):
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
        before = len(self.feeds())
        joins = self.server.status()["joins_ever"]
        with self.writer(table):
            wishes = [w.want([table.all()] + [table.part(i) for i in range(4)]) for w in watches]
            for w, wish in zip(watches, wishes):
                self.assertEqual([e["state"] for e in w.result(wish)["postgres_changes"]], ["ready"] * 5)
            self.assertEqual(len({id for w in watches for id in w.streams}), 5)
            self.assertEqual((len(self.feeds()), self.server.status()["joins_ever"]), (before + 1, joins + 1))
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


if __name__ == "__main__":
    unittest.main()
