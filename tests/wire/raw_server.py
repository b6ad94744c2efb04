#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A WebSocket server on a bare socket that misbehaves as the request's path says.

Prints "PORT raw N" and serves until standard input ends. It shares no code with what it tests.
"""
import base64
import hashlib
import itertools
import os
import select
import socket
import struct
import sys
import threading

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
seen_close = {"code": 0}
followed = {"n": 0}


def frame(opcode, payload=b"", fin=True, rsv=0, masked=False):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask_bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", len(payload))
    if masked:
        mask = b"\x11\x22\x33\x44"
        payload = mask + bytes(b ^ mask[i & 3] for i, b in enumerate(payload))
    return head + payload


def close_frame(code, reason=b""):
    return frame(8, struct.pack("!H", code) + reason)


class Peer:
    def __init__(self, sock):
        self.sock = sock
        self.buf = b""

    def read(self, n):
        while len(self.buf) < n:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("peer ended")
            self.buf += data
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def read_request(self):
        while b"\r\n\r\n" not in self.buf:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("no request")
            self.buf += data
        head, self.buf = self.buf.split(b"\r\n\r\n", 1)
        lines = head.split(b"\r\n")
        fields = dict(l.split(b": ", 1) for l in lines[1:])
        return lines[0].split(b" ")[1].decode(), {k.lower(): v for k, v in fields.items()}

    def read_frame(self):
        a, b = self.read(2)
        size = b & 127
        if size == 126:
            (size,) = struct.unpack("!H", self.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.read(8))
        if not b & 0x80:
            raise ConnectionError("a client's frame must be masked")
        mask = self.read(4)
        data = self.read(size)
        return a & 15, bytes(x ^ mask[i & 3] for i, x in enumerate(data))

    def drain(self):
        """Reads until the peer hangs up; notes its close code."""
        try:
            while True:
                opcode, data = self.read_frame()
                if opcode == 8:
                    note_close(data)
        except (ConnectionError, OSError):
            pass


def note_close(data):
    seen_close["code"] = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1005


def accept_answer(fields, extra=b"", key=None):
    key = key or fields[b"sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extra + b"\r\n")


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


STATUS = {
    200: b"<html>please log in</html>",
    301: b"moved",
    302: b"found",
    303: b"see other",
    307: b"elsewhere",
    308: b"elsewhere for ever",
    400: b"bad request",
    401: b'{"error":"API key is missing"}',
    403: b'{"error":"tenant suspended"}',
    404: b'{"error":"tenant not found"}',
    429: b'{"error":"too many connections"}',
    500: b"x" * 3000,
    502: b"<html>" + b"<p>Bad gateway</p>" * 5000,
    503: b"",
    504: b"<html>Gateway time-out</html>",
    520: b"<html>Web server is returning an unknown error</html>",
}


def answer_status(peer, status, how):
    body = STATUS[status]
    head = b"HTTP/1.1 %d Whatever\r\n" % status
    if 300 < status < 400:
        port = peer.sock.getsockname()[1]
        head += b"Location: http://127.0.0.1:%d/followed?%d\r\n" % (port, status)
    if status == 429 or how == "retry":
        head += b"Retry-After: 7\r\n"
    if how == "chunked":
        head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body)
        peer.sock.sendall(head + body + b"\r\n0\r\n\r\n")
    elif how == "endless":
        flood(peer, itertools.chain([head + b"\r\n"], itertools.repeat(b"<p>no</p>" * 1000)))
    elif how == "cut":
        peer.sock.sendall(head + b"Content-Length: 100000\r\n\r\n" + body)
        return
    else:
        peer.sock.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    peer.drain()


def before_upgrade(peer, name, fields):
    """True when the case is over without an upgrade."""
    sock = peer.sock
    if name.startswith("status-"):
        parts = name.split("-")
        answer_status(peer, int(parts[1]), parts[2] if len(parts) > 2 else "")
    elif name == "stall":
        peer.drain()
    elif name == "hang-up":
        pass
    elif name == "reset":
        reset(sock)
    elif name == "garbage":
        sock.sendall(b"220 mail.example ESMTP\r\n\r\n\r\n")
        peer.drain()
    elif name == "long-garbage":
        flood(peer, itertools.repeat(b"garbage" * 1000, 10))
    elif name == "odd-status":
        sock.sendall(b"HTTP/1.1 banana Switching\r\nUpgrade: websocket\r\n\r\n")
        peer.drain()
    elif name == "no-upgrade":
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n")
        peer.drain()
    elif name == "followed":
        followed["n"] += 1
        answer_status(peer, 400, "")
    elif name == "half-answer":
        sock.sendall(accept_answer(fields)[:60])
    elif name == "wrong-accept":
        sock.sendall(accept_answer(fields, key=b"AAAAAAAAAAAAAAAAAAAAAA=="))
        peer.drain()
    elif name == "no-accept":
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     b"Connection: Upgrade\r\n\r\n")
        peer.drain()
    elif name == "unasked-protocol":
        sock.sendall(accept_answer(fields, b"Sec-WebSocket-Protocol: chat\r\n"))
        peer.drain()
    elif name == "unasked-extension":
        sock.sendall(accept_answer(fields, b"Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        peer.drain()
    else:
        return False
    return True


def upgrade(peer, name, fields):
    if name == "slow-upgrade":
        for byte in accept_answer(fields):
            peer.sock.sendall(bytes([byte]))
    elif name == "big-headers":
        peer.sock.sendall(accept_answer(fields, b"".join(
            b"X-Filler-%d: %s\r\n" % (i, b"y" * 900) for i in range(13))))
    elif name == "glued":
        # The first frames in the same packet as the answer.
        peer.sock.sendall(accept_answer(fields) + frame(1, b"glued") + close_frame(1000))
        peer.drain()
        return False
    else:
        peer.sock.sendall(accept_answer(fields))
    return True


# Sent right after the upgrade; then the server only reads until the client hangs up.
BROKEN = {
    "opcode-3": frame(3, b"x"),
    "opcode-11": frame(11, b"x"),
    "rsv-1": frame(1, b"x", rsv=4),
    "rsv-3": frame(1, b"x", rsv=1),
    "long-ping": frame(9, b"x" * 126),
    "fragmented-ping": frame(9, b"x", fin=False),
    "lone-continuation": frame(0, b"x"),
    "text-in-fragments": frame(1, b"x", fin=False) + frame(1, b"y"),
    "length-bit-63": b"\x82\x7f" + b"\xff" * 8,
    "close-1-byte": frame(8, b"\x03"),
    "close-empty": frame(8),
    "close-reason": close_frame(4001, "Schl\u00fcssel abgelaufen".encode()),
    "masked": frame(1, b"masked", masked=True) + close_frame(1000),
    "fragments": (frame(1, b"one ", fin=False) + frame(9, b"a") + frame(0, b"two ", fin=False) +
                  frame(0, b"", fin=False) + frame(9, b"b") + frame(0, b"three") +
                  close_frame(1000)),
    "empty-messages": frame(1) + frame(2) + frame(1, b"", fin=False) + frame(0) + close_frame(1000),
}


def flood(peer, chunks):
    """Sends until the client stops taking it, and reads meanwhile."""
    reader = threading.Thread(target=peer.drain)
    reader.start()
    try:
        for chunk in chunks:
            peer.sock.sendall(chunk)
    except OSError:
        pass
    reader.join()


def endless_fragments():
    yield frame(1, b"z" * 65536, fin=False)
    while True:
        yield frame(0, b"z" * 65536, fin=False)


def ten_pings(peer):
    peer.sock.sendall(b"".join(frame(9, b"ping %d" % i) for i in range(10)) + frame(1, b"go"))
    pongs = []
    while True:
        opcode, data = peer.read_frame()
        if opcode == 10:
            pongs.append(data)
        elif opcode == 1:
            break
    peer.sock.sendall(frame(1, b"pongs " + b",".join(pongs)) + close_frame(1000))
    peer.drain()


def echo(peer):
    while True:
        opcode, data = peer.read_frame()
        if opcode == 8:
            note_close(data)
            peer.sock.sendall(frame(8, data))
            return
        if opcode in (1, 2):
            peer.sock.sendall(frame(opcode, data))


def after_upgrade(peer, name):
    sock = peer.sock
    if name in BROKEN:
        sock.sendall(BROKEN[name])
        peer.drain()
    elif name.startswith("code-"):
        sock.sendall(close_frame(int(name[5:])))
        peer.drain()
    elif name == "big-frame":
        flood(peer, [frame(2, b"z" * (16 << 20))])
    elif name == "endless-fragments":
        flood(peer, endless_fragments())
    elif name == "ten-pings":
        ten_pings(peer)
    elif name == "reset-mid-frame":
        sock.sendall(frame(1, b"x" * 1000)[:500])
        peer.read_frame()
        reset(sock)
    elif name == "fin-mid-frame":
        sock.sendall(frame(1, b"x" * 1000)[:500])
    elif name == "fin":
        pass
    elif name == "deaf":
        # Never reads: not even a close frame.
        select.select([sys.stdin], [], [])
    elif name == "no-close-answer":
        peer.drain()
    elif name == "seen-followed":
        sock.sendall(frame(1, b"%d" % followed["n"]) + close_frame(1000))
        peer.drain()
    elif name == "seen-close":
        sock.sendall(frame(1, b"%d" % seen_close["code"]) + close_frame(1000))
        peer.drain()
    elif name.startswith("stream-"):
        for i in range(int(name[7:])):
            sock.sendall(frame(2, struct.pack("!I", i) + b"s" * 10000))
        echo(peer)
    else:
        echo(peer)


def serve(sock):
    peer = Peer(sock)
    try:
        path, fields = peer.read_request()
        name = path.split("?")[0].strip("/")
        if not before_upgrade(peer, name, fields) and upgrade(peer, name, fields):
            after_upgrade(peer, name)
    except (ConnectionError, OSError, KeyError, ValueError):
        pass
    finally:
        sock.close()


def accept_all(listener):
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def hang_up_on_all(listener, how):
    while True:
        sock, _ = listener.accept()
        how(sock)


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
    print("PORT raw %d" % listener.getsockname()[1], flush=True)
    for name, how in (("at-once-rst", reset), ("at-once-fin", socket.socket.close)):
        other = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=hang_up_on_all, args=(other, how), daemon=True).start()
        print("PORT %s %d" % (name, other.getsockname()[1]), flush=True)
    print("READY", flush=True)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
