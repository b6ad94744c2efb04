# SPDX-License-Identifier: MIT
"""The official client (npm @supabase/realtime-js) against the devserver, and in one room with local processes."""

import base64
import json
import os
import queue
import random
import subprocess
import threading
import unittest

from rtbtest.story import Story
from rtbtest.wait import DEADLINE, Deadline


class Js:
    """A js_client.mjs process; its lines are read by a thread."""

    script = "js_client.mjs"

    def __init__(self, *args):
        """args: the program's."""
        script = os.path.join(os.path.dirname(__file__), self.script)
        self.process = subprocess.Popen([os.environ["RTB_NODE"], script, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines, self.kept = queue.Queue(), []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def do(js, op, **params):
        js.process.stdin.write(json.dumps(dict(params, op=op)) + "\n")
        js.process.stdin.flush()

    def wait(self, type, **match):
        """The next message that fits; others are kept."""
        def fits(m):
            return m["type"] == type and all(m.get(k) == v for k, v in match.items())
        for i, message in enumerate(self.kept):
            if fits(message):
                return self.kept.pop(i)
        end = Deadline()
        while True:
            try:
                message = self.lines.get(timeout=end.left(f"no {type} {match}; kept: {self.kept[-5:]}"))
            except queue.Empty:
                continue
            assert message is not None, f"the client ended; kept: {self.kept[-5:]}"
            if fits(message):
                return message
            self.kept.append(message)

    def join(js, topic, **options):  # not "self": that is one of the options
        js.do("join", topic=topic, **options)
        return js.wait("status", topic=topic)["status"]

    def send(self, topic, event, payload, **options):
        self.do("send", topic=topic, event=event, payload=payload, **options)
        return self.wait("sent")["result"]

    def auth(self, token):
        """From now on with this token; the channels have been told when this returns."""
        self.do("auth", token=token)
        self.wait("auth")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Conformance(Story):
    js_vsn = "2.0.0"

    def js(self):
        client = Js(self.server.url, self.key, self.js_vsn)
        self.addCleanup(client.close)
        return client

    def setUp(self):
        self.topic = f"js:{random.randrange(10 ** 9)}"

    def test_two_official_clients(self):
        a, b = self.js(), self.js()
        self.assertEqual(a.join(self.topic, ack=True), "SUBSCRIBED")
        self.assertEqual(b.join(self.topic, self=True), "SUBSCRIBED")
        self.assertEqual(a.send(self.topic, "hello", {"n": 1}), "ok")
        self.assertEqual(b.wait("broadcast")["payload"], {"n": 1})
        self.assertEqual(b.send(self.topic, "back", {"n": 2}), "ok")
        self.assertEqual(a.wait("broadcast")["payload"], {"n": 2})
        self.assertEqual(b.wait("broadcast", event="back")["payload"], {"n": 2})
        a.do("heartbeat")
        self.assertEqual(a.wait("heartbeat", status="ok")["status"], "ok")
        a.do("leave", topic=self.topic)
        self.assertEqual(a.wait("left")["result"], "ok")
        b.send(self.topic, "alone", {})
        b.wait("broadcast", event="alone")
        # A marker on a's own socket: had it still been a member, "alone" would stand before it.
        other = self.topic + ":marker"
        self.assertEqual(a.join(other, self=True), "SUBSCRIBED")
        a.send(other, "marker", {})
        self.assertEqual(a.wait("broadcast")["event"], "marker")

    def test_binary_between_official_clients(self):
        if self.js_vsn != "2.0.0":
            self.skipTest("serializer 1.0.0 carries no bytes")
        a, b = self.js(), self.js()
        a.join(self.topic, ack=True)
        b.join(self.topic)
        data = bytes(range(256))
        a.do("send_binary", topic=self.topic, event="raw", base64=base64.b64encode(data).decode())
        self.assertEqual(a.wait("sent")["result"], "ok")
        self.assertEqual(base64.b64decode(b.wait("broadcast")["base64"]), data)

    def test_one_room_with_local_processes(self):
        js = self.js()
        self.assertEqual(js.join(self.topic, ack=True), "SUBSCRIBED")
        peers = [self.peer() for _ in range(3)]
        for peer in peers:
            peer.subscribe(self.topic)
        for n in range(20):
            self.assertEqual(js.send(self.topic, "js", {"n": n, "text": "ünï 😀"}), "ok")
            self.assertEqual(peers[n % 3].broadcast(self.topic, "local", {"n": n, "deep": [{"a": None}]})["outcome"], "acked")
        for n in range(20):
            self.assertEqual(js.wait("broadcast", event="local")["payload"], {"n": n, "deep": [{"a": None}]})
        for i, peer in enumerate(peers):
            peer.sync(upstream=True)
            got = peer.take("broadcast")
            self.assertEqual([m["payload"] for m in got if m["event"] == "js"],
                             [{"n": n, "text": "ünï 😀"} for n in range(20)])
            self.assertEqual([m["payload"]["n"] for m in got if m["event"] == "local"], [n for n in range(20) if n % 3 != i])
        # Nothing twice at the official client either: the marker is the next that it gets.
        peers[0].broadcast(self.topic, "marker", {})
        self.assertEqual(js.wait("broadcast")["event"], "marker")

    def test_one_private_room_with_local_processes(self):
        js, public = self.js(), self.js()
        self.assertEqual(js.join(self.topic, private=True, ack=True), "SUBSCRIBED")
        self.assertEqual(public.join(self.topic), "SUBSCRIBED")
        peer, outsider = self.peer(), self.peer()
        peer.subscribe(self.topic, private=True)
        outsider.subscribe(self.topic)
        self.assertEqual(js.send(self.topic, "js", {"n": 1}), "ok")
        self.assertEqual(peer.wait_notice("broadcast")["payload"], {"n": 1})
        self.assertEqual(peer.broadcast(self.topic, "local", {"n": 2}, private=True)["outcome"], "acked")
        self.assertEqual(js.wait("broadcast")["payload"], {"n": 2})
        # Those in the public room of this name have heard nothing of it.
        self.assertEqual(outsider.broadcast(self.topic, "marker", {})["outcome"], "acked")
        self.assertEqual(public.wait("broadcast")["event"], "marker")
        outsider.sync(upstream=True)
        self.assertEqual(outsider.take("broadcast"), [])

    def test_bytes_in_one_room(self):
        if self.js_vsn != "2.0.0":
            self.skipTest("serializer 1.0.0 carries no bytes")
        js, peer = self.js(), self.peer()
        js.join(self.topic, ack=True)
        peer.subscribe(self.topic)
        data = bytes(range(256)) * 10
        js.do("send_binary", topic=self.topic, event="raw", base64=base64.b64encode(data).decode())
        self.assertEqual(peer.wait_notice("broadcast")["payload"], data)
        self.assertEqual(peer.broadcast(self.topic, "back", data)["outcome"], "acked")
        self.assertEqual(base64.b64decode(js.wait("broadcast", event="back")["base64"]), data)


class ConformanceVsn1(Conformance):
    js_vsn = "1.0.0"


if __name__ == "__main__":
    unittest.main()
