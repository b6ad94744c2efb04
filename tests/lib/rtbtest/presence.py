# SPDX-License-Identifier: MIT
"""Who is there, as two kinds of watchers know it: by the local protocol (Watch), by the server's frames (RawWatch)."""

import json

from .outside import Outside
from .wait import DEADLINE, Deadline


def canonical(states):
    """{key: [state, ...]}, comparable: the states of a key in an order of their own."""
    return {key: sorted(list_, key=lambda s: json.dumps(s, sort_keys=True)) for key, list_ in sorted(states.items())}


def by_key(entries):
    """{key: [state, ...]} of {(key, ref): state}."""
    found = {}
    for (key, _), state in entries.items():
        found.setdefault(key, []).append(state)
    return canonical(found)


def members_of(table):
    """A server's {key: [state, ...]} as rtbridge shows it: of a bridge that merges, its members."""
    found = {}
    for key, states in table.items():
        for state in states:
            if not key.startswith("rtbridge:"):
                found.setdefault(key, []).append(state)
                continue
            for member, shown in state["members"].items():
                found.setdefault(member, []).append(shown)
    return canonical(found)


class Fold:
    """Entries, and what was ever told of them; a change that does not fit what is known fails."""

    def __init__(self):
        self.entries = {}  # (key, ref): state
        self.told = []     # (word, key, state)
        self.most = {}     # key: how many entries of it there were at once

    def put(self, key, ref, state):
        self.entries[(key, ref)] = state
        self.most[key] = max(self.most.get(key, 0), sum(k == key for k, _ in self.entries))

    def replace(self, entries):
        self.entries = {}
        for key, ref, state in entries:
            assert (key, ref) not in self.entries, f"{key} {ref} twice in a snapshot"
            self.put(key, ref, state)

    def states(self):
        return by_key(self.entries)

    def words(self, *wanted):
        """What was told, sorted: [(word, key), ...]"""
        return sorted((word, key) for word, key, _ in self.told if word in wanted)


class Watch(Fold):
    """A subscription with presence of a local peer."""

    def __init__(self, peer, topic, presence=None, **params):
        super().__init__()
        self.peer, self.topic = peer, topic
        answer = peer.subscribe(topic, presence=presence or {}, **params)
        self.chan, self.state = answer["chan"], answer["presence"]["state"]
        assert answer["presence"]["snapshot"] == [] or self.state == "ok", answer
        self.replace((e["key"], e["ref"], e["state"]) for e in answer["presence"]["snapshot"])

    def apply(self, notice):
        if "sync" in notice:
            assert not {"leave", "join", "update"} & set(notice), notice
            self.replace((e["key"], e["ref"], e["state"]) for e in notice["sync"])
            self.told.append(("sync", "", None))
        for e in notice.get("leave", []):
            assert (e["key"], e["ref"]) in self.entries, f"leave of nobody: {notice}; known: {self.entries}"
            del self.entries[(e["key"], e["ref"])]
            self.told.append(("leave", e["key"], e["state"]))
        for e in notice.get("join", []):
            assert (e["key"], e["ref"]) not in self.entries, f"join of who is there: {notice}; known: {self.entries}"
            self.put(e["key"], e["ref"], e["state"])
            self.told.append(("join", e["key"], e["state"]))
        for e in notice.get("update", []):
            assert (e["key"], e["prev"]) in self.entries, f"update of nobody: {notice}; known: {self.entries}"
            del self.entries[(e["key"], e["prev"])]
            self.put(e["key"], e["ref"], e["state"])
            self.told.append(("update", e["key"], e["state"]))

    def follow(self):
        """Applies what has come; other notices stay with the peer."""
        rest = []
        for method, params in self.peer.notices:
            if method == "presence" and params["chan"] == self.chan:
                self.apply(params)
            else:
                rest.append((method, params))
                if method == "channel" and params["chan"] == self.chan:
                    self.state = params.get("presence", self.state)  # absent from what came before this was wished
        self.peer.notices = rest
        return self

    def end(self):
        """Unsubscribes. What came until then is of this subscription, not of one that may follow."""
        self.peer.call("unsubscribe", {"chan": self.chan})
        self.follow()

    def wait(self, want, seconds=DEADLINE):
        """Until these are there, and no others."""
        end = Deadline(seconds)
        while self.follow().states() != canonical(want):
            self.peer.step(end, f"{self.topic}: {self.states()} is not yet {want}")
        return self

    def settle(self):
        """All that the server has sent so far is applied, and is what the daemon has itself."""
        self.peer.sync(upstream=True)
        self.follow()
        answer = self.peer.call("presence", {"chan": self.chan})
        self.follow()
        known = {(e["key"], e["ref"]): e["state"] for e in answer["snapshot"]}
        assert known == self.entries, f"{self.topic}: notifications made {self.entries}, the daemon has {known}"
        return self


class RawWatch(Fold):
    """A channel of a client past the daemon, on a WebSocket of its own."""

    def __init__(self, url, token, topic, key="", **kwargs):
        super().__init__()
        self.client = Outside(url, token, **kwargs)
        self.topic = "realtime:" + topic
        self.client.join(topic, presence={"enabled": True, "key": key}, broadcast={"ack": False, "self": False})
        self.known = False
        end = Deadline()
        while not self.known:
            self.apply(self.client.recv_message(end.left("a presence_state")))

    def apply(self, message):
        if isinstance(message, bytes) or message[2] != self.topic:
            return
        payload = message[4]
        if message[3] == "presence_state":
            self.replace((key, meta["phx_ref"], plain(meta)) for key, e in payload.items() for meta in e["metas"])
            self.known = True
        elif message[3] == "presence_diff" and self.known:
            for key, entry in payload["leaves"].items():
                for meta in entry["metas"]:
                    del self.entries[(key, meta["phx_ref"])]
                    self.told.append(("leave", key, plain(meta)))
            for key, entry in payload["joins"].items():
                for meta in entry["metas"]:
                    self.put(key, meta["phx_ref"], plain(meta))
                    self.told.append(("update" if "phx_ref_prev" in meta else "join", key, plain(meta)))

    def call(self, event, **payload):
        """A presence call; the status of its reply."""
        ref = self.client.push(self.topic, "presence", dict(payload, type="presence", event=event))
        end = Deadline()
        while True:
            message = self.client.recv_message(end.left(f"a reply to {event}"))
            self.apply(message)
            if not isinstance(message, bytes) and message[1] == ref and message[3] == "phx_reply":
                return message[4]["status"]

    def track(self, state):
        return self.call("track", payload=state)

    def wait(self, want, seconds=DEADLINE):
        end = Deadline(seconds)
        while self.states() != canonical(want):
            self.apply(self.client.recv_message(end.left(f"{self.topic}: {self.states()} is not yet {want}")))
        return self

    def settle(self):
        for message in self.client.heartbeat():
            self.apply(message)
        return self

    def close(self):
        self.client.close()


def plain(meta):
    return {k: v for k, v in meta.items() if k not in ("phx_ref", "phx_ref_prev")}
