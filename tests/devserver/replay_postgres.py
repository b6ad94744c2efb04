#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Plays the recorded conversations about database changes against a fresh devserver with a throw-away PostgreSQL.

As replay.py does, and with the SQL of the recording. Besides topics, refs and tokens the schema, tables, columns, users,
ids, texts and small numbers are others than the recorded ones, consistently. Values are compared by their digits, never
as floating point numbers; timestamps by their form, and equal ones stay equal. Only within a topic is there an order, as
on the real server; the order of a frame's `ids` is free.

That nothing more arrives is shown by a marker: rows come in the order of their commits, so when the row of a marker's
table has come on a socket of its own, and a heartbeat is answered on each socket, everything before it is there.
"""

import datetime
import os
import re
import secrets
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import DevServer  # noqa: E402
from rtbtest.markers import NAME as MARKER_TABLE, Markers  # noqa: E402
from rtbtest.postgres import Postgres  # noqa: E402
from rtbtest.wait import DEADLINE, Deadline  # noqa: E402
import replay  # noqa: E402
import replay_auth  # noqa: E402
from replay_compare import Mismatch, same_message  # noqa: E402
from replay_frames import parse_json  # noqa: E402
from replay_sql import SqlNames, canonical  # noqa: E402

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def is_row(m):
    return m.ok and m.event == "postgres_changes"


def is_marker(m):
    return is_row(m) and m.payload["data"]["table"] == MARKER_TABLE


def is_news(m):
    """What comes by itself, when the database has done its part, and is no row."""
    return m.ok and m.event == "system" and m.ref is None


# ---- comparing -------------------------------------------------------------------------------------------------------

class Stamps:
    """Commit timestamps: rows of one transaction have the same."""

    def __init__(self):
        self.of = {}

    def same(self, old, new):
        if old is None or new is None:
            return old is new
        if not STAMP.fullmatch(old) or not isinstance(new, str) or not STAMP.fullmatch(new):
            return False
        at = datetime.datetime.strptime(new + "+0000", "%Y-%m-%dT%H:%M:%S.%fZ%z").timestamp()
        return abs(time.time() - at) < 600 and self.of.setdefault(old, new) == new


def same_row(want, got, ids, stamps):
    if not got.ok or any(getattr(want, k) != getattr(got, k) for k in ("join_ref", "ref", "topic", "event")):
        return False
    if want.v1 and set(parse_json(got.raw)) != {"ref", "topic", "event", "payload"}:
        return False
    want, got = want.payload, got.payload
    if set(want) != set(got) or set(want["data"]) != set(got["data"]):
        return False
    # The answer to the join has told which id is which.
    if sorted(ids.there.get(i, -1) for i in want["ids"]) != sorted(got["ids"]):
        return False
    return all(stamps.same(value, got["data"][k]) if k == "commit_timestamp" else canonical(value) == canonical(got["data"][k])
               for k, value in want["data"].items())


def compare(conn, want, got, ids, stamps):
    """Frames that came against those recorded, topic by topic."""
    for topic in sorted({str(m.topic) for m in want + got}):
        expected, came = ([m for m in side if str(m.topic) == topic] for side in (want, got))
        for w, g in zip(expected, came):
            if not (same_row(w, g, ids, stamps) if is_row(w) else same_message(w, g, ids)):
                raise Mismatch(f"{conn}: expected {w}\n      got      {g}")
        for m in expected[len(came):]:
            raise Mismatch(f"{conn}: missing {m}")
        for m in came[len(expected):]:
            raise Mismatch(f"{conn}: unexpected {m}")


# ---- the replay ------------------------------------------------------------------------------------------------------

class SqlScenario(replay.Scenario):
    def __init__(self, recording, server, rng, strict, sql):
        self.execute, self.stamps, self.sql_done = sql, Stamps(), False
        super().__init__(recording, server, rng, strict)
        for step in self.steps:
            if step.get("what") == "sql":
                step["sql"] = self.names.sql(step["sql"])
        sql(self.names.schema())
        self.markers = Markers(server, sql)

    def new_names(self, rng):
        return SqlNames(rng, self.server, self.steps)

    def check(self, stuck=False):
        if self.sql_done:
            self.markers.wait()
            self.sql_done = False
        self.sync()
        for conn, link in self.links.items():
            compare(conn, link.want, [m for m in link.got if not is_marker(m)], self.ids, self.stamps)
            self.n_compared += len(link.want)
            link.want, link.got = [], []

    def wait_news(self, link):
        """Until as many have come as are expected by now."""
        end = Deadline(DEADLINE)
        while sum(map(is_news, link.got)) < sum(map(is_news, link.want)):
            link.got.append(link.read(end.left(f"{self.name}: {link.want[-1]}")))

    def pg_ctl(self, order):
        """The database goes, or comes back. Until then nothing is said to sockets with something that waits for it."""
        if order == "stop":
            self.check()
            self.postgres.stop()
            self.server.wait_status(lambda st: st["database"] is False, "the database is missed")
            return
        self.markers.ws.heartbeat()
        for conn, link in self.links.items():
            if replay_auth.readable(link):
                raise Mismatch(f"{conn}: said something while the database was away: {link.read()}")
        self.postgres.start()
        self.server.wait_status(lambda st: st["database"], "the database is back")

    def run(self):
        for step in self.steps:
            if step["dir"] == "info":
                if step["what"] == "connect":
                    self.connect(step, None)
                elif step["what"] == "pg_ctl":
                    self.pg_ctl(step["cmd"])
                elif step["what"] == "sql":
                    self.check()
                    self.execute(step["sql"])
                    self.sql_done = True
                continue
            if step["dir"] == "send" and (step["quiet"] or self.sql_done):
                self.check()
            if step["opcode"] == "close":
                self.close(step)
                continue
            link, m = self.links[step["conn"]], step["message"]
            if step["dir"] == "send":
                link.send(step["opcode"], m.encode())
            else:
                link.want.append(m)
                if is_news(m):
                    self.wait_news(link)
        self.check()

    def abort(self):
        self.markers.close()
        super().abort()


# ---- breaking expectations -------------------------------------------------------------------------------------------

def another(value, rng):
    """A value like it, but not it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice([-1, 1])
    if isinstance(value, tuple):
        return "number", value[1] + "0"
    if isinstance(value, str):
        return value + "x"
    return "x" if value is None else [value]


def flip_row(m, rng):
    data = m.payload["data"]
    how = rng.choice(["value", "value", "no column", "another column", "column's type", "ids", "errors", "stamp", "type", "member"])
    rows = [data[k] for k in ("record", "old_record") if data.get(k)]
    if how in ("value", "no column") and rows:
        row = rng.choice(rows)
        column = rng.choice(sorted(row))
        how += " " + column
        row[column], old = another(row[column], rng), row[column]
        if how.startswith("no"):
            del row[column]
        elif isinstance(old, tuple):
            how += " (a digit more)"
    elif how == "another column" and rows:
        rng.choice(rows)["x"] = None
    elif how == "column's type" and data["columns"]:
        rng.choice(data["columns"])["type"] = "x"
    elif how == "errors":
        data["errors"] = another(data["errors"], rng)
    elif how == "stamp":
        data["commit_timestamp"] = None if data["commit_timestamp"] else "2024-01-02T03:04:05.678Z"
    elif how == "type":
        data["type"] = {"INSERT": "UPDATE", "UPDATE": "DELETE", "DELETE": "INSERT"}[data["type"]]
    elif how == "member":
        data.pop("old_record") if "old_record" in data else data.update(old_record={})
    else:
        how = "ids"
        m.payload["ids"] = rng.choice([[], m.payload["ids"] * 2, [1 - m.payload["ids"][0]]])
    return f"{how} of {m}"


def flip(steps, rng):
    """Breaks one expectation; returns what was done."""
    frames = [s for s in steps if s["dir"] == "recv" and "message" in s]
    rows = [s for s in frames if is_row(s["message"])]
    chosen = rng.choice(rows if rows and rng.randint(0, 2) else frames)
    m = chosen["message"]
    # That news do not come is only seen at a deadline, and what comes instead of none at no fixed time.
    how = rng.choice(["payload"] if is_news(m) else ["drop", "twice", "topic", "payload"])
    if how == "drop":
        steps.remove(chosen)
    elif how == "twice":
        steps.insert(steps.index(chosen), dict(chosen, quiet=False))
    elif how == "topic":
        m.fields["topic"] += "x"
    elif is_row(m):
        return flip_row(m, rng)
    elif is_news(m):
        m.payload[rng.choice(["message", "status", "extension", "channel"])] += "x"
    elif m.kind is not None:
        m.fields["payload"] += b"x"
    else:
        m.fields["payload"] = {"x": m.fields["payload"]}
    return f"{how} of {m}"


def main():
    args = replay.arguments(__doc__.split("\n")[0]).parse_args()
    rng, paths = replay.start(args, with_sql=True)

    def play(args, recordings, rng, alter):
        """Plays the scenario in a database of its own; returns the number of compared frames."""
        [recording] = recordings
        name = "replay_" + secrets.token_hex(4)
        conninfo = postgres.create_database(name)
        try:
            with DevServer(args.bin, secret="".join(rng.choice("0123456789abcdef") for _ in range(48)),
                           strict_refs=args.strict, seed=rng.randint(1, 10 ** 9), postgres=conninfo) as server:
                server.now = int(time.time())
                scenario = SqlScenario(recording, server, rng, args.strict, lambda text: postgres.sql(text, name))
                scenario.postgres = postgres
                if alter:
                    alter(scenario.steps)
                try:
                    scenario.run()
                except Mismatch as m:
                    raise Mismatch(f"{scenario.name}: {m}") from None
                finally:
                    scenario.abort()
                return scenario.n_compared
        finally:
            postgres.drop_database(name)

    with Postgres() as postgres:
        replay.play_all(args, [[r] for r in replay.recordings(paths)], rng, play, flip)


if __name__ == "__main__":
    main()
