#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The checker sees each kind of violation, and is silent about everything that is as it must be.

Each test tells the same small story with one thing changed: ann, a local sender, and far, past the daemon, each send five
messages; bob listens; the connection is lost between the second and the fourth.
"""

import unittest

from rtbtest.checker import Checker, Violation, seal

ROOM = "room"


class Story:
    """What happened, to be changed before it is told."""

    def __init__(self):
        # far:2 and ann:2 are sent while the connection is away; the latter was given to it and nobody knows.
        self.outcomes = {0: ["acked"], 1: ["acked"], 2: ["unknown"], 3: ["acked"], 4: ["acked"]}
        self.witness = [(s, n) for n in range(5) for s in ("ann", "far")]
        self.blind = []
        self.joins = [3500]
        self.gap = {"from": 1950, "to": 3500, "cause": "connection"}
        self.log = True
        self.heard = [("ann", 0), ("far", 0), ("ann", 1), ("far", 1), "rejoining", "gap", "ready",
                      ("far", 3), ("ann", 3), ("ann", 4), ("far", 4)]

    def tell(self, **kwargs):
        c = Checker(transit_ms=400, slack_ms=100, **kwargs)
        if self.log:
            c.knows_joins_of(ROOM)
        for ms in self.joins if self.log else ():
            c.joined(ROOM, ms)
        for n in range(5):
            at = 1000 * n + (200 if n == 2 else 0)
            c.sent("ann", n, ROOM, at, local=True)
            c.sent("far", n, ROOM, at)
            for word in self.outcomes[n]:
                c.outcome("ann", n, word, at + 50)
        witness = c.witness(ROOM)
        for s, n in self.witness:
            witness.broadcast(seal(s, n), 1000 * n + 250)
        for a, b in self.blind:
            witness.gone(a, b)
        bob = c.listener("bob", ROOM, 0)
        at = 0
        for what in self.heard:
            at += 10
            if what == "gap":
                bob.gap(self.gap, at)
            elif isinstance(what, str):
                bob.channel({"state": what}, at)
            elif isinstance(what, dict):
                bob.broadcast(what, at)
            else:
                bob.broadcast(seal(*what, size=10), at)
        return c


class Test(unittest.TestCase):
    def setUp(self):
        self.story = Story()

    def fine(self):
        c = self.story.tell()
        c.verify()
        return c

    def wrong(self, kind, n=1, also=()):
        """Just so many of this kind, and no others but `also`."""
        with self.assertRaises(Violation) as caught:
            self.story.tell().verify()
        lines = [v.strip() for v in self.story.tell().check()]
        kinds = [v.split(":")[0] for v in lines]
        self.assertEqual(kinds.count(kind), n, lines)
        self.assertEqual(set(kinds) - {kind} - set(also), set(), lines)
        self.assertIn(kind, str(caught.exception))
        return lines[kinds.index(kind)]

    def test_all_is_well(self):
        c = self.fine()
        self.assertEqual((c.judged["sends"], c.judged["received"], c.judged["gaps"], c.judged["missing"]), (10, 8, 1, 2))
        self.assertEqual(c.judged["missing, told"], 1)  # far:2; ann:2 is unknown

    def test_all_is_well_in_other_ways(self):
        s = self.story
        for change in (lambda: s.heard.insert(7, ("far", 2)),            # it came all the same
                       lambda: s.witness.remove(("far", 2)),              # the server never had it
                       lambda: s.heard.insert(4, "joining"),
                       lambda: (s.heard.insert(7, ("ann", 2)), s.outcomes.update({2: ["acked"]})),
                       lambda: (s.witness.remove(("ann", 2)), s.heard.remove(("ann", 2)), s.outcomes.update({2: ["expired"]}))):
            change()
            self.fine()

    def test_twice(self):
        self.story.heard.append(("far", 3))
        self.assertIn("far:3", self.wrong("twice"))

    def test_twice_at_the_witness(self):
        """That is: a send was given away twice."""
        self.story.witness.append(("ann", 3))
        self.assertIn("('ann', 3)", self.wrong("twice"))

    def test_order(self):
        h = self.story.heard
        h[9], h[8] = h[8], h[9]
        line = self.wrong("order")
        self.assertIn("ann:3", line)
        self.assertIn("ann:4", line)

    def test_changed(self):
        bad = seal("far", 4, size=10)
        bad["pad"] = bad["pad"][:-1]
        self.story.heard[-1] = bad
        self.wrong("changed")

    def test_not_decodable(self):
        c = self.story.tell()
        c.listeners[0].broadcast(b"{...", 9000, undecodable=True)
        self.assertIn("changed", c.check()[0])

    def test_a_stranger(self):
        self.story.heard.append(("far", 77))
        self.wrong("stranger")

    def test_of_another_topic(self):
        c = self.story.tell()
        c.sent("far", 5, "elsewhere", 5000)
        c.listeners[0].broadcast(seal("far", 5), 9000)
        self.assertIn("stranger", c.check()[0])

    def test_loss_without_a_gap(self):
        h = self.story.heard
        del h[4:7]
        self.story.joins = []
        self.assertIn("far:2", self.wrong("loss"))

    def test_loss_somewhere_else(self):
        """There is a gap, but not where this one is missing."""
        h = self.story.heard
        h[:7] = h[:2] + h[4:7] + h[2:4]
        self.story.gap = {"from": 100, "to": 3500, "cause": "connection"}
        self.wrong("loss")

    def test_loss_at_another_time(self):
        self.story.gap = {"from": 2900, "to": 3500, "cause": "connection"}
        self.assertIn("far:2", self.wrong("loss"))

    def test_loss_of_what_was_taken(self):
        """A gap is no excuse for what is handed on here."""
        self.story.outcomes[2] = ["acked"]
        self.assertIn("ann:2", self.wrong("loss"))

    def test_at_another_daemon(self):
        """What is acknowledged to a sender here is the server's to bring there: a gap is an excuse, and needed."""
        self.story.outcomes[2] = ["acked"]
        c = self.story.tell()
        c.listeners[0].elsewhere = True
        c.verify()
        c.listeners[0].events[5:6] = []
        self.assertEqual([v.split(":")[1].split()[2] for v in c.check() if "loss" in v], ["ann", "far"])

    def test_loss_before_the_gap(self):
        self.story.heard.remove(("far", 1))
        self.assertIn("far:1", self.wrong("loss"))

    def test_no_gap(self):
        self.story.heard.remove("gap")
        lines = [v.strip().split(":")[0] for v in self.story.tell().check()]
        self.assertEqual(sorted(lines), ["loss", "no gap", "no gap"])  # by its channel, and by the server's log

    def test_a_join_without_a_word(self):
        self.story.joins.append(4500)
        self.assertIn("4500", self.wrong("no gap"))

    def test_false_gap_by_the_channel(self):
        self.story.heard.insert(9, "gap")
        self.assertIn("not away", self.wrong("false gap"))

    def test_false_gap_by_the_log(self):
        self.story.joins = []
        self.assertIn("no join", self.wrong("false gap"))

    def test_a_log_that_was_lost(self):
        c = self.story.tell()
        c.joins[ROOM] = []
        c.joins_not_known(2000, 3300)
        c.verify()

    def test_a_gap_that_ends_before_it_begins(self):
        self.story.log = False
        self.story.gap = {"from": 3500, "to": 1950, "cause": "connection"}
        self.wrong("false gap", also=("loss",))

    def test_moved(self):
        """Another connection takes a channel over, which was never away."""
        self.story.heard.remove("rejoining")
        self.story.heard.remove("ready")
        self.story.gap["cause"] = "moved"
        self.fine()
        self.story.gap["cause"] = "connection"
        self.wrong("false gap")

    def test_outcomes(self):
        for words in [], ["acked", "acked"], ["acked", "unknown"], ["perhaps"]:
            self.story.outcomes[3] = words
            with self.subTest(words=words):
                self.wrong("outcome")

    def test_outcomes_that_are_not_true(self):
        self.story.outcomes[4] = ["denied"]
        self.assertIn("has it", self.wrong("outcome"))
        self.story.outcomes[4] = ["acked"]
        self.story.witness.remove(("ann", 4))
        self.assertIn("never got it", self.wrong("outcome"))
        self.story.blind = [(4000, 5000)]
        self.fine()
        self.story.witness.append(("ann", 4))
        self.story.outcomes[4] = ["expired"]
        self.wrong("outcome")

    def test_what_a_listener_says_itself(self):
        c = self.story.tell()
        ann = c.listener("ann", ROOM, 0, own="ann")
        for what in self.story.heard:
            if what == "gap":
                ann.gap(self.story.gap, 1)
            elif isinstance(what, str):
                ann.channel({"state": what}, 1)
            elif what[0] == "far":
                ann.broadcast(seal(*what), 1)
        c.verify()

    def test_database_changes(self):
        """Their gaps are of bindings: no channel is away."""
        c = self.story.tell()
        rows = c.listener("rows", "table", 0, changes=True)
        for n in range(5):
            c.sent("db", n, "table", 1000 * n)
        for n in 0, 1:
            rows.broadcast({"s": "db", "n": n}, 1)
        rows.gap({"from": 1900, "to": 2500, "cause": "connection", "ids": [1]}, 2)
        for n in 3, 4:
            rows.broadcast({"s": "db", "n": n}, 3)
        c.verify()
        del rows.events[2]
        self.assertIn("loss", c.check()[0])

    def test_says_what_was_around(self):
        self.story.heard.append(("far", 3))
        with self.assertRaises(Violation) as caught:
            self.story.tell().verify()
        text = str(caught.exception)
        self.assertIn("1 violations", text)
        self.assertIn("message ann:4", text)
        self.assertIn("> 120 message far:3", text)


if __name__ == "__main__":
    unittest.main()
