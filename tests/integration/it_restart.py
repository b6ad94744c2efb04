# SPDX-License-Identifier: MIT
"""Restarts under load: the server, then the daemon, while a local program and an outside client each send numbered messages.

Checked for every receiver: every number sent after its rejoin arrived, in order per sender, none twice; the connection went
down once and up once; every local send has exactly one outcome.
"""

import collections
import random
import subprocess
import threading
import time
import unittest

from rtbtest.outside import Outside
from rtbtest.devserver import Closed
from rtbtest.story import Story, binary
from rtbtest.wait import DEADLINE, Deadline, until

RATE = 50
SECONDS = 20


class Program:
    """A loadclient; a thread reads its lines."""

    def __init__(self, daemon, topic, name, rate, seconds):
        self.name = name
        self.process = subprocess.Popen([binary("loadclient"), daemon.socket, topic, name, str(rate), str(seconds)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.split())

    def of(self, word):
        return [line[1:] for line in list(self.lines) if line[0] == word]

    def wait(self, condition, what):
        return until(lambda: condition(self), f"{self.name}: {what}; last lines: {self.lines[-5:]}", seconds=2 * DEADLINE)

    def finish(self):
        self.process.stdin.close()
        code = self.process.wait(DEADLINE)
        self.thread.join(DEADLINE)
        self.process.stdout.close()
        return code


class OutsideThread:
    """The outside client in a thread: sends at the rate, reconnects by itself, remembers what it sent and got, and when."""

    def __init__(self, story, topic):
        self.story, self.topic = story, topic
        self.sent, self.got, self.stop = [], [], False
        self.ready_ms = []
        self.sender_done = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        start = time.monotonic()
        total = RATE * SECONDS
        while not self.stop:
            try:
                client = self.story.make_outside()
            except (OSError, AssertionError, Closed):
                time.sleep(0.05)
                continue
            try:
                client.join(self.topic)
                self.ready_ms.append(time.monotonic() * 1000)
                while not self.stop:
                    due = min(total, int((time.monotonic() - start) * RATE) + 1)
                    while len(self.sent) < due:
                        n = len(self.sent)
                        self.sent.append((n, time.monotonic() * 1000))
                        client.broadcast(self.topic, "n", {"s": "outside", "n": n})
                    if len(self.sent) == total:
                        self.sender_done.set()
                    for _, payload in client.poll_broadcasts(0.01):
                        self.got.append((payload["s"], payload["n"], time.monotonic() * 1000))
            except (OSError, AssertionError, Closed):
                pass
            finally:
                client.close()

    def finish(self):
        self.stop = True
        self.thread.join(DEADLINE)


class Restart(Story):
    def make_outside(self):
        return Outside(self.server.url, self.key)

    def check_outcomes(self, program):
        """Each send was refused at once, or has exactly one outcome."""
        sent = {int(n) for n, _ in program.of("sent")}
        refused = {int(n) for n, _ in program.of("refused")}
        outcomes = collections.Counter(int(n) for n, _ in program.of("outcome"))
        self.assertEqual(sent | refused, set(range(RATE * SECONDS)))
        self.assertEqual(set(outcomes), sent)
        self.assertEqual({n for n, times in outcomes.items() if times != 1}, set())
        return {int(n): word for n, word in program.of("outcome")}

    def check_order(self, got, sender):
        """In order, none twice. Returns the numbers."""
        numbers = [n for s, n in got if s == sender]
        self.assertEqual(numbers, sorted(set(numbers)), f"of {sender}: out of order or twice")
        return set(numbers)

    def run_load(self, restart):
        topic = f"load:{random.randrange(10 ** 9)}"
        programs = [Program(self.daemon, topic, "a", RATE, SECONDS), Program(self.daemon, topic, "b", 0, 0),
                    Program(self.daemon, topic, "c", 0, 0)]
        outside = OutsideThread(self, topic)
        try:
            for p in programs:
                p.wait(lambda p: any(c[0] == "ready" for c in p.of("channel")), "ready")
            programs[1].wait(lambda p: len(p.of("got")) > 3 * RATE, "messages flow")
            restart()
            programs[0].wait(lambda p: p.of("end") != [] or ["end"] in p.lines, "all is sent")
            programs[0].wait(lambda p: len(p.of("outcome")) == len(p.of("sent")), "all outcomes")
            until(outside.sender_done.is_set, "the outside client has sent all")
            # Markers on both roads: the last number of each sender is the last that anyone can get.
            last = RATE * SECONDS - 1
            for p in programs:
                p.wait(lambda p: ["outside", str(last)] in p.of("got"), "the outside client's last number")
            for p in programs[1:]:
                p.wait(lambda p: ["a", str(last)] in p.of("got"), "a's last number")
            until(lambda: any(s == "a" and n == last for s, n, _ in list(outside.got)), "a's last number outside")
        finally:
            outside.finish()
            codes = [p.finish() for p in programs]
        self.assertEqual(codes, [0, 0, 0])
        return programs, outside

    def check(self, programs, outside, ready_after):
        """`ready_after`(program): when its rejoin was told, in ms."""
        outcomes = self.check_outcomes(programs[0])
        print("outcomes:", dict(collections.Counter(outcomes.values())), "refused:", len(programs[0].of("refused")))
        for p in programs:
            got = [(s, int(n)) for s, n in p.of("got")]
            ready = ready_after(p)
            numbers = self.check_order(got, "outside")
            # Sent clearly after the rejoin was told; the clocks are one, the margin is for the message's own way.
            missing = {n for n, ms in outside.sent if ms > ready} - numbers
            self.assertEqual(missing, set(), f"{p.name} misses messages from outside after its rejoin")
            if p is not programs[0]:
                numbers = self.check_order(got, "a")
                after = {int(n) for n, ms in programs[0].of("sent") if float(ms) > ready}
                acked = {n for n, word in outcomes.items() if word == "acked"}
                self.assertEqual(after & acked - numbers, set(), f"{p.name} misses messages of a after its rejoin")
            else:
                self.assertEqual([s for s, _ in got if s == "a"], [], "a hears itself")
        self.check_order([(s, n) for s, n, _ in outside.got], "a")
        self.check_order([(s, n) for s, n, _ in outside.got], "outside")

    def test_server_restarts(self):
        programs, outside = self.run_load(self.server.restart)
        for p in programs:
            states = [state for state, _ in p.of("connection")]
            self.assertEqual(states[states.index("online"):], ["online", "backoff", "online"], p.name)
            self.assertEqual([state for state, _ in p.of("state")], ["attached"], p.name)

        def ready_after(p):
            return [float(ms) for state, ms in p.of("channel") if state == "ready"][-1]
        self.check(programs, outside, ready_after)

    def test_daemon_restarts(self):
        gone = []

        def restart():
            self.daemon.stop()
            gone.append(time.monotonic() * 1000)
            self.daemon.start()
            gone.append(time.monotonic() * 1000)
        programs, outside = self.run_load(restart)
        for p in programs:
            attached = [float(ms) for state, ms in p.of("state") if state == "attached"]
            self.assertEqual(len(attached), 2, p.of("state"))
            late = attached[1] - gone[1]
            print(f"{p.name}: attached again {late:.0f} ms after the daemon was ready")
            self.assertLess(late, 2000 if not self.sanitized else 10000)

        def ready_after(p):
            return [float(ms) for state, ms in p.of("channel") if state == "ready"][-1]
        self.check(programs, outside, ready_after)


if __name__ == "__main__":
    unittest.main()
