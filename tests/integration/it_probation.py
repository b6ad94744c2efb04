#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Joins that the server refuses, with the real one's pause: its whole connection stands still for 5 s.

Messages come over link 0 all the while, a numbered one each 100 ms; how late each is shows who had to wait for whom. In real
time: what takes minutes is told on a virtual clock elsewhere.
"""

import threading
import time
import unittest

from rtbtest.auth import JOIN_BUDGET, REJECTED, Bearers
from rtbtest.peer import RequestError
from rtbtest.wait import DEADLINE, Deadline

STALL_S = 5
EVERY_S = 0.1
TOPICS = 100


class Beats:
    """Somebody outside who says 0, 1, 2, ... to a topic, until the end of the `with`; and when each came."""

    def __init__(self, outside, listener, topic):
        self.outside, self.listener, self.topic = outside, listener, topic
        self.sent, self.late = [], []  # when; by how much each came later
        self.failed = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopped.wait(EVERY_S):
                n = len(self.sent)
                self.sent.append(time.monotonic())
                self.outside.broadcast(self.topic, "beat", n)
        except BaseException as e:  # told by __exit__
            self.failed = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.stopped.set()
        self.thread.join(DEADLINE)
        if self.failed:
            raise self.failed

    def follow(self, condition, what, seconds=DEADLINE):
        """Listens until condition() is true, at least to the next beat."""
        end = Deadline(seconds)
        while True:
            n = self.listener.wait_notice("broadcast", lambda p: p["topic"] == self.topic, what=what)["payload"]
            assert n == len(self.late), f"beat {n} after {len(self.late) - 1} of them"
            self.late.append(time.monotonic() - self.sent[n])
            if condition():
                return
            end.left(what)

    def follow_for(self, seconds):
        until = time.monotonic() + seconds
        first = len(self.late)
        self.follow(lambda: time.monotonic() >= until, f"beats for {seconds} s", DEADLINE + seconds)
        return max(self.late[first:])

    def stalls(self):
        """[the latest of those beats that waited together, ...]: within a stall each is less late than the one before."""
        found, before = [], 0
        for late in self.late:
            if late > 1 and late > before:
                found.append(late)
            before = late
        return found


class Probation(Bearers):
    """ann asks for what the server refuses, bob is a listener on link 0."""

    uids = {"ann": 2001, "bob": 2002}
    rules = ["allow user 2001 read,write,presence topic *", "allow user 2002 read,write,presence topic *"]
    server_options = {"faithful_delays": True}
    policies = "read anon allowed:*\nwrite anon allowed:*\n"

    def start(self, **upstream):
        # Room for all that is asked for on one connection.
        limits = {"links": upstream.pop("links", "4"), "channels": "120"}
        self.d = self.enterContext(self.another(sections={"upstream": upstream, "limits": limits}))
        self.ann, self.bob = self.of("ann", daemon=self.d), self.of("bob", daemon=self.d)
        self.bob.subscribe("beats")
        [socket] = self.server.sockets("realtime:beats")
        self.link0 = socket["id"]
        outside = self.outside()
        outside.join("beats")
        return Beats(outside, self.bob, "beats")

    def ask(self, **params):
        """ann asks for all of them at once."""
        return [self.ann.request("subscribe", dict({"topic": f"forbidden:{i}", "private": True}, **params)) for i in range(TOPICS)]

    def refused(self):
        """Of joins on this daemon's link 0, and apart."""
        joins = [j for j in self.server.joins(refused=True) if j["topic"].startswith("realtime:forbidden:") and j["n"] >= self.first]
        return [j for j in joins if j["socket"] == self.link0], [j for j in joins if j["socket"] != self.link0]

    def setUp(self):
        log = self.server.log()
        self.first = log[-1]["n"] + 1 if log else 0

    def test_after_a_failure(self):
        with self.start() as beats:
            self.ask()
            beats.follow_for(25)
            [stall] = beats.stalls()
            self.assertGreater(stall, STALL_S - 1)
            self.assertLess(stall, STALL_S + 1)
            on_link0, apart = self.refused()
            self.assertEqual(len(on_link0), 1)
            # Those go on meanwhile, one after the other.
            self.assertGreaterEqual(len(apart), 2)
            self.assertLessEqual(len(apart), 5)
            self.assertEqual(len({j["socket"] for j in apart}), 1)
            # Others may try what is theirs on link 0 at once. As the same user bob is one whose joins have failed.
            if self.bob_is_another():
                self.bob.subscribe("allowed:bob", private=True)
                self.assertEqual([s["id"] for s in self.server.sockets("realtime:allowed:bob")], [self.link0])
                self.assertLess(beats.follow_for(0.5), 1)

    def bob_is_another(self):
        uids = {c["name"]: c["uid"] for c in self.peer(self.d).status()["clients"]}
        return uids["ann"] != uids["bob"]

    def test_always(self):
        with self.start(probation="always") as beats:
            alone = beats.follow_for(4)
            self.ask()
            beside = beats.follow_for(12)
            # At most 200 ms; a slow machine is as slow without ann.
            self.assertLess(beside, 0.2 + 2 * alone, f"alone {alone:.3f} s")
            on_link0, apart = self.refused()
            self.assertEqual(on_link0, [])
            self.assertGreaterEqual(len(apart), 1)

    def test_one_connection_only(self):
        with self.start(links="1") as beats:
            wishes, codes = self.ask(timeout_ms=60000), []
            for wish in wishes:
                with self.assertRaises(RequestError) as refused:
                    self.ann.result(wish)
                codes.append(refused.exception.code)
                if refused.exception.code == JOIN_BUDGET:
                    self.assertGreater(refused.exception.retry_after_ms, 200000)
            beats.follow(lambda: len(beats.late) == len(beats.sent), "all beats have come")
            self.assertEqual({c: codes.count(c) for c in codes}, {REJECTED: 2, JOIN_BUDGET: TOPICS - 2})
            self.assertEqual([len(r) for r in self.refused()], [2, 0])
            stalls = beats.stalls()
            self.assertLessEqual(len(stalls), 2)
            self.assertLess(sum(stalls), 2 * (STALL_S + 1))
            # Nobody waits for who has used it up, and it keeps what works.
            self.assertEqual(self.ann.broadcast("beats-of-ann", "e", 1)["outcome"], "acked")
            self.assertLess(beats.follow_for(1), 1)


if __name__ == "__main__":
    unittest.main()
