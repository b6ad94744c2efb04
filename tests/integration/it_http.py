#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Messages by HTTP: what each answer of the server means to the sender, and what becomes of them when there is none."""

import os
import socket
import unittest

from rtbtest import tokens
from rtbtest.auth import Bearers, sub_of
from rtbtest.peer import frame
from rtbtest.sends import Sends, fresh
from rtbtest.wait import until

SENT = {"outcome": "sent", "via": "http"}
JSON = "application/json"


def numbers(messages):
    return [payload["n"] for _, payload in messages]


class Statuses(Sends):
    """Each as the one answer to a request of one message, as JSON and as bytes."""

    #       status, the fault's members, outcome, retry_in_ms, what is in the text
    TABLE = [
        (202, {}, "sent", None, None),
        (200, {}, "sent", None, None),
        (401, {"body": '{"message":"Unauthorized"}'}, "denied", None, "401: Unauthorized"),
        (403, {"body": '{"message":"Tenant is suspended"}'}, "denied", None, "403: Tenant is suspended"),
        (404, {"body": "not found", "type": "text/plain"}, "unsupported", None, "404"),
        (413, {}, "too_big", None, "413"),
        (415, {"body": '{"error":"Unsupported Media Type."}'}, "unsupported", None, "415: Unsupported Media Type."),
        (422, {"body": '{"errors":{"messages":[{"payload":["Payload size exceeds tenant limit"]}]}}'}, "too_big", None, "422"),
        (422, {"body": '{"errors":{"messages":[{"payload":["is invalid"]}]}}'}, "bad_payload", None, "422"),
        (422, {"body": '{"message":"no such role"}'}, "denied", None, "422: no such role"),
        (429, {"retry_after": 7, "body": '{"message":"Too many requests"}'}, "rate_limited", 7000, "429: Too many requests"),
        (429, {}, "rate_limited", None, "429"),
        (500, {"body": '{"message":"Unable to authorize broadcast"}'}, "unknown", None, "500: Unable to authorize broadcast"),
        (502, {"body": "<html>\n<b>Bad\0 Gateway</b>", "type": "text/html"}, "unknown", None, "502"),
        (503, {"retry_after": 2}, "unknown", 2000, "503"),
        (504, {"body": "x" * 100000, "type": "text/plain"}, "unknown", None, "504"),
    ]

    def test_each(self):
        tx = self.peer()
        for status, members, outcome, retry_ms, text in self.TABLE:
            for payload in {"n": 1}, b"bytes":
                with self.subTest(status=status, payload=payload):
                    self.server.http_fault("answer", status=status, **dict({"type": JSON}, **members))
                    result = tx.broadcast(fresh("status"), "e", payload, via="http")
                    said = result.pop("text", None)
                    want = {"outcome": outcome, "via": "http"}
                    self.assertEqual(result, want if retry_ms is None else dict(want, retry_in_ms=retry_ms))
                    self.assertEqual(said is None, text is None)
                    self.assertIn(text or "", said or "")
                    self.assertLess(len(said or ""), 260)
                    self.assertTrue((said or "").isprintable(), said)
        # Nothing of it stays.
        self.assertEqual(tx.broadcast(fresh("status"), "e", {"n": 1}, via="http"), SENT)

    def test_of_many_at_once(self):
        """All messages of a request share its answer."""
        for status, outcome in (401, "denied"), (404, "unsupported"), (500, "unknown"), (429, "rate_limited"):
            with self.subTest(status=status):
                tx, topic, far = self.peer(), fresh("batch"), None
                far = self.remote(topic)
                self.server.http_fault("delay", ms=500)
                before = len(self.server.requests())
                ids = [tx.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": 0}, "via": "http"})]
                self.server.wait_requests(before + 1)
                self.server.http_fault("answer", status=status)
                ids += [tx.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": n}, "via": "http"}) for n in range(1, 6)]
                self.assertEqual([tx.result(id)["outcome"] for id in ids], ["sent"] + [outcome] * 5)
                first, second = self.server.requests()[before:]
                self.assertEqual([m["payload"]["n"] for m in second.messages], [1, 2, 3, 4, 5])
                self.assertEqual([p["n"] for _, _, p, _ in far.all_broadcasts()], [0])

    def test_no_redirect_is_followed(self):
        """A key goes nowhere else."""
        tx = self.peer()
        self.server.http_fault("answer", status=302)
        before = len(self.server.requests())
        self.assertEqual(tx.broadcast(fresh("elsewhere"), "e", {"n": 1}, via="http")["outcome"], "unknown")
        tx.broadcast(fresh("here"), "e", {"n": 1}, via="http")
        self.assertEqual(len(self.server.requests()), before + 2)


class OneOfMany(Sends):
    server_options = {"max_payload_kb": 2}

    def test_one_bad_message_spoils_no_other(self):
        """The server refuses all of a request for one of its messages: they are sent one by one, in their order."""
        topic = fresh("spoiled")
        tx, rx, far = self.peer(), self.peer(), self.remote(topic)
        rx.subscribe(topic)
        self.server.http_fault("delay", ms=500)
        ids = []
        for n in range(10):
            payload = {"n": n, "x": "x" * (5000 if n in (4, 7) else 5)}
            ids.append(tx.request("broadcast", {"topic": topic, "event": "e", "payload": payload, "via": "http"}))
        good = [0, 1, 2, 3, 5, 6, 8, 9]
        self.assertEqual([tx.result(id)["outcome"] for id in ids], ["sent" if n in good else "too_big" for n in range(10)])
        self.assertEqual([p["n"] for _, _, p, _ in far.all_broadcasts()], good)
        self.assertEqual(numbers(self.came(rx)[topic]), good)
        # And then together again.
        before = len(self.server.requests())
        self.server.http_fault("delay", ms=300)
        ids = [tx.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": n}, "via": "http"}) for n in range(21)]
        self.assertEqual([tx.result(id) for id in ids], [SENT] * 21)
        self.assertLess(len(self.server.requests()) - before, 10)


class Faults(Sends):
    """The server reads, or not, and says something, or not. `arrives`: the message was passed on all the same."""

    #        how, members, outcome, arrives
    TABLE = [
        ("garbage", {}, "unknown", False),
        ("garbage", {"work": True}, "unknown", True),
        ("close", {}, "unknown", False),            # the head was read
        ("drop", {}, "unknown", True),              # all of it was read
        ("drop", {"work": False}, "unknown", False),
        ("slow", {"ms": 3, "bytes": 7, "status": 202, "body": "x" * 300}, "sent", True),
        ("slow", {"ms": 3, "bytes": 7, "status": 500, "body": "x" * 300, "work": False}, "unknown", False),
        ("half", {"status": 202, "body": "x" * 300}, "sent", True),
        ("half", {"status": 403, "body": "x" * 300, "work": False}, "denied", False),
        ("delay", {"ms": 1200}, "sent", True),
    ]

    def test_each(self):
        for how, members, outcome, arrives in self.TABLE:
            for payload in {"n": 1}, b"bytes":
                with self.subTest(how=how, members=members, payload=payload):
                    topic = fresh("fault")
                    tx, rx, far = self.peer(), self.peer(), self.remote(topic)
                    for peer in (tx, rx):
                        peer.subscribe(topic)
                    self.server.http_fault(how, **members)
                    result = tx.broadcast(topic, "e", payload, via="http")
                    self.assertEqual((result["outcome"], result["via"], "text" in result), (outcome, "http", outcome != "sent"), result)
                    # The connection to the server notices nothing, nor does what comes next.
                    want = ([payload] if arrives else []) + [{"n": 2}]
                    self.assertEqual(tx.broadcast(topic, "e", {"n": 2}, via="http"), SENT)
                    self.assertEqual([p for _, _, p, _ in far.all_broadcasts()], want)
                    self.assertEqual(self.came(rx), {topic: [("e", p) for p in want]})
                    self.assertEqual(self.came(tx), {})
                    self.assertEqual(rx.take("gap") + rx.take("connection"), [])

    def test_never_answered(self):
        """After 10 s nobody knows. Meanwhile the WebSocket works, and what finds no place waits for its turn, or expires."""
        places = [fresh(f"hangs{i}") for i in range(8)]
        topic = fresh("works")
        tx, rx = self.peer(), self.peer()
        rx.subscribe(topic)
        far = self.remote(*places[:3])
        self.server.http_fault("hang", count=len(places))
        first = tx.status()["server"]["uptime_ms"]
        hanging = [tx.request("broadcast", {"topic": t, "event": "e", "payload": b"bytes" if i % 2 else {"n": i}, "via": "http"})
                   for i, t in enumerate(places)]
        self.server.wait_requests(len(places))
        late = tx.request("broadcast", {"topic": fresh("late"), "event": "e", "payload": {"n": 1}, "via": "http", "ttl_ms": 1000})
        patient = tx.request("broadcast", {"topic": fresh("patient"), "event": "e", "payload": {"n": 1}, "via": "http", "ttl_ms": 60000})
        for n in range(100):
            self.assertEqual(tx.broadcast(topic, "e", {"n": n}), {"outcome": "acked", "via": "ws"})
        result = tx.result(late)
        self.assertEqual((result["outcome"], result["via"]), ("expired", "http"))
        self.assertIn("other requests", result["text"])
        for id in hanging:
            result = tx.result(id)
            self.assertEqual((result["outcome"], result["via"]), ("unknown", "http"))
            self.assertTrue(result["text"])
        took = tx.status()["server"]["uptime_ms"] - first
        self.assertTrue(9500 < took < 14000, took)
        self.assertEqual(tx.result(patient), SENT)
        self.assertEqual(numbers(self.came(rx)[topic]), list(range(100)))
        self.assertEqual({t: p for t, _, p, _ in far.all_broadcasts()}, dict(zip(places, [{"n": 0}, b"bytes", {"n": 2}])))


class Unreachable(Sends):
    def test_away_and_back(self):
        """Nothing is lost, nothing comes twice, all in order; only what cannot wait expires."""
        with self.make_server() as server, self.make_daemon(server=server) as daemon:
            tx = self.peer(daemon)
            self.wait_online(tx)
            server.kill()
            until(lambda: tx.status()["connection"]["state"] == "backoff", "the daemon is offline")
            topics = [fresh(f"away{i}") for i in range(3)]
            result = tx.broadcast(topics[0], "e", {"n": -1}, via="http", ttl_ms=300)
            self.assertEqual((result["outcome"], result["via"]), ("expired", "http"))
            self.assertIn("refused", result["text"].lower())
            ids = []
            for n in range(100):
                for i, topic in enumerate(topics):
                    payload = {"n": n} if i == 0 or i == 1 and n % 3 else str(n).encode()
                    ids.append(tx.request("broadcast", {
                        "topic": topic, "event": "e", "payload": payload, "via": "http", "ttl_ms": 60000, "private": i == 2}))
            # It has tried in vain.
            until(lambda: "cannot send by HTTP" in daemon.log_text(), "the daemon has tried")
            server.start()
            self.assertEqual([tx.result(id) for id in ids], [SENT] * len(ids))
            came = {topic: [] for topic in topics}
            for r in server.requests():
                self.assertEqual(r.status, 202, r)
                for topic, n in [(r.single[0], int(r.body))] if r.single else [(m["topic"], m["payload"]["n"]) for m in r.messages]:
                    came[topic].append(n)
            self.assertEqual(came, {topic: list(range(100)) for topic in topics})
            self.assertIn("HTTP works again", daemon.log_text())


class Headers(Sends, Bearers):
    rules = ("allow * read,write,presence topic *",)

    def secrets(self, *tokens_):
        return [part for token in (self.key, *tokens_) for part in token.split(".")[1:]]

    def test_the_daemons_identity(self):
        tx = self.peer()
        for payload in {"n": 1}, b"bytes":
            topic = fresh("head")
            self.assertEqual(tx.broadcast(topic, "e/1", payload, via="http", private=True), SENT)
            request = self.server.requests()[-1]
            self.assertEqual((request.method, request.headers["apikey"], request.token), ("POST", self.key, self.key))
            self.assertEqual(request.headers["content-type"], JSON if isinstance(payload, dict) else "application/octet-stream")
            self.assertNotIn(self.key, request.path)
            self.assertEqual(request.headers["host"], f"127.0.0.1:{self.server.port}")
            if isinstance(payload, dict):
                self.assertTrue(request.path.endswith("/api/broadcast"), request.path)
                [message] = request.messages
                self.assertEqual((message["topic"], message["event"], message["payload"], message["private"]), (topic, "e/1", {"n": 1}, True))
            else:
                self.assertEqual((request.single, request.query, request.body), ((topic, "e/1"), {"private": "true"}, payload))

    def test_a_peers_own(self):
        """Its token says who it is, the daemon's key which project."""
        ann, bob, nobody = self.of("ann", True), self.of("bob", True), self.peer()
        topic = fresh("own")
        for payload in {"n": 1}, b"bytes":
            for peer, sub in (ann, sub_of("ann")), (bob, sub_of("bob")), (nobody, None):
                self.assertEqual(peer.broadcast(topic, "e", payload, via="http", private=True), SENT)
                request = self.server.requests()[-1]
                self.assertEqual((request.headers["apikey"], tokens.claims_of(request.token).get("sub")), (self.key, sub))

    def test_policies_are_those_of_the_token(self):
        self.server.set_policies(f"read * *\nwrite sub={sub_of('ann')} *\n")
        self.addCleanup(self.server.set_policies, None)
        ann, bob, topic = self.of("ann", True), self.of("bob", True), fresh("rights")
        far = self.remote(topic, private=True)
        for n, (peer, outcome) in enumerate(((ann, "sent"), (bob, "denied"), (self.peer(), "denied"))):
            self.assertEqual(peer.broadcast(topic, "e", str(n).encode(), via="http", private=True)["outcome"], outcome)
        self.assertEqual([p for _, _, p, _ in far.all_broadcasts()], [b"0"])

    def test_a_forged_token(self):
        """Refused, and never replaced by the daemon's key. Nothing secret is in the log."""
        bad = tokens.wrong_signature(self.server.secret, sub=sub_of("eve"))
        eve, topic = self.of("eve", bad), fresh("forged")
        far = self.remote(topic)
        for payload in {"n": 1}, b"bytes":
            result = eve.broadcast(topic, "e", payload, via="http")
            self.assertEqual((result["outcome"], result["via"]), ("denied", "http"), result)
            self.assertEqual(self.server.requests()[-1].token, bad)
        self.assertEqual(far.all_broadcasts(), [])
        for part in self.secrets(bad):
            self.assertNotIn(part, self.daemon.log_text())
        self.assertIn("by HTTP: denied", self.daemon.log_text())

    def test_a_token_that_ends(self):
        """What waits for HTTP does not go with a token that is no more."""
        ann, topic = self.of("ann", True), fresh("ends")
        self.server.http_fault("delay", ms=800)
        first = ann.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": 1}, "via": "http"})
        self.server.wait_requests(1, path="broadcast")
        waiting = ann.request("broadcast", {"topic": topic, "event": "e", "payload": {"n": 2}, "via": "http"})
        ann.auth(None)
        self.assertEqual(ann.result(first), SENT)
        refused = self.code(ann.result, waiting)
        self.assertEqual(refused, 211)
        sent = [m["payload"]["n"] for r in self.server.requests() if not r.single for m in r.messages if m["topic"] == topic]
        self.assertEqual(sent, [1])


class Echo(Sends):
    def test_the_id_in_meta(self):
        """The sender's name for it, or one that the daemon made; the same for all who get it."""
        topic = fresh("id")
        tx, rx, far = self.peer(), self.peer(), self.remote(topic)
        tx.subscribe(topic, broadcast={"self": True})
        rx.subscribe(topic)
        names = ["a", "z" * 64, '!"\\/~{}%20', "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]
        for n, name in enumerate(names):
            self.assertEqual(tx.broadcast(topic, "e", {"n": n}, via="http", id=name), SENT)
        for n in range(3):
            self.assertEqual(tx.broadcast(topic, "e", {"n": n}, via="http"), SENT)
        elsewhere = [meta["id"] for _, _, _, meta in far.all_broadcasts()]
        self.assertEqual(elsewhere[:len(names)], names)
        self.assertEqual(len(set(elsewhere)), len(names) + 3)
        for made in elsewhere[len(names):]:
            self.assertRegex(made, r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        for peer in (tx, rx):
            peer.sync(upstream=True)
            self.assertEqual([n["meta"] for n in peer.take("broadcast")], [{"id": id} for id in elsewhere])

    def test_two_send_the_same(self):
        """Whose bytes they are cannot be seen: each sender is spared one copy, and gets the other's."""
        topic = fresh("same")
        a, b, c = self.peer(), self.peer(), self.peer()
        for peer in (a, b, c):
            peer.subscribe(topic)
        for payload in b"same", {"n": 1}:
            ids = [(peer, peer.request("broadcast", {"topic": topic, "event": "e", "payload": payload, "via": "http"})) for peer in (a, b)]
            self.assertEqual([peer.result(id) for peer, id in ids], [SENT] * 2)
            self.assertEqual([len(self.came(peer).get(topic, [])) for peer in (a, b, c)], [1, 1, 2])

    def test_others_messages_are_no_echo(self):
        """After its own has come back, equal ones from elsewhere come; and those under its name."""
        topic = fresh("others")
        tx, far = self.peer(), self.remote(topic)
        tx.subscribe(topic)
        for payload in b"bytes", {"n": 1}:
            self.assertEqual(tx.broadcast(topic, "e", payload, via="http", id=str(len(payload))), SENT)
            self.assertEqual(self.came(tx), {})
            far.broadcast(topic, "e", payload)
            self.assertEqual(tx.wait_notice("broadcast")["payload"], payload)
        message = {"topic": topic, "event": "e", "payload": {"n": 2}, "id": str(len({"n": 1}))}
        self.assertEqual(self.server.post("/broadcast", {"messages": [message]})[0], 202)
        self.assertEqual(tx.wait_notice("broadcast")["payload"], {"n": 2})


class ShortLived(Sends):
    """Who sends and goes at once, without reading a byte: what arrived whole is sent."""

    N, EACH = 50, 4

    def run_one(self, i, topic, via, wants_answer):
        """In a process of its own, which is gone when this returns."""
        data = frame([0, 0, "hello", {"protocol": 1, "client": {"name": "short", "version": "1"}}])
        for n in range(self.EACH):
            params = {"topic": topic, "event": f"e{i}", "payload": {"n": n}, "via": via}
            data += frame([0, n + 1, "broadcast", params] if wants_answer else [2, "broadcast", params])
        pid = os.fork()
        if pid == 0:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(self.daemon.socket)
                sock.sendall(data)
                if i % 3 == 0:
                    sock.shutdown(socket.SHUT_WR)
            os._exit(0)
        return pid

    def test_all_of_it_arrives(self):
        for via in "ws", "http", "auto":
            for wants_answer in True, False:
                with self.subTest(via=via, wants_answer=wants_answer):
                    topic = fresh("short")
                    rx, far = self.peer(), self.remote(topic)
                    rx.subscribe(topic)
                    pids = [self.run_one(i, topic, via, wants_answer) for i in range(self.N)]
                    self.assertEqual({os.waitpid(pid, 0)[1] for pid in pids}, {0})
                    found = []

                    def all_came():
                        found.extend(far.all_broadcasts())
                        return len(found) >= self.N * self.EACH

                    until(all_came, f"{self.N * self.EACH} messages elsewhere")
                    until(lambda: not any(c["queued_sends"] for c in rx.status()["channels"]), "all are answered")
                    for came in [(e, p) for _, e, p, _ in found], self.came(rx)[topic]:
                        by_sender = {}
                        for event, payload in came:
                            by_sender.setdefault(event, []).append(payload["n"])
                        self.assertEqual(by_sender, {f"e{i}": list(range(self.EACH)) for i in range(self.N)})


if __name__ == "__main__":
    unittest.main()
