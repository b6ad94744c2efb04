# SPDX-License-Identifier: MIT
"""A local client in plain Python: PROTOCOL.md read anew, without a line of the C code."""

import socket
import struct
import time

import msgpack

from .wait import DEADLINE, Deadline


class RequestError(Exception):
    def __init__(self, error):
        self.code, self.name, self.text, self.retry_after_ms = error
        super().__init__(f"{self.code} {self.name}: {self.text}")


class Closed(Exception):
    """The daemon closed the connection."""


def frame(message):
    body = msgpack.packb(message, use_bin_type=True)
    return struct.pack(">I", len(body)) + body


class Peer:
    """One attached process. Notifications are kept in .notices in the order of their coming.

    token: said in the hello. sock: a connection that is there already (path is not looked at then).
    """

    def __init__(self, path, hello=True, name="test", connect_deadline=DEADLINE, token=None, sock=None):
        self.sock = sock or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(connect_deadline)
        if sock is None:
            self.sock.connect(path)
        self.buffer = b""
        self.next_id = 1
        self.responses = {}
        self.notices = []
        self.hello = None
        if hello:
            self.hello = self.say_hello(name, token)

    # ---- raw ----

    def send_raw(self, data):
        self.sock.sendall(data)

    def read_message(self, deadline):
        """One message; None when the deadline passed; Closed at the end of the stream."""
        while True:
            if len(self.buffer) >= 4:
                size = struct.unpack(">I", self.buffer[:4])[0]
                if len(self.buffer) >= 4 + size:
                    body, self.buffer = self.buffer[4:4 + size], self.buffer[4 + size:]
                    return msgpack.unpackb(body, raw=False, strict_map_key=False)
            left = deadline.end - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(262144)
            except socket.timeout:
                return None
            except ConnectionResetError:
                raise Closed()
            if not data:
                raise Closed()
            self.buffer += data

    def step(self, deadline, what):
        message = self.read_message(deadline)
        if message is None:
            raise AssertionError(f"deadline: {what}")
        if message[0] == 1:
            assert message[1] not in self.responses, f"two responses to request {message[1]}"
            self.responses[message[1]] = message
        else:
            assert message[0] == 2, message
            self.notices.append((message[1], message[2]))

    # ---- requests ----

    def say_hello(self, name="test", token=None):
        params = {"protocol": 1, "client": {"name": name, "version": "1"}}
        return self.call("hello", params if token is None else dict(params, token=token))

    def request(self, method, params=None):
        """Sends, does not wait; returns the id for result()."""
        id = self.next_id
        self.next_id += 1
        self.sock.settimeout(DEADLINE)
        self.send_raw(frame([0, id, method, params or {}]))
        return id

    def result(self, id, seconds=DEADLINE):
        end = Deadline(seconds)
        while id not in self.responses:
            self.step(end, f"no response to request {id}; notices: {self.notices[-5:]}")
        _, _, error, result = self.responses.pop(id)[:4]
        if error is not None:
            raise RequestError(error)
        return result

    def call(self, method, params=None, seconds=DEADLINE):
        return self.result(self.request(method, params), seconds)

    def subscribe(self, topic, **params):
        return self.call("subscribe", dict({"topic": topic}, **params))

    def broadcast(self, topic, event, payload, **params):
        return self.call("broadcast", dict({"topic": topic, "event": event, "payload": payload}, **params))

    def track(self, topic, state, **params):
        return self.call("track", dict({"topic": topic, "state": state}, **params))

    def untrack(self, topic, **params):
        return self.call("untrack", dict({"topic": topic}, **params))

    def auth(self, token, **params):
        return self.call("auth", dict({"token": token}, **params))

    def sync(self, upstream=False):
        return self.call("sync", {"upstream": upstream, "timeout_ms": int(DEADLINE * 1000)})

    def status(self):
        return self.call("status")

    # ---- notices ----

    def wait_notice(self, method, match=lambda params: True, seconds=DEADLINE, what=None):
        """The first notice that matches; it is taken out of .notices, earlier ones stay."""
        end = Deadline(seconds)
        seen = 0
        while True:
            while seen < len(self.notices):
                name, params = self.notices[seen]
                if name == method and match(params):
                    del self.notices[seen]
                    return params
                seen += 1
            self.step(end, what or f"no notice {method}; have {self.notices[-5:]}")

    def take(self, method):
        """All notices of this kind that have come, taken out."""
        found = [params for name, params in self.notices if name == method]
        self.notices = [(name, params) for name, params in self.notices if name != method]
        return found

    def drain(self):
        """Reads what is there, hardly waiting."""
        end = Deadline(0.005)
        while True:
            message = self.read_message(end)
            if message is None:
                return
            if message[0] == 1:
                self.responses[message[1]] = message
            else:
                self.notices.append((message[1], message[2]))

    def wait_closed(self, seconds=DEADLINE):
        """Reads until the daemon closes; what came before is in .notices."""
        end = Deadline(seconds)
        try:
            while True:
                self.step(end, "the daemon did not close the connection")
        except Closed:
            pass

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()
