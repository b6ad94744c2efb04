#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The daemon in a network of its own, whose one cable is pulled, whose packets vanish, and whose routes go nowhere.

Needs root and network namespaces; where there are none, it says so and is skipped.
"""

import os
import subprocess
import sys
import tempfile
import unittest

from rtbtest.daemon import Daemon
from rtbtest.faults import FaultStory
from rtbtest.story import binary
from rtbtest.tcpproxy import TcpProxy

NAME = f"rtbt{os.getpid()}"
OUTER, INNER = f"rtbo{os.getpid() % 100000}", f"rtbi{os.getpid() % 100000}"
NOWHERE = "02:00:00:00:00:99"  # nobody's address


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def ip(*words):
    return run("ip", *words)


def inner(*words):
    return ip("-n", NAME, *words)


def why_not():
    """Why this cannot be done here, or None. Leaves nothing behind."""
    if os.getuid() != 0:
        return "needs root, for network namespaces"
    try:
        ip("netns", "add", NAME + "try")
        ip("netns", "exec", NAME + "try", "true")
        ip("-n", NAME + "try", "link", "add", "name", "try0", "type", "veth", "peer", "name", "try1")
    except FileNotFoundError:
        return "needs ip(8)"
    except subprocess.CalledProcessError as e:
        return f"no network namespaces here: {e.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", NAME + "try"], check=False, capture_output=True)
    return None


REASON = why_not()
if REASON:
    print(f"skipped: {REASON}", file=sys.stderr)


class Network:
    """A namespace and one cable to it: OUTER on our side, INNER on its. 198.18.0.0/15 is for such tests."""

    def __init__(self):
        part = os.getpid() % 16384
        base = f"198.18.{part // 64}.{part % 64 * 4}"
        stem, last = base.rsplit(".", 1)
        self.here, self.there = f"{stem}.{int(last) + 1}", f"{stem}.{int(last) + 2}"

    def __enter__(self):
        ip("netns", "add", NAME)
        ip("link", "add", "name", OUTER, "type", "veth", "peer", "name", INNER, "netns", NAME)
        ip("addr", "add", f"{self.here}/30", "dev", OUTER)
        ip("link", "set", OUTER, "up")
        inner("addr", "add", f"{self.there}/30", "dev", INNER)
        inner("link", "set", "lo", "up")
        self.restore()
        return self

    def __exit__(self, *args):
        subprocess.run(["ip", "netns", "del", NAME], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", OUTER], check=False, capture_output=True)

    def restore(self):
        inner("link", "set", INNER, "up")
        ip("link", "set", OUTER, "up")
        subprocess.run(["ip", "-n", NAME, "route", "del", self.here + "/32"], check=False, capture_output=True)
        inner("neigh", "flush", "dev", INNER)
        ip("neigh", "flush", "dev", OUTER)
        for side, dev, address in (inner, INNER, self.here), (ip, OUTER, self.there):
            side("neigh", "replace", address, "dev", dev, "nud", "stale", "lladdr", self.address_of(address))

    def address_of(self, address):
        """The hardware address behind one of the two."""
        side, dev = (ip, OUTER) if address == self.here else (inner, INNER)
        words = side("-o", "link", "show", "dev", dev).split()
        return words[words.index("link/ether") + 1]

    def lose(self, direction):
        """Packets vanish on the cable: of the daemon ("up"), to it ("down")."""
        if direction in ("up", "both"):
            inner("neigh", "replace", self.here, "dev", INNER, "lladdr", NOWHERE, "nud", "permanent")
        if direction in ("down", "both"):
            ip("neigh", "replace", self.there, "dev", OUTER, "lladdr", NOWHERE, "nud", "permanent")

    def no_way(self, kind):
        inner("route", "add", kind, self.here + "/32")


@unittest.skipIf(REASON, REASON)
class Netns(FaultStory):
    @classmethod
    def setUpClass(cls):
        cls.network = cls.enterClassContext(Network())
        super().setUpClass()

    @classmethod
    def behind(cls, proxy, **kwargs):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.outer = cls.enterClassContext(TcpProxy(cls.server.port, listen=cls.network.here))
        wrapper = os.path.join(folder, "rtbridged")
        with open(wrapper, "w", encoding="ascii") as f:
            f.write(f'#!/bin/sh\nexec ip netns exec {NAME} {binary("rtbridged")} "$@"\n')
        os.chmod(wrapper, 0o755)
        sections = {"upstream": {"backoff_min": "50ms", "backoff_max": "400ms", "heartbeat": "1s", "heartbeat_reply": "800ms",
                                 "attempt_timeout": "2s", "connect_timeout": "1s", "allow_insecure": "yes"}}
        return Daemon(wrapper, cls.outer.url(cls.server.url), cls.server.token(role="anon"), sections=sections)

    def setUp(self):
        self.network.restore()
        self.addCleanup(self.network.restore)
        super().setUp()

    def settle(self, heal=True):
        self.network.restore()
        return super().settle(heal)

    def test_packets_vanish(self):
        """Half-open as it really is: TCP sends again and again, and hears nothing."""
        for direction in "both", "up", "down":
            with self.subTest(direction):
                ready = self.comebacks()
                self.flow()
                self.network.lose(direction)
                self.flow_until(lambda: self.connection(state="backoff"), "it is noticed")
                self.assertEqual(self.control.status()["last_disconnect"]["reason"], "heartbeat")
                self.flow_to(state="backoff", reason="connect")
                self.network.restore()
                self.flow_back(ready)
        self.settle()

    def test_the_cable_is_pulled(self):
        """At either end; for a moment, and for longer."""
        for side, dev in (ip, OUTER), (inner, INNER):
            with self.subTest(dev=dev):
                ready = self.comebacks()
                self.flow()
                side("link", "set", dev, "down")
                self.flow_to(state="backoff", reason="connect")
                self.network.restore()
                self.flow_back(ready)
        self.settle()

    def test_no_route(self):
        for kind in "unreachable", "prohibit", "blackhole":
            with self.subTest(kind):
                ready = self.comebacks()
                self.flow()
                self.network.no_way(kind)
                self.outer.drop()
                self.flow_to(state="backoff", reason="connect")
                self.assertTrue(self.connection()["text"])
                self.network.restore()
                self.flow_back(ready)
        self.settle()

    def test_a_short_loss(self):
        """Shorter than a heartbeat: TCP mends it, nobody notices."""
        before = self.outer.counts()["connections"]
        self.flow()
        self.network.lose("both")
        self.flow(10)
        self.network.restore()
        judged = self.settle()
        if self.outer.counts()["connections"] == before:
            self.assertEqual(judged["gaps"], 0)

    def test_the_address_changes(self):
        """The daemon's own address goes away and another one comes: the old connection is dead, and nobody says so."""
        ready = self.comebacks()
        self.flow()
        stem, last = self.network.there.rsplit(".", 1)
        inner("addr", "flush", "dev", INNER)
        inner("addr", "add", f"{self.network.here}/29", "dev", "lo")  # not even the way to ourselves is what it was
        self.flow_until(lambda: self.connection(state="backoff"), "it is noticed")
        inner("addr", "flush", "dev", "lo")
        inner("addr", "add", f"{stem}.{last}/30", "dev", INNER)
        self.network.restore()
        self.flow_back(ready)
        self.settle()


if __name__ == "__main__":
    unittest.main()
