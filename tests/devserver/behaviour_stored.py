#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the recordings do not show of messages that a database sends: who gets them, what is stored, replay, refusals.

usage: behaviour_stored.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import json
import os
import sys
import time
import unittest
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import DevServer, WsClient  # noqa: E402

BIN = None
T = "realtime:room"
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
CANNOT = "UnableToReplayMessages: "
READY = {"message": "Replication connection established", "status": "ok", "extension": "system", "channel": "room"}


class Got:
    """A broadcast as it came: text or kind 4."""

    def __init__(self, m):
        self.binary = isinstance(m, bytes)
        if self.binary:
            assert m[0] == 4
            parts, at = [], 5
            for size in m[1:4]:
                parts.append(m[at:at + size].decode())
                at += size
            self.topic, self.event, self.meta, self.payload = parts[0], parts[1], json.loads(parts[2] or "{}"), m[at:]
            self.refs = (None, None)
            if m[4]:
                self.payload = json.loads(self.payload)
        else:
            self.refs, self.topic = (m[0], m[1]), m[2]
            assert m[3] == "broadcast" and m[4]["type"] == "broadcast", m
            self.event, self.meta, self.payload = m[4]["event"], m[4].get("meta", {}), m[4]["payload"]


class WithServer(unittest.TestCase):
    options = {}

    def setUp(self):
        self.server = DevServer(BIN, **self.options)
        self.addCleanup(self.server.stop)

    def client(self, vsn="2.0.0", token=None):
        ws = WsClient(self.server.url, token or self.server.token(), vsn)
        self.addCleanup(ws.abort)
        return ws

    def member(self, config=None, topic=T, **more):
        ws = self.client(**more)
        self.assertEqual(ws.join(topic, config)["status"], "ok")
        return ws

    def config(self, since=0, limit=None, **more):
        replay = {"since": since} if limit is None else {"since": since, "limit": limit}
        return dict({"private": True, "broadcast": {"replay": replay}}, **more)

    def got(self, ws):
        return [Got(m) for m in ws.heartbeat() if isinstance(m, bytes) or m[3] == "broadcast"]

    def replayed(self, *args, vsn="2.0.0", topic=T, **kwargs):
        ws = self.client(vsn)
        self.assertEqual(ws.join(topic, self.config(*args, **kwargs))["status"], "ok")
        found = self.got(ws)
        self.assertTrue(all(g.meta["replayed"] is True for g in found))
        return found

    def numbers(self, *args, **kwargs):
        return [g.payload["n"] for g in self.replayed(*args, **kwargs)]


class Live(WithServer):
    def test_to_whom_and_how(self):
        two, one = self.member({"private": True}), self.member({"private": True}, vsn="1.0.0")
        public, other = self.member(), self.member({"private": True}, topic="realtime:other")
        given = self.server.db_send("room", "e", {"n": 1}, id=str(uuid.uuid4()))
        self.server.fault(op="db_send", topic="room", event="e", payload={})
        self.server.db_send("room", "e", {"id": None})
        self.server.db_send("room", "b", b"\x00\xff")
        self.server.db_send("room", "p", {}, private=False)
        a, b = self.got(two), self.got(one)
        self.assertEqual([g.binary for g in a + b], [True] * 4 + [False] * 3)
        self.assertEqual(a[0].meta, {"id": given})
        self.assertEqual(a[0].payload, {"n": 1, "id": given})
        self.assertRegex(a[1].meta["id"], UUID4)
        self.assertEqual(a[1].payload, {"id": a[1].meta["id"]})
        self.assertEqual(a[2].payload, {"id": None})
        self.assertEqual((a[3].event, a[3].payload), ("b", b"\x00\xff"))
        self.assertEqual([(g.refs, g.meta, g.payload) for g in b], [((None, None), g.meta, g.payload) for g in a[:3]])
        self.assertEqual([[g.event for g in self.got(ws)] for ws in (public, other)], [["p"], []])

    def test_orders_that_are_wrong(self):
        for wrong in ({"topic": T}, {"topic": None}, {"event": None}, {"payload": [1]}, {"payload": None}, {"base64": "?"}, {"id": "x" * 37}):
            members = dict({"topic": "room", "event": "e", "payload": {}}, **wrong)
            with self.assertRaises(AssertionError, msg=wrong):
                self.server.fault({k: v for k, v in members.items() if v is not None}, op="db_send")


class Flood(WithServer):
    options = {"max_events_per_second": 5, "rate_tick_ms": 1000, "max_payload_kb": 1}

    def test_what_is_lost_is_stored(self):
        a = self.member({"private": True})
        self.server.db_send("room", "e", {"n": 1, "d": "x" * 1500})
        b = self.member(topic="realtime:flood")
        for _ in range(300):
            b.broadcast("realtime:flood", "e", {})
        self.server.wait_status(lambda st: st["rates"]["events"]["triggered"], "a flood")
        self.server.db_send("room", "e", {"n": 2})
        self.assertEqual(self.got(a), [])
        self.assertEqual(self.numbers(), [1, 2])


class Replay(WithServer):
    def test_the_newest_the_oldest_first(self):
        ids = [self.server.db_send("room", "e", {"n": n}) for n in range(30)]
        self.server.db_send("room", "e", {"n": "public"}, private=False)
        self.server.db_send("another", "e", {"n": "another"})
        found = self.replayed()
        self.assertEqual([g.payload for g in found], [{"id": ids[n], "n": n} for n in range(5, 30)])
        self.assertEqual([(g.meta, g.refs, g.binary) for g in found], [({"id": i, "replayed": True}, ("1", None), False) for i in ids[5:]])
        for limit, n in ((1, 1), (24, 24), (26, 25), (10 ** 30, 25), (0, 1), (-5, 1), (None, 25)):
            self.assertEqual(self.numbers(0, limit), list(range(30 - n, 30)), limit)
        for nothing in (None, False):
            self.assertEqual(len(self.got(self.member({"private": True, "broadcast": {"replay": {"since": 0, "limit": nothing}}}))), 25)

    def test_since(self):
        for age in (50, 3, 40, 20, 200 * 3600):
            self.server.db_send("room", "e", {"n": age}, age_ms=age * 1000)
        now = int(time.time() * 1000)
        self.assertEqual(self.numbers(now - 100 * 3600 * 1000), [50, 40, 20, 3])  # what is older than 72 h is gone
        self.assertEqual(self.numbers(now - 30000), [20, 3])
        self.assertEqual(self.numbers(now - 10 ** 9, 2), [20, 3])
        self.assertEqual(self.numbers(now + 30000), [])
        self.assertEqual(self.numbers(-377705116800000), [50, 40, 20, 3])

    def test_bytes(self):
        self.server.db_send("room", "b", b"\x01")
        self.server.db_send("room", "e", {"n": 1})
        two = self.replayed()
        self.assertEqual([(g.binary, g.payload if g.binary else g.payload["n"]) for g in two], [(True, b"\x01"), (False, 1)])
        self.assertEqual(self.numbers(vsn="1.0.0"), [1])

    def test_comes_once(self):
        before = self.server.db_send("room", "e", {"n": 1}, deliver=False)
        a = self.member(self.config())
        b = self.member({"private": True})
        self.server.db_send("room", "e", {"n": 1}, id=before, store=False)
        self.server.post("/broadcast", {"messages": [{"topic": "room", "event": "x", "payload": {}, "private": True, "id": before}]})
        self.server.db_send("room", "e", {"n": 2}, store=False)
        self.assertEqual([g.payload.get("n") for g in self.got(a)], [1, 2])
        self.assertEqual([g.payload.get("n") for g in self.got(b)], [1, None, 2])
        # What another join of the topic had replayed is no matter of the next one's.
        self.assertEqual(a.join(T, {"private": True})["status"], "ok")
        self.server.db_send("room", "e", {"n": 1}, id=before)
        self.assertEqual([g.payload["n"] for g in self.got(a)], [1])

    def test_what_clients_send_is_not_stored(self):
        a = self.member({"private": True})
        a.broadcast(T, "e", {"n": 1})
        self.server.post("/broadcast/room/events/e?private=true", {"n": 2})
        a.heartbeat()
        self.assertEqual(self.numbers(), [])

    def test_its_place(self):
        """Behind the reply and the end of the channel before it, before all else."""
        self.server.db_send("room", "e", {"n": 1})
        a = self.member(self.config())
        a.heartbeat()
        config = self.config(presence={"enabled": True, "key": "k"})
        config["broadcast"]["replication_ready"] = True
        config["postgres_changes"] = [{"event": "*", "schema": "public", "table": "t"}]
        a.push(T, "phx_join", {"config": config}, ref="9", join_ref="9")
        self.assertEqual([[m[0], m[3]] for m in (a.recv_message() for _ in range(6))],
                         [["9", "phx_reply"], ["1", "phx_close"], ["9", "broadcast"], ["9", "system"], ["9", "presence_state"], ["9", "system"]])


class Refusals(WithServer):
    def refused(self, config, token=None):
        reply = self.client(token=token).join(T, config)
        self.assertEqual(reply["status"], "error", config)
        return reply["response"]["reason"]

    def test_public_channels(self):
        for replay in ({"since": 0}, None, [], "x", {}):
            self.assertEqual(self.refused({"broadcast": {"replay": replay}}), CANNOT + "Replay is not allowed for public channels")

    def test_parameters(self):
        for replay in ({}, {"limit": 3}, {"since": "0"}, {"since": 1.5}, {"since": None}, {"since": 0, "limit": "3"}, {"since": 0, "limit": 2.0},
                       {"since": 0, "limit": True}, {"since": 10 ** 15}, {"since": -10 ** 18}, {"since": 10 ** 40}):
            self.assertEqual(self.refused({"private": True, "broadcast": {"replay": replay}}), CANNOT + "Replay params are not valid")
        for nothing in (None, [], "x", 5):
            self.member({"private": True, "broadcast": {"replay": nothing}})

    def test_who_may_only_be_present(self):
        self.server.set_policies("presence_read * *\n")
        denied = "Unauthorized: You do not have permissions to read from this Channel topic: room"
        present = {"private": True, "presence": {"enabled": True}}
        self.member(present)
        self.assertEqual(self.refused(dict(present, broadcast={"replay": {"since": 0}})), denied)
        self.assertEqual(self.refused(dict(present, broadcast={"replay": None})), denied)

    def test_a_database_that_cannot(self):
        self.server.refuse_replay(topic=T)
        self.server.refuse_replay(topic=T, reason="QueryCanceled: x")
        self.member({"private": True})  # meets no rule
        self.assertEqual(self.refused(self.config()), CANNOT + "Realtime was unable to replay messages")
        self.assertEqual(self.refused(self.config()), "QueryCanceled: x")
        self.member(self.config())


class Older(WithServer):
    options = {"no_replay": True}

    def test_knows_nothing_of_replay(self):
        self.server.db_send("room", "e", {"n": 1})
        self.assertEqual(self.got(self.member({"broadcast": {"replay": {"since": 0}}})), [])
        self.assertEqual(self.got(self.member({"private": True, "broadcast": {"replay": {"since": "x"}}})), [])
        self.assertEqual(self.numbers(), [])
        self.server.set_policies("presence_read * *\n")
        self.member({"private": True, "presence": {"enabled": True}, "broadcast": {"replay": None}})


class Ready(WithServer):
    def test_who_asks_hears(self):
        for value in (True, "false", 1, {}):
            a = self.member({"broadcast": {"replication_ready": value}})
            self.assertEqual(a.heartbeat(), [["1", None, T, "system", READY]], value)
        for value in (False, None):
            self.assertEqual(self.member({"broadcast": {"replication_ready": value}}).heartbeat(), [])

    def test_later(self):
        self.server.replication(ms=50, topic=T)
        self.assertEqual(self.member({}).heartbeat(), [])
        a = self.member({"broadcast": {"replication_ready": True}})
        self.assertEqual(a.expect("system")[4], READY)

    def test_not_in_time(self):
        for ms in (0, 50):
            self.server.replication(ms=ms, fail=True)
            a = self.member({"broadcast": {"replication_ready": True}, "presence": {"enabled": True}})
            said = dict(READY, status="error", message="Replication connection was not established in time")
            self.assertEqual(a.expect("system"), ["1", None, T, "system", said])
            self.assertEqual(a.recv_message(), ["1", "1", T, "phx_close", {}])
            self.assertEqual(a.heartbeat(), [])

    def test_a_channel_that_ends_meanwhile(self):
        self.server.replication(ms=50)
        a, b = self.member({"broadcast": {"replication_ready": True}}), self.member(topic="realtime:b")
        a.push(T, "phx_leave", {})
        a.expect("phx_close")
        self.server.replication(ms=60)
        b.join(T, {"broadcast": {"replication_ready": True}})
        b.expect("system")  # a marker: later than what a's would have been
        self.assertEqual(a.heartbeat(), [])


class ReadyLater(WithServer):
    options = {"replication_delay_ms": 50}

    def test_of_all_joins(self):
        a = self.member({"broadcast": {"replication_ready": True}, "presence": {"enabled": True}})
        self.assertEqual([m[3] for m in (a.recv_message(), a.recv_message())], ["presence_state", "system"])


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
