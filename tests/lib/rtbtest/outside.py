# SPDX-License-Identifier: MIT
"""A client past the daemon, on a WebSocket of its own: topics without prefix, payloads in the forms of the local protocol."""

import json
from decimal import Decimal

import msgpack

from .devserver import Closed, WsClient
from .wait import DEADLINE, Deadline


def parse_int(text):
    n = int(text)
    return n if -2 ** 63 <= n < 2 ** 64 else msgpack.ExtType(1, text.encode())


def parse_float(text):
    """The number rule of PROTOCOL.md: a float if its digits survive, else its text."""
    f = float(text)
    if f not in (float("inf"), float("-inf")):
        plain = text[:-2] if text.endswith(".0") else text
        short = repr(f)[:-2] if repr(f).endswith(".0") else repr(f)
        if Decimal(plain).as_tuple() == Decimal(short).as_tuple():
            return f
    return msgpack.ExtType(1, text.encode())


def decode(text):
    return json.loads(text, parse_int=parse_int, parse_float=parse_float)


class Outside(WsClient):
    def join(self, topic, **config):
        reply = super().join("realtime:" + topic, config=config or {"broadcast": {"ack": False, "self": False}})
        assert reply["status"] == "ok", reply

    def broadcast(self, topic, event, payload):
        if isinstance(payload, bytes):
            return super().broadcast_binary("realtime:" + topic, event, payload)
        return super().broadcast("realtime:" + topic, event, payload)

    def next_broadcast(self, seconds):
        """(event, payload) of the next broadcast; None when none came in time."""
        end = Deadline(seconds)
        while True:
            try:
                frame = self._parse()
                if frame is None:
                    self._more(end, "a broadcast")
                    continue
            except AssertionError as e:
                if str(e).startswith("deadline"):
                    return None
                raise
            opcode, data = frame
            if opcode == 8:
                raise Closed(int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005)
            if opcode == 2 and data[0] == 4:
                topic, event, meta, encoding = data[1:5]
                at = 5 + topic
                payload = data[at + event + meta:]
                return data[at:at + event].decode(), decode(payload) if encoding else payload
            if opcode == 1:
                message = decode(data)
                name, payload = (message["event"], message["payload"]) if self.v1 else message[3:5]
                if name == "broadcast":
                    return payload["event"], payload["payload"]

    def recv_broadcasts(self, n, seconds=DEADLINE):
        """Exactly the next `n`."""
        end = Deadline(seconds)
        found = []
        while len(found) < n:
            one = self.next_broadcast(end.left(f"{n} broadcasts; have {found[-5:]}"))
            if one is not None:
                found.append(one)
        return found

    def poll_broadcasts(self, seconds):
        """What came within `seconds`."""
        found = []
        one = self.next_broadcast(seconds)
        while one is not None:
            found.append(one)
            one = self.next_broadcast(0.0001)
        return found
