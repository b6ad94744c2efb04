# SPDX-License-Identifier: MIT
"""What the server and the network do to the one connection, and what the attached processes see of it."""

import random
import unittest

from rtbtest.peer import Peer, RequestError
from rtbtest.story import Story
from rtbtest.wait import until


class Upstream(Story):
    def setUp(self):
        self.topic = f"up:{random.randrange(10 ** 9)}"

    def joined(self):
        peer = self.peer()
        peer.subscribe(self.topic)
        return peer

    def back(self, peer):
        """The channel is interrupted once and comes back once."""
        peer.wait_notice("channel", lambda n: n["topic"] == self.topic and n["state"] == "rejoining")
        peer.wait_notice("channel", lambda n: n["topic"] == self.topic and n["state"] == "ready")

    def check_works(self, peer):
        other = self.peer()
        self.assertEqual(other.broadcast(self.topic, "again", 1)["outcome"], "acked")
        peer.wait_notice("broadcast", lambda n: n["event"] == "again")
        peer.sync(upstream=True)
        self.assertEqual(peer.take("broadcast"), [])

    def test_every_close_code(self):
        for code in (1000, 1001, 1006, 1011, 1012, 1013, 3000):
            with self.subTest(code=code):
                peer = self.joined()
                before = peer.status()["counters"]["reconnects"]
                self.server.fault({"op": "close", "code": code, "sockets": "all"})
                down = peer.wait_notice("connection")
                self.assertEqual(down["state"], "backoff", down)
                self.assertTrue(down["text"])
                self.back(peer)
                self.assertEqual([n["state"] for n in [peer.wait_notice("connection")]], ["online"])
                status = peer.status()
                self.assertEqual(status["counters"]["reconnects"], before + 1)
                if code in (1000, 1001, 1011, 3000):
                    self.assertIn(str(code), status["last_disconnect"]["text"])
                self.check_works(peer)
                self.assertEqual(peer.take("connection"), [])

    def test_half_a_frame_and_bad_json(self):
        peer = self.joined()
        self.server.fault({"op": "bad_json"})
        self.server.fault({"op": "send", "topic": "", "text": "[1,2]", "sockets": "all"})
        self.server.fault({"op": "send", "topic": "", "text": "{}", "sockets": "all"})
        self.check_works(peer)
        self.server.fault({"op": "half_frame"})
        self.back(peer)
        self.check_works(peer)

    def test_channel_closed_by_the_server(self):
        for fault in ({"op": "phx_close", "topic": "realtime:" + self.topic},
                      {"op": "phx_error", "topic": "realtime:" + self.topic},
                      {"op": "system", "topic": "realtime:" + self.topic, "message": "Query was cancelled, please try again"}):
            with self.subTest(op=fault["op"]):
                peer = self.joined()
                self.server.fault(fault)
                if fault["op"] == "system":
                    self.server.fault({"op": "phx_close", "topic": "realtime:" + self.topic})
                notice = peer.wait_notice("channel", lambda n: n["state"] == "rejoining")
                self.assertTrue(notice["text"])
                if fault["op"] == "system":
                    self.assertIn("Query was cancelled", notice["text"])
                peer.wait_notice("channel", lambda n: n["state"] == "ready")
                self.check_works(peer)

    def test_refused_join(self):
        reason = f"Unauthorized: You do not have permissions to read from this Channel topic: {self.topic}"
        self.server.fault({"op": "refuse_join", "topic": "realtime:" + self.topic, "reason": reason, "count": 1})
        peer, other = self.peer(), self.peer()
        for asker in (peer, other):
            with self.assertRaises(RequestError) as caught:
                asker.subscribe(self.topic)
            self.assertEqual((caught.exception.name, caught.exception.text), ("rejected", reason))
        self.assertEqual(peer.broadcast(self.topic, "e", 1)["outcome"], "not_joined")
        peer.sync(upstream=True)

    def test_refused_for_now(self):
        self.server.fault({"op": "refuse_join", "topic": "realtime:" + self.topic, "count": 1,
                           "reason": "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect"})
        self.assertEqual(self.peer().subscribe(self.topic, timeout_ms=60000)["state"], "ready")

    def test_join_without_an_answer(self):
        self.server.fault({"op": "drop_reply", "event": "phx_join", "topic": "realtime:" + self.topic, "count": 1})
        with self.assertRaises(RequestError) as caught:
            self.peer().subscribe(self.topic, timeout_ms=300)
        self.assertEqual(caught.exception.name, "timeout")
        keeper = self.peer()
        self.assertEqual(keeper.subscribe(self.topic, timeout_ms=300, keep=True)["state"], "joining")
        keeper.wait_notice("channel", lambda n: n["state"] == "ready")

    def test_lost_ack_is_not_repeated(self):
        peer, outside = self.joined(), self.outside()
        outside.join(self.topic)
        self.server.fault({"op": "drop_ack", "count": 1})
        sender = self.peer()
        first = sender.request("broadcast", {"topic": self.topic, "event": "first", "payload": 1})
        self.assertEqual(sender.broadcast(self.topic, "second", 2)["outcome"], "acked")
        self.assertIn(sender.result(first)["outcome"], ("denied", "unknown"))
        self.assertEqual(outside.recv_broadcasts(2), [("first", 1), ("second", 2)])
        peer.sync(upstream=True)
        self.assertEqual([n["event"] for n in peer.take("broadcast")], ["second"])

    def test_connection_ends_before_the_ack(self):
        peer = self.joined()
        self.server.fault({"op": "drop_ack", "count": 1})
        sender = self.peer()
        before = self.server.status()["received"]
        id = sender.request("broadcast", {"topic": self.topic, "event": "lost?", "payload": 1})
        until(lambda: self.server.status()["received"] > before, "the server has it")
        self.server.fault({"op": "close", "code": 1006, "sockets": "all"})
        self.assertEqual(sender.result(id)["outcome"], "unknown")
        self.back(peer)
        peer.sync(upstream=True)
        self.assertEqual(peer.take("broadcast"), [])

    def test_sends_wait_for_the_connection(self):
        peer, sender = self.joined(), self.peer()
        sender.subscribe(self.topic)
        self.server.fault({"op": "refuse_upgrade", "status": 503, "count": 1})
        self.server.fault({"op": "close", "code": 1006, "sockets": "all"})
        sender.wait_notice("connection", lambda n: n["state"] == "backoff")
        ids = [sender.request("broadcast", {"topic": self.topic, "event": "n", "payload": n, "ttl_ms": 60000}) for n in range(100)]
        short = sender.broadcast(self.topic, "short", 0, ttl_ms=0)
        self.assertEqual(short["outcome"], "expired", short)
        for id in ids:
            self.assertEqual(sender.result(id)["outcome"], "acked")
        self.back(peer)
        peer.sync(upstream=True)
        self.assertEqual([n["payload"] for n in peer.take("broadcast")], list(range(100)))

    def test_refused_upgrades(self):
        for status, state in ((503, "backoff"), (429, "backoff"), (401, "auth_failed"), (404, "config_error")):
            with self.subTest(status=status), self.make_server() as server:
                server.fault({"op": "refuse_upgrade", "status": status, "count": -1})
                with self.make_daemon(server=server) as daemon, Peer(daemon.socket) as peer:
                    found = until(lambda: (s := peer.status())["connection"]["state"] == state and s, f"{status}: {state}")
                    self.assertIn(str(status), found["connection"]["text"])
                    self.assertIn("next_try_ms", found["connection"])

    def test_a_server_that_falls_silent(self):
        with self.make_server() as server:
            sections = {"upstream": {"heartbeat": "300ms", "heartbeat_reply": "300ms"}}
            with self.make_daemon(server=server, sections=sections) as daemon, Peer(daemon.socket) as peer:
                peer.subscribe(self.topic)
                self.assertIsNotNone(until(lambda: peer.status()["links"][0]["rtt_ms"] is not None, "a heartbeat is answered"))
                server.fault({"op": "mute"})
                down = peer.wait_notice("connection", lambda n: n["state"] != "online")
                if down["state"] == "stalled":
                    down = peer.wait_notice("connection", lambda n: n["state"] == "backoff")
                self.assertIn("heartbeat", down["text"])
                server.fault({"op": "unmute"})
                self.back(peer)


if __name__ == "__main__":
    unittest.main()
