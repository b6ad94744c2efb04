# SPDX-License-Identifier: MIT
"""Certificates that are no good, and names that nobody knows: nothing is sent, and `status` says what to do."""

import unittest

from rtbtest.daemon import Daemon
from rtbtest.devserver import DevServer
from rtbtest.peer import Peer
from rtbtest.story import binary
from rtbtest.tls import Certificates
from rtbtest.wait import until

SAYS = {  # what stands in the text beside the certificate's dates
    "expired": "expired",
    "future": "not yet valid",
    "wrong-name": "mismatch",
    "unknown": "unable to get local issuer",
    "self-signed": "self-signed",
}


class Tls(unittest.TestCase):
    def setUp(self):
        self.certs = self.enterContext(Certificates())

    def daemon(self, server, url=None, **keys):
        upstream = dict({"ca_file": self.certs.ca, "backoff_min": "50ms", "backoff_max": "200ms"}, **keys)
        return self.enterContext(Daemon(binary("rtbridged"), url or server.url, server.token(role="anon"),
                                        sections={"upstream": upstream}))

    def wait(self, daemon, state):
        with Peer(daemon.socket) as peer:
            return until(lambda: (lambda c: c if c["state"] == state else None)(peer.status()["connection"]),
                         lambda: f"the connection is {state}: {daemon.log_text()}")

    def test_bad_ones(self):
        for name, words in SAYS.items():
            with self.subTest(name), DevServer(binary("rtbridge-devserver"), **self.certs.options(name)) as server:
                daemon = self.daemon(server)
                said = self.wait(daemon, "config_error")
                self.assertEqual(said["reason"], "tls", said)
                self.assertIn(words, said["text"])
                self.assertRegex(said["text"], r"valid \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d")
                self.assertIn("what to do", said["text"])
                self.assertGreaterEqual(said["next_try_ms"], 50000)
                # Not a byte of the key: no request came.
                self.assertEqual((server.status()["sockets_ever"], server.status()["upgrades_refused"]), (0, 0))
                with Peer(daemon.socket) as peer:
                    self.assertEqual(peer.broadcast("t", "e", {}, via="http", ttl_ms=500)["outcome"], "expired")

    def test_too_old(self):
        with DevServer(binary("rtbridge-devserver"), **self.certs.options("good", tls_old=True)) as server:
            self.assertEqual(self.wait(self.daemon(server), "config_error")["reason"], "tls")

    def test_good(self):
        with DevServer(binary("rtbridge-devserver"), **self.certs.options()) as server:
            daemon = self.daemon(server)
            self.wait(daemon, "online")
            with Peer(daemon.socket) as peer:
                peer.subscribe("t")
                self.assertEqual(peer.broadcast("t", "e", 1)["outcome"], "acked")
                self.assertEqual(peer.broadcast("t", "e", {}, via="http")["outcome"], "sent")

    def test_no_such_name(self):
        """`.invalid` is nobody's. Local requests are answered as ever."""
        with DevServer(binary("rtbridge-devserver"), **self.certs.options()) as server:
            daemon = self.daemon(server, url="https://nobody.invalid", dns_timeout="1s")
            said = self.wait(daemon, "backoff")
            self.assertEqual(said["reason"], "dns", said)
            self.assertIn("nobody.invalid", said["text"])
            with Peer(daemon.socket) as peer:
                self.assertEqual(peer.broadcast("t", "e", 1, ttl_ms=300)["outcome"], "expired")


if __name__ == "__main__":
    unittest.main()
