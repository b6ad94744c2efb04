#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An HTTP server on a bare socket that answers, or misbehaves, as the request's path says.

    http_server.py [FOLDER NAME...]

Prints "PORT plain N", and "PORT NAME N" for each certificate NAME.pem in FOLDER (make_certs.sh);
serves until standard input ends. /ws?KEY is a WebSocket whose messages are echoed, each of which lets
/drip?KEY read one more piece. It shares no code with what it tests.
"""
import collections
import hashlib
import os
import socket
import ssl
import struct
import sys
import threading

import raw_server

released = collections.defaultdict(lambda: threading.Semaphore(0))
noted = {"bytes": 0}
DRIP = 65536


class Request:
    def __init__(self, peer):
        while b"\r\n\r\n" not in peer.buf:
            data = peer.sock.recv(65536)
            if not data:
                raise ConnectionError("no request")
            peer.buf += data
            if not peer.buf[:1].isalpha():
                peer.sock.sendall(answer(400, b"this port speaks no TLS"))
                raise ConnectionError("not HTTP")
        self.head, peer.buf = peer.buf.split(b"\r\n\r\n", 1)
        lines = self.head.split(b"\r\n")
        path = lines[0].split(b" ")[1].decode()
        self.name, self.key = path.split("?")[0].strip("/"), path.partition("?")[2]
        self.fields = {k.lower(): v for k, v in (l.split(b": ", 1) for l in lines[1:])}
        self.size = int(self.fields.get(b"content-length", b"0"))
        self.peer = peer

    def body(self, between=lambda: None):
        """Reads the body; calls `between` before each piece."""
        digest, left = hashlib.sha256(), self.size
        while left > 0:
            between()
            data = self.peer.read(min(left, DRIP))
            digest.update(data)
            left -= len(data)
        return digest.hexdigest()


def answer(status, body=b"", headers=b"", length=True):
    head = b"HTTP/1.1 %d Whatever\r\n" % status + headers
    if length:
        head += b"Content-Length: %d\r\n" % len(body)
    return head + b"\r\n" + body


def wait_end(sock):
    """Until the client has gone; returns how much came."""
    n = 0
    try:
        while data := sock.recv(65536):
            n += len(data)
    except OSError:
        pass
    return n


def send_for_ever(sock, first, piece):
    try:
        sock.sendall(first)
        while True:
            sock.sendall(piece)
    except OSError:
        pass


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

# Sent when all of the request was read; then the connection ends.
ANSWERS = {
    "redirect": answer(302, b"moved", b"Location: /status-500\r\nRetry-After: 3\r\n"),
    "retry-429": answer(429, b'{"message":"slow down"}', b"Retry-After: 7\r\n"),
    "retry-503": answer(503, b"", b"retry-after:120\r\n"),
    "retry-date": answer(503, b"", b"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n"),
    "retry-long": answer(503, b"", b"Retry-After: 99999999999\r\n"),
    "continue": b"HTTP/1.1 100 Continue\r\nRetry-After: 5\r\nContent-Length: 9\r\n\r\n"
                b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(202, b"ok"),
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nwhatever",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not-modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
    "to-end": answer(200, b"until the end", b"", False),
    "http-1.0": b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "lf-only": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "no-reason": b"HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"3;x=y\r\none\r\n5\r\n two \r\n0\r\nTrailer: x\r\n\r\n",
    "chunked-broken": CHUNKED + b"3\r\none\r\nzzz\r\n",
    "chunked-cut": CHUNKED + b"3\r\none\r\n5\r\n t",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nok",
    "body-16384": answer(200, b"b" * 16384),
    "body-16385": answer(200, b"b" * 16385),
    "body-100000": answer(200, b"b" * 100000),
    "body-1000000": answer(200, b"b" * 1000000),
    "huge-headers": answer(202, b"ok", b"".join(
        b"X-Filler-%d: %s\r\n" % (i, b"y" * 900) for i in range(300))),
    "long-header": answer(202, b"ok", b"X-Long: " + b"y" * 100000 + b"\r\n"),
    "cut-body": answer(200, b"x" * 1000)[:-500],
    "cut-headers": b"HTTP/1.1 202 Accepted\r\nContent-Le",
    "cut-status": b"HTTP/1.1 20",
    "garbage": b"220 mail.example ESMTP\r\n\r\n\r\n",
    "garbage-later": b"HTTP/1.1 2x2 OK\r\n\r\n",
    "old-http": b"<html>HTTP/0.9 has no status</html>",
    "nothing": b"",
}
for _status in (200, 202, 400, 401, 403, 404, 413, 415, 422, 429, 500, 502, 503, 599):
    ANSWERS["status-%d" % _status] = answer(_status, b'{"message":"%d"}' % _status)

# Sent when all of the request was read; then nothing more, until the client has gone.
STALLS = {
    "stall": b"",
    "stall-status": b"HTTP/1.1 20",
    "stall-headers": b"HTTP/1.1 202 Accepted\r\nContent-Le",
    "stall-body": answer(202, b"x" * 1000)[:-500],
    "stall-no-length": answer(202, b"some", b"", False),
}


def misbehave(request, name):
    sock = request.peer.sock
    if name == "early-413":
        # The rest of the body is unread: the kernel resets the connection.
        sock.sendall(answer(413, b"too large"))
    elif name == "early-413-deaf":
        sock.sendall(answer(413, b"too large"))
        sys.stdin.buffer.raw.read(1)
    elif name == "early-403-endless":
        send_for_ever(sock, answer(403, b"no", b"", False), b"no" * 1000)
    elif name == "early-403-half":
        # Not all of the answer, and then what still comes is counted.
        noted["bytes"] = 0
        sock.sendall(answer(403, b"x" * 1000)[:-500])
        noted["bytes"] = len(request.peer.buf) + wait_end(sock)
    elif name == "early-200":
        # Says what it will do before it has read it all.
        sock.sendall(answer(200, b"x" * 1000)[:-500])
        request.body()
        sock.sendall(b"x" * 500)
    elif name == "early-hang-up":
        pass
    elif name == "early-reset":
        raw_server.reset(sock)
    elif name == "deaf":
        sys.stdin.buffer.raw.read(1)
    elif name == "drip":
        digest = request.body(released[request.key].acquire)
        sock.sendall(answer(202, digest.encode()))
    else:
        return False
    return True


def behave(request, name):
    sock = request.peer.sock
    digest = request.body()
    if name == "bytes":
        # What came, as it came.
        sock.sendall(answer(200, request.head + b"\r\n\r\n" + digest.encode()))
    elif name.startswith("sizes-"):
        lengths = b" ".join(b"%s=%d" % (k, len(v)) for k, v in request.fields.items())
        sock.sendall(answer(200, lengths + b" body " + digest.encode()))
    elif name == "noted":
        sock.sendall(answer(200, b"%d" % noted["bytes"]))
    elif name == "slow-answer":
        for byte in ANSWERS["chunked"]:
            sock.sendall(bytes([byte]))
    elif name == "reset-mid-body":
        sock.sendall(answer(200, b"x" * 1000)[:-500])
        raw_server.reset(sock)
    elif name == "endless-headers":
        send_for_ever(sock, b"HTTP/1.1 202 Accepted\r\n", b"X-Filler: %s\r\n" % (b"y" * 900))
    elif name == "endless-header":
        send_for_ever(sock, b"HTTP/1.1 202 Accepted\r\nX-Filler: ", b"y" * 900)
    elif name == "endless-body":
        send_for_ever(sock, answer(202, b"", b"", False), b"b" * 10000)
    elif name == "endless-chunked":
        send_for_ever(sock, CHUNKED, b"1000\r\n" + b"b" * 4096 + b"\r\n")
    elif name == "endless-100":
        send_for_ever(sock, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    elif name in STALLS:
        sock.sendall(STALLS[name])
        wait_end(sock)
    else:
        sock.sendall(ANSWERS[name])
        if name == "switching":
            wait_end(sock)


def websocket(request):
    peer = request.peer
    peer.sock.sendall(raw_server.accept_answer(request.fields))
    while True:
        opcode, data = peer.read_frame()
        if opcode == 8:
            peer.sock.sendall(raw_server.frame(8, data))
            return
        if opcode in (1, 2):
            released[request.key].release()
            peer.sock.sendall(raw_server.frame(opcode, data))


def serve(sock, context):
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        request = Request(raw_server.Peer(sock))
        if request.name == "ws":
            websocket(request)
        elif not misbehave(request, request.name):
            behave(request, request.name)
    except (ConnectionError, OSError, ValueError, struct.error):
        pass
    finally:
        sock.close()


def accept_all(listener, context):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, context), daemon=True).start()


def tls_context(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key"))
    return context


def main():
    contexts = {"plain": None}
    contexts.update((name, tls_context(sys.argv[1], name)) for name in sys.argv[2:])
    for name, context in contexts.items():
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        # Else the kernel takes a whole request, and nobody is ever slow to read one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        threading.Thread(target=accept_all, args=(listener, context), daemon=True).start()
        print("PORT %s %d" % (name, listener.getsockname()[1]), flush=True)
    print("READY", flush=True)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
