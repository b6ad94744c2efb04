# SPDX-License-Identifier: MIT
"""What a client may say and what it may not: hello, errors, limits; nobody else is harmed by nonsense."""

import os
import random
import struct
import unittest

import msgpack

from rtbtest.peer import Closed, Peer, RequestError, frame
from rtbtest.story import Story
from rtbtest.wait import until


class Protocol(Story):
    def error_of(self, code, call, *args, **kwargs):
        with self.assertRaises(RequestError) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception

    def farewell(self, peer, code):
        """The last thing that a peer hears: why it is closed."""
        peer.wait_closed()
        errors = peer.take("error")
        self.assertEqual([e["error"][0] for e in errors], [code], errors)
        return errors[0]["error"][2]

    def test_hello_tells_limits_and_features(self):
        hello = self.peer().hello
        self.assertEqual(hello["protocol"], 1)
        self.assertEqual(hello["server"]["name"], "rtbridged")
        self.assertEqual(hello["limits"]["topic_bytes"], 240)
        self.assertIn("broadcast", hello["features"])
        self.assertEqual(hello["connection"]["state"], "online")

    def test_hello_must_be_first_and_once(self):
        peer = self.peer(hello=False)
        self.error_of(208, peer.call, "status")
        self.assertEqual(peer.call("hello", {"protocol": 1})["protocol"], 1)
        self.error_of(200, peer.call, "hello", {"protocol": 1})
        self.error_of(402, self.peer(hello=False).call, "hello", {"protocol": 99})

    def test_no_hello_in_time(self):
        self.farewell(self.peer(hello=False), 403)

    def test_unknown_methods_keys_and_elements(self):
        peer = self.peer()
        self.error_of(204, peer.call, "frobnicate", {"a": 1})
        self.error_of(204, peer.call, "x" * 5000)
        self.assertEqual(peer.subscribe("room:1", later={"deep": [1, 2]})["state"], "ready")
        peer.send_raw(frame([0, 4000000000, "status", {}, "a fifth element"]))
        self.assertIn("server", peer.result(4000000000))

    def test_wrong_parameters_are_named(self):
        peer = self.peer()
        for params, word in [({}, "topic"), ({"topic": 5}, "topic"), ({"topic": "a", "private": "yes"}, "private"),
                             ({"topic": "a", "wait": "soon"}, "wait"), ({"topic": "a", "broadcast": []}, "broadcast"),
                             ({"topic": "a", "timeout_ms": -1}, "timeout_ms"),
                             ({"topic": "a", "broadcast": {"events": "e"}}, "events")]:
            self.assertIn(word, self.error_of(200, peer.call, "subscribe", params).text)
        for topic in ["", "x" * 241, "a\nb", "rtbridge:x", "\u0085"]:
            self.error_of(201, peer.subscribe, topic)
            self.error_of(201, peer.broadcast, topic, "e", {})
        for event in ["", "x" * 256, "\x00"]:
            self.error_of(202, peer.broadcast, "room:1", event, {})
        self.error_of(206, peer.call, "unsubscribe", {"topic": "never"})
        self.error_of(206, peer.call, "unsubscribe", {"chan": 10 ** 12})
        self.error_of(206, peer.call, "broadcast", {"chan": 10 ** 12, "event": "e", "payload": 1})
        self.error_of(200, peer.broadcast, "room:1", "e", {}, via="pigeon")
        self.error_of(200, peer.call, "broadcast", {"topic": "room:1", "event": "e"})

    def test_payloads_that_json_cannot_say(self):
        peer = self.peer()
        nan = struct.pack(">Bd", 0xcb, float("nan"))
        for payload, path in [({"a": {1: 2}}, "$.a"), ({"a": [1, b"bin"]}, "$.a[1]"), ({"a": float("inf")}, "$.a"),
                              ({"a": msgpack.ExtType(5, b"x")}, "$.a")]:
            self.assertIn(path, self.error_of(203, peer.broadcast, "room:1", "e", payload).text)
        deep = 0
        for _ in range(65):
            deep = [deep]
        self.error_of(203, peer.broadcast, "room:1", "e", deep)
        self.assertTrue(nan)
        self.assertEqual(peer.broadcast("room:1", "e", deep[0])["outcome"], "acked")

    def test_malformed_frames_end_only_their_sender(self):
        other = self.peer()
        other.subscribe("room:1")
        bodies = [b"", b"\xc1", b"\x93\x00", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", msgpack.packb({}),
                  msgpack.packb([]), msgpack.packb([9, 1, "a", {}]), msgpack.packb([0, -1, "a", {}]),
                  msgpack.packb([0, 2 ** 32, "a", {}]), msgpack.packb([0, 1, 7, {}]), msgpack.packb([0, 1, "a", []]),
                  msgpack.packb([1, 1, None, {}]), b"\x94\x00\x01\xa1a\x80\x80", b"\x91" * 200 + b"\xc0"]
        for body in bodies:
            peer = self.peer()
            peer.send_raw(struct.pack(">I", len(body)) + body)
            self.assertTrue(self.farewell(peer, 400), body)
        for size in [4 * 1024 * 1024 + 1, 0x7fffffff, 0xffffffff]:
            peer = self.peer()
            peer.send_raw(struct.pack(">I", size) + b"x" * 100)
            self.assertIn(str(size), self.farewell(peer, 401))
        self.assertEqual(self.peer().broadcast("room:1", "still", {"n": 1})["outcome"], "acked")
        other.wait_notice("broadcast", lambda p: p["event"] == "still")
        self.assertLess(self.daemon.rss_bytes(), 64 << 20 if not self.sanitized else 1 << 30)

    def test_random_bytes(self):
        seed = random.randrange(2 ** 32)
        print(f"seed {seed}")
        dice = random.Random(seed)
        good = frame([0, 1, "subscribe", {"topic": "room:1", "broadcast": {"events": ["a", "b"], "self": True}}])
        for _ in range(150):
            peer = self.peer()
            data = bytearray(good)
            for _ in range(dice.randrange(1, 6)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            try:
                peer.send_raw(bytes(data[:dice.randrange(1, len(data) + 1)]))
                peer.close()
            except (Closed, BrokenPipeError):
                pass
        self.assertEqual(self.peer().subscribe("room:1")["state"], "ready")

    def test_frames_byte_by_byte_and_many_at_once(self):
        peer = self.peer()
        for byte in frame([0, 77, "status", {}]):
            peer.send_raw(bytes([byte]))
        self.assertIn("server", peer.result(77))
        peer.send_raw(b"".join(frame([0, 100 + i, "sync", {}]) for i in range(500)))
        for i in range(500):
            self.assertEqual(peer.result(100 + i), {})

    def test_errors_of_notifications_come_as_notices(self):
        peer = self.peer()
        peer.send_raw(frame([2, "broadcast", {"topic": "", "event": "e", "payload": 1}]))
        peer.send_raw(frame([2, "broadcast", {"topic": "room:9", "event": "e", "payload": 1}]))
        notice = peer.wait_notice("error")
        self.assertEqual((notice["method"], notice["error"][0]), ("broadcast", 201))
        peer.sync()
        self.assertEqual(peer.take("error"), [])

    def test_descriptors_sent_along_are_not_kept(self):
        import array
        import socket
        before = len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))
        peer = self.peer()
        r, w = os.pipe()
        for n in range(20):
            peer.sock.sendmsg([frame([0, 1000 + n, "status", {}])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [r, w]))])
        peer.sync()
        self.assertLessEqual(len(os.listdir(f"/proc/{self.daemon.process.pid}/fd")), before + 1)
        os.close(r)
        os.close(w)

    def test_too_many_clients(self):
        with self.another(sections={"limits": {"clients": 3}}) as daemon:
            peers = [Peer(daemon.socket) for _ in range(3)]
            with Peer(daemon.socket, hello=False) as refused:
                self.assertIn("3", self.farewell(refused, 406))
            peers[0].close()
            until(lambda: len(peers[1].status()["clients"]) == 2, "the daemon sees the client go")
            Peer(daemon.socket).close()
            for peer in peers:
                peer.close()

    def test_too_many_subscriptions_and_channels(self):
        limits = {"subscriptions": 3, "channels": 4, "links": 1}
        with self.another(sections={"limits": limits}) as daemon:
            with Peer(daemon.socket) as a, Peer(daemon.socket) as b:
                for i in range(3):
                    a.subscribe(f"room:{i}")
                self.error_of(207, a.subscribe, "room:3")
                b.subscribe("room:3")
                self.assertIn("channels", self.error_of(207, b.subscribe, "room:4").text)
                self.error_of(207, b.subscribe, "room:0", private=True)
                self.assertEqual(b.subscribe("room:0")["state"], "ready")

    def test_further_channels_go_to_a_further_link(self):
        with self.another(sections={"limits": {"channels": 2, "links": 2}}) as daemon:
            with Peer(daemon.socket) as a, Peer(daemon.socket) as b:
                chans = [a.subscribe(f"room:{i}")["chan"] for i in range(4)]
                self.assertIn("links", self.error_of(207, a.subscribe, "room:4").text)
                for i in range(4):
                    self.assertEqual(b.broadcast(f"room:{i}", "e", i)["outcome"], "acked")
                a.call("sync", {"upstream": True})
                self.assertEqual([(n["chan"], n["payload"]) for m, n in a.notices if m == "broadcast"],
                                 [(chan, i) for i, chan in enumerate(chans)])
                self.assertEqual([link["joins"] for link in b.status()["links"]], [2, 2])


if __name__ == "__main__":
    unittest.main()
