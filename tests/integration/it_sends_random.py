#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Ten clients send all kinds of messages every way, while connections break and HTTP fails; every promise is checked at the end.

RTB_SEED=N plays a run again (its choices; not the moments at which things happen), RTB_STEPS=N makes it longer.
"""

import os
import random
import select
import unittest

from rtbtest.auth import Bearers
from rtbtest.sends import Sends, fresh
from rtbtest.stored import wall_ms
from rtbtest.wait import until

STEPS = int(os.environ.get("RTB_STEPS", "1500"))
EVENTS = ("a", "b")
# What may become of a send here, and whether it has arrived at the server's other clients: None: nobody knows.
ARRIVES = {"acked": True, "sent": True, "unknown": None, "expired": False, "rate_limited": False, "denied": False}
FAULTS = [
    ("answer", {"status": 500}), ("answer", {"status": 503, "retry_after": 1}), ("answer", {"status": 429, "retry_after": 1}),
    ("answer", {"status": 403}), ("garbage", {}), ("garbage", {"work": True}), ("delay", {"ms": 200}), ("slow", {"ms": 2, "bytes": 9}),
    ("close", {}), ("drop", {}), ("drop", {"work": False}), ("half", {}),
]


class Message:
    """One send, from its request to its outcome. Moments are of the wall clock, in ms."""

    def __init__(self, sender, n, room, event, form):
        self.sender, self.n, self.room, self.event, self.form = sender, n, room, event, form
        self.sent_ms, self.ended_ms, self.result = wall_ms(), None, None

    def payload(self):
        return {"from": self.sender, "n": self.n} if self.form == "json" else f"{self.sender}:{self.n}".encode()

    def __repr__(self):
        return f"<{self.sender}:{self.n} to {self.room} {self.event} {self.form}: {self.result}>"


def key_of(payload):
    if isinstance(payload, bytes):
        sender, n = payload.decode().split(":")
        return sender, int(n)
    return payload["from"], payload["n"]


class Listening:
    """A subscription, from its answer on; what came for it."""

    def __init__(self, peer, identity, room, chan, events, own):
        self.peer, self.identity, self.room, self.chan, self.events, self.own = peer, identity, room, chan, events, own
        self.since_ms, self.came, self.gaps = wall_ms(), [], []

    def take(self):
        """The notices about it move from the peer to here."""
        rest = []
        for method, n in self.peer.notices:
            if n.get("chan") != self.chan or method not in ("broadcast", "gap"):
                rest.append((method, n))
            elif method == "gap":
                self.gaps.append(n)
            else:
                self.came.append((*key_of(n["payload"]), n["event"], bool(n.get("meta", {}).get("replayed"))))
        self.peer.notices = rest

    def wants(self, message):
        return message.event in self.events and (self.own or message.sender != self.peer.title)

    def missed_ok(self, message):
        """Whether a gap was told of the time in which it was on its way."""
        return any(g["from"] <= message.ended_ms and g["to"] >= message.sent_ms for g in self.gaps)


class Random(Sends, Bearers):
    rules = ("allow * read,write,presence topic *",)
    sections = {"limits": {"links": "8"}}

    def test(self):
        seed = int(os.environ.get("RTB_SEED") or random.randrange(2 ** 32))
        print(f"RTB_SEED={seed}", flush=True)
        self.r = random.Random(seed)
        self.begin()
        for step in range(STEPS):
            self.one_step(step)
        self.finish()
        self.check()

    # ---- the players ----

    def begin(self):
        both = fresh("both")
        self.rooms = [(fresh("public"), False), (fresh("public"), False), (both, False), (fresh("private"), True), (both, True)]
        owners = [None] * 6 + ["ann", "ann", "bob", "bob"]
        self.peers = []
        for i, owner in enumerate(owners):
            peer = self.of(owner, True) if owner else self.peer()
            peer.title, peer.identity, peer.waiting, peer.n = f"p{i}", owner, {}, 0
            self.peers.append(peer)
        self.far = {False: self.remote(), True: self.remote()}
        for topic, private in self.rooms:
            self.far[private].join(topic, private=private, broadcast={"ack": False, "self": False})
        self.far_came = {room: [] for room in self.rooms}
        self.messages, self.stored, self.n_stored, self.breaks = {}, [], 0, 0
        self.steady, self.passing, self.ended = [], {}, []
        for peer in self.peers[:8]:
            for room in self.rooms:
                if self.r.random() < 0.6:
                    self.steady.append(self.listen(peer, room))
        self.comers = self.peers[8:]

    def listen(self, peer, room):
        events = self.r.choice([EVENTS, EVENTS, ("a",)])
        own = self.r.random() < 0.5
        broadcast = {"events": list(events), "self": own}
        chan = peer.subscribe(room[0], private=room[1], broadcast=broadcast, timeout_ms=60000)["chan"]
        return Listening(peer, peer.identity, room, chan, events, own)

    # ---- what they do ----

    def one_step(self, step):
        x = self.r.random()
        if x < 0.85:
            self.send()
        elif x < 0.90:
            self.database()
        elif x < 0.95:
            self.come_or_go()
        elif x < 0.985:
            how, members = self.r.choice(FAULTS)
            self.server.http_fault(how, **dict({"count": self.r.randrange(1, 4)}, **members))
        else:
            self.break_it()
        if step % 10 == 9:
            self.look()

    def send(self):
        peer, room = self.r.choice(self.peers), self.r.choice(self.rooms)
        message = Message(peer.title, peer.n, room, self.r.choice(EVENTS), self.r.choice(("json", "json", "bytes")))
        peer.n += 1
        params = {"topic": room[0], "private": room[1], "event": message.event, "payload": message.payload(),
                  "via": self.r.choice(("ws", "http", "auto")), "ttl_ms": self.r.choice((300, 10000, 10000))}
        peer.waiting[peer.request("broadcast", params)] = message
        self.messages[(message.sender, message.n)] = message

    def database(self):
        room = self.r.choice([room for room in self.rooms if room[1]])
        self.server.db_send(room[0], "a", {"from": "db", "n": self.n_stored, "id": str(self.n_stored)})
        self.stored.append((self.n_stored, room))
        self.n_stored += 1

    def come_or_go(self):
        peer, room = self.r.choice(self.comers), self.r.choice(self.rooms)
        listening = self.passing.pop((peer, room), None)
        if listening:
            peer.call("unsubscribe", {"chan": listening.chan})
            listening.take()
            self.ended.append(listening)
        else:
            self.passing[(peer, room)] = self.listen(peer, room)

    def break_it(self):
        self.breaks += 1
        x = self.r.random()
        if x < 0.3:
            self.server.fault(op="refuse_upgrade", count=self.r.randrange(1, 4), status=503)
        if x < 0.8:
            op = self.r.choice(({"op": "close", "code": 0}, {"op": "close", "code": 1012}, {"op": "half_frame"}))
            sockets = self.daemon_sockets()
            if self.r.random() < 0.4:
                # Acknowledgements that are lost. None comes behind later ones: no server sends them so.
                self.server.fault(op="refuse_upgrade", count=-1)
                self.server.fault(op="delay_reply", event="broadcast", ms=60000, count=-1)
                for _ in range(10):
                    self.send()
                self.server.fault(op, sockets=self.daemon_sockets())
                until(lambda: not self.daemon_sockets(), "the connections have ended")
                self.up()
            else:
                self.server.fault(op, sockets=sockets if self.r.random() < 0.5 else sockets[:1])
        else:
            topic = "realtime:" + self.r.choice(self.rooms)[0]
            self.server.fault(op=self.r.choice(("phx_error", "phx_close")), topic=topic, sockets=self.daemon_sockets())

    def look(self):
        """Reads what has come, and notes when."""
        ready, _, _ = select.select([p.sock for p in self.peers], [], [], 0)
        for peer in self.peers:
            if peer.sock in ready:
                peer.drain()
            self.note(peer)

    def note(self, peer):
        for id in [id for id in peer.waiting if id in peer.responses]:
            message = peer.waiting.pop(id)
            message.result, message.ended_ms = peer.result(id), wall_ms()

    def finish(self):
        self.up()
        for peer in self.peers:
            for id, message in list(peer.waiting.items()):
                message.result, message.ended_ms = peer.result(id), wall_ms()
        until(lambda: all(c["state"] == "ready" for c in self.peers[0].status()["channels"] if c["subscribers"]), "all channels are back")
        for peer in self.peers:
            peer.sync(upstream=True)
        for listening in self.steady + list(self.passing.values()):
            listening.take()
        for private, client in self.far.items():
            for topic, event, payload, _ in client.all_broadcasts():
                self.far_came[(topic, private)].append((*key_of(payload), event, False))

    # ---- what was promised ----

    def check(self):
        counts = {}
        for m in self.messages.values():
            counts[m.result["outcome"]] = counts.get(m.result["outcome"], 0) + 1
        print(f"{len(self.messages)} sent: {counts}; {self.breaks} breaks, {sum(len(x.gaps) for x in self.steady)} gaps told, "
              f"{self.n_stored} of the database", flush=True)
        self.check_outcomes()
        for room, came in self.far_came.items():
            self.check_order(f"elsewhere in {room}", came)
        for x in self.steady + self.ended + list(self.passing.values()):
            self.check_order(f"{x.peer.title} in {x.room}", x.came)
            self.assertEqual({e for _, _, e, _ in x.came} - set(x.events), set())
            if not x.own:
                self.assertNotIn(x.peer.title, {sender for sender, _, _, _ in x.came})
            self.assertLessEqual(len(x.gaps), self.breaks)
        for x in self.steady:
            self.check_complete(x)

    def check_outcomes(self):
        """One each (Peer fails at a second one), and true: the client elsewhere has it, or not."""
        far = {room: {(sender, n) for sender, n, _, _ in came} for room, came in self.far_came.items()}
        for key, m in self.messages.items():
            self.assertIn(m.result["outcome"], ARRIVES, m)
            self.assertEqual(m.result["via"], {"acked": "ws", "sent": "http"}.get(m.result["outcome"], m.result["via"]), m)
            arrives = ARRIVES[m.result["outcome"]]
            if arrives is not None:
                self.assertEqual(key in far[m.room], arrives, m)
            self.assertFalse(any(key in keys for room, keys in far.items() if room != m.room), m)

    def check_order(self, where, came):
        """Nothing twice; those of one sender that took one way in their order."""
        keys = [(sender, n) for sender, n, _, _ in came]
        twice = {key for key in keys if keys.count(key) > 1}
        self.assertEqual(twice, set(), where)
        last = {}
        for sender, n in keys:
            if sender == "db":
                continue  # what is stored may be older than a subscription: see check_complete()
            way = (sender, self.messages[(sender, n)].result["via"])
            self.assertGreater(n, last.get(way, -1), f"{where}: out of order: {way}")
            last[way] = n

    def check_complete(self, x):
        """Of a subscription that was there all the time: what may be missing was told."""
        have = {(sender, n) for sender, n, _, _ in x.came}
        far = {(sender, n) for sender, n, _, _ in self.far_came[x.room]}
        identities = {p.title: p.identity for p in self.peers}
        for key, m in self.messages.items():
            if m.room != x.room or not x.wants(m) or key in have:
                continue
            if m.result["outcome"] == "acked" and identities[m.sender] == x.identity:
                self.fail(f"{x.peer.title}: {m} was acknowledged, and is handed on here")
            if key in far:
                self.assertTrue(x.missed_ok(m), f"{x.peer.title}: {m} is missing, {m.sent_ms} to {m.ended_ms}; gaps: {x.gaps}")
        if "truncated" not in {g["stored"] for g in x.gaps}:
            self.assertEqual([n for sender, n, _, _ in x.came if sender == "db"], [n for n, room in self.stored if room == x.room])


if __name__ == "__main__":
    unittest.main()
