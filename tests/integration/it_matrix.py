#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Who gets what: clients with two users' tokens and with the daemon's own key, side by side in rooms of the same names.

Each gets exactly what is its own of broadcasts, presence and rows, once, and nothing of the others.
"""

import unittest
from collections import Counter

from rtbtest.auth import REJECTED, BearerChanges, policy, sub_of
from rtbtest.changes import start_postgres
from rtbtest.devserver import WsClient
from rtbtest.peer import RequestError
from rtbtest.presence import Watch
from rtbtest.users import ROOT, WHY_ROOT

# (topic, private, {identity: rights}); who is not named may nothing. "own" is the daemon's key, an anonymous one.
ROOMS = [
    ("lobby", False, {"ann": "rwpt", "bob": "rwpt", "own": "rwpt"}),
    ("lobby", True, {"ann": "rwpt", "bob": "rwpt"}),
    ("desk", True, {"ann": "rwpt", "bob": "r"}),
    ("wall", True, {"ann": "rwp", "bob": "rw", "own": "rpt"}),
    ("deaf", True, {"ann": "rwpt", "bob": "wpt"}),
    ("box:ann", True, {"ann": "rwpt"}),
    ("box:bob", True, {"bob": "rwpt"}),
    ("box:nobody", True, {}),
]
CAST = {"ann1": "ann", "ann2": "ann", "bob1": "bob", "bob2": "bob", "own1": "own", "own2": "own"}


def setUpModule():
    start_postgres()


def rights(room, identity):
    return ROOMS[room][2].get(identity, "")


def joinable(room, identity):
    """Presence is always asked for."""
    return bool(set("rp") & set(rights(room, identity)))


class Member:
    """One of the cast, or (outside) a WebSocket of its own with the same token."""

    def __init__(self, name, identity, peer):
        self.name, self.identity, self.peer = name, identity, peer
        self.rooms = {}   # chan: room
        self.watches = {}  # room: its presence

    def enter(self, room):
        topic, private, _ = ROOMS[room]
        watch = self.watches[room] = Watch(self.peer, topic, private=private)
        self.rooms[watch.chan] = room
        return watch.state

    def say(self, room, text):
        """Does not wait; the request's id."""
        topic, private, _ = ROOMS[room]
        return self.peer.request("broadcast", {"topic": topic, "private": private, "event": "say", "via": "ws",
                                               "payload": {"room": room, "text": text}})

    def heard(self):
        """[(room, text)]: all that was sent to it by now."""
        self.peer.sync(upstream=True)
        notices = self.peer.take("broadcast")
        for n in notices:
            assert self.rooms[n["chan"]] == n["payload"]["room"], f"{self.name}: in another room: {n}"
        return [(n["payload"]["room"], n["payload"]["text"]) for n in notices]


class Outsider:
    def __init__(self, name, identity, url, key, token):
        self.name, self.identity, self.token = name, identity, token
        # One room of a topic for each socket: the public and the private one have the same name there.
        # In version 1 all messages are text.
        self.sockets = {room: WsClient(url, key, vsn="1.0.0") for room in range(len(ROOMS)) if joinable(room, identity)}
        for room, ws in self.sockets.items():
            topic, private, _ = ROOMS[room]
            reply = ws.join(f"realtime:{topic}", {"private": private, "presence": {"enabled": True}, "broadcast": {"ack": False}},
                            token)
            assert reply["status"] == "ok", reply

    def say(self, room, text):
        self.sockets[room].broadcast(f"realtime:{ROOMS[room][0]}", "say", {"room": room, "text": text})

    def heard(self):
        found = []
        for room, ws in self.sockets.items():
            for message in ws.heartbeat():
                if message[3] == "broadcast":
                    assert message[4]["payload"]["room"] == room, f"{self.name}: in another room: {message}"
                    found.append((room, message[4]["payload"]["text"]))
        return found

    def close(self):
        for ws in self.sockets.values():
            ws.abort()


class Matrix(BearerChanges):
    """All clients are the same user: only their tokens tell them apart."""

    # Five rooms called lobby, for three identities: each needs a connection of its own.
    sections = {"limits": {"links": "8"}}
    policies = "".join(policy("@anon" if name == "own" else name, topic, may)
                       for topic, private, who in ROOMS if private for name, may in who.items())

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.table("notes", "n int8 primary key, owner uuid, t text")
        cls.sql("alter table notes enable row level security;"
                "create policy mine on notes for select to authenticated using (owner = auth.uid());"
                "create policy ownerless on notes for select to anon using (owner is null)")

    def setUp(self):
        # What a test before has left lingers on its connections, and five rooms of one name need five.
        self.d = self.enterContext(self.another())
        self.tokens = {"ann": self.token("ann"), "bob": self.token("bob"), "own": None}
        self.cast = {name: Member(name, identity, self.of(identity, self.tokens[identity], self.d))
                     for name, identity in CAST.items()}

    def enter_all(self):
        for room in range(len(ROOMS)):
            for m in self.cast.values():
                with self.subTest(room=ROOMS[room], who=m.name):
                    may = rights(room, m.identity)
                    if joinable(room, m.identity):
                        self.assertEqual(m.enter(room), "ok" if "p" in may else "denied")
                    else:
                        with self.assertRaises(RequestError) as refused:
                            m.enter(room)
                        self.assertEqual(refused.exception.code, REJECTED, refused.exception)

    def outsiders(self):
        found = {}
        for identity, token in self.tokens.items():
            o = found["out-" + identity] = Outsider("out-" + identity, identity, self.server.url, self.key, token)
            self.addCleanup(o.close)
        return found

    def heard_by(self, room, sender, receiver):
        """What the matrix says."""
        if receiver.name == sender.name or not joinable(room, sender.identity) or not joinable(room, receiver.identity):
            return False
        # Local clients of one identity hear each other without the server, which does not tell that it would not have it.
        near = receiver.identity == sender.identity and isinstance(receiver, Member) and isinstance(sender, Member)
        return "w" in rights(room, sender.identity) and (near or "r" in rights(room, receiver.identity))

    def test_broadcasts(self):
        self.enter_all()
        everybody, said = {**self.cast, **self.outsiders()}, []
        for room in range(len(ROOMS)):
            for sender in everybody.values():
                may = rights(room, sender.identity)
                if isinstance(sender, Outsider):
                    if joinable(room, sender.identity):
                        sender.say(room, sender.name)
                    continue
                want = "not_joined" if not joinable(room, sender.identity) else "acked" if "w" in may else "denied"
                said.append((room, sender, sender.say(room, sender.name), want))
        for room, sender, id, want in said:
            with self.subTest(room=ROOMS[room], who=sender.name):
                self.assertEqual(sender.peer.result(id)["outcome"], want)
        # What the outsiders said is with the server; the daemon's sockets are asked behind that.
        for o in everybody.values():
            if isinstance(o, Outsider):
                o.early = o.heard()
        for receiver in everybody.values():
            got = Counter(getattr(receiver, "early", []) + receiver.heard())
            want = Counter((room, sender.name) for room in range(len(ROOMS)) for sender in everybody.values()
                           if self.heard_by(room, sender, receiver))
            with self.subTest(who=receiver.name):
                self.assertEqual({"missing": want - got, "not its own": got - want}, {"missing": {}, "not its own": {}})

    def test_presence(self):
        self.enter_all()
        shown = {}
        for room, (topic, private, _) in enumerate(ROOMS):
            shown[room] = {}
            for name in ("ann1", "bob1", "own1"):
                m = self.cast[name]
                if not joinable(room, m.identity):
                    continue
                may = "t" in rights(room, m.identity)
                with self.subTest(room=ROOMS[room], who=name):
                    self.assertEqual(m.peer.track(topic, {"of": name}, private=private, key=name)["outcome"],
                                     "acked" if may else "denied")
                if may:
                    shown[room][name] = [{"of": name}]
        for room, (topic, private, _) in enumerate(ROOMS):
            self.server.wait_presence(f"realtime:{topic}", shown[room], private=private)
            for m in self.cast.values():
                with self.subTest(room=ROOMS[room], who=m.name):
                    if "p" in rights(room, m.identity):
                        m.watches[room].wait(shown[room]).settle()
                    elif room in m.watches:
                        m.peer.sync(upstream=True)
                        self.assertEqual([n for method, n in m.peer.notices if method == "presence" and m.rooms[n["chan"]] == room], [])

    def check_rows(self, m, id, want):
        with self.subTest(who=m.name):
            changes = self.came(m.peer)
            self.assertEqual([(c["data"]["type"], c["data"]["record"]["n"], c["data"]["record"]["t"]) for c in changes], want)
            for c in changes:
                self.assertEqual(c["data"]["record"]["owner"], None if m.identity == "own" else sub_of(m.identity))
                self.assertEqual(c["ids"], [id])

    def test_rows(self):
        wish = {"event": "*", "schema": "public", "table": "notes"}
        entries = {}
        for m in self.cast.values():
            self.marked_as(m.peer)
            [entry] = m.peer.subscribe("notes", postgres_changes=[wish])["postgres_changes"]
            self.assertEqual(entry["state"], "ready", entry)
            entries[m.name] = entry["id"]
        # One binding for each identity.
        self.assertEqual({name: entries[name] == entries[name[:3] + "1"] for name in CAST}, dict.fromkeys(CAST, True))
        self.assertEqual(len(set(entries.values())), 3)
        owners, want = {"ann": f"'{sub_of('ann')}'", "bob": f"'{sub_of('bob')}'", "own": "null"}, {}
        for n in range(30):
            owner = ("ann", "bob", "own")[n % 3]
            self.sql(f"insert into notes values ({n}, {owners[owner]}, 'new'); update notes set t = 'old' where n = {n}")
            want.setdefault(owner, []).extend([("INSERT", n, "new"), ("UPDATE", n, "old")])
        for m in self.cast.values():
            self.check_rows(m, entries[m.name], want[m.identity])
        # One changes hands: who it is taken from hears nothing of it.
        self.sql(f"update notes set owner = {owners['bob']}, t = 'given' where n = 0")
        for m in self.cast.values():
            self.check_rows(m, entries[m.name], [("UPDATE", 0, "given")] if m.identity == "bob" else [])
        self.sql("truncate notes")


@unittest.skipUnless(ROOT, WHY_ROOT)
class MatrixOfUsers(Matrix):
    """The same with a user of the machine for each token; the daemon's key is for root's clients."""

    uids = {"ann": 2001, "bob": 2002}
    rules = ["allow user 2001 read,write,presence topic *", "allow user 2001 read table *.*",
             "allow user 2002 read,write,presence topic *", "allow user 2002 read table *.*"]


if __name__ == "__main__":
    unittest.main()
