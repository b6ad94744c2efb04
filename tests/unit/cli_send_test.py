# SPDX-License-Identifier: MIT
"""rtbridge pub, its ways and outcomes, rtbridge outcome, and stored messages: cli_send_test.py COMMAND"""

import json
import os
import pty
import queue
import signal
import subprocess
import time
import unittest

from cli_fake import Error
from cli_run import DEADLINE, Case


class Usage(Case):
    def test_wrong_use(self):
        for args, words in (
            (["pub", "t", "e", "--ws", "--http"], "one way: --ws or --http; see `rtbridge pub --help`"),
            (["pub", "t", "e", "{}", "-f", "x"], "from one place"),
            (["pub", "t", "e", "{}", "--binary"], "from one place"),
            (["pub", "t", "e", "-l", "--binary"], "each line is a message; see `rtbridge pub --help`"),
            (["pub", "t", "e", "-l", "-f", "x"], "each line is a message"),
            (["pub", "t", "e", "-l", "--id", "x"], "each line is a message"),
            (["pub", "t", "e", "--id", "a b"], "cannot send: bad id: 1 to 64 bytes of printable ASCII"),
            (["pub", "t", "e", "--id", ""], "bad id"),
            (["pub", "t", "e", "--since", "1h"], "pub does not take --since"),
            (["outcome"], "outcome needs the ID of a send; see `rtbridge pub --help`"),
            (["outcome", "a", "b"], "outcome needs the ID"),
            (["outcome", "a b"], "cannot ask: bad id"),
            (["outcome", "a", "--private"], "outcome does not take --private"),
            (["sub", "t", "--since", "10m"], "--since needs --private: the server stores messages of private channels alone; see"),
            (["sub", "t", "--private", "--limit", "3"], "--limit is for --since; see `rtbridge sub --help`"),
            (["sub", "--private", "--since", "1h", "--pg", "a.b"], "--since needs a TOPIC"),
            (["sub", "--replication-ready", "--pg", "a.b"], "--replication-ready needs a TOPIC"),
        ):
            with self.subTest(args):
                code, lines, errors = self.run_cli(*args).end()
                self.assertEqual((code, lines), (2, []))
                self.assertIn(words, errors)

    def test_wrong_values(self):
        for option, wanted, values in (
            ("--limit", "a number from 1 to 25", ("0", "26", "x", "-1", "")),
            ("--since", "10m or 2h before now", (
                "", "10", "1700000000", "10x", "-10m", "m", "nan", "infm", "99999d", "2026-11-23", "2026-11-23T14:05:00",
                "2026-11-23T14:05Z", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-23T24:00:00Z",
                "2026-11-23T14:05:00+2:00", "2026-11-23T14:05:00Zx", "2026-11-23T14:05:00.Z", "2026-11-23T14:05:00+02:00x",
                "1900-01-01T00:00:00Z", "99999999999999999999")),
        ):  # fmt: skip
            for value in values:
                with self.subTest(value):
                    code, _, errors = self.run_cli("sub", "t", "--private", option, value).end()
                    self.assertEqual(code, 2)
                    self.assertIn(f"cannot use {option} {value}: it is {wanted}", errors)


class Pub(Case):
    def file(self, data):
        path = os.path.join(self.daemon.dir.name, "payload")
        with open(path, "wb") as f:
            f.write(data)
        return path

    def test_ways(self):
        for args, sent in (
            (["--http"], {"via": "http"}),
            (["--ws", "--private"], {"via": "ws", "private": True}),
            ([], {}),
        ):
            with self.subTest(args):
                self.assertEqual(self.run_cli("pub", "t", "e", *args).end(), (0, ["acked"], ""))
                self.assertEqual(self.sent(), {"topic": "t", "event": "e", "payload": {}, **sent})

    def test_payloads(self):
        path = self.file(b'{"from":"a file"}\n')
        self.assertEqual(self.run_cli("pub", "t", "e", "-f", path).end(), (0, ["acked"], ""))
        self.assertEqual(self.sent()["payload"], {"from": "a file"})
        self.assertEqual(self.run_cli("pub", "t", "e", "--binary", "-f", path).end(), (0, ["acked"], ""))
        self.assertEqual(self.sent()["payload"], b'{"from":"a file"}\n')
        data = bytes(range(256)) * 4000  # more than one read
        for args, payload in ((["--binary"], data), (["--binary", "--file", "-"], b""), (["-f", "-"], b"[1]")):
            run = self.run_cli("pub", "t", "e", *args, stdin=subprocess.PIPE)
            run.process.stdin.buffer.write(payload)
            run.process.stdin.close()
            self.assertEqual(run.end(), (0, ["acked"], ""))
            self.assertEqual(self.sent()["payload"], payload if "--binary" in args else [1])

    def test_payloads_that_are_none(self):
        code, lines, errors = self.run_cli("pub", "t", "e", "-f", "/nonexistent/x").end()
        self.assertEqual((code, lines, errors), (1, [], "rtbridge: cannot read /nonexistent/x: No such file or directory"))
        code, lines, errors = self.run_cli("pub", "t", "e", "-f", self.daemon.dir.name).end()
        self.assertEqual((code, errors), (1, f"rtbridge: cannot read {self.daemon.dir.name}: Is a directory"))
        self.assertEqual(self.run_cli("pub", "t", "e", "-f", self.file(b"")).end()[0:2], (6, ["invalid"]))
        code, lines, errors = self.run_cli("pub", "t", "e", "--binary", "-f", self.file(b"x" * 5000000)).end()
        self.assertEqual((code, lines), (6, ["too_big"]))
        self.assertIn("the daemon takes at most 4194304", errors)

    def test_stdin_that_does_not_end(self):
        run = self.run_cli("pub", "t", "e", "--binary", "-W", "0.1", stdin=subprocess.PIPE)
        self.assertEqual(run.end(), (27, [], "rtbridge: stdin has not ended within 0.1 s (-W)"))
        run = self.run_cli("pub", "t", "e", "--binary", stdin=subprocess.PIPE)
        run.process.send_signal(signal.SIGINT)
        self.assertIn(run.end()[0], (-signal.SIGINT, 130))

    def test_what_is_told(self):
        self.daemon.on["broadcast"] = lambda c, id, p: {"outcome": "rate_limited", "via": "http", "text": "slowly", "retry_in_ms": 1500}
        self.assertEqual(self.run_cli("pub", "t", "e", "--id", "my-id", "-v").end(),
                         (6, ["rate_limited"], "rtbridge: by http, id my-id\nrtbridge: slowly; try again in 1.5 s"))  # fmt: skip
        self.assertEqual(self.request("broadcast")["id"], "my-id")
        code, lines, _ = self.run_cli("--json", "pub", "t", "e", "--id", "other").end()
        self.assertEqual(json.loads(lines[0]), {"outcome": "rate_limited", "via": "http", "id": "other", "text": "slowly", "retry_in_ms": 1500})
        # A word that is not known yet is told as it is.
        self.daemon.on["broadcast"] = lambda c, id, p: {"outcome": 'la"ter', "via": "ws"}
        self.assertEqual(self.run_cli("pub", "t", "e").end(), (7, ['la"ter'], ""))
        code, lines, _ = self.run_cli("--json", "pub", "t", "e").end()
        self.assertEqual((code, self.told(lines[0])), (7, {"outcome": 'la"ter', "via": "ws"}))

    def test_waiting(self):
        """What goes by HTTP waits for no channel."""
        waiting = queue.Queue()
        self.daemon.on["broadcast"] = lambda c, id, p: waiting.put((c, id, p))
        backoff = {"state": "backoff", "reason": "dns", "text": "no such host", "next_try_ms": 1500}
        joining = {"topic": "t", "private": False, "state": "joining", "code": "probation", "text": "is tried"}
        trouble = "the message is not sent yet: the daemon's connection to the server is backoff: no such host; next try in 1.5 s; see `rtbridge status`"
        for args, connection, channels, words in (
            (["--http"], backoff, [joining], trouble),
            (["--http"], {"state": "online"}, [joining], ""),
            ([], backoff, [], trouble),
            ([], {"state": "idle"}, [], ""),
            ([], {"state": "online"}, [joining], "t is not joined yet: is tried (probation); see `rtbridge status`"),
            (["--ws"], backoff, [], trouble.replace("the message is not sent", "t is not joined")),
        ):
            with self.subTest(args=args, connection=connection["state"]):
                self.daemon.on["status"] = lambda c, id, p: {"connection": connection, "channels": channels}
                run = self.run_cli("pub", "t", "e", "--ttl", "10ms", *args)
                c, id, _ = waiting.get(timeout=DEADLINE)
                self.request("status")  # it has been answered
                c.answer(id, {"outcome": "sent"})
                self.assertEqual(run.end(), (0, ["sent"], f"rtbridge: {words}" if words else ""))

    def test_an_id_in_use(self):
        def broadcast(connection, id, params):
            raise Error(200, "bad_request", "this id is that of another send")

        self.daemon.on["broadcast"] = broadcast
        self.assertEqual(self.run_cli("pub", "t", "e", "--id", "x").end(),
                         (6, ["invalid"], "rtbridge: this id is that of another send (bad_request)"))  # fmt: skip

    def test_over_a_restart(self):
        """The daemon goes away before the answer, and the next one knows what became of it."""
        asked = []

        def outcome(connection, id, params):
            asked.append(params["id"])
            return {"outcome": "pending" if len(asked) < 3 else "acked", "via": "ws"}

        self.daemon.on["broadcast"] = lambda c, id, p: c.close()
        self.daemon.on["outcome"] = outcome
        self.assertEqual(self.run_cli("pub", "t", "e").end(), (0, ["acked"], ""))
        name = self.request("broadcast")["id"]
        self.assertEqual(asked, [name] * 3)
        self.assertTrue(all(method != "broadcast" for method, _ in list(self.daemon.requests.queue)))

    def test_lines_over_a_restart(self):
        """Each line once, each outcome in its place."""
        lost, n = queue.Queue(), 600

        def broadcast(connection, id, params):
            i = params["payload"]
            if i % 100 == 50 and i not in gone:
                gone.add(i)
                known[params["id"]] = i
                connection.close()
                return None
            known[params["id"]] = i
            return {"outcome": "acked"}

        def outcome(connection, id, params):
            lost.put(params["id"])
            if params["id"] not in known:
                raise Error(212, "unknown_id", "none")
            return {"outcome": "denied" if known[params["id"]] == 50 else "acked"}

        gone, known = set(), {}
        self.daemon.on["broadcast"], self.daemon.on["outcome"] = broadcast, outcome
        run = self.run_cli("pub", "-l", "t", "e", "--json", stdin=subprocess.PIPE)
        run.process.stdin.write("".join("%d\n" % i for i in range(n)))
        run.process.stdin.close()
        code, lines, _ = run.end()
        told = [json.loads(line) for line in lines]
        self.assertEqual((code, [t["line"] for t in told]), (5, list(range(1, n + 1))))
        self.assertEqual(told[50]["outcome"], "denied")
        seen = sorted(known.values())
        self.assertEqual(seen, sorted(set(seen)))  # nothing was sent twice
        for i, t in enumerate(told):
            if i != 50:
                self.assertEqual(t["outcome"], "acked" if t["id"] in known else "unknown")
        self.assertGreaterEqual(lost.qsize(), 6)


class Outcome(Case):
    def test_what_there_is(self):
        for answer, code, line in (
            ({"outcome": "acked", "via": "ws"}, 0, "acked"),
            ({"outcome": "denied", "text": "no"}, 5, "denied"),
            ({"outcome": "unknown"}, 7, "unknown"),
            ({"outcome": "pending"}, 7, "pending"),
            ({"outcome": "expired"}, 27, "expired"),
        ):
            with self.subTest(answer):
                self.daemon.on["outcome"] = lambda c, id, p: answer
                words = "rtbridge: no" if "text" in answer else ""
                self.assertEqual(self.run_cli("outcome", "some-id").end(), (code, [line], words))
                self.assertEqual(self.request("outcome"), {"id": "some-id"})
                got, lines, _ = self.run_cli("outcome", "some-id", "--json").end()
                self.assertEqual((got, json.loads(lines[0])), (code, {"id": "some-id", **answer}))

    def test_what_is_not_known(self):
        words = "no send of this user has this id, or it was too long ago"
        self.assertEqual(self.run_cli("outcome", "x").end(), (7, ["unknown"], f"rtbridge: {words} (unknown_id)"))
        code, lines, _ = self.run_cli("outcome", "x", "--json", "-W", "20").end()
        self.assertEqual((code, json.loads(lines[0])), (7, {"outcome": "unknown", "id": "x", "code": "unknown_id", "text": words}))
        self.daemon.features.remove("outcome")
        code, lines, errors = self.run_cli("outcome", "x").end()
        self.assertEqual((code, lines), (6, []))
        self.assertIn("does not keep what became of sends", errors)

    def test_waiting(self):
        answers = iter([{"outcome": "pending"}, {"outcome": "pending"}, Error(100, "busy", "not now"), {"outcome": "sent", "via": "http"}])

        def outcome(connection, id, params):
            answer = next(answers)
            if isinstance(answer, Error):
                raise answer
            return answer

        self.daemon.on["outcome"] = outcome
        self.assertEqual(self.run_cli("outcome", "x", "-W", "60", "-v").end(), (0, ["sent"], "rtbridge: by http, id x"))
        self.daemon.on["outcome"] = lambda c, id, p: {"outcome": "pending"}
        self.assertEqual(self.run_cli("outcome", "x", "-W", "0.6").end(),
                         (27, [], "rtbridge: it has no outcome yet, 0.6 s (-W) are over"))  # fmt: skip

    def test_over_a_restart(self):
        def outcome(connection, id, params):
            if first:
                first.pop()
                connection.close()
                return None
            return {"outcome": "acked"}

        first = [1]
        self.daemon.on["outcome"] = outcome
        self.assertEqual(self.run_cli("outcome", "x").end(), (0, ["acked"], ""))


class Stored(Case):
    def stored(self, connection, **params):
        connection.notify("broadcast", chan=1, topic="room:1", payload=1, meta={"id": params["event"], "replayed": True}, **params)

    def ended(self, connection, **params):
        connection.notify("replay", chan=1, topic="room:1", **params)

    def start(self, *args, **kw):
        run = self.run_cli("sub", "room:1", "--private", *args, **kw)
        connection = self.connection()
        return run, connection, self.request("subscribe")["broadcast"]

    def test_when(self):
        now = time.time() * 1000
        for value, since in (
            ("10m", now - 600000), ("2h", now - 7200000), ("30s", now - 30000), ("500ms", now - 500), ("1.5h", now - 5400000),
            ("1d", now - 86400000), ("2025-11-19T00:22:40Z", 1763511760000), ("2025-11-19T00:22:40.877Z", 1763511760877),
            ("2025-11-19 02:22:40.5+02:00", 1763511760500), ("2025-11-18t19:22:40-05:00", 1763511760000),
            ("2024-02-29T23:59:60Z", 1709251199000), ("1763511760877", 1763511760877),
        ):  # fmt: skip
            with self.subTest(value):
                run, c, wish = self.start("--since", value, "-E")
                self.assertEqual(wish["replay"]["limit"], 25)
                self.assertAlmostEqual(wish["replay"]["since"], since, delta=60000 if since > now - 1e9 else 0)
                self.ended(c, stored="replayed", n=0)
                self.assertEqual(run.end()[0], 0)

    def test_stored_first(self):
        run, c, wish = self.start("--since", "1763511760877", "--limit", "2", "-C", "3", "--json")
        self.assertEqual(wish, {"replay": {"since": 1763511760877, "limit": 2}})
        self.stored(c, event="a")
        self.stored(c, event="b")
        self.ended(c, stored="truncated", n=2)
        c.notify("broadcast", chan=1, topic="room:1", event="now", payload=2, meta={"id": "c"})
        code, lines, errors = run.end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual([json.loads(line) for line in lines], [
            {"type": "broadcast", "topic": "room:1", "event": "a", "payload": 1, "meta": {"id": "a", "replayed": True}},
            {"type": "broadcast", "topic": "room:1", "event": "b", "payload": 1, "meta": {"id": "b", "replayed": True}},
            {"type": "replay", "topic": "room:1", "stored": "truncated", "n": 2},
            {"type": "broadcast", "topic": "room:1", "event": "now", "payload": 2, "meta": {"id": "c"}},
        ])  # fmt: skip

    def test_ready_means_all_of_them(self):
        run, c, _ = self.start("--since", "1h", "-E", "--json")
        self.stored(c, event="a")
        self.assertEqual(run.json()["event"], "a")
        self.assertIsNone(run.process.poll())
        self.ended(c, stored="none", n=0, text="the database is away")
        code, lines, _ = run.end()
        self.assertEqual(code, 0)
        self.assertEqual(json.loads(lines[0]), {"type": "replay", "topic": "room:1", "stored": "none", "n": 1, "text": "the database is away"})

    def test_for_people(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        run, c, _ = self.start("--since", "1h", "-C", "3", stdout=theirs)
        os.close(theirs)
        c.notify("system", chan=1, topic="room:1", extension="system", status="ok", text="fine")
        c.notify("system", chan=1, topic="room:1", extension="system", status="error", text="bad\x1b")
        self.stored(c, event="a")
        self.ended(c, stored="truncated", n=1)
        c.notify("gap", chan=1, topic="room:1", **{"from": 1, "to": 2}, cause="connection", stored="replayed", n=1)
        self.stored(c, event="b")
        c.notify("broadcast", chan=1, topic="room:1", event="c", payload=b"xyz")
        code, _, errors = run.end()
        self.assertEqual(code, 0)
        text = os.read(ours, 4096).decode().replace("\r\n", "\n")
        self.assertRegex(text, r"^\S+ room:1 \[stored\] a 1\n\S+ room:1 \[stored\] b 1\n\S+ room:1 c binary of 3 bytes: eHl6\n$")
        self.assertRegex(errors, r"^\S+ -- system room:1 system error: bad\?\n\S+ -- replay room:1: 1 stored messages; older ones may be missing\n"
                                 r"\S+ -- gap room:1: messages may have been missed from \S+ to \S+ \(connection\); all of those that are stored follow$")  # fmt: skip

    def test_notices(self):
        run, c, wish = self.start("--replication-ready", "-C", "1", "--json")
        self.assertEqual(wish, {"replication_ready": True})
        c.notify("system", chan=1, topic="room:1", extension="system", status="ok", text="replication is ready")
        self.assertEqual(run.json(), {"type": "system", "topic": "room:1", "extension": "system", "status": "ok", "text": "replication is ready"})
        for stored, n in (("truncated", 25), ("none", 0)):
            c.notify("gap", chan=1, topic="room:1", **{"from": 1, "to": 2}, cause="connection", stored=stored, n=n)
            told = {"type": "gap", "topic": "room:1", "from": 1, "to": 2, "cause": "connection"}
            self.assertEqual(run.json(), {**told, "stored": stored, "n": n} if n else told)
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
        self.assertEqual(run.end()[0], 0)

    def test_over_a_restart(self):
        run, c, _ = self.start("--since", "1763511760877", "--json")
        self.stored(c, event="a")
        self.ended(c, stored="replayed", n=1)
        self.assertEqual([run.json()["type"], run.json()["type"]], ["broadcast", "replay"])
        before = time.time() * 1000 - 60000
        self.daemon.stop()
        self.daemon.listen()
        c = self.connection()
        since = self.request("subscribe")["broadcast"]["replay"]["since"]
        self.assertTrue(1763511760877 < since <= before + 1)
        self.stored(c, event="a")
        self.stored(c, event="b")
        self.ended(c, stored="replayed", n=2)
        told = [run.json() for _ in range(4)]
        self.assertEqual([t["type"] for t in told], ["state", "state", "broadcast", "replay"])
        self.assertEqual((told[2]["event"], told[3]["n"]), ("b", 1))
        run.process.terminate()
        self.assertEqual(run.end()[0], 143)

    def test_a_daemon_without_it(self):
        self.daemon.features.remove("replay")
        run, c, wish = self.start("--since", "1h", "-E", "--json")
        self.assertEqual(wish, {})
        code, lines, _ = run.end()
        self.assertEqual((code, json.loads(lines[0])), (
            0, {"type": "replay", "topic": "room:1", "stored": "none", "n": 0, "text": "this daemon has no replay"}))  # fmt: skip


if __name__ == "__main__":
    unittest.main()
