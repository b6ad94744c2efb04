#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Presence of the devserver beyond the recordings: who hears what, limits, ends of channels, faults, the status.

usage: behaviour_presence.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import json
import re
import sys
import unittest

import behaviour
from behaviour import T, WithServer

REF = re.compile(r"[\w-]{16}")
UUID_1 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
OK, ERROR = {"status": "ok", "response": {}}, {"status": "error", "response": {}}
TOO_MANY = "Client presence rate limit exceeded"


def plain(presences):
    """{key: [payload, ...]} of a state or of one side of a diff; each meta must have a ref like the real server's."""
    for entry in presences.values():
        assert list(entry) == ["metas"] and entry["metas"], presences
        for meta in entry["metas"]:
            assert REF.fullmatch(meta["phx_ref"]), meta
            assert REF.fullmatch(meta.get("phx_ref_prev", "x" * 16)), meta
    return {key: [{k: v for k, v in meta.items() if not k.startswith("phx_ref")} for meta in entry["metas"]]
            for key, entry in presences.items()}


class WithPresence(WithServer):
    def present(self, key, topic=T, private=False, **more):
        """A member with presence on, and what the state said at its join."""
        ws = self.member(topic, {"presence": {"key": key, "enabled": True}, "private": private}, **more)
        m = ws.recv_message()
        self.assertEqual(m[1:4], [None, topic, "presence_state"])
        self.assertEqual(m[0], None if ws.v1 else ws.join_refs[topic])
        return ws, plain(m[4])

    def call(self, ws, event, payload=None, topic=T):
        """A presence call: the payload of its reply, and the diffs that came up to the answer of a heartbeat."""
        more = {} if payload is None else {"payload": payload}
        ref = ws.push(topic, "presence", dict({"type": "presence", "event": event}, **more))
        got = ws.heartbeat()
        replies = [m[4] for m in got if m[1] == ref and m[3] == "phx_reply"]
        self.assertEqual(len(replies), 1, got)
        return replies[0], self.only_diffs([m for m in got if m[1] != ref])

    def only_diffs(self, got):
        for m in got:
            self.assertEqual((m[:2], m[3], sorted(m[4])), ([None, None], "presence_diff", ["joins", "leaves"]), m)
        return [m[4] for m in got]

    def heard(self, ws):
        """(joins, leaves) of each diff that has come, without refs."""
        return [(plain(d["joins"]), plain(d["leaves"])) for d in self.only_diffs(ws.heartbeat())]

    def track(self, ws, payload, topic=T):
        reply, diffs = self.call(ws, "track", payload, topic)
        self.assertEqual(reply, OK)
        return diffs


class Keys(WithPresence):
    def key(self, presence, vsn="2.0.0"):
        ws = self.member(config={"presence": presence}, vsn=vsn)
        [diff] = self.track(ws, {})
        ws.abort()
        return list(diff["joins"])[0]

    def test_a_key_of_ones_own(self):
        for given, key in (("k", "k"), (" é\"\\\n", " é\"\\\n"), ("a\0b", "a\0b"), ("\0", "\0"), (7, "7"), (-1.5, "-1.5"),
                           (True, "true"), (False, "false"), (0, "0")):
            for vsn in "1.0.0", "2.0.0":
                self.assertEqual(self.key({"key": given}, vsn), key)

    def test_a_key_of_the_servers(self):
        given = [{}, {"key": ""}, {"key": None}, {"key": []}, {"key": {"a": 1}}, {"enabled": False}]
        keys = [self.key(presence) for presence in given * 2]
        for key in keys:
            self.assertTrue(UUID_1.fullmatch(key), key)
        self.assertEqual(len(set(keys)), len(keys))


class Diffs(WithPresence):
    def test_a_life(self):
        for vsn in "1.0.0", "2.0.0":
            topic = f"realtime:{vsn}"
            a, empty = self.present("a", topic, vsn=vsn)
            b, _ = self.present("b", topic)
            self.assertEqual(empty, {})
            [first] = self.track(a, {"n": 1}, topic)
            [second] = self.track(a, {"n": 2, "m": {"x": [1, 2], "y": None}}, topic)
            self.assertEqual(self.track(a, {"m": {"y": None, "x": [1, 2]}, "n": 2}, topic), [])
            [third] = self.track(a, {"n": 3}, topic)
            reply, [gone] = self.call(a, "untrack", topic=topic)
            self.assertEqual(reply, OK)
            metas = [d["joins"]["a"]["metas"][0] for d in (first, second, third)]
            refs = [m["phx_ref"] for m in metas]
            self.assertEqual(len(set(refs)), 3)
            self.assertEqual([m.get("phx_ref_prev") for m in metas], [None] + refs[:2])
            self.assertEqual([d["leaves"] for d in (first, second, third, gone)],
                             [{}] + [{"a": {"metas": [m]}} for m in metas])
            self.assertEqual(gone["joins"], {})
            self.assertEqual(plain(second["joins"]), {"a": [{"n": 2, "m": {"x": [1, 2], "y": None}}]})
            self.assertEqual(self.only_diffs(b.heartbeat()), [first, second, third, gone])
            self.assertEqual(self.present("c", topic)[1], {})

    def test_after_an_untrack_all_is_new(self):
        a, _ = self.present("a")
        self.track(a, {"n": 1})
        self.call(a, "untrack")
        [diff] = self.track(a, {"n": 1})
        self.assertEqual((plain(diff["joins"]), diff["leaves"]), ({"a": [{"n": 1}]}, {}))
        self.assertNotIn("phx_ref_prev", diff["joins"]["a"]["metas"][0])

    def test_an_unchanged_payload(self):
        a, _ = self.present("a")
        a.send_text(f'["1","x","{T}","presence",{{"event":"track","payload":{{"b":[1.50],"a":"\\u00e9"}}}}]')
        self.assertEqual([m[3] for m in a.heartbeat()], ["phx_reply", "presence_diff"])
        a.send_text(f'["1","y","{T}","presence",{{"event":"track","payload":{{ "a":"é", "b":[1.5]}}}}]')
        self.assertEqual([m[3:] for m in a.heartbeat()], [["phx_reply", OK]])
        self.assertEqual(len(self.track(a, {"b": [1], "a": "é"})), 1)

    def test_one_key_for_several(self):
        a, _ = self.present("k")
        b, _ = self.present("k", vsn="1.0.0")
        self.track(a, {"who": "a"}), self.track(b, {"who": "b"})
        c, state = self.present("c")
        self.assertEqual(state, {"k": [{"who": "a"}, {"who": "b"}]})
        self.track(b, {"who": "b2"})
        self.call(a, "untrack")
        self.assertEqual(self.heard(c), [({"k": [{"who": "b2"}]}, {"k": [{"who": "b"}]}), ({}, {"k": [{"who": "a"}]})])
        self.assertEqual(self.server.presence(T), {"k": [{"who": "b2"}]})

    def test_two_channels_of_one_socket(self):
        a, _ = self.present("a")
        self.assertEqual(a.join("realtime:other", {"presence": {"key": "o", "enabled": True}})["status"], "ok")
        self.assertEqual(a.recv_message()[2:], ["realtime:other", "presence_state", {}])
        self.track(a, {"n": 1}), self.track(a, {"n": 2}, "realtime:other")
        self.assertEqual((self.server.presence(T), self.server.presence("realtime:other")), ({"a": [{"n": 1}]}, {"o": [{"n": 2}]}))

    def test_public_members_hear_it_in_any_case(self):
        members = [self.member(vsn=v, config=c) for v in ("1.0.0", "2.0.0") for c in ({}, {"presence": {"enabled": False}})]
        private = self.member(config={"private": True, "presence": {"enabled": True}})
        self.assertEqual(private.recv_message()[3:], ["presence_state", {}])
        a = self.member(config={"presence": {"key": "a", "enabled": False}})
        self.track(a, {"n": 1})
        for ws in members:
            self.assertEqual(self.heard(ws), [({"a": [{"n": 1}]}, {})])
        self.assertEqual(self.heard(private), [])

    def test_private_members_hear_it_with_presence_on(self):
        a, _ = self.present("a", private=True)
        off = self.member(config={"private": True, "presence": {"key": "off"}})
        public, _ = self.present("p")
        self.track(a, {"n": 1})
        self.assertEqual(self.heard(off), [])
        # Its own track switches it on, without a state.
        self.assertEqual([plain(d["joins"]) for d in self.track(off, {"n": 2})], [{"off": [{"n": 2}]}])
        self.track(a, {"n": 3})
        self.assertEqual(self.heard(off), [({"a": [{"n": 3}]}, {"a": [{"n": 1}]})])
        self.assertEqual(self.heard(public), [])
        self.assertEqual(self.present("b")[1], {})
        self.assertEqual(self.present("c", private=True)[1], {"a": [{"n": 3}], "off": [{"n": 2}]})

    def test_digits_and_doubles_survive(self):
        a, _ = self.present("a")
        b, _ = self.present("b")
        payload = '{"big":123456789012345678901234567890,"f":1.50e+7,"phx_ref":"mine"}'
        a.send_text(f'["1","9","{T}","presence",{{"event":"track","payload":{payload}}}]')
        a.heartbeat()
        self.assertIn("," + payload[1:], b.recv())
        self.assertIn(f'"state":{payload}', self.server.request("GET", "/_devserver/status")[2])


class Calls(WithPresence):
    def test_odd_events(self):
        a, _ = self.present("a")
        for event, payload, answer in (("TRACK", {"n": 1}, OK), ("UnTrack", None, OK), ("untrack", None, OK),
                                       ("track", None, OK), ("bogus", {}, ERROR)):
            self.assertEqual(self.call(a, event, payload)[0], answer, event)
        b, _ = self.present("b")
        self.assertEqual(self.call(b, "", {})[0], ERROR)
        for payload in {}, [], "text", 5, None, {"type": "presence", "payload": {"n": 1}}:
            ref = b.push(T, "presence", payload)
            self.assertEqual(b.heartbeat(), [["1", ref, T, "phx_reply", OK]])
        self.assertEqual(self.server.presence(T), {"a": [{}]})

    def test_payloads_that_are_no_map(self):
        for payload in "null", "[]", '"x"', "5", "true":
            a, _ = self.present("a")
            a.send_text(f'["1","x","{T}","presence",{{"event":"track","payload":{payload}}}]')
            self.assertEqual(a.heartbeat(), [["1", "x", T, "phx_reply",
                                              {"status": "error", "response": {"reason": "Presence track payload must be a map"}}]])
            a.close()

    def test_an_event_that_is_no_string_crashes_the_channel(self):
        b, _ = self.present("b")
        for event in 5, None, True, {}, ["track"]:
            a, _ = self.present("a")
            self.track(a, {"n": 1})
            self.heard(b)
            a.push(T, "presence", {"event": event, "payload": {}})
            self.assertEqual(a.heartbeat(), [["1", "1", T, "phx_error", {"reason": "channel_crash"}]])
            self.assertEqual(self.heard(b), [({}, {"a": [{"n": 1}]})])

    def assert_shut(self, got, message):
        self.assertEqual([m[3] for m in got], ["system", "phx_close"])
        self.assertEqual(got[0][4], {"message": message, "status": "error", "extension": "system", "channel": "room"})
        self.assertEqual(got[1][4], {})

    def test_the_sixth_call(self):
        for vsn in "1.0.0", "2.0.0":
            b, _ = self.present("b")
            a, _ = self.present("a", vsn=vsn)
            closed = self.server.status()["presence_closed"]
            for i in range(4):
                self.track(a, {"n": i})
                a.push(T, "presence", {"type": "presence"})  # answered, not counted
                self.assertEqual(a.heartbeat()[0][4], OK)
            self.call(a, "bogus")
            [topic] = [t for s in self.server.sockets(T) for t in s["topics"] if t["presence_key"] == "a"]
            self.assertEqual(topic["presence_calls"], 5)
            self.heard(b)
            a.push(T, "presence", {"event": "track", "payload": {"n": 5}})
            self.assert_shut(a.heartbeat(), TOO_MANY)
            self.assertEqual(self.heard(b), [({}, {"a": [{"n": 3}]})])
            status = self.server.status()
            self.assertEqual((status["presence_closed"], status["presence"]), (closed + 1, []))
            a.push(T, "presence", {"event": "untrack"})
            self.assertEqual(a.heartbeat()[0][4], {"status": "error", "response": {"reason": "unmatched topic"}})
            # A new join has its own count.
            a.join(T, {"presence": {"key": "a", "enabled": True}})
            a.expect("presence_state")
            self.track(a, {"n": 6})
            self.assertEqual(self.server.status()["presence_calls"], status["presence_calls"] + 1)
            a.close(), b.close()

    def test_every_sort_of_call_counts(self):
        self.server.fault(op="deny_presence", topic=T, write=True)
        a, _ = self.present("a")
        for event in "track", "untrack", "bogus", "", "TRACK":
            self.call(a, event, {})
        a.push(T, "presence", {"event": "untrack"})
        self.assert_shut(a.heartbeat(), TOO_MANY)

    def test_a_crash_comes_before_the_count(self):
        a, _ = self.present("a")
        for _ in range(5):
            self.call(a, "untrack")
        a.push(T, "presence", {"event": 5})
        self.assertEqual([m[3] for m in a.heartbeat()], ["phx_error"])
        self.assertEqual(self.server.status()["presence_closed"], 0)

    def test_too_large(self):
        a, _ = self.present("a")
        b, _ = self.present("b")
        self.track(a, {"n": 1})
        self.heard(b)
        a.push(T, "presence", {"event": "track", "payload": {"x": "x" * 3001000}})
        self.assert_shut(a.heartbeat(), "Track message size exceeded")
        self.assertEqual(self.heard(b), [({}, {"a": [{"n": 1}]})])
        self.assertEqual(self.server.status()["presence_closed"], 0)


class FewCalls(WithPresence):
    options = {"presence_calls": 1, "presence_window_ms": 3600000}

    def test_the_number_is_an_option(self):
        a, _ = self.present("a")
        self.call(a, "untrack")
        a.push(T, "presence", {"event": "untrack"})
        self.assertEqual([m[3] for m in a.heartbeat()], ["system", "phx_close"])


class Ends(WithPresence):
    def setUp(self):
        super().setUp()
        self.b, _ = self.present("b")

    def tracked(self, **more):
        a, _ = self.present("a", **more)
        self.track(a, {"n": 1})
        self.assertEqual(self.heard(self.b), [({"a": [{"n": 1}]}, {})])
        return a

    def left(self):
        self.assertEqual(plain(self.b.expect("presence_diff")[4]["leaves"]), {"a": [{"n": 1}]})
        self.assertEqual(self.heard(self.b), [])
        self.assertEqual(self.server.presence(T), {})

    def test_all_sorts(self):
        for vsn in "1.0.0", "2.0.0":
            a = self.tracked(vsn=vsn)
            a.push(T, "phx_leave", {})
            self.assertEqual([m[3] for m in a.heartbeat()], ["phx_reply", "phx_close"])
            self.left()
            a = self.tracked(vsn=vsn)
            a.push(T, "phx_join", [], ref="n", join_ref="n")  # refused, and the old channel goes all the same
            self.assertEqual([m[3] for m in a.heartbeat()], ["phx_reply", "phx_close"])
            self.left()
            self.tracked(vsn=vsn).close()
            self.left()
            self.tracked(vsn=vsn).abort()
            self.left()
            a = self.tracked(vsn=vsn)
            [number] = [s["id"] for s in self.server.sockets(T) if s["topics"][0]["presence_key"] == "a"]
            self.server.fault(op="phx_error", topic=T, sockets=[number])
            self.assertEqual([m[3] for m in a.heartbeat()], ["phx_error"])
            self.left()

    def test_a_token_that_turns_bad(self):
        a = self.tracked()
        a.push(T, "access_token", {"access_token": "bad"})
        self.assertEqual([m[3] for m in a.heartbeat()], ["system", "phx_close"])
        self.left()

    def join_again(self, a):
        ref = a.push(T, "phx_join", {"config": {"presence": {"key": "a", "enabled": True}}}, ref="new", join_ref="new")
        got = a.heartbeat()
        self.assertEqual([m[:2] + m[3:4] for m in got[:3]], [[ref, ref, "phx_reply"], ["1", "1", "phx_close"],
                                                             [ref, None, "presence_state"]])
        a.join_refs[T] = ref
        return plain(got[2][4]), got[3:]

    def test_a_duplicate_join(self):
        a = self.tracked()
        self.assertEqual(self.join_again(a), ({}, []))
        self.left()
        self.track(a, {"n": 2})

    def test_a_duplicate_join_that_sees_its_own_past(self):
        a = self.tracked()
        self.server.fault(op="late_leave", topic=T, ms=0)
        state, after = self.join_again(a)
        self.assertEqual(state, {"a": [{"n": 1}]})
        after = after or [a.expect("presence_diff")]
        self.assertEqual([plain(d["leaves"]) for d in self.only_diffs(after)], [{"a": [{"n": 1}]}])
        self.left()

    def test_a_leave_that_comes_late(self):
        self.server.fault(op="late_leave", topic="realtime:other", ms=0)
        self.server.fault(op="late_leave", topic=T, ms=3600000)
        self.tracked().abort()
        status = self.server.wait_status(lambda st: st["sockets_open"] == 1, "the socket is gone")
        self.assertEqual([(e["key"], e["late"]) for e in status["presence"][0]["entries"]], [("a", True)])
        c, state = self.present("a")
        self.assertEqual(state, {"a": [{"n": 1}]})
        self.track(c, {"n": 2})
        self.assertEqual(self.heard(self.b), [({"a": [{"n": 2}]}, {})])
        self.server.fault(op="clear")
        self.assertEqual([self.heard(self.b), self.heard(c)], [[({}, {"a": [{"n": 1}]})]] * 2)
        self.assertEqual(self.server.presence(T), {"a": [{"n": 2}]})

    def test_a_late_leave_of_the_last_in_the_room(self):
        self.server.fault(op="late_leave", ms=1, count=-1)
        self.tracked().abort()
        self.b.abort()
        self.server.wait_status(lambda st: st["sockets_open"] == 0 and st["presence"] == [], "the room is empty")
        self.assertEqual(self.present("c")[1], {})


class Status(WithPresence):
    def test_the_table(self):
        a, _ = self.present("a")
        b, _ = self.present("b", private=True, vsn="1.0.0")
        self.assertEqual(self.server.status()["presence"], [])
        [diff] = self.track(a, {"n": 1})
        [other] = self.track(b, {"x": [None]})
        numbers = {s["topics"][0]["presence_key"]: s["id"] for s in self.server.sockets(T)}
        entry = {"key": "a", "phx_ref": diff["joins"]["a"]["metas"][0]["phx_ref"], "socket": numbers["a"], "late": False,
                 "state": {"n": 1}}
        private = {"key": "b", "phx_ref": other["joins"]["b"]["metas"][0]["phx_ref"], "socket": numbers["b"], "late": False,
                   "state": {"x": [None]}}
        self.assertEqual(self.server.status()["presence"], [{"topic": T, "private": False, "entries": [entry]},
                                                            {"topic": T, "private": True, "entries": [private]}])
        self.assertEqual(self.server.presence(T, private=True), {"b": [{"x": [None]}]})
        self.track(a, {"n": 2})
        self.server.wait_presence(T, {"a": [{"n": 2}]})
        a.abort()
        self.server.wait_presence(T, {})


class Denied(WithPresence):
    """As a policy would have it: the frames are those that the real server sends."""

    def test_neither_reading_nor_writing(self):
        for private in False, True:
            self.server.fault(op="deny_presence", topic=T, read=True, write=True)
            config = {"private": private, "presence": {"key": "k", "enabled": True}, "broadcast": {"self": True, "ack": True}}
            a = self.member(config=config)
            self.assertEqual(a.heartbeat(), [])
            a.broadcast(T, "e", {})
            self.assertEqual([m[3] for m in a.heartbeat()], ["broadcast", "phx_reply"])
            self.assertEqual(self.call(a, "track", {}), (ERROR, []))
            self.assertEqual(self.call(a, "track", "no map"), (ERROR, []))
            self.assertEqual(self.call(a, "untrack"), (OK, []))
            self.assertEqual(self.server.presence(T, private), {})
            other, _ = self.present("o", "realtime:other", private=private)
            self.assertEqual(len(self.track(other, {}, "realtime:other")), 1)
            self.server.fault(op="clear")
            a.close(), other.close()

    def test_only_reading(self):
        a, _ = self.present("a")
        self.track(a, {"n": 1})
        self.server.fault(op="deny_presence", topic=T, read=True)
        b = self.member(config={"presence": {"key": "b", "enabled": True}})
        self.assertEqual(self.track(a, {"n": 2}), [])
        self.assertEqual(self.track(b, {"n": 3}), [])
        self.assertEqual(b.heartbeat(), [])
        self.assertEqual(self.server.presence(T), {"a": [{"n": 2}], "b": [{"n": 3}]})
        self.server.fault(op="deny_presence", topic=T, read=False)
        self.assertEqual(self.present("c")[1], {"a": [{"n": 2}], "b": [{"n": 3}]})
        self.assertEqual(len(self.track(a, {"n": 4})), 1)

    def test_only_writing(self):
        a, _ = self.present("a")
        b, _ = self.present("b")
        self.track(a, {"n": 1})
        self.server.fault(op="deny_presence", write=True)
        self.assertEqual(self.call(a, "track", {"n": 2}), (ERROR, []))
        self.assertEqual(self.server.presence(T), {"a": [{"n": 1}]})
        self.assertEqual(len(self.call(a, "untrack")[1]), 1)
        self.assertEqual(len(self.heard(b)), 2)
        # A further order for the same topics (here: all) takes the place of the first.
        self.server.fault(op="deny_presence", write=False, read=True)
        self.assertEqual(self.track(a, {"n": 3}), [])


class States(WithPresence):
    def join(self, key="b"):
        return self.member(config={"presence": {"key": key, "enabled": True}})

    def setUp(self):
        super().setUp()
        self.a, _ = self.present("a")
        self.track(self.a, {"n": 1})

    def test_no_state(self):
        self.server.fault(op="no_presence_state", topic="realtime:other")
        self.server.fault(op="no_presence_state", topic=T, count=2)
        for _ in range(2):
            self.assertEqual(self.join().heartbeat(), [])
        self.assertEqual(self.present("b")[1], {"a": [{"n": 1}]})

    def test_a_late_state(self):
        for more in {}, {"stale": True}:
            self.server.fault(op="no_presence_state", topic=T, ms=1, **more)
            self.assertEqual(plain(self.join().expect("presence_state", T)[4]), {"a": [{"n": 1}]})

    def test_the_reply_may_come_after_the_diff(self):
        self.server.fault(op="delay_reply", event="presence", ms=1)
        ref = self.a.push(T, "presence", {"event": "track", "payload": {"n": 2}})
        self.assertEqual(self.a.recv_message()[3], "presence_diff")
        self.assertEqual(self.a.recv_message()[:4], ["1", ref, T, "phx_reply"])


class Orders(WithPresence):
    def test_bad_orders(self):
        for order in ({"op": "deny_presence"}, {"op": "deny_presence", "topic": T}, {"op": "deny_presence", "read": 1},
                      {"op": "deny_presence", "read": True, "write": "no"}, {"op": "deny_presence", "read": True, "count": 1},
                      {"op": "no_presence_state", "ms": -1}, {"op": "no_presence_state", "ms": "1"}, {"op": "late_leave"},
                      {"op": "late_leave", "ms": -1}, {"op": "deny_presence", "reed": True}):
            status, _, text = self.server.request("POST", "/_devserver/fault", json.dumps(order))
            self.assertEqual(status, 400, order)
            self.assertTrue(json.loads(text)["error"])


if __name__ == "__main__":
    behaviour.BIN = sys.argv.pop(1)
    unittest.main()
