#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""One copy for each subscriber, in the order of each sender, however often this daemon has joined the topic."""

import time
import unittest

from rtbtest.auth import Bearers
from rtbtest.sends import Sends, fresh

ROUNDS = 60
FORMS = ("ws", "http", "bytes")  # of bytes: by HTTP


class Flow(Sends, Bearers):
    """Numbered messages of many senders to one topic. A message says who sent it: {"from", "n"}, or b"FROM:N"."""

    rules = ("allow * read,write,presence topic *",)
    sections = {"limits": {"links": "8"}}

    def setUp(self):
        super().setUp()
        self.topic = fresh("flow")
        self.senders = []      # (name, peer, private, form)
        self.ids = []
        self.subscribers = []  # (name, peer, chan, what it hears of itself)

    def sender(self, name, peer, private):
        for form in FORMS:
            self.senders.append((f"{name}-{form}", peer, private, form))

    def subscriber(self, name, peer, private, **params):
        chan = peer.subscribe(self.topic, private=private, **params)["chan"]
        self.subscribers.append((name, peer, chan, private))
        return chan

    def send_round(self, n):
        for name, peer, private, form in self.senders:
            payload = f"{name}:{n}".encode() if form == "bytes" else {"from": name, "n": n}
            params = {"topic": self.topic, "private": private, "event": "e", "payload": payload,
                      "via": "ws" if form == "ws" else "http"}
            self.ids.append((name, peer, peer.request("broadcast", params)))

    def all_done(self):
        for name, peer, id in self.ids:
            result = peer.result(id)
            want = {"outcome": "acked", "via": "ws"} if name.endswith("-ws") else {"outcome": "sent", "via": "http"}
            self.assertEqual(result, want, name)

    @staticmethod
    def by_sender(notices):
        found = {}
        for n in notices:
            name, number = n["payload"].decode().split(":") if isinstance(n["payload"], bytes) else (n["payload"]["from"], n["payload"]["n"])
            found.setdefault(name, []).append(int(number))
        return found

    def check(self, n_rounds, also=()):
        """Each subscriber has all of the others' messages of its room, and of its own those that it asked for."""
        for peer in {peer for _, peer, _, _ in self.subscribers}:
            peer.sync(upstream=True)
        for name, peer, chan, private in self.subscribers:
            came = self.by_sender(b for method, b in peer.notices if method == "broadcast" and b["chan"] == chan)
            want = {s: list(range(n_rounds)) for s, of, p, _ in self.senders if p == private and (of is not peer or name.endswith("self"))}
            want.update({s: list(range(n_rounds)) for s, p in also if p == private})
            with self.subTest(subscriber=name, private=private):
                self.assertEqual(came, want)
                self.assertNotIn("gap", [method for method, _ in peer.notices])


class Joined(Flow):
    def test_two_identities_and_both_rooms(self):
        """Six joins of one name: of the daemon's identity and of two tokens', public and private."""
        ann, bob, root = [self.of("ann", True) for _ in range(2)], [self.of("bob", True)], [self.peer() for _ in range(2)]
        for private in False, True:
            far = self.remote(self.topic, private=private)
            for who, peers in ("ann", ann), ("bob", bob), ("root", root):
                for i, peer in enumerate(peers):
                    own = {"self": i == 0}
                    self.subscriber(f"{who}{i}{'-self' if i == 0 else ''}", peer, private, broadcast=own)
                    self.sender(f"{who}{i}-{private}", peer, private)
            self.addCleanup(far.close)
            setattr(self, f"far_{private}", far)
        self.assertEqual(len(self.server.joined("realtime:" + self.topic)), 6 + 2)
        for n in range(ROUNDS):
            self.send_round(n)
            for private in False, True:
                getattr(self, f"far_{private}").broadcast(self.topic, "e", {"from": f"far-{private}", "n": n})
        self.all_done()
        for private in False, True:
            far = getattr(self, f"far_{private}")
            came = self.by_sender({"payload": p} for _, _, p, _ in far.all_broadcasts())
            self.assertEqual(came, {s: list(range(ROUNDS)) for s, _, p, _ in self.senders if p == private})
        self.check(ROUNDS, [("far-False", False), ("far-True", True)])

    def test_a_second_tracker(self):
        """Its join on a further connection hears everything, too; it comes and goes while messages flow."""
        first, second, third, rx, tx = (self.peer(name=n) for n in ("first", "second", "third", "rx", "tx"))
        first.track(self.topic, {"n": 1}, key="first")
        self.subscriber("first-self", first, False, presence={}, broadcast={"self": True})
        self.subscriber("second", second, False)
        self.subscriber("rx", rx, False)
        for name, peer in ("first", first), ("second", second), ("tx", tx):
            self.sender(name, peer, False)
        for n in range(ROUNDS):
            self.send_round(n)
            if n % 20 == 5:
                second.track(self.topic, {"n": n}, key="second")
                third.track(self.topic, {"n": n}, key="third")
                self.assertEqual(len(self.server.joined("realtime:" + self.topic)), 3)
            if n % 20 == 12:
                third.untrack(self.topic)
            if n % 20 == 15:
                second.untrack(self.topic)
        self.all_done()
        self.check(ROUNDS)

    def test_a_replay_aside(self):
        """Who comes later asks for what is stored by a join of its own; the others, and it, hear each message once."""
        rx, tx = self.peer(), self.peer()
        self.subscriber("rx", rx, True)
        self.sender("tx", tx, True)
        since, late = int(time.time() * 1000) - 1000, []
        for n in range(ROUNDS):
            self.send_round(n)
            self.server.db_send(self.topic, "e", {"from": "db", "n": n, "id": f"{self.topic}-{n}"})
            if n % 10 == 3:
                peer = self.peer()
                late.append((peer, peer.request("subscribe", {
                    "topic": self.topic, "private": True, "broadcast": {"replay": {"since": since, "limit": 25}}})))
        self.all_done()
        self.check(ROUNDS, [("db", True)])
        for peer, id in late:
            peer.result(id)
            peer.sync(upstream=True)
            end = peer.wait_notice("replay")
            self.assertIn(end["stored"], ("replayed", "truncated"))
            came = peer.take("broadcast")
            replayed = [b["payload"]["n"] for b in came if b.get("meta", {}).get("replayed")]
            self.assertEqual(len(replayed), end["n"])
            self.assertLessEqual(end["n"], 25)
            self.assertEqual(peer.take("gap"), [])
            by_sender = self.by_sender(came)
            self.assertLessEqual(set(by_sender), {"db", "tx-ws", "tx-http", "tx-bytes"})
            for name, numbers in by_sender.items():
                # From some moment on all of them; of those of the database also what was stored before it.
                self.assertEqual(numbers, list(range(numbers[0], ROUNDS)), name)
            self.assertEqual(by_sender["db"][:len(replayed)], replayed)


if __name__ == "__main__":
    unittest.main()
