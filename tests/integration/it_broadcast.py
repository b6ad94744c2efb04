# SPDX-License-Identifier: MIT
"""Broadcasts both ways over one shared WebSocket: exactly one copy each, to those who want it."""

import os
import random
import unittest

import msgpack

from rtbtest.peer import Peer, RequestError
from rtbtest.story import Story
from rtbtest.wait import until

PAYLOADS = [{"n": 1}, {}, [], "text", "", None, True, 0, -1, 2 ** 63, 2 ** 64 - 1, -2 ** 63, 1.5, 1e300, 5e-324,
            {"nested": [{"a": [1, [2, [3]]]}]}, {"ünï": "😀 \u2028 \x00 end", "slash": "a/b\\\"c"},
            msgpack.ExtType(1, b"12345678901234567890123"), {"price": msgpack.ExtType(1, b"1.50")}]


class Broadcast(Story):
    def collect(self, peer, chan):
        """What has come for this chan, behind a barrier."""
        peer.sync(upstream=True)
        return [(n["event"], n["payload"]) for n in peer.take("broadcast") if n["chan"] == chan]

    def test_one_join_for_all(self):
        topic = f"shared:{random.randrange(10 ** 9)}"
        peers = [self.peer() for _ in range(8)]
        before = self.server.status()
        chans = {p.subscribe(topic)["chan"] for p in peers}
        self.assertEqual(len(chans), 1)
        after = self.server.status()
        self.assertEqual(after["sockets_open"], 1)
        self.assertEqual(after["joins_ever"] - before["joins_ever"], 1)
        channel = [c for c in peers[0].status()["channels"] if c["topic"] == topic]
        self.assertEqual([c["subscribers"] for c in channel], [8])

    def test_inside_out_and_back(self):
        topic = f"round:{random.randrange(10 ** 9)}"
        a, b, c = self.peer(), self.peer(), self.peer()
        chan = a.subscribe(topic)["chan"]
        b.subscribe(topic)
        c.subscribe(topic, broadcast={"self": True})
        outside = self.outside()
        outside.join(topic)
        for n, payload in enumerate(PAYLOADS):
            self.assertEqual(c.broadcast(topic, f"e{n}", payload), {"outcome": "acked", "via": "ws"})
        want = [(f"e{n}", payload) for n, payload in enumerate(PAYLOADS)]
        for peer in (a, b, c):
            self.assertEqual(self.collect(peer, chan), want)
        self.assertEqual(outside.recv_broadcasts(len(want)), want)
        outside.broadcast(topic, "from outside", {"n": 1})
        for peer in (a, b, c):
            peer.wait_notice("broadcast", lambda n: n["event"] == "from outside" and n["payload"] == {"n": 1})
            self.assertEqual(self.collect(peer, chan), [])

    def test_sender_without_self_hears_nothing(self):
        topic = f"self:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        chan = a.subscribe(topic)["chan"]
        b.subscribe(topic)
        for n in range(50):
            a.request("broadcast", {"chan": chan, "event": "n", "payload": n})
        a.sync()
        self.assertEqual(self.collect(a, chan), [])
        self.assertEqual([p for _, p in self.collect(b, chan)], list(range(50)))

    def test_event_filters(self):
        topic = f"filter:{random.randrange(10 ** 9)}"
        some, every, none = self.peer(), self.peer(), self.peer()
        chan = some.subscribe(topic, broadcast={"events": ["a", "c"]})["chan"]
        every.subscribe(topic, broadcast={"events": ["zzz", "*"]})
        none.subscribe(topic, broadcast={"events": []})
        sender = self.peer()
        outside = self.outside()
        outside.join(topic)
        for event in ["a", "b", "c", "A", "*"]:
            sender.broadcast(topic, event, 1)
            outside.broadcast(topic, event, 2)
            every.wait_notice("broadcast", lambda n: n["event"] == event and n["payload"] == 2)
        self.assertEqual(sorted(self.collect(some, chan)), sorted([("a", 1), ("c", 1), ("a", 2), ("c", 2)]))
        self.assertEqual(self.collect(none, chan), [])

    def test_change_of_a_subscription(self):
        topic = f"change:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        first = a.subscribe(topic, broadcast={"events": ["x"]})
        second = a.subscribe(topic, broadcast={"events": ["y"]})
        self.assertEqual(first["chan"], second["chan"])
        b.broadcast(topic, "x", 1)
        b.broadcast(topic, "y", 2)
        self.assertEqual(self.collect(a, first["chan"]), [("y", 2)])

    def test_unsubscribe_ends_it_and_the_last_one_leaves(self):
        topic = f"leave:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        chan = a.subscribe(topic)["chan"]
        b.subscribe(topic)
        self.assertEqual(a.call("unsubscribe", {"chan": chan}), {})
        self.peer().broadcast(topic, "e", 1)
        b.wait_notice("broadcast")
        self.assertEqual(self.collect(a, chan), [])
        b.call("unsubscribe", {"all": True})
        until(lambda: topic not in str(self.server.status()), "the daemon leaves the topic at the server")
        until(lambda: topic not in str(a.status()), "the daemon forgets the topic")
        self.assertNotEqual(a.subscribe(topic)["chan"], chan)

    def test_a_process_that_dies_leaves_nothing_behind(self):
        topic = f"dies:{random.randrange(10 ** 9)}"
        peer = Peer(self.daemon.socket)
        peer.subscribe(topic)
        peer.request("broadcast", {"topic": topic, "event": "last words", "payload": 1})
        watcher = self.peer()
        watcher.subscribe(topic)
        peer.request("broadcast", {"topic": topic, "event": "very last words", "payload": 2})
        peer.close()
        watcher.wait_notice("broadcast", lambda n: n["event"] == "very last words")
        watcher.call("unsubscribe", {"topic": topic})
        until(lambda: topic not in str(self.server.status()), "the topic is left")

    def test_send_without_subscription(self):
        topic = f"nosub:{random.randrange(10 ** 9)}"
        outside = self.outside()
        outside.join(topic)
        sender = self.peer()
        self.assertEqual(sender.broadcast(topic, "e", {"n": 1}, via="ws")["outcome"], "acked")
        self.assertEqual(outside.recv_broadcasts(1), [("e", {"n": 1})])

    def test_pipelined_sends_keep_their_order(self):
        topic = f"order:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        chan = b.subscribe(topic)["chan"]
        outside = self.outside()
        outside.join(topic)
        ids = [a.request("broadcast", {"topic": topic, "event": "n", "payload": n}) for n in range(2000)]
        for id in ids:
            self.assertEqual(a.result(id)["outcome"], "acked")
        self.assertEqual([p for _, p in self.collect(b, chan)], list(range(2000)))
        self.assertEqual([p for _, p in outside.recv_broadcasts(2000)], list(range(2000)))

    def test_too_big(self):
        topic = f"big:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        chan = b.subscribe(topic)["chan"]
        self.assertEqual(a.broadcast(topic, "fits", {"x": "y" * 1_000_000})["outcome"], "acked")
        answer = a.broadcast(topic, "does not", {"x": "y" * 3_200_000})
        self.assertEqual(answer["outcome"], "too_big", answer)
        self.assertEqual([e for e, _ in self.collect(b, chan)], ["fits"])

    def test_private_and_public_of_one_name(self):
        topic = f"both:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        # One connection carries a topic once: the second one goes to a further link.
        private, public = a.subscribe(topic, private=True), b.subscribe(topic)
        self.assertEqual((private["state"], public["state"]), ("ready", "ready"))
        self.assertNotEqual(private["chan"], public["chan"])
        c = self.peer()
        for payload, options in (("first", {"private": True}), ("second", {}), ("third", {"private": True})):
            self.assertEqual(c.broadcast(topic, "e", payload, **options)["outcome"], "acked")
        self.assertEqual([p for _, p in self.collect(a, private["chan"])], ["first", "third"])
        self.assertEqual([p for _, p in self.collect(b, public["chan"])], ["second"])
        links = c.status()["links"]
        self.assertEqual(len(links), 2)
        self.assertIn(topic, links[1]["why"])
        self.assertEqual(links[1]["uid"], os.getuid())

    def test_status_names_users_and_processes(self):
        peer = self.peer(name="status-test")
        status = peer.status()
        me = [c for c in status["clients"] if c["name"] == "status-test"]
        self.assertEqual([(c["uid"], c["pid"]) for c in me], [(os.getuid(), os.getpid())])
        self.assertEqual(status["vsn"], self.vsn)
        self.assertNotIn("apikey", status["url"])
        self.assertEqual(status["links"][0]["state"], "online")


class BroadcastVsn1(Broadcast):
    vsn = "1.0.0"


class Binary(Story):
    def test_bytes_go_through(self):
        topic = f"bytes:{random.randrange(10 ** 9)}"
        a, b = self.peer(), self.peer()
        b.subscribe(topic)
        outside = self.outside()
        outside.join(topic)
        data = bytes(range(256)) * 400
        self.assertEqual(a.broadcast(topic, "raw", data)["outcome"], "acked")
        self.assertEqual(b.wait_notice("broadcast")["payload"], data)
        self.assertEqual(outside.recv_broadcasts(1), [("raw", data)])
        outside.broadcast(topic, "back", data)
        self.assertEqual(b.wait_notice("broadcast", lambda n: n["event"] == "back")["payload"], data)

    def test_vsn_1_says_that_it_cannot(self):
        with self.another(sections={"upstream": {"vsn": "1.0.0"}}) as daemon, Peer(daemon.socket) as peer:
            self.assertEqual(peer.broadcast("room:1", "raw", b"bytes", via="ws")["outcome"], "unsupported")
            self.assertEqual(peer.broadcast("room:2", "raw", b"bytes"), {"outcome": "sent", "via": "http"})


if __name__ == "__main__":
    unittest.main()
