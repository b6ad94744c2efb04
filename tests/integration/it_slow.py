# SPDX-License-Identifier: MIT
"""A reader that stops reading is closed at its limit, with a reason; the others lose nothing; memory stays bounded."""

import random
import unittest

from rtbtest.peer import Peer, frame
from rtbtest.story import Story
from rtbtest.wait import until

LIMIT = 1024 * 1024


class Slow(Story):
    sections = {"limits": {"client_queue": str(LIMIT)}}

    def test_stopped_reader_under_load(self):
        topic = f"slow:{random.randrange(10 ** 9)}"
        stopped, reader, sender = self.peer(name="stopped"), self.peer(name="reader"), self.peer(name="sender")
        stopped.subscribe(topic)
        reader.subscribe(topic)
        before = reader.status()["counters"]["slow_consumers"]
        text = "x" * 1000
        n = 0
        # Eight limits' worth of messages; whoever reads keeps up, since the sender waits for its acks.
        while n < 8 * LIMIT // 1000:
            ids = [sender.request("broadcast", {"topic": topic, "event": "n", "payload": {"n": n + i, "x": text}})
                   for i in range(200)]
            n += 200
            for id in ids:
                self.assertEqual(sender.result(id)["outcome"], "acked")
            reader.sync()
        self.assertEqual([m["payload"]["n"] for m in reader.take("broadcast")], list(range(n)))
        status = reader.status()
        self.assertNotIn("stopped", [c["name"] for c in status["clients"]])
        self.assertEqual(status["counters"]["slow_consumers"], before + 1)
        self.assertIn("does not read", self.daemon.log_text())
        # When it reads again: what the kernel held, in order, and then the reason.
        stopped.wait_closed()
        got = [m["payload"]["n"] for m in stopped.take("broadcast")]
        self.assertEqual(got, list(range(len(got))))
        self.assertEqual([e["error"][1] for e in stopped.take("error")], ["slow_consumer"])
        if not self.sanitized:
            self.assertLess(self.daemon.rss_bytes(), 64 << 20)

    def test_many_stopped_readers(self):
        topic = f"slow:{random.randrange(10 ** 9)}"
        stopped = [self.peer(name="stopped") for _ in range(30)]
        for peer in stopped:
            peer.subscribe(topic)
        reader, sender = self.peer(), self.peer()
        reader.subscribe(topic)
        for n in range(3 * LIMIT // 10000):
            self.assertEqual(sender.broadcast(topic, "n", {"n": n, "x": "x" * 10000})["outcome"], "acked")
            reader.drain()
        reader.sync()
        self.assertEqual([m["payload"]["n"] for m in reader.take("broadcast")], list(range(3 * LIMIT // 10000)))
        until(lambda: "stopped" not in [c["name"] for c in reader.status()["clients"]], "all stopped readers are closed")
        if not self.sanitized:
            self.assertLess(self.daemon.rss_bytes(), 64 << 20)

    def test_who_leaves_without_reading(self):
        """It is no slow consumer, and what it had sent before is carried out to the end."""
        topic = f"slow:{random.randrange(10 ** 9)}"
        reader, leaver = self.peer(), self.peer()
        reader.subscribe(topic)
        leaver.subscribe(topic, broadcast={"self": True})
        before = reader.status()["counters"]["slow_consumers"]
        frames = [frame([0, 1000 + n, "broadcast", {"topic": topic, "event": "n", "payload": n}]) for n in range(2000)]
        leaver.sock.setblocking(False)
        data = b"".join(frames)
        self.assertEqual(leaver.sock.send(data), len(data))  # all of it fits into the socket
        leaver.close()
        for n in range(len(frames)):
            self.assertEqual(reader.wait_notice("broadcast")["payload"], n)
        self.assertEqual(reader.status()["counters"]["slow_consumers"], before)

    def test_who_asks_without_reading_the_answers(self):
        flood = Peer(self.daemon.socket)
        flood.sock.settimeout(5)
        try:
            while True:
                flood.request("status")
        except OSError:
            pass  # closed, or not read any more
        flood.close()
        self.assertIn("server", self.peer().status())


if __name__ == "__main__":
    unittest.main()
