#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a network does to the one connection, while messages flow; after each failure all works again and nothing is untrue."""

import os
import random
import subprocess
import tempfile
import unittest

from rtbtest.devserver import DevServer
from rtbtest.faults import FaultStory, accept_head, frame
from rtbtest.story import STRICT, binary
from rtbtest.tcpproxy import DOWN, UP, TcpProxy

CERTS = os.path.join(os.path.dirname(__file__), "..", "wire", "make_certs.sh")


class Connect(FaultStory):
    """There is no connection to be had."""

    def test_refused(self):
        self.flow()
        self.proxy.refuse()
        self.drop_and(reason="connect")
        self.settle()

    def drop_and(self, **want):
        self.proxy.drop()
        return self.flow_to(state="backoff", **want)

    def test_taken_and_never_answered(self):
        """An attempt has a limit, and the next ones come."""
        self.flow()
        before = self.proxy.counts()
        self.proxy.silence()
        found = self.drop_and(reason="handshake")
        self.assertIn("next_try_ms", found)
        self.flow_until(lambda: self.proxy.counts()["scripted"] >= before["scripted"] + 3, "three attempts")
        self.settle()

    def test_the_server_is_away(self):
        """The proxy answers for a server that does not: the connection ends as soon as it is there."""
        port = self.proxy.target
        self.proxy.target = ("127.0.0.1", 9)
        self.addCleanup(setattr, self.proxy, "target", port)
        failed = self.proxy.counts()["failed"]
        self.proxy.drop()
        self.flow_until(lambda: self.proxy.counts()["failed"] >= failed + 3, "three attempts")
        self.flow_to(state="backoff")
        self.proxy.target = port
        self.settle()

    def test_reset_as_soon_as_taken(self):
        """As by a load balancer without a server behind it: the end comes before anything could be asked."""
        before = self.proxy.counts()["slammed"]
        self.proxy.slam(-1)
        self.proxy.drop()
        self.flow_until(lambda: self.proxy.counts()["slammed"] >= before + 60, "sixty attempts")
        self.assertEqual(self.connection()["state"], "backoff")
        self.settle()

    def test_slow_upgrade(self):
        """One byte at a time: the connection comes about all the same."""
        self.proxy.shape(DOWN, slice=1, pause_ms=1)
        self.drop()
        self.flow_to(state="online")
        self.settle()

    def test_upgrade_that_is_too_slow(self):
        """So slow that the attempt's time is over before its end."""
        self.proxy.shape(DOWN, slice=1, pause_ms=100)
        cut = self.proxy.counts()["connections"]
        self.drop_and(reason="handshake")
        self.flow_until(lambda: self.proxy.counts()["connections"] >= cut + 2, "a further attempt")
        self.settle()

    def test_an_upgrade_in_any_pieces(self):
        """The answer and the first frames come in one piece or in many."""
        for size in 1, 2, 3, 7, 50, 129, 1000:
            with self.subTest(size=size):
                self.proxy.shape(slice=size)
                self.drop()
                self.flow_to(state="online")
                self.flow()
        self.settle()


class HalfOpen(FaultStory):
    """Nothing passes any more, and nobody says so."""

    def hole(self, direction):
        self.flow()
        ends = len(self.proxy.ends())
        self.proxy.hole(direction)
        self.flow_to(reason="heartbeat", state="backoff")
        return ends

    def test_both(self):
        self.hole("both")
        judged = self.settle()
        self.assertGreater(judged["missing, told"] + judged["outcome unknown"], 0)

    def test_nothing_comes(self):
        self.hole(DOWN)
        self.settle()

    def test_nothing_goes(self):
        """What comes all the time is no sign that anybody hears us."""
        self.hole(UP)
        self.settle()

    def test_again_and_again(self):
        """The new connections are as dead as the old one."""
        before = self.proxy.counts()["connections"]
        self.hole("both")
        self.flow_until(lambda: self.proxy.counts()["connections"] >= before + 4, "further attempts")
        self.settle()

    def test_a_short_hole(self):
        """Shorter than a heartbeat is waited for: late is not lost, whether the daemon notices or not."""
        for _ in range(5):
            self.flow()
            self.proxy.hole(random.choice((UP, DOWN, "both")))
            self.flow(20)
            self.proxy.heal()
        self.settle()

    def test_old_bytes_of_a_dead_connection(self):
        """What was held back comes when the daemon has a new connection: it belongs to nobody."""
        self.flow()
        self.proxy.hole(DOWN)
        self.flow_to(reason="heartbeat")
        self.proxy.heal()
        self.settle()


class Bad(FaultStory):
    """A network that is bad, and works."""

    def test_latency(self):
        self.proxy.shape(latency_ms=150, jitter_ms=200)
        before = self.proxy.counts()["connections"]
        self.flow(150)
        self.assertEqual(self.proxy.counts()["connections"], before)
        judged = self.settle(heal=False)
        self.assertEqual(judged["gaps"], 0)

    def test_slices(self):
        for direction in UP, DOWN, "both":
            for size in 1, 2, 3, 5, 17:
                self.proxy.shape(direction, slice=size)
                self.flow(5)
        self.assertEqual(self.settle(heal=False)["gaps"], 0)

    def test_latency_while_connections_break(self):
        """Messages on their way at that moment are lost, and that is told."""
        self.proxy.shape(latency_ms=30, jitter_ms=60)
        for _ in range(8):
            before = self.comebacks()
            self.flow(random.randrange(1, 30))
            self.drop(random.choice(("rst", "fin")))
            self.flow_back(before)
        self.assertEqual(self.settle()["gaps"], 16)


class Cuts(FaultStory):
    """The end behind any byte."""

    def cut(self, direction, at, how, after_head):
        before = self.proxy.counts()
        self.proxy.cut(direction, at, how=how, after_head=after_head, drop=True)
        # Large ones, so that the byte comes soon.
        self.flow_until(lambda: self.proxy.counts()["cut"] > before["cut"], f"the cut of {direction} at {at}", size=700)
        self.flow_to(state="online")

    def offsets(self, offsets, after_head=False):
        for at in offsets:
            for direction in DOWN, UP:
                with self.subTest(at=at, direction=direction, after_head=after_head):
                    self.cut(direction, at, random.choice(("rst", "fin")), after_head)
        self.settle()

    def test_in_the_answer_and_behind_it(self):
        self.offsets(sorted(random.sample(range(1, 4097), 24)))

    def test_at_each_byte_of_the_first_frames_header(self):
        self.offsets(range(0, 15), after_head=True)

    def test_a_part_of_a_message_is_never_a_message(self):
        """A frame that ends before its last byte, at each byte of a short one: nothing of it is given to anybody."""
        payload = b'[null,null,"realtime:%s","broadcast",{"type":"broadcast","event":"part","payload":{"s":"x","n":1}}]' % self.topic.encode()
        whole = frame(1, payload)
        for at in sorted(random.sample(range(1, len(whole)), 12)) + [len(whole) - 1]:
            with self.subTest(at=at):
                before = self.proxy.counts()["scripted"]
                self.proxy.answer(lambda head, at=at: [accept_head(head), whole[:at]], then=random.choice(("rst", "fin")))
                self.proxy.drop()
                self.flow_until(lambda: self.proxy.counts()["scripted"] > before, "the connection that breaks off")
        self.settle()

    def test_resets_in_a_row(self):
        """One after the other, each behind a few bytes more."""
        for at in range(150, 1150, 50):
            self.proxy.cut(DOWN, at)
        cuts = self.proxy.counts()["cut"]
        self.proxy.drop()
        self.flow_until(lambda: self.proxy.counts()["cut"] >= cuts + 20, "all cuts", size=700)
        self.settle()


class Tls(FaultStory):
    """The same to bytes that nobody in between can read."""

    @classmethod
    def make_server(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        subprocess.run([CERTS, folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.upstream = {"ca_file": f"{folder}/ca.pem"}
        return DevServer(binary("rtbridge-devserver"), tls_cert=f"{folder}/good.pem", tls_key=f"{folder}/good.key", strict_refs=STRICT)

    def test_cuts_and_holes(self):
        for at in sorted(random.sample(range(1, 6000), 12)):
            with self.subTest(at=at):
                before = self.proxy.counts()["cut"]
                self.proxy.cut(random.choice((UP, DOWN)), at, how=random.choice(("rst", "fin")), drop=True)
                self.flow_until(lambda: self.proxy.counts()["cut"] > before, f"the cut at {at}")
                self.flow_to(state="online")
        self.markers()  # `online` may have been said of the connection that was cut
        self.proxy.hole("both")
        self.flow_to(reason="heartbeat", state="backoff")
        self.settle()


class Second(FaultStory):
    def test_two_daemons_and_one_of_them_is_cut_off(self):
        """The other one notices nothing."""
        with TcpProxy(self.server.port) as proxy, self.behind(proxy) as daemon:
            other = self.peer(daemon)
            self.wait_online(other)
            self.field.ear(other, "other", self.topic, elsewhere=True)
            self.field.checker.joins.pop(self.topic)  # both daemons' joins are in the log
            self.markers()
            proxy.hole()
            self.flow_until(lambda: other.status()["connection"]["state"] == "backoff", "it has noticed")
            proxy.heal()
            self.flow_until(lambda: other.status()["connection"]["state"] == "online", "it is back")
            self.log_from = float("inf")
            self.settle()
            self.assertEqual([e for e in self.ears[0].events if e[0] == "gap"], [])
            self.field.leave(other)


if __name__ == "__main__":
    unittest.main()
