#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Twenty peers of all kinds and a random fault every few seconds, for minutes or hours; nothing may be lost in silence, said twice
or told falsely, no memory and no descriptor may stay behind, and no sanitizer may have a word to say.

Time goes in rounds: faults for most of a minute, then calm, in which everything has to work again and the checker judges the
round. RTB_SEED=N makes the same choices again. Exit status: 0, or 1 with what was wrong.
"""

import argparse
import collections
import contextlib
import heapq
import json
import os
import random
import sys
import tempfile
import time
import traceback

from calamity import Calamity
from players import (ROWS, TABLE, Bearer, Commands, Ear, FarRows, Player, RowEar, SoakField, Tracker, Victims, outside, outside_rows)

from rtbtest.daemon import Daemon
from rtbtest.devserver import DevServer
from rtbtest.faults import has
from rtbtest.peer import Peer, RequestError
from rtbtest.story import binary
from rtbtest.tcpproxy import TcpProxy, wall_ms
from rtbtest.wait import until

ROUND_S = 45
RSS_SLACK = 48 << 20   # of a build with sanitizers, whose allocator gives little back
FDS_SLACK = 4
CALM_S = 400           # the longest pause of the daemon is five minutes
TOKEN_LIFE_S = 30      # of the daemon's own: see own_token()
PRIVATE, PEOPLE = "soak:private", "people"
# A small quarantine: what is freed shall show as free.
SANITIZERS = {"ASAN_OPTIONS": "quarantine_size_mb=8:detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def own_token(soak, stack):
    """Where the daemon's own token comes from: keys for [upstream]. A session of a server of its own, which no fault stops, for
    sessions are those of one process; its tokens live for less than a round."""
    soak.auth = stack.enter_context(DevServer(binary("rtbridge-devserver"), secret=soak.server.secret, reuse_interval_ms=60000))
    session = soak.daemon_session = soak.auth.session(sub="the daemon", life_s=TOKEN_LIFE_S)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path, state = os.path.join(folder, "refresh_token"), os.path.join(folder, "state")
    os.mkdir(state, 0o700)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as f:
        f.write(session.refresh_token + "\n")
    return {"auth_url": f"http://127.0.0.1:{soak.auth.port}/auth/v1", "refresh_token_file": path, "state_dir": state,
            "token_lead": f"{TOKEN_LIFE_S // 3}s"}


class Soak:
    def __init__(self, minutes, seed):
        self.r, self.minutes, self.seed = random.Random(seed), minutes, seed
        self.topics = [f"soak:{i}" for i in range(2)]
        self.counts, self.failures, self.faults = collections.Counter(), [], collections.Counter()
        self.totals, self.plan, self.n_planned, self.ending = collections.Counter(), [], 0, False
        self.server_is_up, self.log_from, self.log_read_ms, self.next_row, self.n_rows = True, 0, wall_ms(), 0.0, 0
        self.start, self.passing = time.monotonic(), []

    # ---- what there is ----

    def open(self, stack):
        self.server = stack.enter_context(DevServer(binary("rtbridge-devserver"), join_error_delay_ms=200))
        self.proxy = stack.enter_context(TcpProxy(self.server.port))
        upstream = {"backoff_min": "50ms", "backoff_max": "1s", "heartbeat": "2s", "heartbeat_reply": "1500ms", "attempt_timeout": "3s",
                    "connect_timeout": "2s", "joins_per_second": "50"}
        upstream.update(own_token(self, stack))
        self.daemon = Daemon(binary("rtbridged"), self.proxy.url(self.server.url), self.server.token(role="anon", exp_in=86400),
                             sections={"limits": {"links": "8"}, "upstream": upstream}, log_level="info", env=SANITIZERS, start=False)
        stack.callback(self.daemon.remove)
        self.daemon.start()
        stack.callback(self.close_daemon)
        self.control = Peer(self.daemon.socket, name="control")
        stack.callback(self.control.close)
        until(lambda: self.connection()["state"] == "online", "the daemon is online")
        self.field = SoakField()
        for topic in self.topics:
            self.field.checker.knows_joins_of(topic)
        self.people(stack)

    def people(self, stack):
        """Twenty peers, and who is past the daemon."""
        a, b = self.topics
        self.ears = [Ear(self, "e0", [a]), Ear(self, "e1", [a, b]), Ear(self, "e2", [b]), Ear(self, "e3", [a, b])]
        self.players = list(self.ears)
        for name, topic, via in ("ws-a", a, "ws"), ("ws-b", b, "ws"), ("auto-a", a, "auto"), ("http-b", b, "http"):
            player = Player(self, name)
            self.players.append(player)
            self.field.mouth(name, topic, player.peer, via=via)
        # A sender that listens, and does not hear itself.
        both = Ear(self, "both", [a], own="both")
        self.players.append(both)
        self.field.mouth("both", a, both.peer, via="ws", ttl_ms=2000)
        for name, sub in ("ann1", "ann"), ("ann2", "ann"), ("ben1", "ben"):
            bearer = Bearer(self, name, sub, [PRIVATE], own=name)
            bearer.elsewhere = True  # whose identity goes away for a moment has nobody who hands on
            self.players.append(bearer)
            self.field.mouth(name, PRIVATE, bearer.peer, via="ws", private=True)
        self.trackers = [Tracker(self, f"t{i}", PEOPLE) for i in range(3)]
        self.watcher = Ear(self, "watcher", ["elsewhere"])
        self.players += [*self.trackers, self.watcher, RowEar(self, "r0"), RowEar(self, "r1")]
        self.victims = Victims(self, 2, a)
        stack.callback(self.victims.close)
        self.commands = Commands(self)
        stack.callback(self.commands.close)
        self.field.mouth("far-a", a, far=self.field.far(outside(self, self.topics)))
        self.field.mouth("far-b", b, far=self.field.fars[0])
        self.field.far(outside(self, self.topics), *self.topics)
        self.field.far(outside(self, [PRIVATE], private=True), PRIVATE)
        self.field.fars.append(FarRows(self.field, outside_rows(self), [ROWS]))
        for far in self.field.fars:
            stack.callback(far.close)

    def close_daemon(self):
        """A sanitizer's report at the end, a leak, makes the exit status wrong."""
        try:
            if self.daemon.process is not None:
                self.daemon.stop()
        except AssertionError as e:
            text = str(e)
            self.fail(text if len(text) < 4000 else f"{text[:300]} ... {text[-3000:]}")
        text = self.daemon.log_text()
        for word in "runtime error", "Sanitizer":
            if word in text:
                at = text.index(word)
                self.fail(f"rtbridged: {text[max(0, at - 200):at + 3000]}")
                return

    # ---- for the players and the faults ----

    def count(self, what):
        self.counts[what] += 1

    def fail(self, text):
        self.failures.append(text)
        self.say(f"FAILURE: {text}")

    def later(self, seconds, what):
        self.n_planned += 1
        heapq.heappush(self.plan, (time.monotonic() + seconds, self.n_planned, what))

    def say(self, text):
        print(f"{time.monotonic() - self.start:8.1f} {text}", flush=True)

    def connection(self):
        return self.control.status()["connection"]

    def server_down(self, kill):
        self.harvest()
        self.server_is_up = False
        if kill:
            self.server.kill()
        else:
            self.server.stop()

    def server_up(self):
        if not self.server_is_up:
            self.server.start()
            self.server_is_up, self.log_from = True, 0
            self.field.checker.joins_not_known(self.log_read_ms, wall_ms())

    def outcast(self, end):
        """A subscription of its own that the server ends for good: told once, as rejected."""
        topic = f"outcast:{self.r.randrange(10 ** 9)}"
        player = Player(self, "outcast")
        box = []

        def answered(result, error):
            if error is None:
                box.append(end(topic))
                self.later(20, player.close)
            else:
                player.close()

        player.ask("subscribe", {"topic": topic, "timeout_ms": 5000}, answered)
        self.passing.append(player)
        return topic

    # ---- the loop ----

    def talk(self):
        now = time.monotonic()
        for mouth in self.field.mouths:
            if len(mouth.waiting) < 200 and self.r.random() < 0.1:
                mouth.send(size=self.r.choice((0, 0, 0, 300, 3000)))
        if now > self.next_row:
            self.next_row = now + 0.5
            self.row()

    def row(self):
        if not self.server_is_up:
            return
        self.field.checker.sent("db", self.n_rows, ROWS, wall_ms())
        self.n_rows += 1
        try:
            self.server.postgres_row(TABLE, "INSERT", record={"s": "db", "n": self.n_rows - 1}, columns=[])
        except (OSError, AssertionError):
            pass

    def turn(self, seconds=0.02):
        self.field.pump(seconds)
        now = time.monotonic()
        while self.plan and self.plan[0][0] <= now:
            heapq.heappop(self.plan)[2]()
        for player in [*self.players, *self.passing]:
            if player.peer in self.field.players:
                player.step()
        self.passing = [p for p in self.passing if p.peer in self.field.players]
        self.commands.step()
        if self.daemon.process.poll() is not None:
            raise AssertionError(f"rtbridged ended with {self.daemon.process.returncode}: {self.daemon.log_text()[-5000:]}")

    def wait(self, condition, what, seconds=CALM_S):
        end, look = time.monotonic() + seconds, 0.0
        while True:
            if time.monotonic() > look:
                value = condition()
                if value:
                    return value
                look = time.monotonic() + 0.1
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.what_is_missing()}")
            self.turn()

    def what_is_missing(self):
        """For people: whatever is not as it is when all is well."""
        status = self.control.status()
        lines = [f"connection: {status['connection']}"]
        lines += [f"channel: {c}" for c in status["channels"] if c["state"] != "ready"]
        lines += [f"binding: {b}" for b in status["postgres_changes"] if b["state"] != "ready"]
        lines += [f"{p.name} waits for {len(p.asked)} answers" for p in self.players if not p.is_calm()]
        lines += [f"far {f.witness_of} is away" for f in self.field.fars if f.client is None]
        return "\n".join(lines)

    def round(self, calamity, seconds):
        end, next_fault, next_command = time.monotonic() + seconds, time.monotonic() + 1, 0.0
        while (now := time.monotonic()) < end:
            if now > next_fault and self.server_is_up:
                next_fault = now + self.r.uniform(0.5, 4)
                name, words = calamity.next()
                self.faults[name] += 1
                self.say(f"{name} {words}")
            if now > next_command:
                next_command = now + self.r.uniform(0.5, 3)
                self.commands.run()
            self.talk()
            self.turn()

    # ---- calm, and what is judged then ----

    def heal(self):
        while self.plan:
            heapq.heappop(self.plan)[2]()
        self.server_up()
        self.proxy.accept()
        self.proxy.heal()
        self.server.fault(op="clear")

    def all_ready(self):
        status = self.control.status()
        return (status["connection"]["state"] == "online" and all(p.is_calm() for p in self.players)
                and all(c["state"] == "ready" for c in status["channels"] if c["subscribers"] and c["topic"].startswith("soak:"))
                and all(b["state"] == "ready" for b in status["postgres_changes"]) and all(f.client for f in self.field.fars))

    def listeners(self, mouth):
        return [x for x in self.field.checker.listeners if x.topic == mouth.topic and x.own != mouth.name and x.until_ms is None]

    def markers(self):
        """A message of each sender, and a row, that every listener gets."""
        def all_came():
            if all(has(x, m.name, n) for m, n in numbers for x in self.listeners(m)):
                rows = [x for x in self.field.checker.listeners if x.topic == ROWS and x.until_ms is None]
                return all(has(x, "db", row) for x in rows)
            return False

        for attempt in range(6):
            numbers = [(m, m.send()) for m in self.field.mouths]
            self.row()
            row = self.n_rows - 1
            try:
                self.wait(lambda: None not in [n for _, n in numbers] and all_came(), "the last messages have come", 10 if attempt < 5 else 60)
                return
            except AssertionError:
                self.count("markers again")
                if attempt == 5:
                    raise

    def calm(self):
        self.heal()
        self.wait(self.all_ready, "everything is back")
        self.markers()
        self.wait(lambda: not self.field.unanswered(), "all sends have outcomes")
        self.wait(self.same_people, "all see the same people", 90)
        for peer in list(self.field.peers):
            peer.sync(upstream=True)
        self.field.hear_out()
        self.harvest()
        self.judge()
        self.field.begin_round()
        self.markers()

    def same_people(self):
        """As the server has it, and as each of those shown sees it."""
        want = {t.name for t in self.trackers}
        there = set(self.server.presence("realtime:" + PEOPLE))
        if there != want:
            return False
        return all(self.people_of(tracker.peer) == want for tracker in self.trackers)

    @staticmethod
    def people_of(peer):
        try:
            return {e["key"] for e in peer.call("presence", {"topic": PEOPLE})["snapshot"]}
        except RequestError:
            return None

    def harvest(self):
        """The daemon's joins, from the server's log."""
        whole = json.loads(self.server.request("GET", "/_devserver/log")[2])
        entries, now = whole["entries"], wall_ms()
        if entries and entries[0]["n"] > self.log_from + 1:
            self.field.checker.joins_not_known(self.log_read_ms, entries[0]["at_ms"])
        for e in entries:
            topic = e["topic"].removeprefix("realtime:")
            if e["n"] > self.log_from:
                self.log_from = e["n"]
                if e["event"] == "phx_join" and e["outcome"] == "ok" and e["sub"] != "past the daemon" and topic in self.field.checker.joins:
                    self.field.checker.joined(topic, e["at_ms"])
        self.log_read_ms = now

    def judge(self):
        checker = self.field.checker
        for violation in checker.check():
            self.fail(violation.strip())
        for what, n in checker.judged.items():
            self.totals[what] += n
        t = self.totals
        self.say(f"round: {t['sends']} messages, {t['received']} received, {sum(self.faults.values())} faults, {t['gaps']} gaps announced, "
                 f"{t['missing, told']} missing and told, {len(self.failures)} violations, {self.gauges()}")

    # ---- what stays behind ----

    def fds(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    def gauges(self):
        return f"RSS {self.daemon.rss_bytes() >> 20} MiB, {self.fds()} descriptors"

    def quiet(self, seconds):
        """No faults: what was opened for them is closed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.talk()
            self.turn()
        self.calm()

    def run(self):
        self.wait(self.all_ready, "everything is there")
        calamity = Calamity(self)
        seconds = self.minutes * 60
        end = self.start + seconds
        rest = min(60, seconds / 6)
        self.quiet(min(10, seconds / 12))
        rss, fds = self.daemon.rss_bytes(), self.fds()
        self.say(f"begins: seed {self.seed}, {len(self.field.peers) + len(self.victims.children)} peers, {self.gauges()}")
        while time.monotonic() < end - rest - 5:
            self.round(calamity, min(ROUND_S, end - rest - 5 - time.monotonic()))
            self.calm()
        self.ending = True
        self.quiet(rest)
        self.victims.close()
        self.victims.children = []
        self.counts["refreshes of the daemon's token"] = len(self.auth.token_log())
        if self.daemon_session.active() is None:
            self.fail("the session of the daemon's token has ended")
        if self.counts["refreshes of the daemon's token"] < seconds / TOKEN_LIFE_S:
            self.fail("the daemon's token was not refreshed in time")
        self.wait(lambda: self.fds() <= fds + FDS_SLACK, f"no more than {fds} + {FDS_SLACK} descriptors", 90)
        grown = self.daemon.rss_bytes() - rss
        self.say(f"ends: RSS {grown / (1 << 20):+.1f} MiB, {self.fds() - fds:+d} descriptors")
        if grown > RSS_SLACK:
            self.fail(f"memory has grown by {grown >> 20} MiB")

    def report(self):
        print("faults:", ", ".join(f"{n} {w}" for w, n in sorted(self.faults.items())))
        print("judged:", ", ".join(f"{n} {w}" for w, n in sorted(self.totals.items())))
        print("and:", ", ".join(f"{n} {w}" for w, n in sorted(self.counts.items())))
        print(f"{len(self.failures)} violations")
        for text in self.failures[:20]:
            print("---\n" + text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("minutes", nargs="?", type=float, default=30)
    minutes = parser.parse_args().minutes
    soak = Soak(minutes, int(os.environ.get("RTB_SEED") or random.randrange(2 ** 32)))
    print(f"RTB_SEED={soak.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        try:
            soak.open(stack)
            soak.run()
        except Exception as e:  # whatever it is, what was found so far is told
            traceback.print_exc()
            soak.fail(f"{type(e).__name__}: {e}")
    soak.report()
    sys.exit(1 if soak.failures else 0)


if __name__ == "__main__":
    main()
