# SPDX-License-Identifier: MIT
"""Private channels and tokens of the devserver as the official client (npm @supabase/realtime-js) sees them."""

import os
import random
import time
import unittest

from conformance import Js
from rtbtest.devserver import DevServer

RULES = """
read            authenticated  room:*
write           sub=ann        room:*
presence_read   authenticated  room:*
presence_write  sub=ann        room:*
"""
CANNOT_READ = "You do not have permissions to read from this Channel topic: "


class Private(unittest.TestCase):
    js_vsn = "2.0.0"

    def setUp(self):
        self.server = self.enterContext(DevServer(os.path.join(os.environ["RTB_BIN"], "rtbridge-devserver")))
        self.server.set_policies(RULES)
        self.topic = f"room:{random.randrange(10 ** 9)}"

    def token(self, sub, **claims):
        return self.server.token("authenticated", sub=sub, **claims)

    def js(self, sub=None):
        """A client of its own; of a user, or with the project's key alone."""
        client = Js(self.server.url, self.server.token(), self.js_vsn)
        self.addCleanup(client.close)
        if sub:
            client.auth(self.token(sub))
        return client

    def member(self, sub, **options):
        client = self.js(sub)
        self.assertEqual(client.join(self.topic, private=True, **options), "SUBSCRIBED")
        return client

    def assert_closed(self, client, message):
        """The server has ended the client's channel, and said why."""
        said = client.wait("system", topic=self.topic)
        self.assertEqual(said["status"], "error")
        self.assertRegex(said["message"], message)
        client.wait("status", topic=self.topic, status="CLOSED")

    def test_who_may_not_read_gets_in_when_that_changes(self):
        ann, nobody = self.member("ann", ack=True), self.js()
        nobody.do("join", topic=self.topic, private=True)
        refused = nobody.wait("status", topic=self.topic)
        self.assertEqual(refused["status"], "CHANNEL_ERROR")
        self.assertIn(f"Unauthorized: {CANNOT_READ}{self.topic}", refused["error"])
        self.assertEqual(ann.send(self.topic, "early", {}), "ok")
        # The client goes on asking by itself.
        self.server.set_policies(RULES + "read anon room:*\n")
        nobody.wait("status", topic=self.topic, status="SUBSCRIBED")
        self.assertEqual(ann.send(self.topic, "late", {"n": 1}), "ok")
        self.assertEqual(nobody.wait("broadcast")["event"], "late")

    def test_who_may_not_write(self):
        ann, bob, carl = self.member("ann", ack=True), self.member("bob", ack=True), self.member("carl")
        self.assertEqual(bob.send(self.topic, "bob", {}, timeout=500), "timed out")
        self.assertEqual(ann.send(self.topic, "ann", {}), "ok")
        self.assertEqual(carl.wait("broadcast")["event"], "ann")
        # Rights are kept until the next token.
        self.server.set_policies(RULES + "write sub=bob room:*\n")
        self.assertEqual(bob.send(self.topic, "bob", {}, timeout=500), "timed out")
        bob.auth(self.token("bob", session=2))
        self.assertEqual(bob.send(self.topic, "bob, again", {}), "ok")
        self.assertEqual(carl.wait("broadcast")["event"], "bob, again")

    def test_who_may_not_be_present(self):
        ann, bob = self.member("ann", presence="ann"), self.member("bob", presence="bob")
        bob.do("track", topic=self.topic, state={"n": 1})
        self.assertEqual(bob.wait("tracked")["result"], "error")
        ann.do("track", topic=self.topic, state={"n": 2})
        self.assertEqual(ann.wait("tracked")["result"], "ok")
        bob.do("view", topic=self.topic)
        seen = bob.wait("view")["state"]
        self.assertEqual({key: [state["n"] for state in states] for key, states in seen.items()}, {"ann": [2]})

    def test_public_and_private_are_two_rooms(self):
        ann, bob, public = self.member("ann", ack=True), self.member("bob"), self.js()
        self.assertEqual(public.join(self.topic, ack=True), "SUBSCRIBED")
        self.assertEqual(public.send(self.topic, "public", {}), "ok")
        self.assertEqual(ann.send(self.topic, "private", {}), "ok")
        self.assertEqual(bob.wait("broadcast")["event"], "private")
        other = self.js()
        self.assertEqual(other.join(self.topic, ack=True), "SUBSCRIBED")
        self.assertEqual(other.send(self.topic, "marker", {}), "ok")
        self.assertEqual(public.wait("broadcast")["event"], "marker")

    def test_a_new_token_in_time(self):
        """The channel outlives the old token; one of which the token is not renewed does not."""
        for life_s in (1.5, 6, 24):  # the longer ones are for slow machines
            ann, bob = self.js(), self.js()
            topic = self.topic = f"{self.topic}:{life_s}"
            ends = time.time() + life_s
            ann.auth(self.token("ann", exp=ends))
            bob.auth(self.token("bob", exp=ends + 0.1))
            if [c.join(topic, private=True, ack=True) for c in (ann, bob)] != ["SUBSCRIBED"] * 2:
                continue
            ann.auth(self.token("ann"))
            self.server.wait_log(lambda log: any(e["topic"] == "realtime:" + topic and e["event"] == "access_token" for e in log), "the new token")
            if time.time() < ends:
                break
        else:
            self.fail("too slow a machine")
        self.assert_closed(bob, "^Token has expired 0 seconds ago$")
        self.assertGreaterEqual(time.time(), ends)
        self.assertEqual(ann.send(topic, "here", {}), "ok")
        self.assertEqual([(e["sub"], e["outcome"]) for e in self.server.pushed_tokens("realtime:" + topic)], [("ann", "ok")])
        # bob can come back with a new one.
        bob.do("leave", topic=topic)
        bob.wait("left")
        bob.kept.clear()
        bob.auth(self.token("bob"))
        self.assertEqual(bob.join(topic, private=True), "SUBSCRIBED")
        self.assertEqual(ann.send(topic, "again", {}), "ok")
        self.assertEqual(bob.wait("broadcast")["event"], "again")

    def test_a_new_token_that_may_less(self):
        ann = self.member("ann")
        ann.auth(self.server.token())
        self.assert_closed(ann, f"^{CANNOT_READ}{self.topic}$")

    def test_a_new_token_that_is_bad(self):
        ann, first = self.js(), self.topic
        for n, (bad, message) in enumerate((("garbage", "The token provided is not a valid JWT"),
                                            (self.token("ann", exp_in=-5), r"Token has expired \d+ seconds ago"),
                                            (self.token("ann") + "x", ":signature_error"),
                                            (self.token("ann", exp=None), "Fields `role` and `exp` are required in JWT"))):
            self.topic = f"{first}:{n}"
            ann.auth(self.token("ann", session=n))
            self.assertEqual(ann.join(self.topic, private=True), "SUBSCRIBED")
            ann.auth(bad)
            self.assert_closed(ann, f"^{message}$")

    def test_another_user_on_all_channels(self):
        ann = self.member("ann", ack=True)
        ann.auth(self.token("bob"))
        self.assertEqual(ann.join(self.topic + ":two", private=True, ack=True), "SUBSCRIBED")
        self.assertEqual([t["sub"] for topic in (self.topic, self.topic + ":two") for t in self.server.joined("realtime:" + topic)],
                         ["bob", "bob"])
        self.assertEqual(ann.send(self.topic + ":two", "x", {}, timeout=500), "timed out")
        ann.auth(self.token("ann", session=2))
        self.assertEqual(ann.send(self.topic + ":two", "x", {}), "ok")


class PrivateVsn1(Private):
    js_vsn = "1.0.0"


if __name__ == "__main__":
    unittest.main()
