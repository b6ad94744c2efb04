#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each message has one outcome, and goes to everybody who is to get it, once: every way, form and sender, whenever the link dies."""

import unittest

from rtbtest.sends import Sends, fresh
from rtbtest.wait import until

VIAS = ("ws", "http", "auto")
FORMS = ("json", "binary")
SENDERS = ("absent", "deaf", "self")  # not subscribed; subscribed; subscribed with `self`

# Each sends these three; one subscriber wants the event "in" alone.
SENT = (("in", 1), ("out", 2), ("in", 3))
ALL, IN, NONE = [1, 2, 3], [1, 3], []


class Combination:
    def __init__(self, private, via, form, sender):
        self.private, self.via, self.form, self.sender = private, via, form, sender
        self.topic = fresh(f"{'private' if private else 'public'}-{via}-{form}-{sender}")
        self.ids = []

    def payload(self, n):
        return {"n": n, "to": self.topic} if self.form == "json" else f"{n} to {self.topic}".encode()

    def messages(self, numbers):
        return [(event, self.payload(n)) for event, n in SENT if n in numbers]


class Combinations(Sends):
    """A story of each moment at which the link may die. Rows of RULES: what PROTOCOL.md says about that moment.

    A way asked for: (outcome, the way taken; what comes to a subscriber, to one that wants the event "in" alone, to a
    client elsewhere, to the sender if it subscribes with `self`; how many gaps the subscribers are told). A sender without
    `self` gets nothing. Public or private, as JSON or as bytes, is the same.
    """

    RULES = {}

    def start(self, vias=VIAS):
        self.all = [Combination(private, via, form, sender) for private in (False, True) for via in vias for form in FORMS
                    for sender in SENDERS]
        self.every, self.some, self.sender = (self.peer(name=name) for name in ("every", "some", "sender"))
        self.far = self.remote()
        self.chans = {peer: [] for peer in (self.every, self.some, self.sender)}
        for c in self.all:
            self.far.join(c.topic, private=c.private, broadcast={"ack": False, "self": False})
            self.subscribe(self.every, c)
            self.subscribe(self.some, c, {"events": ["in"]})
            if c.sender != "absent":
                self.subscribe(self.sender, c, {"self": c.sender == "self"})
        self.elsewhere = []

    def subscribe(self, peer, c, broadcast=None):
        self.chans[peer].append(peer.subscribe(c.topic, private=c.private, broadcast=broadcast or {})["chan"])

    def send(self):
        for event, n in SENT:
            for c in self.all:
                c.ids.append(self.sender.request("broadcast", {
                    "topic": c.topic, "private": c.private, "via": c.via, "event": event, "payload": c.payload(n)}))

    def results(self, *vias):
        """All of these ways are answered as the rules say."""
        for c in self.all:
            if c.via not in vias:
                continue
            for id in c.ids:
                with self.subTest(topic=c.topic):
                    result = self.sender.result(id)
                    self.assertEqual((result["outcome"], result["via"]), self.RULES[c.via][:2], result)
                    self.assertEqual("text" in result, result["outcome"] == "unknown", result)

    def arrived(self):
        """How many have come to the client elsewhere."""
        self.elsewhere += self.far.all_broadcasts()
        return len(self.elsewhere)

    def back_again(self):
        for peer, chans in self.chans.items():
            self.back(peer, chans)

    def check(self):
        came = {peer: self.came(peer) for peer in self.chans}
        self.arrived()
        far = {}
        for topic, event, payload, _ in self.elsewhere:
            far.setdefault(topic, []).append((event, payload))
        gaps = {peer: [n["topic"] for n in peer.take("gap")] for peer in self.chans}
        for c in self.all:
            _, _, every, some, elsewhere, own, n_gaps = self.RULES[c.via]
            with self.subTest(topic=c.topic):
                self.assertEqual(came[self.every].pop(c.topic, []), c.messages(every))
                self.assertEqual(came[self.some].pop(c.topic, []), c.messages(some))
                self.assertEqual(far.pop(c.topic, []), c.messages(elsewhere))
                self.assertEqual(came[self.sender].pop(c.topic, []), c.messages(own if c.sender == "self" else NONE))
                self.assertEqual(gaps[self.every].count(c.topic), n_gaps)
                self.assertEqual(gaps[self.some].count(c.topic), n_gaps)
                self.assertEqual(gaps[self.sender].count(c.topic), 0 if c.sender == "absent" else n_gaps)
        self.assertEqual(([*came.values()], far), ([{}, {}, {}], {}), "what nobody has sent")


class Steady(Combinations):
    #          outcome   way     every some in elsewhere self gaps
    RULES = {
        "ws":   ("acked", "ws",   ALL, IN, ALL, ALL, 0),
        "http": ("sent",  "http", ALL, IN, ALL, ALL, 0),
        "auto": ("acked", "ws",   ALL, IN, ALL, ALL, 0),
    }

    def test(self):
        self.start()
        self.send()
        self.results(*VIAS)
        self.check()


class Before(Combinations):
    """The link is down when they are sent: what needs it waits; the rest is passed on while nobody here can hear it."""

    RULES = {
        "ws":   ("acked", "ws",   ALL,  IN,   ALL, ALL,  1),
        "http": ("sent",  "http", NONE, NONE, ALL, NONE, 1),
        "auto": ("acked", "ws",   ALL,  IN,   ALL, ALL,  1),
    }

    def test(self):
        self.start()
        self.down(self.every)
        self.send()
        self.results("http")
        self.up()
        self.results("ws", "auto")
        self.back_again()
        self.check()


class Unacknowledged(Combinations):
    """The server has passed them on, and its answer is lost with the link: whoever is here hears what comes by HTTP alone.

    (The answer to a request comes by its own connection, and is not lost.)
    """

    RULES = {
        "ws":   ("unknown", "ws",   NONE, NONE, ALL, NONE, 1),
        "http": ("sent",    "http", ALL,  IN,   ALL, ALL,  1),
        "auto": ("unknown", "ws",   NONE, NONE, ALL, NONE, 1),
    }

    def test(self):
        self.start()
        self.server.fault(op="drop_ack", count=-1)
        self.server.fault(op="drop_reply", event="presence", count=-1)
        self.server.http_fault("delay", ms=700, count=-1)
        self.send()
        until(lambda: self.arrived() >= len(SENT) * len(self.all), "all of it came to the client elsewhere")
        self.every.sync(upstream=True)  # so what comes by HTTP has come to the others here, too
        self.cut()
        self.up()
        self.results(*VIAS)
        self.back_again()
        self.check()


class Lost(Combinations):
    """They have left, and the server is dead: nobody gets them."""

    RULES = {
        "ws":   ("unknown", "ws", NONE, NONE, NONE, NONE, 1),
        "auto": ("unknown", "ws", NONE, NONE, NONE, NONE, 1),
    }

    def test(self):
        self.start(("ws", "auto"))
        [socket] = self.daemon_sockets()

        def n_received():
            return next(s["received"] for s in self.server.sockets() if s["id"] == socket)

        received = n_received()
        self.server.fault(op="mute")
        self.send()
        until(lambda: n_received() >= received + len(SENT) * len(self.all), "all of it came to the server")
        self.cut()
        self.up()
        self.results("ws", "auto")
        self.back_again()
        self.check()


class After(Combinations):
    """The link dies when all is done: nothing comes again."""

    RULES = {
        "ws":   ("acked", "ws",   ALL, IN, ALL, ALL, 1),
        "http": ("sent",  "http", ALL, IN, ALL, ALL, 1),
        "auto": ("acked", "ws",   ALL, IN, ALL, ALL, 1),
    }

    def test(self):
        self.start()
        self.send()
        self.results(*VIAS)
        for peer in self.chans:
            peer.sync(upstream=True)
        self.cut()
        self.back_again()
        self.check()


del Combinations  # a frame, no story


class Ways(Sends):
    """Which way `auto` takes."""

    def test_without_a_channel(self):
        """By HTTP; over the channel as soon as somebody has it; by HTTP again when everybody has gone."""
        topic = fresh("auto")
        far, tx, rx = self.remote(topic), self.peer(), self.peer()
        self.assertEqual(tx.broadcast(topic, "e", {"n": 1}), {"outcome": "sent", "via": "http"})
        self.assertEqual(self.server.joins("realtime:" + topic)[1:], [])  # none but the remote's
        chan = rx.subscribe(topic)["chan"]
        self.assertEqual(tx.broadcast(topic, "e", {"n": 2}), {"outcome": "acked", "via": "ws"})
        self.assertEqual([p["n"] for _, p in self.came(rx)[topic]], [2])
        rx.call("unsubscribe", {"chan": chan})
        until(lambda: topic not in str(tx.status()["channels"]), "the channel is gone", seconds=90)
        self.assertEqual(tx.broadcast(topic, "e", {"n": 3}), {"outcome": "sent", "via": "http"})
        self.assertEqual([p["n"] for _, _, p, _ in far.all_broadcasts()], [1, 2, 3])

    def test_what_http_cannot_say(self):
        topic = fresh("ws only")
        far, tx = self.remote(topic), self.peer()
        self.assertEqual(tx.broadcast(topic, "e", [1, 2])["via"], "ws")
        self.assertEqual(tx.broadcast(topic, "e", {"n": 1}, extra={"more": 1})["via"], "ws")
        for payload, more in ([1], {}), (None, {}), ("text", {}), ({"n": 1}, {"extra": {"more": 1}}):
            result = tx.broadcast(topic, "e", payload, via="http", **more)
            self.assertEqual((result["outcome"], result["via"]), ("bad_payload", "http"), result)
        self.assertEqual([p for _, _, p, _ in far.all_broadcasts()], [[1, 2], {"n": 1}])

    def test_nothing_overtakes(self):
        """What is on its way by HTTP is waited for, though the channel is joined meanwhile."""
        topic = fresh("order")
        far, tx, rx = self.remote(topic), self.peer(), self.peer()
        self.server.http_fault("delay", ms=1500)
        ids = [tx.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": n}}) for n in range(3)]
        self.server.wait_requests(1, path="/broadcast")
        rx.subscribe(topic)
        ids += [tx.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": n}}) for n in range(3, 20)]
        self.assertEqual([tx.result(id) for id in ids], [{"outcome": "sent", "via": "http"}] * 20)
        self.assertEqual(tx.broadcast(topic, "e", {"n": 20}), {"outcome": "acked", "via": "ws"})
        self.assertEqual([p["n"] for _, _, p, _ in far.all_broadcasts()], list(range(21)))
        got = [p["n"] for _, p in self.came(rx)[topic]]
        self.assertEqual(got, list(range(got[0], 21)))
        self.assertLessEqual(got[0], 3)

    def test_expired(self):
        """What cannot be given away in its time, each way; nothing of it goes out later."""
        topic = fresh("expired")
        tx, rx = self.peer(), self.peer()
        rx.subscribe(topic)
        far = self.remote(topic)
        self.down(tx)
        result = tx.broadcast(topic, "e", {"n": 1}, via="ws", ttl_ms=300)
        self.assertEqual((result["outcome"], result["via"]), ("expired", "ws"))
        self.assertTrue(result["text"], result)
        self.up()
        self.assertEqual(tx.broadcast(topic, "e", {"n": 2}, via="ws")["outcome"], "acked")
        self.assertEqual([p["n"] for _, _, p, _ in far.all_broadcasts()], [2])
        self.assertEqual([p["n"] for _, p in self.came(rx)[topic]], [2])


class Denied(Sends):
    """Policies without `write`."""

    POLICIES = "read * *\nwrite * open:*\n"

    def setUp(self):
        super().setUp()
        self.server.set_policies(self.POLICIES)
        self.addCleanup(self.server.set_policies, None)

    def timed(self, peer, *args, **params):
        self.server.status()
        first = until(lambda: peer.status(), "status")["server"]["uptime_ms"]
        result = peer.broadcast(*args, private=True, **params)
        return result, peer.status()["server"]["uptime_ms"] - first

    def test_over_the_channel(self):
        """A question 2 s later is answered, the message was not: no need to wait for 10 s."""
        topic = fresh("closed")
        tx, rx, far = self.peer(), self.peer(), self.remote(topic, private=True)
        rx.subscribe(topic, private=True)
        for payload in {"n": 1}, b"bytes":
            result, ms = self.timed(tx, topic, "e", payload, via="ws")
            self.assertEqual((result["outcome"], result["via"]), ("denied", "ws"))
            self.assertIn("did not acknowledge", result["text"])
            self.assertTrue(1500 < ms < 5000, ms)
        self.assertEqual((self.came(rx), far.all_broadcasts()), ({}, []))

    def test_many_at_once(self):
        """One question is enough for all; the others' messages are none of it."""
        closed, open_ = fresh("closed"), fresh("open")
        tx, rx = self.peer(), self.peer()
        rx.subscribe(open_, private=True)
        ids = [tx.request("broadcast", {"topic": topic, "private": True, "event": "e", "payload": {"n": n}, "via": "ws"})
               for n in range(100) for topic in (closed, open_)]
        outcomes = [tx.result(id)["outcome"] for id in ids]
        self.assertEqual(outcomes, ["denied", "acked"] * 100)
        self.assertEqual([p["n"] for _, p in self.came(rx)[open_]], list(range(100)))

    def test_by_http(self):
        """Of a batch the server says nothing, of bytes it does."""
        topic = fresh("closed")
        tx, far = self.peer(), self.remote(topic, private=True)
        self.assertEqual(tx.broadcast(topic, "e", {"n": 1}, private=True, via="http"), {"outcome": "sent", "via": "http"})
        result = tx.broadcast(topic, "e", b"bytes", private=True, via="http")
        self.assertEqual((result["outcome"], result["via"]), ("denied", "http"))
        self.assertIn("403", result["text"])
        self.assertEqual(far.all_broadcasts(), [])
        # What looks like it from somebody else is no echo of a message that never was.
        rx = self.peer()
        rx.subscribe(topic, private=True)
        tx.subscribe(topic, private=True)
        self.server.set_policies(None)
        far.broadcast(topic, "e", b"bytes")
        far.heartbeat()
        self.assertEqual([self.came(p).get(topic) for p in (rx, tx)], [[("e", b"bytes")]] * 2)

    def test_other_topics_go_on(self):
        """While one waits for the question, others are served at once."""
        closed, open_ = fresh("closed"), fresh("open")
        tx, rx = self.peer(), self.peer()
        rx.subscribe(open_, private=True)
        waiting = tx.request("broadcast", {"topic": closed, "private": True, "event": "e", "payload": {}, "via": "ws"})
        for n in range(20):
            self.assertEqual(tx.broadcast(open_, "e", {"n": n}, private=True)["outcome"], "acked")
        self.assertEqual(tx.result(waiting)["outcome"], "denied")


if __name__ == "__main__":
    unittest.main()
