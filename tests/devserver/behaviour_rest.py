#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the recordings do not show of the devserver's HTTP API: who may send what, limits, the connection, and its faults.

usage: behaviour_rest.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import http.client
import json
import os
import socket
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import Closed, DevServer, Refused, WsClient, sign  # noqa: E402
from rtbtest.wait import DEADLINE  # noqa: E402

BIN = None
T = "realtime:room"
UNAUTHORIZED = (401, '{"message":"Unauthorized"}')
BROKEN = (500, '"Internal Server Error"')


class WithServer(unittest.TestCase):
    options = {}

    def setUp(self):
        self.server = DevServer(BIN, **self.options)
        self.addCleanup(self.server.stop)

    def member(self, topic=T, config=None, vsn="2.0.0", token=None):
        ws = WsClient(self.server.url, self.server.token(), vsn)
        self.addCleanup(ws.abort)
        self.assertEqual(ws.join(topic, config, token)["status"], "ok")
        return ws

    def post(self, path, *args, **kwargs):
        status, _, body = self.server.post(path, *args, **kwargs)
        return status, body

    def batch(self, *messages, **kwargs):
        return self.post("/broadcast", {"messages": [dict({"topic": "room", "event": "e", "payload": {}}, **m) for m in messages]}, **kwargs)

    def errors(self, answer):
        self.assertEqual(answer[0], 422)
        return json.loads(answer[1])["errors"]

    def broadcasts(self, ws):
        """What has come until now: payloads of text frames, (event, encoding, bytes) of binary ones."""
        return [(m[5 + m[1]:5 + m[1] + m[2]].decode(), m[4], m[5 + m[1] + m[2] + m[3]:]) if isinstance(m, bytes) else m[4]
                for m in ws.heartbeat() if isinstance(m, bytes) or m[3] == "broadcast"]


class Who(WithServer):
    options = {"tenant": "p", "suspended_tenant": "s"}

    def one(self, **headers):
        headers.setdefault("host", "p.example")
        return self.batch({}, token="", headers=headers)

    def test_where_the_token_may_stand(self):
        good, bad = self.server.token(), "garbage"
        self.assertEqual(self.one(), UNAUTHORIZED)
        for headers in ({"authorization": f"Bearer {good}"}, {"authorization": f"bEARER {good}", "apikey": bad}, {"apikey": good},
                        {"authorization": f"Basic {bad}", "apikey": good}, {"authorization": "", "apikey": good}):
            self.assertEqual(self.one(**headers), (202, ""), headers)
        for headers in ({"authorization": f"Bearer {bad}", "apikey": good}, {"authorization": f"Basic {good}"}, {"x-api-key": good}):
            self.assertEqual(self.one(**headers), UNAUTHORIZED, headers)
        for words in (good, f"Bearer {good} x", f"Bearer  {good}"):
            self.assertEqual(self.one(authorization=words, apikey=good), BROKEN, words)

    def test_tokens(self):
        for bad in (self.server.token(exp_in=-5), self.server.token(role=None), self.server.token(exp=None),
                    sign({"role": "anon", "exp": 2000000000}, "other")):
            self.assertEqual(self.one(apikey=bad), UNAUTHORIZED)

    def test_projects(self):
        token = self.server.token()
        self.assertEqual(self.one(host="q.example", apikey=token), (401, '{"message":"Tenant not found in database"}'))
        self.assertEqual(self.one(host="s.example:4000", apikey=token), (403, '{"message":"Tenant is suspended"}'))
        self.assertEqual(self.one(host="s", apikey="x"), UNAUTHORIZED)
        self.assertEqual(self.post("/broadcast/r/events/e", {}, headers={"host": "s"})[0], 403)
        ping = "/realtime/v1/api/ping"
        for host, status, body in (("p", 200, "Success"), ("q", 401, "Tenant not found in database"), ("s", 200, "Success")):
            answer = self.server.request("GET", ping, headers={"host": host})
            self.assertEqual((answer[0], json.loads(answer[2])), (status, {"message": body}))
        with self.assertRaises(Refused) as refused:
            WsClient(self.server.url, token, headers={"host": "s.example"})
        self.assertEqual((refused.exception.status, refused.exception.body), (403, '{"error":"Realtime was disabled for this tenant"}'))


class Batch(WithServer):
    def test_what_is_wrong_about_a_message(self):
        a = self.member()
        blank, invalid = ["can't be blank"], ["is invalid"]
        wrong = [({"topic": " \t"}, {"topic": blank}), ({"topic": 5}, {"topic": invalid}), ({"topic": None}, {"topic": blank}),
                 ({"event": ""}, {"event": blank}), ({"event": {}}, {"event": invalid}), ({"payload": None}, {"payload": blank}),
                 ({"payload": 1}, {"payload": invalid}), ({"private": "x"}, {"private": invalid}), ({"private": 2}, {"private": invalid}),
                 ({"id": 7}, {"id": invalid})]
        self.assertEqual(self.errors(self.batch(*[m for m, _ in wrong], {})), {"messages": [e for _, e in wrong] + [{}]})
        for messages, error in (([], blank), (None, blank), ("x", invalid), ({}, invalid), ([{}, 1], invalid)):
            self.assertEqual(self.errors(self.post("/broadcast", {"messages": messages})), {"messages": error}, messages)
        for body in ([1], 5, {}, b"bytes"):
            self.assertEqual(self.errors(self.post("/broadcast", body)), {"messages": blank}, body)
        self.assertEqual(self.broadcasts(a), [])
        for fine in ({"private": "false"}, {"private": None}, {"id": None}, {"id": ""}, {"private": "0"}):
            self.assertEqual(self.batch(fine), (202, ""), fine)
        self.assertEqual(self.broadcasts(a), [{"type": "broadcast", "event": "e", "payload": {}}] * 5)

    def test_no_content_type_no_body(self):
        self.assertEqual(self.batch({}, headers={"content-type": None})[0], 422)
        self.assertEqual(self.batch({}, headers={"content-type": "text/plain"})[0], 422)
        self.assertEqual(self.batch({}, headers={"content-type": "Application/JSON; charset=utf-8"})[0], 202)

    def test_digits_and_letters_pass_as_they_are(self):
        a, b = self.member("realtime:ü \"/\n"), self.member("realtime:ü \"/\n", vsn="1.0.0")
        text = '{"messages":[{"topic":"\\u00fc \\"\\/\\n","event":"\\ud83d\\ude00","payload":{"n":12345678901234567890.10,"n":1},"id":"i\\"d"}]}'
        status, _, _ = self.server.post("/broadcast", text.encode(), headers={"content-type": "application/json"})
        self.assertEqual(status, 202)
        for ws in a, b:
            message = ws.recv()
            self.assertIn('{"n":12345678901234567890.10,"n":1}', message)
            payload = json.loads(message)[4] if ws is a else json.loads(message)["payload"]
            self.assertEqual((payload["event"], payload["meta"]), ("😀", {"id": 'i"d'}))

    def test_public_first_then_private_by_topic(self):
        self.server.set_policies("read * *\nwrite * room\nwrite * a\n")
        a = self.member(T, {"private": True}), self.member("realtime:a", {"private": True}), self.member("realtime:no", {"private": True})
        both = self.member("realtime:pub")
        both.join(T, {"private": True})
        both.join("realtime:a", {"private": True})
        self.assertEqual(self.batch({"private": True, "event": "1"}, {"private": True, "topic": "a", "event": "2"}, {"topic": "pub", "event": "3"},
                                    {"private": True, "topic": "no", "event": "4"}, {"private": True, "event": "5"}), (202, ""))
        self.assertEqual([m[3:] for m in (both.recv_message() for _ in range(4))],
                         [["broadcast", {"type": "broadcast", "event": e, "payload": {}}] for e in ("3", "2", "1", "5")])
        self.assertEqual([[m["event"] for m in self.broadcasts(ws)] for ws in a], [["1", "5"], ["2"], []])

    def test_the_sender_hears_it_and_public_is_not_private(self):
        a, private = self.member(), self.member(config={"private": True})
        self.assertEqual(self.batch({"event": "1"}), (202, ""))
        self.assertEqual(self.batch({"event": "2", "private": True}, token=self.server.token("service_role")), (202, ""))
        self.assertEqual([[m["event"] for m in self.broadcasts(ws)] for ws in (a, private)], [["1"], ["2"]])


class Single(WithServer):
    def test_names_in_the_path(self):
        a = self.member("realtime:a/b c+%é")
        self.assertEqual(self.post("/broadcast/a%2Fb%20c+%25%C3%A9/events/x%2fy+%", {"topic": "t", "event": "e"}), (202, ""))
        self.assertEqual(self.broadcasts(a), [("x/y+%", 1, b'{"topic": "t", "event": "e"}')])
        for path in ("/broadcast/a/events", "/broadcast//events/x", "/broadcast/a/event/x", "/broadcast/a/events/x/y", "/broadcasts", ""):
            self.assertEqual(self.post(path, {}), (404, "Not Found"), path)
        self.assertEqual(self.errors(self.post("/broadcast/%20/events/e", {})), {"topic": ["can't be blank"]})
        self.assertEqual(self.errors(self.post("/broadcast/r/events/%09", {})), {"event": ["can't be blank"]})

    def test_bodies(self):
        a, b = self.member(), self.member(vsn="1.0.0")
        plain = {"content-type": "application/json"}
        for body in (b"", b'{ "a" :1}', b'"x"', b"null", b"[]"):
            self.assertEqual(self.post("/broadcast/room/events/e", body, headers=plain), (202, ""))
        self.assertEqual(self.post("/broadcast/room/events/e", {"a": 1}, headers={"content-type": None}), (202, ""))
        self.assertEqual(self.post("/broadcast/room/events/e", b""), (202, ""))
        want = [{}, {"a": 1}, {"_json": "x"}, {"_json": None}, {"_json": []}, {}]
        got = self.broadcasts(a)
        self.assertEqual([(e, json.loads(data)) for e, encoding, data in got[:-1] if encoding == 1], [("e", w) for w in want])
        self.assertEqual(got[-1], ("e", 0, b""))
        self.assertEqual(self.broadcasts(b), [{"type": "broadcast", "event": "e", "payload": w} for w in want])
        for bad in (b"{nope", b'{"a":1}x', b'"\xff"', b"\xef\xbb\xbf{}"):
            self.assertEqual(self.post("/broadcast/room/events/e", bad, headers=plain), (400, "Bad Request"), bad)
        for media in ("text/plain", "application/x-www-form-urlencoded", "application/vnd.api+json", "json", "application/jsonp"):
            self.assertEqual(self.post("/broadcast/room/events/e", b"{}", token="x", headers={"content-type": media})[0], 415, media)

    def test_the_body_says_more_than_the_query(self):
        public, private = self.member(), self.member(config={"private": True})
        for n, (query, body, wanted) in enumerate((("true", None, private), ("false", True, private), ("true", False, public), ("", "true", private),
                                                   ("true", "TRUE", public), ("True", None, public), ("true", 1, public))):
            payload = {"n": n} if body is None else {"n": n, "private": body}
            self.assertEqual(self.post(f"/broadcast/room/events/e?x=1&private={query}", payload), (202, ""))
            self.assertEqual([len(self.broadcasts(ws)) for ws in (public, private)], [wanted is public, wanted is private], n)
        # Of bytes only the query can say it; a null of the body is something said.
        self.assertEqual(self.post("/broadcast/room/events/e?private=true", b'{"private":false}'), (202, ""))
        self.assertEqual(self.post("/broadcast/room/events/e?private=true", b'{"private":null}', headers={"content-type": "application/json"}), (202, ""))
        self.assertEqual([len(self.broadcasts(ws)) for ws in (public, private)], [1, 1])

    def test_rights(self):
        self.server.set_policies("read * *\nwrite sub=ann room\n")
        a = self.member(config={"private": True})
        path, ann = "/broadcast/room/events/e?private=true", self.server.token("authenticated", sub="ann")
        self.assertEqual(self.post(path, {}, token=ann), (202, ""))
        self.assertEqual(self.post(path, {}), (403, '{"message":"Unauthorized"}'))
        self.assertEqual(self.post("/broadcast/other/events/e?private=true", {}, token=ann)[0], 403)
        self.assertEqual(self.post(path, {}, token=self.server.token("nobody")), (422, '{"message":"RLS policy error"}'))
        self.assertEqual(self.post(path, {}, token=self.server.token("service_role")), (202, ""))
        # Nothing is kept from one request to the next.
        self.server.set_policies("read * *\nwrite * *\n")
        self.assertEqual(self.post(path, {}), (202, ""))
        self.assertEqual(len(self.broadcasts(a)), 3)

    def test_an_event_that_cannot_be_written(self):
        long = "x" * 256
        b = self.member(vsn="1.0.0")
        self.assertEqual(self.post(f"/broadcast/room/events/{long}", {}), (202, ""))
        self.assertEqual(self.broadcasts(b)[0]["event"], long)
        self.member()
        self.assertEqual(self.post(f"/broadcast/room/events/{long}", {}), BROKEN)
        self.assertEqual(self.batch({"event": long}), (202, ""))


class Sizes(WithServer):
    options = {"max_payload_kb": 1}  # 1500 bytes as an Erlang term

    def payload(self, size):
        """Of this size: a byte, a map of 5, a key of 6, a string of 5 beside its text."""
        return {"d": "x" * (size - 17)}

    def test_a_batch(self):
        a = self.member()
        self.assertEqual(self.batch({"payload": self.payload(1500)}), (202, ""))
        self.assertEqual(self.errors(self.batch({}, {"payload": self.payload(1501)})),
                         {"messages": [{}, {"payload": ["Payload size exceeds tenant limit"]}]})
        self.assertEqual(len(self.broadcasts(a)), 1)

    def test_one(self):
        path, too_big = "/broadcast/room/events/e", {"payload": ["Payload size exceeds tenant limit"]}
        self.assertEqual(self.post(path, self.payload(1500)), (202, ""))
        self.assertEqual(self.errors(self.post(path, self.payload(1501))), too_big)
        self.assertEqual(self.post(path, b"x" * 1494), (202, ""))
        self.assertEqual(self.errors(self.post(path, b"x" * 1495)), too_big)

    def test_what_json_and_terms_measure_differently(self):
        path = "/broadcast/room/events/e"
        # A character of four bytes has twelve in this JSON; an empty string there three with its comma, five here.
        self.assertEqual(self.post(path, {"d": "😀" * 370}), (202, ""))
        self.assertEqual(self.post(path, {"d": [""] * 296})[0], 202)
        self.assertEqual(self.post(path, {"d": [""] * 297})[0], 422)

    def test_websockets(self):
        a, b = self.member(config={"broadcast": {"ack": True}}), self.member()
        envelope = 56  # of {"type","event","payload"}, the event of one letter
        a.push(T, "broadcast", {"type": "broadcast", "event": "e", "payload": self.payload(1500 - envelope)})
        self.assertEqual(a.expect("phx_reply")[4], {"status": "ok", "response": {}})
        for size in (1501, 15000):
            a.push(T, "broadcast", {"type": "broadcast", "event": "e", "payload": self.payload(size - envelope)})
            self.assertEqual(a.expect("phx_reply")[4], {"status": "error", "response": "payload_size_exceeded"})
            b.push(T, "broadcast", {"type": "broadcast", "event": "e", "payload": self.payload(size - envelope)})
        for size, status, as_json in ((1473, "ok", False), (1474, "error", False), (1475, "ok", True), (1476, "error", True)):
            a.broadcast_binary(T, "e", b"x" * size, as_json)
            self.assertEqual(a.expect("phx_reply")[4]["status"], status)
        self.assertEqual(a.heartbeat(), [])
        self.assertEqual(len(self.broadcasts(b)), 3)

    def test_tracks(self):
        a = self.member(config={"presence": {"enabled": True, "key": "k"}})
        a.push(T, "presence", {"type": "presence", "event": "track", "payload": self.payload(1500)})
        self.assertEqual(a.expect("phx_reply")[4]["status"], "ok")
        a.push(T, "presence", {"type": "presence", "event": "track", "payload": self.payload(1501)})
        self.assertEqual(a.expect("system")[4]["message"], "Track message size exceeded")


class RatesBeforeTheFirstTick(WithServer):
    options = {"max_events_per_second": 10, "rate_tick_ms": 600000}

    def test_headers_and_too_large_a_batch(self):
        status, headers, _ = self.server.post("/broadcast", {"messages": [{"topic": "t", "event": "e", "payload": {}}]})
        self.assertEqual([status] + [headers["x-rate-" + k] for k in ("rolling", "limit", "limit-remaining")], [202, "0", "10", "10"])
        self.assertEqual(self.batch(*[{}] * 11), (429, '{"message":"Too many messages to broadcast, please reduce the batch size"}'))
        self.assertEqual(self.batch(*[{}] * 10)[0], 202)


class Rates(WithServer):
    options = {"max_events_per_second": 10, "rate_tick_ms": 1000}

    def test_too_many_events(self):
        a = self.member()
        for _ in range(200):
            a.broadcast(T, "e", {})
        self.server.wait_status(lambda st: st["rates"]["events"]["triggered"], "too many")
        self.assertEqual(self.batch({}), (429, '{"message":"You have exceeded your rate limit"}'))
        self.assertEqual(self.post("/broadcast/t/events/e", {}), (429, '{"message":"You have exceeded your rate limit"}'))

    def test_too_many_requests(self):
        for _ in range(200):
            self.server.request("GET", "/api/ping")
        status, headers, body = self.server.request("GET", "/api/ping")
        while status == 200:
            status, headers, body = self.server.request("GET", "/api/ping")
        self.assertEqual((status, body), (429, '{"message":"Too many requests"}'))
        self.assertLess(int(headers["x-rate-limit-remaining"]), 1)
        self.assertEqual(self.batch({}, token="x")[0], 429)


class Connection(WithServer):
    """The bytes themselves."""

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        return sock

    def head(self, body, more=""):
        return (f"POST /api/broadcast/room/events/e HTTP/1.1\r\nhost: h\r\napikey: {self.server.token()}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n").encode()

    def test_is_kept(self):
        link = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=DEADLINE)
        self.addCleanup(link.close)
        link.connect()
        sock = link.sock
        for n in range(5):
            link.request("POST", "/api/broadcast/room/events/e", json.dumps({"n": n}), {"apikey": self.server.token(), "content-type": "application/json"})
            answer = link.getresponse()
            self.assertEqual((answer.status, answer.read(), link.sock is sock), (202, b"", True))
        link.request("GET", "/api/ping", headers={"connection": "close"})
        answer = link.getresponse()
        self.assertEqual((answer.read(), answer.getheader("connection"), link.sock), (b'{"message":"Success"}', "close", None))

    def test_is_kept_for_who_wants_it(self):
        line = f"GET /api/ping HTTP/1.%d\r\nhost: h\r\nconnection: %s\r\n\r\n"
        for version, wish, kept in ((1, "x", True), (1, "x, Close", False), (0, "x", False), (0, "Keep-Alive", True)):
            sock = self.connect()
            sock.sendall((line % (version, wish)).encode() * 2)
            data = b""
            while data.count(b"}") < 1 + kept:
                piece = sock.recv(65536)
                self.assertTrue(piece, data)
                data += piece
            if not kept:
                self.assertEqual((sock.recv(1), data.count(b"connection: close")), (b"", 1))

    def test_an_end_that_is_not_announced(self):
        self.server.http_fault("answer", work=True, close=True)
        sock = self.connect()
        sock.sendall(self.head(b"{}") + b"{}" + self.head(b"{}") + b"{}")
        data = b""
        while piece := sock.recv(65536):
            data += piece
        self.assertTrue(data.startswith(b"HTTP/1.1 202"))
        self.assertEqual((data.count(b"HTTP/1.1"), b"connection" in data), (1, False))
        self.assertEqual(len(self.server.requests()), 1)

    def test_several_at_once_and_in_pieces(self):
        a, sock = self.member(), self.connect()
        whole = b"".join(self.head(b'{"n":%d}' % n) + b'{"n":%d}' % n for n in range(3)) + self.head(b"{}", "connection: close\r\n") + b"{}"
        for i in range(0, len(whole), 97):
            sock.sendall(whole[i:i + 97])
        data = b""
        while piece := sock.recv(65536):
            data += piece
        self.assertEqual(data.count(b"HTTP/1.1 202 Accepted\r\n"), 4)
        self.assertEqual([data for _, _, data in self.broadcasts(a)], [b'{"n":0}', b'{"n":1}', b'{"n":2}', b"{}"])

    def test_too_long_a_body(self):
        sock = self.connect()
        sock.sendall(self.head(b"x" * 8000001))
        self.assertTrue(sock.recv(65536).startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n"))
        payload = {"d": "x" * 2900000}
        self.assertEqual(self.post("/broadcast/room/events/e", payload)[0], 202)
        self.assertEqual(self.server.requests()[-1].json(), payload)

    def test_chunks_are_not_for_it(self):
        sock = self.connect()
        sock.sendall(b"POST /api/broadcast HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        self.assertTrue(sock.recv(65536).startswith(b"HTTP/1.1 411 "))

    def test_waits_for_what_was_announced(self):
        sock = self.connect()
        sock.sendall(self.head(b"{}", "expect: 100-continue\r\n"))
        self.assertEqual(sock.recv(65536), b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"{}")
        self.assertTrue(sock.recv(65536).startswith(b"HTTP/1.1 202 "))

    def test_sigterm_ends_them_all(self):
        """Those that are half said, that wait for an answer, and that may be used again."""
        self.server.http_fault("hang", path="*/broadcast/*")
        socks = [self.connect() for _ in range(3)]
        for sock, data in zip(socks, (b"POST /api/bro", self.head(b"{}") + b"{}", b"GET /api/ping HTTP/1.1\r\nhost: h\r\n\r\n")):
            sock.sendall(data)
        self.assertTrue(socks[2].recv(65536))
        self.server.wait_requests(2)
        self.server.stop()
        for sock in socks:
            try:
                self.assertEqual(sock.recv(65536), b"")
            except ConnectionResetError:
                pass


class Faults(WithServer):
    def setUp(self):
        super().setUp()
        self.a = self.member()

    def raised(self, kind):
        with self.assertRaises(kind):
            self.batch({"event": "x"})

    def heard(self):
        return [m["event"] for m in self.broadcasts(self.a)]

    def test_an_answer(self):
        self.server.http_fault("answer", status=429, retry_after=3, body='{"x":1}', type="text/x", count=2)
        for _ in range(2):
            status, headers, body = self.server.post("/broadcast", {"messages": [{"topic": "room", "event": "x", "payload": {}}]})
            self.assertEqual((status, headers["retry-after"], headers["content-type"], body), (429, "3", "text/x", '{"x":1}'))
        self.assertEqual(self.batch({"event": "y"}), (202, ""))
        self.server.http_fault("answer", work=True)
        self.assertEqual(self.batch({"event": "z"}), (202, ""))  # carried out, so there is a true answer
        self.server.http_fault("answer", status=500, work=True)
        self.assertEqual(self.batch({"event": "w"}), (500, ""))
        self.server.http_fault("answer")
        self.assertEqual(self.batch({"event": "v"}), (503, ""))
        self.assertEqual(self.heard(), ["y", "z", "w"])

    def test_paths_and_their_order(self):
        self.server.http_fault("answer", status=501, path="*/events/*", count=-1)
        self.server.http_fault("answer", status=502)
        self.assertEqual([self.post("/broadcast/room/events/e", {})[0], self.batch({})[0], self.batch({})[0],
                          self.post("/broadcast/room/events/e", {})[0]], [501, 502, 202, 501])
        self.server.fault(op="clear")
        self.assertEqual(self.post("/broadcast/room/events/e", {})[0], 202)

    def test_no_http(self):
        self.server.http_fault("garbage")
        self.raised(http.client.BadStatusLine)
        self.assertEqual(self.heard(), [])

    def test_half_an_answer(self):
        self.server.http_fault("half", status=200, body="0123456789")
        with self.assertRaises(http.client.IncompleteRead) as half:
            self.batch({"event": "x"})
        self.assertEqual(half.exception.partial, b"01234")
        self.server.http_fault("half")
        head, _, body = self.ping().partition(b"\r\n\r\n")
        self.assertEqual((head[:15], body), (b"HTTP/1.1 200 OK", b'{"message"'))
        self.server.http_fault("half", work=False)
        data = self.ping()
        self.assertEqual((data[:12], b"\r\n\r\n" in data), (b"HTTP/1.1 503", False))
        self.assertEqual(self.heard(), ["x"])

    def ping(self):
        """All that comes until the end."""
        sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        sock.sendall(b"GET /api/ping HTTP/1.1\r\nhost: h\r\n\r\n")
        data = b""
        while piece := sock.recv(65536):
            data += piece
        return data

    def test_ends(self):
        self.server.http_fault("close")
        self.raised(ConnectionError)
        self.assertEqual(self.heard(), [])
        self.server.http_fault("drop")
        self.raised(http.client.RemoteDisconnected)
        self.server.http_fault("drop", work=False)
        self.raised(http.client.RemoteDisconnected)
        self.assertEqual(self.heard(), ["x"])

    def test_late_and_slow(self):
        self.server.http_fault("delay", ms=50)
        self.assertEqual(self.batch({}), (202, ""))
        self.server.http_fault("slow", ms=1, bytes=100, status=503, body="x" * 1000)
        self.assertEqual(self.batch({}), (503, "x" * 1000))
        self.assertEqual(len(self.heard()), 2)

    def test_never(self):
        sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        self.server.http_fault("hang")
        sock.sendall(b"POST /api/broadcast HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
        self.server.wait_requests(1)
        self.assertEqual(self.batch({"event": "y"}), (202, ""))  # the marker: others are answered
        sock.setblocking(False)
        self.assertRaises(BlockingIOError, sock.recv, 1)

    def test_what_came(self):
        token = self.server.token()
        self.assertEqual(self.batch({"event": "y"}, token=token, headers={"X-More": "a, b"}), (202, ""))
        self.server.http_fault("drop")
        with self.assertRaises(http.client.RemoteDisconnected):
            self.post("/broadcast/a%20b/events/e%2f?private=true&x=", b"\x00\xff", token="")
        self.server.http_fault("close")
        self.raised(ConnectionError)
        self.post("/nothing", {})
        batch, single, closed, nothing = self.server.requests()
        self.assertEqual([(r.n, r.method, r.status, r.fault) for r in (batch, single, closed, nothing)],
                         [(1, "POST", 202, None), (2, "POST", None, "drop"), (3, "POST", None, "close"), (4, "POST", 404, None)])
        self.assertEqual((batch.path, batch.messages, batch.token, batch.headers["x-more"], batch.single),
                         ("/realtime/v1/api/broadcast", [{"topic": "room", "event": "y", "payload": {}}], token, "a, b", None))
        self.assertEqual((single.single, single.query, single.body, single.token), (("a b", "e/"), {"private": "true", "x": ""}, b"\x00\xff", None))
        self.assertEqual(closed.body, b"")
        self.assertEqual([r.n for r in self.server.requests(path="/events/")], [2])
        self.assertEqual(self.server.requests(method="GET"), [])

    def test_orders_that_are_wrong(self):
        for wrong in ({}, {"how": "x"}, {"how": "answer", "status": 99}, {"how": "slow", "bytes": 0}, {"how": "delay", "ms": -1}):
            with self.assertRaises(AssertionError):
                self.server.fault(op="http", **wrong)

    def test_websockets_are_left_alone(self):
        self.server.http_fault("close", count=-1)
        self.member()
        with self.assertRaises(Closed):
            self.server.fault(op="close", sockets="all", code=1012)
            self.a.recv_frame()


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
