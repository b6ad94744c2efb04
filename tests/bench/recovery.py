# SPDX-License-Identifier: MIT
"""How long it takes to come back, and to notice that one is gone: rtbridge, and the official JavaScript client with its own
defaults, beside each other on the same server, at the same moment.

    recovery.py BIN NODE_MODULES [ROUNDS]
"""

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time

from rtbtest.clocks import Clocks
from rtbtest.daemon import Daemon
from rtbtest.devserver import DevServer
from rtbtest.peer import Closed, Peer
from rtbtest.tcpproxy import BOTH, TcpProxy

TOPICS = 100
LIMIT = 150  # seconds for anything


class Watch:
    """Who is back: when the last of the topics was joined again, and when the first was lost."""

    def __init__(self, name):
        self.name = name
        self.joined = set()
        self.lost_at = None
        self.all_at = None
        self.changed = threading.Condition()

    def say(self, topic, joined):
        with self.changed:
            now = time.monotonic()
            if joined:
                self.joined.add(topic)
                if len(self.joined) == TOPICS and self.all_at is None:
                    self.all_at = now
            elif topic in self.joined:
                self.joined.discard(topic)
                self.all_at = None
                self.lost_at = self.lost_at or now
            self.changed.notify_all()

    def forget(self):
        with self.changed:
            self.lost_at = None

    def wait(self, what, condition):
        with self.changed:
            if not self.changed.wait_for(condition, LIMIT):
                raise AssertionError(f"{self.name}: {what}: not within {LIMIT} s ({len(self.joined)} of {TOPICS} joined)")

    def wait_all(self):
        self.wait("all topics are joined", lambda: self.all_at is not None)
        return self.all_at

    def wait_lost(self):
        self.wait("the loss is noticed", lambda: self.lost_at is not None)
        return self.lost_at


class Bridge:
    """rtbridged with one attached process."""

    def __init__(self, folder, url, key):
        self.watch = Watch("rtbridge")
        self.clocks = Clocks(folder)
        self.daemon = Daemon(os.path.join(folder, "rtbridged"), url, key, log_level="notice", env=self.clocks.env,
                             sections={"limits": {"channels": TOPICS}})
        self.peer = Peer(self.daemon.socket)
        for i in range(TOPICS):
            self.peer.subscribe(f"recovery:{i}", broadcast={}, timeout_ms=60000)
            self.watch.say(f"recovery:{i}", True)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                notice = self.peer.wait_notice("channel", seconds=3600)
            except Closed:
                return
            self.watch.say(notice["topic"], notice["state"] == "ready")

    def close(self):
        self.daemon.stop()
        self.daemon.remove()
        self.clocks.close()


class Official:
    """The official client in a process of its own."""

    def __init__(self, modules, url, key):
        self.watch = Watch("realtime-js")
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recovery.mjs")
        url = url.rsplit("/websocket", 1)[0]
        self.process = subprocess.Popen(["node", script, url, key, str(TOPICS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=dict(os.environ, RTB_NODE_MODULES=modules))
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            said = json.loads(line)
            self.watch.say(said["topic"], said["status"] == "SUBSCRIBED")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def spread(values):
    return f"{statistics.median(values):6.1f} s  ({min(values):.1f} to {max(values):.1f})"


def restart(server, watches):
    """The server closes with 1012 and is there again at once: until the last of the topics is joined."""
    for w in watches:
        w.forget()
    server.restart()
    begin = time.monotonic()
    for w in watches:
        w.wait_lost()
    return [w.wait_all() - begin for w in watches]


def half_open(proxy, watches):
    """Nothing passes any more, and nobody says so: until the first topic is said to be lost."""
    for w in watches:
        w.forget()
    proxy.hole(BOTH)
    begin = time.monotonic()
    noticed = [w.wait_lost() - begin for w in watches]
    proxy.heal()
    proxy.drop()
    for w in watches:
        w.wait_all()
    return noticed


def slept(bridge):
    """Of rtbridge alone: the other has no clock that would tell it."""
    bridge.watch.forget()
    bridge.clocks.sleep(60)
    begin = time.monotonic()
    noticed = bridge.watch.wait_lost() - begin
    return noticed, bridge.watch.wait_all() - begin


def main():
    folder, modules = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    back, lost, sleeps = [], [], []
    with DevServer(os.path.join(folder, "rtbridge-devserver")) as server, TcpProxy(server.port) as proxy:
        key = server.token(role="anon")
        url = proxy.url(server.url)
        both = [Bridge(folder, url, key), Official(modules, url, key)]
        watches = [x.watch for x in both]
        for w in watches:
            w.wait_all()
        for _ in range(rounds):
            back.append(restart(server, watches))
            time.sleep(random.uniform(0, 5))  # a moment of the interval between heartbeats that nobody has chosen
            lost.append(half_open(proxy, watches))
            sleeps.append(slept(both[0]))
        for x in both:
            x.close()
    print(f"{TOPICS} topics, {rounds} rounds: median (least to most)")
    print(f"{'':44}{'rtbridge':28}{'realtime-js, its defaults':28}goal")
    for what, values, goal in (
            ("server restarted: all topics are back after", back, "12 s"),
            ("half-open: the loss is noticed after", lost, "36 s")):
        ours, theirs = [v[0] for v in values], [v[1] for v in values]
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"{what:44}{spread(ours):28}{spread(theirs):28}{goal}; ratio {ratio:.2f}")
    print(f"{'slept 60 s: noticed after':44}{spread([s[0] for s in sleeps]):28}{'-':28}2 s (*)")
    print(f"{'slept 60 s: all topics are back after':44}{spread([s[1] for s in sleeps]):28}{'-':28}")
    print("(*) the sleep is played: the kernel does not know of it, and does not end the pause of up to 5 s as after a real one")


if __name__ == "__main__":
    main()
