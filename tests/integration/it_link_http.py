#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Answers to the upgrade that are none: what the status says of them, that no redirect is followed, and that the daemon comes
back when they end, however long it waits by itself."""

import contextlib
import unittest

from rtbtest.faults import FaultStory, accept_head, http, upgraded, wait_state
from rtbtest.peer import Peer
from rtbtest.tcpproxy import TcpProxy
from rtbtest.wait import DEADLINE, until

PORTAL = b"<!DOCTYPE html><html><head><title>Welcome to the airport</title></head><body>Please log in</body></html>"
JSON = b'{"error":"no"}'
# name: (answer, state, reason, what the text has). Those with a floor of a minute are in SLOW.
FAST = {
    "500": (http(500, b"x" * 3000), "backoff", "server", "500"),
    "502": (http(502, PORTAL), "backoff", "server", "502"),
    "503": (http(503), "backoff", "server", "503"),
    "503 retry": (http(503, Retry_After="1"), "backoff", "server", "503"),
    "504": (http(504, b"upstream timed out"), "backoff", "server", "504"),
    "408": (http(408), "backoff", "server", "408"),
    "200": (http(200, b"ok"), "backoff", "not_websocket", "200"),
    "204": (http(204), "backoff", "not_websocket", "204"),
    "200 portal": (http(200, PORTAL, Content_Type="text/html"), "backoff", "not_websocket", "200"),
    "200 endless": (lambda head: iter([b"HTTP/1.1 200 OK\r\n\r\n"] + [PORTAL] * 5000), "backoff", "not_websocket", "200"),
    "garbage": (lambda head: [b"220 mail.example ESMTP\r\n\r\n\r\n"], "backoff", "handshake", ""),
    "binary": (lambda head: [bytes(range(256)) * 4], "backoff", "handshake", ""),
    "nothing": (lambda head: [], "backoff", "handshake", ""),
    "half a head": (lambda head: [accept_head(head)[:60]], "backoff", "handshake", ""),
    "wrong accept": (lambda head: [accept_head(head, key="AAAAAAAAAAAAAAAAAAAAAA==")], "backoff", "handshake", ""),
    "no accept": (lambda head: [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
                  "backoff", "handshake", ""),
    "no upgrade": (lambda head: [b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "backoff", "handshake", ""),
    "unasked protocol": (lambda head: [accept_head(head, Sec_WebSocket_Protocol="chat")], "backoff", "handshake", ""),
    "unasked extension": (lambda head: [accept_head(head, Sec_WebSocket_Extensions="permessage-deflate")], "backoff", "handshake", ""),
    "endless head": (lambda head: iter([b"HTTP/1.1 101 Switching Protocols\r\n"] + [b"X-A: " + b"y" * 900 + b"\r\n"] * 500),
                     "backoff", "handshake", ""),
}
SLOW = {
    "401": (http(401, JSON), "auth_failed", "auth", "401"),
    "403": (http(403, JSON), "config_error", "forbidden", "403"),
    "404": (http(404, JSON), "config_error", "not_found", "404"),
    "407": (http(407), "config_error", "config", "407"),
    "400": (http(400), "config_error", "not_found", "400"),
    "429": (http(429, JSON), "backoff", "rate_limited", "429"),
    "429 retry": (http(429, Retry_After="70"), "backoff", "rate_limited", "429"),
}


class Fast(FaultStory):
    def setUp(self):
        super().setUp()
        # Where the redirects lead to.
        self.elsewhere = self.enterContext(TcpProxy(self.server.port))

    def answers(self):
        to = f"http://127.0.0.1:{self.elsewhere.port}/socket/websocket"
        redirects = {str(status): (http(status, b"moved", Location=to), "backoff", "not_websocket", str(status))
                     for status in (301, 302, 303, 307, 308)}
        return dict(FAST, **redirects)

    def test_answers(self):
        for name, (answer, state, reason, part) in self.answers().items():
            with self.subTest(name):
                before, ready = self.proxy.counts()["scripted"], self.comebacks()
                self.proxy.answer(answer, count=-1, then="hold" if name == "nothing" else "fin")
                self.proxy.drop()
                found = self.flow_until(lambda: (c := self.connection(state=state, reason=reason)) and part in c["text"] and c,
                                        lambda: f"{name}: {self.connection()}")
                self.assertTrue(found["text"].isprintable())
                self.assertNotIn(self.daemon_key(), str(self.control.status()))
                self.flow_until(lambda: self.proxy.counts()["scripted"] >= before + 2, "a second attempt")
                self.proxy.heal()
                self.flow_back(ready)
        self.settle()
        self.assertEqual(self.elsewhere.counts()["connections"], 0, "a redirect was followed")

    def daemon_key(self):
        with open(self.daemon.key_file, encoding="ascii") as f:
            return f.read().strip()


class Odd(FaultStory):
    """Upgrades that look odd and are right."""

    def test_answer_with_many_headers(self):
        """What stands between does what it likes, up to a size."""
        def many(head):
            return [accept_head(head, **{f"X_Filler_{i}": "y" * 500 for i in range(12)})]

        self.proxy.answer(many)
        ready = self.comebacks()
        before = self.proxy.counts()["scripted"]
        self.proxy.drop()
        self.flow_until(lambda: self.proxy.counts()["scripted"] > before, "it is asked")
        self.flow_to(state="online")
        self.proxy.drop()
        self.flow_back(ready)
        self.settle()

    def test_an_answer_and_nothing_more(self):
        """An upgrade, and then nobody who speaks Phoenix: told as stalled at once, and left when no join can take so long."""
        self.proxy.answer(upgraded())
        ready = self.comebacks()
        self.proxy.drop()
        self.flow_to(state="stalled")
        self.flow_until(lambda: self.control.status()["last_disconnect"]["reason"] == "heartbeat", "it is left", 60 + DEADLINE)
        self.flow_back(ready)
        self.settle()


class Slow(FaultStory):
    """Refusals after which the daemon waits for a minute: a daemon for each, all at the same time."""

    def test_refusals(self):
        with contextlib.ExitStack() as stack:
            players = {}
            for name, (answer, state, reason, part) in SLOW.items():
                proxy = stack.enter_context(TcpProxy(self.server.port))
                proxy.answer(answer, count=-1, then="fin")
                daemon = stack.enter_context(self.behind(proxy))
                players[name] = proxy, stack.enter_context(Peer(daemon.socket))
            for name, (answer, state, reason, part) in SLOW.items():
                with self.subTest(name):
                    proxy, peer = players[name]
                    found = wait_state(peer, state=state, reason=reason)
                    self.assertIn(part, found["text"])
                    least = 69000 if name == "429 retry" else 30000
                    self.assertGreater(found["next_try_ms"], least - 15000 if self.sanitized else least)
                    # Nobody is asked again and again.
                    self.assertLessEqual(proxy.counts()["connections"], 2)
                    with self.assertRaises(AssertionError):
                        peer.call("subscribe", {"topic": "refused", "timeout_ms": 60000}, seconds=0.01)
                    proxy.heal()
            for name, (proxy, peer) in players.items():
                with self.subTest(name, what="it comes back"):
                    until(lambda: peer.status()["connection"]["state"] == "online", f"{name}: online", seconds=90 + DEADLINE)
                    self.assertEqual(peer.subscribe("works")["state"], "ready")
                    self.assertEqual(peer.broadcast("works", "e", {"n": 1})["outcome"], "acked")


if __name__ == "__main__":
    unittest.main()
