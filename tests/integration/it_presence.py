# SPDX-License-Identifier: MIT
"""Presence from end to end: what local watchers, a client past the daemon and the server's own table know of each other."""

import os
import random
import signal
import time
import unittest

from rtbtest.child import Child
from rtbtest.peer import RequestError
from rtbtest.presence import RawWatch, Watch, canonical, members_of
from rtbtest.story import Story
from rtbtest.wait import Deadline, until


class Presence(Story):
    """Common to all modes of [presence] trackers."""

    mode = "links"

    @classmethod
    def setUpClass(cls):
        cls.sections = {"limits": {"links": 8}, "presence": {"trackers": cls.mode}}
        super().setUpClass()

    def setUp(self):
        self.topic = f"who:{random.randrange(10 ** 9)}"

    def tearDown(self):
        self.assertEqual(self.server.status()["presence_closed"], 0, "the server closed a channel for its presence calls")

    def raw(self, key="", topic=None):
        watch = RawWatch(self.server.url, self.key, topic or self.topic, key)
        self.addCleanup(watch.close)
        return watch

    def watch(self, daemon=None, **params):
        return Watch(self.peer(daemon), self.topic, **params)

    def child(self):
        child = Child(self.daemon.socket)
        self.addCleanup(child.kill)
        return child

    def table(self):
        return canonical(self.server.presence("realtime:" + self.topic))

    def wait_table(self, want):
        self.server.wait_presence("realtime:" + self.topic, want)

    def channels(self):
        """The server's channels of the topic that are the daemon's."""
        return [t for s in self.server.status()["sockets"] for t in s["topics"]
                if t["topic"] == "realtime:" + self.topic and t["ack"]]


class Watching(Presence):
    def frames(self):
        """From clients to the server, but for heartbeats."""
        return sum(s["received"] - s["heartbeats"] for s in self.server.status()["sockets"])

    def test_late_watchers_are_served_by_the_daemon(self):
        outside = self.raw("out")
        self.assertEqual(outside.track({"n": 1, "text": "ünï 😀"}), "ok")
        first = self.watch()
        self.assertEqual(first.state, "ok")
        self.assertEqual(first.states(), {"out": [{"n": 1, "text": "ünï 😀"}]})
        self.assertEqual(first.entries, outside.settle().entries)
        first.settle()
        before = self.frames()
        late = self.watch()
        self.assertEqual((late.state, late.entries), ("ok", first.entries))
        again = self.watch(presence={"events": ["join"]})
        self.assertEqual(again.entries, first.entries)
        late.settle()
        self.assertEqual(self.frames(), before)
        self.assertEqual(outside.track({"n": 2}), "ok")
        for watch in (first, late):
            watch.wait({"out": [{"n": 2}]})
            self.assertEqual(watch.told, [("update", "out", {"n": 2})])
        # Who chose only `join` is not told of the update: the marker is the next.
        other = self.raw("two")
        self.assertEqual(other.track({}), "ok")
        again.peer.sync(upstream=True)
        self.assertEqual([sorted(set(n) - {"chan", "topic"}) for n in again.peer.take("presence")], [["join"]])
        outside.close()
        first.wait({"two": [{}]}), late.wait({"two": [{}]})
        self.assertEqual(late.words("leave"), [("leave", "out")])

    def test_presence_wanted_later(self):
        listener, outside = self.peer(), self.raw("out")
        chan = listener.subscribe(self.topic)["chan"]
        self.assertEqual(outside.track({"n": 1}), "ok")
        joins = self.server.status()["joins_ever"]
        sent, peers, wishes = 0, [self.peer() for _ in range(3)], []
        for peer in peers:
            wishes.append(peer.request("subscribe", {"topic": self.topic, "presence": {}}))
        # Messages flow all the while.
        while sent < 10 or not any(method == "channel" and n["state"] == "ready" for method, n in listener.notices):
            outside.client.broadcast(self.topic, "n", sent)
            sent += 1
            listener.step(Deadline(), "messages, and the rejoin")
        for peer, wish in zip(peers, wishes):
            presence = peer.result(wish)["presence"]
            self.assertEqual(presence["state"], "ok")
            self.assertEqual([e["key"] for e in presence["snapshot"]], ["out"])
        self.assertEqual(self.server.status()["joins_ever"], joins + 1)
        outside.client.broadcast(self.topic, "last", sent)
        listener.wait_notice("broadcast", lambda n: n["event"] == "last")
        self.assertEqual([n["payload"] for n in listener.take("broadcast")], list(range(sent)))
        told = [(method, n) for method, n in listener.notices if method in ("channel", "gap")]
        self.assertEqual([(m, n.get("state")) for m, n in told], [("channel", "rejoining"), ("gap", None), ("channel", "ready")])
        self.assertEqual((told[0][1]["code"], told[1][1]["cause"], told[1][1]["chan"]), ("presence", "presence", chan))
        self.assertLessEqual(told[1][1]["from"], told[1][1]["to"])

    def test_denied(self):
        self.server.fault({"op": "deny_presence", "topic": "realtime:" + self.topic, "read": True, "write": True})
        watch = self.watch()
        self.assertEqual((watch.state, watch.entries), ("denied", {}))
        answer = self.peer().track(self.topic, {"n": 1})
        self.assertEqual(answer["outcome"], "denied", answer)
        self.assertTrue(answer["text"])
        # It is forgotten: nothing is tracked when it would be allowed.
        self.server.fault({"op": "deny_presence", "topic": "realtime:" + self.topic, "read": False, "write": False})
        self.server.fault({"op": "close", "sockets": "all"})
        watch.peer.wait_notice("channel", lambda n: n["state"] == "ready" and n["presence"] == "ok")
        watch.settle()
        self.assertEqual((watch.entries, self.table()), ({}, {}))

    def test_denied_later(self):
        watch, peer = self.watch(), self.peer()
        self.assertEqual(peer.track(self.topic, {"n": 1})["outcome"], "acked")
        self.server.fault({"op": "deny_presence", "topic": "realtime:" + self.topic, "write": True})
        answer = peer.track(self.topic, {"n": 2})
        if answer["outcome"] == "throttled":
            error = peer.wait_notice("error")
            self.assertEqual((error["method"], error["topic"], error["error"][1]), ("track", self.topic, "rejected"))
        else:
            self.assertEqual(answer["outcome"], "denied")
        watch.wait({})
        self.wait_table({})
        with self.assertRaises(RequestError) as caught:
            peer.untrack(self.topic)
        self.assertEqual(caught.exception.name, "not_subscribed")

    def test_a_state_that_comes_late(self):
        outside = self.raw("out")
        self.assertEqual(outside.track({"n": 1}), "ok")
        self.server.fault({"op": "no_presence_state", "topic": "realtime:" + self.topic, "ms": 300})
        watch = self.watch()
        self.assertEqual(watch.state, "denied")  # the server answered later words before it
        watch.wait({"out": [{"n": 1}]})
        self.assertEqual(watch.told, [("sync", "", None)])
        watch.settle()


class Calls(Presence):
    """The server's limit on presence calls, and what it must not keep us from."""

    def four_updates(self, child, outside):
        """Each of them acknowledged; the daemon makes pauses between them."""
        for n in range(4):
            answer = child.track(self.topic, {"n": n}, key="child")
            if answer["outcome"] == "throttled":
                outside.wait({"child": [{"n": n}], **self.others})
                answer = child.track(self.topic, {"n": n}, key="child")
            self.assertEqual(answer["outcome"], "acked", answer)
            outside.wait({"child": [{"n": n}], **self.others})

    def killed(self, child, outside):
        """From the kill to the moment at which somebody else is told. Nothing here is waited for longer than the bound that
        is promised, on a slow build neither: it is some hundred times what it takes."""
        before = time.monotonic()
        os.kill(child.process.pid, signal.SIGKILL)
        outside.wait(self.others)
        took = time.monotonic() - before
        print(f"gone {1000 * took:.1f} ms after the kill")
        self.assertLessEqual(took, 1.0)
        self.assertEqual(self.table(), canonical(self.others))

    def check_open(self, watch, outside):
        watch.wait(self.others)
        self.assertEqual([n for method, n in watch.peer.notices if method == "channel"], [])
        self.assertEqual(self.peer().broadcast(self.topic, "still", 1)["outcome"], "acked")
        self.assertEqual(outside.client.recv_broadcasts(1), [("still", 1)])
        self.assertTrue(any(c["presence"] for c in self.channels()))

    def test_killed_after_four_updates(self):
        self.others = {}
        outside, watch, child = self.raw(), self.watch(), self.child()
        self.four_updates(child, outside)
        [channel] = [c for c in self.channels() if c["tracked"]]
        self.assertEqual(channel["presence_calls"], 4)
        watch.wait({"child": [{"n": 3}]})
        # The rejoin for its key is over; from here on nothing happens to the channel.
        watch.peer.take("channel"), watch.peer.take("gap")
        self.killed(child, outside)
        self.check_open(watch, outside)

    def test_killed_on_a_link_of_its_own(self):
        watch, first = self.watch(), self.peer()
        self.assertEqual(first.track(self.topic, {"first": True}, key="first")["outcome"], "acked")
        self.others = {"first": [{"first": True}]}
        outside, child = self.raw(), self.child()
        self.four_updates(child, outside)
        self.assertGreaterEqual(len(self.channels()), 2)
        watch.wait({"child": [{"n": 3}], **self.others})
        watch.peer.take("channel"), watch.peer.take("gap")
        self.killed(child, outside)
        self.check_open(watch, outside)

    def test_many_updates(self):
        outside, watch, peer = self.raw(), self.watch(), self.peer()
        begin = time.monotonic()
        ids = []
        for n in range(20):
            ids.append(peer.request("track", {"topic": self.topic, "key": "busy", "state": {"n": n}}))
            # Evenly over a second; what comes meanwhile is read.
            until(lambda: peer.drain() or time.monotonic() >= begin + n * 0.05, "its time has come", pause=0.005)
        outside.wait({"busy": [{"n": 19}]})
        outcomes = [peer.result(id)["outcome"] for id in ids]
        self.assertEqual(set(outcomes) - {"acked", "throttled", "replaced"}, set())
        watch.wait(outside.states())
        [channel] = [c for c in self.channels() if c["tracked"]]
        self.assertLessEqual(channel["presence_calls"], 4)
        # The rest of the window: after the fourth call only a leave is made at once, the fifth and last.
        for n in range(20, 40):
            self.assertIn(peer.track(self.topic, {"n": n})["outcome"], ("acked", "throttled"))
        outside.wait({"busy": [{"n": 39}]})
        more = peer.track(self.topic, {"n": 40})
        self.assertEqual(more["outcome"], "throttled", more)
        self.assertGreater(more["retry_in_ms"], 15000)
        before = time.monotonic()
        peer.untrack(self.topic)
        outside.wait({})
        self.assertLessEqual(time.monotonic() - before, 1.0)
        again = peer.track(self.topic, {"n": 41}, key="busy")
        self.assertEqual(again["outcome"], "throttled", again)
        self.assertGreater(again["retry_in_ms"], 15000)
        watch.wait({}), watch.settle()
        [channel] = self.channels()
        self.assertEqual((channel["presence_calls"], channel["tracked"]), (5, False))


def keys(n):
    return [f"k{i}" for i in range(n)]


class Together(Presence):
    """Several local trackers in one channel."""

    sizes = (2, 3, 8)

    def table_shown(self):
        return members_of(self.table())

    def several(self, n):
        """n trackers; the watchers that were there before, and those that came after."""
        self.topic = f"who:{random.randrange(10 ** 9)}"
        daemon = self.enterContext(self.another())
        neighbour = self.enterContext(self.another())
        before = [self.watch(daemon), self.watch(daemon), self.watch(neighbour)]
        outside = self.raw()
        want = {key: [{"i": i}] for i, key in enumerate(keys(n))}
        trackers = [self.peer(daemon) for _ in range(n)]
        ids = [t.request("track", {"topic": self.topic, "key": k, "state": want[k][0]}) for t, k in zip(trackers, want)]
        for tracker, id, key in zip(trackers, ids, want):
            answer = tracker.result(id)
            self.assertIn(answer["outcome"], ("acked", "throttled"))
            self.assertEqual(answer["key"], key)
        for watch in before:
            watch.wait(want)
        after = [self.watch(daemon), self.watch(neighbour)]
        for watch in before + after:
            watch.settle()
            self.assertEqual(watch.states(), canonical(want))
            self.assertEqual(set(watch.most.values()), {1})
        for watch in before:
            self.assertEqual(watch.words("leave"), [])
            # What a rejoin tells anew is no join.
            self.assertEqual([w for w in watch.words("join") if watch.words("join").count(w) > 1], [])
        self.assertEqual(self.table_shown(), canonical(want))
        return daemon, trackers, before, outside, want

    def untrack_all(self, trackers, before, outside):
        for i, tracker in enumerate(trackers):
            tracker.untrack(self.topic) if i % 2 else tracker.close()
        for watch in before:
            watch.wait({}).settle()
            self.assertEqual([w for w in watch.words("leave") if watch.words("leave").count(w) > 1], [])
        outside.wait({})
        self.assertEqual(self.table(), {})

    def taken(self, daemon, key, *words):
        with self.assertRaises(RequestError) as caught:
            self.peer(daemon).track(self.topic, {"extra": True}, key=key)
        self.assertEqual(caught.exception.name, "presence_taken")
        for word in words:
            self.assertIn(word, caught.exception.text)


class Links(Together):
    mode = "links"

    def test_each_on_its_own_link(self):
        for n in self.sizes:
            with self.subTest(n=n):
                daemon, trackers, before, outside, want = self.several(n)
                outside.wait(want)
                self.assertEqual(outside.words("join", "leave"), [("join", k) for k in want])
                links = trackers[0].status()["links"]
                self.assertGreaterEqual(len(links), n)
                self.assertNotIn("uid", links[0])
                for link in links[1:]:
                    self.assertIn(self.topic, link["why"])
                    self.assertIn("tracker", link["why"])
                    self.assertEqual(link["uid"], os.getuid())
                [channel] = [c for c in trackers[0].status()["channels"] if c["topic"] == self.topic]
                self.assertEqual((channel["trackers"], channel["entries"]), (n, n))
                if len(links) == 8 and n == 8:
                    self.taken(daemon, "one-more", "another client", "[limits] links")
                self.untrack_all(trackers, before, outside)

    def test_one_link_is_lost(self):
        a, b, watch = self.peer(), self.peer(), self.watch()
        a.track(self.topic, {"n": 1}, key="a")
        b.track(self.topic, {"n": 2}, key="b")
        watch.wait({"a": [{"n": 1}], "b": [{"n": 2}]})
        [lost] = [s["id"] for s in self.server.status()["sockets"]
                  for t in s["topics"] if t["topic"] == "realtime:" + self.topic and t["presence_key"] == "b"]
        a.sync(upstream=True)
        a.take("track")  # the shared join got a's key by a rejoin, maybe
        self.server.fault(op="close", code=0, sockets=[lost])
        told = b.wait_notice("track", lambda p: p["outcome"] == "queued")
        self.assertEqual((told["topic"], told["key"]), (self.topic, "b"))
        self.assertIn("connection", told["text"])
        b.wait_notice("track", lambda p: p["outcome"] == "acked")
        watch.wait({"a": [{"n": 1}], "b": [{"n": 2}]}).settle()
        a.sync(upstream=True)
        self.assertEqual(a.take("track"), [])
        [channel] = [c for c in a.status()["channels"] if c["topic"] == self.topic]
        self.assertEqual((channel["trackers"], channel["shown"]), (2, 2))

    def test_no_keys(self):
        watch, trackers = self.watch(), [self.peer() for _ in range(3)]
        made = [t.track(self.topic, {"n": 1})["key"] for t in trackers]
        self.assertEqual(len(set(made)), 3)
        watch.wait({key: [{"n": 1}] for key in made}).settle()

    def test_one_key_for_all(self):
        outside, watch, trackers = self.raw(), self.watch(), [self.peer() for _ in range(3)]
        for n, tracker in enumerate(trackers):
            self.assertEqual(tracker.track(self.topic, {"n": n}, key="same")["outcome"], "acked")
        want = {"same": [{"n": n} for n in range(3)]}
        watch.wait(want).settle()
        outside.wait(want)
        trackers[1].close()
        want["same"].pop(1)
        watch.wait(want).settle()
        outside.wait(want)


class Merge(Together):
    mode = "merge"

    def test_all_in_one_entry(self):
        for n in self.sizes:
            with self.subTest(n=n):
                daemon, trackers, before, outside, want = self.several(n)
                [(key, states)] = outside.settle().states().items()
                self.assertRegex(key, "^rtbridge:")
                self.assertEqual(states, [{"members": {k: s[0] for k, s in want.items()}}])
                self.assertEqual(len(trackers[0].status()["links"]), 1)
                for watch in before:
                    self.assertEqual(watch.words("join"), [("join", k) for k in want])
                    self.assertEqual(watch.words("update", "leave"), [])
                self.taken(daemon, "k1", "key", "[presence] trackers = merge")
                # One may always go at once; for more the server's calls may not suffice.
                trackers[0].untrack(self.topic) if n % 2 else trackers[0].close()
                del want["k0"]
                for watch in before:
                    watch.wait(want).settle()
                    self.assertEqual((watch.words("leave"), watch.words("update")), ([("leave", "k0")], []))
                daemon.stop()
                outside.wait({})
                before[2].wait({}).settle()

    def test_killed_after_four_calls(self):
        outside, watch, first, child = self.raw(), self.watch(), self.peer(), self.child()
        want = {"first": [{}]}
        self.assertEqual(first.track(self.topic, {}, key="first")["outcome"], "acked")
        for n in range(3):
            child.track(self.topic, {"n": n}, key="child")
            watch.wait({"child": [{"n": n}], **want})
        [channel] = self.channels()
        self.assertEqual(channel["presence_calls"], 4)
        outside.settle()
        before = time.monotonic()
        os.kill(child.process.pid, signal.SIGKILL)
        while members_of(outside.states()) != want:
            outside.apply(outside.client.recv_message())
        self.assertLessEqual(time.monotonic() - before, 1.0)
        watch.wait(want).settle()
        self.assertEqual(members_of(self.table()), want)


class Refuse(Together):
    mode = "refuse"

    def test_one_only(self):
        for n in self.sizes:
            with self.subTest(n=n):
                daemon, trackers, before, outside, want = self.several(1)
                for i in range(1, n):
                    self.taken(daemon, f"k{i}", "another client", "[presence] trackers = refuse")
                outside.wait(want)
                self.assertEqual(len(trackers[0].status()["links"]), 1)
                for watch in before:
                    self.assertEqual(watch.settle().states(), canonical(want))
                self.untrack_all(trackers, before, outside)
                # Free again.
                self.assertIn(self.peer(daemon).track(self.topic, {"i": 0}, key="k0")["outcome"], ("acked", "throttled"))
                before[0].wait(want)


class Restarts(Presence):
    def three(self):
        self.want = {key: [{"i": i}] for i, key in enumerate(keys(3))}
        watch, trackers = self.watch(), [self.peer() for _ in range(3)]
        for tracker, key in zip(trackers, self.want):
            tracker.track(self.topic, self.want[key][0], key=key)
        watch.wait(self.want)
        return watch, trackers

    def check_once(self, *watches):
        self.server.wait_status(lambda st: members_of(self.table()) == canonical(self.want), "everybody is tracked again")
        for watch in watches:
            watch.wait(self.want).settle()
            self.assertEqual(set(watch.most.values()), {1}, f"somebody was there twice: {watch.told}")

    def test_server_restarts(self):
        watch, trackers = self.three()
        self.server.restart()
        raw = self.raw()
        raw.most.clear()
        self.check_once(watch)
        raw.wait(self.want) if self.mode == "links" else raw.settle()
        self.assertEqual(set(raw.most.values()), {1})
        for tracker in trackers:
            self.assertEqual([n for method, n in tracker.notices if method == "error"], [])
            tracker.untrack(self.topic)
        watch.wait({}).settle()
        self.assertEqual(self.table(), {})

    def test_sockets_break(self):
        watch, _ = self.three()
        for code in (1006, 1012, 1006):
            self.server.fault({"op": "close", "code": code, "sockets": "all"})
            watch.peer.wait_notice("channel", lambda n: n["state"] == "rejoining")
            watch.peer.wait_notice("channel", lambda n: n["state"] == "ready")
            self.check_once(watch)

    def test_daemon_restarts(self):
        for end in (self.daemon.stop, self.daemon.kill):
            with self.subTest(end=end.__name__):
                self.setUp()
                self.three()
                outside = self.raw()
                self.assertEqual(members_of(outside.states()), canonical(self.want))
                end()
                outside.wait({})
                self.daemon.start()
                watch, _ = self.three()
                self.check_once(watch)
                outside.settle()
                self.assertEqual(members_of(outside.states()), canonical(self.want))
                self.assertEqual(set(outside.most.values()), {1})


class RestartsMerged(Restarts):
    mode = "merge"


del Presence, Together

if __name__ == "__main__":
    unittest.main()
