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

A join that is refused after a delay holds up its socket: it is not answered before, everything behind it waits, and the
other sockets go on. How the recorded server was set up, and how its delays are scaled, is in replay_auth.py.

Recordings with SQL in them are for replay_postgres.py.
"""

import argparse
import base64
import json
import math
import os
import random
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import BINARY, CLOSE, TEXT, Closed, DevServer, RawWebSocket, Refused  # noqa: E402
from rtbtest.wait import DEADLINE, Deadline, until  # noqa: E402
import replay_auth  # noqa: E402
import replay_http  # noqa: E402
import replay_links  # noqa: E402
from replay_auth import Ends, TimedNames, TooSlow  # noqa: E402
from replay_compare import Bindings, Mismatch, compare, is_news  # noqa: E402
from replay_frames import Message, make_strict  # noqa: E402

QUIET_MS = 100  # a pause of the recorder's client: all answers to what it had sent are in


def load(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


# ---- the replay ------------------------------------------------------------------------------------------------------

class Link:
    """One socket of a scenario."""

    def __init__(self, ws, v1):
        self.ws, self.v1 = ws, v1
        self.got, self.want = [], []
        self.presence_refs = set()
        self.marker = 0
        self.code = None
        self.refused = {}  # joins that are to be refused, and are not yet: not before this time (monotonic)

    @property
    def stuck(self):
        """Does the socket stand still, as far as is known here?"""
        return bool(self.refused)

    def to_be_refused(self, ref, delay_s):
        self.refused[ref] = max([time.monotonic(), *self.refused.values()]) + delay_s

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
        m = Message(self.v1, "text" if opcode == TEXT else "binary", data.decode() if opcode == TEXT else data)
        if m.ok and m.event == "phx_reply" and m.ref in self.refused:
            if time.monotonic() < self.refused.pop(m.ref) - replay_auth.SLACK_S:
                raise Mismatch(f"too early: {m}")
        return m

    def read_on(self, counted=lambda m: True):
        """Until as many of those that count have come as are expected by now, or the server has closed the socket."""
        end = Deadline()
        while self.code is None and sum(map(counted, self.got)) < sum(map(counted, self.want)):
            try:
                self.got.append(self.read(end.left(f"missing {self.want[-1]}")))
            except AssertionError as late:
                raise Mismatch(f"{late}; missing {self.want[-1]}") from None
            except Closed as closed:
                self.code = closed.code

    def read_end(self):
        """Until the server closes the socket; with which code."""
        try:
            while self.code is None:
                self.got.append(self.read())
        except Closed as closed:
            self.code = closed.code
        self.ws.abort()
        return self.code


class Scenario:
    def __init__(self, recording, server, rng, strict):
        path, as_v1 = recording
        self.name = label(recording)
        self.server = server
        self.ids = Bindings()
        self.links = {}
        self.n_compared = 0
        self.cleaning_up = False
        lines = replay_links.edit(load(path))
        if not replay_auth.project(self.name).idle_s:
            lines = replay_auth.edit(lines)
        self.steps = self.prepare(lines, as_v1)
        self.names = self.new_names(rng)
        self.names.recorded_at = replay_auth.project(self.name).at
        self.project = replay_auth.project(self.name).renamed(self.names)
        self.ends = Ends(server.now)
        self.hurry = math.inf  # until when (monotonic) what is sent meets the limit of joins as it was recorded
        replay_auth.mark(self.steps)
        if strict:
            self.steps = make_strict(self.steps)
        for step in self.steps:
            self.names.at_s = step.get("t_ms", 0) / 1000
            if "message" in step:
                self.names.message(step["conn"], step["message"])
            elif step.get("what") == "http_request":
                replay_http.rename(step, self.names)
            elif step.get("what") == "http_response":
                step["paced"] = self.project.paced

    def new_names(self, rng):
        return TimedNames(rng, self.server)

    @staticmethod
    def prepare(lines, as_v1):
        v1, last, before, joins = {}, 0, {}, {}
        for line in lines:
            if line["dir"] == "info":
                if line["what"] == "connect":
                    query = urllib.parse.parse_qs(urllib.parse.urlparse(line["url"]).query)
                    v1[line["conn"]] = query.get("vsn", ["1"])[0].startswith("1")
                    if as_v1:
                        line["url"] = line["url"].replace("vsn=2.0.0", "vsn=1.0.0")
            elif line["opcode"] in ("text", "binary"):
                data = base64.b64decode(line["data"]) if line["opcode"] == "binary" else line["data"]
                m = line["message"] = Message(v1[line["conn"]], line["opcode"], data)
                if m.ok and line["dir"] == "send" and m.event == "phx_join":
                    joins[line["conn"]] = m
                elif m.ok and m.event == "phx_reply" and line["conn"] in joins and joins[line["conn"]].ref == m.ref:
                    del joins[line["conn"]]
                if as_v1 and not m.v1:
                    line["message"].make_v1(line["dir"] == "send")
            line["quiet"] = line["t_ms"] - last >= QUIET_MS
            last = line["t_ms"]
            if line.get("opcode") == "close" and not line["quiet"] and before.get("message") and before["dir"] == "send":
                line["unanswered"] = before["message"]
            elif line.get("opcode") == "close" and line["dir"] == "send" and joins.get(line["conn"]) is before.get("message", 0):
                # A join that was to be refused, but not yet: the socket stood still.
                line["unanswered"], line["quiet"] = before["message"], False
            before = line
        return Scenario.find_ends(lines)

    @staticmethod
    def find_ends(lines):
        """The closes with which the recorder cleaned up; and sockets without a close: their TCP was dropped."""
        for line in reversed(lines):
            if line.get("opcode") != "close":
                break
            line["cleaning_up"] = True
        closed = {line["conn"] for line in lines if line.get("opcode") == "close" or line.get("what") == "dropped"}
        for conn in {line["conn"] for line in lines if line.get("what") == "open"} - closed:
            last = max(i for i, line in enumerate(lines) if line.get("conn") == conn)
            lines.insert(last + 1, {"dir": "info", "what": "dropped", "conn": conn})
        return lines

    def sync(self, stuck=False):
        """Reads what is there. Sockets that stand still are left alone, or else (stuck) waited for."""
        # Twice: what one socket sent may concern another that was read before.
        for _ in range(2):
            for link in self.links.values():
                if link.code is None and (stuck or not link.stuck):
                    link.sync()
        self.ends.in_time()

    def check(self, stuck=False):
        self.sync(stuck)
        for conn, link in self.links.items():
            if not link.stuck:
                self.compare(conn, link)

    def compare(self, conn, link, code=None):
        """What came, and whether the server has closed the socket."""
        compare(conn, link.want, link.got, self.ids, link.presence_refs, self.project.by_topic)
        if link.code != code:
            raise Mismatch(f"{conn}: closed by the server with {link.code}")
        self.n_compared += len(link.want)
        link.want, link.got = [], []

    def open(self, url, headers):
        at = urllib.parse.urlparse(url)
        headers = {k: self.names.text(v) for k, v in headers.items()}
        if self.project.hosts:
            headers["host"] = replay_links.host_of(url)
        return RawWebSocket("127.0.0.1", self.server.port, f"{at.path}?{self.names.text(at.query)}", headers)

    def connect(self, step, refusal):
        upgrade = replay_links.Upgrade(refusal, step["t_ms"], self.server.pace) if refusal and self.project.hosts else None
        try:
            ws = self.open(step["url"], step.get("headers", {}))
        except Refused as answer:
            if refusal is None:
                raise Mismatch(f"{step['conn']}: refused with {answer}") from None
            if (answer.status, answer.body) != (refusal["status"], refusal["body"]):
                raise Mismatch(f"{step['conn']}: refused with {answer}, recorded {refusal['status']} {refusal['body']}") from None
            if upgrade:
                upgrade.refused()
            self.n_compared += 1
            return
        if refusal is not None:
            raise Mismatch(f"{step['conn']}: let in, recorded {refusal['status']} {refusal['body']}")
        vsn = urllib.parse.parse_qs(urllib.parse.urlparse(step["url"]).query).get("vsn", ["1"])[0]
        self.links[step["conn"]] = Link(ws, vsn.startswith("1"))

    def close(self, step):
        link = self.links.get(step["conn"])
        if step["dir"] == "recv":
            if link is not None:  # else how the recorder saw the end of what the client had closed
                link.read_end()
                self.compare(step["conn"], link, step["code"])
                del self.links[step["conn"]]
            return
        if "unanswered" in step:
            # The client went before the answers to what it had sent last could come; whether they would is not known.
            link.sync()
            m = step["unanswered"]
            answers = [i for i, got in enumerate(link.got) if got.ok and got.event == "phx_reply" and (got.topic, got.ref) == (m.topic, m.ref)]
            link.got = link.got[:answers[0]] if answers else link.got
        if not self.cleaning_up:
            self.check(stuck=True)
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

    def wait_limit(self, step):
        """Until so many have joined that nobody else may, or no longer: upgrades tell."""
        url = next(s["url"] for s in self.steps if s.get("what") == "connect")
        tick_s = replay_auth.LIMIT_TICK_S * self.server.pace

        def told():
            at = time.monotonic()
            try:
                self.open(url, {}).abort()
            except Refused as answer:
                return step["limited"] and answer.status == 429
            self.hurry = at + tick_s
            return not step["limited"]

        try:
            # Joins that fell into two ticks are fewer a second. They no longer count after a minute of the recording.
            until(told, f"limited: {step['limited']}", 3 * tick_s if step["limited"] else DEADLINE)
        except AssertionError as never:
            self.out_of_time(str(never))

    def wait_flood(self):
        """Until there are too many events a second; that lasts until the ticks in which they fell no longer count."""
        tick_s = replay_auth.LIMIT_TICK_S * self.server.pace
        try:
            self.server.wait_status(lambda st: st["rates"]["events"]["triggered"], "a flood", 3 * tick_s)
        except AssertionError as never:
            self.out_of_time(str(never))
        self.hurry = time.monotonic() + 8 * tick_s

    def send(self, step):
        link, m = self.links[step["conn"]], step["message"]
        if m.ok and m.event == "presence":
            link.presence_refs.add(m.ref)
        replaces = self.ends.sent(step["conn"], m)
        if step.get("refused"):
            link.to_be_refused(m.ref, replay_auth.ERROR_DELAY_S * self.server.pace)
        link.send(step["opcode"], m.encode())
        if replaces:
            self.sync()
            self.ends.replaced(step["conn"], m.topic)

    def receive(self, step):
        conn, m = step["conn"], step["message"]
        link = self.links[conn]
        link.want.append(m)
        if is_news(m) and step.get("news", True):
            link.read_on(is_news)
        if link.stuck:
            link.read_on()
        elif len(link.got) < len(link.want):
            self.sync()
        if len(link.got) < len(link.want):
            raise Mismatch(f"{conn}: missing {m}")
        if step.get("ended") and not self.ends.ended(conn, m.topic):
            raise Mismatch(f"{conn}: too early: {link.got[-1]}")
        if self.project.alone and any(other.stuck and replay_auth.readable(other) for other in self.links.values() if other != link):
            self.out_of_time(f"{conn}: another socket that should have stood still was answered before {m}")

    def out_of_time(self, what):
        """The machine's fault, maybe; in a self-check rather the server's, so that no slower pace is tried."""
        raise (Mismatch if self.server.wrong else TooSlow)(what)

    def run(self):
        """Generator: yields where another scenario may take its turn."""
        if self.project.idle_s:
            yield from replay_links.Paced(self).run()
            return
        if any("limited" in step or "flooded" in step for step in self.steps):
            self.hurry = time.monotonic() + replay_auth.LIMIT_TICK_S * self.server.pace
        for i, step in enumerate(self.steps):
            yield
            if "limited" in step:
                self.wait_limit(step)
            if "flooded" in step:
                self.wait_flood()
            if step["dir"] == "info":
                if step["what"] == "connect":
                    refusals = [s for s in self.steps[i:] if s.get("what") == "upgrade_refused" and s["conn"] == step["conn"]]
                    self.connect(step, refusals[0] if refusals else None)
                elif step["what"] == "operator":
                    self.check()
                    self.server.fault(step["order"])
                elif step["what"] == "sigterm":
                    self.check()
                    self.server.process.terminate()
                elif step["what"] == "dropped":
                    self.check(stuck=True)
                    n = self.server.status()["sockets_open"]
                    self.links.pop(step["conn"]).ws.abort()
                    self.server.wait_status(lambda st: st["sockets_open"] < n, "the server notices the end")
                elif step["what"] == "http_request":
                    self.check()
                    answer = replay_http.ask(self.server, step)
                elif step["what"] == "http_response":
                    replay_http.compare(step, answer, self.project.paced)
                    self.n_compared += 1
                continue
            if step["dir"] == "send" and step["quiet"]:
                self.check()
            if step["opcode"] == "close":
                self.close(step)
            elif step["dir"] == "send":
                self.send(step)
            else:
                self.receive(step)
        self.check(stuck=True)

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


def server_ends(steps):
    """The closes that the server began."""
    return [s for i, s in enumerate(steps) if s["dir"] == "recv" and s.get("opcode") == "close"
            and not any(e["dir"] == "send" and e.get("opcode") == "close" and e["conn"] == s["conn"] for e in steps[:i])]


def flip(scenario, rng):
    """Breaks one expectation, or the server; returns what was done."""
    wrong = list(scenario.project.flips(scenario.steps))
    if wrong and rng.randint(0, 1):
        what, do = rng.choice(wrong)
        do()
        return what
    steps = scenario.steps
    closed = server_ends(steps)
    if closed and rng.randint(0, 2) == 0:
        chosen = rng.choice(closed)
        chosen["code"] += 1
        return f"close {chosen['code'] - 1} of {chosen['conn']} is another one"
    present = [s for s in steps if s["dir"] == "recv" and '"metas"' in str(s.get("data"))]
    if present and rng.randint(0, 1):
        return flip_presence(rng.choice(present)["message"], rng)
    chosen = rng.choice([s for s in steps if s["dir"] == "recv" and "message" in s and s["message"].ok
                         or s.get("what") in ("upgrade_refused", "http_response")])
    if chosen.get("what") == "http_response":
        return replay_http.flip(chosen, rng)
    if "what" in chosen:
        chosen["status"] += 1
        return "another HTTP status"
    m, how = chosen["message"], rng.choice(["drop", "twice", "ref", "topic", "payload"])
    if how == "drop":
        steps.remove(chosen)
    elif how == "twice":
        steps.insert(steps.index(chosen), dict(chosen, quiet=False, news=False, ended=False))
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
    for pace in replay_auth.PACES:
        try:
            return play_at(pace, args, paths, rng, alter)
        except TooSlow as slow:
            why = slow
    raise Mismatch(f"at no pace: {why}")


def play_at(pace, args, paths, rng, alter):
    server = DevServer(args.bin, secret="".join(rng.choice("0123456789abcdef") for _ in range(48)),
                       strict_refs=args.strict, seed=rng.randint(1, 10 ** 9), start=False)
    server.now, server.began, server.pace = int(time.time()), time.time(), pace
    server.wrong = args.self_check
    scenarios = [Scenario(p, server, rng, args.strict) for p in paths]
    if alter:
        alter(scenarios[0])
    with tempfile.TemporaryDirectory() as folder:
        server.options.update(replay_auth.options([s.project for s in scenarios], pace, folder))
        server.start()
        with server:
            turns = {s.name: s.run() for s in scenarios}
            try:
                while turns:
                    name = rng.choice(sorted(turns))
                    try:
                        next(turns[name])
                    except StopIteration:
                        del turns[name]
                    except Mismatch as m:
                        hurry = next(s.hurry for s in scenarios if s.name == name)
                        raise (TooSlow if time.monotonic() > hurry and not server.wrong else Mismatch)(f"{name}: {m}") from None
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
            n = play(args, job, rng, (lambda played: what.append(flip(played, rng))) if args.self_check else None)
            bad = f"not noticed: {what[-1]}" if args.self_check else None
            good = f"{n} frames"
        except Mismatch as m:
            bad, good = (None, f"noticed: {what[-1]}") if args.self_check else (str(m), None)
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
        paths = [p for p in paths if not replay_auth.project(label(p)).alone]
        others = paths[:]
        rng.shuffle(others)
        jobs = [[a, b] for a, b in zip(paths, others)]
        jobs = [j if j[0] != j[1] else [j[0], paths[(paths.index(j[0]) + 1) % len(paths)]] for j in jobs]
    else:
        jobs = [[p] for p in paths]
    play_all(args, jobs, rng, play, flip)


if __name__ == "__main__":
    main()
