#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A network that is slower than what is to be sent, and a hundred channels that come back at once."""

import time
import unittest

from rtbtest.faults import FaultStory
from rtbtest.tcpproxy import DOWN, UP
from rtbtest.wait import until

MIB = 1 << 20


class SlowUp(FaultStory):
    """100 kB/s, and three times as much to send. The heartbeat's times are those of a fifth of the defaults."""

    rcvbuf = 16384
    upstream = {"heartbeat": "5s", "heartbeat_reply": "2s"}

    def load(self):
        """15 s of it. (memory that it took, the slowest answer to a question)"""
        self.flow()
        mouths = [self.field.mouth(f"s{i}", self.topic, self.peer(name=f"s{i}"), ttl_ms=3000) for i in range(4)]
        rss = self.daemon.rss_bytes()
        self.proxy.shape(UP, bandwidth=100_000)
        end, worst, slowest = time.monotonic() + 15, 0, 0.0
        while time.monotonic() < end:
            for mouth in mouths:
                if len(mouth.waiting) < 500:
                    mouth.send(size=5000)
            self.field.pump(0.01)
            asked = time.monotonic()
            self.control.status()
            slowest = max(slowest, time.monotonic() - asked)
            worst = max(worst, self.daemon.rss_bytes() - rss)
        return worst, slowest

    def test_more_than_the_line_carries(self):
        """Senders wait, or are told; memory is bounded; others are answered."""
        worst, slowest = self.load()
        print(f"memory grew by {worst / MIB:.1f} MiB, status took up to {slowest * 1000:.0f} ms")
        self.assertLess(worst, (150 if self.sanitized else 40) * MIB)
        self.assertLess(slowest, 5.0 if self.sanitized else 1.0)
        judged = self.settle()
        self.assertGreater(judged["outcome acked"], 100)
        self.assertGreater(judged["outcome expired"] + judged["outcome busy"] + judged["outcome unknown"], 0)

    def test_heartbeats_pass(self):
        """However much waits: a line that works is not given up."""
        before, beats = self.proxy.counts()["connections"], self.heartbeats()
        self.load()
        self.assertEqual(self.proxy.counts()["connections"], before, self.control.status().get("last_disconnect"))
        self.assertGreater(self.heartbeats(), beats)

    def heartbeats(self):
        return max((s["heartbeats"] for s in self.server.status()["sockets"] if s["heartbeats"]), default=0)


class SlowDown(FaultStory):
    upstream = {"heartbeat": "5s", "heartbeat_reply": "2s"}
    # What has waited at the server comes at once when the line is what it was: nobody is slow by that.
    sections = {"limits": {"client_queue": "64M"}}
    rcvbuf = 16384

    def test_more_comes_than_the_line_carries(self):
        """The daemon reads whatever comes, late; whatever becomes of the connection, nothing is lost in silence."""
        self.proxy.shape(DOWN, bandwidth=100_000)
        far = self.field.mouths[1]
        end = time.monotonic() + 10
        while time.monotonic() < end:
            far.send(size=4000)
            self.field.pump(0.02)
        # What waits at the server has to come through the same line.
        self.field.checker.transit_ms = 60000
        self.settle()


class Storm(FaultStory):
    """A hundred channels of three peers, and one connection that comes back."""

    upstream = {"joins_per_second": "20"}
    N = 100

    def setUp(self):
        super().setUp()
        self.topics = [f"{self.topic}:{i}" for i in range(self.N)]
        self.peers = [self.peer(name=f"p{i}") for i in range(3)]
        wishes = [(p, t, p.request("subscribe", {"topic": t, "timeout_ms": 60000})) for p in self.peers for t in self.topics]
        for peer, topic, id in wishes:
            self.assertIn(peer.result(id)["state"], ("joined", "ready"))

    def joins(self, since_ms):
        return [e for e in self.server.joins() if e["topic"].startswith("realtime:" + self.topic + ":") and e["at_ms"] >= since_ms]

    def back(self, n):
        """Of each peer: each of its channels has had so many comebacks."""
        for peer in self.peers:
            peer.drain()
        return all(sum(m == "channel" and x["state"] == "ready" for m, x in peer.notices) >= n * self.N for peer in self.peers)

    def check(self, since_ms, rounds):
        """Paced, each once, each told by one gap to each of the peers."""
        joins = self.joins(since_ms)
        times = sorted(e["at_ms"] for e in joins if e["outcome"] == "ok")
        # A burst of 10, and then what 50 clean joins have earned: five times as many as at first.
        for a, b in zip(times, times[115:]):
            self.assertGreater(b - a, 900, "more than 115 joins in a second")
        for peer in self.peers:
            gaps = [x["topic"] for m, x in peer.notices if m == "gap" and x["topic"].startswith(self.topic + ":")]
            self.assertEqual(sorted(gaps), sorted(self.topics * rounds))
        return joins

    def test_after_a_restart_of_the_server(self):
        self.harvest()
        start = time.monotonic()
        self.server.restart()
        self.log_from = 0
        self.flow_until(lambda: self.back(1), "all channels of all peers are back")
        print(f"{self.N} channels were back after {time.monotonic() - start:.1f} s")
        joins = self.check(0, 1)
        self.assertEqual(len(joins), self.N)
        self.settle()

    def test_while_they_come_back(self):
        """The connection is lost again in the middle of it."""
        since = int(time.time() * 1000)
        self.proxy.drop()
        until(lambda: len(self.joins(since)) > self.N // 3, "a third is back")
        self.proxy.drop()
        self.flow_until(lambda: self.comebacks() >= 1 and len({e["topic"] for e in self.joins(since)}) == self.N, "all have joined")
        states = self.flow_until(self.all_ready, "all are ready")
        self.assertEqual(len(states), self.N)
        self.settle()

    def all_ready(self):
        for peer in self.peers:
            peer.drain()
        states = [c["state"] for c in self.control.status()["channels"] if c["topic"].startswith(self.topic + ":")]
        return states if set(states) == {"ready"} else None

    def test_most_wanted_first_and_sends_do_not_wait_for_all(self):
        """Somebody who sends while a hundred channels come back is answered before all of them are there."""
        since = int(time.time() * 1000)
        self.proxy.drop()
        result = self.peers[0].broadcast(self.topics[-1], "e", {"n": 1}, ttl_ms=60000, via="ws")
        self.assertEqual(result["outcome"], "acked")
        self.assertLess(len(self.joins(since)), self.N + 1)
        self.flow_until(self.all_ready, "all are ready")
        self.settle()


if __name__ == "__main__":
    unittest.main()
