#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Plays recorded conversations against a fresh devserver and compares its answers.

Before the replay every topic, event name, ref, presence key and token is replaced by a random one (seed printed), so
that the server cannot know the recording by heart. Compared is the order of the frames on each socket. Generated ids
(phx_ref, UUID keys, ids of bindings) need not be equal, but equal ids must stay equal and different ones different.
The order of a track reply and one's own presence_diff is free, as it is on the real server, and so is that of the metas
under one key and of the keys of any object.

A recording of version 2 that has no twin of version 1 and no binary frame is also played as one of version 1.

That nothing more arrives is shown by heartbeats as markers: they are answered in order.

Recordings with SQL in them are for replay_postgres.py.
"""

import argparse
import base64
import itertools
import json
import os
import random
import re
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import BINARY, CLOSE, TEXT, Closed, DevServer, RawWebSocket, Refused  # noqa: E402
from rtbtest.wait import DEADLINE  # noqa: E402
from replay_frames import Message, Names, make_strict, parse_json  # noqa: E402

QUIET_MS = 100  # a pause of the recorder's client: all answers to what it had sent are in
PHX_REF = re.compile(r"[\w-]{16}")
AGO = re.compile(r"expired \d+ seconds ago")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Mismatch(Exception):
    pass


def load(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


# ---- comparing -------------------------------------------------------------------------------------------------------

class Bindings:
    """Recorded generated ids and the ones of this run: one to one."""

    def __init__(self):
        self.there, self.back = {}, {}

    def same(self, old, new):
        return self.there.setdefault(old, new) == new and self.back.setdefault(new, old) == old

    def try_out(self, compare):
        """compare(ids), whose new pairs count only if it says yes."""
        trial = Bindings()
        trial.there, trial.back = dict(self.there), dict(self.back)
        if not compare(trial):
            return False
        self.there, self.back = trial.there, trial.back
        return True


def same_list(want, got, ids):
    return len(want) == len(got) and all(same_value(w, g, ids) for w, g in zip(want, got))


def same_members(want, got, ids):
    """Objects. A generated key may stand for another, so that more than one pairing may have to be tried."""
    if len(want) != len(got):
        return False
    if not want:
        return True
    k = next(iter(want))
    rest = {key: v for key, v in want.items() if key != k}
    if k in got:
        others = [k]
    else:
        others = [g for g in got if UUID.fullmatch(g)] if UUID.fullmatch(k) else []
    return any(ids.try_out(lambda trial: (other == k or trial.same(k, other))
                           and same_value(want[k], got[other], trial, k)
                           and same_members(rest, {g: v for g, v in got.items() if g != other}, trial))
               for other in others)


def same_value(want, got, ids, key=None):
    if key in ("phx_ref", "phx_ref_prev") and PHX_REF.fullmatch(str(want)):
        return isinstance(got, str) and PHX_REF.fullmatch(got) is not None and ids.same(want, got)
    if key == "id" and isinstance(want, int):
        return isinstance(got, int) and ids.same(want, got)
    if type(want) is not type(got):
        return False
    if isinstance(want, dict):
        return same_members(want, got, ids)
    if isinstance(want, list) and key == "metas":
        return any(ids.try_out(lambda trial: same_list(want, order, trial)) for order in itertools.permutations(got))
    if isinstance(want, list):
        return same_list(want, got, ids)
    if isinstance(want, str):
        return AGO.sub("expired", want) == AGO.sub("expired", got)
    return want == got


def same_message(want, got, ids):
    if want.opcode != got.opcode or want.ok != got.ok:
        return False
    if not want.ok or want.kind is not None:
        return want.encode() == got.encode()
    if want.v1 and set(parse_json(got.raw)) != {"ref", "topic", "event", "payload"}:
        return False
    return all(type(want.fields[k]) is type(got.fields[k]) and same_value(want.fields[k], got.fields[k], ids)
               for k in Message.FIELDS) and (want.v1 or got.rest == [])


def free_pair(a, b, presence_refs):
    """A reply to a presence call and a presence_diff next to it."""
    pair = {a.event, b.event}
    reply = a if a.event == "phx_reply" else b
    return pair == {"phx_reply", "presence_diff"} and reply.ref in presence_refs


def compare(conn, want, got, ids, presence_refs):
    """Frames that came against those recorded; both are lists of Message."""
    i = 0
    while i < max(len(want), len(got)):
        if i >= len(got):
            raise Mismatch(f"{conn}: missing {want[i]}")
        if i >= len(want):
            raise Mismatch(f"{conn}: unexpected {got[i]}")
        if i + 1 < len(want) and i + 1 < len(got) and free_pair(want[i], want[i + 1], presence_refs) \
                and want[i].event == got[i + 1].event and want[i + 1].event == got[i].event:
            got[i], got[i + 1] = got[i + 1], got[i]
        if not same_message(want[i], got[i], ids):
            raise Mismatch(f"{conn}: expected {want[i]}\n      got      {got[i]}")
        i += 1


# ---- the replay ------------------------------------------------------------------------------------------------------

class Link:
    """One socket of a scenario."""

    def __init__(self, ws, v1):
        self.ws, self.v1 = ws, v1
        self.got, self.want = [], []
        self.presence_refs = set()
        self.marker = 0
        self.code = None

    def send(self, opcode, data):
        self.ws.send_frame(TEXT if opcode == "text" else BINARY, data.encode() if isinstance(data, str) else data)

    def sync(self):
        """Reads all that the server has sent until it answers a heartbeat."""
        self.marker += 1
        ref = f"marker-{self.marker}"
        value = [None, ref, "phoenix", "heartbeat", {}]
        if self.v1:
            value = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": ref}
        try:
            self.ws.send_text(json.dumps(value))
            while True:
                m = self.read()
                if m.ok and m.topic == "phoenix" and m.ref == ref:
                    return
                self.got.append(m)
        except Closed as closed:
            self.code = closed.code

    def read(self, seconds=DEADLINE):
        opcode, data = self.ws.recv_frame(seconds)
        return Message(self.v1, "text" if opcode == TEXT else "binary", data.decode() if opcode == TEXT else data)


class Scenario:
    def __init__(self, recording, server, rng, strict):
        path, as_v1 = recording
        self.name = label(recording)
        self.server = server
        self.ids = Bindings()
        self.links = {}
        self.n_compared = 0
        self.cleaning_up = False
        self.steps = self.prepare(load(path), as_v1)
        self.names = self.new_names(rng)
        if strict:
            self.steps = make_strict(self.steps)
        for step in self.steps:
            if "message" in step:
                self.names.message(step["conn"], step["message"])

    def new_names(self, rng):
        return Names(rng, self.server)

    @staticmethod
    def prepare(lines, as_v1):
        v1, last = {}, 0
        for line in lines:
            if line["dir"] == "info":
                if line["what"] == "connect":
                    if as_v1:
                        line["url"] = line["url"].replace("vsn=2.0.0", "vsn=1.0.0")
                    query = urllib.parse.parse_qs(urllib.parse.urlparse(line["url"]).query)
                    v1[line["conn"]] = query.get("vsn", ["1"])[0].startswith("1")
            elif line["opcode"] in ("text", "binary"):
                data = base64.b64decode(line["data"]) if line["opcode"] == "binary" else line["data"]
                line["message"] = Message(v1[line["conn"]] and not as_v1, line["opcode"], data)
                if as_v1:
                    line["message"].make_v1(line["dir"] == "send")
            line["quiet"] = line["t_ms"] - last >= QUIET_MS
            last = line["t_ms"]
        return Scenario.find_ends(lines)

    @staticmethod
    def find_ends(lines):
        """The closes with which the recorder cleaned up; and sockets without a close: their TCP was dropped."""
        for line in reversed(lines):
            if line.get("opcode") != "close":
                break
            line["cleaning_up"] = True
        closed = {line["conn"] for line in lines if line.get("opcode") == "close"}
        for conn in {line["conn"] for line in lines if line.get("what") == "open"} - closed:
            last = max(i for i, line in enumerate(lines) if line.get("conn") == conn)
            lines.insert(last + 1, {"dir": "info", "what": "dropped", "conn": conn})
        return lines

    def sync(self):
        # Twice: what one socket sent may concern another that was read before.
        for _ in range(2):
            for link in self.links.values():
                if link.code is None:
                    link.sync()

    def check(self):
        self.sync()
        for conn, link in self.links.items():
            compare(conn, link.want, link.got, self.ids, link.presence_refs)
            self.n_compared += len(link.want)
            link.want, link.got = [], []

    def connect(self, step, refusal):
        at = urllib.parse.urlparse(step["url"])
        query = self.names.text(at.query)
        headers = {k: self.names.text(v) for k, v in step.get("headers", {}).items()}
        try:
            ws = RawWebSocket("127.0.0.1", self.server.port, f"{at.path}?{query}", headers)
        except Refused as answer:
            if refusal is None:
                raise Mismatch(f"{step['conn']}: refused with {answer}") from None
            if (answer.status, answer.body) != (refusal["status"], refusal["body"]):
                raise Mismatch(f"{step['conn']}: refused with {answer}, recorded {refusal['status']} {refusal['body']}") from None
            self.n_compared += 1
            return
        if refusal is not None:
            raise Mismatch(f"{step['conn']}: let in, recorded {refusal['status']} {refusal['body']}")
        vsn = urllib.parse.parse_qs(at.query).get("vsn", ["1"])[0]
        self.links[step["conn"]] = Link(ws, vsn.startswith("1"))

    def close(self, step):
        link = self.links.get(step["conn"])
        if step["dir"] == "recv":
            if link is not None:
                raise Mismatch(f"{step['conn']}: the server is to close it, which no recording here shows")
            return  # how the recorder saw the end of what the client had closed
        if not self.cleaning_up:
            self.check()
        # From here on the others hear of those that leave, which the recorder did not wait for.
        self.cleaning_up = "cleaning_up" in step
        # 1005 stands for a close frame with nothing in it.
        link.ws.send_frame(CLOSE, b"" if step["code"] == 1005 else step["code"].to_bytes(2, "big"))
        try:
            frame = link.ws.recv_frame()
            while self.cleaning_up:
                frame = link.ws.recv_frame()
            raise Mismatch(f"{step['conn']}: {frame} instead of a close frame")
        except Closed as closed:
            if closed.code != step["code"]:
                raise Mismatch(f"{step['conn']}: closed with {closed.code}") from None
        link.ws.abort()
        del self.links[step["conn"]]

    def run(self):
        """Generator: yields where another scenario may take its turn."""
        for i, step in enumerate(self.steps):
            yield
            if step["dir"] == "info":
                if step["what"] == "connect":
                    refusals = [s for s in self.steps[i:] if s.get("what") == "upgrade_refused" and s["conn"] == step["conn"]]
                    self.connect(step, refusals[0] if refusals else None)
                elif step["what"] == "dropped":
                    self.check()
                    n = self.server.status()["sockets_open"]
                    self.links.pop(step["conn"]).ws.abort()
                    self.server.wait_status(lambda st: st["sockets_open"] < n, "the server notices the end")
                continue
            if step["dir"] == "send" and step["quiet"]:
                self.check()
            if step["opcode"] == "close":
                self.close(step)
                continue
            link, m = self.links[step["conn"]], step["message"]
            if step["dir"] == "send":
                if m.ok and m.event == "presence":
                    link.presence_refs.add(m.ref)
                link.send(step["opcode"], m.encode())
            else:
                link.want.append(m)
                if len(link.got) < len(link.want):
                    self.sync()
                if len(link.got) < len(link.want):
                    raise Mismatch(f"{step['conn']}: missing {m}")
        self.check()

    def abort(self):
        for link in self.links.values():
            link.ws.abort()


def flip_presence(m, rng):
    sides = [m.payload] if m.event == "presence_state" else [side for side in m.payload.values() if side]
    side = rng.choice(sides)
    key = rng.choice(sorted(side))
    how = rng.choice(["key", "member", "meta twice", "no meta", "short ref"])
    metas = side[key]["metas"]
    if how == "key":
        side["another " + key] = side.pop(key)
    elif how == "member":
        rng.choice(metas)["another member"] = 1
    elif how == "meta twice":
        metas.append(metas[0])
    elif how == "no meta":
        metas.remove(rng.choice(metas))
    else:
        rng.choice(metas)["phx_ref"] = "short"
    return f"{how} of {m}"


def flip(steps, rng):
    """Breaks one expectation; returns what was done."""
    present = [s for s in steps if s["dir"] == "recv" and '"metas"' in str(s.get("data"))]
    if present and rng.randint(0, 1):
        return flip_presence(rng.choice(present)["message"], rng)
    chosen = rng.choice([s for s in steps if s["dir"] == "recv" and "message" in s and s["message"].ok
                         or s.get("what") == "upgrade_refused"])
    if "what" in chosen:
        chosen["status"] += 1
        return "another HTTP status"
    m, how = chosen["message"], rng.choice(["drop", "twice", "ref", "topic", "payload"])
    if how == "drop":
        steps.remove(chosen)
    elif how == "twice":
        steps.insert(steps.index(chosen), dict(chosen, quiet=False))
    elif how == "topic":
        m.fields["topic"] += "x"
    elif how == "payload" or m.kind is not None:
        m.fields["payload"] = m.fields["payload"] + b"x" if m.kind is not None else {"x": m.fields["payload"]}
    else:
        m.fields["ref"] = "x" if m.fields["ref"] is None else None
    return f"{how} of {m}"


def label(recording):
    path, as_v1 = recording
    return os.path.basename(path).removesuffix(".jsonl") + (" as v1" if as_v1 else "")


def recordings(paths):
    """(path, whether to turn it into version 1)"""
    found = [(p, False) for p in paths]
    for p in paths:
        if p.endswith(".v2.jsonl") and not os.path.exists(p.replace(".v2.", ".v1.")) \
                and not any(line.get("opcode") == "binary" for line in load(p)):
            found.append((p, True))
    return sorted(found)


def play(args, paths, rng, alter=None):
    """Plays the scenarios on one server, taking random turns; returns the number of compared frames."""
    with DevServer(args.bin, secret="".join(rng.choice("0123456789abcdef") for _ in range(48)),
                   strict_refs=args.strict, seed=rng.randint(1, 10 ** 9)) as server:
        server.now = int(time.time())
        scenarios = [Scenario(p, server, rng, args.strict) for p in paths]
        if alter:
            alter(scenarios[0].steps)
        turns = {s.name: s.run() for s in scenarios}
        try:
            while turns:
                name = rng.choice(sorted(turns))
                try:
                    next(turns[name])
                except StopIteration:
                    del turns[name]
                except Mismatch as m:
                    raise Mismatch(f"{name}: {m}") from None
        finally:
            for s in scenarios:
                s.abort()
        return sum(s.n_compared for s in scenarios)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bin", required=True, help="path of rtbridge-devserver")
    parser.add_argument("--transcripts", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "transcripts"))
    parser.add_argument("--seed", type=int, help="of the names [random]")
    parser.add_argument("--strict", action="store_true", help="run the server with --strict-refs and expect that")
    parser.add_argument("--self-check", action="store_true", help="break one expectation per run; each run must fail")
    parser.add_argument("only", nargs="*", help="names of transcripts [all]")
    return parser


def start(args, with_sql):
    """The source of chance, and the paths of the transcripts that do without a database, or of those that do not."""
    seed = args.seed if args.seed is not None else random.SystemRandom().randint(1, 10 ** 9)
    print(f"seed {seed}", flush=True)
    paths = sorted(os.path.join(args.transcripts, f) for f in os.listdir(args.transcripts)
                   if f.endswith(".jsonl") and (not args.only or any(f.startswith(o) for o in args.only)))
    paths = [p for p in paths if any(line.get("what") == "sql" for line in load(p)) == with_sql]
    if not paths:
        sys.exit("no transcripts")
    return random.Random(seed), paths


def play_all(args, jobs, rng, play, flip):
    """Plays each job, a list of recordings, and reports; exits."""
    failed = 0
    for job in jobs:
        names = " + ".join(label(r) for r in job)
        what = []
        try:
            n = play(args, job, rng, (lambda steps: what.append(flip(steps, rng))) if args.self_check else None)
            bad = f"not noticed: {what[0]}" if args.self_check else None
            good = f"{n} frames"
        except Mismatch as m:
            bad, good = (None, f"noticed: {what[0]}") if args.self_check else (str(m), None)
        failed += bad is not None
        print(f"{'FAIL' if bad else 'ok':4} {names}: {bad or good}", flush=True)
    print(f"{len(jobs) - failed} of {len(jobs)} passed")
    sys.exit(1 if failed else 0)


def main():
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--interleave", action="store_true", help="two scenarios at a time on one server")
    args = parser.parse_args()
    rng, paths = start(args, with_sql=False)
    paths = recordings(paths)
    if args.interleave:
        others = paths[:]
        rng.shuffle(others)
        jobs = [[a, b] for a, b in zip(paths, others)]
        jobs = [j if j[0] != j[1] else [j[0], paths[(paths.index(j[0]) + 1) % len(paths)]] for j in jobs]
    else:
        jobs = [[p] for p in paths]
    play_all(args, jobs, rng, play, flip)


if __name__ == "__main__":
    main()
