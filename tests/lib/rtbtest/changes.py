# SPDX-License-Identifier: MIT
"""Database changes end to end: numbered rows, who writes them, and watchers that check what comes.

A table's rows have ascending numbers and one writer, so that a row that is missing, comes twice or out of order shows by its
number alone.
"""

import secrets
import select
import struct
import threading
import unittest

import msgpack

from .peer import Closed, Peer
from .postgres import Postgres, Psql
from .story import Story
from .wait import DEADLINE, Deadline

POSTGRES = None


def start_postgres():
    """For setUpModule: one PostgreSQL for all stories of the module."""
    global POSTGRES
    POSTGRES = unittest.enterModuleContext(Postgres())


class Wanted:
    """A binding, and which of the numbers it is for."""

    def __init__(self, fits=lambda n: True, **binding):
        self.fits, self.binding = fits, binding


class Numbered:
    """A published table of rows 1, 2, ... with part = n % parts."""

    def __init__(self, sql, name, parts=10):
        self.sql, self.name, self.parts = sql, name, parts
        self.last = 0  # its insertion has begun, and maybe ended
        sql(f"create table {name} (n int8 primary key, part int4, t text); alter publication supabase_realtime add table {name}")

    def statement(self, count, text=""):
        first, self.last = self.last + 1, self.last + count
        return f"insert into {self.name} select i, i % {self.parts}, '{text}' from generate_series({first}, {self.last}) i"

    def insert(self, count=1, text=""):
        self.sql(self.statement(count, text))

    def all(self, variant=0):
        """Variants are different bindings for the same rows."""
        return Wanted(event="INSERT", schema="public", table=self.name, filter=f"n=gt.-{variant}")

    def part(self, part, variant=0):
        return Wanted(lambda n: n % self.parts == part, event="INSERT", schema="public", table=self.name,
                      filter=f"part=eq.{part},n=gt.-{variant}")


class Writer:
    """Inserts rows into a Numbered all the time, until the end of the `with`; wait(n) for so many more."""

    def __init__(self, table, conninfo, count=5, pause=0.02, text=""):
        self.table, self.count, self.pause, self.text = table, count, pause, text
        self.psql = Psql(conninfo)
        self.failed = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stopped.wait(self.pause):
                self.psql.run(self.table.statement(self.count, self.text))
        except BaseException as e:  # told by __exit__
            self.failed = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.stopped.set()
        self.thread.join(DEADLINE)
        self.psql.close()
        if self.failed:
            raise self.failed


class Stream:
    """The numbers that came for one binding: ascending, none left out but where a gap was told in front."""

    def __init__(self, wanted, id, after):
        self.wanted, self.id = wanted, id
        self.after = after  # whatever is inserted later must come
        self.first = self.last = None
        self.count = 0
        self.gaps = []   # as they were told
        self.holes = []  # (last number before, first one after)
        self.gap_open = False

    def left_out(self, low, high):
        """The first number between them that should have come, or None."""
        return next((n for n in range(low + 1, high) if self.wanted.fits(n)), None)

    def row(self, n):
        assert self.wanted.fits(n), f"binding {self.id} {self.wanted.binding}: row {n} is none of its"
        if self.last is None:
            self.first = n
            missed = self.left_out(self.after, n)
            low = self.after
        else:
            assert n > self.last, f"binding {self.id}: row {n} after {self.last}: twice, or out of order"
            missed = self.left_out(self.last, n)
            low = self.last
        if missed is not None:
            assert self.gap_open, f"binding {self.id} {self.wanted.binding}: row {missed} is missing between {low} and {n}; no gap was told"
            self.holes.append((low, n))
        self.gap_open = False
        self.last = n
        self.count += 1

    def gap(self, notice):
        self.gaps.append(notice)
        self.gap_open = True

    def has(self, last):
        """Whether all up to `last` have come (or lie in a gap that was told)."""
        return self.left_out(max(self.after, self.last or 0), last + 1) is None


class Watch(Peer):
    """A peer with one subscription for numbered rows; checks them as they come. Other notices are kept in .notices."""

    def __init__(self, path, table, name="watch", **kwargs):
        self.table = table
        self.streams = {}  # id: Stream
        self.ended = []    # those that are not wanted any more
        self.chan = None
        self.only_mine = False  # whether messages may name ids of other clients
        self.pending = {}  # request: what it wants
        self.frames = 0
        self.stopped = []  # notices that a binding which was ready is not, or was not
        super().__init__(path, name=name, **kwargs)

    # ---- requests ----

    def want(self, wanted, topic="", **params):
        """Subscribes to these instead of what it had; does not wait. Returns the request's id."""
        params.update(topic=topic, postgres_changes=[w.binding for w in wanted])
        id = self.request("subscribe", params)
        self.pending[id] = wanted
        return id

    def watch(self, wanted, topic="", **params):
        return self.result(self.want(wanted, topic, **params))

    def answered(self, wanted, result):
        """The rows in front of the answer were of the old wishes, those behind it are of the new ones."""
        self.chan = result["chan"]
        entries = result["postgres_changes"]
        assert len(entries) == len(wanted), result
        old, self.streams = self.streams, {}
        for w, e in zip(wanted, entries):
            self.streams[e["id"]] = old.pop(e["id"], None) or Stream(w, e["id"], self.table.last)
        self.ended += old.values()

    # ---- what comes ----

    def take_in(self, message):
        if message[0] == 1:
            assert message[1] not in self.responses, f"two responses to request {message[1]}"
            wanted = self.pending.pop(message[1], None)
            if wanted is not None and message[2] is None:
                self.answered(wanted, message[3])
            self.responses[message[1]] = message
        elif message[1] == "postgres_changes" and message[2]["data"]["table"] == self.table.name:
            self.row(message[2])
        else:
            if message[1] == "gap" and "ids" in message[2]:
                self.gap(message[2])
                self.stopped.append(message[2])
            if message[1] == "channel" and message[2]["chan"] == self.chan:
                if any(e["id"] in self.streams and e["state"] != "ready" for e in message[2].get("postgres_changes", [])):
                    self.stopped.append(message[2])
            self.notices.append((message[1], message[2]))

    def row(self, notice):
        ids, n = notice["ids"], notice["data"]["record"]["n"]
        assert len(set(ids)) == len(ids), f"an id twice: {notice}"
        mine = [self.streams[id] for id in ids if id in self.streams]
        assert mine, f"none of the ids is this client's: {notice}; has {sorted(self.streams)}"
        assert len(mine) == len(ids) or not self.only_mine, f"ids of others: {notice}; has {sorted(self.streams)}"
        for stream in mine:
            stream.row(n)
        self.frames += 1

    def gap(self, notice):
        assert notice["from"] <= notice["to"] and notice["cause"] and notice["chan"] == self.chan, notice
        assert len(set(notice["ids"])) == len(notice["ids"]), notice
        for id in notice["ids"]:
            assert id in self.streams, f"a gap of another one's binding: {notice}"
            self.streams[id].gap(notice)

    def whole_frames(self):
        """Takes the whole frames out of the buffer and in; much faster than one by one when there are many."""
        data, at = self.buffer, 0
        while len(data) - at >= 4:
            size = struct.unpack_from(">I", data, at)[0]
            if len(data) - at - 4 < size:
                break
            self.take_in(msgpack.unpackb(memoryview(data)[at + 4:at + 4 + size], raw=False, strict_map_key=False))
            at += 4 + size
        self.buffer = data[at:]
        return at > 0

    def read_some(self):
        """What the socket has, up to a limit."""
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            raise Closed() from None
        if not data:
            raise Closed()
        self.buffer += data
        return self.whole_frames()

    def step(self, deadline, what):
        while not self.whole_frames():
            self.sock.settimeout(deadline.left(what))
            try:
                if self.read_some():
                    return
            except TimeoutError:
                pass

    def drain(self):
        while select.select([self.sock], [], [], 0.005)[0]:
            self.read_some()

    # ---- what is expected ----

    def has(self, last):
        return all(s.has(last) for s in self.streams.values())

    def gaps(self):
        return [n for method, n in self.notices if method == "gap"]

    def lacks(self, last):
        return [(s.id, s.wanted.binding, s.after, s.last) for s in self.streams.values() if not s.has(last)][:3]


def look(watches):
    """Reads what has come for any of them; waits for it a little."""
    ready, _, _ = select.select([w.sock for w in watches], [], [], 0.05)
    for w in watches:
        if w.sock in ready:
            w.read_some()


def follow(watches, condition, what, seconds=DEADLINE):
    """Reads all of them until condition() is true."""
    end = Deadline(seconds)
    while not condition():
        look(watches)
        end.left(what)


def follow_rows(watches, last, seconds=DEADLINE):
    """Until each has, for each of its bindings, all rows up to number `last`."""
    end = Deadline(seconds)
    while left := [w for w in watches if not w.has(last)]:
        look(watches)
        end.left(f"rows up to {last}; {len(left)} lack some: {left[0].lacks(last)}")


class Changes(Story):
    """A database of its own for each class, a devserver on it, a daemon on that."""

    @classmethod
    def setUpClass(cls):
        cls.dbname = "story_" + secrets.token_hex(4)
        cls.conninfo = POSTGRES.create_database(cls.dbname)
        cls.addClassCleanup(POSTGRES.drop_database, cls.dbname)
        cls.server_options = dict(cls.server_options, postgres=cls.conninfo)
        super().setUpClass()
        cls.marks = 0
        cls.table("marks", "n int8 primary key")

    @classmethod
    def sql(cls, text):
        return POSTGRES.sql(text, cls.dbname)

    @classmethod
    def table(cls, name, columns, *more, published=True):
        """Makes it; returns what of a binding names it."""
        cls.sql(f"create table {name} ({columns})")
        if published:
            cls.sql(f"alter publication supabase_realtime add table {name}")
        for text in more:
            cls.sql(text)
        return {"schema": "public", "table": name}

    def numbered(self, parts=10):
        return Numbered(self.sql, "rows_" + secrets.token_hex(4), parts)

    def watch(self, table, name="watch", daemon=None):
        watch = Watch((daemon or self.daemon).socket, table, name=name)
        self.addCleanup(watch.close)
        return watch

    def watches(self, table, n):
        return [self.watch(table, f"watch{i}") for i in range(n)]

    def writer(self, table, **kwargs):
        return Writer(table, self.conninfo, **kwargs)

    # ---- what has not come ----

    def marked(self, *bindings, topic="", **params):
        """A peer with these, for came(), and the answer's entries for them."""
        peer = self.peer()
        mark = {"event": "INSERT", "schema": "public", "table": "marks"}
        [entry] = peer.subscribe("marks", postgres_changes=[mark])["postgres_changes"]
        self.assertEqual(entry["state"], "ready", entry)
        entries = []
        if bindings:
            entries = peer.subscribe(topic, postgres_changes=list(bindings), **params)["postgres_changes"]
            self.assertEqual(len(entries), len(bindings))
        return peer, entries

    def mark(self):
        type(self).marks += 1
        self.sql(f"insert into marks values ({self.marks})")
        return self.marks

    def came(self, peer):
        """All changes of what is committed by now: rows come in the order of the commits, a marker's row behind them."""
        mark = self.mark()
        peer.wait_notice("postgres_changes", lambda p: p["data"]["table"] == "marks" and p["data"]["record"]["n"] == mark)
        return [p for p in peer.take("postgres_changes") if p["data"]["table"] != "marks"]

    # ---- what the server has of the daemon ----

    def feeds(self):
        """The server's channels with bindings."""
        return [t for s in self.server.status()["sockets"] for t in s["topics"] if t["bindings"]]
