#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""HTTP proxies that know CONNECT only, each with its own way of doing it.

    proxy_server.py MODE...

Prints "PORT MODE N" for each and serves until standard input ends. Every name leads to 127.0.0.1. A request that
is not exactly what a proxy should be sent is answered by 400. Modes:

    ok, auth        lead on; auth wants USER and PASSWORD of below, else 407
    eager           answers, and for the target, too, in one packet
    odd, slow       lead on, after a strange answer, or one that comes byte by byte
    N               refuses with HTTP status N and a page of HTML
    hang, garbage, endless, close, close-early, cut, reset
"""
import base64
import os
import re
import socket
import sys
import threading

import raw_server

USER, PASSWORD = b"someone", b"open:sesame \xc3\xa4"
BASIC = b"Basic " + base64.b64encode(USER + b":" + PASSWORD)
REQUEST = re.compile(
    rb"CONNECT (?P<where>(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\]):(?P<port>[1-9][0-9]*)) HTTP/1\.1\r\n"
    rb"Host: (?P=where)\r\n"
    rb"(Proxy-Authorization: (?P<auth>Basic [A-Za-z0-9+/]+=*)\r\n)?\r\n")
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
EAGER = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"
ANSWERS = {
    "ok": OK,
    "auth": OK,
    # Neither a length nor an encoding means anything here: the tunnel begins behind the empty line.
    "odd": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299 whatever\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
           b"X-Filler: " + b"y" * 9000 + b"\r\n\r\n",
    "slow": OK,
}


def read_request(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("no request")
        data += piece
    return data


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def lead_on(sock, port, answer, slow):
    with socket.create_connection(("127.0.0.1", port)) as target:
        for i in range(len(answer) if slow else 1):
            sock.sendall(answer[i:i + 1] if slow else answer)
        back = threading.Thread(target=pump, args=(target, sock))
        back.start()
        pump(sock, target)
        back.join()


def refuse(sock, status):
    body = b"<html>" + b"no " * 30000
    sock.sendall(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)


def misbehave(sock, mode):
    if mode == "eager":
        # What is peeked at and what is read must not be more than the proxy's own answer.
        sock.sendall(OK + EAGER)
        while sock.recv(65536):
            pass
    elif mode == "garbage":
        sock.sendall(b"220 mail.example ESMTP\r\n\r\n\r\n")
    elif mode == "cut":
        sock.sendall(OK[:-6])
    elif mode == "reset":
        raw_server.reset(sock)
    elif mode == "hang":
        while sock.recv(65536):
            pass
    elif mode == "endless":
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"X-Filler: %s\r\n" % (b"y" * 900))


class Proxy:
    def __init__(self, mode):
        self.mode = mode
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self.accept_all, daemon=True).start()

    def accept_all(self):
        while True:
            sock, _ = self.listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            if self.mode != "close-early":
                self.answer(sock, read_request(sock))
        except OSError:
            pass
        finally:
            sock.close()

    def answer(self, sock, data):
        request = REQUEST.fullmatch(data)
        if not request:
            refuse(sock, 400)
            return
        if self.mode == "auth" and request["auth"] != BASIC:
            refuse(sock, 407)
        elif self.mode in ANSWERS:
            lead_on(sock, int(request["port"]), ANSWERS[self.mode], self.mode == "slow")
        elif self.mode.isdigit():
            refuse(sock, int(self.mode))
        else:
            misbehave(sock, self.mode)


def main():
    for mode in sys.argv[1:]:
        print("PORT %s %d" % (mode, Proxy(mode).listener.getsockname()[1]), flush=True)
    print("READY", flush=True)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main()
