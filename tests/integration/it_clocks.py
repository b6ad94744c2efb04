# SPDX-License-Identifier: MIT
"""The machine sleeps, or somebody sets its clock, under a running daemon."""

import os
import time
import unittest

from rtbtest.clocks import Clocks
from rtbtest.peer import Peer
from rtbtest.story import BIN, Story
from rtbtest.wait import until

LOOK = 5  # seconds: how often the daemon compares its clocks; a real sleep ends that pause


class ClockStory(Story):
    @classmethod
    def make_daemon(cls, **kwargs):
        cls.clocks = Clocks(BIN)
        cls.addClassCleanup(cls.clocks.close)
        return super().make_daemon(env=cls.clocks.env, **kwargs)

    def setUp(self):
        self.listener = self.peer()
        self.listener.subscribe("clocks")
        self.sender = self.peer()

    def works(self):
        self.assertEqual(self.sender.broadcast("clocks", "marker", 1)["outcome"], "acked")
        self.listener.wait_notice("broadcast", lambda n: n["event"] == "marker")


class Sleep(ClockStory):
    def test_long(self):
        before = self.sender.status()["counters"]["reconnects"]
        begin = time.monotonic()
        self.clocks.sleep(51)
        down = self.listener.wait_notice("connection")
        self.assertEqual((down["state"], down["reason"]), ("backoff", "slept"), down)
        self.assertIn("slept for 51 s", down["text"])
        print(f"a sleep of 51 s: noticed {time.monotonic() - begin:.1f} s after it (goal: 2 s; here the kernel does not know "
              f"of it, so up to {LOOK} s more)")
        gap = self.listener.wait_notice("gap")
        self.assertEqual(gap["cause"], "connection")
        self.listener.wait_notice("channel", lambda n: n["state"] == "ready")
        print(f"... and back with its channel {time.monotonic() - begin:.1f} s after it")
        status = self.sender.status()
        self.assertEqual(status["counters"]["reconnects"], before + 1)
        self.assertEqual(status["last_disconnect"]["reason"], "slept")
        self.works()

    def test_short(self):
        before = self.sender.status()["counters"]["reconnects"]
        beats = self.server.status()["heartbeats"]
        self.clocks.sleep(10)
        until(lambda: self.server.status()["heartbeats"] > beats, "the connection is asked whether it lives")
        self.works()
        self.assertEqual(self.sender.status()["counters"]["reconnects"], before)
        self.assertEqual(self.listener.take("gap"), [])


class Wall(ClockStory):
    """What the calendar says moves no timer, so nothing happens."""

    def test_jumps(self):
        before = self.sender.status()["counters"]["reconnects"]
        to_1970 = -time.time() + 1
        for offset in (3600, -3600, to_1970, 10 * 365 * 86400, 0):
            with self.subTest(offset=offset):
                self.clocks.set_wall(offset)
                said = self.sender.status()["connection"]
                self.assertEqual(said["state"], "online")
                self.works()
                other = self.peer()
                other.subscribe(f"clocks:{int(offset) % 1000}")
                self.assertEqual(other.broadcast(f"clocks:{int(offset) % 1000}", "e", 1)["outcome"], "acked")
                other.sync(upstream=True)
        self.assertEqual(self.sender.status()["counters"]["reconnects"], before)
        self.assertEqual(self.listener.take("gap"), [])
        self.assertEqual(self.listener.take("channel"), [])

    def test_born_in_1970(self):
        """A machine without a battery for its clock: everything but certificates works."""
        self.clocks.set_wall(-time.time() + 1)
        self.addCleanup(self.clocks.set_wall, 0)
        self.daemon.stop()
        self.daemon.start()
        with Peer(self.daemon.socket) as peer:
            self.wait_online(peer)
            peer.subscribe("clocks")
            self.assertEqual(peer.broadcast("clocks", "e", 1)["outcome"], "acked")


if __name__ == "__main__":
    unittest.main()
