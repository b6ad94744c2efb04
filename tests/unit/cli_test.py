# SPDX-License-Identifier: MIT
"""The rtbridge command against a played daemon: cli_test.py COMMAND"""

import grp
import json
import os
import pty
import pwd
import queue
import re
import signal
import subprocess
import time
import unittest

from cli_fake import Error
from cli_run import COMMAND, DEADLINE, Case, Run

class Usage(Case):
    def check(self, code, args, stderr=".*", stdout=".*"):
        got, lines, errors = Run(None, *args).end()
        self.assertEqual(got, code, (args, errors))
        self.assertRegex(errors, stderr)
        self.assertRegex("\n".join(lines), stdout)

    def test_help_fits_a_screen(self):
        for args, usage in (
            (["--help"], "rtbridge [-s SOCKET]"),
            (["sub", "--help"], "rtbridge sub [TOPIC...]"),
            (["presence", "--help"], "rtbridge presence TOPIC"),
            (["presence", "t", "track", "-h"], "rtbridge presence TOPIC"),
            (["help"], "rtbridge [-s SOCKET]"),
            (["help", "pub"], "rtbridge pub TOPIC EVENT"),
            (["outcome", "--help"], "rtbridge pub TOPIC EVENT"),
            (["help", "sub"], "rtbridge sub [TOPIC...]"),
            (["--json", "help", "presence"], "rtbridge presence TOPIC"),
        ):
            code, lines, errors = Run(None, *args).end()
            self.assertEqual((code, errors), (0, ""))
            self.assertLessEqual(len(lines), 24)
            self.assertLessEqual(max(map(len, lines)), 88)
            self.assertIn(usage, lines[0])

    def test_version(self):
        self.check(0, ["--version"], stdout=r"^rtbridge \d+\.\d+\.\d+$")

    def test_wrong_use(self):
        for args in (
            ["dance"],
            ["sub"],
            ["pub", "t"],
            ["pub", "t", "e", "1", "2"],
            ["pub", "-l", "t", "e", "1"],
            ["status", "more"],
            ["reconnect", "now"],
            ["refresh-token", "--private"],
            ["status", "-C", "3"],
            ["pub", "t", "e", "-e", "x"],
            ["sub", "t", "-l"],
            ["sub", "t", "-C", "0"],
            ["sub", "t", "-C", "-1"],
            ["sub", "t", "-W", "x"],
            ["pub", "t", "e", "--ttl", "2h"],
            ["pub", "t", "e", "--ttl", "61s"],
            ["--nonsense"],
            ["status", "--private"],
            ["sub", "t", "--key", "k"],
            ["pub", "t", "e", "--presence"],
            ["pub", "t", "e", "--pg", "a.b"],
            ["presence", "t", "watch", "--pg", "a.b"],
            ["sub", "t", "--select", "c"],
            ["sub", "--pg", "a.b", "--select", "c", "--select", "d"],
            ["sub", "--pg", "a.b", "--select", ","],
            ["sub", "--private", "--pg", "a.b"],
            ["sub", "--pg", "a.b", "-e", "x"],
            ["sub", "--pg", "a.b", "--presence"],
            ["sub", "--pg", "a.b", "--self"],
        ):
            with self.subTest(args):
                self.check(2, args, stderr=r"(see|Try) `rtbridge( sub| pub| presence)? --help`|cannot use")

    def test_wrong_use_of_presence(self):
        for args in (
            ["presence", "t", "ls", "more"],
            ["presence", "t", "ls", "--", "cat"],
            ["presence", "t", "ls", "-C", "1"],
            ["presence", "t", "watch", "--key", "k"],
            ["presence", "t", "track", "{}", "-C", "1"],
            ["presence", "t", "track", "{}", "{}"],
            ["presence", "t", "track", "{}", "-W", "1", "--", "true"],
            ["presence", "t", "track", "--nonsense"],
            ["--nonsense", "presence", "t", "track", "--key", "k"],
        ):
            with self.subTest(args):
                self.check(2, args, stderr="(see|Try) `rtbridge presence --help`")
        topic_first = "the topic comes first: rtbridge presence "
        for args, words in (
            ([], "presence needs a TOPIC"),
            (["t"], "after the topic comes ls, watch or track"),
            (["t", "dance"], "unknown: dance; after the topic comes ls, watch or track"),
            (["ls"], topic_first + "TOPIC ls"),
            (["watch", "t"], topic_first + "t watch"),
            (["t", "track", "--"], "a command must stand behind --"),
            (["t", "track", "{}", "--"], "a command must stand behind --"),
            (["t", "track", "{}", "-", "--"], "a command must stand behind --"),
        ):
            with self.subTest(args):
                self.check(2, ["presence", *args], stderr=f"^rtbridge: {words}.*; see `rtbridge presence --help`$")

    def test_no_daemon(self):
        verbs = [["presence", "t", verb] for verb in ("ls", "watch", "track")]
        for args in ([], ["status"], ["status", "--json"], ["sub", "t"], ["pub", "t", "e"], *verbs):
            with self.subTest(args):
                self.check(3, args, stderr="/nonexistent/s.*rtbridged --config.*-s or .RTBRIDGE_SOCKET")

    def test_path_too_long(self):
        self.check(2, ["-s", "/" + "x" * 200, "status"], stderr="cannot start: .*107 bytes")
        self.check(2, ["-s", "", "status"], stderr="cannot start: .*empty")

    def test_denied_by_the_daemon(self):
        def hello(connection, id, params):
            raise Error(407, "denied", "uid 5 may not attach")

        self.daemon.on["hello"] = hello
        code, _, errors = self.run_cli("status").end()
        self.assertEqual(code, 5)
        self.assertIn("uid 5 may not attach", errors)
        self.assertRegex(errors, r"see the access rules \(\[access\]\) in the daemon's configuration$")

    def closed_to_us(self, mode, directory=0o711):
        """What is said about the socket if its mode does not let us in, as another user if we are root."""
        os.chmod(self.daemon.dir.name, directory)
        os.chmod(self.daemon.path, mode)
        other = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        try:
            code, lines, errors = self.run_cli("status", **other).end()
        except PermissionError:
            self.skipTest("other users cannot reach the command")
        self.assertEqual((code, lines), (5, []))
        return errors

    def test_socket_of_others(self):
        st = os.stat(self.daemon.path)
        user, group = pwd.getpwuid(st.st_uid).pw_name, grp.getgrgid(st.st_gid).gr_name
        where = r" \(\[socket\] mode and group in the daemon's configuration\)$"
        start = f"^rtbridge: cannot reach the daemon: cannot connect to {self.daemon.path}: Permission denied; "
        self.assertRegex(self.closed_to_us(0), start + "its mode 0000 lets nobody connect" + where)
        if os.getuid() == 0:
            for mode, words in ((0o600, f"user {user} connect alone"),
                                (0o660, f"user {user} and group {group} connect: become a member, and log in anew")):  # fmt: skip
                self.assertRegex(self.closed_to_us(mode), start + f"its mode {mode:04o} lets {words}" + where)
            self.assertRegex(self.closed_to_us(0o666, 0o700), start + "a directory on the way to it is closed to this user$")


class Sub(Case):
    def notify(self, connection, **params):
        connection.notify("broadcast", chan=1, topic="room:1", **params)

    def ready(self, *args, **kw):
        run = self.run_cli("sub", "room:1", *args, **kw)
        connection = self.connection()
        self.assertEqual(self.request("subscribe")["topic"], "room:1")
        return run, connection

    def test_one_line_per_message_and_nothing_else(self):
        run, c = self.ready("--json", "-C", "2")
        self.notify(c, event="hello", payload={"n": 1})
        self.notify(c, event="x", payload="é\x1b\n", meta={"id": "7"}, extra={"k": [1]})
        code, lines, errors = run.end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(lines[0], '{"type":"broadcast","topic":"room:1","event":"hello","payload":{"n":1}}')
        self.assertEqual(
            json.loads(lines[1]),
            {
                "type": "broadcast",
                "topic": "room:1",
                "event": "x",
                "payload": "é\x1b\n",
                "meta": {"id": "7"},
                "extra": {"k": [1]},
            },
        )
        self.assertEqual(len(lines), 2)

    def test_lines_come_at_once(self):
        run, c = self.ready()
        for i in range(3):
            self.notify(c, event="e", payload=i)
            self.assertEqual(run.json()["payload"], i)
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(run.end()[0], 130)
        self.daemon.gone.get(timeout=DEADLINE)

    def test_sigterm(self):
        run, c = self.ready()
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.end()[0], 143)

    def test_odd_messages(self):
        run, c = self.ready("-C", "4")
        self.notify(c, event="b", payload=b"\x00\xff")
        self.notify(c, event="", raw=[1])
        self.notify(c, event="u", payload=b"abc", undecodable=True)
        self.notify(c, event='q"\\\t', payload=None)
        _, lines, _ = run.end()
        self.assertEqual([json.loads(line) for line in lines], [
            {"type": "broadcast", "topic": "room:1", "event": "b", "payload_base64": "AP8="},
            {"type": "broadcast", "topic": "room:1", "event": "", "raw": [1]},
            {"type": "broadcast", "topic": "room:1", "event": "u", "payload_base64": "YWJj", "undecodable": True},
            {"type": "broadcast", "topic": "room:1", "event": 'q"\\\t', "payload": None},
        ])  # fmt: skip

    def test_wishes(self):
        run = self.run_cli("sub", "a", "-e", "x", "a", "b", "--private", "-e", "y", "--self", "-E")
        for topic in ("a", "b"):
            params = self.request("subscribe")
            self.assertEqual(params["topic"], topic)
            self.assertEqual(params["private"], True)
            self.assertEqual(params["broadcast"], {"self": True, "events": ["x", "y"]})
        self.assertEqual(run.end(), (0, [], ""))

    def test_trouble_is_told(self):
        run, c = self.ready()
        c.notify("connection", state="connecting", since=1)
        c.notify("connection", state="backoff", since=1, reason="lost", text="gone", next_try_ms=5)
        self.assertEqual(
            run.json(),
            {"type": "connection", "state": "backoff", "code": "lost", "text": "gone", "retry_in_ms": 5},
        )
        c.notify("connection", state="connecting", since=1)
        c.notify("connection", state="online", since=1)
        self.assertEqual(run.json(), {"type": "connection", "state": "online"})
        c.notify("channel", chan=1, topic="room:1", private=False, state="rejoining", code="x", text="y")
        self.assertEqual(
            run.json(), {"type": "channel", "topic": "room:1", "state": "rejoining", "code": "x", "text": "y"}
        )
        c.notify("channel", chan=1, topic="room:1", private=False, state="ready")
        self.assertEqual(run.json(), {"type": "channel", "topic": "room:1", "state": "ready"})
        self.daemon.stop()
        notice = run.json()
        self.assertEqual((notice["type"], notice["state"]), ("state", "attaching"))
        self.daemon.listen()
        self.assertEqual(run.json(), {"type": "state", "state": "attached"})
        self.request("subscribe")
        self.notify(self.connection(), event="e", payload=2)
        self.assertEqual(run.json()["payload"], 2)
        run.process.terminate()
        self.assertEqual(run.end()[1], [])

    def test_verbose(self):
        run, c = self.ready("-v", "-E")
        code, lines, _ = run.end()
        self.assertEqual(code, 0)
        self.assertEqual([json.loads(line) for line in lines], [
            {"type": "connection", "state": "online"},
            {"type": "channel", "topic": "room:1", "state": "ready"},
        ])  # fmt: skip

    def test_rejected(self):
        def subscribe(connection, id, params):
            raise Error(300, "rejected", "Unauthorized")

        self.daemon.on["subscribe"] = subscribe
        code, lines, _ = self.run_cli("sub", "a", "b").end()
        self.assertEqual(code, 5)
        self.assertEqual(
            json.loads(lines[0]),
            {"type": "channel", "topic": "a", "state": "rejected", "code": "rejected", "text": "Unauthorized"},
        )

    def test_a_limit_is_no_policy(self):
        def subscribe(connection, id, params):
            if params["topic"] in refused:
                raise Error(*refused[params["topic"]])
            return {"chan": 1, "topic": params["topic"], "private": False, "state": "ready"}

        self.daemon.on["subscribe"] = subscribe
        full, denied = (207, "too_many", "no connection has room ([limits] links)"), (300, "rejected", "Unauthorized")
        for refused, code in (({"a": full, "b": full}, 6), ({"a": full}, 6), ({"a": full, "b": denied}, 5)):
            with self.subTest(refused):
                got, _, errors = self.run_cli("sub", "a", "b", "-E").end()
                self.assertEqual(got, code)
                errors = errors.split("\n")
                self.assertEqual(errors[0], "rtbridge: cannot join a: no connection has room ([limits] links) (too_many)")
                self.assertEqual(len(errors), len(refused))
                self.assertEqual("policies" in errors[-1], code == 5)

    def test_bad_topic(self):
        self.assertEqual(self.run_cli("sub", "rtbridge:x").end()[0], 2)

    def test_time_over(self):
        run, c = self.ready("-W", "2", "-C", "2")
        self.notify(c, event="e", payload=1)
        self.assertEqual(run.json()["payload"], 1)
        code, _, errors = run.end()
        self.assertEqual(code, 27)
        self.assertIn("1 messages came within 2 s", errors)
        # Whether it has attached by then or not.
        self.assertEqual(self.run_cli("sub", "room:1", "-W", "0.05").end()[0], 27)

    def test_on_a_terminal(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        run, c = self.ready("-C", "2", stdout=theirs)
        os.close(theirs)
        c.notify("connection", state="backoff", since=1, reason="lost", text="gone\x1b[2J")
        self.notify(c, event="e\x1b", payload={"a": "\x9b"})
        self.notify(c, event="b", payload=b"xyz")
        code, _, errors = run.end()
        self.assertEqual(code, 0)
        text = os.read(ours, 4096).decode().replace("\r\n", "\n")
        self.assertRegex(text, r'^\d\d:\d\d:\d\d room:1 e\? \{"a":"\?"\}\n\S+ room:1 b binary of 3 bytes: eHl6\n$')
        self.assertRegex(errors, r"^\d\d:\d\d:\d\d -- connection backoff: gone\?\[2J$")

    def test_a_closed_pipe_is_no_drama(self):
        read, write = os.pipe()
        run, c = self.ready(stdout=write)
        os.close(write)
        os.close(read)
        self.notify(c, event="e", payload=1)
        code, _, errors = run.end()
        self.assertEqual((code, errors), (-signal.SIGPIPE, ""))


class Pub(Case):
    def test_outcomes(self):
        for outcome, code in (
            ("acked", 0), ("sent", 0), ("denied", 5), ("not_joined", 5), ("unknown", 7), ("too_big", 6),
            ("busy", 6), ("rate_limited", 6), ("unsupported", 6), ("expired", 27), ("bad_payload", 6), ("later", 7),
        ):  # fmt: skip
            with self.subTest(outcome):
                self.daemon.on["broadcast"] = lambda c, id, p: {"outcome": outcome, "text": "so"}
                got, lines, errors = self.run_cli("pub", "t", "e", '{"n":1}').end()
                self.assertEqual((got, lines, errors), (code, [outcome], "rtbridge: so"))
                got, lines, errors = self.run_cli("--json", "pub", "t", "e").end()
                self.assertEqual((got, errors), (code, ""))
                self.assertEqual(self.told(lines[0]), {"outcome": outcome, "text": "so"})

    def test_what_is_sent(self):
        code, lines, errors = self.run_cli("pub", "room:1", "hello", '{"n":1}', "--private", "--ttl", "500ms").end()
        self.assertEqual((code, lines, errors), (0, ["acked"], ""))
        self.assertEqual(
            self.sent(),
            {"topic": "room:1", "private": True, "event": "hello", "ttl_ms": 500, "payload": {"n": 1}},
        )
        self.assertEqual(self.run_cli("pub", "-q", "t", "e").end(), (0, [], ""))
        self.assertEqual(self.sent(), {"topic": "t", "event": "e", "payload": {}})

    def test_wrong_things(self):
        for args, code, outcome in (
            (["t", "e", "{"], 6, ["invalid"]),
            (["t", "e", '{"a":"' + "x" * 100000 + '"}'], 0, ["acked"]),
            (["", "e"], 2, []),
            (["t", "\n"], 2, []),
        ):
            with self.subTest(args[0:2]):
                got, lines, errors = self.run_cli("pub", *args).end()
                self.assertEqual((got, lines), (code, outcome))
                self.assertEqual(bool(errors), code != 0)

    def test_refused_by_the_daemon(self):
        def broadcast(connection, id, params):
            raise Error(203, "bad_payload", "at $.a")

        self.daemon.on["broadcast"] = broadcast
        self.assertEqual(self.run_cli("pub", "t", "e").end(), (6, ["invalid"], "rtbridge: at $.a (bad_payload)"))

    def test_words_of_the_daemon(self):
        many, budget = "no connection has room ([limits] links)", "2 joins have failed"
        advice = "with one more connection ([limits] links in the daemon's configuration) it would be tried apart, at once"
        for error, code, outcome, words in (
            (Error(207, "too_many", many), 6, "too_many", f"{many} (too_many)"),
            (Error(300, "rejected", "no"), 5, "not_joined", "no (rejected); see the policies of the project"),
            (Error(100, "busy", "a queue is full", 1500), 6, "busy", "a queue is full (busy); try again in 1.5 s"),
            (Error(103, "join_budget", budget, 250000), 6, "busy", f"{budget} (join_budget); try again in 250.0 s; {advice}"),
        ):

            def broadcast(connection, id, params):
                raise error

            self.daemon.on["broadcast"] = broadcast
            with self.subTest(outcome):
                self.assertEqual(self.run_cli("pub", "t", "e").end(), (code, [outcome], f"rtbridge: {words}"))
                got, lines, errors = self.run_cli("pub", "t", "e", "--json").end()
                told = {"outcome": outcome, "code": error.array[1], "text": error.array[2]}
                if error.array[3]:
                    told["retry_in_ms"] = error.array[3]
                self.assertEqual((got, self.told(lines[0]), errors), (code, told, ""))
                run = self.run_cli("pub", "-l", "t", "e", stdin=subprocess.PIPE)
                run.process.stdin.write("\n1\n")
                run.process.stdin.close()
                self.assertEqual(run.end(), (code, [outcome], f"rtbridge: line 2: {words}"))

    def test_daemon_goes_away(self):
        lost = "the connection to the daemon was lost before the answer, and the daemon knows no more of it"
        self.daemon.on["broadcast"] = lambda c, id, p: c.close()
        self.assertEqual(self.run_cli("pub", "t", "e").end(), (7, ["unknown"], "rtbridge: " + lost))
        self.daemon.features.remove("outcome")
        self.assertEqual(self.run_cli("pub", "t", "e").end(),
                         (7, ["unknown"], "rtbridge: the daemon went away before it answered"))  # fmt: skip

    def test_no_outcome_in_time(self):
        self.daemon.on["broadcast"] = lambda c, id, p: None
        code, lines, errors = self.run_cli("pub", "t", "e", "-W", "1").end()
        self.assertEqual((code, lines), (27, ["unknown"]))
        self.assertRegex(errors, r"^rtbridge: no answer within 1 s \(-W\); the message may have arrived\n"
                                 r"rtbridge: to ask what became of it: rtbridge outcome [0-9a-f-]+$")  # fmt: skip
        code, lines, _ = self.run_cli("pub", "t", "e", "-W", "1", "--json").end()
        self.assertEqual((code, self.told(lines[0])), (27, {"outcome": "unknown", "text": "no answer within 1 s (-W)"}))

    def test_interrupted(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            asked = queue.Queue()
            self.daemon.on["broadcast"] = lambda c, id, p: asked.put(p)
            run = self.run_cli("pub", "t", "e")
            name = asked.get(timeout=DEADLINE)["id"]
            run.process.send_signal(number)
            self.assertEqual(run.end(), (code, ["unknown"], "rtbridge: interrupted before the answer; the message may have arrived\n"
                                         f"rtbridge: to ask what became of it: rtbridge outcome {name}"))  # fmt: skip

    def test_the_daemon_is_silent(self):
        self.daemon.on["hello"] = lambda c, id, p: None
        self.assertEqual(self.run_cli("pub", "t", "e", "-W", "0.2").end(),
                         (27, [], "rtbridge: no answer within 0.2 s (-W) from the daemon; nothing was sent"))  # fmt: skip

    def test_lines_not_answered_in_time(self):
        self.daemon.on["broadcast"] = lambda c, id, p: {"outcome": "acked"} if p["payload"] in done else None
        for done, lines, words in (
            ((1,), ["acked", "unknown", "unknown"], "no answer within 1 s (-W) to 2 lines, of which line 2 is the first; they may have arrived"),
            ((2, 3), ["unknown", "acked", "acked"], "no answer within 1 s (-W) to line 1; it may have arrived"),
            ((1, 2, 3), ["acked"] * 3, "stdin has not ended within 1 s (-W)"),
        ):  # fmt: skip
            with self.subTest(done):
                run = self.run_cli("pub", "-l", "t", "e", "-W", "1", stdin=subprocess.PIPE)
                run.process.stdin.write("1\n2\n3\n")
                run.process.stdin.flush()
                self.assertEqual(run.end(), (27, lines, f"rtbridge: {words}"))

    def test_lines(self):
        run = self.run_cli("pub", "-l", "t", "e", stdin=subprocess.PIPE)
        n = 3000
        run.process.stdin.write("".join('{"i":%d}\n' % i for i in range(n)) + "\n  \n99")
        run.process.stdin.close()
        code, lines, errors = run.end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(lines, ["acked"] * (n + 1))
        sent = [self.request("broadcast") for _ in range(n + 1)]
        self.assertEqual([p["payload"] for p in sent], [{"i": i} for i in range(n)] + [99])
        self.assertEqual(len({p["id"] for p in sent}), n + 1)

    def test_lines_are_pipelined_and_bounded(self):
        waiting = queue.Queue()
        self.daemon.on["broadcast"] = lambda c, id, p: waiting.put((c, id, p["payload"]))
        run = self.run_cli("pub", "-l", "t", "e", "--json", stdin=subprocess.PIPE)
        run.process.stdin.write("".join("%d\n" % i for i in range(300)))
        run.process.stdin.close()
        first = [waiting.get(timeout=DEADLINE) for _ in range(256)]
        self.assertRaises(queue.Empty, waiting.get, timeout=0.1)
        for c, id, i in reversed(first):
            c.answer(id, {"outcome": "denied" if i == 5 else "acked"})
        for _ in range(44):
            c, id, i = waiting.get(timeout=DEADLINE)
            c.answer(id, {"outcome": "expired"})
        code, lines, _ = run.end()
        self.assertEqual(code, 5)
        self.assertEqual([json.loads(line)["line"] for line in lines], list(range(1, 301)))
        self.assertEqual(self.told(lines[5]), {"outcome": "denied", "line": 6})

    def test_lines_with_a_bad_one(self):
        run = self.run_cli("pub", "-l", "t", "e", stdin=subprocess.PIPE)
        run.process.stdin.write("1\n{\n3\n")
        run.process.stdin.close()
        code, lines, errors = run.end()
        self.assertEqual((code, lines), (6, ["acked", "invalid", "acked"]))
        self.assertIn("line 2: bad payload", errors)

    def test_lines_all_bad(self):
        run = self.run_cli("pub", "-l", "t", "e", stdin=subprocess.PIPE)
        run.process.stdin.write("{\n" * 1000)
        run.process.stdin.close()
        self.assertEqual(run.end()[0:2], (6, ["invalid"] * 1000))

    def test_lines_over_a_restart(self):
        seen = queue.Queue()

        def broadcast(connection, id, params):
            seen.put(params["payload"])
            return {"outcome": "acked"} if params["payload"] != 2 else None

        self.daemon.on["broadcast"] = broadcast
        self.daemon.features.remove("outcome")
        run = self.run_cli("pub", "-l", "t", "e", stdin=subprocess.PIPE)
        run.process.stdin.write("1\n2\n")
        run.process.stdin.flush()
        self.assertEqual([seen.get(timeout=DEADLINE) for _ in range(2)], [1, 2])
        self.daemon.stop()
        self.assertEqual([run.line(), run.line()], ["acked", "unknown"])
        run.process.stdin.write("3\n")
        run.process.stdin.close()
        self.daemon.listen()
        code, lines, _ = run.end()
        self.assertEqual((code, lines), (7, ["acked"]))
        self.assertEqual(seen.get(timeout=DEADLINE), 3)


class Waiting(Case):
    """Nothing comes, and the daemon's status knows why."""

    WORDS = "waits to be tried out"

    def say(self, connection=None, **about):
        others = [{"topic": "t", "private": False, "state": "ready", "code": "", "text": ""},
                  {"topic": "t", "private": True, "state": "joining", "code": "other", "text": "the private one"},
                  {"topic": "t2", "private": False, "state": "joining", "code": "other", "text": "another one"}]  # fmt: skip
        channel = {"topic": "t", "private": False, "state": "joining", **about}
        status = {"connection": connection or {"state": "online"}, "channels": [*others, channel]}
        self.daemon.on["status"] = lambda c, id, p: status

    def wait(self, *args, words="", **said):
        self.say(**said)
        run = self.run_cli(*args)
        run.wait_error(words)
        return run

    def test_pub(self):
        self.daemon.on["broadcast"] = lambda c, id, p: waiting.put((c, id))
        waiting = queue.Queue()
        line = f"rtbridge: t is not joined yet: {self.WORDS} (probation)"
        for retry, first, last in (
            ({}, "; see `rtbridge status`", ""),
            ({"retry_in_ms": 59990}, "; next try in 60.0 s; see `rtbridge status`", "; try again in "),
        ):
            run = self.wait("pub", "t", "e", "--ttl", "10ms", words="(probation)", code="probation", text=self.WORDS, **retry)
            connection, id = waiting.get(timeout=DEADLINE)
            connection.answer(id, {"outcome": "expired", "text": self.WORDS})
            code, lines, errors = run.end()
            self.assertEqual((code, lines), (27, ["expired"]))
            told, end = errors.split("\n")
            self.assertEqual(told, line + first)
            self.assertTrue(end.startswith(f"rtbridge: {self.WORDS} (probation){last}"), end)
            self.assertEqual("again" in end, bool(retry))
        run = self.wait("pub", "t", "e", "--ttl", "10ms", "--json", words="(join_budget); next try in 250.0 s; with one more connection",
                        code="join_budget", text="too many", retry_in_ms=250000)  # fmt: skip
        connection, id = waiting.get(timeout=DEADLINE)
        connection.answer(id, {"outcome": "expired", "text": "too many"})
        told = self.told(run.end()[1][0])
        self.assertTrue(200000 < told.pop("retry_in_ms") <= 250000)
        self.assertEqual(told, {"outcome": "expired", "code": "join_budget", "text": "too many"})

    def test_pub_without_a_connection(self):
        self.daemon.on["broadcast"] = lambda c, id, p: waiting.put((c, id))
        waiting = queue.Queue()
        connection = {"state": "backoff", "reason": "dns", "text": "no such host", "next_try_ms": 1500}
        run = self.wait("pub", "t", "e", "--ttl", "10ms", connection=connection,
                        words="t is not joined yet: the daemon's connection to the server is backoff: no such host; next try in 1.5 s")  # fmt: skip
        connection, id = waiting.get(timeout=DEADLINE)
        connection.answer(id, {"outcome": "expired", "text": "not in time"})
        self.assertEqual(run.end()[2].split("\n")[1], "rtbridge: not in time")

    def test_what_is_joined_is_no_news(self):
        asked = queue.Queue()
        self.daemon.on["status"] = lambda c, id, p: asked.put((c, id))
        self.daemon.on["broadcast"] = lambda c, id, p: asked.put((c, id))
        run = self.run_cli("pub", "t", "e", "--ttl", "10ms")
        (connection, send), (_, status) = asked.get(timeout=DEADLINE), asked.get(timeout=DEADLINE)
        connection.answer(status, {"connection": {"state": "online"}, "channels": [{"topic": "t", "private": False, "state": "joined"}]})
        connection.answer(send, {"outcome": "acked"})
        self.assertEqual(run.end(), (0, ["acked"], ""))
        # What is said after the outcome is not told any more.
        run = self.run_cli("pub", "-l", "t", "e", "--ttl", "10ms", stdin=subprocess.PIPE)
        run.process.stdin.write("1\n")
        run.process.stdin.flush()
        (connection, send), (_, status) = asked.get(timeout=DEADLINE), asked.get(timeout=DEADLINE)
        connection.answer(send, {"outcome": "acked"})
        connection.answer(status, {"connection": {"state": "backoff"}})
        run.process.stdin.close()
        self.assertEqual(run.end(), (0, ["acked"], ""))

    def test_others(self):
        """-W makes them look sooner."""
        for method in ("subscribe", "track"):
            self.daemon.on[method] = lambda c, id, p: None
        for said, words in (({"code": "probation", "text": self.WORDS}, f"{self.WORDS} (probation); see"),
                            ({}, "the server has not answered; see")):  # fmt: skip
            self.say(**said)
            runs = [self.run_cli(*verb, "-W", "2") for verb in (
                ["sub", "t"], ["presence", "t", "ls"], ["presence", "t", "watch"], ["presence", "t", "track"])]  # fmt: skip
            for run in runs:
                code, _, errors = run.end()
                self.assertEqual((code, errors.count("\n")), (27, 1), errors)
                self.assertTrue(errors.startswith(f"rtbridge: t is not joined yet: {words}"), errors)


STATUS = {
    "server": {"name": "rtbridged", "version": "0.1.0", "pid": 5, "uptime_ms": 9},
    "connection": {"state": "online", "since": 1700000000000},
    "url": "wss://host/realtime/v1/websocket",
    "vsn": "2.0.0",
    "links": [{"link": 0, "state": "online", "since": 1700000000000, "why": "shared", "joins": 2, "rtt_ms": 41},
              {"link": 1, "state": "connecting", "since": 1700000000000, "why": "one more tracker", "joins": 1,
               "rtt_ms": None, "uid": 1000}],
    "clients": [
        {"session": 3, "uid": 1000, "pid": 77, "name": "worker", "version": "2", "subscriptions": 1, "trackers": 4,
         "queued_bytes": 123},
        {"session": 70000, "uid": 0, "pid": 78, "name": "ev\x1bil", "version": "", "subscriptions": 0, "queued_bytes": 0},
    ],
    "channels": [
        {"chan": 1, "topic": "room:1", "private": False, "state": "ready", "link": 0, "subscribers": 1, "queued_sends": 0,
         "presence": "ok", "entries": 5, "trackers": 2, "shown": 2},
        {"chan": 2, "topic": "räum", "private": True, "state": "rejected", "link": 0, "subscribers": 1,
         "queued_sends": 0, "code": "rejected", "text": "Unauthorized"},
        {"chan": 3, "topic": "room:3", "private": False, "state": "ready", "link": 0, "subscribers": 1, "queued_sends": 0,
         "presence": "denied", "entries": 0, "trackers": 3, "shown": 2},
        {"chan": 4, "topic": "room:4", "private": False, "state": "ready", "link": 1, "subscribers": 1, "queued_sends": 0,
         "presence": "ok", "entries": 1, "trackers": 1},
    ],
    "feeds": [
        {"feed": 1, "link": 0, "state": "joined", "bindings": 2, "ready": True},
        {"feed": 2, "link": 1, "state": "joining", "bindings": 1, "ready": False, "chan": 3,
         "code": "database_connections", "text": "no c\x1bonnection left"},
    ],
    "postgres_changes": [
        {"id": 7, "binding": {"event": "INSERT", "schema": "public", "table": "todos", "filter": "prio=gt.3",
                              "select": ["id", "title"]}, "state": "ready", "feed": 1, "clients": 16, "rows": 1234},
        {"id": 8, "binding": {"schema": "pu\x1bblic"}, "state": "pending", "feed": 2, "clients": 1, "rows": 0,
         "code": "database_connections", "text": "no connection left"},
        {"id": 9, "binding": {"event": "*", "table": "nosuch"}, "state": "error", "clients": 2, "rows": 0,
         "code": "binding_refused", "text": "Unable to subscribe"},
        {"id": 10, "state": "ready", "feed": 1, "clients": 1, "rows": 5},
    ],
    "private_only": False,
    "counters": {"reconnects": 0},
}  # fmt: skip


class Ask(Case):
    """What those with the right admin may ask for."""

    def ask(self, method, answer, *args):
        def on(connection, id, params):
            if isinstance(answer, Error):
                raise answer
            return answer

        self.daemon.on[method] = on
        return self.run_cli(*args).end()

    def test_reconnect(self):
        state = {"state": "connecting", "since": 1700000000000, "reason": "closed", "text": "client 3 asked for it"}
        code, lines, errors = self.ask("reconnect", state, "reconnect")
        self.assertEqual((code, lines, errors), (0, ["connecting", "  closed: client 3 asked for it"], ""))
        code, lines, errors = self.ask("reconnect", state, "reconnect", "--json")
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(json.loads(lines[0]), {"type": "connection", "connection": state})

    def test_refresh_token(self):
        token = {"source": "refresh", "state": "good", "since": int(time.time() * 1000), "role": "authenticated"}
        code, lines, errors = self.ask("refresh_token", token, "refresh-token")
        self.assertEqual((code, lines, errors), (0, ["good 0s (refresh, authenticated)"], ""))
        code, lines, _ = self.ask("refresh_token", token, "refresh-token", "--json")
        self.assertEqual((code, json.loads(lines[0])), (0, {"type": "token", "token": token}))
        token.update(state="denied", code="login_needed", text="log in again")
        code, lines, _ = self.ask("refresh_token", token, "refresh-token")
        self.assertEqual((code, lines), (1, ["denied 0s (refresh, authenticated): login_needed: log in again"]))

    def test_refused(self):
        for number, name, want in (
            (301, "forbidden", 5),
            (205, "unsupported", 6),
            (204, "unknown_method", 6),
            (100, "busy", 6),
            (101, "timeout", 27),
        ):
            for verb, method in ("reconnect", "reconnect"), ("refresh-token", "refresh_token"):
                with self.subTest(verb=verb, name=name):
                    code, lines, errors = self.ask(method, Error(number, name, "these words"), verb)
                    self.assertEqual((code, lines), (want, []))
                    self.assertIn("these words", errors)

    def test_no_answer(self):
        self.daemon.on["refresh_token"] = lambda c, id, p: None
        code, _, errors = self.run_cli("refresh-token", "-W", "0.1").end()
        self.assertEqual(code, 27)
        self.assertIn("no answer from the daemon within 0.1 s", errors)


class Status(Case):
    def status(self, *args, **changes):
        self.daemon.on["status"] = lambda c, id, p: {**STATUS, **changes}
        return self.run_cli(*args).end()

    def run_raw(self, **changes):
        """Its text; not UTF-8 throughout: an error."""
        self.daemon.on["status"] = lambda c, id, p: {**STATUS, **changes}
        return subprocess.run([COMMAND, "-s", self.daemon.path, "status"], stdout=subprocess.PIPE, check=True,
                              timeout=DEADLINE).stdout.decode()  # fmt: skip

    def test_when_it_is_tried_again(self):
        channel = {"chan": 1, "topic": "t", "private": True, "state": "joining", "link": 0, "subscribers": 1, "queued_sends": 0}
        for members, reason in [({"code": "join_budget", "text": "2 joins", "retry_in_ms": 4249}, "join_budget: 2 joins; next try in 4.2 s"),
                                ({"code": "probation", "retry_in_ms": 0}, "probation; next try in 0.0 s"),
                                ({"retry_in_ms": 900}, "next try in 0.9 s")]:  # fmt: skip
            with self.subTest(reason=reason):
                _, lines, _ = self.status(channels=[dict(channel, **members)])
                [line] = [line for line in lines if line.startswith("1 ") and " private " in line]
                self.assertRegex(line, " 0 +" + re.escape(reason) + "$")

    def test_for_people(self):
        code, lines, errors = self.status()
        self.assertEqual((code, errors), (0, ""))
        self.assertRegex(lines[0], r"^online \d+d\d+h wss://host/realtime/v1/websocket channels=4 clients=2 bindings=4 rtt=41ms$")
        text = "\n".join(lines)
        self.assertRegex(text, r"LINK +STATE.*\n0 +online +\d+d\d+h +2 +41 +- +shared\n")
        self.assertRegex(text, r"\n1 +connecting +\d+d\d+h +1 +- +1000 +one more tracker\n")
        self.assertRegex(text, r"\n1     room:1  public   ready +0 +1 +ok, 5 there +2 +0 *\n")
        self.assertRegex(text, r"\n3     room:3  public   ready +0 +1 +denied +2 of 3 +0 *\n")
        self.assertRegex(text, r"\n4     room:4  public   ready +1 +1 +ok, 1 there +1 +0 *\n")
        self.assertRegex(text, r"\n2     räum    private  rejected .* rejected: Unauthorized\n")
        self.assertRegex(text, r"\nBINDING +EVENT +TABLE +FILTER +COLUMNS +STATE +FEED +CLIENTS +ROWS +REASON\n")
        self.assertRegex(text, r"\n7 +INSERT +public\.todos +prio=gt\.3 +id,title +ready +1 +16 +1234 *\n")
        self.assertRegex(text, r"\n8 +\* +pu\?blic\.\* +- +- +pending +2 +1 +0 +database_connections: no connection left\n")
        self.assertRegex(text, r"\n9 +\* +\*\.nosuch +- +- +error +- +2 +0 +binding_refused: Unable to subscribe\n")
        self.assertRegex(text, r"\n10 +- +\(too long to show\) +- +- +ready +1 +1 +5 *\n")
        self.assertRegex(text, r"\nFEED +LINK +STATE +CHAN +BINDINGS +READY +REASON\n1 +0 +joined +- +2 +yes *\n")
        self.assertRegex(text, r"\n2 +1 +joining +3 +1 +no +database_connections: no c\?onnection left\n")
        self.assertNotIn("private_only", text)
        self.assertRegex(text, r"\n3 +1000 +77 +worker +2 +1 +4 +123\n")
        self.assertRegex(text, r"\n70000 +0 +78 +ev\?il +- +0 +- +0$")
        self.assertNotIn("\x1b", text)

    def test_what_is_wrong(self):
        conn = {"state": "backoff", "since": 1700000000000, "reason": "dns", "text": "no such host", "next_try_ms": 3200}
        code, lines, _ = self.status("status", connection=conn)
        self.assertEqual(code, 4)
        self.assertTrue(lines[0].startswith("backoff "))
        self.assertEqual(lines[1], "  dns: no such host; next try in 3.2 s")
        self.assertEqual(self.status(connection={"state": "idle"}, clients=[], links=[], channels=[])[0], 0)

    def test_what_is_going_on(self):
        for conn, line in (
            ({"state": "connecting", "text": "the connection is being opened"}, "  the connection is being opened"),
            ({"state": "idle", "text": "closed, because nothing is joined"}, "  closed, because nothing is joined"),
            ({"state": "stalled", "text": "with the join of t (uid 1000) before it"},
             "  with the join of t (uid 1000) before it"),
            ({"state": "backoff", "next_try_ms": 900}, "  next try in 0.9 s"),
        ):
            with self.subTest(conn=conn):
                code, lines, _ = self.status(connection=conn, links=[])
                self.assertEqual(code, 0 if conn["state"] == "idle" else 4)
                self.assertEqual(lines[1], line)
        code, lines, _ = self.status(connection={"state": "online"}, channels=[], links=[])
        self.assertEqual((code, lines[1]), (0, ""))

    def test_a_further_link_that_is_down(self):
        link = {"link": 1, "state": "backoff", "joins": 2, "why": "x", "reason": "lost", "text": "br\x1boken", "next_try_ms": 1500}
        code, lines, _ = self.status(links=[{"link": 0, "state": "online", "joins": 0, "why": "shared"}, link])
        self.assertEqual(code, 0)
        self.assertIn("  link 1:  lost: br?oken; next try in 1.5 s", lines)

    def test_the_daemons_own_token(self):
        now = int(time.time())
        token = {"source": "command", "state": "good", "since": (now - 180) * 1000, "role": "service_role",
                 "expires": now + 3600, "next_try_ms": 3000000}  # fmt: skip
        _, lines, _ = self.status(token=token)
        self.assertRegex(lines[1], r"^  token good 3m\d\ds \(command, service_role\), until [-0-9: ]+, in (59m\d\ds|1h00m)$")
        _, lines, _ = self.status(token={**token, "state": "late", "expires": now + 240, "next_try_ms": 12000,
                                         "code": "command_failed", "text": "it ended\x1b with 1"})  # fmt: skip
        self.assertRegex(lines[1], r"^  token late .*: command_failed: it ended\? with 1; next try in 12\.0 s$")
        _, lines, _ = self.status(token={"source": "file", "state": "waiting", "since": now * 1000, "next_try_ms": 0})
        self.assertRegex(lines[1], r"^  token waiting \ds \(file\): next try in 0\.0 s$")
        self.assertNotIn("token", "\n".join(self.status()[1]))

    def test_http_that_is_not_reached(self):
        code, lines, _ = self.status(http={"requests": 0, "text": "Connection\x1b refused", "next_try_ms": 4000})
        self.assertEqual(code, 0)
        self.assertIn("  cannot send by HTTP: Connection? refused; next try in 4.0 s", lines[:3])
        self.assertNotIn("HTTP", "\n".join(self.status(http={"requests": 3})[1]))

    def test_without_database_changes(self):
        code, lines, _ = self.status(feeds=[], postgres_changes=[])
        self.assertEqual(code, 0)
        self.assertRegex(lines[0], r" clients=2 rtt=41ms$")
        self.assertNotIn("FEED", "\n".join(lines))
        self.assertNotIn("BINDING", "\n".join(lines))

    def test_long_texts_are_cut_between_characters(self):
        def binding(filter, names, text):
            return {"id": 7, "binding": {"table": "t", "filter": filter, "select": names}, "state": "error",
                    "clients": 1, "rows": 0, "code": "c", "text": text}  # fmt: skip

        # The room is 511 bytes: what fits stays whole, and of each remainder of a character nothing is left.
        for shift in range(4):
            for letter in ("é", "…", "𝄞"):
                long = "x" * shift + letter * 600
                bindings = [binding(long, ["n"], long), binding(long[:100], ["n"], long[:100])]
                with self.subTest(shift=shift, letter=letter):
                    run = self.run_raw(postgres_changes=bindings)
                    cut = next(w for line in run.splitlines() for w in line.split() if w.startswith(long[:100]))
                    self.assertEqual(cut, long[: len(cut) - 1] + "…")
                    self.assertGreater(len(cut.encode()), 505)
                    self.assertEqual(run.count(" c: " + cut + "\n"), 1)
                    self.assertIn(f" {long[:100]} ", run)
        fits = "é" * 255 + "x"
        self.assertIn(f" {fits} ", self.run_raw(postgres_changes=[binding(fits, ["n"], "")]))

    def test_columns_are_cut_between_names(self):
        def columns(names):
            run = self.run_raw(feeds=[], postgres_changes=[
                {"id": 7, "binding": {"table": "t", "select": names}, "state": "ready", "clients": 1, "rows": 0}])  # fmt: skip
            line = next(line for line in run.splitlines() if line.startswith("7 "))
            return line.split()[4]

        self.assertEqual(columns(["é" * 30] * 40), ",".join(["é" * 30] * 8) + ",…")
        self.assertEqual(columns(["é" * 30] * 8), ",".join(["é" * 30] * 8))
        self.assertEqual(columns(["é" * 127 + "x", "b"]), "é" * 127 + "x,b")
        self.assertEqual(columns([]), "-")

    def test_private_only(self):
        self.assertIn("database changes need private channels here", "\n".join(self.status(private_only=True)[1]))

    def test_identities(self):
        soon = int(time.time()) + 750
        identities = [{"identity": 1, "role": "authentic\x1bated", "state": "accepted", "expires": soon, "clients": 2,
                       "channels": 1},
                      {"identity": 2, "role": "x", "state": "unproven", "expires": 1700000000, "clients": 1, "channels": 0},
                      {"identity": 3, "role": "y", "state": "unproven"}]  # fmt: skip
        channels = [{**STATUS["channels"][0], "identity": 0}, {**STATUS["channels"][0], "chan": 2, "identity": 1}]
        code, lines, _ = self.status(identities=identities, channels=channels, admin=True)
        text = "\n".join(lines)
        self.assertEqual(code, 0)
        self.assertRegex(text, r"\nIDENTITY +ROLE +STATE +EXPIRES +CLIENTS +CHANNELS\n")
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(soon))
        self.assertRegex(text, rf"\n1 +authentic\?ated +accepted +{clock}, in 12m\d\ds +2 +1 *\n")
        self.assertRegex(text, r"\n2 +x +unproven +2023-11-1\d \d\d:\d\d:\d\d, \d+d\d+h ago +1 +0 *\n")
        self.assertRegex(text, r"\n3 +y +unproven +- +- +- *\n")
        self.assertRegex(text, r"\nCHAN +TOPIC +ACCESS +IDENTITY +STATE ")
        self.assertRegex(text, r"\n1 +room:1 +public +0 +ready ")
        self.assertRegex(text, r"\n2 +room:1 +public +1 +ready ")
        self.assertNotIn("the right admin", text)
        # Where nobody has a token of its own there is nothing to tell apart.
        text = "\n".join(self.status(identities=[], channels=channels[:1], admin=False)[1])
        self.assertNotIn("IDENTITY", text)
        self.assertRegex(text, "\nonly what this user may know of; the right admin .* shows all$")

    def test_parts(self):
        for part, head in (("channels", "CHAN +TOPIC"), ("clients", "SESSION +UID")):
            with self.subTest(part):
                code, lines, errors = self.status(part)
                self.assertEqual((code, errors, len(lines)), (0, "", len(STATUS[part]) + 1))
                self.assertRegex(lines[0], "^" + head)
                code, lines, errors = self.status(part, "--json")
                self.assertEqual((code, errors, len(lines)), (0, "", 1))
                self.assertEqual(json.loads(lines[0]), {"type": part, part: STATUS[part]})
                self.assertEqual(self.status(part, **{part: []})[:2], (0, []))
                self.assertEqual(self.status(part, connection={"state": "backoff"})[0], 4)

    def test_json(self):
        code, lines, errors = self.status("status", "--json")
        self.assertEqual((code, errors, len(lines)), (0, "", 1))
        self.assertTrue(lines[0].startswith('{"type":"status",'))
        self.assertEqual(json.loads(lines[0]), {"type": "status", **STATUS})

    def test_no_answer(self):
        self.daemon.on["status"] = lambda c, id, p: None
        code, _, errors = self.run_cli("status", "-W", "0.1").end()
        self.assertEqual(code, 27)
        self.assertTrue(re.search("no answer", errors))


if __name__ == "__main__":
    unittest.main()
