#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The proxy of the tests does to connections what its verbs say, and nothing else."""

import os
import socket
import threading
import time
import unittest

from rtbtest.tcpproxy import BOTH, DOWN, UP, TcpProxy
from rtbtest.wait import DEADLINE, until


class Echo:
    """Sends back what it gets; b"dump N" is answered with N bytes. How each connection ended is remembered."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends, self.got = [], []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.got.append(bytearray())
            threading.Thread(target=self.serve, args=(sock, self.got[-1]), daemon=True).start()

    def serve(self, sock, got):
        try:
            with sock:
                while data := sock.recv(65536):
                    got += data
                    sock.sendall(b"d" * int(data[5:]) if data.startswith(b"dump ") else data)
            self.ends.append("fin")
        except OSError:
            self.ends.append("rst")

    def wait_end(self):
        return until(lambda: self.ends, "the server has seen the end")[0]


class Test(unittest.TestCase):
    def setUp(self):
        self.echo = Echo()
        self.addCleanup(self.echo.listener.close)
        self.proxy = TcpProxy(self.echo.port)
        self.addCleanup(self.proxy.stop)

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.proxy.port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        return sock

    @staticmethod
    def read(sock, n):
        data = bytearray()
        while len(data) < n:
            piece = sock.recv(min(n - len(data), 262144))
            if not piece:
                break
            data += piece
        return bytes(data)

    def exchange(self, sock, data=b"hello"):
        sock.sendall(data)
        self.assertEqual(self.read(sock, len(data)), data)

    def refused(self):
        with self.assertRaises(ConnectionRefusedError):
            self.connect()

    def nothing_comes(self, sock):
        """Now. The order of the test has made sure that the proxy had its chance: see held()."""
        sock.setblocking(False)
        with self.assertRaises(BlockingIOError):
            sock.recv(1)
        sock.settimeout(DEADLINE)

    def test_passes_all(self):
        sock = self.connect()
        data = os.urandom(3_000_000)
        thread = threading.Thread(target=sock.sendall, args=(data,))
        thread.start()
        self.assertEqual(self.read(sock, len(data)), data)
        thread.join()
        counts = self.proxy.counts()
        self.assertEqual((counts["connections"], counts["open"], counts["up"], counts["down"]), (1, 1, len(data), len(data)))
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(sock.recv(1), b"")
        self.assertEqual(self.echo.wait_end(), "fin")
        self.proxy.wait(lambda c: c["open"] == 0, "it has ended")

    def test_is_fast(self):
        sock = self.connect()
        start = time.monotonic()
        sock.sendall(b"dump 50000000")
        self.assertEqual(len(self.read(sock, 50_000_000)), 50_000_000)
        self.assertGreater(50 / (time.monotonic() - start), 5, "MB/s")

    def test_half_close(self):
        sock = self.connect()
        sock.sendall(b"dump 100000")
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(len(self.read(sock, 100001)), 100000)

    def test_latency(self):
        sock = self.connect()
        self.exchange(sock)
        self.proxy.shape(latency_ms=60, jitter_ms=20)
        start = time.monotonic()
        self.exchange(sock)
        self.assertGreater(time.monotonic() - start, 0.12)
        for _ in range(20):  # jitter changes no order
            sock.sendall(b"0123456789")
        self.assertEqual(self.read(sock, 200), b"0123456789" * 20)
        self.proxy.shape(DOWN)
        start = time.monotonic()
        self.exchange(sock)
        self.assertGreater(time.monotonic() - start, 0.06)

    def test_slices(self):
        sock = self.connect()
        self.proxy.shape(DOWN, slice=3, pause_ms=5)
        sock.sendall(b"x" * 30)
        start, pieces = time.monotonic(), []
        while sum(map(len, pieces)) < 30:
            pieces.append(sock.recv(100))
        self.assertGreaterEqual(len(pieces), 5)
        self.assertGreater(time.monotonic() - start, 0.04)

    def test_bandwidth(self):
        sock = self.connect()
        self.proxy.shape(DOWN, bandwidth=100_000)
        start = time.monotonic()
        sock.sendall(b"dump 40000")
        self.assertEqual(len(self.read(sock, 40000)), 40000)
        took = time.monotonic() - start
        self.assertGreater(took, 0.3)
        self.assertEqual(self.proxy.counts()["up"], 10)

    def test_bandwidth_is_felt_by_who_writes(self):
        proxy = TcpProxy(self.echo.port, rcvbuf=4096)
        self.addCleanup(proxy.stop)
        proxy.shape(UP, bandwidth=1000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sock.connect(("127.0.0.1", proxy.port))
            sock.setblocking(False)
            sent = 0
            with self.assertRaises(BlockingIOError):
                while sent < 10_000_000:
                    sent += sock.send(b"x" * 1000)
            self.assertLess(sent, 300_000)

    def test_holes(self):
        for direction in UP, DOWN, BOTH:
            with self.subTest(direction):
                sock = self.connect()
                self.exchange(sock)
                n, before = len(self.echo.got), self.proxy.counts()
                self.proxy.hole(direction)
                sock.sendall(b"lost?")
                if direction == DOWN:
                    until(lambda: self.echo.got[n - 1].endswith(b"lost?"), "it has passed in the other direction")
                else:
                    # What comes behind it through another proxy has come: so this one had its chance.
                    with TcpProxy(self.echo.port) as other, socket.create_connection(("127.0.0.1", other.port)) as marker:
                        self.exchange(marker)
                    self.assertFalse(self.echo.got[n - 1].endswith(b"lost?"))
                self.nothing_comes(sock)
                self.assertEqual(self.proxy.counts()["down"], before["down"])
                self.proxy.heal()
                self.assertEqual(self.read(sock, 5), b"lost?")

    def test_a_hole_hides_the_end(self):
        sock = self.connect()
        self.exchange(sock)
        self.proxy.hole()
        sock.close()
        other = self.connect()  # taken, and nothing passes
        other.sendall(b"x")
        self.proxy.wait(lambda c: c["connections"] == 2, "the second one is taken")
        self.assertEqual(self.echo.ends, [])
        self.proxy.heal()
        self.assertEqual(self.read(other, 1), b"x")
        self.echo.wait_end()

    def test_cuts(self):
        for how in "rst", "fin":
            for at in 0, 1, 17, 4096, 100_000:
                with self.subTest(how=how, at=at):
                    self.proxy.cut(DOWN, at, how=how)
                    sock = self.connect()
                    sock.sendall(b"dump 200000")
                    got, end = b"", None
                    try:
                        while piece := sock.recv(65536):
                            got += piece
                        end = "fin"
                    except ConnectionResetError:
                        end = "rst"
                    self.assertEqual((len(got) if how == "fin" else min(len(got), at), end), (at if how == "fin" else len(got), how))
        self.exchange(self.connect())
        self.assertEqual(self.proxy.counts()["cut"], 10)
        self.assertEqual(len(self.proxy.ends()), 10)

    def test_cut_of_what_is_sent(self):
        self.proxy.cut(UP, 3)
        sock = self.connect()
        sock.sendall(b"0123456789")
        with self.assertRaises(ConnectionResetError):
            while sock.recv(10):
                pass
        self.echo.wait_end()
        self.assertEqual(b"012"[:len(self.echo.got[0])], bytes(self.echo.got[0]))

    def test_cut_behind_a_head(self):
        self.proxy.cut(DOWN, 2, how="fin", after_head=True)
        sock = self.connect()
        for piece in b"HTTP/1.1 101 x\r\n", b"a: b\r\n\r", b"\nframe":
            sock.sendall(piece)
        self.assertEqual(self.read(sock, 100), b"HTTP/1.1 101 x\r\na: b\r\n\r\nfr")

    def test_cut_and_drop(self):
        """Those that are there end, and none of them is the one that is cut."""
        there = [self.connect() for _ in range(3)]
        for sock in there:
            self.exchange(sock)
        self.proxy.cut(DOWN, 2, drop=True)
        self.assertEqual((self.proxy.counts()["open"], self.proxy.counts()["cut"]), (0, 0))
        for sock in there:
            with self.assertRaises(ConnectionResetError):
                sock.recv(1)
        sock = self.connect()
        sock.sendall(b"0123456789")
        with self.assertRaises(ConnectionResetError):
            while sock.recv(10):
                pass
        self.proxy.wait(lambda c: c["cut"] == 1, "the cut")

    def test_answers(self):
        heads = []

        def make(head):
            heads.append(head)
            yield b"HTTP/1.1 503 no\r\n"
            yield b"\r\n"

        self.proxy.answer(make, then="fin")
        sock = self.connect()
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nmore")
        self.assertEqual(self.read(sock, 100), b"HTTP/1.1 503 no\r\n\r\n")
        self.assertEqual(heads, [b"GET / HTTP/1.1\r\nhost: x"])
        self.exchange(self.connect())

    def test_an_endless_answer(self):
        self.proxy.answer(lambda head: iter(lambda: b"z" * 10000, None))
        sock = self.connect()
        sock.sendall(b"GET\r\n\r\n")
        self.assertEqual(len(self.read(sock, 5_000_000)), 5_000_000)
        sock.close()
        self.proxy.wait(lambda c: c["open"] == 0, "it has ended")

    def test_silence(self):
        self.proxy.silence()
        sock = self.connect()
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.proxy.wait(lambda c: c["scripted"] == 1, "it is taken")
        self.proxy.heal()
        self.exchange(self.connect())
        self.nothing_comes(sock)
        sock.close()
        self.proxy.wait(lambda c: c["open"] == 1, "the silent one has ended")

    def test_slam(self):
        self.proxy.slam(3)
        for _ in range(3):
            with self.assertRaises(ConnectionError):
                sock = self.connect()
                sock.sendall(b"x")
                while sock.recv(1):
                    pass
        self.exchange(self.connect())
        self.proxy.slam(-1)
        with self.assertRaises(ConnectionError):
            self.exchange(self.connect())
        self.proxy.heal()
        self.exchange(self.connect())
        self.assertEqual((self.proxy.counts()["slammed"], self.echo.ends), (4, []))

    def test_refuse(self):
        sock = self.connect()
        self.exchange(sock)
        for _ in range(3):
            self.proxy.refuse()
            self.proxy.refuse()
            self.refused()
            self.exchange(sock)  # what is open stays
            self.proxy.accept()
            self.proxy.accept()
            self.exchange(self.connect())

    def test_drop(self):
        for how, want in ("rst", "rst"), ("fin", "fin"):
            self.echo.ends.clear()
            sock = self.connect()
            self.exchange(sock)
            self.assertEqual(self.proxy.drop(how), 1)
            try:
                self.assertEqual((sock.recv(1), how), (b"", "fin"))
            except ConnectionResetError:
                self.assertEqual(how, "rst")
            self.assertEqual(self.echo.wait_end(), want)
            sock.close()

    def test_without_a_server(self):
        self.echo.listener.close()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.proxy.target = ("127.0.0.1", free.getsockname()[1])
        # The reset may be faster than the end of our connect().
        with self.assertRaises(ConnectionResetError):
            self.connect().recv(1)
        self.proxy.wait(lambda c: c["failed"] == 1 and c["open"] == 0, "it has failed")

    def test_a_server_that_ends_without_reading(self):
        """RST goes on as RST."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.proxy.target = ("127.0.0.1", listener.getsockname()[1])
        sock = self.connect()
        sock.sendall(b"x" * 100)
        far, _ = listener.accept()
        until(lambda: far.recv(1, socket.MSG_PEEK), "it has come")
        far.close()
        with self.assertRaises(ConnectionResetError):
            sock.recv(1)
        listener.close()

    def test_many_at_once(self):
        socks = [self.connect() for _ in range(60)]
        self.proxy.shape(latency_ms=1, jitter_ms=5, slice=100)
        for i, sock in enumerate(socks):
            sock.sendall(bytes([i]) * 1000)
        for i, sock in enumerate(socks):
            self.assertEqual(self.read(sock, 1000), bytes([i]) * 1000)


if __name__ == "__main__":
    unittest.main()
