# SPDX-License-Identifier: MIT
"""Random steps of everybody who can be in a room: local watchers and trackers of two daemons, the official client, and an
upstream that breaks. Again and again all of it is let settle; then everybody must know the same.

RTB_SEED, RTB_STEPS: to repeat a run, or to make another one. The steps repeat exactly, their timing does not.
"""

import os
import random
import time
import unittest

from conformance import Js
from rtbtest.child import Child
from rtbtest.peer import RequestError
from rtbtest.presence import Watch, canonical
from rtbtest.story import Story
from rtbtest.wait import Deadline

ROOMS = 3
COMPARE_EVERY = 25
# The daemon may hold a change back for a whole window of the server's limit.
SETTLE_S = 60


def bridged(entries):
    """The server's {(key, ref): state} as rtbridge shows it."""
    found = {}
    for (key, ref), state in entries.items():
        if key.startswith("rtbridge:"):
            found.update({(member, key): shown for member, shown in state["members"].items()})
        else:
            found[(key, ref)] = state
    return found


def by_key(entries):
    states = {}
    for key, state in entries:
        states.setdefault(key, []).append(state)
    return canonical(states)


class Local:
    """A local process that tracks; it may be killed."""

    def __init__(self, daemon, name):
        self.daemon, self.name = daemon, name
        self.shown = {}  # room: (key, state)
        self.calls = {}  # room: since it began to track there
        self.child = Child(daemon.socket, name)

    def killed(self):
        self.child.kill()
        self.shown.clear()
        self.calls.clear()
        self.child = Child(self.daemon.socket, self.name)


class Listener:
    """A local process that watches some rooms."""

    def __init__(self, story, daemon):
        self.story, self.daemon = story, daemon
        self.watches = {}
        self.peer = story.peer(daemon)

    def restart(self):
        self.peer.close()
        self.watches.clear()
        self.peer = self.story.peer(self.daemon)


class Official:
    """The official client: one channel for each room it is in. It does not track again by itself after a reconnect: as its
    users do, we do when it says SUBSCRIBED."""

    MAX_CALLS = 5  # of a join in the server's window

    def __init__(self, js, name):
        self.js, self.name = js, name
        self.rooms = {}  # room: the key
        self.shown = {}  # room: (key, state)
        self.calls = {}  # room: presence calls since its join
        self.is_down = False

    def joined(self, room):
        status = self.js.wait("status", topic=room)["status"]
        while status != "SUBSCRIBED":
            # It may not have seen yet that its connection is gone.
            assert status == "CHANNEL_ERROR", status
            status = self.js.wait("status", topic=room)["status"]
        self.calls[room] = 0

    def join(self, room, key):
        self.js.do("join", topic=room, presence=key)
        self.rooms[room] = key
        self.joined(room)

    def leave(self, room):
        self.js.do("leave", topic=room)
        assert self.js.wait("left", topic=room)["result"] == "ok"
        assert self.js.wait("status", topic=room)["status"] == "CLOSED"
        self.rooms.pop(room)
        self.shown.pop(room, None)

    def call(self, op, room, **params):
        if self.calls[room] == self.MAX_CALLS:
            key = self.rooms[room]
            self.leave(room)
            self.join(room, key)
            if op == "untrack":
                return
        self.calls[room] += 1
        self.js.do(op, topic=room, **params)
        assert self.js.wait("tracked", topic=room)["result"] == "ok"

    def track(self, room, state):
        self.call("track", room, state=state)
        self.shown[room] = (self.rooms[room], state)

    def untrack(self, room):
        self.call("untrack", room)
        self.shown.pop(room, None)

    def back(self):
        """After the upstream has broken."""
        if not self.is_down:
            return
        self.is_down = False
        for room in self.rooms:
            assert self.js.wait("status", topic=room)["status"] == "CHANNEL_ERROR"
            self.joined(room)
            if room in self.shown:
                self.track(room, self.shown[room][1])

    def view(self, room):
        self.js.do("view", topic=room)
        view = self.js.wait("view", topic=room)
        assert view["result"] == "ok", view
        return {(key, ref): state for key, ref, state in view["raw"]}, view["state"]


class PresenceStory(Story):
    mode = "links"
    js_vsn = "2.0.0"
    n_steps = 500

    @classmethod
    def setUpClass(cls):
        cls.sections = {"limits": {"links": 8}, "presence": {"trackers": cls.mode}}
        super().setUpClass()

    def setUp(self):
        seed = int(os.environ.get("RTB_SEED") or random.randrange(10 ** 9))
        self.n_steps = int(os.environ.get("RTB_STEPS") or self.n_steps)
        print(f"RTB_SEED={seed}, {self.n_steps} steps, trackers = {self.mode}", flush=True)
        self.random = random.Random(seed)
        self.rooms = [f"story:{seed}:{i}" for i in range(ROOMS)]
        self.neighbour = self.enterContext(self.another())
        daemons = [self.daemon] * 4 + [self.neighbour] * 2
        self.locals = [Local(daemon, f"t{i}") for i, daemon in enumerate(daemons)]
        self.addCleanup(lambda: [one.child.kill() for one in self.locals])
        self.listeners = [Listener(self, daemon) for daemon in [self.daemon] * 3 + [self.neighbour]]
        self.officials = []
        for i in range(2):
            js = Js(self.server.url, self.key, self.js_vsn)
            self.addCleanup(js.close)
            self.officials.append(Official(js, f"js{i}"))
        self.n_states = 0
        self.done = {}

    # ---- steps: each returns False when it does not fit ----

    def pick(self, list_):
        return self.random.choice(list_)

    def state(self):
        self.n_states += 1
        return {"n": self.n_states, "who": self.pick(["ünï", "😀", "plain"]), "deep": [{"a": None}]}

    def some_key(self, name):
        """Mostly its own, sometimes one that others have too."""
        return name if self.random.random() < 0.7 else self.pick(["shared", "ключ"])

    def listen(self):
        """Without presence: that it is wanted later costs a rejoin."""
        listener, room = self.pick(self.listeners), self.pick(self.rooms)
        if room in listener.watches:
            return False
        listener.peer.subscribe(room)

    def watch(self):
        listener, room = self.pick(self.listeners), self.pick(self.rooms)
        if room in listener.watches:
            return False
        listener.watches[room] = Watch(listener.peer, room, timeout_ms=60000)

    def unwatch(self):
        listener = self.pick(self.listeners)
        if not listener.watches:
            return False
        room = self.pick(sorted(listener.watches))
        listener.watches.pop(room).end()

    def end_listener(self):
        self.pick(self.listeners).restart()

    def track(self):
        local, room = self.pick(self.locals), self.pick(self.rooms)
        if room in local.shown:
            return False
        params = {"timeout_ms": self.pick([0, 15000]), "key": self.some_key(local.name)}
        if self.mode == "links" and self.random.random() < 0.2:
            del params["key"]
        state = self.state()
        try:
            answer = local.child.track(room, state, **params)
        except RequestError as e:
            assert self.mode == "merge" and e.name == "presence_taken", e
            return True
        assert answer["outcome"] in ("acked", "throttled", "queued"), answer
        assert answer["key"] == params.get("key", answer["key"])
        local.shown[room], local.calls[room] = (answer["key"], state), 1

    def update(self):
        local = self.pick(self.locals)
        rooms = sorted(room for room in local.shown if local.calls[room] < 3)
        if not rooms:
            return False
        room, state = self.pick(rooms), self.state()
        answer = local.child.track(room, state, timeout_ms=self.pick([0, 15000]))
        assert answer["outcome"] in ("acked", "throttled", "queued"), answer
        key, _ = local.shown[room]
        assert answer["key"] == key
        local.shown[room] = (key, state)
        local.calls[room] += 1

    def untrack(self):
        local = self.pick(self.locals)
        if not local.shown:
            return False
        room = self.pick(sorted(local.shown))
        del local.shown[room], local.calls[room]
        assert local.child.untrack(room) == {}

    def kill(self):
        local = self.pick(self.locals)
        if not local.shown:
            return False
        if self.random.random() < 0.5:
            # In the middle of something.
            local.child.post("track", {"topic": self.pick(sorted(local.shown)), "state": self.state()})
        local.killed()

    def official(self):
        official = self.pick(self.officials)
        official.back()
        return official

    def js_join(self):
        official, room = self.official(), self.pick(self.rooms)
        if room in official.rooms:
            return False
        official.join(room, self.some_key(official.name))

    def js_leave(self):
        official = self.official()
        if not official.rooms:
            return False
        official.leave(self.pick(sorted(official.rooms)))

    def js_track(self):
        official = self.official()
        if not official.rooms:
            return False
        official.track(self.pick(sorted(official.rooms)), self.state())

    def js_untrack(self):
        official = self.official()
        if not official.shown:
            return False
        official.untrack(self.pick(sorted(official.shown)))

    def breaks(self):
        for official in self.officials:
            official.back()
            official.is_down = True
        if self.random.random() < 0.4:
            self.server.restart()
        else:
            self.server.fault({"op": "close", "code": self.pick([1006, 1012]), "sockets": "all"})

    STEPS = {"listen": 3, "watch": 8, "unwatch": 5, "end_listener": 1, "track": 12, "update": 10, "untrack": 6, "kill": 4,
             "js_join": 5, "js_leave": 2, "js_track": 8, "js_untrack": 3, "breaks": 1.5}

    def step(self):
        weights = dict(self.STEPS)
        if self.n_steps - sum(self.done.values()) < 50:
            # None is left out in any story.
            weights.update({name: 1000 for name in self.STEPS if name not in self.done})
        while True:
            [name] = self.random.choices(list(weights), weights.values())
            if getattr(self, name)() is not False:
                self.done[name] = self.done.get(name, 0) + 1
                return

    # ---- everybody knows the same ----

    def expected(self, room):
        """By what has been done."""
        shown = [one.shown[room] for one in [*self.locals, *self.officials] if room in one.shown]
        return by_key(shown)

    def tables(self, status):
        """By the server: {room: {(key, phx_ref): state}}."""
        tables = {room: {} for room in self.rooms}
        for found in status["presence"]:
            tables[found["topic"].removeprefix("realtime:")] = {(e["key"], e["phx_ref"]): e["state"] for e in found["entries"]}
        return tables

    def server_settled(self):
        def same(status):
            tables = self.tables(status)
            return all(by_key((k, s) for (k, _), s in bridged(tables[r]).items()) == self.expected(r) for r in self.rooms)
        try:
            return self.server.wait_status(same, "the server's table is what was done", SETTLE_S)
        except AssertionError:
            tables = self.tables(self.server.status())
            for room in self.rooms:
                self.assertEqual(by_key((k, s) for (k, _), s in bridged(tables[room]).items()), self.expected(room), room)
            raise

    def compare_local(self, tables):
        """What differs, None: nothing."""
        for listener in self.listeners:
            for room, watch in listener.watches.items():
                want = bridged(tables[room])
                end = Deadline(SETTLE_S)
                while watch.follow().entries != want:
                    differs = f"{room}: a watcher knows {watch.entries}, the server {want}; told: {watch.told[-10:]}"
                    if self.server.status()["joins_ever"] != self.joins:
                        return differs
                    listener.peer.sync(upstream=True)
                    end.left(differs)
                if watch.settle().entries != want:
                    return f"{room}: a watcher knew all, but {watch.entries} after its daemon had heard all; the server: {want}"
        return None

    def compare_official(self, tables):
        for official in self.officials:
            for room in official.rooms:
                frames, state = official.view(room)
                if frames != tables[room]:
                    return f"{room}: {official.name} was told {frames}, the server has {tables[room]}"
                # After updates too. 2.109.0 kept the old state there and lost all refs; should an installed version do so
                # again, only the frames can be compared.
                said = {(key, meta["presence_ref"]): {k: v for k, v in meta.items() if k != "presence_ref"}
                        for key, metas in state.items() for meta in metas}
                self.assertEqual(said, tables[room], f"presenceState() of {room}")
        return None

    def compare(self):
        for official in self.officials:
            official.back()
        begin = time.monotonic()
        while True:
            status = self.server_settled()
            tables, self.joins = self.tables(status), status["joins_ever"]
            differs = self.compare_local(tables) or self.compare_official(tables)
            if not differs:
                break
            # A channel may be joined anew by the daemon's own wish, which may change refs: then once more.
            after = self.server.status()
            if after["joins_ever"] == self.joins and self.tables(after) == tables:
                self.fail(differs)
            Deadline(SETTLE_S - (time.monotonic() - begin)).left(differs)
        self.assertEqual(self.server.status()["presence_closed"], 0, "the server closed a channel for its presence calls")
        took = time.monotonic() - begin
        n = sum(len(table) for table in tables.values())
        watches = sum(len(one.watches) for one in self.listeners)
        print(f"{sum(self.done.values())} steps: {n} entries, {watches} watches, settled in {took:.2f} s", flush=True)

    def test_story(self):
        while sum(self.done.values()) < self.n_steps:
            self.step()
            if sum(self.done.values()) % COMPARE_EVERY == 0:
                self.compare()
        self.compare()
        print(self.done)
        for name in self.STEPS:
            self.assertGreater(self.done.get(name, 0), 0, f"no {name} in the whole story")


class MergedStory(PresenceStory):
    """And by the older serializer, on both ways."""

    mode = "merge"
    vsn = js_vsn = "1.0.0"
    n_steps = 200  # all share the calls of one entry, which makes it wait more often


if __name__ == "__main__":
    unittest.main()
