#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the recordings do not show of the devserver: faults, refusals, limits, closes, load, TLS.

usage: behaviour.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import (PING, PONG, TEXT, Closed, DevServer, RawWebSocket, Refused, WsClient,  # noqa: E402
                               sign)

BIN = None
T = "realtime:room"


class WithServer(unittest.TestCase):
    options = {}

    def setUp(self):
        self.server = DevServer(BIN, **self.options)
        self.addCleanup(self.server.stop)
        self.open = []
        self.addCleanup(lambda: [ws.abort() for ws in self.open])

    def client(self, vsn="2.0.0", key=None, **more):
        self.open.append(WsClient(self.server.url, key or self.server.token(), vsn, **more))
        return self.open[-1]

    def member(self, topic=T, config=None, **more):
        ws = self.client(**more)
        self.assertEqual(ws.join(topic, config)["status"], "ok")
        return ws

    def closed(self, ws):
        """The code with which the server ends this socket."""
        with self.assertRaises(Closed) as end:
            while True:
                ws.recv_frame()
        return end.exception.code

    def refusal(self, path="/socket/websocket", headers=None):
        with self.assertRaises(Refused) as answer:
            RawWebSocket("127.0.0.1", self.server.port, path, headers)
        e = answer.exception
        return e.status, json.loads(e.body)["error"] if e.body.startswith("{") else e.body


class Upgrade(WithServer):
    options = {"tenant": "localhost"}

    def key(self, token, headers=None):
        return self.refusal(f"/socket/websocket?vsn=2.0.0&apikey={token}", dict(headers or {}, host="localhost:1"))

    def test_tokens(self):
        s, now = self.server, 2000000000
        self.assertEqual(self.key(""), (401, "The token provided is not a valid JWT"))
        self.assertEqual(self.key("garbage"), (401, "The token provided is not a valid JWT"))
        self.assertEqual(self.key("sb_publishable_abc"), (401, "The token provided is not a valid JWT"))
        self.assertEqual(self.key(sign({"role": "anon", "exp": now}, "other")), (401, "Failed to validate JWT signature"))
        self.assertEqual(self.key(s.token(exp_in=-5)), (401, "Token has expired"))
        self.assertEqual(self.key(s.token(role=None)), (401, "Fields `role` and `exp` are required in JWT"))
        self.assertEqual(self.key(s.token(exp=None)), (401, "Fields `role` and `exp` are required in JWT"))
        self.assertEqual(self.key(sign({"role": "anon", "exp": now}, s.secret, {"alg": "none"})),
                         (401, "Failed to generate JWT signer, check your JWT secret or JWKS configuration"))

    def test_where_the_key_may_stand(self):
        key, host = self.server.token(), {"host": "localhost"}
        missing = (401, "API key is missing")
        for headers in ({}, {"apikey": key}, {"authorization": f"Bearer {key}"}):
            self.assertEqual(self.refusal("/socket/websocket?vsn=2.0.0", dict(headers, **host)), missing)
        for path in "/socket/websocket", "/realtime/v1/websocket", "/socket/websocket?apikey=bad":
            RawWebSocket("127.0.0.1", self.server.port, path, {"x-api-key": key, **host}).abort()

    def test_tenant_and_path(self):
        answer = self.refusal(f"/socket/websocket?apikey={self.server.token()}", {"host": "nosuch.localhost"})
        self.assertEqual(answer, (404, "Tenant not found"))
        self.assertEqual(self.refusal("/socket/nope", {"host": "localhost"}), (404, "Not Found"))

    def test_plain_get(self):
        status, _, text = self.server.request("GET", f"/socket/websocket?apikey={self.server.token()}",
                                              headers={"host": "localhost"})
        self.assertEqual(status, 400)
        self.assertIn("'connection' header must contain 'upgrade'", text)


class Faults(WithServer):
    def test_status(self):
        a = self.member(config={"private": True})
        a.heartbeat()
        st = self.server.status()
        self.assertEqual((st["sockets_open"], st["sockets_ever"], st["joins_ever"], st["heartbeats"]), (1, 1, 1, 1))
        topic = st["sockets"][0]["topics"][0]
        self.assertEqual((topic["topic"], topic["private"], topic["join_ref"]), (T, True, "1"))
        a.close()
        self.server.wait_status(lambda s: s["sockets_open"] == 0, "the socket is gone")

    def test_bad_orders(self):
        for order in ({"op": "nonsense"}, {}, {"op": "send"}, {"op": "close", "code": 5}, {"op": "mute", "sokets": 1},
                      {"op": "send_binary", "base64": "!"}, {"op": "phx_close"}):
            self.assertEqual(self.server.request("POST", "/_devserver/fault", json.dumps(order))[0], 400, order)
        self.assertEqual(self.server.request("POST", "/_devserver/fault", "{")[0], 400)
        self.assertEqual(self.server.request("GET", "/_devserver/nope")[0], 404)

    def test_a_delayed_join_stops_the_socket(self):
        a = self.member("realtime:other")
        self.server.fault(op="delay_reply", event="phx_join", topic=T, ms=300, count=1)
        ref = a.push(T, "phx_join", {"config": {}}, ref="50", join_ref="50")
        beat = a.push("phoenix", "heartbeat", {}, join_ref=None)
        self.assertEqual([a.recv_message()[1], a.recv_message()[1]], [ref, beat])
        self.assertEqual(a.join("realtime:third")["status"], "ok")

    def test_a_delayed_reply_alone(self):
        a = self.member(config={"broadcast": {"ack": True}})
        self.server.fault(op="delay_reply", event="broadcast", ms=200)
        ref = a.broadcast(T, "e", {})
        self.assertEqual(a.heartbeat(), [])
        self.assertEqual(a.expect("phx_reply", T, ref)[4]["status"], "ok")

    def test_lost_replies(self):
        a = self.member(config={"broadcast": {"ack": True}})
        self.server.fault(op="drop_ack", count=2)
        a.broadcast(T, "e", {}), a.broadcast(T, "e", {})
        ref = a.broadcast(T, "e", {})
        self.assertEqual([m[1] for m in a.heartbeat()], [ref])
        self.server.fault(op="drop_reply", event="heartbeat", topic="phoenix")
        lost = a.push("phoenix", "heartbeat", {}, join_ref=None)
        self.assertNotIn(lost, [m[1] for m in a.heartbeat()])

    def test_refused_joins(self):
        a = self.client()
        self.server.fault(op="refuse_join", topic=T, reason="Unauthorized: no", count=1)
        self.assertEqual(a.join(T), {"status": "error", "response": {"reason": "Unauthorized: no"}})
        self.assertEqual(a.join(T)["status"], "ok")
        self.server.fault(op="postgres_error", topic=T, reason="no such table")
        a.join(T, {"postgres_changes": [{"event": "*", "schema": "public"}]})
        payload = a.expect("system", T)[4]
        self.assertEqual((payload["status"], payload["message"]), ("error", "no such table"))

    def test_refused_upgrades(self):
        self.server.fault(op="refuse_upgrade", status=503, count=1, retry_after=7)
        with self.assertRaises(Refused) as answer:
            self.client()
        self.assertEqual((answer.exception.status, answer.exception.headers["retry-after"]), (503, "7"))
        self.client()
        self.server.fault(op="refuse_upgrade", status=429, reason="Too many joins per second")
        self.assertEqual(self.refusal(f"/socket/websocket?apikey={self.server.token()}"),
                         (429, "Too many joins per second"))
        self.assertEqual(self.server.status()["upgrades_refused"], 2)

    def test_a_hung_upgrade(self):
        self.server.fault(op="hang_upgrade")
        hung = socket.create_connection(("127.0.0.1", self.server.port))
        self.addCleanup(hung.close)
        hung.sendall(b"GET /socket/websocket HTTP/1.1\r\nHost: x\r\n\r\n")
        self.server.wait_status(lambda s: s["upgrades_refused"] == 1, "the request was read")
        hung.setblocking(False)
        self.assertRaises(BlockingIOError, hung.recv, 1)

    def test_closes(self):
        for code in 1000, 1001, 1011, 1012, 4000:
            ws = self.member()
            self.server.fault(op="close", code=code, sockets="all")
            self.assertEqual(self.closed(ws), code)
        for code in 0, 1006:
            ws = self.member()
            self.server.fault(op="close", code=code)
            self.assertEqual(self.closed(ws), 1006)
        keep, lose = self.member(), self.member()
        ids = sorted(s["id"] for s in self.server.sockets(T) if not s["closing"])
        self.server.fault(op="close", code=1001, sockets=[ids[-1]])
        self.assertEqual(self.closed(lose), 1001)
        self.assertEqual(keep.heartbeat(), [])

    def test_half_frame(self):
        ws = self.member()
        self.server.fault(op="half_frame", bytes=400)
        self.assertEqual(self.closed(ws), 1006)
        self.assertEqual(len(ws.data), 4 + 200)

    def test_raw_frames(self):
        a, b = self.member(), self.member("realtime:b")
        self.server.fault(op="bad_json")
        for ws in a, b:
            self.assertRaises(ValueError, json.loads, ws.recv())
        self.server.fault(op="send", topic=T, text="[raw \u0001", sockets="all")
        self.server.fault(op="send_binary", base64=base64.b64encode(b"\x09\0\xff").decode())
        self.assertEqual([a.recv(), a.recv()], ["[raw \u0001", b"\x09\0\xff"])
        self.assertEqual(b.recv(), b"\x09\0\xff")

    def test_mute(self):
        a = self.member()
        self.server.fault(op="mute")
        a.push("phoenix", "heartbeat", {}, join_ref=None)
        a.send_frame(PING, b"x")
        self.server.wait_status(lambda s: s["received"] >= 2, "the heartbeat was read")
        self.server.fault(op="unmute")
        self.assertEqual(a.heartbeat(), [])

    def test_ends_of_channels(self):
        a, b = self.member(), self.member(vsn="1.0.0")
        self.server.fault(op="system", topic=T, message="hello", status="ok", extension="x")
        self.assertEqual(a.recv_message(), ["1", None, T, "system", {"message": "hello", "status": "ok", "extension": "x",
                                                                      "channel": "room"}])
        self.server.fault(op="phx_error", topic=T)
        self.assertEqual(a.recv_message(), ["1", "1", T, "phx_error", {"reason": "channel_crash"}])
        b.expect("phx_error")
        self.assertEqual(a.join(T)["status"], "ok")
        self.server.fault(op="system", topic=T, message="Too many messages per second", close=True)
        self.assertEqual([a.recv_message()[3], a.recv_message()[3]], ["system", "phx_close"])
        a.join(T)
        self.server.fault(op="phx_close", topic=T)
        self.assertEqual(a.expect("phx_close")[4], {})
        self.server.fault(op="refuse_join")
        self.server.fault(op="clear")
        self.assertEqual(a.join(T)["status"], "ok")


class Rooms(WithServer):
    def test_values_are_not_touched(self):
        a, b, c = self.member(), self.member(), self.member(vsn="1.0.0")
        payload = ('{"type":"broadcast", "event":"e","payload":{"a":123456789012345678901234567890,"a":1.50e+7,'
                   '"z":"\\u0000\\ud83d\\ude00é","d":-0.000000000000000000001234567890123456789}}')
        a.send_text(f'["1","9","{T}","broadcast",{payload} ]')
        a.heartbeat()
        self.assertIn(payload, b.recv())
        self.assertIn(payload, c.recv())

    def test_public_and_private_do_not_meet(self):
        a, b, c = self.member(), self.member(config={"private": True}), self.member(config={"private": "true"})
        a.broadcast(T, "public", {})
        b.broadcast(T, "private", {})
        a.heartbeat(), b.heartbeat()
        self.assertEqual([m[4]["event"] for m in c.heartbeat()], ["private"])
        self.assertEqual(a.heartbeat(), [])

    def test_odd_payloads_crash_the_sender(self):
        a, b = self.member(), self.member()
        a.push(T, "broadcast", "text")
        self.assertEqual(a.recv_message(), ["1", "1", T, "phx_error", {"reason": "channel_crash"}])
        self.assertEqual(b.heartbeat(), [])
        c = self.member(vsn="1.0.0")
        b.send_binary(bytes([0, 1, 1, len(T), 9]) + b"12" + T.encode() + b"broadcastx")
        self.assertEqual(b.recv_message()[3], "phx_error")
        self.assertEqual(c.heartbeat(), [])

    def test_too_large(self):
        a = self.member(config={"broadcast": {"ack": True}})
        ref = a.broadcast(T, "e", "x" * 3001000)
        self.assertEqual(a.expect("phx_reply", T, ref)[4], {"status": "error", "response": "payload_size_exceeded"})
        a.push(T, "presence", {"event": "track", "payload": {"x": "x" * 3001000}})
        self.assertEqual(a.recv_message()[4]["message"], "Track message size exceeded")
        self.assertEqual(a.recv_message()[3], "phx_close")

    def test_presence_of_those_who_go(self):
        a, b = self.member(config={"presence": {"key": "a"}}), self.member(config={"presence": {"enabled": True}})
        self.assertEqual(b.recv_message()[3:], ["presence_state", {}])
        a.push(T, "presence", {"event": "track", "payload": {"n": 1}})
        self.assertEqual(list(b.expect("presence_diff")[4]["joins"]), ["a"])
        a.abort()
        self.assertEqual(list(b.expect("presence_diff")[4]["leaves"]), ["a"])

    def test_replay_parameters(self):
        a = self.client()
        for private, replay, why in ((False, None, "Replay is not allowed for public channels"),
                                     (True, {"since": "x"}, "Replay params are not valid"),
                                     (True, {"since": 1, "limit": 1.5}, "Replay params are not valid")):
            reply = a.join(T, {"private": private, "broadcast": {"replay": replay}})
            self.assertEqual(reply["response"]["reason"], "UnableToReplayMessages: " + why)
        self.assertEqual(a.join(T, {"private": True, "broadcast": {"replay": {"since": 1}}})["status"], "ok")

    def test_payloads_that_are_no_object(self):
        a = self.client()
        for payload, shown in (([], "[]"), (None, "nil"), ("x", '"x"')):
            a.push(T, "phx_join", payload, ref="r", join_ref="r")
            self.assertEqual(a.recv_message()[4]["response"]["reason"],
                             f"UnknownErrorOnChannel: expected params to be a :map, got: `{shown}`")

    def test_ids_of_bindings(self):
        a = self.client()
        one, two = {"event": "*", "schema": "a", "table": "b"}, {"table": "b", "schema": "a", "event": "*"}
        sent = [one, {"event": "INSERT", "schema": "a", "x": 12345678901234567890}, two, None]
        got = a.join(T, {"postgres_changes": sent})["response"]["postgres_changes"]
        ids = [b.pop("id") for b in got]
        self.assertEqual(got, sent[:3])
        self.assertTrue(ids[0] == ids[2] != ids[1])
        self.assertEqual(a.join("realtime:2", {"postgres_changes": [one]})["response"]["postgres_changes"][0]["id"], ids[0])


class Tokens(WithServer):
    options = {"resubscribe_ms": 1}

    def test_expiry(self):
        a = self.client()
        a.join(T, token=self.server.token(exp_in=2))
        self.assertEqual(a.join("realtime:stays")["status"], "ok")
        system = a.expect("system", T)
        self.assertEqual(system, ["1", None, T, "system", {"message": "Token has expired 0 seconds ago", "status": "error",
                                                            "extension": "system", "channel": "room"}])
        self.assertEqual(a.recv_message()[:4], ["1", "1", T, "phx_close"])
        self.assertEqual(a.heartbeat(), [])

    def test_a_new_token_keeps_the_channel(self):
        a = self.client()
        a.join(T, {"postgres_changes": [{"event": "*", "schema": "public"}]}, token=self.server.token(exp_in=3))
        a.expect("system", T)
        old = self.server.status()["sockets"][0]["topics"][0]["exp"]
        a.push(T, "access_token", {"access_token": self.server.token(exp_in=600)})
        self.assertEqual(a.expect("system", T)[4]["message"], "Subscribed to PostgreSQL")
        now = self.server.status()["sockets"][0]["topics"][0]
        self.assertTrue(now["exp"] > old and now["access_tokens"] == 1)

    def test_the_key_of_the_socket_stands_in(self):
        a = self.client(key=self.server.token(exp_in=600))
        for payload in ({}, {"access_token": "sb_publishable_x"}, {"access_token": None}, {"access_token": 5},
                        {"user_token": self.server.token(), "access_token": "bad"}):
            self.assertEqual(a.join(T, **payload)["status"], "ok", payload)
        self.assertEqual(a.join(T, token="bad")["response"]["reason"],
                         "MalformedJWT: The token provided is not a valid JWT")


class Slow(WithServer):
    options = {"join_error_delay_ms": 200, "connect_error_delay_ms": 200, "max_channels": 2}

    def test_a_refused_join_stops_the_socket(self):
        a, b = self.member(), self.member()
        a.push("realtime:", "phx_join", {}, ref="x", join_ref="x")
        beat = a.push("phoenix", "heartbeat", {}, join_ref=None)
        # b's message reaches a's queue only after a's frames were read: the status shows that.
        self.server.wait_status(lambda s: s["received"] >= 4, "the frames were read")
        b.broadcast(T, "e", {})
        self.assertEqual(b.heartbeat(), [])
        self.assertEqual([a.recv_message()[1], a.recv_message()[1], a.recv_message()[3]], ["x", beat, "broadcast"])

    def test_the_replaced_channel_goes_though_the_new_join_fails(self):
        a = self.member()
        a.push(T, "phx_join", [], ref="n", join_ref="n")
        self.assertEqual([a.recv_message()[:4], a.recv_message()[:4]], [["n", "n", T, "phx_reply"],
                                                                        ["1", "1", T, "phx_close"]])
        a.broadcast(T, "e", {})
        self.assertEqual(a.recv_message()[4]["response"], {"reason": "unmatched topic"})

    def test_too_many_channels(self):
        a = self.member()
        self.assertEqual(a.join("realtime:2")["status"], "ok")
        self.assertEqual(a.join("realtime:3")["response"], {"reason": "ChannelRateLimitReached: Too many channels"})
        self.assertEqual(a.join(T)["status"], "ok")

    def test_a_refused_upgrade(self):
        self.assertEqual(self.refusal(), (401, "API key is missing"))


class WebSocket(WithServer):
    def test_too_big(self):
        for fragments in 1, 2:
            ws = self.member()
            piece = b"x" * (5000001 // fragments + 1)
            try:
                for i in range(fragments):
                    ws.send_frame(TEXT if i == 0 else 0, piece, fin=i == fragments - 1)
            except OSError:
                pass  # it has closed already
            self.assertEqual(self.closed(ws), 1009)

    def test_fragments_and_pings(self):
        a, b = self.member(), self.member()
        text = json.dumps(["1", "5", T, "broadcast", {"event": "é", "payload": {}}], ensure_ascii=False).encode()
        for i in range(len(text)):
            a.send_frame(TEXT if i == 0 else 0, text[i:i + 1], fin=i == len(text) - 1)
            if i % 20 == 0:
                a.send_frame(PING, b"p%d" % i)
        self.assertEqual(b.recv_message()[4]["event"], "é")
        for i in range(0, len(text), 20):
            self.assertEqual(a.recv_frame(), (PONG, b"p%d" % i))

    def test_ten_pings_have_ten_answers(self):
        a = self.client()
        for i in range(10):
            a.send_frame(PING, b"%d" % i)
        self.assertEqual([a.recv_frame() for _ in range(10)], [(PONG, b"%d" % i) for i in range(10)])

    def test_broken_rules(self):
        for opcode, data, fin in ((3, b"", True), (0, b"", True), (PING, b"x" * 126, True), (PING, b"", False)):
            ws = self.client()
            ws.send_frame(opcode, data, fin)
            self.assertEqual(self.closed(ws), 1002)
        ws = self.client()
        ws.sock.sendall(b"\x81\x01x")
        self.assertEqual(self.closed(ws), 1002)

    def test_a_client_that_does_not_read_is_dropped(self):
        server = DevServer(BIN, max_out_bytes=3000000)
        self.addCleanup(server.stop)
        deaf = WsClient(server.url, server.token())
        loud = WsClient(server.url, server.token())
        self.open += [deaf, loud]
        deaf.join(T), loud.join(T)
        for _ in range(40):
            loud.broadcast(T, "e", "x" * 1000000)
        loud.heartbeat()
        server.wait_status(lambda s: s["sockets_open"] == 1, "the deaf socket is gone")

    def test_the_answer_to_sigterm(self):
        server = DevServer(BIN)
        ws = WsClient(server.url, server.token())
        self.open.append(ws)
        ws.join(T)
        server.process.terminate()
        self.assertEqual(self.closed(ws), 1012)
        ws.abort()
        server.stop()
        server.start()
        WsClient(server.url, server.token()).close()
        server.stop()


class Idle(WithServer):
    options = {"idle_ms": 300}

    def test_silence(self):
        self.assertEqual(self.closed(self.member()), 1000)


class Strict(WithServer):
    options = {"strict_refs": True}

    def test_join_refs(self):
        a, b = self.member(config={"broadcast": {"ack": True}}), self.member()
        for join_ref in "x", None, "2", "":
            a.push(T, "broadcast", {"event": "no"}, join_ref=join_ref)
        a.push(T, "broadcast", {"event": "yes"})
        self.assertEqual([m[4] for m in a.heartbeat()], [{"status": "ok", "response": {}}])
        self.assertEqual([m[4]["event"] for m in b.heartbeat()], ["yes"])


class Load(WithServer):
    def test_a_hundred_sockets(self):
        """Everybody gets everything, in order, while 100 sockets listen and two send."""
        n, each = 100, 200
        members = [self.member() for _ in range(n)]
        for i in range(each):
            for who in members[0], members[1]:
                who.broadcast(T, "e", {"who": id(who), "i": i})
        members[0].heartbeat(), members[1].heartbeat()
        for ws in members[2:]:
            got = [(m[4]["payload"]["who"], m[4]["payload"]["i"]) for m in ws.heartbeat()]
            for who in members[0], members[1]:
                self.assertEqual([i for w, i in got if w == id(who)], list(range(each)))
        self.assertEqual(self.server.status()["relayed"], 2 * each * (n - 1))


class Tls(unittest.TestCase):
    def test_wss(self):
        with tempfile.TemporaryDirectory() as d:
            cert, key = os.path.join(d, "cert.pem"), os.path.join(d, "key.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                            "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1",
                            "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
            with DevServer(BIN, tls_cert=cert, tls_key=key) as server:
                self.assertTrue(server.url.startswith("wss://127.0.0.1:"))
                a, b = [WsClient(server.url, server.token(), verify=cert) for _ in range(2)]
                a.join(T), b.join(T)
                a.broadcast(T, "e", "x" * 2500000)
                a.broadcast_binary(T, "b", b"\0" * 100000)
                self.assertEqual(len(b.recv_message()[4]["payload"]), 2500000)
                self.assertEqual(len(b.recv()), 5 + len(T) + 1 + 100000)
                self.assertEqual(server.status()["sockets_open"], 2)
                server.fault(op="close", code=1012)
                with self.assertRaises(Closed) as end:
                    a.recv_frame()
                self.assertEqual(end.exception.code, 1012)
                a.abort(), b.abort()


class CommandLine(unittest.TestCase):
    def run_it(self, *args):
        p = subprocess.run([BIN, *args], capture_output=True, text=True, timeout=60)
        return p.returncode, p.stdout, p.stderr

    def test_wrong_options(self):
        for args, says in (((), "--jwt-secret is missing"), (("--nope",), "--nope"),
                           (("--jwt-secret", "s", "--listen", "nowhere"), "127.0.0.1:0"),
                           (("--jwt-secret", "s", "--idle-ms", "soon"), '"soon"'),
                           (("--jwt-secret", "s", "more"), "more"),
                           (("--jwt-secret", "s", "--sub", "ann"), "--print-token"),
                           (("--jwt-secret", "s", "--tls-cert", "x"), "go together")):
            status, out, err = self.run_it(*args)
            self.assertEqual((status, out), (2, ""))
            self.assertIn(says, err)

    def test_help(self):
        status, out, _ = self.run_it("--help")
        self.assertEqual((status, out.split()[0]), (0, "Usage:"))

    def test_a_port_in_use(self):
        with DevServer(BIN) as server:
            status, out, err = self.run_it("--jwt-secret", "s", "--listen", f"127.0.0.1:{server.port}")
            self.assertEqual((status, out), (1, ""))
            self.assertIn("Address already in use", err)
            self.assertIn(str(server.port), err)

    def test_a_missing_certificate(self):
        status, _, err = self.run_it("--jwt-secret", "s", "--tls-cert", "/nope.pem", "--tls-key", "/nope.pem")
        self.assertEqual(status, 1)
        self.assertIn("cannot read /nope.pem", err)

    def test_print_token(self):
        with DevServer(BIN) as server:
            key = self.run_it("--jwt-secret", server.secret, "--print-token", "service_role", "--exp", "60")[1].strip()
            claims = json.loads(base64.urlsafe_b64decode(key.split(".")[1] + "=="))
            self.assertEqual((claims["role"], claims["exp"] - claims["iat"]), ("service_role", 60))
            self.assertNotIn("sub", claims)
            WsClient(server.url, key).close()

    def test_print_token_of_a_user(self):
        with DevServer(BIN) as server:
            def token(sub):
                return self.run_it("--jwt-secret", server.secret, "--print-token", "authenticated", "--sub", sub)[1].strip()

            odd = token('a "quoted" \\ \u00e4')
            claims = json.loads(base64.urlsafe_b64decode(odd.split(".")[1] + "=="))
            self.assertEqual((claims["role"], claims["sub"]), ("authenticated", 'a "quoted" \\ \u00e4'))
            server.set_policies("read sub=ann room\n")
            for sub, outcome in (("ann", "ok"), ("bob", "error")):
                with contextlib.closing(WsClient(server.url, token(sub))) as ws:
                    self.assertEqual(ws.join(T, {"private": True})["status"], outcome, sub)


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
