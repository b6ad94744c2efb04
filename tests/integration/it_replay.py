#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Stored messages for a subscription that asks for them: on a new channel, and aside of one that others use."""

import unittest

from rtbtest.auth import Bearers, policy, sub_of
from rtbtest.sends import Sends, fresh
from rtbtest.stored import Stored, strings, wall_ms
from rtbtest.wait import until

BAD_REQUEST = 200
READY_TEXT = "Replication connection established"


class Replay(Stored):
    """Each in both places: `before` is who has the channel already, or None."""

    def places(self):
        """(topic, who had it before)"""
        for joined in False, True:
            topic = fresh("joined" if joined else "new")
            before = self.peer() if joined else None
            if before:
                before.subscribe(topic, private=True)
            with self.subTest(joined=joined):
                yield topic, before

    def quiet(self, topic, before):
        """Who had it before has noticed nothing, and the join aside is left."""
        if before:
            self.assertEqual(self.told_now(before, topic), [])
        until(lambda: len(self.server.joined("realtime:" + topic)) == 1, "one join is left")

    def check_live(self, topic, *peers):
        self.server.db_send(topic, "live", {"n": "live", "id": topic})
        for peer in peers:
            self.assertEqual(self.told_now(peer, topic), ["live"])

    def test_all_that_is_stored(self):
        for topic, before in self.places():
            self.store(topic, range(10))
            peer = self.peer()
            answer = peer.subscribe(topic, private=True, broadcast=self.replay())
            self.assertEqual(answer["state"], "ready")
            self.assertEqual(self.replayed(peer, topic), [*strings(range(10)), ("replay", "replayed", 10)])
            self.quiet(topic, before)
            self.check_live(topic, peer, *([before] if before else []))

    def test_limits(self):
        """The newest, the oldest of them first."""
        for topic, before in self.places():
            self.store(topic, range(30))
            for limit, want in (3, range(27, 30)), (1, range(29, 30)), (25, range(5, 30)), (None, range(5, 30)):
                peer = self.peer()
                peer.subscribe(topic, private=True, broadcast=self.replay(0, limit))
                self.assertEqual(self.replayed(peer, topic), [*strings(want), ("replay", "truncated", len(want))])
            self.quiet(topic, None)
            if before:
                self.assertEqual(self.told_now(before, topic), [])

    def test_since(self):
        for topic, before in self.places():
            now = wall_ms()
            for n, age_s in enumerate((3600, 120, 61, 60, 30, 1)):
                self.store(topic, [n], age_ms=age_s * 1000)
            for since, want in (now - 90_000, [2, 3, 4, 5]), (now - 45_000, [4, 5]), (now + 3_600_000, []), (0, range(6)):
                peer = self.peer()
                peer.subscribe(topic, private=True, broadcast=self.replay(since))
                self.assertEqual(self.replayed(peer, topic), [*strings(want), ("replay", "replayed", len(want))])

    def test_events(self):
        """Only what the subscription wants comes, and counts."""
        for topic, before in self.places():
            for n in range(9):
                self.store(topic, [n], event="abc"[n % 3])
            peer = self.peer()
            peer.subscribe(topic, private=True, broadcast=self.replay(events=["a", "c"]))
            self.assertEqual(self.replayed(peer, topic), [*strings([0, 2, 3, 5, 6, 8]), ("replay", "replayed", 6)])
            self.quiet(topic, before)

    def test_bytes(self):
        for topic, _ in self.places():
            self.server.db_send(topic, "raw", b"\0\xff bytes", deliver=False)
            self.server.db_send(topic, "raw", b"", deliver=False)
            peer = self.peer()
            peer.subscribe(topic, private=True, broadcast=self.replay())
            end = peer.wait_notice("replay")
            self.assertEqual((end["stored"], end["n"]), ("replayed", 2))
            came = peer.take("broadcast")
            self.assertEqual([(n["event"], n["payload"], n["meta"]["replayed"]) for n in came], [("raw", b"\0\xff bytes", True), ("raw", b"", True)])
            self.assertTrue(all(n["meta"]["id"] for n in came))

    def test_both_stored_and_live(self):
        """What is stored may come live a moment later: once is enough."""
        for topic, before in self.places():
            ids = [self.server.db_send(topic, "e", {"n": n, "id": str(n)}, deliver=False) for n in range(5)]
            peer = self.peer()
            peer.subscribe(topic, private=True, broadcast=self.replay())
            self.assertEqual(self.replayed(peer, topic), [*strings(range(5)), ("replay", "replayed", 5)])
            for n, id in enumerate(ids):
                self.server.db_send(topic, "e", {"n": n, "id": str(n)}, id=id, store=False)
            self.server.db_send(topic, "e", {"n": 5, "id": "5"})
            self.assertEqual(self.told_now(peer, topic), [5])
            if before:
                self.assertEqual(self.told_now(before, topic), list(range(6)))

    def test_a_change_of_a_subscription(self):
        """It replays if it asks for it, not because an earlier one did."""
        topic, peer = fresh("change"), self.peer()
        self.store(topic, range(3))
        peer.subscribe(topic, private=True, broadcast=self.replay())
        self.assertEqual(self.replayed(peer, topic), ["0", "1", "2", ("replay", "replayed", 3)])
        peer.subscribe(topic, private=True, broadcast={"events": ["e"]})
        self.assertEqual(self.told_now(peer, topic), [])
        peer.subscribe(topic, private=True, broadcast=self.replay(0, 2))
        self.assertEqual(self.replayed(peer, topic), ["1", "2", ("replay", "truncated", 2)])
        self.check_live(topic, peer)

    def test_many_wishes(self):
        """Each has its own; nobody hears another one's."""
        topic = fresh("many")
        self.store(topic, range(25))
        peers = [self.peer() for _ in range(20)]
        ids = [p.request("subscribe", {"topic": topic, "private": True, "broadcast": self.replay(0, 1 + i)}) for i, p in enumerate(peers)]
        for i, (peer, id) in enumerate(zip(peers, ids)):
            self.assertEqual(peer.result(id)["state"], "ready")
            end = peer.wait_notice("replay")
            self.assertEqual((end["stored"], end["n"]), ("truncated", 1 + i))
        for i, peer in enumerate(peers):
            self.assertEqual(self.told_now(peer, topic), strings(range(24 - i, 25)))
        self.quiet(topic, None)

    def test_wishes_that_are_none(self):
        peer = self.peer()
        for wish in {"since": 0, "limit": 0}, {"since": 0, "limit": 26}, {"since": 0, "limit": "3"}, {"limit": 3}, {}, {"since": -1}, \
                {"since": "now"}, {"since": 1.5}, 7, []:
            with self.subTest(wish=wish):
                self.assertEqual(self.code(peer.subscribe, "t", private=True, broadcast={"replay": wish}), BAD_REQUEST)
        self.assertEqual(self.code(peer.subscribe, "t", broadcast=self.replay()), BAD_REQUEST)
        self.assertEqual(self.server.joins("realtime:t"), [])

    def test_who_does_not_wait_for_it(self):
        """Unsubscribed, or gone, while the stored messages are being fetched: the join aside is left, the others go on."""
        topic = fresh("gone")
        rx, one, two = (self.peer() for _ in range(3))
        rx.subscribe(topic, private=True)
        self.store(topic, range(3))
        self.server.fault(op="delay_reply", event="phx_join", topic="realtime:" + topic, ms=700, count=2)
        chan = one.subscribe(topic, private=True, broadcast=self.replay())["chan"]
        two.subscribe(topic, private=True, broadcast=self.replay())
        two.close()
        one.call("unsubscribe", {"chan": chan})
        self.assertEqual(self.told(one, topic), [])
        self.check_live(topic, rx)
        self.quiet(topic, rx)
        self.assertEqual(self.told_now(one, topic), [])


class ReplayVsn1(Replay):
    vsn = "1.0.0"

    def test_bytes(self):
        """The server leaves them out."""
        for topic, _ in self.places():
            self.server.db_send(topic, "raw", b"bytes", deliver=False)
            self.store(topic, [1])
            peer = self.peer()
            peer.subscribe(topic, private=True, broadcast=self.replay())
            self.assertEqual(self.replayed(peer, topic), ["1", ("replay", "replayed", 1)])


class CannotReplay(Stored):
    def test_refused_by_the_server(self):
        """The subscription is as good as without the wish."""
        for joined in False, True:
            for reason in "UnableToReplayMessages: Realtime was unable to replay messages", \
                    "UnableToReplayMessages: Replay params are not valid":
                with self.subTest(joined=joined, reason=reason):
                    topic, peer, before = fresh("refused"), self.peer(), self.peer()
                    self.store(topic, range(3))
                    if joined:
                        before.subscribe(topic, private=True)
                    self.server.refuse_replay(topic="realtime:" + topic, reason=reason, count=-1)
                    self.assertEqual(peer.subscribe(topic, private=True, broadcast=self.replay())["state"], "ready")
                    end = peer.wait_notice("replay")
                    self.assertEqual((end["stored"], end["n"]), ("none", 0))
                    self.assertIn("replay", end["text"].lower())
                    self.send_live(topic, [7])
                    self.assertEqual(self.told_now(peer, topic), [7])
                    if joined:
                        self.assertEqual(self.told_now(before, topic), [7])

    def test_no_connection_has_room(self):
        with self.another(sections={"limits": {"links": "1"}}) as daemon:
            topic, before, peer = fresh("one link"), self.peer(daemon), self.peer(daemon)
            before.subscribe(topic, private=True)
            self.store(topic, range(3))
            self.assertEqual(peer.subscribe(topic, private=True, broadcast=self.replay())["state"], "ready")
            end = peer.wait_notice("replay")
            self.assertEqual((end["stored"], end["n"]), ("none", 0))
            self.assertTrue(end["text"])
            self.send_live(topic, [7])
            for p in peer, before:
                self.assertEqual(self.told_now(p, topic), [7])

    def test_no_answer(self):
        """The server is dead for the join aside: it is told after a while, and the live ones have waited for nothing."""
        topic, before, peer = fresh("dead"), self.peer(), self.peer()
        before.subscribe(topic, private=True)
        self.store(topic, range(3))
        self.server.fault(op="drop_reply", event="phx_join", topic="realtime:" + topic, count=-1)
        self.assertEqual(peer.subscribe(topic, private=True, broadcast=self.replay())["state"], "ready")
        self.send_live(topic, [7])
        self.assertEqual(self.told_now(before, topic), [7])
        end = peer.wait_notice("replay")
        self.assertEqual((end["stored"], end["n"]), ("none", 0))
        self.assertEqual(self.told_now(peer, topic), [7])


class Ignorant(Stored):
    server_options = {"no_replay": True}

    def test_a_server_that_has_never_heard_of_it(self):
        for joined in False, True:
            with self.subTest(joined=joined):
                topic, peer, before = fresh("ignorant"), self.peer(), self.peer()
                self.store(topic, range(3))
                if joined:
                    before.subscribe(topic, private=True)
                self.assertEqual(peer.subscribe(topic, private=True, broadcast=self.replay())["state"], "ready")
                self.assertEqual(peer.wait_notice("replay")["n"], 0)
                self.send_live(topic, [7])
                self.assertEqual(self.told_now(peer, topic), [7])

    def test_a_gap_on_it(self):
        topic, peer = fresh("ignorant"), self.peer()
        peer.subscribe(topic, private=True)
        self.down(peer)
        self.store(topic, range(3))
        self.up()
        gap = peer.wait_notice("gap")
        self.assertEqual(gap["n"], 0)
        peer.wait_notice("channel", lambda n: n["state"] == "ready")
        self.send_live(topic, [7])
        peer.take("channel")
        self.assertEqual(self.told_now(peer, topic), [7])


class Policies(Stored, Bearers):
    """Replay is asked for with the identity's own token."""

    rules = ("allow * read,write,presence topic *",)

    def test_whose_messages(self):
        topic = fresh("mine")
        self.server.set_policies(policy("ann", topic) + policy("bob", topic, "p"))
        self.addCleanup(self.server.set_policies, None)
        self.store(topic, range(3))
        ann, bob, root = self.of("ann", True), self.of("bob", True), self.peer()
        ann.subscribe(topic, private=True, broadcast=self.replay())
        self.assertEqual(self.replayed(ann, topic), ["0", "1", "2", ("replay", "replayed", 3)])
        self.assertEqual(self.code(root.subscribe, topic, private=True, broadcast=self.replay()), 300)
        # Who may see the presence alone is joined with it, and hears nothing.
        self.assertEqual(bob.subscribe(topic, private=True, presence={}, broadcast=self.replay())["state"], "ready")
        end = bob.wait_notice("replay")
        self.assertEqual(end["n"], 0)
        self.assertEqual(self.told_now(bob, topic), [])
        self.assertEqual({e["sub"] for e in self.server.joins("realtime:" + topic, refused=False)}, {sub_of("ann"), sub_of("bob")})


class Notices(Sends):
    def system(self, peer):
        """What has come, behind a barrier."""
        peer.sync(upstream=True)
        return [(n["topic"], n["extension"], n["status"], n["text"]) for n in peer.take("system")]

    def test_replication_ready(self):
        """Told to who asked, whenever they did, and again after a rejoin."""
        topic = fresh("ready")
        one, two, three = (self.peer() for _ in range(3))
        want = [(topic, "system", "ok", READY_TEXT)]
        one.subscribe(topic, private=True, broadcast={"replication_ready": True})
        self.assertEqual(one.wait_notice("system")["text"], READY_TEXT)
        two.subscribe(topic, private=True, broadcast={"replication_ready": True})
        three.subscribe(topic, private=True)
        self.assertEqual([self.system(p) for p in (one, two, three)], [[], want, []])
        self.cut()
        for peer in one, two:
            self.assertEqual(peer.wait_notice("system")["text"], READY_TEXT)
        self.assertEqual([self.system(p) for p in (one, two, three)], [[], [], []])

    def test_replication_comes_late_or_never(self):
        topic, peer, other = fresh("late"), self.peer(), self.peer()
        self.server.replication(ms=800, topic="realtime:" + topic)
        chan = peer.subscribe(topic, private=True, broadcast={"replication_ready": True})["chan"]
        self.assertEqual(self.system(peer), [])
        self.assertEqual(peer.wait_notice("system")["text"], READY_TEXT)
        self.server.replication(fail=True, topic="realtime:" + topic)
        self.cut()
        peer.wait_notice("gap")
        # The server closes the channel over it: that is told by `channel`, and it is joined again.
        peer.wait_notice("channel", lambda n: n["chan"] == chan and n["state"] == "rejoining" and "Replication" in n.get("text", ""))
        self.assertEqual(peer.wait_notice("system")["text"], READY_TEXT)
        self.back(peer, [chan])
        self.assertEqual(other.take("system"), [])

    def test_the_servers_words(self):
        """To the subscribers of that channel; not those about what is told otherwise."""
        topic, here, there = fresh("words"), self.peer(), self.peer()
        here.subscribe(topic)
        there.subscribe(fresh("words"))
        wire = "realtime:" + topic
        self.server.fault(op="system", topic=wire, message="all is well", status="ok", extension="system")
        self.server.fault(op="system", topic=wire, message="ünï \"quoted\"", status="error", extension="broadcast")
        self.server.fault(op="system", topic=wire, message="x" * 5000, status="ok", extension="new")
        found = self.system(here)
        self.assertEqual([f[:3] for f in found], [(topic, "system", "ok"), (topic, "broadcast", "error"), (topic, "new", "ok")])
        self.assertEqual([f[3] for f in found[:2]], ["all is well", "ünï \"quoted\""])
        self.assertTrue(found[2][3].startswith("xxx"))
        self.assertEqual(self.system(there), [])


if __name__ == "__main__":
    unittest.main()
