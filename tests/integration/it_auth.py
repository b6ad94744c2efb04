#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Clients with tokens of their own: bad ones, the same identity many times, the life of a token."""

import json
import time
import unittest

from rtbtest import tokens
from rtbtest.auth import BAD_TOKEN, FORBIDDEN, BearerChanges, Bearers, policy, sub_of
from rtbtest.changes import follow, follow_rows, start_postgres
from rtbtest.peer import RequestError

HELLO_FIRST = 208
SIZE_MAX = 8192


def setUpModule():
    start_postgres()


def bad_forms(secret):
    """Those that the server would pass over in silence, or be told about by everybody's connection: the daemon sees it."""
    return {"publishable": tokens.sb_key(), "empty": "", "garbage": tokens.garbage(), "two parts": tokens.two_parts(secret),
            "not json": tokens.not_json(secret), "expired": tokens.expired(secret), "alg none": tokens.alg_none(secret),
            "no role": tokens.no_role(secret), "role empty": tokens.make(role="", secret=secret), "no exp": tokens.no_exp(secret), "exp a string": tokens.exp_string(secret),
            "oversized": tokens.oversized(secret, SIZE_MAX)}


class Bad(BearerChanges):
    """The daemon's key may everything; so whatever a bad token would fall back to, would leak."""

    # The key is not that of the other stories: none of theirs is in this log.
    rules = ["allow * read,write,presence topic *", "allow * read table *.*"]

    @classmethod
    def make_daemon(cls, sections=None, server=None, **kwargs):
        daemon = super().make_daemon(sections, server, start=False, **kwargs)
        daemon.write_key(cls.server.token(role="service_role"))
        return daemon.start()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.table("secrets", "n int8 primary key", "alter table secrets enable row level security")
        cls.server.set_policies("")

    def setUp(self):
        log = self.server.log()
        self.first = log[-1]["n"] + 1 if log else 0

    def sent(self, topic):
        """Joins and pushes of this topic, of this test."""
        return [e for e in self.server.log(topic="realtime:" + topic) if e["n"] >= self.first]

    def wishes(self, topic):
        return [("subscribe", {"topic": topic, "private": True}), ("subscribe", {"topic": topic}),
                ("subscribe", {"topic": topic, "postgres_changes": [{"event": "*", "schema": "public", "table": "secrets"}]}),
                ("broadcast", {"topic": topic, "event": "e", "payload": {}, "private": True}),
                ("track", {"topic": topic, "state": {}, "private": True})]

    def refused(self, peer, topic, code):
        for method, params in self.wishes(topic):
            self.assertEqual(self.code(peer.call, method, params), code, (method, params))

    def nothing_came(self, peer, topic):
        """Not a row, not a message; and the server never heard of the topic."""
        root = self.marked_as(self.peer())
        self.sql("insert into secrets select coalesce(max(n), 0) + 1 from secrets")
        root.subscribe(topic, private=True)
        root.broadcast(topic, "secret", {}, private=True)
        self.came(root)
        peer.sync(upstream=True)
        self.assertEqual([n for n in peer.notices if n[0] != "connection"], [])
        self.assertEqual({e["role"] for e in self.sent(topic)}, {"service_role"})
        root.call("unsubscribe", {"topic": topic, "private": True})

    def test_the_key_is_told(self):
        self.assertIn("service_role", self.daemon.log_text())
        root = self.marked_as(self.peer())
        root.subscribe("", postgres_changes=[{"event": "*", "schema": "public", "table": "secrets"}])
        self.sql("insert into secrets select coalesce(max(n), 0) + 1 from secrets")
        self.assertEqual(len(self.came(root)), 1)  # so the others would see it, too

    def test_in_hello(self):
        for i, (name, token) in enumerate(bad_forms(self.server.secret).items()):
            with self.subTest(token=name):
                peer = self.peer(hello=False)
                self.assertEqual(self.code(peer.say_hello, "bad", token), BAD_TOKEN)
                self.assertEqual(self.code(peer.subscribe, f"hello:{i}", private=True), HELLO_FIRST)
                self.assertEqual(self.sent(f"hello:{i}"), [])
                peer.close()

    def test_auth_leaves_what_was_in_force(self):
        self.server.set_policies(policy("ann", "auth:*"))
        self.addCleanup(self.server.set_policies, "")
        ann = self.of("ann", True)
        self.marked_as(ann)
        ann.subscribe("auth:first", private=True)
        ann.subscribe("rows", postgres_changes=[{"event": "*", "schema": "public", "table": "secrets"}])
        for i, (name, token) in enumerate(bad_forms(self.server.secret).items()):
            with self.subTest(token=name):
                for scope in {}, {"topic": f"auth:{i}"}:
                    self.assertEqual(self.code(ann.auth, token, **scope), BAD_TOKEN)
                ann.subscribe(f"auth:{i}", private=True)
                self.assertEqual(ann.broadcast("auth:first", "e", i, private=True)["outcome"], "acked")
                self.assertEqual({(e["sub"], e["role"]) for e in self.sent(f"auth:{i}")}, {(sub_of("ann"), "authenticated")})
        # Row level security lets nobody see these but the daemon's key.
        self.sql("insert into secrets select coalesce(max(n), 0) + 1 from secrets")
        self.assertEqual(self.came(ann), [])
        self.assertEqual(ann.take("channel"), [])
        self.assertEqual([e for e in self.server.pushed_tokens() if e["n"] >= self.first], [])

    def test_who_needs_its_own(self):
        """A bad token is not one of its own."""
        access = {"identity": "own *", "rule": self.rules}
        daemon = self.enterContext(self.another(sections={"access": access}))
        for i, (name, token) in enumerate(bad_forms(self.server.secret).items()):
            with self.subTest(token=name):
                peer = self.of("ann", daemon=daemon)
                self.assertEqual(self.code(peer.auth, token), BAD_TOKEN)
                self.refused(peer, f"own:{i}", FORBIDDEN)
                self.assertEqual(self.sent(f"own:{i}"), [])
                peer.close()

    def test_what_only_the_server_can_tell(self):
        """A wrong signature. Its first join shows it; after that nothing goes out for this client."""
        for i, method in enumerate(("hello", "auth")):
            with self.subTest(method=method):
                bad, topic = tokens.wrong_signature(self.server.secret, sub=sub_of(method)), f"forged:{i}"
                peer = self.of("ann", bad if method == "hello" else None)
                if method == "auth":
                    self.assertEqual(peer.auth(bad)["state"], "unproven")
                with self.assertRaises(RequestError) as error:
                    peer.subscribe(topic, private=True)
                self.assertEqual(error.exception.code, BAD_TOKEN, error.exception)
                peer.wait_notice("error", lambda n: n.get("method") == "auth" and n["error"][0] == BAD_TOKEN)
                self.refused(peer, topic, BAD_TOKEN)
                self.assertEqual({(e["sub"], e["outcome"][:17]) for e in self.sent(topic)}, {(sub_of(method), "JwtSignatureError")})
                self.first = self.server.log()[-1]["n"] + 1
                peer.notices = []
                self.nothing_came(peer, topic)
                # The same again is known to be bad.
                self.assertEqual(self.code(peer.auth, bad), BAD_TOKEN)
                self.assertEqual([e for e in self.server.log() if e["sub"] == sub_of(method) and e["n"] >= self.first], [])

    def test_a_forged_like_of_another(self):
        """The same claims as somebody's good token, another signature: it gets nothing, and the other one loses nothing."""
        ann = self.of("ann", True)
        self.server.set_policies(policy("ann", "of-ann"))
        self.addCleanup(self.server.set_policies, "")
        ann.subscribe("of-ann", private=True)
        thief = self.of("ann")
        thief.subscribe("own-things", private=True)
        forged = tokens.wrong_signature(self.server.secret, sub=sub_of("ann"))
        self.assertEqual(self.code(thief.auth, forged), BAD_TOKEN)
        # Its hello is answered before the server has said what it is.
        hello = self.of("ann", tokens.wrong_signature(self.server.secret, sub=sub_of("ann"), jti="another"))
        self.assertEqual(hello.hello["token"]["state"], "pending")
        self.assertEqual(self.code(hello.subscribe, "of-ann", private=True), BAD_TOKEN)
        self.assertEqual(ann.broadcast("of-ann", "e", 1, private=True)["outcome"], "acked")
        for peer in (ann, thief, hello):
            peer.sync(upstream=True)
            self.assertEqual(peer.take("broadcast") + peer.take("channel"), [])
        self.assertEqual(len(self.server.joined("realtime:of-ann")), 1)
        self.assertEqual([e for e in self.server.pushed_tokens() if e["n"] >= self.first], [])

    def test_no_token_is_in_the_log(self):
        secret = self.server.secret
        given = [t for t in bad_forms(secret).values() if len(t) > 20]
        given += [self.token("logged"), tokens.wrong_signature(secret, sub=sub_of("logged too"))]
        for token in given:
            peer = self.of("ann")
            if not self.code(peer.auth, token):
                self.code(peer.subscribe, "logged", private=True)
                peer.sync()
            peer.close()
        text = self.daemon.log_text()
        for token in given:
            for part in token.split("."):
                if len(part) > 40 or token.count(".") < 2:
                    self.assertNotIn(part[:200], text)
        status = json.dumps(self.peer().status())
        self.assertNotIn("eyJ", status)


class Shared(Bearers):
    """Many clients of one identity, each with a token of its own."""

    policies = policy("team", "team:*")

    def test_sixteen_refresh_one_after_another(self):
        first = [self.token("team", exp_in=3000 + i, session=None, jti=f"a{i}") for i in range(16)]
        peers = []
        for i, token in enumerate(first):
            peers.append(self.of("team", token))
            peers[-1].subscribe("team:room", private=True, presence={})
            peers[-1].subscribe("team:public")
        self.assertEqual(len({json.dumps(sorted(self.channels(p))) for p in peers}), 1)
        [joined], [public] = self.server.joined("realtime:team:room"), self.server.joined("realtime:team:public")
        self.assertEqual(joined["socket"], public["socket"])
        joins, pushes = len(self.server.joins("realtime:team:room")), len(self.server.pushed_tokens("realtime:team:room"))
        self.assertEqual(joins, 1)
        self.assertLessEqual(pushes, 15)
        refreshed = [self.token("team", exp_in=3600 + i, jti=f"b{i}") for i in range(16)]
        for i, (peer, token) in enumerate(zip(peers, refreshed)):
            peer.broadcast("team:room", "n", i, private=True)
            self.assertEqual(peer.auth(token)["state"], "accepted")
        last = tokens.claims_of(refreshed[-1])["exp"]
        self.server.wait_status(lambda st: all(t["exp"] == last for s in st["sockets"] for t in s["topics"]
                                               if t["topic"].startswith("realtime:team:")), "the newest token is in force")
        for topic in "realtime:team:room", "realtime:team:public":
            more = self.server.pushed_tokens(topic)[pushes:] if topic == "realtime:team:room" else self.server.pushed_tokens(topic)
            # One for each better token at most; some of the first ones may come late, as pushes have a pace.
            self.assertLessEqual(len(more), 31 - pushes if topic == "realtime:team:room" else 31)
            self.assertEqual({e["outcome"] for e in more}, {"ok"})
            self.assertEqual(len(self.server.joins(topic)), 1)
            self.assertEqual([t["socket"] for t in self.server.joined(topic)], [joined["socket"]])
        for i, peer in enumerate(peers):
            peer.sync(upstream=True)
            self.assertEqual(peer.take("gap") + peer.take("channel") + peer.take("error"), [])
            self.assertEqual([n["payload"] for n in peer.take("broadcast")], [n for n in range(16) if n != i])

    def channels(self, peer):
        return [(c["topic"], c["private"], c["chan"]) for c in peer.call("channels")["channels"] if c["identity"]]


class Life(BearerChanges):
    """What flows while tokens come and go."""

    policies = policy("ann", "room") + policy("bob", "room")

    def setUp(self):
        # What a test before has left lingers on its connections, and may make room for others to move to.
        self.d = self.enterContext(self.another())

    def test_the_end_of_a_token(self):
        """Only its own client's things end; and they stay ended until the next one."""
        table = self.numbered()
        short, long_, other = self.token("ann", exp_in=5), self.token("ann", exp_in=3600, jti="long"), self.token("bob")
        brief, steady, bob = (self.watch_of(n, table, t, self.d) for n, t in (("ann", short), ("ann", long_), ("bob", other)))
        for w in (brief, steady, bob):
            w.subscribe("room", private=True)
            w.watch([table.all()])
        with self.writer(table):
            follow([brief, steady, bob], lambda: brief.stopped or [n for m, n in brief.notices if m == "error"], "the token's end")
            error = brief.wait_notice("error", lambda n: n["method"] == "auth")
            self.assertEqual(error["error"][0], BAD_TOKEN)
            ended = [brief.wait_notice("channel", lambda n: n["state"] == "rejected") for _ in range(2)]
            self.assertEqual({n["code"] for n in ended}, {"token_expired"})
            seen = brief.streams[next(iter(brief.streams))].last
            self.assertEqual(self.code(brief.subscribe, "room", private=True), BAD_TOKEN)
            follow_rows([steady, bob], table.last + 20)
            brief.drain()
            self.assertEqual(brief.streams[next(iter(brief.streams))].last, seen)
        follow_rows([steady, bob], table.last)
        for w in (steady, bob):
            self.assertEqual((w.stopped, w.take("channel"), w.take("gap")), ([], [], []))
        # With the next one it goes on, as a subscription of its own.
        brief.streams = {}
        self.assertIn(brief.auth(self.token("ann", jti="next"))["state"], ("accepted", "unproven"))
        brief.subscribe("room", private=True)
        brief.watch([table.all()])
        table.insert(5)
        follow_rows([brief], table.last)

    def test_a_refresh_in_time(self):
        """Tokens of 6 s, each replaced before its end, while rows are inserted: none is lost, none comes twice."""
        table = self.numbered()
        ann, bob = (self.watch_of(n, table, self.token(n, exp_in=6), self.d) for n in ("ann", "bob"))
        for w in (ann, bob):
            w.subscribe("room", private=True)
            w.watch([table.all()])
        with self.writer(table):
            for round_ in range(4):
                for w, name in (ann, "ann"), (bob, "bob"):
                    renewed = self.token(name, exp_in=6, jti=str(round_))
                    self.assertEqual(w.auth(renewed)["state"], "accepted")
                    exp = tokens.claims_of(renewed)["exp"]
                    self.server.wait_status(lambda st: [t["exp"] for s in st["sockets"] for t in s["topics"]
                                                        if t["topic"] == "realtime:room" and t["sub"] == sub_of(name)] == [exp],
                                            f"token {round_} of {name} is in force")
                # The next one comes when this one has 3 s left.
                follow([ann, bob], lambda: exp - time.time() <= 3, "time to refresh")
                follow_rows([ann, bob], table.last + 5)
        follow_rows([ann, bob], table.last)
        for w in (ann, bob):
            self.assertEqual((w.stopped, w.take("channel"), w.take("gap"), w.take("error")), ([], [], [], []))
            [stream] = w.streams.values()
            self.assertEqual((stream.holes, stream.last), ([], table.last))

    def test_a_policy_that_is_revoked(self):
        """The server ends it at the next token; exactly the clients of that identity are told."""
        ann, ann2 = (self.of("ann", self.token("ann", jti=j), self.d) for j in ("1", "2"))
        bob, own = self.of("bob", True, self.d), self.peer(self.d)
        for peer in (ann, ann2, bob):
            peer.subscribe("room", private=True)
            peer.subscribe("open")
        own.subscribe("open")
        self.server.set_policies(policy("bob", "room"))
        self.addCleanup(self.server.set_policies, self.policies)
        self.assertEqual(ann.auth(self.token("ann", exp_in=7200))["state"], "accepted")
        for peer in (ann, ann2):
            ended = peer.wait_notice("channel", lambda n: n["topic"] == "room" and n["state"] in ("rejected", "closed"))
            self.assertEqual((ended["private"], ended["code"]), (True, "unauthorized"), ended)
        self.assertEqual(bob.broadcast("room", "e", 1, private=True)["outcome"], "acked")
        self.assertEqual(own.broadcast("open", "e", 2)["outcome"], "acked")
        for peer in (ann, ann2, bob, own):
            peer.sync(upstream=True)
            self.assertEqual([n["payload"] for n in peer.take("broadcast")], [] if peer is own else [2])
            self.assertEqual([n for n in peer.take("channel") if n["state"] in ("rejected", "closed")], [])
            self.assertEqual(peer.take("error"), [])
        self.assertEqual([t["sub"] for t in self.server.joined("realtime:room")], [sub_of("bob")])

    def test_the_daemon_is_started_anew(self):
        """Nothing of a token survives it; who comes back with one has what it had, and nobody else."""
        table = self.numbered()
        daemon, names = self.d, {"ann": self.token("ann"), "bob": self.token("bob"), "own": None}
        for round_ in range(3):
            if round_:
                (daemon.kill if round_ == 1 else daemon.stop)()
                daemon.start()
            came = {name: self.watch_of(name, table, token, daemon) for name, token in names.items()}
            for name, w in came.items():
                if name == "own":
                    self.assertEqual(self.code(w.subscribe, "room", private=True), 300)
                else:
                    self.assertEqual(w.hello["token"]["state"], "unproven")
                    w.subscribe("room", private=True)
                w.watch([table.all()])
            table.insert(20)
            follow_rows(list(came.values()), table.last)
            self.assertEqual(came["ann"].broadcast("room", "e", round_, private=True)["outcome"], "acked")
            self.assertEqual(came["bob"].wait_notice("broadcast")["payload"], round_)
            for w in came.values():
                self.assertEqual((w.stopped, w.take("error")), ([], []))
                w.close()


if __name__ == "__main__":
    unittest.main()
