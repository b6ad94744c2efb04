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

    def _broadcast(self, opcode, data):
        """(topic, event, payload, meta) of a frame; None if it is something else."""
        if opcode == 2 and data[0] == 4:
            sizes, encoding, at, parts = data[1:4], data[4], 5, []
            for size in sizes:
                parts.append(data[at:at + size])
                at += size
            topic, event, meta = parts
            payload = decode(data[at:]) if encoding else data[at:]
            return topic.decode().removeprefix("realtime:"), event.decode(), payload, decode(meta) if meta else None
        if opcode == 1:
            message = decode(data)
            topic, name, payload = (message[k] for k in ("topic", "event", "payload")) if self.v1 else message[2:5]
            if name == "broadcast":
                return topic.removeprefix("realtime:"), payload["event"], payload["payload"], payload.get("meta")
        return None

    def all_broadcasts(self):
        """[(topic, event, payload, meta)]: what the server has sent by now and was not read yet, in its order."""
        ref, found, end = self.push("phoenix", "heartbeat", {}, join_ref=None), [], Deadline()
        while True:
            opcode, data = self.recv_frame(end.left("the answer to a heartbeat"))
            one = self._broadcast(opcode, data)
            if one is not None:
                found.append(one)
            elif opcode == 1:
                message = decode(data)
                if (message["ref"] if self.v1 else message[1]) == ref:
                    return found

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
            one = self._broadcast(opcode, data)
            if one is not None:
                return one[1:3]

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
