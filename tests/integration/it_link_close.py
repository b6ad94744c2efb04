#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every way in which a server ends a WebSocket: codes with and without a reason, and frames that are no end at all."""

import struct
import unittest

from rtbtest.faults import FaultStory, frame, upgraded, wait_state
from rtbtest.peer import Peer
from rtbtest.tcpproxy import TcpProxy

# 1006 and 0 are never sent: the connection breaks. libwebsockets of Debian 12 says 1002 for 1012 to 1014.
REASONS = {1000: "closed", 1001: "restart", 1006: "lost", 1008: "policy", 1009: "policy", 1011: "server", 1012: "restart",
           1013: "restart", 1002: "restart", 1003: "policy", 3000: "closed", 4001: "closed"}


def close(code=None, reason=b""):
    return frame(8, b"" if code is None else struct.pack("!H", code) + reason)


class Codes(FaultStory):
    def ended(self):
        return self.control.status()["last_disconnect"]

    def end(self, how):
        """Ends it while messages flow; the end as the status tells it."""
        before, ready = self.control.status()["counters"]["reconnects"], self.comebacks()
        self.flow(5)
        how()
        self.flow_until(lambda: self.control.status()["counters"]["reconnects"] > before, "it is back")
        self.flow_back(ready)
        return self.ended()

    def test_codes(self):
        for code, reason in REASONS.items():
            with self.subTest(code=code):
                end = self.end(lambda: self.server.fault(op="close", code=code))
                self.assertEqual(end["reason"], reason, end)
                self.assertTrue(end["text"])
                if code not in (1006, 1012, 1013):
                    self.assertIn(str(code), end["text"])
        self.settle()

    def test_drain(self):
        """As at a deploy: the server closes with 1012 and is away for a moment."""
        self.flow(5)
        self.harvest()
        ready = self.comebacks()
        self.server.stop()
        self.flow_to(state="backoff")
        self.server.start()
        self.log_from = 0
        self.flow_back(ready)
        self.settle()

    def test_killed(self):
        self.flow(5)
        self.harvest()
        ready = self.comebacks()
        self.server.kill()
        self.flow_to(state="backoff")
        self.server.start()
        self.log_from = 0
        self.flow_back(ready)
        self.settle()

    def test_disconnect(self):
        """The project's operator: a word on each channel, then 1012."""
        end = self.end(self.server.disconnect)
        self.assertIn(end["reason"], ("restart", "closed"))
        self.settle()


class First(FaultStory):
    """A server that ends each connection right after the upgrade, in its own way; then it thinks better of it."""

    ENDS = {
        "empty": ([close()], "closed"),
        "1000": ([close(1000)], "closed"),
        "1008 reason": ([close(1008, b"policy: too loud")], "policy"),
        "1009": ([close(1009)], "policy"),
        "1011 reason": ([close(1011, b"internal")], "server"),
        "1012": ([close(1012, b"deploy")], "restart"),
        "1013": ([close(1013, b"try later")], "restart"),
        "4001 utf-8": ([close(4001, "Schl\u00fcssel abgelaufen".encode())], "closed"),
        "4001 not utf-8": ([close(4001, b"\xff\xfe\x00\x1b[31m")], None),
        "long reason": ([close(1000, b"x" * 123)], "closed"),
        "one byte": ([frame(8, b"\x03")], None),
        "999": ([close(999)], None),
        "65535": ([close(65535)], None),
        "1005": ([close(1005)], None),
        "half a frame": ([frame(8, b"\x03\xe8gone")[:3]], "lost"),
        "words before": ([frame(1, b"[1,2,3]"), frame(1, b"{}"), close(1000)], "closed"),
        "garbage": ([b"\x00\x01garbage\xff\xff\xff\xff\xff\xff\xff\xff"], None),
        "nothing": ([], "lost"),
    }

    def test_ends(self):
        for name, (frames, reason) in self.ENDS.items():
            with self.subTest(name):
                before, ready = self.proxy.counts()["scripted"], self.comebacks()
                self.proxy.answer(upgraded(*frames), count=2, then="fin")
                self.proxy.drop()
                self.flow_until(lambda: self.proxy.counts()["scripted"] >= before + 2, "two such ends")
                self.flow_back(ready)
                end = self.control.status()["last_disconnect"]
                self.assertTrue(end["text"].isprintable(), end)
                if reason:
                    self.assertEqual(end["reason"], reason, end)
        self.settle()

    def test_each_end_is_told_once(self):
        """Peers hear of one outage, however many attempts it has."""
        self.flow(3)
        self.control.sync()
        self.control.take("connection")
        self.proxy.answer(upgraded(close(1000)), count=4, then="fin")
        ready = self.comebacks()
        self.proxy.drop()
        self.flow_back(ready)
        self.settle()
        self.control.sync()
        told = [n["state"] for n in self.control.take("connection")]
        self.assertLessEqual(told.count("backoff"), 5)
        self.assertEqual(told[-1], "online")
        self.assertEqual([a for a, b in zip(told, told[1:]) if a == b], [])


class Floor(FaultStory):
    def test_the_pause_grows(self):
        """A server that ends every connection is not asked at once each time, though each came about."""
        with TcpProxy(self.server.port) as proxy:
            proxy.answer(upgraded(close(1000)), count=-1, then="fin")
            self.upstream = {"backoff_min": "100ms", "backoff_max": "60s"}
            with self.behind(proxy) as daemon, Peer(daemon.socket) as peer:
                proxy.wait(lambda c: c["connections"] >= 4, "four attempts")
                found = wait_state(peer, state="backoff", reason="closed")
                self.assertIn("next_try_ms", found)
                ends = proxy.ends()
                # 100, 200, 400 ms, each at random from nothing to that: less would be no pause at all.
                proxy.wait(lambda c: c["connections"] >= 8, "eight attempts")
                self.assertGreater(proxy.ends()[6] - ends[0], 300)


if __name__ == "__main__":
    unittest.main()
