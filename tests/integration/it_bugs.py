#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What went wrong in other clients and bridges, with the real daemon and a server that has the real one's order of words.

Each test names the public report that it comes from; unit.session_bugs, unit.hub_bugs* tell the same without sockets, at
every moment.
"""

import random
import unittest

from rtbtest.devserver import DevServer
from rtbtest.peer import Peer
from rtbtest.story import Story, binary
from rtbtest.wait import until


class Bugs(Story):
    def setUp(self):
        self.topic = f"bug:{random.randrange(10 ** 9)}"
        self.wire = "realtime:" + self.topic
        self.others = []

    def joins_of_daemon(self):
        """How often the daemon has joined the topic; those from outside are joined by check_heard()."""
        return len([j for j in self.server.joins(topic=self.wire) if j["socket"] not in self.others])

    def reconnects(self, peer):
        return peer.status()["counters"]["reconnects"]

    def check_heard(self, *peers):
        """A message from outside comes to each of them, once."""
        before = {s["id"] for s in self.server.status()["sockets"]}
        outside = self.outside()
        outside.join(self.topic)
        self.others += [s["id"] for s in self.server.sockets(topic=self.wire) if s["id"] not in before]
        n = random.randrange(10 ** 9)
        outside.broadcast(self.topic, "check", n)
        for peer in peers:
            peer.wait_notice("broadcast", lambda b: (b["event"], b["payload"]) == ("check", n))
            peer.sync(upstream=True)
            self.assertEqual([b for b in peer.take("broadcast") if b["event"] == "check"], [])

    def test_leave_and_join_in_a_row(self):
        """supabase-py#1337: the close of what was left came late, and ended what had been joined since."""
        self.server.fault({"op": "late_close", "topic": self.wire, "ms": 200, "count": -1})
        peer = self.peer()
        peer.subscribe(self.topic)
        for _ in range(2):
            peer.call("unsubscribe", {"topic": self.topic})
            joins = self.joins_of_daemon()
            until(lambda: not self.server.sockets(topic=self.wire), "it was left")
            self.assertEqual(peer.subscribe(self.topic)["state"], "ready")
            self.assertEqual(self.joins_of_daemon(), joins + 1)
        self.server.fault({"op": "clear"})
        self.check_heard(peer)
        self.assertEqual(peer.take("channel"), [])

    def test_unsubscribe_and_subscribe_at_once(self):
        peer, other = self.peer(), self.peer()
        other.subscribe(self.topic)
        for _ in range(50):
            first = peer.request("subscribe", {"topic": self.topic})
            second = peer.request("unsubscribe", {"topic": self.topic})
            peer.result(first), peer.result(second)
        peer.subscribe(self.topic)
        self.check_heard(peer, other)
        self.assertEqual(self.joins_of_daemon(), 1)

    def test_a_server_that_waits_for_us(self):
        """realtime-js#94, #133: nothing but heartbeats counts for the server, however much it sends."""
        with DevServer(binary("rtbridge-devserver"), idle_ms=3000) as server:
            sections = {"upstream": {"heartbeat": "700ms", "heartbeat_reply": "3s"}}
            with self.make_daemon(server=server, sections=sections) as daemon, Peer(daemon.socket) as peer:
                peer.subscribe(self.topic)
                before = server.status()["heartbeats"]
                for n in range(1000000):
                    if server.status()["heartbeats"] >= before + 10:  # more than twice the server's patience
                        break
                    server.fault({"op": "push", "topic": self.wire, "event": "broadcast",
                                  "payload": {"type": "broadcast", "event": "e", "payload": n}})
                    peer.drain()
                self.assertEqual(self.reconnects(peer), 0)
                self.assertGreater(n, 20)

    def test_no_answer_in_the_midst_of_traffic(self):
        """The other half: what comes is no proof that anything of ours arrives."""
        with self.make_server() as server:
            sections = {"upstream": {"heartbeat": "500ms", "heartbeat_reply": "1s"}}
            with self.make_daemon(server=server, sections=sections) as daemon, Peer(daemon.socket) as peer:
                peer.subscribe(self.topic)
                server.fault({"op": "heartbeats", "answer": False})
                for n in range(1000000):
                    server.fault({"op": "push", "topic": self.wire, "event": "broadcast",
                                  "payload": {"type": "broadcast", "event": "e", "payload": n}})
                    peer.drain()
                    if any(c["state"] == "backoff" for c in peer.take("connection")):
                        break
                self.assertEqual(peer.status()["last_disconnect"]["reason"], "heartbeat")
                # supabase-js#2625: the one without an answer does not haunt the connections that follow.
                server.fault({"op": "heartbeats", "answer": True})
                until(lambda: peer.status()["connection"]["state"] == "online", "it is online")
                before, heartbeats = self.reconnects(peer), server.status()["heartbeats"]
                server.wait_status(lambda s: s["heartbeats"] >= heartbeats + 4, "heartbeats go on")
                self.assertLessEqual(self.reconnects(peer), before + 1)
                heartbeats, before = server.status()["heartbeats"], self.reconnects(peer)
                server.wait_status(lambda s: s["heartbeats"] >= heartbeats + 4, "heartbeats go on")
                self.assertEqual(self.reconnects(peer), before)

    def test_clean_close_again_and_again(self):
        """realtime-py#311: closed with 1000, and nothing came after it."""
        peer = self.peer()
        peer.subscribe(self.topic)
        for _ in range(10):
            before = self.reconnects(peer)
            self.server.fault({"op": "close", "code": 1000, "sockets": "all"})
            until(lambda: self.reconnects(peer) == before + 1, "it is connected again")
            peer.wait_notice("channel", lambda n: n["state"] == "ready")
        self.check_heard(peer)

    def test_a_queue_is_sent_once(self):
        """mosquitto#2248: what had queued up was sent with each attempt to connect."""
        outside = self.outside()
        outside.join(self.topic)
        mine = self.server.sockets(topic=self.wire)[0]["id"]
        sender = self.peer()
        sender.subscribe(self.topic)
        rng, ids = random.Random(7), []
        for n in range(200):
            ids.append(sender.request("broadcast", {"topic": self.topic, "event": "n", "payload": n, "ttl_ms": 60000}))
            if n % 5 == 4:
                if rng.random() < 0.5:
                    self.server.fault({"op": "refuse_upgrade", "status": 503, "count": 1})
                others = [s["id"] for s in self.server.status()["sockets"] if s["id"] != mine]
                if others:
                    self.server.fault({"op": "close", "code": rng.choice((1000, 1006, 1012)), "sockets": others})
        outcomes = [sender.result(id, seconds=60)["outcome"] for id in ids]
        sender.sync(upstream=True)
        heard = [payload for _, _, payload, _ in outside.all_broadcasts()]
        self.assertEqual(len(heard), len(set(heard)), "each comes once at most")
        for n, outcome in enumerate(outcomes):
            self.assertIn(outcome, ("acked", "unknown"))
            if outcome == "acked":
                self.assertIn(n, heard)
        self.assertEqual(heard, sorted(heard))

    def test_one_topic_for_many(self):
        """realtime-js#180, supabase-flutter#94, #237: who came second closed the first. realtime-js#127: or all came twice."""
        peers = [self.peer() for _ in range(5)]
        for peer in peers:
            peer.subscribe(self.topic)
            peer.subscribe(self.topic)
        self.check_heard(*peers)
        for peer in peers[:3]:
            peer.close()
        self.check_heard(*peers[3:])
        self.assertEqual(self.joins_of_daemon(), 1)

    def test_every_word_of_an_end(self):
        """supabase-py#1134, realtime#1414: closed by the server, and silent from then on."""
        soon = ("Track message size exceeded", "Node request timeout", "RPC call error: :x", ":initializing", "never heard")
        later = {"Too many messages per second": 60000, "Client presence rate limit exceeded": 30000}
        final = ("Token has expired 0 seconds ago", "Fields `role` and `exp` are required in JWT",
                 "You no longer have permission to read from this Channel topic: x")
        peers = {}
        for n, words in enumerate((*soon, *later, *final)):
            peers[words] = self.peer()
            peers[words].subscribe(f"{self.topic}:{n}")
            self.server.fault({"op": "system", "topic": f"{self.wire}:{n}", "message": words, "close": True})
            told = peers[words].wait_notice("channel")
            self.assertTrue(told["text"].startswith(words), told)
            self.assertEqual(told["state"], "rejected" if words in final else "rejoining")
            if words not in final:
                self.assertGreaterEqual(told["retry_in_ms"], later.get(words, 900))
        for words in soon:
            peers[words].wait_notice("channel", lambda n: n["state"] == "ready")
        # What the rate was, it still is on another connection; what has been refused may be allowed by now.
        self.server.fault({"op": "close", "code": 1012, "sockets": "all"})
        for words in soon + final:
            peers[words].wait_notice("channel", lambda n: n["state"] == "ready")
        for words in later:
            peers[words].sync(upstream=True)
            self.assertEqual([n for n in peers[words].take("channel") if n["state"] == "ready"], [])

    def test_shown_again(self):
        """realtime-csharp#29: rejoined, and nobody is shown any more."""
        peer = self.peer()
        peer.track(self.topic, {"n": 1}, key="alice")
        want = {"alice": [{"n": 1}]}
        self.server.wait_presence(self.wire, want)
        for fault in ({"op": "close", "code": 1006}, {"op": "phx_close", "topic": self.wire}, {"op": "phx_error", "topic": self.wire}):
            joins = self.joins_of_daemon()
            self.server.fault(fault)
            self.server.wait_log(lambda log: sum(e["event"] == "phx_join" and e["topic"] == self.wire for e in log) > joins, "joined again")
            self.server.wait_presence(self.wire, want)

    def test_a_dead_token_is_not_tried_for_ever(self):
        """supabase-js#2596: a join with a dead token every five seconds, without an end."""
        reason = "InvalidJWTToken: Token has expired 9 seconds ago"
        peer = self.peer()
        peer.subscribe(self.topic)
        self.server.fault({"op": "refuse_join", "topic": self.wire, "reason": reason, "count": -1})
        for _ in range(3):
            joins = self.joins_of_daemon()
            before = self.reconnects(peer)
            self.server.fault({"op": "close", "code": 1012, "sockets": "all"})
            until(lambda: self.reconnects(peer) == before + 1, "it is connected again")
            peer.wait_notice("channel", lambda n: n["state"] == "rejected")
            peer.sync(upstream=True)
            self.assertLessEqual(self.joins_of_daemon(), joins + 1)
        self.server.fault({"op": "clear"})
        self.server.fault({"op": "close", "code": 1012, "sockets": "all"})
        peer.wait_notice("channel", lambda n: n["state"] == "ready")
        self.check_heard(peer)


if __name__ == "__main__":
    unittest.main()
