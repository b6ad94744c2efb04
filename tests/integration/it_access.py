#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Access rules with several users of the machine: what each may do, see and is told, also when the rules change."""

import os
import pwd
import unittest

from rtbtest.auth import DENIED, FORBIDDEN, BearerChanges, Cut
from rtbtest.changes import follow, follow_rows, start_postgres
from rtbtest.users import ROOT, WHY_ROOT, connect_as

BAD_REQUEST, TOO_MANY, PRESENCE_TAKEN = 200, 207, 210
ANN, BOB, EVE = 2001, 2002, 2003
ALL = ["read,write,presence topic *", "read table *.*"]


def setUpModule():
    start_postgres()


def allow(uid, *rights):
    return [f"allow user {uid} {r}" for r in rights]


@unittest.skipUnless(ROOT, WHY_ROOT)
class Users(BearerChanges):
    """A daemon for each test, whose rules may change."""

    uids = {"ann": ANN, "bob": BOB, "eve": EVE}

    def start(self, *rules, **sections):
        self.base = dict(sections, socket={"mode": "0666"})
        self.d = self.enterContext(self.another(sections=dict(self.base, access={"rule": list(rules)} if rules else {})))

    def reload(self, *rules):
        upstream = {"url": self.server.url, "apikey_file": self.d.key_file, "vsn": self.vsn, "backoff_min": "50ms",
                    "backoff_max": "400ms"}
        sections = {name: dict(keys) for name, keys in self.base.items()}
        sections["socket"]["path"] = self.d.socket
        sections["upstream"] = dict(upstream, **sections.get("upstream", {}))
        self.d.write_config(sections, {"log": {"level": "debug"}, "access": {"rule": list(rules)}})
        self.assertIn(f"{len(rules)} access rules", self.d.reload())

    def user(self, name, **kwargs):
        return self.of(name, daemon=self.d, **kwargs)


class Rights(Users):
    def test_one_topic_only(self):
        """No binding gets around the rules; others' rows flow meanwhile."""
        self.start(*allow(ANN, "read topic mine"), *allow(BOB, *ALL))
        table = self.numbered()
        bob = self.watch_of("bob", table, daemon=self.d)
        bob.watch([table.all()])
        ann = self.user("ann")
        ann.subscribe("mine")
        public = {"event": "*", "schema": "public"}
        forbidden = [dict(public, table=table.name), dict(public, table="*"), dict(public), {"schema": "*"}, {"table": "*"},
                     {"schema": "*", "table": table.name}, dict(public, table=table.name[:-1] + "_"), dict(public, table="missing"),
                     {"schema": "publi_", "table": table.name}, {"schema": "mine", "table": "mine"}, {"table": table.name},
                     dict(public, table=table.name.upper()), dict(public, table=table.name, filter="n=gt.0", select=["n"])]
        with self.writer(table):
            for i, binding in enumerate(forbidden):
                with self.subTest(binding=binding):
                    # Alone, and beside what it may have.
                    for topic, more in ("", {}), ("mine", {}), ("mine", {"broadcast": {}}):
                        [entry] = ann.subscribe(topic, postgres_changes=[binding], **more)["postgres_changes"]
                        self.assertEqual((entry["id"], entry["state"], entry["code"]), (0, "error", "forbidden"), entry)
                    # Nor may it have a topic of another name beside it.
                    self.assertEqual(self.code(ann.subscribe, f"changes:{i}", postgres_changes=[binding]), FORBIDDEN)
            entries = ann.subscribe("", postgres_changes=forbidden)["postgres_changes"]
            self.assertEqual([(e["id"], e["code"]) for e in entries], [(0, "forbidden")] * len(forbidden))
            for binding in dict(public, table="%"), dict(public, table="to%"), {"schema": "%", "table": "x"}, {}:
                with self.subTest(binding=binding):
                    self.assertEqual(self.code(ann.subscribe, "mine", postgres_changes=[binding]), BAD_REQUEST)
            follow_rows([bob], table.last + 20)
        follow_rows([bob], table.last)
        ann.sync(upstream=True)
        self.assertEqual(ann.take("postgres_changes"), [])
        self.assertEqual((bob.stopped, bob.take("channel")), ([], []))
        # The server was never asked for what nobody may have.
        self.assertEqual(sum(t["bindings"] for t in self.feeds()), 1)
        # Of topics: that one, and of that one that right.
        for method, params in ("subscribe", {"topic": "other"}), ("subscribe", {"topic": "other", "private": True}), \
                ("subscribe", {"topic": "mine", "presence": {}}), ("track", {"topic": "mine", "state": {}}), \
                ("broadcast", {"topic": "mine", "event": "e", "payload": 1}), ("broadcast", {"topic": "mine2", "event": "e", "payload": 1}), \
                ("subscribe", {"topic": "Mine"}), ("subscribe", {"topic": "mine "}):
            with self.subTest(method=method, params=params):
                self.assertEqual(self.code(ann.call, method, params), FORBIDDEN)

    def test_one_table_is_excepted(self):
        """All of a schema, but for one: a pattern that takes it in brings the others' rows only."""
        self.start(f"deny user {ANN} read table public.salaries", *allow(ANN, "read table public.*", "read topic marks"), *allow(BOB, *ALL))
        for name in "salaries", "salariet":
            self.table(name, "n int8 primary key")
        self.addCleanup(self.sql, "drop table salaries, salariet")
        wishes = [{"schema": "public", "table": "*"}, {"schema": "public", "table": "salarie_"}, {"schema": "public"}]
        ann, bob = (self.marked_as(self.user(name)) for name in ("ann", "bob"))
        for peer in (ann, bob):
            entries = peer.subscribe("", postgres_changes=wishes)["postgres_changes"]
            self.assertEqual({e["state"] for e in entries}, {"ready"}, entries)
        mark = {"event": "INSERT", "schema": "public", "table": "marks"}
        entry, _ = ann.subscribe("marks", postgres_changes=[{"schema": "public", "table": "salaries"}, mark])["postgres_changes"]
        self.assertEqual(entry["code"], "forbidden")
        for n in range(5):
            self.sql(f"insert into salaries values ({n}); insert into salariet values ({n}); delete from salaries where n = {n}")
        self.assertEqual({c["data"]["table"] for c in self.came(ann)}, {"salariet"})
        self.assertEqual({c["data"]["table"] for c in self.came(bob)}, {"salaries", "salariet"})

    def test_a_box_for_each(self):
        """%u is the name of a user whom the system knows; who has none has no box."""
        names = {name: pwd.getpwnam(name).pw_uid for name in ("daemon", "nobody")}
        self.start("allow * read topic box:%u", "allow * write topic box:*")
        people = {name: self.peer(self.d, sock=connect_as(self.d.socket, uid)) for name, uid in names.items()}
        nameless = self.user("ann")
        for owner in people:
            for name, peer in people.items():
                self.assertEqual(self.code(peer.subscribe, f"box:{owner}"), 0 if name == owner else FORBIDDEN)
        for topic in "box:2001", "box:", "box:%u", "box:*":
            self.assertEqual(self.code(nameless.subscribe, topic), FORBIDDEN)
        for owner in people:
            self.assertEqual(nameless.broadcast(f"box:{owner}", "e", owner)["outcome"], "acked")
        for owner, peer in people.items():
            peer.sync(upstream=True)
            self.assertEqual([n["payload"] for n in peer.take("broadcast")], [owner])

    def test_groups(self):
        """The first and the further ones, as the kernel has them."""
        self.start("deny group 3005 read topic room", "allow group 3001 read,write topic room")
        for gid, groups, want in (3001, (), 0), (3000, (3001,), 0), (3000, (3004,), None), (3001, (3005,), FORBIDDEN):
            sock = connect_as(self.d.socket, EVE, gid, groups)
            with self.subTest(gid=gid, groups=groups):
                if want is None:
                    self.assertEqual(Cut(self.d.socket, sock=sock).error(), DENIED)
                else:
                    peer = self.peer(self.d, sock=sock)
                    self.assertEqual(self.code(peer.subscribe, "room"), want)
                    self.assertEqual(peer.broadcast("room", "e", 1)["outcome"], "acked")


class Door(Users):
    def test_without_rules(self):
        """Whatever the socket's mode: the daemon's user alone."""
        self.start()
        self.assertEqual(Cut(self.d.socket, sock=connect_as(self.d.socket, ANN)).error(), DENIED)
        self.peer(self.d).subscribe("t")

    def test_who_may_nothing_is_not_let_in(self):
        self.start("deny user 2003 read,write,presence topic *", *allow(ANN, "read topic mine"))
        self.assertEqual(Cut(self.d.socket, sock=connect_as(self.d.socket, BOB)).error(), DENIED)
        self.user("ann").subscribe("mine")
        self.assertEqual(Cut(self.d.socket, sock=connect_as(self.d.socket, EVE)).error(), DENIED)

    def test_the_mode_stands_in_front(self):
        self.start(*allow(ANN, *ALL))
        os.chmod(self.d.socket, 0o600)
        with self.assertRaises(PermissionError):
            connect_as(self.d.socket, ANN)


class Status(Users):
    def test_nothing_of_others(self):
        self.start(*allow(ANN, *ALL), *allow(BOB, "read topic bobs", "write topic bobs", "read table public.*"))
        ann, bob, root = self.user("ann", token=True), self.user("bob", token=True), self.peer(self.d)
        eyes = self.user("bob")
        table = self.numbered()
        for peer, topics in (ann, ["anns", "bobs"]), (bob, ["bobs"]), (root, ["roots", "bobs"]):
            for topic in topics:
                peer.subscribe(topic)
            peer.subscribe("", postgres_changes=[{"schema": "public", "table": table.name, "filter": f"n=gt.{peer.hello['session']}"}])
        ann.track("anns", {"secret": 1})
        ann.subscribe("bobs", private=True)
        whole = root.status()
        self.assertTrue(whole["admin"])
        self.assertEqual({c["uid"] for c in whole["clients"]}, {0, ANN, BOB})
        self.assertEqual(len(whole["identities"]), 2)
        self.assertEqual(len(whole["postgres_changes"]), 3)
        bobs = [i["identity"] for i in whole["identities"] if [c for c in whole["channels"]
                if c["identity"] == i["identity"] and c["topic"] == "bobs" and c["subscribers"]] and
                not [c for c in whole["channels"] if c["identity"] == i["identity"] and c["topic"] == "anns"]]
        for asker in (bob, eyes):
            seen = asker.status()
            self.assertFalse(seen["admin"])
            self.assertEqual({c["uid"] for c in seen["clients"]}, {BOB})
            self.assertEqual(len(seen["clients"]), 2)
            self.assertEqual([i["identity"] for i in seen["identities"]], bobs)
            self.assertEqual({c["identity"] for c in seen["channels"]}, {0, *bobs})
            self.assertEqual({c["topic"] for c in seen["channels"]}, {"bobs"})
            self.assertEqual(len(seen["postgres_changes"]), 1)
            self.assertIn(f"n=gt.{bob.hello['session']}", str(seen["postgres_changes"]))
            for link in seen["links"]:
                self.assertNotIn("anns", str(link.get("why")), link)
                self.assertIn(link.get("uid", BOB), (BOB,), link)
            for word in "anns", "roots", "secret", f"n=gt.{ann.hello['session']}'", f"n=gt.{root.hello['session']}'":
                self.assertNotIn(word, str(seen))
            self.assertEqual(asker.call("channels")["channels"], seen["channels"])
            self.assertEqual([c["session"] for c in asker.call("clients")["clients"]], [c["session"] for c in seen["clients"]])
        self.reload(*allow(BOB, *ALL, "admin"), *allow(ANN, *ALL))
        self.assertEqual({c["uid"] for c in eyes.status()["clients"]}, {0, ANN, BOB})
        self.assertTrue(eyes.status()["admin"])


class Revoked(Users):
    def test_while_it_flows(self):
        """What the rules do not allow any more ends at once, and is told; the others notice nothing."""
        self.start(*allow(ANN, *ALL), *allow(BOB, *ALL))
        table = self.numbered()
        ann, bob = (self.watch_of(name, table, daemon=self.d) for name in ("ann", "bob"))
        talk = self.user("ann")
        talk.track("room", {"n": 1}, key="talk")
        room = talk.subscribe("room", presence={})["chan"]
        kept = talk.subscribe("kept")["chan"]
        bob.subscribe("room")
        for w in (ann, bob):
            w.watch([table.all()])
        with self.writer(table):
            follow_rows([ann, bob], table.last + 10)
            self.reload(*allow(ANN, "read topic kept"), *allow(BOB, *ALL))
            follow([ann, bob], lambda: ann.stopped, "the end of the rows is told")
            [entry] = ann.stopped[0]["postgres_changes"]
            self.assertEqual((entry["state"], entry["code"]), ("error", "forbidden"))
            last = next(iter(ann.streams.values())).last
            ended = talk.wait_notice("channel", lambda n: n["chan"] == room and n["state"] == "rejected")
            self.assertEqual(ended["code"], "forbidden")
            self.assertEqual(talk.wait_notice("error", lambda n: n["method"] == "track")["error"][0], FORBIDDEN)
            follow_rows([bob], table.last + 20)
            bob.broadcast("room", "e", "not for ann")
            ann.sync(upstream=True)
            talk.sync(upstream=True)
            self.assertEqual(next(iter(ann.streams.values())).last, last)
            self.assertEqual(talk.take("broadcast") + [n for n in talk.take("channel") if n["chan"] == kept], [])
            self.assertEqual(self.code(talk.broadcast, "kept", "e", 1), FORBIDDEN)
            self.assertEqual(bob.broadcast("kept", "e", 1)["outcome"], "acked")
            self.assertEqual(talk.wait_notice("broadcast")["payload"], 1)
            self.server.wait_presence("realtime:room", {})
        follow_rows([bob], table.last)
        self.assertEqual((bob.stopped, bob.take("gap"), bob.take("error")), ([], [], []))
        # Given again, it may ask again.
        self.reload(*allow(ANN, *ALL), *allow(BOB, *ALL))
        ann.streams = {}
        ann.watch([table.all()])
        talk.subscribe("room", presence={})
        table.insert(5)
        follow_rows([ann, bob], table.last)

    def test_the_door_is_closed(self):
        self.start(*allow(ANN, *ALL), *allow(BOB, *ALL))
        ann, bob = self.user("ann"), self.user("bob")
        for peer in (ann, bob):
            peer.subscribe("room")
        self.reload(*allow(BOB, *ALL))
        ann.wait_closed()
        self.assertEqual(ann.take("error")[-1]["error"][0], DENIED)
        self.assertEqual(Cut(self.d.socket, sock=connect_as(self.d.socket, ANN)).error(), DENIED)
        self.assertEqual(bob.broadcast("room", "e", 1)["outcome"], "acked")
        self.assertEqual(bob.take("channel"), [])


class Links(Users):
    def test_one_takes_all_it_can(self):
        """ann asks for all that needs a further connection; there is one left for bob."""
        self.start(*allow(ANN, *ALL), *allow(BOB, *ALL), limits={"links": "4"})
        codes = []
        for i in range(6):
            # As who else is in the room; as both rooms of one name; with tokens of several identities.
            codes.append(self.code(self.user("ann").track, "crowd", {"n": i}, key=f"k{i}"))
            codes.append(self.code(self.user("ann").subscribe, "twice", private=i % 2 == 1))
            codes.append(self.code(self.user("ann", token=self.token(f"ann{i}")).subscribe, "twice"))
        self.assertIn(0, codes)
        self.assertTrue({TOO_MANY, PRESENCE_TAKEN} >= set(codes) - {0}, codes)
        self.assertTrue(set(codes) - {0}, "there was no end to it")
        of_ann = [link for link in self.peer(self.d).status()["links"] if link.get("uid") == ANN]
        self.assertEqual(len(of_ann), 2, of_ann)
        one, two = self.user("bob"), self.user("bob")
        one.track("bobs", {"n": 1}, key="one")
        two.track("bobs", {"n": 2}, key="two")
        self.server.wait_presence("realtime:bobs", {"one": [{"n": 1}], "two": [{"n": 2}]})
        bobs = self.user("bob", token=True)
        bobs.subscribe("bobs")
        self.assertEqual(len({t["socket"] for t in self.server.joined("realtime:bobs")}), 3)
        # ann's are in their places still.
        self.assertEqual(self.user("ann").broadcast("crowd", "e", 1)["outcome"], "acked")


if __name__ == "__main__":
    unittest.main()
