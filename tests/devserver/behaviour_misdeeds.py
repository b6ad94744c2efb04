#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the devserver can be told to do wrong to connections, seen from a client's end.

usage: behaviour_misdeeds.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import json
import os
import socket
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import TEXT, Closed, DevServer, Refused, WsClient  # noqa: E402
from rtbtest.misdeeds import BAD_UPGRADES, BROKEN_FRAMES  # noqa: E402
from rtbtest.wait import DEADLINE  # noqa: E402

BIN = None
T = "realtime:room"


class WithServer(unittest.TestCase):
    def setUp(self):
        self.server = DevServer(BIN)
        self.addCleanup(self.server.stop)

    def client(self, vsn="2.0.0"):
        ws = WsClient(self.server.url, self.server.token(), vsn)
        self.addCleanup(ws.abort)
        return ws

    def member(self, vsn="2.0.0"):
        ws = self.client(vsn)
        self.assertEqual(ws.join(T)["status"], "ok")
        return ws

    def tcp(self):
        """A TCP connection on which an upgrade was asked for."""
        sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        path = urllib.parse.urlparse(self.server.url).path
        sock.sendall((f"GET {path}/websocket?vsn=2.0.0&apikey={self.server.token()} HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\n"
                      "connection: upgrade\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n\r\n").encode())
        return sock

    def head(self, sock):
        """The lines of an answer's head, and what has come behind it."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            self.assertTrue(piece, data)
            data += piece
        lines, _, rest = data.partition(b"\r\n\r\n")
        return lines.decode().split("\r\n"), rest

    def rest(self, sock):
        """All that comes until the end."""
        data = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                return data
            data += piece


class Ends(WithServer):
    def test_close_frames(self):
        for code, reason in ((1000, ""), (1001, "going away"), (1008, "policy ü"), (1009, ""), (1011, "x" * 123), (1012, ""), (1013, "later"), (4999, "own")):
            sock = self.tcp()
            self.head(sock)
            self.server.wait_status(lambda st: st["sockets_open"] == 1, "open")
            self.server.close_sockets(code, reason)
            payload = code.to_bytes(2, "big") + reason.encode()
            self.assertEqual(self.rest(sock), bytes([0x88, len(payload)]) + payload)
            sock.close()
            self.server.wait_status(lambda st: st["sockets_open"] == 0, "gone")

    def test_a_close_frame_of_nothing(self):
        sock = self.tcp()
        self.head(sock)
        self.server.close_sockets(1005)
        self.assertEqual(self.rest(sock), b"\x88\x00")

    def test_no_close_frame(self):
        sock = self.tcp()
        self.head(sock)
        self.server.break_sockets("fin")
        self.assertEqual(self.rest(sock), b"")
        sock = self.tcp()
        self.head(sock)
        self.server.break_sockets()
        with self.assertRaises(ConnectionResetError):
            self.rest(sock)

    def test_only_the_chosen_one(self):
        first, second = self.member(), self.member()
        [a, b] = self.server.sockets()
        self.server.close_sockets(1013, "later", sockets=[b["id"]])
        with self.assertRaises(Closed) as closed:
            second.recv_frame()
        self.assertEqual(closed.exception.code, 1013)
        self.assertEqual(first.heartbeat(), [])

    def test_orders_that_are_wrong(self):
        for members in ({"code": 999}, {"code": 5000}, {"reason": "x" * 124}, {"code": 1006, "reason": "x"}, {"code": 1005, "reason": "x"},
                        {"code": 0, "tcp": "syn"}):
            with self.assertRaises(AssertionError):
                self.server.fault(op="close", **members)


class Upgrades(WithServer):
    def test_refusals(self):
        for status in (200, 301, 302, 307, 401, 403, 404, 429, 500, 502, 503, 504):
            self.server.refuse_upgrades(status, retry_after=3)
            with self.assertRaises(Refused) as refused:
                self.client()
            self.assertEqual((refused.exception.status, refused.exception.headers["retry-after"]), (status, "3"))
        self.client()

    def test_answers_of_others(self):
        self.server.upgrade_fault("answer", status=302, headers={"location": "https://elsewhere.example/x"})
        with self.assertRaises(Refused) as refused:
            self.client()
        self.assertEqual((refused.exception.status, refused.exception.headers["location"]), (302, "https://elsewhere.example/x"))
        self.server.upgrade_fault("answer", status=200, type="text/html", body="<html>log in</html>", count=2)
        for _ in range(2):
            with self.assertRaises(Refused) as refused:
                self.client()
            self.assertEqual((refused.exception.status, refused.exception.body), (200, "<html>log in</html>"))
        self.server.upgrade_fault("garbage")
        self.assertFalse(self.rest(self.tcp()).startswith(b"HTTP"))
        self.server.upgrade_fault("half", body="x" * 100)
        self.assertIn(b"content-length: 100", self.rest(self.tcp()))
        self.assertEqual([(r.status, r.fault) for r in self.server.requests(path="websocket")],
                         [(302, "answer"), (200, "answer"), (200, "answer"), (None, "garbage"), (None, "half")])
        self.client()

    def test_rules_without_a_path_spare_upgrades(self):
        self.server.http_fault("answer", status=500)
        self.client()

    def test_wrong_101(self):
        good = self.head(self.tcp())[0]
        for how in BAD_UPGRADES:
            self.server.bad_upgrade(how)
            bad = self.head(self.tcp())[0]
            missing, added = set(good) - set(bad), set(bad) - set(good)
            kind = next(iter(missing | added)).lower()
            self.assertIn({"accept": "sec-websocket-accept", "no accept": "sec-websocket-accept", "extension": "sec-websocket-extensions",
                           "protocol": "sec-websocket-protocol", "no upgrade": "upgrade: websocket", "no connection": "connection: upgrade",
                           "old http": "http/1."}[how], kind)
            self.assertEqual((len(missing), len(added)), {"accept": (1, 1), "old http": (1, 1), "extension": (0, 1), "protocol": (0, 1)}.get(how, (1, 0)))
        self.assertEqual(self.head(self.tcp())[0], good)
        with self.assertRaises(AssertionError):
            self.server.bad_upgrade("nonsense")


class Silence(WithServer):
    def test_heartbeats(self):
        deaf, other = self.client(), self.client()
        [a, b] = self.server.sockets()
        self.server.heartbeats(False, sockets=a["id"])
        deaf.push("phoenix", "heartbeat", {}, join_ref=None)
        self.assertEqual(other.heartbeat(), [])
        self.assertEqual(deaf.join(T)["status"], "ok")  # a marker: the heartbeat before it is not answered
        self.server.heartbeats(True, sockets=a["id"])
        self.assertEqual(deaf.heartbeat(), [])

    def test_stall(self):
        still, other = self.member(), self.member()
        [a, b] = self.server.sockets()
        for tcp in (False, True):
            self.server.stall(tcp=tcp, sockets=a["id"])
            other.broadcast(T, "news", {"n": 1})
            beat = still.push("phoenix", "heartbeat", {}, join_ref=None)
            self.assertEqual(other.heartbeat(), [])
            self.assertFalse(still.data)
            still.sock.setblocking(False)
            with self.assertRaises(BlockingIOError):
                still.sock.recv(1)
            self.server.unstall(sockets=a["id"])
            got = [still.recv_message(), still.recv_message()]
            self.assertEqual(sorted(m[3] for m in got), ["broadcast", "phx_reply"])
            self.assertEqual([m[1] for m in got if m[3] == "phx_reply"], [beat])

    def test_a_peer_that_reads_nothing(self):
        ws = self.client()
        self.server.stall(tcp=True)
        ws.sock.setblocking(False)
        with self.assertRaises(BlockingIOError):
            for _ in range(1000):
                ws.sock.send(b"x" * 100000)
        self.server.wait_status(lambda st: st["sockets_open"] == 1, "open all the same")


class Messages(WithServer):
    def test_push(self):
        for vsn, want in (("2.0.0", ["9", 7, T, "odd", {"a": [1.50]}]), ("1.0.0", {"ref": 7, "event": "odd", "topic": T, "payload": {"a": [1.5]}})):
            ws = self.member(vsn)
            [socket_id] = [s["id"] for s in self.server.sockets() if s["vsn"] == vsn]
            self.server.push(T, "odd", {"a": [1.5]}, ref=7, join_ref="9", sockets=socket_id)
            self.assertEqual(json.loads(ws.recv_frame()[1]), want)

    def test_what_a_channel_did_not_expect(self):
        ws = self.member()
        ref = ws.join_refs[T]
        self.server.phx_close_again(T)
        self.assertEqual(ws.recv_message(), [ref, ref, T, "phx_close", {}])
        self.server.stale_reply(T)
        self.assertEqual(ws.recv_message(), ["0", "0", T, "phx_reply", {"status": "ok", "response": {}}])
        self.assertEqual(len(self.server.sockets(T)), 1)
        self.server.late_close(1, topic=T)
        left = ws.push(T, "phx_leave", {})
        self.assertEqual(ws.expect("phx_reply", T, left)[4]["status"], "ok")
        self.assertEqual(ws.expect("phx_close", T)[1], ref)

    def test_whole_frames(self):
        ws = self.client()
        self.server.send_text("no JSON")
        self.server.send_bytes(b"\x00\x01")
        self.assertEqual([ws.recv_frame(), ws.recv_frame()], [(TEXT, b"no JSON"), (2, b"\x00\x01")])
        self.server.big_frame(9 << 20)
        opcode, data = ws.recv_frame()
        self.assertEqual((opcode, len(data), len(json.loads(data))), (TEXT, 9 << 20, 1))

    def test_bytes(self):
        for name, data in BROKEN_FRAMES.items():
            sock = self.tcp()
            _, rest = self.head(sock)
            self.server.wait_status(lambda st: st["sockets_open"] == 1, "open")
            self.server.raw(data)
            self.server.break_sockets("fin")
            self.assertEqual(rest + self.rest(sock), data, name)
            sock.close()
            self.server.wait_status(lambda st: st["sockets_open"] == 0, "gone")

    def silent(self, sock, others):
        """Nothing more comes: others, a marker, is answered."""
        self.assertEqual(others.heartbeat(), [])
        sock.setblocking(False)
        with self.assertRaises(BlockingIOError):
            sock.recv(1)
        sock.setblocking(True)

    def read(self, sock, n, data=b""):
        while len(data) < n:
            piece = sock.recv(n - len(data))
            self.assertTrue(piece)
            data += piece
        return data

    def test_a_frame_without_end(self):
        sock = self.tcp()
        self.head(sock)
        self.server.unfinished_frame(9 << 20, 10)
        self.assertEqual(self.read(sock, 20), b"\x81\x7f" + (9 << 20).to_bytes(8, "big") + b"x" * 10)
        self.silent(sock, self.client())

    def test_a_message_without_end(self):
        sock = self.tcp()
        self.head(sock)
        self.server.fragments(5, times=3)
        self.assertEqual(self.read(sock, 21), b"\x01\x05xxxxx" + b"\x00\x05xxxxx" * 2)
        self.silent(sock, self.client())
        sock.close()
        sock = self.tcp()
        self.head(sock)
        self.server.fragments(65536, times=-1)
        self.read(sock, 5000000)
        self.assertEqual(self.client().heartbeat(), [])
        sock.close()

    def test_who_is_broken_leaves(self):
        """The server notices the end of a socket that it has silenced, and ends in time itself."""
        sock = self.tcp()
        self.head(sock)
        self.server.fragments(1000)
        self.read(sock, 1004)
        sock.close()
        self.server.wait_status(lambda st: st["sockets_open"] == 0, "gone")
        sock = self.tcp()
        self.head(sock)
        self.server.unfinished_frame(1000, 1)
        self.server.stop()
        self.server.start()


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
