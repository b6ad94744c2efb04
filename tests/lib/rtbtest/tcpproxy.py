# SPDX-License-Identifier: MIT
"""A TCP proxy that is as bad as a network can be: between the daemon and its server, plain or TLS, on 127.0.0.1.

    with TcpProxy(server.port) as proxy:
        daemon(url=proxy.url(server.url))
        proxy.shape(latency_ms=50, jitter_ms=20)            both directions
        proxy.shape(DOWN, slice=1, pause_ms=2)              one byte at a time
        proxy.shape(UP, bandwidth=20_000)                   bytes in a second
        proxy.hole(UP)                                      nothing passes in this direction, no end either, until heal()
        proxy.cut(DOWN, 700, how="rst")                     the next connection ends behind its 700th byte of this direction
        proxy.answer(lambda head: [b"HTTP/1.1 ..."])        the next connection is answered by the test, not by the server
        proxy.drop()                                        all connections end, now
        proxy.refuse(); proxy.accept()                      the port is closed, and open again
        proxy.silence(); proxy.heal()                       connections are taken and never answered
        proxy.slam(5)                                       the next five are reset as soon as they are taken
        proxy.wait(lambda c: c["connections"] > 1, "...")   counters are events

Verbs may be said at any time and hold for what is open and what comes, but for cut(), answer() and slam(), which are for so
many connections to come. One thread carries the bytes; whoever says a verb waits until it holds.
"""

import collections
import random
import selectors
import socket
import struct
import threading
import time
import urllib.parse

from .wait import DEADLINE, Deadline

UP, DOWN, BOTH = "up", "down", "both"  # towards the server, towards the client
HELD_BYTES = 1 << 20  # of one direction of one connection; then its source is not read
READ_BYTES = 65536
HEAD_END = b"\r\n\r\n"


def wall_ms():
    return int(time.time() * 1000)


def _ways(direction):
    assert direction in (UP, DOWN, BOTH), direction
    return (UP, DOWN) if direction == BOTH else (direction,)


def _reset(sock):
    """The other side gets RST."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


class Shape:
    """How one direction of all connections is treated."""

    def __init__(self):
        self.hole = False
        self.set()

    def set(self, latency_ms=0, jitter_ms=0, slice=0, pause_ms=0, bandwidth=0):
        self.latency, self.jitter, self.slice, self.pause, self.bandwidth = latency_ms, jitter_ms, slice, pause_ms, bandwidth

    def held_bytes(self):
        # A slow line with a large buffer would be a slow line with seconds of delay: that is latency_ms.
        return max(2048, self.bandwidth // 20) if self.bandwidth else HELD_BYTES


class Cut:
    """The end of a connection behind a byte."""

    def __init__(self, at, how, after_head):
        self.at, self.how, self.after_head = at, how, after_head


class Pipe:
    """One direction of one connection."""

    def __init__(self, link, name, shape, source, sink, cut):
        self.link, self.name, self.shape, self.source, self.sink, self.cut = link, name, shape, source, sink, cut
        self.queue, self.held, self.passed = collections.deque(), 0, 0
        self.last_due, self.next_write = 0.0, 0.0
        self.blocked = False  # the sink takes no more for now
        self.ended = None     # "fin" or "rst" of the source, behind what is held
        self.over = False     # ... and passed on
        self.head = b"" if cut and cut.after_head else None

    def wants_read(self):
        return self.source is not None and self.ended is None and self.held < self.shape.held_bytes()

    def on_readable(self, now):
        try:
            data = self.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "rst"
            return
        if data:
            self.put(data, now)
        else:
            self.ended = "fin"

    def put(self, data, now):
        delay = (self.shape.latency + random.random() * self.shape.jitter) / 1000
        self.last_due = max(self.last_due, now + delay)
        self.queue.append([self.last_due, memoryview(data)])
        self.held += len(data)
        if self.head is not None:
            self.head += data
            at = self.head.find(HEAD_END)
            if at >= 0:
                self.cut, self.head = Cut(at + len(HEAD_END) + self.cut.at, self.cut.how, False), None

    def cut_at(self):
        return self.cut.at if self.cut and self.head is None else None

    def due(self):
        """When there is something to do; None: not before something comes, or is taken."""
        if self.shape.hole or self.blocked or self.over or self.sink is None:
            return None
        if self.queue:
            return max(self.queue[0][0], self.next_write)
        return 0.0 if self.ended else None

    def step(self, now):
        due = self.due()
        while due is not None and due <= now and not self.link.closed:
            if not self.queue:
                self.over = True
                self.link.on_end(self)
                return
            self.write(now)
            due = self.due()

    def write(self, now):
        data, at = self.queue[0][1], self.cut_at()
        size = len(data)
        if at is not None:
            if self.passed >= at:
                return self.link.on_cut(self.cut.how)
            size = min(size, at - self.passed)
        if self.shape.slice:
            size = min(size, self.shape.slice)
        if self.shape.bandwidth:
            size = min(size, max(1, self.shape.bandwidth // 50))
        try:
            sent = self.sink.send(data[:size])
        except BlockingIOError:
            self.blocked = True
            return None
        except OSError:
            return self.link.close("rst")
        self.passed += sent
        self.held -= sent
        self.link.proxy.passed[self.name] += sent
        if sent == len(data):
            self.queue.popleft()
        else:
            self.queue[0][1] = data[sent:]
        if self.shape.pause:
            self.next_write = now + self.shape.pause / 1000
        if self.shape.bandwidth:
            self.next_write = max(self.next_write, now + sent / self.shape.bandwidth)
        if at is not None and self.passed == at:
            self.link.on_cut(self.cut.how)
        return None


class Link:
    """A client's connection and the one to the server."""

    def __init__(self, proxy, client, server, cuts):
        self.proxy, self.client, self.server, self.closed = proxy, client, server, False
        self.connecting = server is not None
        self.up = Pipe(self, UP, proxy.shapes[UP], client, server, cuts.get(UP))
        self.down = Pipe(self, DOWN, proxy.shapes[DOWN], server, client, cuts.get(DOWN))
        self.interest = {}

    def pipes(self):
        return self.up, self.down

    def on_event(self, sock, mask, now):
        if self.closed:
            return
        if sock is self.server and self.connecting:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.close("rst")
                return
            self.connecting = False
        reader, writer = (self.up, self.down) if sock is self.client else (self.down, self.up)
        if mask & selectors.EVENT_WRITE:
            writer.blocked = False
        if mask & selectors.EVENT_READ and reader.wants_read():
            reader.on_readable(now)

    def step(self, now):
        for pipe in self.pipes():
            if not self.closed and not (self.connecting and pipe is self.up):
                pipe.step(now)

    def due(self):
        found = [d for p in self.pipes() if not (self.connecting and p is self.up) and (d := p.due()) is not None]
        return min(found, default=None)

    def on_end(self, pipe):
        """A source has ended, and all that it said has been passed on."""
        if pipe.ended == "rst":
            self.close("rst")
        elif self.up.over and self.down.over:
            self.close("fin")
        else:
            try:
                pipe.sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.close("rst")

    def on_cut(self, how):
        self.proxy.counters["cut"] += 1
        self.close(how)

    def close(self, how):
        if self.closed:
            return
        self.closed = True
        for sock in self.interest:
            self.proxy.selector.unregister(sock)
        self.interest = {}
        for sock in (self.client, self.server):
            if sock is not None and how == "rst":
                _reset(sock)
            elif sock is not None:
                self.proxy.bury(sock)
        self.proxy.on_closed(self)

    def wanted(self, sock):
        reader, writer = (self.up, self.down) if sock is self.client else (self.down, self.up)
        mask = selectors.EVENT_READ if reader.wants_read() else 0
        if writer.blocked or (sock is self.server and self.connecting):
            mask |= selectors.EVENT_WRITE
        return mask

    def watch(self):
        if self.closed:
            return
        for sock in (self.client, self.server):
            if sock is None:
                continue
            new, old = self.wanted(sock), self.interest.get(sock, 0)
            if new and not old:
                self.proxy.selector.register(sock, new, self)
                self.interest[sock] = new
            elif old and not new:
                self.proxy.selector.unregister(sock)
                del self.interest[sock]
            elif new != old:
                self.proxy.selector.modify(sock, new, self)
                self.interest[sock] = new


class Buried:
    """A socket that said FIN and is read until the other side ends, too: closed at once, it might say RST."""

    def __init__(self, proxy, sock):
        self.proxy, self.sock = proxy, sock
        proxy.selector.register(sock, selectors.EVENT_READ, self)

    def on_event(self, sock, mask, now):
        try:
            if sock.recv(READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.proxy.selector.unregister(sock)
        sock.close()
        self.proxy.buried.discard(self)


class Scripted(Link):
    """A client's connection that the test answers: make(head of the request) gives pieces of bytes, maybe without an end."""

    def __init__(self, proxy, client, make, then):
        super().__init__(proxy, client, None, {})
        self.make, self.then, self.request, self.pieces = make, then, b"", None

    def on_event(self, sock, mask, now):
        if mask & selectors.EVENT_WRITE:
            self.down.blocked = False
        if mask & selectors.EVENT_READ and self.up.wants_read():
            self.up.on_readable(now)

    def step(self, now):
        while self.up.queue:  # what the client says later is read, for a client that never reads would be seen otherwise
            data = self.up.queue.popleft()[1]
            self.up.held -= len(data)
            if self.pieces is None:
                self.request += data
        if self.pieces is None and HEAD_END in self.request:
            self.pieces = iter(self.make(self.request.partition(HEAD_END)[0]))
        while self.pieces is not None and self.down.ended is None and self.down.held < READ_BYTES:
            piece = next(self.pieces, None)
            if piece is None:
                self.down.ended = self.then
            elif piece:
                self.down.put(piece, now)
        if self.up.ended and not self.proxy.shapes[UP].hole:
            self.close("rst")
        else:
            self.down.step(now)

    def due(self):
        more = self.pieces is not None and self.down.ended is None
        return 0.0 if more and not (self.down.blocked or self.down.queue or self.down.shape.hole) else self.down.due()

    def on_end(self, pipe):
        if pipe.ended != "hold":
            self.close(pipe.ended)


class TcpProxy:
    """target: a port of 127.0.0.1, or (host, port); may be changed at any time, for connections to come.

    listen: the address to listen at, on an ephemeral port. rcvbuf: SO_RCVBUF of the client's side, so that a slow line
    is felt by who writes to it, and not by kilobytes of the kernel.
    """

    def __init__(self, target, rcvbuf=None, listen="127.0.0.1"):
        self.target = target if isinstance(target, tuple) else ("127.0.0.1", target)
        self.rcvbuf = rcvbuf
        self.shapes = {UP: Shape(), DOWN: Shape()}
        self.cuts = {UP: collections.deque(), DOWN: collections.deque()}
        self.scripts = collections.deque()  # [make, then, count]
        self.links, self.buried = set(), set()
        self.slams = 0
        self.counters = {"connections": 0, "cut": 0, "scripted": 0, "slammed": 0, "failed": 0}
        self.passed = {UP: 0, DOWN: 0}
        self.ended_ms = []  # wall clock: when connections ended
        self.selector = selectors.DefaultSelector()
        self.news = threading.Condition()
        self.orders = collections.deque()
        self.error, self.stopping, self.seen = None, False, None
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.wake_write.setblocking(False)
        self.selector.register(self.wake_read, selectors.EVENT_READ, None)
        self.listener, self.reserved = None, None
        self.host, self.port = listen, 0
        self._bind()
        self._listen()
        self.thread = threading.Thread(target=self._run, name="tcpproxy", daemon=True)
        self.thread.start()

    # ---- verbs ----

    def url(self, url):
        """The same with this proxy's address."""
        at = urllib.parse.urlparse(url)
        return at._replace(netloc=f"{self.host}:{self.port}").geturl()

    def shape(self, direction=BOTH, **what):
        """latency_ms, jitter_ms (more, at random), slice and pause_ms (so many bytes at a time, and how long between),
        bandwidth (bytes in a second). What is not named is as in a good network."""
        self._do(lambda: [self.shapes[d].set(**what) for d in _ways(direction)])

    def hole(self, direction=BOTH):
        self._do(lambda: [setattr(self.shapes[d], "hole", d in _ways(direction)) for d in (UP, DOWN)])

    def heal(self):
        """A good network again: no hole, no shape, no cut to come. What was held back passes."""

        def do():
            for d in (UP, DOWN):
                self.shapes[d].hole = False
                self.shapes[d].set()
                self.cuts[d].clear()
            self.scripts.clear()
            self.slams = 0

        self._do(do)

    def cut(self, direction, at, how="rst", count=1, after_head=False, drop=False):
        """The next `count` connections end when `at` bytes have passed in this direction, with "rst" or "fin".

        after_head: counted from the end of the HTTP head that comes first. drop: and all that are there end now; with a
        drop() of its own, a connection that comes between the two would take the cut away unused.
        """
        assert direction in (UP, DOWN) and how in ("rst", "fin")

        def do():
            self.cuts[direction].extend([Cut(at, how, after_head) for _ in range(count)])
            if drop:
                self._drop("rst")

        self._do(do)

    def answer(self, make, count=1, then="hold"):
        """The next `count` (-1: all) connections get what make(head of the request) gives: bytes in pieces, as they are
        taken. then: "hold" (until the client ends it), "fin" or "rst"."""
        assert then in ("hold", "fin", "rst")
        self._do(lambda: self.scripts.append([make, then, count]))

    def silence(self):
        """Connections to come are taken and never answered, until heal()."""
        self.answer(lambda head: [], count=-1)

    def slam(self, count=1):
        """The next `count` connections (-1: all, until heal()) are reset as soon as they are taken."""
        self._do(lambda: setattr(self, "slams", count))

    def drop(self, how="rst"):
        """All connections end now. Returns how many."""
        return self._do(lambda: self._drop(how))

    def refuse(self):
        """The port is closed: connections are refused by the system. Nobody else can take it meanwhile."""
        self._do(lambda: self.listener and (self._unlisten(), self._bind()))

    def accept(self):
        self._do(lambda: self.listener or self._listen())

    # ---- what was seen ----

    def counts(self):
        """connections (ever), open, cut, scripted, slammed, failed (the server was not reached), up and down (bytes)."""
        return self._do(self._counts)

    def wait(self, condition, what, seconds=DEADLINE):
        """Until condition(counts) is true; returns them."""
        end = Deadline(seconds)
        with self.news:
            while True:
                if self.error:
                    raise self.error
                counts = self._counts()
                if condition(counts):
                    return counts
                self.news.wait(min(end.left(f"{what}; {counts}"), 0.2))

    def ends(self):
        """When connections ended, in ms of the wall clock."""
        return self._do(lambda: list(self.ended_ms))

    # ---- the thread ----

    def _drop(self, how):
        links = list(self.links)
        for link in links:
            link.close(how)
        return len(links)

    def _counts(self):
        return dict(self.counters, open=len(self.links), **self.passed)

    def _do(self, order):
        done, box = threading.Event(), []
        with self.news:
            if self.error:
                raise self.error
            assert not self.stopping, "the proxy was stopped"
            self.orders.append((order, done, box))
        self._wake()
        while not done.wait(0.5):
            if not self.thread.is_alive():
                raise self.error or AssertionError("the proxy has ended")
        if isinstance(box[0], Exception):
            raise box[0]
        return box[0]

    def _wake(self):
        try:
            self.wake_write.send(b"x")
        except BlockingIOError:
            pass  # it is awake

    def _bind(self):
        self.reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind((self.host, self.port))
        self.port = self.reserved.getsockname()[1]

    def _listen(self):
        self.listener, self.reserved = self.reserved, None
        if self.rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.rcvbuf)
        self.listener.setblocking(False)
        self.listener.listen(128)
        self.selector.register(self.listener, selectors.EVENT_READ, None)

    def _unlisten(self):
        self.selector.unregister(self.listener)
        self.listener.close()
        self.listener = None

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.counters["connections"] += 1
            if self.slams:
                self.slams -= self.slams > 0
                self.counters["slammed"] += 1
                _reset(client)
            else:
                self._open(client)

    def _open(self, client):
        if self.scripts:
            make, then, count = self.scripts[0]
            self.scripts[0][2] = count - 1 if count > 0 else count
            if self.scripts[0][2] == 0:
                self.scripts.popleft()
            self.counters["scripted"] += 1
            self.links.add(Scripted(self, client, make, then))
            return
        cuts = {d: queue.popleft() for d, queue in self.cuts.items() if queue}
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setblocking(False)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.connect_ex(self.target) not in (0, 115):  # EINPROGRESS
            self.counters["failed"] += 1
            _reset(client)
            server.close()
            return
        self.links.add(Link(self, client, server, cuts))

    def bury(self, sock):
        try:
            sock.shutdown(socket.SHUT_WR)
            self.buried.add(Buried(self, sock))
        except OSError:
            sock.close()

    def on_closed(self, link):
        self.links.discard(link)
        self.ended_ms.append(wall_ms())
        if link.connecting:
            self.counters["failed"] += 1

    def _timeout(self, now):
        due = min((d for link in self.links if (d := link.due()) is not None), default=None)
        return None if due is None else max(0.0, due - now)

    def _turn(self):
        events = self.selector.select(self._timeout(time.monotonic()))
        now = time.monotonic()
        for key, mask in events:
            if key.fileobj is self.wake_read:
                self.wake_read.recv(4096)
            elif key.fileobj is self.listener:
                self._accept()
            elif key.data is not None:
                key.data.on_event(key.fileobj, mask, now)
        with self.news:
            orders, self.orders = self.orders, collections.deque()
        for order, done, box in orders:
            try:
                box.append(order())
            except Exception as e:
                box.append(e)
            done.set()
        now = time.monotonic()
        for link in list(self.links):
            link.step(now)
            link.watch()
        counts = self._counts()
        if counts != self.seen:
            with self.news:
                self.seen = counts
                self.news.notify_all()

    def _run(self):
        try:
            while not self.stopping:
                self._turn()
        except Exception as e:
            with self.news:
                self.error = e
                self.news.notify_all()
        finally:
            for link in list(self.links):
                link.close("rst")
            for sock in (self.listener, self.reserved, *(b.sock for b in self.buried)):
                if sock is not None:
                    sock.close()
            self.selector.close()

    def stop(self):
        self.stopping = True
        self._wake()
        self.thread.join(DEADLINE)
        self.wake_read.close()
        self.wake_write.close()
        if self.error:
            raise self.error

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.stop()
