#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Gaps: told once for each channel that was interrupted, with the moments; what the server has stored of that time follows."""

import unittest

from rtbtest.changes import Changes, start_postgres
from rtbtest.sends import fresh
from rtbtest.stored import Stored, strings, wall_ms
from rtbtest.wait import until


def setUpModule():
    start_postgres()


class Gaps(Stored):
    def joined(self, private, *wishes):
        """(topic, peers): a peer for each wish of broadcasts."""
        topic = fresh("private" if private else "public")
        peers = [self.peer() for _ in wishes]
        for peer, wish in zip(peers, wishes):
            peer.subscribe(topic, private=private, broadcast=wish)
        return topic, peers

    def ready(self, topic, *peers):
        """Each has been told that the channel is back; what came until now."""
        found = []
        for peer in peers:
            until(lambda: peer.drain() or ("channel", "ready") in self.told(peer, topic), "the channel is back")
            found.append(self.told_now(peer, topic))
        return found

    REJOINING, READY = ("channel", "rejoining"), ("channel", "ready")

    def test_stored_meanwhile(self):
        """In order, before the notice that the channel is back; what is live comes behind."""
        topic, peers = self.joined(True, {}, {"events": ["a"]}, {"self": True})
        self.down(peers[0])
        for n in range(10):
            self.store(topic, [n], event="ab"[n % 2])
        self.up()
        want = [self.REJOINING, ("gap", "replayed", 10), *strings(range(10)), self.READY]
        odd = [self.REJOINING, ("gap", "replayed", 10), *strings(range(0, 10, 2)), self.READY]
        self.assertEqual(self.ready(topic, *peers), [want, odd, want])
        self.send_live(topic, [10], event="a")
        self.assertEqual([self.told_now(p, topic) for p in peers], [[10]] * 3)

    def test_none_twice(self):
        """What had come live before is stored, too, and lies in the minute that is asked for."""
        for before in 5, 30, 100:
            with self.subTest(before=before):
                topic, peers = self.joined(True, {}, {})
                self.send_live(topic, range(before))
                for peer in peers:
                    self.assertEqual(self.told_now(peer, topic), list(range(before)))
                self.down(peers[0])
                self.store(topic, range(before, before + 5))
                self.up()
                stored = "replayed" if before + 5 < 25 else "truncated"
                want = [self.REJOINING, ("gap", stored, 5), *strings(range(before, before + 5)), self.READY]
                self.assertEqual(self.ready(topic, *peers), [want] * 2)

    def test_none_twice_however_much_comes_otherwise(self):
        """Messages by HTTP have names, too, and are not stored."""
        topic, [peer] = self.joined(True, {})
        self.send_live(topic, range(5))
        tx = self.peer()
        ids = [tx.request("broadcast", {"topic": topic, "private": True, "event": "e", "payload": {"n": n}, "via": "http"})
               for n in range(5, 400)]
        self.assertEqual({tx.result(id)["outcome"] for id in ids}, {"sent"})
        self.assertEqual(self.told_now(peer, topic), list(range(400)))
        self.cut()
        self.assertEqual(self.ready(topic, peer), [[self.REJOINING, ("gap", "replayed", 0), self.READY]])

    def test_more_than_the_server_gives(self):
        topic, peers = self.joined(True, {}, {})
        self.down(peers[0])
        self.store(topic, range(40))
        self.up()
        want = [self.REJOINING, ("gap", "truncated", 25), *strings(range(15, 40)), self.READY]
        self.assertEqual(self.ready(topic, *peers), [want] * 2)

    def test_old_ones_do_not_come(self):
        """What was stored long before the gap belongs to nobody here."""
        topic, [peer] = self.joined(True, {})
        self.store(topic, [1], age_ms=3_600_000)
        self.cut()
        self.assertEqual(self.ready(topic, peer), [[self.REJOINING, ("gap", "replayed", 0), self.READY]])

    def test_public(self):
        """Nothing of it is stored."""
        topic, peers = self.joined(False, {}, {"events": ["x"]})
        self.cut()
        self.assertEqual(self.ready(topic, *peers), [[self.REJOINING, ("gap", "none", 0), self.READY]] * 2)

    def test_who_listens_to_nothing(self):
        """Presence alone: the gap is told, nothing is replayed."""
        topic, peer = fresh("presence"), self.peer()
        peer.subscribe(topic, private=True, broadcast={"events": []}, presence={})
        self.down(peer)
        self.store(topic, [1])
        self.up()
        until(lambda: peer.drain() or self.told(peer, topic)[-1:] == [self.READY], "the channel is back")
        told = self.told_now(peer, topic)
        self.assertEqual([t for t in told if t[0] == "gap"], [("gap", "replayed", 1)])
        self.assertNotIn("1", told)

    def test_replay_refused_at_the_rejoin(self):
        """The channel comes back without it, now and the next time."""
        topic, [peer] = self.joined(True, {})
        self.store(topic, range(3))
        self.server.refuse_replay(topic="realtime:" + topic, count=-1)
        for _ in range(2):
            self.cut()
            [told] = self.ready(topic, peer)
            self.assertEqual((told[0], told[-2:]), (self.REJOINING, [("gap", "none", 0), self.READY]))
        self.send_live(topic, [9])
        self.assertEqual(self.told_now(peer, topic), [9])

    def test_a_wish_in_the_gap(self):
        """Who comes while the channel is away has no gap, and its own replay; the others have the gap alone."""
        topic, [old] = self.joined(True, {})
        self.store(topic, [0], age_ms=600_000)
        self.down(old)
        self.store(topic, [1, 2])
        new, plain = self.peer(), self.peer()
        ids = [(new, new.request("subscribe", {"topic": topic, "private": True, "broadcast": self.replay()})),
               (plain, plain.request("subscribe", {"topic": topic, "private": True}))]
        self.up()
        for peer, id in ids:
            self.assertEqual(peer.result(id)["state"], "ready")
        self.assertEqual(self.ready(topic, old), [[self.REJOINING, ("gap", "replayed", 2), "1", "2", self.READY]])
        self.assertEqual(self.replayed(new, topic), ["0", "1", "2", ("replay", "replayed", 3)])
        self.assertEqual(self.told_now(plain, topic), [])
        self.send_live(topic, [3])
        self.assertEqual([self.told_now(p, topic) for p in (old, new, plain)], [[3]] * 3)

    def test_sends_wait_for_what_is_stored(self):
        """What is sent from here while the channel comes back stands behind the gap's messages, for everybody here."""
        topic, [rx, tx] = self.joined(True, {}, {"self": True})
        self.down(rx)
        self.store(topic, range(3))
        ids = [tx.request("broadcast", {"topic": topic, "private": True, "event": "e", "payload": {"n": n}}) for n in range(3, 6)]
        self.up()
        self.assertEqual([tx.result(id)["outcome"] for id in ids], ["acked"] * 3)
        want = [self.REJOINING, ("gap", "replayed", 3), "0", "1", "2", self.READY, 3, 4, 5]
        self.assertEqual(self.ready(topic, rx, tx), [want] * 2)


class Stream(Stored):
    """The database sends all the time while the connection is lost again and again."""

    def flow(self, topic, first, peer, chan_is_back, most):
        n = first
        while not chan_is_back() and n - first < most:
            self.send_live(topic, [n])
            n += 1
        self.send_live(topic, range(n, n + 3))
        return n + 3

    def test_nothing_is_lost_and_nothing_twice(self):
        topic = fresh("stream")
        peers = [self.peer() for _ in range(3)]
        for peer in peers:
            peer.subscribe(topic, private=True)
        n = 0
        for i in range(12):
            before = self.told(peers[0], topic).count(Gaps.READY)
            self.send_live(topic, range(n, n + 4))
            n += 4
            if i % 3 == 0:
                self.server.fault(op="delay_reply", event="phx_join", topic="realtime:" + topic, ms=100)
            if i % 4 == 3:
                self.server.fault(op="phx_error", topic="realtime:" + topic, sockets="all")
            else:
                self.cut(code=(0, 1012, 1000)[i % 3])

            def back():
                peers[0].drain()
                return self.told(peers[0], topic).count(Gaps.READY) > before

            n = self.flow(topic, n, peers[0], back, 15)
            until(back, "the channel is back")
        for peer in peers:
            told = self.told_now(peer, topic)
            self.assertEqual(sum(isinstance(t, tuple) and t[0] == "gap" for t in told), 12)
            self.assertEqual([int(t) for t in told if isinstance(t, (int, str))], list(range(n)))
            # n of a gap are those that follow it.
            for at, t in enumerate(told):
                if isinstance(t, tuple) and t[0] == "gap":
                    self.assertTrue(all(isinstance(s, str) for s in told[at + 1:at + 1 + t[2]]), told[at:at + 30])
                    self.assertEqual(told[at + 1 + t[2]], Gaps.READY)


class Moments(Stored):
    def gaps(self, peer):
        """Those of now, behind a barrier."""
        peer.sync(upstream=True)
        return peer.take("gap")

    def test_from_and_to(self):
        """Around the time without a connection, and one for each channel."""
        topics = [(fresh("moment"), private) for private in (False, True, False, True)]
        peers = [self.peer() for _ in range(3)]
        for peer in peers[:2]:
            for topic, private in topics:
                peer.subscribe(topic, private=private)
        peers[2].call("sync", {"upstream": True})
        for _ in range(3):
            alive = wall_ms()
            peers[0].sync(upstream=True)
            self.server.fault(op="refuse_upgrade", count=-1)
            self.cut()
            lost = wall_ms()
            until(lambda: peers[0].status()["connection"]["state"] == "backoff", "the daemon is offline")
            returned = wall_ms()
            self.up()
            for peer in peers[:2]:
                for topic, _ in topics:
                    peer.wait_notice("channel", lambda n: n["topic"] == topic and n["state"] == "ready")
            back = wall_ms()
            for peer in peers[:2]:
                gaps = self.gaps(peer)
                self.assertEqual(sorted((g["topic"], g["stored"], g["n"]) for g in gaps),
                                 sorted((topic, "replayed" if private else "none", 0) for topic, private in topics))
                for g in gaps:
                    self.assertEqual(g["cause"], "connection")
                    self.assertNotIn("ids", g)
                    self.assertTrue(alive <= g["from"] <= lost, (alive, g, lost))
                    self.assertTrue(returned <= g["to"] <= back, (returned, g, back))
            self.assertEqual(self.gaps(peers[2]), [])

    def test_of_one_channel(self):
        """The server ends it: its subscribers have a gap, others have none."""
        one, other = fresh("one"), fresh("other")
        peer = self.peer()
        peer.subscribe(one, private=True)
        peer.subscribe(other, private=True)
        for op in "phx_error", "phx_close":
            with self.subTest(op=op):
                self.store(one, [0])
                self.server.fault(op=op, topic="realtime:" + one)
                peer.wait_notice("channel", lambda n: n["topic"] == one and n["state"] == "ready")
                self.assertEqual([(g["topic"], g["stored"]) for g in self.gaps(peer)], [(one, "replayed")])

    def test_none_without_a_cause(self):
        """A refused connection, a new subscription, a subscriber that comes back: nobody has missed anything."""
        topic = fresh("calm")
        first, second = self.peer(), self.peer()
        first.subscribe(topic, private=True)
        second.subscribe(topic, private=True)
        second.call("unsubscribe", {"topic": topic, "private": True})
        second.subscribe(topic, private=True, broadcast={"self": True})
        first.track(topic, {"n": 1}, private=True)
        self.gaps(first)  # presence was wanted later: that is a gap of its own
        second.subscribe(topic, private=True)
        for peer in first, second:
            self.assertEqual([g["cause"] for g in self.gaps(peer)], [])

    def test_for_presence(self):
        """The channel is joined anew for somebody: stored messages close that gap, too."""
        topic = fresh("anew")
        first, second = self.peer(), self.peer()
        first.subscribe(topic, private=True)
        self.server.fault(op="delay_reply", event="phx_join", topic="realtime:" + topic, ms=500, stall=False)
        id = second.request("subscribe", {"topic": topic, "private": True, "presence": {}})
        first.wait_notice("channel", lambda n: n["state"] == "rejoining" and n["code"] == "presence")
        self.store(topic, [0])
        second.result(id)
        first.wait_notice("channel", lambda n: n["state"] == "ready")
        [gap] = self.gaps(first)
        self.assertEqual(gap["cause"], "presence")
        self.assertIn(gap["stored"], ("replayed",))


class Presence(Stored):
    def test_who_is_there_after_a_gap(self):
        """The gap, what is stored, the channel, and only then who came and went meanwhile."""
        topic = fresh("there")
        peer, other = self.peer(), self.remote()
        peer.subscribe(topic, private=True, presence={})
        peer.track(topic, {"n": 1}, key="me", private=True)
        peer.wait_notice("presence")
        self.down(peer)
        self.store(topic, range(2))
        other.join(topic, private=True, presence={"key": "you", "enabled": True})
        other.push("realtime:" + topic, "presence", {"type": "presence", "event": "track", "payload": {"n": 2}})
        self.server.wait_presence("realtime:" + topic, {"you": [{"n": 2}]}, private=True)
        peer.notices.clear()
        self.up()
        peer.wait_notice("presence", lambda n: "you" in str(n))
        self.server.wait_presence("realtime:" + topic, {"you": [{"n": 2}], "me": [{"n": 1}]}, private=True)
        until(lambda: {e["key"] for e in peer.call("presence", {"topic": topic, "private": True})["snapshot"]} == {"you", "me"}, "both are there")
        told = self.told_now(peer, topic)
        self.assertIn(("gap", "replayed", 2), told)
        at = told.index(("gap", "replayed", 2))
        self.assertEqual(told[at + 1:at + 3], ["0", "1"])
        self.assertNotIn(("presence",), told[:at])


class Sql(Changes, Stored):
    """A real database sends."""

    @staticmethod
    def told(peer, topic):
        return Stored.told(peer, topic)

    def select(self, topic, numbers, private=True):
        self.sql("; ".join(f"""select realtime.send('{{"n":{n}}}'::jsonb, 'e', '{topic}', {private})""" for n in numbers))

    def test_live(self):
        topic, peer = fresh("sql"), self.peer()
        peer.subscribe(topic, private=True, broadcast={"replication_ready": True})
        peer.wait_notice("system")
        self.select(topic, range(50))
        until(lambda: peer.drain() or len(self.told(peer, topic)) >= 50, "all have come")
        found = peer.take("broadcast")
        self.assertEqual([n["payload"]["n"] for n in found], list(range(50)))
        self.assertEqual([n["payload"]["id"] for n in found], [n["meta"]["id"] for n in found])

    def test_in_a_gap(self):
        """Sent while nobody could hear it, and by a transaction that was given up."""
        topic, peers = fresh("sql"), [self.peer() for _ in range(2)]
        peers[0].subscribe(topic, private=True)
        peers[1].subscribe(topic, private=True, broadcast={"events": ["bytes"]})
        self.select(topic, range(3))
        until(lambda: peers[0].drain() or len(self.told(peers[0], topic)) >= 3, "the first ones have come")
        self.assertEqual(self.told_now(peers[0], topic), [0, 1, 2])
        self.down(peers[0])
        self.select(topic, range(3, 10))
        self.sql(f"begin; select realtime.send('{{\"n\":-1}}'::jsonb, 'e', '{topic}', true); rollback")
        self.sql(f"select realtime.send_binary('\\x00ff'::bytea, 'bytes', '{topic}', true)")
        self.up()
        for peer in peers:
            peer.wait_notice("channel", lambda n: n["state"] == "ready")
            peer.take("channel")
        self.assertEqual(self.told_now(peers[0], topic), [("gap", "replayed", 8), *strings(range(3, 10)), str(b"\0\xff")])
        self.assertEqual(self.told_now(peers[1], topic), [("gap", "replayed", 8), str(b"\0\xff")])

    def test_a_wish(self):
        topic, first, second = fresh("sql"), self.peer(), self.peer()
        far = self.remote(topic, private=True)
        self.select(topic, range(30))
        far.recv_broadcasts(30)  # what is still to come live is told by no replay
        first.subscribe(topic, private=True, broadcast=self.replay(0, 5))
        self.assertEqual(self.replayed(first, topic), [*strings(range(25, 30)), ("replay", "truncated", 5)])
        second.subscribe(topic, private=True, broadcast=self.replay(wall_ms() - 600_000))
        self.assertEqual(self.replayed(second, topic), [*strings(range(5, 30)), ("replay", "truncated", 25)])
        self.select(topic, [30])
        for peer in first, second:
            peer.wait_notice("broadcast", lambda n: n["payload"]["n"] == 30)
            self.assertEqual(self.told_now(peer, topic), [])

    def test_all_the_time(self):
        """Sent by a loop in the database while the connection is lost: all of them, in order, none twice."""
        topic, peer = fresh("sql"), self.peer()
        peer.subscribe(topic, private=True)
        n = 0
        for i in range(6):
            self.select(topic, range(n, n + 5))
            self.cut()
            self.select(topic, range(n + 5, n + 10))
            peer.wait_notice("channel", lambda c: c["topic"] == topic and c["state"] == "ready")
            n += 10
        until(lambda: peer.drain() or str(n - 1) in map(str, self.told(peer, topic)), "the last one has come")
        numbers = [int(t) for t in self.told_now(peer, topic) if isinstance(t, (int, str))]
        self.assertEqual(numbers, list(range(n)))


if __name__ == "__main__":
    unittest.main()
