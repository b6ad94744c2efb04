# SPDX-License-Identifier: MIT
"""A daemon played by the test of the command: answers by handlers that the test may replace.

Each connection has a thread. `daemon.on[method]` is called with (connection, id, params); what it
returns is the result, an Error is the error, None means that it has answered (or will) by itself.
"""

import os
import queue
import socket
import struct
import tempfile
import threading

import msgpack


class Error(Exception):
    def __init__(self, code, name, text, retry_ms=None):
        super().__init__(text)
        self.array = [code, name, text, retry_ms]


class Connection:
    def __init__(self, daemon, sock):
        self.daemon, self.sock = daemon, sock
        self.buf = b""

    def send(self, message):
        body = msgpack.packb(message, use_bin_type=True)
        self.sock.sendall(struct.pack(">I", len(body)) + body)

    def answer(self, id, result):
        self.send([1, id, None, result])

    def notify(self, method, **params):
        self.send([2, method, params])

    def read(self, n):
        while len(self.buf) < n:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buf += data
        data, self.buf = self.buf[:n], self.buf[n:]
        return data

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def serve(self):
        try:
            while True:
                (size,) = struct.unpack(">I", self.read(4))
                _, id, method, params = msgpack.unpackb(self.read(size), strict_map_key=False)
                try:
                    result = self.daemon.on[method](self, id, params)
                    if result is not None:
                        self.answer(id, result)
                except Error as e:
                    self.send([1, id, e.array, None])
                self.daemon.requests.put((method, params))  # seen means answered
        except (EOFError, OSError):
            pass
        finally:
            self.sock.close()
            self.daemon.gone.put(self)


def number(known, thing):
    """Its number from 1 on, the same whenever it comes."""
    if thing not in known:
        known.append(thing)
    return known.index(thing) + 1


class Daemon:
    def __init__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="rtb-cli-")
        self.path = os.path.join(self.dir.name, "s")
        self.connections, self.requests, self.gone = queue.Queue(), queue.Queue(), queue.Queue()
        self.live = []
        self.connection = {"state": "online", "since": 1700000000000}
        self.features = ["broadcast", "presence", "gap", "postgres_changes", "auth", "http", "outcome", "replay", "system"]
        self.token = {"state": "accepted", "expires": 4102444800}  # how it takes one
        self.on = {
            "hello": self.hello,
            "subscribe": self.subscribe,
            "unsubscribe": lambda c, id, p: {},
            "broadcast": lambda c, id, p: {"outcome": "acked", "via": "ws"},
            "track": lambda c, id, p: {"outcome": "acked", "key": p.get("key", "made")},
            "untrack": lambda c, id, p: {},
            "auth": lambda c, id, p: self.token,
            "status": lambda c, id, p: {"connection": self.connection},
            "outcome": self.unknown_id,
        }
        self.presence = {"state": "ok", "snapshot": []}  # of who subscribes with presence
        self.bindings = []  # each that was asked for, as it was; an id is the place in it
        self.binding = lambda binding: {"state": "ready"}  # how one is
        self.chans = []  # (topic, private), the same way
        self.listener = None
        self.listen()

    def hello(self, connection, id, params):
        connection.answer(
            id,
            {
                "protocol": 1,
                "server": {"name": "fake", "version": "1"},
                "session": 1,
                "limits": {"frame_bytes": 4194304, "bindings": 1000},
                "features": self.features,
                "connection": self.connection,
                **({"token": self.token} if params.get("token") else {}),
            },
        )
        self.connections.put(connection)

    def unknown_id(self, connection, id, params):
        raise Error(212, "unknown_id", "no send of this user has this id, or it was too long ago")

    def subscribe(self, connection, id, params):
        topic, private = params.get("topic", ""), params.get("private", False)
        chan = number(self.chans, (topic, private))
        result = {"chan": chan, "topic": topic, "private": private, "state": "ready"}
        if params.get("postgres_changes") is not None:
            result["postgres_changes"] = [
                {"id": number(self.bindings, b), **self.binding(b)} for b in params["postgres_changes"]
            ]
        if params.get("presence") is not None:
            result["presence"] = self.presence
        return result

    def listen(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        try:
            while True:
                connection = Connection(self, listener.accept()[0])
                self.live.append(connection)
                threading.Thread(target=connection.serve, daemon=True).start()
        except OSError:
            pass

    def stop(self):
        """Nobody listens any more, and all connections end."""
        if self.listener:
            try:
                self.listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.listener.close()
            os.unlink(self.path)
        self.listener = None
        for connection in self.live:
            connection.close()
        self.live = []

    def close(self):
        self.stop()
        self.dir.cleanup()
