#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What messages may hold, both ways and by each road: numbers, strings, depths, bytes, further keys, names at their limits."""

import base64
import json
import unittest

import msgpack

from rtbtest.peer import frame
from rtbtest.sends import Sends, fresh

BAD_REQUEST, BAD_TOPIC, BAD_EVENT, BAD_PAYLOAD = 200, 201, 202, 203
LISTS = "[" * 60 + "]" * 60


def number(text):
    return msgpack.ExtType(1, text.encode())


def nested(depth, inner=1):
    value = inner
    for i in range(depth):
        value = [value] if i % 2 else {"k": value}
    return value


class Out(Sends):
    VALUES = [
        number("12345678901234567890123"), number("-99999999999999999999999"), number("1.50"), number("0.10000000000000000000000001"),
        number("1e400"), number("18446744073709551616"), 2 ** 64 - 1, -2 ** 63, 0, -1, 1.5, -0.0, 5e-324, 1.7976931348623157e308, 1e21, 0.1,
        "", "\0", "a\0b", "\x01\x1f\x7f", "\"\\/\b\f\n\r\t", "\u2028\u2029", "\ufffd", "😀", "é" * 1000, True, False, None,
        [], {}, {"": 1}, {"\0": {"\0": "\0"}}, {"a.b": 1, "a": {"b": 2}}, {"__proto__": 1, "constructor": 2}, [[[]]], nested(62),
        {"payload": {"event": "x", "payload": {}}, "type": "broadcast", "meta": {"id": "mine"}},
    ]

    def test_what_json_can_say(self):
        """The same at a client elsewhere and here, over the channel and by HTTP."""
        topic = fresh("values")
        tx, rx, far = self.peer(), self.peer(), self.remote(topic)
        rx.subscribe(topic)
        want = [("v", {"v": v}) for v in self.VALUES]
        for via, outcome in ("ws", "acked"), ("http", "sent"):
            with self.subTest(via=via):
                ids = [tx.request("broadcast", {"topic": topic, "event": e, "payload": p, "via": via}) for e, p in want]
                self.assertEqual([tx.result(id)["outcome"] for id in ids], [outcome] * len(ids))
                for (_, event, payload, _), one in zip(far.all_broadcasts(), want, strict=True):
                    self.assertEqual(repr((event, payload)), repr(one))
                came = self.came(rx)[topic]
                for (event, payload), one in zip(came, want, strict=True):
                    self.assertEqual(repr((event, payload)), repr(one))
        # Over the channel they need not be maps.
        for value in self.VALUES:
            self.assertEqual(tx.broadcast(topic, "v", value), {"outcome": "acked", "via": "ws"})
        self.assertEqual(repr([p for _, p in self.came(rx)[topic]]), repr(self.VALUES))
        self.assertEqual(repr([p for _, _, p, _ in far.all_broadcasts()]), repr(self.VALUES))

    def test_what_it_cannot(self):
        """Refused with the place, whichever way; nothing of it leaves."""
        topic = fresh("bad")
        tx, far = self.peer(), self.remote(topic)
        bad = [float("nan"), float("inf"), -float("inf"), {1: 2}, {None: 1}, {b"k": 1}, b"inside", msgpack.ExtType(2, b"1"), msgpack.ExtType(1, b""),
               msgpack.ExtType(1, b"abc"), msgpack.ExtType(1, b"1 "), msgpack.ExtType(1, b"+1"), msgpack.ExtType(1, b"1,2"),
               msgpack.ExtType(1, b"01"), msgpack.ExtType(1, b"NaN"), msgpack.Timestamp(1), nested(64)]
        for value in bad:
            for via in "ws", "http", "auto":
                with self.subTest(value=value, via=via):
                    code = self.code(tx.broadcast, topic, "e", {"x": [0, value]}, via=via)
                    self.assertEqual(code, BAD_PAYLOAD)
        for raw in b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80", b"\xa1\xc3", b"\xa2\xc0\x80":
            with self.subTest(raw=raw):
                whole = msgpack.packb([0, 77, "broadcast", {"topic": topic, "event": "e", "payload": {"x": "MARK"}}])
                body = whole.replace(msgpack.packb("MARK"), raw)
                tx.send_raw(len(body).to_bytes(4, "big") + body)
                self.assertEqual(self.code(tx.result, 77), BAD_PAYLOAD)
        self.assertEqual(self.code(tx.call, "broadcast", {"topic": topic, "event": "e"}), BAD_REQUEST)
        self.assertEqual(far.all_broadcasts(), [])

    def test_keys_beside_the_payload(self):
        topic = fresh("extra")
        tx, rx, far = self.peer(), self.peer(), self.remote()
        far.join(topic)
        rx.subscribe(topic)
        extra = {"trace": "x", "n": number("1.50"), "deep": {"a": [1]}, "": None, "ünï": True}
        for via in "ws", "auto":
            self.assertEqual(tx.broadcast(topic, "e", {"n": 1}, extra=extra, via=via), {"outcome": "acked", "via": "ws"})
            notice = rx.wait_notice("broadcast")
            self.assertEqual((notice["event"], notice["payload"], notice["extra"]), ("e", {"n": 1}, extra))
            whole = far.expect("broadcast", "realtime:" + topic)[4]
            self.assertEqual(whole, {"type": "broadcast", "event": "e", "payload": {"n": 1}, **dict(extra, n=1.5)})
        self.assertEqual(tx.broadcast(topic, "e", b"bytes", extra={})["outcome"], "acked")
        self.assertNotIn("extra", rx.wait_notice("broadcast"))
        for wrong in {"type": 1}, {"event": 1}, {"payload": 1}, {"meta": 1}, {"ok": 1, "event": 1}, [], 7, "x":
            self.assertEqual(self.code(tx.broadcast, topic, "e", {}, extra=wrong), BAD_REQUEST)
        self.assertEqual(self.code(tx.broadcast, topic, "e", {}, extra={"x": float("nan")}), BAD_PAYLOAD)
        self.assertEqual(self.code(tx.broadcast, topic, "e", b"bytes", extra={"x": 1}), BAD_REQUEST)

    def test_bytes(self):
        topic = fresh("bytes")
        tx, rx, far = self.peer(), self.peer(), self.remote(topic)
        rx.subscribe(topic)
        for data in b"", b"\0", b"\xff" * 3, bytes(range(256)) * 1000, b'{"n":1}':
            for via in "ws", "http":
                with self.subTest(data=data[:10], via=via):
                    self.assertEqual(tx.broadcast(topic, "b", data, via=via)["via"], via)
                    self.assertEqual([x[1:3] for x in far.all_broadcasts()], [("b", data)])
                    self.assertEqual(self.came(rx)[topic], [("b", data)])
            far.broadcast(topic, "back", data)
            self.assertEqual(rx.wait_notice("broadcast")["payload"], data)


class Names(Sends):
    TOPICS = ["a", "t" * 240, "é" * 120, "😀" * 60, "a/b/c", "/", "//", "a%2Fb", "%", "%00", "100%", "a?private=true", "a#b", "a b", "a+b", "a&b=c",
              "\"quoted\"", "back\\slash", "{}", "..a", "...", "a/../b", "realtime:x", "phoenix", "events", "a/events/b", "\u2028", "ÄÖ:ü;ß,*'()!~"]
    EVENTS = ["e", "e" * 255, "é" * 127, "a/b", "%", "%2F", "?", "#", "a b", "+", "\"", "\\", "..a", "*", "\u2028", "phx_join", "phx_close", "system"]

    def through(self, topic, event):
        """Each way, as JSON and as bytes, both ways, with exactly this name."""
        tx, rx, far = self.peer(), self.peer(), self.remote(topic)
        rx.subscribe(topic)
        want = []
        for n, (via, payload) in enumerate([("ws", {"n": 1}), ("http", {"n": 2}), ("ws", b"3"), ("http", b"4")]):
            result = tx.broadcast(topic, event, payload, via=via)
            self.assertEqual((result["outcome"], result["via"]), ("acked" if via == "ws" else "sent", via), result)
            want.append((event, payload))
        self.assertEqual([x[:3] for x in far.all_broadcasts()], [(topic, *w) for w in want])
        far.broadcast(topic, event, {"n": 5})
        far.heartbeat()  # the server has passed it on
        self.assertEqual(self.came(rx), {topic: [*want, (event, {"n": 5})]})
        for peer in tx, rx, far:
            peer.close()

    def test_topics(self):
        for topic in self.TOPICS:
            with self.subTest(topic=topic):
                self.through(topic, "e")

    def test_events(self):
        for event in self.EVENTS:
            with self.subTest(event=event):
                self.through(fresh("event"), event)

    def test_private_ones_in_a_path(self):
        """What stands behind a question mark in a topic is none of the request's query."""
        for topic in "a?private=false", "a%3Fprivate=false", "a#?private=false":
            with self.subTest(topic=topic):
                tx, public, private = self.peer(), self.remote(topic), self.remote(topic, private=True)
                self.assertEqual(tx.broadcast(topic, "e?private=false", b"x", via="http", private=True)["outcome"], "sent")
                self.assertEqual(([x[1:3] for x in private.all_broadcasts()], public.all_broadcasts()), ([("e?private=false", b"x")], []))

    def test_steps(self):
        """`.` and `..` cannot stand in a path: as bytes they go over the channel, or are refused; as JSON they go both ways."""
        for topic, event in (".", "e"), ("..", "e"), ("t", "."), ("t", ".."):
            with self.subTest(topic=topic, event=event):
                tx, far = self.peer(), self.remote(topic)
                before = len(self.server.requests())
                self.assertEqual(tx.broadcast(topic, event, {"n": 1}, via="http")["outcome"], "sent")
                self.assertEqual(tx.broadcast(topic, event, b"x", via="http")["outcome"], "bad_payload")
                self.assertEqual(tx.broadcast(topic, event, b"x"), {"outcome": "acked", "via": "ws"})
                self.assertEqual(len(self.server.requests()), before + 1)
                self.assertEqual([x[1:3] for x in far.all_broadcasts()], [(event, {"n": 1}), (event, b"x")])

    def test_beyond(self):
        tx = self.peer()
        for via in "ws", "http", "auto":
            for topic in "", "t" * 241, "é" * 121, "a\0b", "a\nb", "\x7f", "\x85", "rtbridge:x", 7, b"t":
                with self.subTest(topic=topic, via=via):
                    self.assertIn(self.code(tx.broadcast, topic, "e", {}, via=via), (BAD_TOPIC, BAD_REQUEST))
            for event in "", "e" * 256, "é" * 128, "a\0b", "a\nb", "\x7f", 7, b"e", None:
                with self.subTest(event=event, via=via):
                    self.assertIn(self.code(tx.broadcast, "t", event, {}, via=via), (BAD_EVENT, BAD_REQUEST))


class In(Sends):
    """Frames of the server, as they stand."""

    def setUp(self):
        super().setUp()
        self.topic = fresh("in")
        self.rx = self.peer()
        self.rx.subscribe(self.topic)

    def got(self):
        """The notices of what has come, in the order, without what all have; the connection works."""
        self.rx.sync(upstream=True)
        self.assertEqual(self.rx.take("gap") + self.rx.take("channel") + self.rx.take("connection"), [])
        return [{k: v for k, v in n.items() if k not in ("chan", "topic")} for n in self.rx.take("broadcast")]

    def text(self, payload):
        wire = json.dumps("realtime:" + self.topic)
        self.server.fault(op="send", topic="realtime:" + self.topic, text=f'[null,null,{wire},"broadcast",{payload}]')

    def binary(self, event, data, meta=b"", encoding=1):
        topic = b"realtime:" + self.topic.encode()
        whole = bytes([4, len(topic), len(event), len(meta), encoding]) + topic + event + meta + data
        self.server.fault(op="send_binary", topic="realtime:" + self.topic, base64=base64.b64encode(whole).decode())

    # JSON of a payload, what it is here
    VALUES = [
        ("12345678901234567890123", number("12345678901234567890123")), ("1.50", number("1.50")), ("1.0", 1.0), ("1e3", 1000.0),
        ("18446744073709551615", 2 ** 64 - 1), ("18446744073709551616", number("18446744073709551616")),
        ("-9223372036854775809", number("-9223372036854775809")), ("1e400", number("1e400")), ("-0", -0.0), ("0.1", 0.1),
        ('{"a":1,"b":2,"a":3}', {"b": 2, "a": 3}), ('{"a":{"x":1,"x":2},"a":{"x":3,"x":4}}', {"a": {"x": 4}}), ('{"a":1,"\\u0061":2}', {"a": 2}),
        ('"\\ud800"', "\ufffd"), ('"\\udc00\\ud800x"', "\ufffd\ufffdx"), ('"\\ud83d\\ude00"', "😀"), ('{"\\ud800":1}', {"\ufffd": 1}),
        ('"\\u0000"', "\0"), ('{"\\u0000":"a\\u0000b"}', {"\0": "a\0b"}), ('"\\u2028\\/"', "\u2028/"), (" [ 1 , 2 ] ", [1, 2]),
        (LISTS, json.loads(LISTS)), ("null", None), ("true", True), ('""', ""),
    ]

    def test_values(self):
        for text, value in self.VALUES:
            with self.subTest(text=text):
                self.text(f'{{"type":"broadcast","event":"e","payload":{text}}}')
                self.binary(b"e", text.encode())
                first, second = self.got()
                self.assertEqual(repr(first), repr({"event": "e", "payload": value}))
                self.assertEqual(repr(second), repr({"event": "e", "payload": value}))

    def test_shapes(self):
        """Keys beside the payload; a message that has no event."""
        for text, notice in [
            ('{"type":"broadcast","event":"e","payload":{"n":1},"more":[1],"x":null}', {"event": "e", "payload": {"n": 1}, "extra": {"more": [1], "x": None}}),
            ('{"event":"e","payload":1}', {"event": "e", "payload": 1}),
            ('{"type":"broadcast","event":"e","payload":1,"meta":{"id":"u"}}', {"event": "e", "payload": 1, "meta": {"id": "u"}}),
            ('{"type":"broadcast","payload":{"n":1}}', {"event": "", "raw": {"type": "broadcast", "payload": {"n": 1}}}),
            ('{"type":"broadcast","event":7,"payload":{"n":1}}', {"event": "", "raw": {"type": "broadcast", "event": 7, "payload": {"n": 1}}}),
            ("{}", {"event": "", "raw": {}}), ("[1]", {"event": "", "raw": [1]}), ('"text"', {"event": "", "raw": "text"}), ("null", {"event": "", "raw": None}),
        ]:
            with self.subTest(text=text):
                self.text(text)
                self.assertEqual(self.got(), [notice])

    def test_what_cannot_be_decoded(self):
        """Its bytes come, said to be such; what comes next is not harmed."""
        broken = [b"{nope", b"", b"1 2", b'{"a":}', b"\xff\xfe", b'"\xed\xa0\x80"', b"[" * 200 + b"]" * 200, b'"\x01"', b"01", b"NaN"]
        for data in broken:
            with self.subTest(data=data[:20]):
                self.binary(b"bad", data)
                self.binary(b"good", b'{"n":1}')
                self.assertEqual(self.got(), [{"event": "bad", "payload": data, "undecodable": True}, {"event": "good", "payload": {"n": 1}}])
        for event in b"\xff", b"\xc3(":
            self.binary(event, b'{"n":1}')
            self.assertEqual(self.got(), [{"event": "", "payload": b'{"n":1}', "undecodable": True}])
        for text in '{"type":"broadcast","event":"e","payload":}', '{"type":"broadcast","event":"e","payload":' + "[" * 200 + "]" * 200 + "}", "tru":
            with self.subTest(text=text[:60]):
                self.text(text)
                self.assertEqual(self.got(), [{"event": "", "payload": text.encode(), "undecodable": True}])
        # Metadata is the server's own: without it the message counts all the same.
        for meta in b"{", b"[1]", b"\xff":
            self.binary(b"e", b"1", meta)
            self.assertEqual(self.got(), [{"event": "e", "payload": 1}])
        self.binary(b"", b"")
        self.binary(b"", b"", encoding=0)
        self.assertEqual(self.got(), [{"event": "", "payload": b"", "undecodable": True}, {"event": "", "payload": b""}])

    def test_filters_see_the_event(self):
        """A subscription for one event gets no message that has none, or another."""
        self.rx.subscribe(self.topic, broadcast={"events": ["e"]})
        self.text('{"type":"broadcast","payload":1}')
        self.text('{"type":"broadcast","event":"E","payload":1}')
        self.text('{"type":"broadcast","event":"e","payload":1}')
        self.binary(b"\xff", b"1")
        self.binary(b"e", b"{")
        self.assertEqual(self.got(), [{"event": "e", "payload": 1}, {"event": "e", "payload": b"{", "undecodable": True}])


class Frames(Sends):
    def test_a_request_that_is_too_deep(self):
        """The frame itself is nested at most 72 deep."""
        peer = self.peer()
        peer.send_raw(frame([0, 5, "broadcast", {"topic": "t", "event": "e", "payload": nested(90)}]))
        peer.wait_closed()
        self.assertEqual(peer.take("error")[-1]["error"][0], 400)


if __name__ == "__main__":
    unittest.main()
