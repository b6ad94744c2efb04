#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Private channels, tokens, limits and delays of the devserver, and what it tells of them afterwards.

usage: behaviour_auth.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest import tokens  # noqa: E402
from rtbtest.devserver import PING, PONG, Closed, DevServer, Refused, WsClient  # noqa: E402
from rtbtest.wait import Deadline  # noqa: E402

BIN = None
T = "realtime:room"
ALL = "read {0} {1}\nwrite {0} {1}\npresence_read {0} {1}\npresence_write {0} {1}\n"
PRIVATE = {"private": True, "broadcast": {"ack": True, "self": True}}
DENIED = "You do not have permissions to read from this Channel topic: "

JOIN_REFUSALS = {
    "empty": "MalformedJWT: The token provided is not a valid JWT",
    "garbage": "MalformedJWT: The token provided is not a valid JWT",
    "two parts": "MalformedJWT: The token provided is not a valid JWT",
    "not json": "MalformedJWT: The token provided is not a valid JWT",
    "expired": "InvalidJWTToken: Token has expired 3600 seconds ago",
    "alg none": "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS configuration",
    "wrong signature": "JwtSignatureError: Failed to validate JWT signature",
    "no role": "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
    "no exp": "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
    "exp a string": "Unknown Error on Channel",
}
PUSH_REFUSALS = {
    "empty": "The token provided is not a valid JWT",
    "garbage": "The token provided is not a valid JWT",
    "two parts": "The token provided is not a valid JWT",
    "not json": "The token provided is not a valid JWT",
    "expired": "Token has expired 3600 seconds ago",
    "alg none": ":error_generating_signer",
    "wrong signature": ":signature_error",
    "no role": "Fields `role` and `exp` are required in JWT",
    "no exp": "Fields `role` and `exp` are required in JWT",
    "exp a string": ":expiration_error",
}


def seconds_fit(text, want):
    """Equal, but for a second or two more since a token ended."""
    return text in [want.replace("3600", str(3600 + n)) for n in range(5)]


class WithServer(unittest.TestCase):
    options = {}

    def setUp(self):
        self.server = DevServer(BIN, **self.options)
        self.addCleanup(self.server.stop)
        self.open = []
        self.addCleanup(lambda: [ws.abort() for ws in self.open])

    def token(self, sub=None, **more):
        return tokens.make(sub, secret=self.server.secret, **more)

    def client(self, **more):
        self.open.append(WsClient(self.server.url, self.server.token(), **more))
        return self.open[-1]

    def member(self, topic=T, config=None, token=None, **more):
        ws = self.client(**more)
        self.assertEqual(ws.join(topic, config, token)["status"], "ok")
        return ws

    def reason(self, reply):
        self.assertEqual(reply["status"], "error")
        return reply["response"]["reason"]

    def shut(self, ws, topic, message):
        """The next two messages end the channel for this reason."""
        name = topic[len("realtime:"):]
        got = ws.recv_message()
        self.assertEqual(got[2:4] + [got[4]["extension"], got[4]["status"], got[4]["channel"]],
                         [topic, "system", "system", "error", name])
        self.assertTrue(seconds_fit(got[4]["message"], message), got[4]["message"])
        self.assertEqual(ws.recv_message()[2:], [topic, "phx_close", {}])

    def push_token(self, ws, topic, token):
        ws.push(topic, "access_token", {"access_token": token})


class Policies(WithServer):
    def setUp(self):
        d = tempfile.TemporaryDirectory()
        self.addCleanup(d.cleanup)
        self.file = os.path.join(d.name, "policies")
        self.write("read * ro\n" + ALL.format("*", "all-*") + ALL.format("authenticated", "auth")
                   + "read * bc\nwrite * bc\n" + ALL.format("sub=ann", "ann:*"))
        self.options = {"policies": self.file}
        super().setUp()

    def write(self, text):
        with open(self.file, "w") as f:
            f.write(text)

    def test_denied(self):
        a = self.client()
        ann = self.token("ann")
        for topic, token in ("no", ann), ("auth", self.token(role="anon")), ("ann:1", self.token("bob")), \
                ("all-1", self.token(role="nobody_here")), ("all-1", self.token(role=7)):
            reply = a.join("realtime:" + topic, {"private": True}, token)
            self.assertEqual(self.reason(reply), f"Unauthorized: {DENIED}{topic}")
        for topic, token in ("auth", ann), ("ann:1", ann), ("all-1", self.token(role="anon")), \
                ("no", self.token(role="service_role")):
            self.assertEqual(a.join("realtime:" + topic, {"private": True}, token)["status"], "ok", topic)
        self.assertEqual(a.join("realtime:public")["status"], "ok")

    def test_read_only(self):
        a, b = self.member("realtime:ro", PRIVATE), self.member("realtime:ro", PRIVATE)
        a.broadcast("realtime:ro", "e", {})
        self.assertEqual(a.heartbeat(), [])
        self.assertEqual(b.heartbeat(), [])

    def test_broadcast_alone(self):
        a = self.member("realtime:bc", dict(PRIVATE, presence={"enabled": True, "key": "k"}))
        ref = a.broadcast("realtime:bc", "e", {"n": 5})
        self.assertEqual([m[3] for m in (a.recv_message(), a.recv_message())], ["broadcast", "phx_reply"])
        ref = a.push("realtime:bc", "presence", {"event": "track", "payload": {}})
        self.assertEqual(a.recv_message()[1:], [ref, "realtime:bc", "phx_reply", {"status": "error", "response": {}}])
        ref = a.push("realtime:bc", "presence", {"event": "untrack"})
        self.assertEqual(a.recv_message()[1:], [ref, "realtime:bc", "phx_reply", {"status": "ok", "response": {}}])

    def test_public_and_private_do_not_meet(self):
        a, b, p = self.member("realtime:all-1", PRIVATE), self.member("realtime:all-1", PRIVATE), \
            self.member("realtime:all-1")
        a.broadcast("realtime:all-1", "e", {"n": 1})
        p.broadcast("realtime:all-1", "e", {"n": 2})
        self.assertEqual(len(a.heartbeat()), 2)
        self.assertEqual(p.heartbeat(), [])
        self.assertEqual([m[4]["payload"] for m in b.heartbeat()], [{"n": 1}])

    def test_a_right_is_revoked(self):
        a = self.member("realtime:ann:1", PRIVATE, self.token("ann"))
        rights = self.server.joined("realtime:ann:1")[0]["rights"]
        self.assertEqual(rights, {"read": True, "write": None, "presence_read": None, "presence_write": None})
        a.broadcast("realtime:ann:1", "e", {})
        self.assertEqual(len(a.heartbeat()), 2)
        self.write("read sub=ann ann:*")
        self.server.reload_policies()
        a.broadcast("realtime:ann:1", "e", {})
        self.assertEqual(len(a.heartbeat()), 2)
        self.push_token(a, "realtime:ann:1", self.token("ann", n=2))
        a.broadcast("realtime:ann:1", "e", {})
        self.assertEqual(a.heartbeat(), [])
        self.server.set_policies("read sub=bob *")
        self.push_token(a, "realtime:ann:1", self.token("ann", n=3))
        self.shut(a, "realtime:ann:1", DENIED + "ann:1")
        self.server.set_policies(None)
        self.assertEqual(a.join("realtime:ann:1", PRIVATE, self.token("zoe"))["status"], "ok")

    def test_wrong_rules(self):
        self.write("read * x\nreed * y\n")
        for order in {"op": "policies", "reload": True}, {"op": "policies", "text": "read *"}, {"op": "policies"}:
            status, _, text = self.server.request("POST", "/_devserver/fault", json.dumps(order))
            self.assertEqual(status, 400)
        # and they are as they were
        self.assertEqual(self.client().join("realtime:auth", {"private": True}, self.token())["status"], "ok")
        for path, says in ((self.file, "line 2"), (self.file + "-not", "cannot read")):
            p = subprocess.run([BIN, "--jwt-secret", "s", "--policies", path], capture_output=True, text=True, timeout=60)
            self.assertEqual((p.returncode, p.stdout), (1, ""))
            self.assertIn(says, p.stderr)

    def test_long_names(self):
        name = "é\"\\" * 1000
        reply = self.client().join("realtime:" + name, {"private": True})
        self.assertEqual(self.reason(reply), f"Unauthorized: {DENIED}{name}")


class NoPolicies(WithServer):
    def test_everybody_may(self):
        a = self.member(config=dict(PRIVATE, presence={"enabled": True}))
        self.assertEqual(a.recv_message()[3], "presence_state")
        a.broadcast(T, "e", {})
        a.push(T, "presence", {"event": "track"})
        self.assertEqual(sorted(m[3] for m in a.heartbeat()), ["broadcast", "phx_reply", "phx_reply", "presence_diff"])


class Tokens(WithServer):
    options = {"resubscribe_ms": 1}

    def test_bad_ones_at_a_join(self):
        bad = tokens.bad(self.server.secret)
        self.assertEqual(set(bad), set(JOIN_REFUSALS))
        for vsn in "1.0.0", "2.0.0":
            a = self.client(vsn=vsn)
            for name, token in bad.items():
                why = self.reason(a.join(T, token=token))
                self.assertTrue(seconds_fit(why, JOIN_REFUSALS[name]), f"{name}: {why}")
            self.assertEqual(a.join(T, token=self.token())["status"], "ok")

    def test_bad_ones_for_a_channel(self):
        bad = tokens.bad(self.server.secret)
        self.assertEqual(set(bad), set(PUSH_REFUSALS))
        for vsn in "1.0.0", "2.0.0":
            a = self.member("realtime:other", vsn=vsn)
            for config in {}, {"private": True}:
                for name, token in bad.items():
                    a.join(T, config)
                    self.push_token(a, T, token)
                    with self.subTest(name):
                        self.shut(a, T, PUSH_REFUSALS[name])
                    a.broadcast("realtime:other", "e", {})
                    self.assertEqual([m[3] for m in a.heartbeat() if m[2] == T], [])

    def test_what_does_nothing(self):
        mine = self.token("ann")
        a = self.member(token=mine, config={"postgres_changes": [{"event": "*", "schema": "public"}]})
        a.expect("system", T)
        for payload in {"access_token": mine}, {"access_token": None}, {"access_token": tokens.sb_key()}, {}, \
                {"access_token": 5}, []:
            a.push(T, "access_token", payload)
            self.assertEqual(a.heartbeat(), [], payload)
        topic = self.server.joined(T)[0]
        self.assertEqual((topic["sub"], topic["access_tokens"]), ("ann", 3))

    def test_good_ones(self):
        for alg in "HS256", "HS384", "HS512":
            self.member(token=self.token(alg=alg))
        a = self.member(token=tokens.oversized(self.server.secret))
        self.push_token(a, T, tokens.oversized(self.server.secret, sub="ann"))
        self.assertEqual(a.heartbeat(), [])
        self.assertEqual(self.server.joined(T)[3]["sub"], "ann")

    def test_an_end_with_a_fraction(self):
        """To the millisecond, and of that channel alone."""
        token = self.token(exp_in=1.25)
        a = self.member(token=token)
        a.join("realtime:stays")
        self.shut(a, T, "Token has expired 0 seconds ago")
        self.assertGreaterEqual(time.time(), tokens.claims_of(token)["exp"] - 0.01)
        self.assertEqual(a.heartbeat(), [])

    def test_the_log(self):
        ann = self.token("ann", exp_in=1000)
        a, b = self.client(), self.client()
        a.join(T, {"private": True}, ann), a.join("realtime:2"), b.join("realtime:3", token=tokens.sb_key())
        b.join("realtime:4", user_token=ann)
        a.join("realtime:5", token=tokens.wrong_signature(self.server.secret, sub="eve"))
        self.assertEqual(self.server.status()["tokens_bad"], 1)
        a.join("realtime:6", token="garbage")
        self.push_token(a, T, ann), self.push_token(a, T, self.token("bob")), self.push_token(a, T, None)
        self.push_token(a, T, tokens.two_parts(self.server.secret))
        a.heartbeat()
        ids = [s["id"] for s in self.server.status()["sockets"]]
        want = [("phx_join", T, True, "jwt", "authenticated", "ann", ids[0], "ok"),
                ("phx_join", "realtime:2", False, "none", "anon", None, ids[0], "ok"),
                ("phx_join", "realtime:3", False, "key", "anon", None, ids[1], "ok"),
                ("phx_join", "realtime:4", False, "jwt", "authenticated", "ann", ids[1], "ok"),
                ("phx_join", "realtime:5", False, "jwt", "authenticated", "eve", ids[0], JOIN_REFUSALS["wrong signature"]),
                ("phx_join", "realtime:6", False, "other", None, None, ids[0], JOIN_REFUSALS["garbage"]),
                ("access_token", T, True, "jwt", "authenticated", "ann", ids[0], "same"),
                ("access_token", T, True, "jwt", "authenticated", "bob", ids[0], "ok"),
                ("access_token", T, True, "none", None, None, ids[0], "ignored"),
                ("access_token", T, True, "other", None, None, ids[0], PUSH_REFUSALS["two parts"])]
        keys = "event", "topic", "private", "token", "role", "sub", "socket", "outcome"
        got = self.server.log()
        self.assertEqual([tuple(e[k] for k in keys) for e in got], want)
        self.assertEqual(got[0]["exp"], tokens.claims_of(ann)["exp"])
        self.assertEqual([e["n"] for e in got], list(range(1, 11)))
        self.assertLess(abs(got[0]["at_ms"] / 1000 - time.time()), 60)
        self.assertEqual([e["topic"] for e in self.server.joins(refused=True)], ["realtime:5", "realtime:6"])
        self.assertEqual(len(self.server.pushed_tokens(T, refused=False)), 3)
        st = self.server.status()
        self.assertEqual([st[k] for k in ("joins_ever", "joins_refused", "access_tokens", "tokens_bad", "tokens_not_jwt")],
                         [6, 2, 4, 3, 2])


class Stalled(WithServer):
    options = {"join_error_delay_ms": 300, "connect_error_delay_ms": 300, "max_users": 2}

    def test_nothing_moves(self):
        """Several add up; pings wait, too, and so does a close."""
        a, b = self.member(), self.member()
        began = time.monotonic()
        for _ in range(3):
            a.push("realtime:bad", "phx_join", {"access_token": "x"}, ref="x", join_ref="x")
        a.send_frame(PING, b"p")
        self.server.wait_status(lambda s: s["received"] >= 5, "the joins were read")
        b.broadcast(T, "e", {})
        self.assertEqual(b.heartbeat(), [])
        self.assertEqual([a.recv_message()[1] for _ in range(3)], ["x"] * 3)
        self.assertGreaterEqual(time.monotonic() - began, 0.9)
        self.assertEqual(a.recv_frame(), (PONG, b"p"))
        self.assertEqual(a.recv_message()[3], "broadcast")
        a.push("realtime:bad", "phx_join", {"access_token": "x"}, ref="y", join_ref="y")
        began = time.monotonic()
        a.send_frame(8, b"\x03\xe8")
        self.assertEqual(a.recv_message()[1], "y")
        with self.assertRaises(Closed) as end:
            a.recv_frame()
        self.assertEqual(end.exception.code, 1000)
        self.assertGreaterEqual(time.monotonic() - began, 0.25)

    def test_refused_upgrades(self):
        a, c, b = self.client(), self.client(), self.member()
        self.assertEqual(a.join(T)["status"], "ok")
        began = time.monotonic()
        with self.assertRaises(Refused) as answer:
            self.client()
        self.assertEqual((answer.exception.status, answer.exception.body), (429, '{"error":"Too many connected users"}'))
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        self.assertEqual(self.reason(c.join(T)), "ConnectionRateLimitReached: Too many connected users")
        b.close()
        self.server.wait_status(lambda s: s["users"] == 1, "one user less")
        self.assertEqual(c.join(T)["status"], "ok")


class Faithful(WithServer):
    options = {"faithful_delays": True}

    def test_as_long_as_the_real_server(self):
        a = self.client()
        a.push("realtime:bad", "phx_join", {"access_token": "x"}, ref="x", join_ref="x")
        began = time.monotonic()
        with self.assertRaises(Refused):
            self.open.append(WsClient(self.server.url, "garbage"))
        self.assertGreaterEqual(time.monotonic() - began, 2)
        self.assertEqual(a.recv_message()[1], "x")
        self.assertGreaterEqual(time.monotonic() - began, 4.9)


class Limits(WithServer):
    options = {"rate_tick_ms": 100, "max_joins_per_second": 20, "max_events_per_second": 100, "max_presence_per_second": 100}

    def test_joins(self):
        """Bursts pass until the tick that finds them out."""
        a, b = self.client(), self.client()
        for i in range(1000):
            reply = a.join("realtime:j%d" % (i % 50))
            if reply["status"] != "ok":
                break
        self.assertEqual(self.reason(reply), "ClientJoinRateLimitReached: Too many joins per second")
        with self.assertRaises(Closed) as end:
            while True:
                a.recv_frame()
        self.assertEqual(end.exception.code, 1001)
        self.assertTrue(self.server.status()["rates"]["joins"]["triggered"])
        with self.assertRaises(Refused) as answer:
            self.client()
        self.assertEqual((answer.exception.status, json.loads(answer.exception.body)["error"]),
                         (429, "Too many joins per second"))
        self.server.wait_status(lambda s: not s["rates"]["joins"]["triggered"], "the joins are forgotten")
        self.assertEqual(b.join(T)["status"], "ok")

    def test_events(self):
        a, b = self.member(config={"broadcast": {"ack": True}}), self.member()
        end = Deadline()
        while self.server.joined(T)[1:]:
            end.left("too many events are noticed")
            a.broadcast(T, "e", {})
            a.expect("phx_reply", T)
        while b.recv_message()[3] == "broadcast":
            pass
        self.assertEqual(b.recv_message()[3], "phx_close")
        self.assertEqual(b.heartbeat(), [])
        ref = a.broadcast(T, "e", {})
        self.assertEqual(a.expect("phx_reply", T)[1], ref)


class Operator(WithServer):
    def test_disconnect(self):
        a = self.member(T, {"presence": {"enabled": True}})
        a.recv_message()
        self.server.disconnect()
        self.assertEqual(a.recv_message(), [None, None, T, "system", {"message": "Server requested disconnect",
                                                                       "status": "ok", "extension": "system"}])
        with self.assertRaises(Closed) as end:
            a.recv_frame()
        self.assertEqual(end.exception.code, 1012)


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
