#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What became of a send, asked by its name: by who has lost the answer, from another connection, for a minute."""

import unittest

from rtbtest.auth import Bearers
from rtbtest.peer import frame
from rtbtest.sends import Sends, fresh
from rtbtest.users import ROOT, WHY_ROOT
from rtbtest.wait import until

BAD_REQUEST, BAD_TOPIC, BAD_EVENT, UNKNOWN_ID = 200, 201, 202, 212


class Lost(Sends):
    """The client's connection ends between its request and the answer."""

    def send_and_go(self, topic, name, **params):
        """Returns when the daemon has taken it, and the client is gone."""
        sender = self.peer()
        sender.request("broadcast", dict({"topic": topic, "event": "e", "payload": {"n": 1}, "id": name}, **params))
        asker = self.peer()
        until(lambda: self.code(self.outcome, asker, name) == 0, "the daemon has the send")
        sender.close()
        session = sender.hello["session"]
        until(lambda: session not in [c["session"] for c in asker.status()["clients"]], "the daemon has seen that the client is gone")
        return asker

    def ends(self, asker, name):
        """pending, until the server has answered."""
        states = []

        def ended():
            states.append(self.outcome(asker, name))
            return states[-1]["outcome"] != "pending"

        until(ended, "the send ends")
        self.assertEqual(states[0]["outcome"], "pending")
        self.assertEqual(len({s["via"] for s in states}), 1)
        return states[-1]

    def test_over_the_channel(self):
        topic, name = fresh("lost"), fresh("id")
        rx = self.peer()
        rx.subscribe(topic)
        # The question about a late acknowledgement stands behind it at the server, too.
        for event in "broadcast", "presence":
            self.server.fault(op="delay_reply", event=event, ms=3000, count=-1)
        asker = self.send_and_go(topic, name)
        self.assertEqual(self.ends(asker, name), {"outcome": "acked", "via": "ws"})
        self.assertEqual(self.came(rx), {topic: [("e", {"n": 1})]})

    def test_by_http(self):
        topic, name = fresh("lost"), fresh("id")
        far = self.remote(topic)
        self.server.http_fault("delay", ms=3000)
        asker = self.send_and_go(topic, name, via="http")
        self.assertEqual(self.ends(asker, name), {"outcome": "sent", "via": "http"})
        self.assertEqual([p for _, _, p, _ in far.all_broadcasts()], [{"n": 1}])

    def test_while_it_waits_for_the_connection(self):
        """The client is gone before its message was given away: it is sent all the same, within its time."""
        topic, name = fresh("lost"), fresh("id")
        rx, far = self.peer(), self.remote(topic)
        rx.subscribe(topic)
        self.down(rx)
        asker = self.send_and_go(topic, name, ttl_ms=60000)
        self.assertEqual(self.outcome(asker, name), {"outcome": "pending", "via": "ws"})
        self.up()
        self.assertEqual(self.ends(asker, name), {"outcome": "acked", "via": "ws"})
        self.assertEqual([p for _, _, p, _ in far.all_broadcasts()], [{"n": 1}])

    def test_the_connection_to_the_server_ends_too(self):
        topic, name = fresh("lost"), fresh("id")
        rx = self.peer()
        rx.subscribe(topic)
        self.server.fault(op="mute")
        asker = self.send_and_go(topic, name)
        self.assertEqual(self.outcome(asker, name)["outcome"], "pending")
        self.cut()
        self.up()
        result = until(lambda: [r for r in [self.outcome(asker, name)] if r["outcome"] != "pending"], "the send ends")[0]
        self.assertEqual((result["outcome"], result["via"]), ("unknown", "ws"))
        self.assertIn("connection", result["text"])


class Names(Sends):
    server_options = {"max_payload_kb": 10}

    def ends(self):
        """(name of the case, what to do first, parameters of the send, outcome)"""
        server = self.server
        big = {"x": "x" * 30000}
        return [
            ("acked", None, {"via": "ws"}, "acked"),
            ("sent", None, {"via": "http"}, "sent"),
            ("bytes", None, {"via": "http", "payload": b"bytes"}, "sent"),
            ("too big", None, {"via": "ws", "payload": big}, "too_big"),
            ("too big by http", None, {"via": "http", "payload": big}, "too_big"),
            ("limited", lambda: server.http_fault("answer", status=429, retry_after=9), {"via": "http"}, "rate_limited"),
            ("broken", lambda: server.http_fault("drop"), {"via": "http"}, "unknown"),
            ("no map", None, {"via": "http", "payload": [1]}, "bad_payload"),
            ("refused", lambda: server.fault(op="refuse_join", reason="Unauthorized: You do not have permissions to read from this Channel topic: x"),
             {"via": "ws", "private": True}, "not_joined"),
        ]

    def test_the_same_as_the_answer(self):
        tx, asker = self.peer(), self.peer()
        for case, first, params, want in self.ends():
            with self.subTest(case=case):
                if first:
                    first()
                name = fresh("id")
                answer = tx.call("broadcast", dict({"topic": fresh("name"), "event": "e", "payload": {"n": 1}, "id": name}, **params))
                self.assertEqual(answer["outcome"], want, answer)
                for peer in tx, asker:
                    self.assertEqual(self.outcome(peer, name), answer)

    def test_without_an_answer(self):
        """Who sends it as a notification can ask, too."""
        tx, name = self.peer(), fresh("id")
        tx.send_raw(frame([2, "broadcast", {"topic": fresh("quiet"), "event": "e", "payload": {"n": 1}, "id": name, "via": "http"}]))
        until(lambda: self.outcome(tx, name)["outcome"] != "pending", "it has ended")
        self.assertEqual(self.outcome(tx, name), {"outcome": "sent", "via": "http"})

    def test_a_name_is_used_once(self):
        tx, other, name, topic = self.peer(), self.peer(), fresh("id"), fresh("once")
        far = self.remote(topic)
        self.server.http_fault("delay", ms=700)
        first = tx.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": 1}, "via": "http", "id": name})
        for peer in tx, other:
            for via in "ws", "http":
                self.assertEqual(self.code(peer.broadcast, topic, "e", {"n": 2}, id=name, via=via), BAD_REQUEST)
        self.assertEqual(tx.result(first)["outcome"], "sent")
        self.assertEqual(self.code(other.broadcast, topic, "e", {"n": 3}, id=name), BAD_REQUEST)
        self.assertEqual([p for _, _, p, _ in far.all_broadcasts()], [{"n": 1}])

    def test_errors_leave_it_free(self):
        tx, name = self.peer(), fresh("id")
        self.assertEqual(self.code(tx.broadcast, "", "e", {}, id=name), BAD_TOPIC)
        self.assertEqual(self.code(tx.broadcast, "t", "", {}, id=name), BAD_EVENT)
        self.assertEqual(self.code(self.outcome, tx, name), UNKNOWN_ID)
        self.assertEqual(tx.broadcast(fresh("free"), "e", {}, id=name, via="http")["outcome"], "sent")

    def test_which_names_there_are(self):
        tx = self.peer()
        for name in "", "x" * 65, "with space", "tab\t", "ü", "\x7f", 7, b"bytes", ["x"]:
            with self.subTest(name=name):
                self.assertEqual(self.code(tx.broadcast, "t", "e", {}, id=name), BAD_REQUEST)
        self.assertEqual(self.code(tx.call, "outcome", {}), BAD_REQUEST)
        for name in "", "never", "x" * 1000, "ü":
            self.assertEqual(self.code(self.outcome, tx, name), UNKNOWN_ID)
        for name in fresh("!"), fresh("~")[:1] + "~" * 63:
            self.assertEqual(tx.broadcast(fresh("t"), "e", {}, id=name, via="http")["outcome"], "sent")

    def test_those_of_the_daemons_end(self):
        """A daemon that was started anew knows nothing of them."""
        with self.another() as daemon:
            tx, name = self.peer(daemon), fresh("id")
            tx.broadcast(fresh("t"), "e", {}, id=name, via="http")
            daemon.stop()
            daemon.start()
            self.assertEqual(self.code(self.outcome, self.peer(daemon), name), UNKNOWN_ID)


@unittest.skipUnless(ROOT, WHY_ROOT)
class Users(Sends, Bearers):
    uids = {"ann": 2001, "bob": 2002}
    rules = ("allow * read,write topic *",)

    def test_nobody_elses(self):
        """Names are each user's own: whether another one uses it cannot be seen."""
        name = fresh("id")
        ann, bob, root = self.of("ann"), self.of("bob"), self.peer()
        self.assertEqual(ann.broadcast(fresh("t"), "e", {}, id=name, via="http")["outcome"], "sent")
        for other in bob, root:
            self.assertEqual(self.code(self.outcome, other, name), UNKNOWN_ID)
        self.assertEqual(bob.broadcast(fresh("t"), "e", {}, id=name, via="ws")["outcome"], "acked")
        self.assertEqual(self.outcome(bob, name)["via"], "ws")
        self.assertEqual(self.outcome(self.of("ann"), name)["via"], "http")
        self.assertEqual(self.outcome(self.of("ann", True), name)["via"], "http")
        self.assertEqual(self.code(self.outcome, root, name), UNKNOWN_ID)


if __name__ == "__main__":
    unittest.main()
