#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""All of the daemon's connections go through an HTTP proxy that wants a password: messages flow, requests too, whatever becomes of
the proxy; and a password that is wrong is said to be so."""

import base64
import os
import subprocess
import tempfile
import unittest

from rtbtest.connectproxy import ConnectProxy
from rtbtest.faults import FaultStory
from rtbtest.peer import Peer
from rtbtest.story import binary
from rtbtest.tcpproxy import TcpProxy
from rtbtest.wait import DEADLINE, until

RIGHT, WRONG = "someone:open:sesam\u00e9", "someone:open:oyster"


class ProxyStory(FaultStory):
    """self.proxy: what the network does; self.connect: what the proxy says."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(cls.make_server())
        cls.key = cls.server.token(role="anon")
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="rtbridge-test-"))
        cls.connect = cls.enterClassContext(ConnectProxy(RIGHT))
        cls.proxy = cls.enterClassContext(TcpProxy(cls.connect.port))
        cls.password_file = cls.write_password("proxy-auth", RIGHT)
        cls.daemon = cls.enterClassContext(cls.through(cls.password_file))
        with Peer(cls.daemon.socket) as peer:
            cls.wait_online(peer)

    @classmethod
    def write_password(cls, name, text):
        path = os.path.join(cls.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            os.chmod(f.fileno(), 0o600)
            f.write(text + "\n")
        return path

    @classmethod
    def through(cls, password_file):
        cls.upstream = {"proxy": f"http://127.0.0.1:{cls.proxy.port}", "proxy_auth_file": password_file}
        return cls.behind(cls.Straight)

    class Straight:
        """The address in `url` is the server's own: it is the proxy that goes there."""

        @staticmethod
        def url(url):
            return url

    def setUp(self):
        self.connect.credentials = RIGHT
        super().setUp()


class Flow(ProxyStory):
    def test_messages_flow(self):
        self.flow()
        self.settle()
        where = f"127.0.0.1:{self.server.port}"
        self.assertEqual(set(self.connect.tunnels), {where})

    def test_requests(self):
        """Each has a connection of its own, through the proxy."""
        before, had = len(self.connect.tunnels), len(self.server.requests())
        for n in range(3):
            self.assertEqual(self.ann.broadcast(self.topic, "e", {"n": n}, via="http")["outcome"], "sent")
        self.assertEqual(len(self.connect.tunnels), before + 3)
        for request in self.server.requests()[had:]:
            self.assertFalse([name for name in request.headers if name.startswith("proxy")], request.headers)

    def test_it_dies_in_the_middle(self):
        before = len(self.connect.tunnels)
        for how in "rst", "fin":
            self.proxy.drop(how)
            self.flow_until(lambda: len(self.connect.tunnels) > before, "a new connection")
            self.flow_to(state="online")
            before = len(self.connect.tunnels)
        self.settle()

    def test_it_is_away(self):
        self.proxy.refuse()
        self.proxy.drop()
        found = self.flow_to(state="backoff", reason="connect")
        self.assertIn("cannot connect to the proxy: Connection refused", found["text"])
        self.assertEqual(self.control.broadcast(self.topic, "e", {}, via="http", ttl_ms=300)["outcome"], "expired")
        self.settle()

    def test_it_swallows(self):
        """What is open is given up by its heartbeat; what comes is taken, and never answered."""
        self.proxy.hole()
        self.flow_to(state="backoff")
        found = self.flow_to(state="backoff", reason="connect")
        self.assertIn("the proxy did not answer in 2000 ms", found["text"])
        self.assertEqual(self.control.broadcast(self.topic, "e", {}, via="http", ttl_ms=300)["outcome"], "expired")
        self.settle()

    def test_it_cannot_reach_the_server(self):
        """502 is the network's matter, not the configuration's."""
        daemon = self.enterContext(self.behind(self.Nowhere))
        with Peer(daemon.socket) as peer:
            found = until(lambda: (c := peer.status()["connection"])["state"] == "backoff" and c, daemon.log_text)
        self.assertEqual(found["reason"], "connect")
        self.assertIn("the proxy refused: HTTP status 502 (it cannot reach the host)", found["text"])

    class Nowhere:
        @staticmethod
        def url(url):
            """Nobody serves there: the port is the discard service's."""
            return "http://127.0.0.1:9"


class Password(ProxyStory):
    def cli(self, daemon, *args, code=0):
        run = subprocess.run([binary("rtbridge"), "-s", daemon.socket, *args], stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=DEADLINE)  # fmt: skip
        self.assertEqual(run.returncode, code, run.stderr)
        return run.stdout

    def refused(self, daemon):
        """It says what is wrong, what to do, and when it tries again: in the status, by the command, and in the log."""
        with Peer(daemon.socket) as peer:
            found = until(lambda: (c := peer.status()["connection"])["state"] == "config_error" and c, daemon.log_text)
            self.assertEqual(peer.broadcast("t", "e", {}, via="http", ttl_ms=300)["outcome"], "expired")
            http = peer.status()["http"]
        self.assertEqual(found["reason"], "config")
        said = self.cli(daemon, "status", code=4)
        for text in found["text"], said, daemon.log_text():
            self.assertIn("the proxy refused: HTTP status 407", text)
            self.assertIn("proxy_auth_file", text)
        # A minute: nobody's password gets better by being tried.
        self.assertGreater(found["next_try_ms"], 15000 if self.sanitized else 45000)
        self.assertGreater(http["next_try_ms"], 45000 if not self.sanitized else 15000)
        self.assertRegex(said, r"config: .*next try in \d+\.\d s")
        return found

    def test_wrong_from_the_start(self):
        path = self.write_password("another", WRONG)
        with self.through(path) as daemon:
            self.refused(daemon)
            self.assertNotIn("oyster", daemon.log_text())
            self.assertNotIn(base64.b64encode(WRONG.encode()).decode().rstrip("=")[:-1], daemon.log_text())
            # Read at the start only.
            self.write_password("another", RIGHT)
            daemon.stop()
            daemon.start()
            with Peer(daemon.socket) as peer:
                self.wait_online(peer)
                self.assertEqual(peer.broadcast("t", "e", {}, via="http")["outcome"], "sent")

    def test_changed_at_the_proxy(self):
        """While it runs; and changed back, it is enough that somebody says so."""
        self.connect.credentials = WRONG
        self.proxy.drop()
        self.flow_to(state="config_error")
        self.refused(self.daemon)
        refused = self.connect.refused
        self.connect.credentials = RIGHT
        self.cli(self.daemon, "reconnect")
        self.flow_to(state="online")
        self.assertEqual(self.connect.refused, refused)
        self.settle()


if __name__ == "__main__":
    unittest.main()
