#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Frames that no server should send: too large, without an end, broken. The connection ends, memory does not, and the next
connection is as good as ever."""

import unittest

from rtbtest.faults import FaultStory, frame, upgraded

MIB = 1 << 20


def endless():
    yield frame(1, b"z" * 65536, fin=False)
    while True:
        yield frame(0, b"z" * 65536, fin=False)


def slow_endless():
    """Each fragment is empty but for one byte: the message grows slowly, and has no end either."""
    yield frame(1, b"[", fin=False)
    while True:
        yield frame(0, b"1,", fin=False) * 4096


def pings():
    while True:
        yield frame(9, b"p" * 125) * 500


# name: (frames behind the upgrade, whether the daemon has to end it)
FRAMES = {
    "9 MiB": ([frame(1, b" " * (9 * MIB))], True),
    "9 MiB announced": ([frame(1, b"x", announce=9 * MIB)], False),
    "8 EiB announced": ([frame(2, b"x" * 100, announce=1 << 62)], False),
    "length with the highest bit": ([b"\x82\x7f" + b"\xff" * 8], True),
    "fragments without an end": ([endless], True),
    "small fragments without an end": ([slow_endless], True),
    "an opcode that is none": ([frame(3, b"x")], True),
    "a control opcode that is none": ([frame(11, b"x")], True),
    "reserved bits": ([b"\xf1\x01x"], True),
    "a long ping": ([frame(9, b"x" * 126)], True),
    "a ping in pieces": ([frame(9, b"x", fin=False)], True),
    "a piece of nothing": ([frame(0, b"x")], True),
    "a text within a text": ([frame(1, b"x", fin=False), frame(1, b"y")], True),
    "pings without an end": ([pings], False),
    "no JSON": ([frame(1, b"{") * 20000], False),
    "no UTF-8": ([frame(1, b'[null,null,"realtime:x","broadcast",{"event":"\xff\xfe"}]') * 100], False),
    "binary that is none": ([frame(2, bytes([4, 255, 255, 255, 0]) + b"x") * 1000, frame(2, b"")], False),
    "deep": ([frame(1, b"[" * 100000)], False),
    "empty messages": ([(frame(1) + frame(2)) * 5000], False),
}


class Hostile(FaultStory):
    def test_frames(self):
        worst = 0
        for name, (frames, ends) in FRAMES.items():
            with self.subTest(name):
                before, ready, rss = self.proxy.counts(), self.comebacks(), self.daemon.rss_bytes()
                self.proxy.answer(upgraded(*frames))
                self.proxy.drop()
                self.flow_until(lambda: self.proxy.counts()["scripted"] > before["scripted"], "it is connected")
                if ends:
                    self.flow_until(lambda: self.proxy.counts()["connections"] >= before["connections"] + 2, "it is left")
                else:
                    # It may be borne: then it has no answers, and it is bad enough that messages are not lost in silence.
                    down = before["down"] + sum(len(f) for f in frames if isinstance(f, bytes))
                    self.flow_until(lambda: self.proxy.counts()["down"] >= down, "it has come")
                    self.control.sync()
                    self.proxy.drop()
                self.flow_back(ready)
                worst = max(worst, self.daemon.rss_bytes() - rss)
        print(f"memory grew by up to {worst // MIB} MiB")
        # A sanitizer keeps what is freed for a while.
        self.assertLess(worst, (400 if self.sanitized else 64) * MIB)
        self.settle()

    def test_what_is_large_and_allowed(self):
        """Just below the limit: the connection stays."""
        body = b'[null,null,"realtime:%s","broadcast",{"type":"broadcast","event":"n","payload":"' % self.topic.encode()
        big = frame(1, body + b"x" * (7 * MIB) + b'"}]')
        before = self.control.status()["counters"]["bytes_in"]
        self.proxy.answer(upgraded(big))
        ready = self.comebacks()
        self.proxy.drop()
        self.flow_until(lambda: self.control.status()["counters"]["bytes_in"] > before + 7 * MIB, "it has come")
        self.assertEqual(self.control.status()["connection"]["state"], "online")
        self.proxy.drop()
        self.flow_back(ready)
        self.settle()


class Channels(FaultStory):
    """The connection is good; its channels are ended, with all the words that a server has for it."""

    WORDS = ["Server requested disconnect", "Too many messages per second", "Query was cancelled, please try again",
             "Realtime was unable to connect to the project database", "a text that nobody knows", "",
             "Node request timeout", "Too many database timeouts"]

    def test_closed_without_being_asked(self):
        for op in "phx_close", "phx_error":
            for _ in range(3):
                ready = self.comebacks()
                self.flow(3)
                self.server.fault(op=op, topic="realtime:" + self.topic, sockets="all")
                self.flow_back(ready)
        # The clients past the daemon were closed, too: their words are no proof.
        self.field.checker.witness(self.topic).gone(0, float("inf"))
        for far in self.field.fars:
            far.lost()
        self.settle()

    def daemon_sockets(self):
        """All but those past the daemon, which came first or are known by who they are."""
        return [s["id"] for s in self.server.status()["sockets"]
                if not any(t["sub"] == "past the daemon" for t in s["topics"])]

    def test_system_words(self):
        for text in self.WORDS:
            with self.subTest(text):
                ready = self.comebacks()
                self.flow(3)
                self.server.fault(op="system", topic="realtime:" + self.topic, message=text, close=True,
                                  sockets=self.daemon_sockets())
                slow = "per second" in text  # a minute's pause: another channel of the same connection works meanwhile
                if slow:
                    self.check_others()
                    self.open(self.daemon)
                    continue
                self.flow_back(ready)
        self.settle()

    def check_others(self):
        peer = self.peer()
        topic = "other:" + self.topic
        self.assertEqual(peer.subscribe(topic)["state"], "ready")
        self.assertEqual(peer.broadcast(topic, "e", {"n": 1}, via="ws")["outcome"], "acked")

    def test_joins_that_are_refused_late_or_never_answered(self):
        topic = "realtime:" + self.topic
        for fault in ({"op": "refuse_join", "reason": "RealtimeRestarting: Realtime is restarting, please standby"},
                      {"op": "delay_reply", "event": "phx_join", "ms": 1500},
                      {"op": "delay_reply", "event": "phx_join", "ms": 700, "stall": False}):
            with self.subTest(fault=fault):
                ready = self.comebacks()
                self.server.fault(dict(fault, topic=topic))
                self.proxy.drop()
                self.flow_back(ready)
        self.settle()


if __name__ == "__main__":
    unittest.main()
