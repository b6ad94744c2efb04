# SPDX-License-Identifier: MIT
"""The devserver's HTTP API, what a database sends and limits of size as the official client (npm @supabase/realtime-js) sees
them."""

import base64
import os
import random
import unittest

from conformance import Js
from rtbtest.devserver import DevServer

BYTES = bytes(range(256))


class WithServer(unittest.TestCase):
    js_vsn = "2.0.0"
    options = {}

    def setUp(self):
        self.server = self.enterContext(DevServer(os.path.join(os.environ["RTB_BIN"], "rtbridge-devserver"), **self.options))
        self.topic = f"js:{random.randrange(10 ** 9)} é/%"

    def js(self, vsn=None):
        client = Js(self.server.url, self.server.token(), vsn or self.js_vsn)
        self.addCleanup(client.close)
        return client

    def member(self, vsn=None, **options):
        client = self.js(vsn)
        self.assertEqual(client.join(self.topic, **options), "SUBSCRIBED")
        return client

    def sender(self, **options):
        """A client with a channel that is not joined."""
        client = self.js()
        client.do("open", topic=self.topic, **options)
        return client

    def http_send(self, client, event, payload, **options):
        """("ok" or "error", the error's text)"""
        if isinstance(payload, bytes):
            options["base64"] = base64.b64encode(payload).decode()
        else:
            options["payload"] = payload
        client.do("http_send", topic=self.topic, event=event, **options)
        sent = client.wait("sent")
        return sent["result"], sent.get("error", "")

    def assert_nothing_more(self, client):
        """The marker is the next that it gets."""
        self.server.post("/broadcast", {"messages": [{"topic": self.topic, "event": "marker", "payload": {}, "private": p} for p in (True, False)]})
        self.assertEqual(client.wait("broadcast")["event"], "marker")
        self.assertEqual([m for m in client.kept if m["type"] == "broadcast"], [])


class Http(WithServer):
    def test_json_and_bytes(self):
        for private in (False, True):
            sender, a, b = self.sender(private=private), self.member(private=private), self.member(vsn="1.0.0", private=private)
            other = self.member(private=not private)
            self.assertEqual(self.http_send(sender, "e/ %", {"n": 1, "t": "ü😀", "private": private}), ("ok", ""))
            self.assertEqual(self.http_send(sender, "list", [1, None]), ("ok", ""))
            self.assertEqual(self.http_send(sender, "b", BYTES), ("ok", ""))
            self.assertEqual(self.http_send(sender, "none", b""), ("ok", ""))
            for client in a, b:
                self.assertEqual(client.wait("broadcast")["payload"], {"n": 1, "t": "ü😀", "private": private})
                got = client.wait("broadcast")
                self.assertEqual((got["event"], got["payload"]), ("list", {"_json": [1, None]}))
            got = a.wait("broadcast")
            self.assertEqual((got["event"], base64.b64decode(got["base64"])), ("b", BYTES))
            self.assertEqual(a.wait("broadcast", event="none")["base64"], "")
            for client in a, b, other:
                self.assert_nothing_more(client)
            requests = self.server.requests("/events/")[-4:]
            self.assertEqual([r.single for r in requests], [(self.topic, e) for e in ("e/ %", "list", "b", "none")])
            self.assertEqual([r.query.get("private") for r in requests], ["true" if private else None] * 4)
            self.assertEqual([r.headers["content-type"] for r in requests], ["application/json"] * 2 + ["application/octet-stream"] * 2)

    def test_send_without_a_join(self):
        sender, a = self.sender(), self.member()
        self.assertEqual(sender.send(self.topic, "early", {"n": 1}), "ok")
        self.assertEqual(a.wait("broadcast")["payload"], {"n": 1})
        request, = self.server.requests()
        self.assertEqual((request.messages, request.status), ([{"topic": self.topic, "event": "early", "payload": {"n": 1}, "private": False}], 202))
        self.assertEqual(sender.send(self.topic, "text", "is no object"), "error")
        self.server.http_fault("answer", status=429)
        self.assertEqual(sender.send(self.topic, "often", {}), "error")
        self.server.http_fault("hang")
        self.assertEqual(sender.send(self.topic, "slow", {}, timeout=300), "timed out")
        # What the fault let through was carried out, though nobody could tell.
        self.assertEqual(a.wait("broadcast")["event"], "slow")
        self.assert_nothing_more(a)

    def test_who_is_in_the_room_hears_its_own(self):
        a = self.member()
        self.assertEqual(self.http_send(a, "own", {"n": 1}), ("ok", ""))
        self.assertEqual(a.wait("broadcast")["payload"], {"n": 1})

    def test_refusals(self):
        self.server.set_policies("read * *\n")
        sender = self.sender(private=True)
        self.assertEqual(self.http_send(sender, "e", {}), ("error", "Error: Unauthorized"))
        # A batch says nothing of it.
        self.assertEqual(sender.send(self.topic, "e", {}), "ok")
        self.server.http_fault("answer", status=429, body='{"message":"You have exceeded your rate limit"}', type="application/json")
        self.assertEqual(self.http_send(sender, "e", {}), ("error", "Error: You have exceeded your rate limit"))
        self.server.http_fault("answer", status=404)
        self.assertIn("requires Realtime server v2.97.0", self.http_send(sender, "e", {})[1])
        for how in ("garbage", "close", "drop"):
            self.server.http_fault(how, count=-1)  # the client's library may try again by itself
            self.assertEqual(self.http_send(sender, "e", {})[0], "error")
            self.server.fault(op="clear")

    def test_a_bad_token(self):
        sender = self.sender()
        sender.auth(self.server.token(exp_in=-5))
        self.assertEqual(self.http_send(sender, "e", {}), ("error", "Error: Unauthorized"))
        self.assertEqual(sender.send(self.topic, "e", {}), "error")


class Stored(WithServer):
    def test_replay(self):
        ids = [self.server.db_send(self.topic, "e", {"n": n}) for n in range(4)]
        binary = self.server.db_send(self.topic, "b", BYTES)
        a = self.member(private=True, broadcast={"replay": {"since": 1, "limit": 3}})
        two = self.js_vsn == "2.0.0"
        for n in (2, 3):
            got = a.wait("broadcast")
            self.assertEqual((got["event"], got["payload"], got["meta"]), ("e", {"id": ids[n], "n": n}, {"id": ids[n], "replayed": True}))
        if two:
            got = a.wait("broadcast")
            self.assertEqual((base64.b64decode(got["base64"]), got["meta"]), (BYTES, {"id": binary, "replayed": True}))
        self.assert_nothing_more(a)

    def test_live(self):
        a = self.member(private=True, broadcast={"replay": {"since": 1}, "replication_ready": True})
        said = a.wait("system", topic=self.topic)
        self.assertEqual((said["status"], said["message"]), ("ok", "Replication connection established"))
        given = self.server.db_send(self.topic, "e", {"n": 1})
        got = a.wait("broadcast")
        self.assertEqual((got["payload"], got["meta"]), ({"id": given, "n": 1}, {"id": given}))
        self.server.db_send(self.topic, "b", BYTES)
        if self.js_vsn == "2.0.0":
            self.assertEqual(base64.b64decode(a.wait("broadcast")["base64"]), BYTES)
        self.assert_nothing_more(a)

    def test_a_refused_replay(self):
        self.server.refuse_replay()
        a = self.js()
        a.do("join", topic=self.topic, private=True, broadcast={"replay": {"since": 1}})
        refused = a.wait("status", topic=self.topic)
        self.assertEqual(refused["status"], "CHANNEL_ERROR")
        self.assertIn("UnableToReplayMessages: Realtime was unable to replay messages", refused["error"])
        a.wait("status", topic=self.topic, status="SUBSCRIBED")  # it asks again by itself

    def test_replication_that_does_not_come(self):
        self.server.replication(fail=True)
        a = self.member(broadcast={"replication_ready": True})
        said = a.wait("system", topic=self.topic)
        self.assertEqual((said["status"], said["message"]), ("error", "Replication connection was not established in time"))
        a.wait("status", topic=self.topic, status="CLOSED")


class Sizes(WithServer):
    options = {"max_payload_kb": 1}

    def test_options_and_sizes(self):
        small, large = {"d": "x" * 1000}, {"d": "x" * 2000}
        listener = self.member()
        for self_too in (False, True):
            for ack in (False, True):
                a = self.js()
                self.assertEqual(a.join(self.topic, self=self_too, ack=ack), "SUBSCRIBED")
                self.assertEqual(a.send(self.topic, "large", large), "error" if ack else "ok")
                self.assertEqual(a.send(self.topic, "small", small), "ok")
                self.assertEqual(listener.wait("broadcast")["payload"], small)
                if self_too:
                    self.assertEqual(a.wait("broadcast")["payload"], small)
                self.assert_nothing_more(a)
                self.assertEqual(listener.wait("broadcast")["event"], "marker")
                a.do("leave", topic=self.topic)
                a.wait("left")

    def test_http(self):
        sender = self.sender()
        self.assertEqual(self.http_send(sender, "large", {"d": "x" * 2000})[0], "error")
        self.assertEqual(self.http_send(sender, "large", b"x" * 2000)[0], "error")
        self.assertEqual(sender.send(self.topic, "large", {"d": "x" * 2000}), "error")
        self.assertEqual([r.status for r in self.server.requests()], [422] * 3)


class HttpVsn1(Http):
    js_vsn = "1.0.0"

    def test_json_and_bytes(self):
        self.skipTest("has both versions already")


class StoredVsn1(Stored):
    js_vsn = "1.0.0"


class SizesVsn1(Sizes):
    js_vsn = "1.0.0"


if __name__ == "__main__":
    unittest.main()
