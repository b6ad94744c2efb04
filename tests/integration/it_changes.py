# SPDX-License-Identifier: MIT
"""Database changes from end to end: a real PostgreSQL, whose rows local clients get through the shared connection."""

import random
import time
import unittest

from rtbtest.changes import Changes, follow, follow_rows, start_postgres
from rtbtest.peer import RequestError
from rtbtest.wait import Deadline, until


def setUpModule():
    start_postgres()


def steady(story, watches):
    """Nobody was told of an interruption."""
    for w in watches:
        story.assertEqual([(m, n) for m, n in w.notices if m == "gap" or (m == "channel" and n["state"] != "ready")
                           or (m == "channel" and any(e["state"] != "ready" for e in n["postgres_changes"]))], [])


class Sharing(Changes):
    """What many bindings of many clients cost, and that moving them about is not noticed."""

    sections = {"limits": {"channels": "40"}}

    def test_many_bindings_in_few_channels(self):
        table = self.numbered(parts=24)
        watches = self.watches(table, 20)
        with self.writer(table, count=2):
            wishes = [w.want([table.all(i)] + [table.part(j, i) for j in range(24)]) for i, w in enumerate(watches)]
            for w, wish in zip(watches, wishes):
                self.assertEqual([e["state"] for e in w.result(wish)["postgres_changes"]], ["ready"] * 25)
            self.assertEqual(len({id for w in watches for id in w.streams}), 500)
            feeds = self.feeds()
            self.assertEqual(sum(t["bindings"] for t in feeds), 500)
            self.assertLessEqual(len(feeds), 20)
            follow_rows(watches, table.last + 20)
            # Ordinary channels take the room.
            other = self.peer()
            for i in range(16):
                other.subscribe(f"topic:{i}")
            follow(watches, lambda: len(feeds := self.feeds()) <= 12 and sum(t["bindings"] for t in feeds) == 500, "feeds are merged")
            follow_rows(watches, table.last + 20)
        follow_rows(watches, table.last)
        steady(self, watches)
        self.assertEqual(len(self.server.sockets()), 1)


if __name__ == "__main__":
    unittest.main()
