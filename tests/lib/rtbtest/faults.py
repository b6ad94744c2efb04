# SPDX-License-Identifier: MIT
"""Stories on what the network and the server do to the connection: a proxy in front of the server, numbered messages all
the time, and the checker at the end.

    class Test(FaultStory):
        def test_reset(self):
            self.proxy.drop()
            self.flow_until(lambda: self.proxy.counts()["connections"] > 1)
            self.settle()                       everything works again, and nothing was lost, repeated or told falsely
"""

import base64
import hashlib
import json
import select
import struct
import time

from .checker import Checker, seal
from .daemon import Daemon
from .devserver import Closed, Refused
from .outside import Outside
from .peer import Closed as PeerClosed
from .peer import Peer, RequestError
from .sends import fresh
from .story import Story, binary
from .tcpproxy import TcpProxy, wall_ms
from .wait import DEADLINE, Deadline, until

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


# ---- answers for TcpProxy.answer() ----

def http(status, body=b"", reason="Whatever", **headers):
    """An HTTP answer. Names of headers with _ for -."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return lambda head: [("\r\n".join(lines) + "\r\n\r\n").encode() + body]


def accept_head(head, key=None, **headers):
    """The right answer to an upgrade, unless `key` is another one's. Other requests have no key."""
    if key is None:
        keys = [line.split(b":", 1)[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")]
        key = keys[0].strip().decode() if keys else ""
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(opcode, payload=b"", fin=True, announce=None):
    """A server's frame; `announce` lies about its size."""
    size = len(payload) if announce is None else announce
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([size])
    elif size < 65536:
        head += bytes([126]) + struct.pack("!H", size)
    else:
        head += bytes([127]) + struct.pack("!Q", size)
    return head + payload


def upgraded(*frames):
    """An upgrade, and these bytes behind it; a callable among them gives pieces of bytes, maybe without an end."""

    def make(head):
        yield accept_head(head)
        for piece in frames:
            if callable(piece):
                yield from piece()
            else:
                yield piece

    return make


# ---- who talks, who hears ----

class Far:
    """A client past the daemon and past the proxy, which comes back by itself: a sender, or a witness of some topics.

    connect(): a new Outside that has joined what it shall hear; it fails while the server is away. Its identity has to be
    one of its own in the server's log.
    """

    def __init__(self, field, connect, witness_of=()):
        self.field, self.connect, self.witness_of = field, connect, witness_of
        self.client, self.heard_ms, self.next_try, self.asked = None, wall_ms(), 0.0, None
        self.come()

    def come(self):
        if time.monotonic() < self.next_try:
            return
        try:
            self.client = self.connect()
        except (OSError, AssertionError, Closed, Refused):
            self.next_try = time.monotonic() + 0.05
            return
        for topic in self.witness_of:
            self.field.checker.witness(topic).gone(self.heard_ms, wall_ms())
        self.heard_ms = wall_ms()

    def lost(self):
        self.client.abort()
        self.client = self.asked = None

    def say(self, topic, payload):
        """Whether it could be given away."""
        if self.client is None:
            self.come()
            return False
        try:
            self.client.broadcast(topic, "n", payload)
            return True
        except OSError:
            self.lost()
            return False

    def pump(self):
        """Takes what is there."""
        if self.client is None:
            self.come()
            return
        try:
            while True:
                got = self.client._parse()
                if got is None:
                    if not (getattr(self.client.sock, "pending", int)() or select.select([self.client.sock], [], [], 0)[0]):
                        return
                    self.client._more(Deadline(5), "what is there")
                    continue
                if got[0] == 8:
                    raise Closed(1005)
                self.heard_ms = wall_ms()
                self.take_answer(*got)
                one = self.message(*got)
                if one and one[0] in self.witness_of:
                    self.field.hears(*one)
        except (Closed, OSError):
            self.lost()

    def message(self, opcode, data):
        """(topic, payload) of a frame, or None."""
        one = self.client._broadcast(opcode, data)
        return one and (one[0], one[2])

    def beat(self):
        """So that the server keeps it. Returns the heartbeat's ref, or None."""
        if self.client is not None:
            try:
                return self.client.push("phoenix", "heartbeat", {}, join_ref=None)
            except OSError:
                self.lost()
        return None

    def ask(self):
        """What the server has sent to it so far is here when is_here()."""
        self.asked = self.beat()

    def is_here(self):
        return self.client is not None and self.asked is None

    def take_answer(self, opcode, data):
        if self.asked is not None and opcode == 1:
            message = json.loads(data)
            ref, event = (message["ref"], message["event"]) if isinstance(message, dict) else (message[1], message[3])
            if event == "phx_reply" and ref == self.asked:
                self.asked = None

    def close(self):
        if self.client is not None:
            self.client.abort()


class Mouth:
    """A sender. far: one past the daemon; else by a peer, whose answers are outcomes."""

    def __init__(self, field, name, topic, peer=None, far=None, via="ws", size=0, **params):
        self.field, self.name, self.topic, self.peer, self.far, self.n = field, name, topic, peer, far, 0
        self.size, self.params, self.waiting, self.last = size, dict(params, via=via), {}, None

    def send(self, size=None):
        """The next number; returns it."""
        n, payload = self.n, seal(self.name, self.n, self.size if size is None else size)
        if self.far:
            if self.far.client is None and not self.far.say(self.topic, None):
                return None
            self.field.checker.sent(self.name, n, self.topic, wall_ms())
            self.n += 1
            self.far.say(self.topic, payload)
            return n
        self.n += 1
        self.field.checker.sent(self.name, n, self.topic, wall_ms(), local=True)
        id = self.peer.request("broadcast", dict(self.params, topic=self.topic, event="n", payload=payload))
        self.waiting[id] = n
        return n

    def pump(self):
        for id in [id for id in self.waiting if id in self.peer.responses]:
            n = self.waiting.pop(id)
            try:
                result = self.peer.result(id)
                word, way = result["outcome"], result.get("via")
            except RequestError as e:
                word, way = "refused", None
                self.field.refusals.append((self.name, n, str(e)))
            self.field.checker.outcome(self.name, n, word, wall_ms(), way)


class Field:
    """Who talks and who hears, around one daemon, in one thread: pump() reads what there is and tells the checker."""

    def __init__(self, checker=None):
        self.checker = checker or Checker()
        self.peers, self.fars, self.mouths, self.refusals = {}, [], [], []
        self.heard = set()   # (topic, sender, n) of witnesses
        self.beaten = time.monotonic()
        self.on_notice = lambda peer, method, notice: None  # what is left

    def ear(self, peer, name, topic, own=None, elsewhere=False, **params):
        """A subscription, heard from its answer on."""
        answer = peer.subscribe(topic, **dict({"timeout_ms": 60000}, **params))
        return self.hear(peer, answer["chan"], name, topic, own=own, elsewhere=elsewhere)

    def hear(self, peer, chan, name, topic, **kwargs):
        """A subscription was answered."""
        listener = self.peers.setdefault(peer, {})[chan] = self.checker.listener(name, topic, wall_ms(), **kwargs)
        return listener

    def mouth(self, name, topic, peer=None, far=None, **params):
        mouth = Mouth(self, name, topic, peer, far, **params)
        if peer is not None:
            self.peers.setdefault(peer, {})
        self.mouths.append(mouth)
        return mouth

    def far(self, connect, *witness_of):
        far = Far(self, connect, witness_of)
        self.fars.append(far)
        return far

    def hears(self, topic, payload):
        self.checker.witness(topic).broadcast(payload, wall_ms())
        self.heard.add((topic, payload["s"], payload["n"]))

    def leave(self, peer):
        """It is read no more: closed, killed, or slow by intention."""
        for listener in self.peers.pop(peer, {}).values():
            listener.ended(wall_ms())

    def pump(self, seconds=0.0):
        """Reads what there is, at the latest what comes in this time. A peer that the daemon closes is a failure."""
        socks = [p.sock for p in self.peers] + [f.client.sock for f in self.fars if f.client]
        ready = set(select.select(socks, [], [], seconds)[0])
        for peer in list(self.peers):
            if peer.sock in ready:
                peer.drain()
            self.take(peer)
        for far in self.fars:
            far.pump()
        for mouth in self.mouths:
            if mouth.peer is not None:
                mouth.pump()
        if time.monotonic() > self.beaten + 10:
            self.beaten = time.monotonic()
            for far in self.fars:
                far.beat()

    def take(self, peer):
        ears, now = self.peers[peer], wall_ms()
        notices, peer.notices = peer.notices, []
        for method, n in notices:
            ear = ears.get(n.get("chan"))
            if ear is not None and method == "broadcast":
                ear.broadcast(n["payload"], now, n.get("undecodable", False))
            elif ear is not None and method in ("gap", "channel"):
                getattr(ear, method)(n, now)
                self.on_notice(peer, method, n)
            else:
                self.on_notice(peer, method, n)

    def pump_until(self, condition, what, seconds=DEADLINE):
        end = Deadline(seconds)
        while not (value := condition()):
            self.pump(min(0.05, end.left(what)))
        return value

    def hear_out(self):
        """Waits until those past the daemon are there, and have all that the server had for them when this began: what it has
        answered to one socket may still be on its way to another."""
        for far in self.fars:
            far.ask()
        self.pump_until(lambda: all(far.is_here() for far in self.fars), "those past the daemon have heard it all")

    def unanswered(self):
        return sum(len(m.waiting) for m in self.mouths)


def has(listener, sender, n):
    return any(e[0] == "message" and isinstance(e[2], dict) and (e[2].get("s"), e[2].get("n")) == (sender, n)
               for e in listener.events)


class FaultStory(Story):
    """One topic: ann (a local sender), bob and cid (local listeners), far (a sender past the daemon), a witness.

    The daemon reaches the server by self.proxy, and finds out about a dead connection within two seconds.
    """

    server_options = {"max_channels": 1000}
    upstream = {}
    rcvbuf = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(cls.make_server())
        cls.key = cls.server.token(role="anon")
        cls.proxy = cls.enterClassContext(TcpProxy(cls.server.port, rcvbuf=cls.rcvbuf))
        cls.daemon = cls.enterClassContext(cls.behind(cls.proxy))
        with Peer(cls.daemon.socket) as peer:
            cls.wait_online(peer)

    @classmethod
    def behind(cls, proxy, server=None, **kwargs):
        """A daemon that reaches the server by this proxy."""
        upstream = {"backoff_min": "50ms", "backoff_max": "400ms", "heartbeat": "1s", "heartbeat_reply": "800ms",
                    "attempt_timeout": "2s", "connect_timeout": "1s", "joins_per_second": "100"}
        sections = {name: dict(keys) for name, keys in cls.sections.items()}
        sections["upstream"] = dict(upstream, **cls.upstream)
        server = server or cls.server
        return Daemon(binary("rtbridged"), proxy.url(server.url), server.token(role="anon"), sections=sections, **kwargs)

    def setUp(self):
        self.addCleanup(self.server.fault, op="clear")
        self.proxy.accept()
        self.proxy.heal()
        self.open(self.daemon)

    def open(self, daemon, topic=None):
        """A field of its own around a daemon; the first message of each sender has come."""
        self.field, self.topic = Field(), topic or fresh("fault")
        self.control = self.peer(daemon)
        self.wait_online(self.control)
        self.ann, self.bob, self.cid = (self.peer(daemon, name=name) for name in ("ann", "bob", "cid"))
        self.ears = [self.field.ear(peer, name, self.topic) for peer, name in ((self.bob, "bob"), (self.cid, "cid"))]
        self.field.mouth("ann", self.topic, self.ann)
        self.field.mouth("far", self.topic, far=self.field.far(self.connect_far))
        self.field.far(self.connect_far, self.topic)
        for far in self.field.fars:
            self.addCleanup(far.close)
        self.log_from = self.server_log_size()
        self.field.checker.knows_joins_of(self.topic)
        self.markers()

    def connect_far(self):
        client = Outside(self.server.url, self.server.token(role="anon", sub="past the daemon"))
        client.join(self.topic)
        return client

    def server_log_size(self):
        entries = self.server.log()
        return entries[-1]["n"] if entries else 0

    # ---- what goes on ----

    def say(self, size=0):
        for mouth in self.field.mouths:
            if len(mouth.waiting) < 300:
                mouth.send(size)

    def flow_until(self, condition, what="it has happened", seconds=DEADLINE, every=0.02, size=0):
        """Messages all the time, until then. what: for people, or a function that says it."""
        end, due = Deadline(seconds), 0.0
        while not (value := condition()):
            now = time.monotonic()
            if now >= due:
                self.say(size)
                due = now + every
            if time.monotonic() > end.end:
                raise AssertionError(f"deadline: {what() if callable(what) else what}")
            self.field.pump(every)
        return value

    def flow(self, rounds=10):
        for _ in range(rounds):
            self.say()
            self.field.pump(0.005)

    def connection(self, **want):
        """The connection of the status, when it has these members; else None."""
        connection = self.control.status()["connection"]
        return connection if all(connection.get(k) == v for k, v in want.items()) else None

    def flow_to(self, seconds=DEADLINE, **want):
        """Until the connection is so, or was: a state may last for less than a look at it takes, its notice stays."""
        seen = len(self.control.notices)

        def told():
            said = (n for m, n in self.control.notices[seen:] if m == "connection")
            return next((n for n in said if all(n.get(k) == v for k, v in want.items())), None)

        return self.flow_until(lambda: self.connection(**want) or told(),
                               lambda: f"the connection is {want}, and not {self.control.status()}", seconds)

    # ---- the end ----

    def markers(self):
        """A message of each sender that every listener gets: sent again until it is so, for one that comes too soon is lost."""
        end = Deadline()
        while True:
            numbers = [(m.name, m.send()) for m in self.field.mouths]
            moment = time.monotonic() + 5
            while time.monotonic() < moment and None not in dict(numbers).values():
                if all(has(ear, *number) for ear in self.field.checker.listeners for number in numbers
                       if ear.topic == self.topic and ear.own != number[0] and ear.until_ms is None):
                    return
                self.field.pump(0.02)
            self.field.pump(0.05)
            end.left(f"{numbers} at all listeners")

    def harvest(self):
        """The daemon's joins that the server knows of."""
        for e in self.server.joins("realtime:" + self.topic, refused=False):
            if e["n"] > self.log_from and e["sub"] != "past the daemon":
                self.field.checker.joined(self.topic, e["at_ms"])
                self.log_from = e["n"]

    def settle(self, heal=True):
        """All faults end, everything works again, and the checker has nothing to say."""
        if heal:
            self.proxy.accept()
            self.proxy.heal()
            self.server.fault(op="clear")
        self.field.pump_until(lambda: self.connection(state="online"), "the daemon is online again")
        self.markers()
        self.field.pump_until(lambda: not self.field.unanswered(), "every send has an outcome")
        for peer in list(self.field.peers):
            peer.sync(upstream=True)
        self.field.hear_out()
        self.harvest()
        self.field.checker.verify()
        print(f"{self.id().rpartition('.')[2]}: {self.field.checker.summary()}", flush=True)
        return self.field.checker.judged

    def comebacks(self):
        """How often all of the listeners have had the channel back."""
        return min(sum(e[0] == "channel" and e[2]["state"] == "ready" for e in ear.events) for ear in self.ears)

    def flow_back(self, before):
        """Until the channel has come back once more than `before`."""
        self.flow_until(lambda: self.comebacks() > before, lambda: f"the channel is back; {self.control.status()}")

    def drop(self, how="rst"):
        """The connections end; returns when the daemon has tried again."""
        before = self.proxy.counts()["connections"]
        self.proxy.drop(how)
        self.flow_until(lambda: self.proxy.counts()["connections"] > before, "a new attempt")


def wait_state(peer, **want):
    """The connection of the status, when it is so."""

    def look():
        connection = peer.status()["connection"]
        return connection if all(connection.get(k) == v for k, v in want.items()) else None

    return until(look, f"a connection with {want}")


__all__ = ["DEADLINE", "Far", "FaultStory", "Field", "PeerClosed", "accept_head", "frame", "fresh", "http", "upgraded", "wait_state"]
