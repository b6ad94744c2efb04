# SPDX-License-Identifier: MIT
"""Who takes part in the soak: peers that never wait for an answer, so that one thread can play all of them."""

import json
import random
import subprocess
import time

from rtbtest.checker import Checker
from rtbtest.child import Child
from rtbtest.faults import Far, Field
from rtbtest.outside import Outside
from rtbtest.peer import Closed, Peer, RequestError
from rtbtest.story import binary
from rtbtest.tcpproxy import wall_ms

TABLE = "soak"
ROWS = "rows of " + TABLE  # what the checker calls their topic


class SoakField(Field):
    """A field whose checker begins anew with each round, and which hears rows, too."""

    def __init__(self):
        super().__init__()
        self.row_ears = {}   # peer: its listener
        self.players = {}    # peer: its player
        self.on_notice = self.notice

    def begin_round(self):
        """Everything is calm: what was said has been heard."""
        old, self.checker = self.checker, Checker(transit_ms=10000)
        again = {}
        for ears in self.peers.values():
            for chan, ear in ears.items():
                ears[chan] = again[ear] = self.checker.listener(ear.name, ear.topic, wall_ms(), ear.own, ear.changes, ear.elsewhere)
        self.row_ears = {peer: again[ear] for peer, ear in self.row_ears.items()}
        for topic in old.joins:
            self.checker.knows_joins_of(topic)
        self.heard.clear()

    def notice(self, peer, method, n):
        ear = self.row_ears.get(peer)
        if method == "postgres_changes" and ear is not None:
            ear.broadcast(n["data"]["record"], wall_ms())
        elif peer in self.players:
            self.players[peer].on_notice(method, n)

    def forget(self, peer, chan):
        ear = self.peers[peer].pop(chan, None)
        if ear is not None:
            ear.ended(wall_ms())
            if self.row_ears.get(peer) is ear:
                del self.row_ears[peer]


class Player:
    """One peer. ask() calls back with the result, or the error, when it is there."""

    def __init__(self, soak, name, token=None):
        self.soak, self.field, self.name, self.asked = soak, soak.field, name, {}
        self.peer = Peer(soak.daemon.socket, name=name, token=token)
        self.field.peers.setdefault(self.peer, {})
        self.field.players[self.peer] = self

    def ask(self, method, params, then=lambda result, error: None):
        self.asked[self.peer.request(method, params)] = then

    def step(self):
        for id in [id for id in self.asked if id in self.peer.responses]:
            then = self.asked.pop(id)
            try:
                result = self.peer.result(id)
            except RequestError as e:
                then(None, e)
                continue
            then(result, None)

    def on_notice(self, method, n):
        pass

    def is_calm(self):
        """Whether it has all that it wants."""
        return not self.asked

    def close(self):
        self.field.players.pop(self.peer, None)
        self.field.peers.pop(self.peer, None)
        self.peer.close()


class Ear(Player):
    """Listens to some topics, and subscribes anew when a subscription ends."""

    def __init__(self, soak, name, topics, private=False, own=None, token=None, elsewhere=False):
        super().__init__(soak, name, token)
        self.wanted = {topic: None for topic in topics}  # topic: its chan, when it has one
        self.private, self.own, self.elsewhere = private, own, elsewhere
        self.next_try = 0.0
        self.subscribe_all()

    def subscribe_all(self):
        for topic in [t for t, chan in self.wanted.items() if chan is None]:
            self.wanted[topic] = "asked"
            self.ask("subscribe", {"topic": topic, "private": self.private, "timeout_ms": 120000},
                     lambda result, error, topic=topic: self.answered(topic, result, error))

    def answered(self, topic, result, error):
        if error is not None:
            self.wanted[topic], self.next_try = None, time.monotonic() + 0.5
            self.soak.count(f"subscribe: {error.name}")
            return
        self.wanted[topic] = result["chan"]
        self.field.hear(self.peer, result["chan"], self.name, topic, own=self.own, elsewhere=self.elsewhere)

    def on_notice(self, method, n):
        if method == "channel" and n["state"] in ("rejected", "closed"):
            self.soak.count(f"channel {n['state']}: {n.get('code')}")
            for topic in [t for t, chan in self.wanted.items() if chan == n["chan"]]:
                self.field.forget(self.peer, n["chan"])
                self.wanted[topic], self.next_try = None, time.monotonic() + 0.5

    def step(self):
        super().step()
        if time.monotonic() > self.next_try:
            self.subscribe_all()

    def is_calm(self):
        return super().is_calm() and None not in self.wanted.values()


class Bearer(Ear):
    """Acts with a token of its own that lives for seconds, and renews it; now and then too late."""

    def __init__(self, soak, name, sub, topics, own=None, life=30):
        self.sub, self.life, self.late = sub, life, False
        super().__init__(soak, name, topics, private=True, own=own, token=self.fresh(soak, sub, life))
        self.renew_at = time.monotonic() + life / 2

    @staticmethod
    def fresh(soak, sub, life):
        return soak.server.token(role="authenticated", sub=sub, exp_in=life)

    def on_notice(self, method, n):
        super().on_notice(method, n)
        if method == "error" and n.get("method") == "auth":
            self.soak.count(f"own token ended: {n.get('code')}")
            self.renew_at = 0.0

    def step(self):
        if time.monotonic() > self.renew_at:
            # Late now and then: it expires, what it had is over, and all is asked for again.
            late = self.soak.r.random() < 0.15 and not self.soak.ending
            self.renew_at = time.monotonic() + (self.life + 3 if late else self.life / 2)
            self.ask("auth", {"token": self.fresh(self.soak, self.sub, self.life), "timeout_ms": 30000}, self.renewed)
        super().step()

    def renewed(self, result, error):
        if error is not None:
            self.soak.count(f"auth: {error.name}")
            self.renew_at = time.monotonic() + 1
        else:
            self.soak.count("tokens renewed")


class RowEar(Player):
    """Listens to rows."""

    def __init__(self, soak, name):
        super().__init__(soak, name)
        wish = {"event": "INSERT", "schema": "public", "table": TABLE}
        self.ready = False
        self.ask("subscribe", {"postgres_changes": [wish], "timeout_ms": 120000}, self.answered)

    def answered(self, result, error):
        assert error is None, error
        self.ready = True
        ear = self.field.hear(self.peer, result["chan"], self.name, ROWS, changes=True)
        self.field.row_ears[self.peer] = ear

    def is_calm(self):
        return super().is_calm() and self.ready


class Tracker(Player):
    """Is there, and says something new now and then; also looks who else is."""

    def __init__(self, soak, name, topic):
        super().__init__(soak, name)
        self.topic, self.next_state, self.n = topic, 0.0, 0
        self.ask("subscribe", {"topic": topic, "presence": {"key": name}, "timeout_ms": 120000})

    def step(self):
        super().step()
        if time.monotonic() > self.next_state and not self.soak.ending:
            self.next_state, self.n = time.monotonic() + random.uniform(10, 25), self.n + 1
            self.ask("track", {"topic": self.topic, "key": self.name, "state": {"n": self.n}, "timeout_ms": 15000}, self.told)

    def told(self, result, error):
        self.soak.count(f"track: {error.name if error else result['outcome']}")


class Commands:
    """Short-lived runs of the command; each has to end by itself."""

    def __init__(self, soak):
        self.soak, self.running, self.n = soak, [], 0

    def run(self):
        self.n += 1
        args = self.soak.r.choice([
            ["status"], ["--json", "status"], ["channels"], ["pub", "commands", "e", json.dumps({"n": self.n})],
            ["pub", "--ws", "commands", "e"], ["pub", "--http", "commands", "e"], ["sub", "-E", "-W", "20", "commands"],
            ["sub", "-E", "-W", "20", "--presence", "commands"], ["presence", "-W", "20", "people", "ls"]])
        process = subprocess.Popen([binary("rtbridge"), "-s", self.soak.daemon.socket, *args], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.running.append((process, args, time.monotonic() + 120))

    def step(self):
        for entry in list(self.running):
            process, args, end = entry
            code = process.poll()
            if code is not None:
                errors = process.stderr.read()
                process.stderr.close()
                self.running.remove(entry)
                self.soak.count(f"command ended with {code}")
                if code < 0 or code not in (0, 1, 3, 4, 5, 6, 7, 27) or "Sanitizer" in errors or "runtime error" in errors:
                    self.soak.fail(f"rtbridge {args} ended with {code}: {errors}")
            elif time.monotonic() > end:
                process.kill()
                self.soak.fail(f"rtbridge {args} does not end")

    def close(self):
        for process, _, _ in self.running:
            process.kill()
            process.wait()
            process.stderr.close()


class Victims:
    """Readers in processes of their own, which are stopped, continued, killed and replaced."""

    def __init__(self, soak, n, topic):
        self.soak, self.topic, self.stopped = soak, topic, {}
        self.children = [self.start(i) for i in range(n)]

    def start(self, i):
        child = Child(self.soak.daemon.socket, f"victim{i}")
        child.post("subscribe", {"topic": self.topic, "keep": True, "timeout_ms": 100})
        return child

    def signal(self, i, number):
        self.children[i].process.send_signal(number)

    def replace(self, i):
        self.children[i].kill()
        self.children[i] = self.start(i)

    def close(self):
        for child in self.children:
            child.kill()


class FarRows(Far):
    """A client past the daemon that hears rows."""

    def message(self, opcode, data):
        if opcode != 1:
            return None
        message = json.loads(data)
        return (ROWS, message[4]["data"]["record"]) if message[3] == "postgres_changes" else None


def outside(soak, topics, private=False):
    """What Far connects by."""

    def connect():
        client = Outside(soak.server.url, soak.server.token(role="anon", sub="past the daemon"))
        for topic in topics:
            client.join(topic, private=private, broadcast={"ack": False, "self": False})
        return client

    return connect


def outside_rows(soak):
    def connect():
        client = Outside(soak.server.url, soak.server.token(role="anon", sub="past the daemon"))
        client.join("far rows", postgres_changes=[{"event": "INSERT", "schema": "public", "table": TABLE}])
        client.expect("system", seconds=5)
        return client

    return connect


__all__ = ["Bearer", "Closed", "Commands", "Ear", "FarRows", "Player", "ROWS", "RowEar", "SoakField", "TABLE", "Tracker", "Victims",
           "outside", "outside_rows"]
