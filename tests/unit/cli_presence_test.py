# SPDX-License-Identifier: MIT
"""Presence in the rtbridge command, against a played daemon: cli_presence_test.py COMMAND"""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import unittest

from cli_fake import Error
from cli_run import DEADLINE, Case, Run

ALICE = {"key": "alice", "ref": "r1", "state": {"n": 1}}
BOB = {"key": "bob", "ref": "r2", "state": {"n": 2}}


class Presence(Case):
    """Terminals, and notifications of presence."""

    def notify(self, connection, **params):
        connection.notify("presence", chan=1, topic="room:1", **params)

    def channel(self, connection, **params):
        connection.notify("channel", chan=1, topic="room:1", private=False, **params)

    def told(self, connection, **params):
        connection.notify("track", chan=1, topic="room:1", private=False, key="made", **params)

    def ready(self, *args, **kw):
        run = self.run_cli(*args, **kw)
        connection = self.connection()
        self.asked = self.request("subscribe")
        return run, connection

    def terminal(self):
        """Our end; and the other one, to be closed once the command has it."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        return ours, theirs

    def on_terminal(self, *args):
        """Starts it there. Return: the run, the connection, a function that reads all that it wrote, times cut off."""
        ours, theirs = self.terminal()
        run, connection = self.ready(*args, stdout=theirs)
        os.close(theirs)

        def text():
            data = b""
            try:
                while True:
                    data += os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                pass
            return re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", data.decode().replace("\r\n", "\n"))

        return run, connection, text


class Sub(Presence):
    def test_presence_among_messages(self):
        self.daemon.presence["snapshot"] = [BOB, ALICE]
        run, c = self.ready("sub", "room:1", "--presence", "-C", "4")
        self.assertEqual(self.asked["presence"], {})
        self.notify(c, join=[{"key": "eve", "ref": "r3", "state": {}}])
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
        self.notify(c, leave=[{"key": "eve", "ref": "r3", "state": {}}],
                    update=[{"key": "bob", "prev": "r2", "ref": "r4", "state": {"n": 3}}])  # fmt: skip
        code, lines, errors = run.end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual([json.loads(line) for line in lines], [
            {"type": "presence", "topic": "room:1", "event": "sync", "entries": [ALICE, BOB]},
            {"type": "presence", "topic": "room:1", "event": "join", "key": "eve", "ref": "r3", "state": {}},
            {"type": "broadcast", "topic": "room:1", "event": "e", "payload": 1},
            {"type": "presence", "topic": "room:1", "event": "leave", "key": "eve", "ref": "r3", "state": {}},
            {"type": "presence", "topic": "room:1", "event": "update", "key": "bob", "ref": "r4", "state": {"n": 3},
             "previous": {"n": 2}},
        ])  # fmt: skip

    def test_only_when_asked_for(self):
        run, c = self.ready("sub", "room:1", "-C", "1")
        self.assertNotIn("presence", self.asked)
        self.notify(c, sync=[ALICE])
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
        self.assertEqual([json.loads(line)["type"] for line in run.end()[1]], ["broadcast"])

    def test_denied_and_overflow(self):
        for state in ("denied", "overflow"):
            with self.subTest(state):
                self.daemon.presence = {"state": state, "snapshot": []}
                run, c = self.ready("sub", "room:1", "--presence", "-C", "1")
                c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
                code, lines, _ = run.end()
                self.assertEqual((code, len(lines)), (0, 2))
                self.assertEqual(json.loads(lines[0]), {"type": "presence", "topic": "room:1", "event": state})

    def test_gap(self):
        run, c = self.ready("sub", "room:1", "-C", "1")
        self.channel(c, state="rejoining", code="connection", text="lost")
        c.notify("gap", chan=1, topic="room:1", **{"from": 1700000000000, "to": 1700000000500, "cause": "connection"})
        self.channel(c, state="ready")
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
        code, lines, errors = run.end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual([json.loads(line)["type"] for line in lines], ["channel", "gap", "channel", "broadcast"])
        self.assertEqual(
            json.loads(lines[1]),
            {"type": "gap", "topic": "room:1", "from": 1700000000000, "to": 1700000000500, "cause": "connection"},
        )

    def test_on_a_terminal(self):
        self.daemon.presence["snapshot"] = [ALICE]
        run, c, text = self.on_terminal("sub", "room:1", "--presence", "-C", "3")
        c.notify("gap", chan=1, topic="room:1", **{"from": 1700000000000, "to": 1700000000500, "cause": "restarting"})
        self.notify(c, join=[{"key": "", "ref": "x", "state": {"a": "\x9b"}}])
        self.notify(c, update=[{"key": "alice", "prev": "r1", "ref": "r4", "state": {"n": 3}}])
        self.notify(c, leave=[{"key": "alice", "ref": "r4", "state": {"n": 3}}])
        code, _, errors = run.end()
        self.assertEqual(code, 0)
        self.assertRegex(
            errors,
            r"^\d\d:\d\d:\d\d -- gap room:1: messages may have been missed from \S{8} to \S{8} \(restarting\)$",
        )
        self.assertEqual(text(), (
            'room:1 [sync] 1 there\n'
            'room:1 [there] alice {"n":1}\n'
            'room:1 [join] - {"a":"?"}\n'
            'room:1 [update] alice {"n":3}, was {"n":1}\n'
            'room:1 [leave] alice {"n":3}\n'
        ))  # fmt: skip


class Ls(Presence):
    def test_who_is_there(self):
        self.daemon.presence["snapshot"] = [BOB, ALICE]
        run, _ = self.ready("presence", "room:1", "ls", "--private")
        self.assertEqual((self.asked["private"], self.asked["broadcast"]), (True, {"events": []}))
        code, lines, errors = run.end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(lines[0], '{"key":"alice","ref":"r1","state":{"n":1}}')
        self.assertEqual([json.loads(line) for line in lines], [ALICE, BOB])

    def test_nobody(self):
        self.assertEqual(self.run_cli("presence", "room:1", "ls").end(), (0, [], ""))
        run, _, text = self.on_terminal("presence", "room:1", "ls")
        self.assertEqual((*run.end(), text()), (0, [], "nobody is there", ""))

    def test_once_it_is_known(self):
        self.daemon.presence["state"] = "pending"
        run, c = self.ready("presence", "room:1", "ls")
        c.notify("connection", state="backoff", since=1, reason="lost", text="gone")
        self.notify(c, sync=[ALICE])
        code, lines, errors = run.end()
        self.assertEqual((code, [json.loads(line) for line in lines]), (0, [ALICE]))
        self.assertRegex(errors, "-- connection backoff: gone$")  # not among the entries

    def test_on_a_terminal(self):
        self.daemon.presence["snapshot"] = [ALICE, {"key": "m\x1b", "ref": "r12", "state": {}}]
        run, _, text = self.on_terminal("presence", "room:1", "ls")
        self.assertEqual(run.end()[0], 0)
        self.assertEqual(text(), 'alice  r1   {"n":1}\nm?     r12  {}\n')

    def test_not_to_be_known(self):
        for state, code, words in (("denied", 5, "policies"), ("overflow", 6, r"\[limits\] presence")):
            with self.subTest(state):
                self.daemon.presence = {"state": state, "snapshot": []}
                got, lines, errors = self.run_cli("presence", "room:1", "ls").end()
                self.assertEqual((got, lines), (code, []))
                self.assertRegex(errors, "^rtbridge: cannot see who is in room:1: .*" + words)

    def test_rejected(self):
        def subscribe(connection, id, params):
            raise Error(300, "rejected", "Unauthorized")

        self.daemon.on["subscribe"] = subscribe
        code, lines, errors = self.run_cli("presence", "room:1", "ls").end()
        self.assertEqual((code, lines), (5, []))
        self.assertIn("cannot join room:1: Unauthorized (rejected); see the policies", errors)

    def test_a_limit_is_no_policy(self):
        def subscribe(connection, id, params):
            raise Error(207, "too_many", "no connection has room ([limits] links)")

        self.daemon.on["subscribe"] = subscribe
        code, lines, errors = self.run_cli("presence", "room:1", "ls").end()
        self.assertEqual((code, lines), (6, []))
        self.assertEqual(errors, "rtbridge: cannot join room:1: no connection has room ([limits] links) (too_many)")

    def test_time_over(self):
        self.daemon.presence["state"] = "pending"
        code, lines, errors = self.run_cli("presence", "room:1", "ls", "-W", "0.1").end()
        self.assertEqual((code, lines), (27, []))
        self.assertIn("not known within 0.1 s", errors)

    def test_bad_topic(self):
        self.assertEqual(self.run_cli("presence", "rtbridge:x", "ls").end()[0], 2)


class Watch(Presence):
    def test_snapshot_then_changes(self):
        self.daemon.presence["snapshot"] = [ALICE]
        run, c = self.ready("presence", "room:1", "watch", "-C", "2")
        self.assertEqual(self.asked["broadcast"], {"events": []})
        self.assertEqual(run.json(), {"type": "presence", "topic": "room:1", "event": "sync", "entries": [ALICE]})
        self.notify(c, join=[BOB])
        self.assertEqual(run.json(), {"type": "presence", "topic": "room:1", "event": "join", **BOB})
        self.notify(c, leave=[BOB], join=[])
        code, lines, _ = run.end()
        self.assertEqual((code, len(lines)), (0, 1))
        self.assertEqual(json.loads(lines[0])["event"], "leave")

    def test_until_stopped(self):
        run, _ = self.ready("presence", "room:1", "watch")
        self.assertEqual(run.json()["entries"], [])
        run.process.terminate()
        self.assertEqual(run.end()[0], 143)

    def test_denied(self):
        self.daemon.presence["state"] = "denied"
        code, lines, errors = self.run_cli("presence", "room:1", "watch").end()
        self.assertEqual(code, 5)
        self.assertRegex(errors, "^rtbridge: cannot see who is in room:1: denied; see the policies")
        self.assertEqual([json.loads(line)["event"] for line in lines], ["denied"])

    def test_time_over(self):
        code, _, errors = self.run_cli("presence", "room:1", "watch", "-W", "0.2", "-C", "1").end()
        self.assertEqual(code, 27)
        self.assertIn("0 changes came within 0.2 s", errors)
        # Without a number of changes, who is there is enough.
        code, lines, errors = self.run_cli("presence", "room:1", "watch", "-W", "2").end()
        self.assertEqual((code, len(lines), errors), (0, 1, ""))


class Tracks(Presence):
    def shown(self, run, key="made"):
        self.assertEqual(run.json(), {"type": "track", "topic": "room:1", "state": "shown", "key": key})


class Track(Tracks):
    def test_until_stopped(self):
        run = self.run_cli("presence", "room:1", "track", '{"n":1}')
        self.shown(run)
        params = self.request("track")
        self.assertNotIn("key", params)
        self.assertEqual((params["topic"], params["private"]), ("room:1", False))
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(run.end(), (130, [], ""))
        self.daemon.gone.get(timeout=DEADLINE)

    def test_options(self):
        run = self.run_cli("presence", "room:1", "track", "--key", "alice", "--private")
        self.shown(run, "alice")
        self.assertEqual(self.request("track"), {"topic": "room:1", "private": True, "key": "alice", "state": {}})
        run.process.terminate()
        self.assertEqual(run.end()[0], 143)

    def test_throttled(self):
        answers = [{"outcome": "throttled", "key": "k", "retry_in_ms": 20, "text": "so"}, {"outcome": "acked", "key": "k"}]
        self.daemon.on["track"] = lambda c, id, p: answers.pop(0)
        run = self.run_cli("presence", "room:1", "track")
        line = run.json()
        self.assertGreater(line.pop("retry_in_ms"), 0)
        self.assertEqual(line, {"type": "track", "topic": "room:1", "state": "throttled", "key": "k", "text": "so"})
        self.shown(run, "k")
        run.process.terminate()
        run.end()

    def test_refused(self):
        sentence = "another client is shown, and [presence] trackers = refuse allows one"
        for error, code, advice in (((210, "presence_taken", sentence), 6, ""),
                                    ((300, "rejected", "Unauthorized"), 5, "; see the policies of the project")):  # fmt: skip
            with self.subTest(error):
                def track(connection, id, params):
                    raise Error(*error)

                self.daemon.on["track"] = track
                got, lines, errors = self.run_cli("presence", "room:1", "track").end()
                self.assertEqual((got, errors), (code, f"rtbridge: cannot be shown in room:1: {error[2]} ({error[1]}){advice}"))
                self.assertEqual([json.loads(line) for line in lines], [
                    {"type": "track", "topic": "room:1", "state": "refused", "code": error[1], "text": error[2]}
                ])  # fmt: skip

    def test_denied_by_the_policies(self):
        self.daemon.on["track"] = lambda c, id, p: {"outcome": "denied", "key": "k", "text": "no"}
        code, lines, _ = self.run_cli("presence", "room:1", "track").end()
        self.assertEqual((code, json.loads(lines[0])["code"]), (5, "denied"))

    def test_refused_later(self):
        run = self.run_cli("presence", "room:1", "track")
        self.shown(run)
        error = [300, "rejected", "closed over it", None]
        self.connection().send([2, "error", {"method": "track", "chan": 1, "topic": "room:1", "error": error}])
        code, lines, _ = run.end()
        self.assertEqual((code, json.loads(lines[0])["text"]), (5, "closed over it"))

    def test_on_a_terminal(self):
        def track(connection, id, params):
            raise Error(210, "presence_taken", "another one is shown\x1b")

        ours, theirs = self.terminal()
        run = self.run_cli("presence", "room:1", "track", "--key", "a", stdout=theirs)
        self.assertRegex(os.read(ours, 1000).decode(), r"^\d\d:\d\d:\d\d room:1 shown as a\r\n$")
        run.process.terminate()
        self.assertEqual(run.end()[0], 143)
        self.daemon.on["track"] = track
        run = self.run_cli("presence", "room:1", "track", stdout=theirs)
        os.close(theirs)
        code, _, errors = run.end()
        self.assertEqual(code, 6)
        self.assertRegex(errors, r"^rtbridge: cannot be shown in room:1: another one is shown\? \(presence_taken\)$")

    def test_wrong_things(self):
        for args, code, words in (
            (["{"], 6, ": the state is not JSON: .* at byte 1$"),
            (["[1]"], 6, ': a state is a JSON object, like {"n":1}$'),
            (['{"a":"' + "x" * 70000 + '"}'], 6, "at most 65536 bytes"),
            (["--key", "a\n"], 2, r'under the key "a\?": bad presence key'),
            (["--key", "a\n", "-"], 2, r'under the key "a\?": bad presence key'),
        ):
            with self.subTest(args[0][:5]):
                got, lines, errors = self.run_cli("presence", "room:1", "track", *args).end()
                self.assertEqual((got, lines), (code, []))
                self.assertRegex(errors, "^rtbridge: cannot be shown.*" + words)
                self.assertEqual(Run(None, "presence", "room:1", "track", *args).end()[0], code)  # needs no daemon

    def test_time_is_over(self):
        self.assertEqual(self.run_cli("presence", "room:1", "track", "-W", "2").end()[0], 0)
        self.daemon.on["track"] = lambda c, id, p: None
        code, _, errors = self.run_cli("presence", "room:1", "track", "-W", "0.1").end()
        self.assertEqual(code, 27)
        self.assertIn("not shown in room:1 within 0.1 s", errors)

    def test_over_a_restart(self):
        run = self.run_cli("presence", "room:1", "track", '{"n":1}')
        self.shown(run)
        self.request("track")
        self.daemon.stop()
        self.assertEqual(run.json()["state"], "attaching")
        self.daemon.listen()
        self.assertEqual(self.request("track")["state"], {"n": 1})
        self.assertEqual(run.json(), {"type": "state", "state": "attached"})
        self.shown(run)
        run.process.terminate()
        self.assertEqual(run.end()[0:2], (143, []))

    def test_over_an_interruption_behind_the_daemon(self):
        run = self.run_cli("presence", "room:1", "track")
        c = self.connection()
        self.shown(run)
        self.told(c, outcome="queued", text="the connection is gone")
        self.assertEqual(run.json(), {"type": "track", "topic": "room:1", "state": "pending", "key": "made",
                                      "code": "queued", "text": "the connection is gone"})  # fmt: skip
        self.told(c, outcome="acked")
        self.shown(run)
        run.process.terminate()
        self.assertEqual(run.end(), (143, [], ""))


class TrackLines(Tracks):
    """States from stdin."""

    def track(self, *args):
        run = self.run_cli("presence", "room:1", "track", *args, stdin=subprocess.PIPE)
        return run

    def say(self, run, text):
        run.process.stdin.write(text)
        run.process.stdin.flush()

    def test_each_line_is_a_state(self):
        for args in (["-"], ["--stdin"]):
            run = self.track(*args)
            for state in ({"n": 1}, {"n": 2}):
                self.say(run, "\n" + json.dumps(state) + "\n")
                self.shown(run)
                self.assertEqual(self.request("track")["state"], state)
            run.process.stdin.close()
            self.assertEqual(run.end(), (0, [], ""))

    def test_the_first_from_the_command_line(self):
        run = self.track('{"n":1}', "-")
        self.shown(run)
        self.assertEqual(self.request("track")["state"], {"n": 1})
        self.say(run, '{"n":2}\n')
        self.shown(run)
        run.process.terminate()
        self.assertEqual(run.end()[0], 143)

    def test_bad_lines(self):
        run = self.track("-")
        self.say(run, '{"n":\n{"n":1}\n')
        self.shown(run)
        self.say(run, "[]\n")
        run.process.stdin.close()
        code, lines, errors = run.end()
        self.assertEqual((code, lines), (6, []))
        self.assertRegex(errors, r"^rtbridge: line 1: the state is not JSON: .* at byte \d+\nrtbridge: line 3: a state is a JSON object, .*$")
        self.assertEqual(self.request("track")["state"], {"n": 1})
        self.assertTrue(all(name != "track" for name, _ in self.daemon.requests.queue))

    def test_the_end_waits_for_the_last_state(self):
        asked = []
        self.daemon.on["track"] = lambda c, id, p: asked.append((c, id, p["state"]))
        run = self.track("-")
        self.say(run, '{"n":1}')  # a last line without its end
        run.process.stdin.close()
        self.request("track")
        c, id, state = asked[0]
        self.assertEqual((state, run.process.poll()), ({"n": 1}, None))
        c.answer(id, {"outcome": "acked", "key": "made"})
        self.shown(run)
        self.assertEqual(run.end()[0], 0)

    def test_no_state_at_all(self):
        run = self.track("-")
        run.process.stdin.close()
        self.assertEqual(run.end(), (1, [], "rtbridge: no state came on stdin"))


class Command(Presence):
    """track ... -- CMD"""

    def track(self, *command, options=(), **kw):
        return self.run_cli("presence", "room:1", "track", '{"n":1}', *options, "--", *command, **kw)

    def test_there_while_it_runs(self):
        run = self.track("sh", "-c", 'echo "$0 $1"; read x; echo "$x"; exit 7', "-C", "--key", stdin=subprocess.PIPE)
        self.assertEqual(self.request("track")["state"], {"n": 1})
        self.assertEqual(run.line(), "-C --key")
        self.assertTrue(self.daemon.gone.empty())
        run.process.stdin.write("its stdin\n")
        run.process.stdin.close()
        self.assertEqual(run.end(), (7, ["its stdin"], ""))
        self.daemon.gone.get(timeout=DEADLINE)

    def test_it_ends_too_early(self):
        self.daemon.on["track"] = lambda c, id, p: {"outcome": "throttled", "key": "k", "retry_in_ms": 60000}
        run = self.track("sh", "-c", "read x; exit 3", stdin=subprocess.PIPE)
        run.wait_error("throttled as k")
        run.process.stdin.close()
        code, lines, errors = run.end()
        self.assertEqual((code, lines), (3, []))
        self.assertEqual(errors.split("\n")[1:], ["rtbridge: sh ended before its presence was shown in room:1"])

    def test_interrupted(self):
        run = self.track("cat", stdin=subprocess.PIPE)
        self.request("track")
        c = self.connection()
        self.told(c, outcome="queued", text="the connection is gone")
        run.wait_error("-- presence room:1 pending as made: the connection is gone")
        self.told(c, outcome="acked")
        run.wait_error("-- presence room:1 shown as made")
        run.process.stdin.close()
        self.assertEqual(run.end()[0:2], (0, []))

    def test_how_it_ends(self):
        for command, code in (
            (["true"], 0),
            (["sh", "-c", "kill -KILL $$"], 137),
            (["sh", "-c", "kill -TERM $$; exit 0"], 143),  # no signal is blocked in it
            (["/nonexistent/program"], 127),
            (["no-such-program-anywhere"], 127),
            (["/"], 126),
        ):
            with self.subTest(command):
                got, _, errors = self.track(*command).end()
                self.assertEqual(got, code)
                self.assertEqual("cannot run" in errors, code in (126, 127))

    # Says what came when it is asked by SIGTERM.
    COUNTER = """
import signal, sys
got = []
signal.signal(signal.SIGINT, lambda *a: (got.append("int"), print("int", flush=True)))
def end(*a):
    print(*got)
    sys.exit(9)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""

    def test_signals_go_to_it(self):
        run = self.track(sys.executable, "-c", self.COUNTER)
        self.assertEqual(run.line(), "up")
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(run.line(), "int")
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.end()[0:2], (9, ["int"]))

    def test_the_terminal_tells_it_itself(self):
        """Ctrl-C goes to all of the foreground: what is forwarded, too, would come twice."""
        ours, theirs = self.terminal()
        run = self.track(sys.executable, "-c", self.COUNTER, stdin=theirs, start_new_session=True,
                         preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # fmt: skip
        os.close(theirs)
        self.assertEqual(run.line(), "up")
        # Late enough that a second one would not melt into the first.
        run.process.send_signal(signal.SIGSTOP)
        os.write(ours, b"\x03")
        self.assertEqual(run.line(), "int")
        run.process.send_signal(signal.SIGTERM)  # handled behind a SIGINT that is there
        run.process.send_signal(signal.SIGCONT)
        self.assertEqual(run.end()[0:2], (9, ["int"]))

    def test_without_a_daemon_at_first(self):
        self.daemon.stop()
        run = self.track("sh", "-c", "echo up; read x; exit 3", stdin=subprocess.PIPE)
        self.assertEqual(run.line(), "up")
        run.wait_error("-- state attaching")
        self.daemon.listen()
        self.assertEqual(self.request("track")["state"], {"n": 1})
        run.process.stdin.close()
        self.assertEqual(run.end()[0], 3)

    def test_the_daemon_refuses_us(self):
        def hello(connection, id, params):
            told.append(connection)
            raise Error(407, "denied", "uid 5 may not attach")

        told = []
        self.daemon.on["hello"] = hello
        run = self.track("sh", "-c", "read x; exit 3", stdin=subprocess.PIPE)
        self.request("hello")
        self.daemon.gone.get(timeout=DEADLINE)
        run.process.stdin.close()
        code, _, errors = run.end()
        self.assertEqual((code, len(told)), (3, 1))
        self.assertRegex(errors, "^rtbridge: cannot be shown in room:1: .*uid 5 may not attach.*; the command runs on$")

    def test_presence_is_refused(self):
        def track(connection, id, params):
            raise Error(210, "presence_taken", "another one is shown")

        self.daemon.on["track"] = track
        run = self.track("sh", "-c", "read x; exit 3", stdin=subprocess.PIPE)
        self.request("track")
        self.connection().notify("connection", state="backoff", since=1, text="a marker")
        run.wait_error("a marker")
        run.process.stdin.close()
        self.assertEqual(run.end()[0], 3)
        self.assertEqual(run.errors[0], "rtbridge: cannot be shown in room:1: another one is shown (presence_taken)")

    def test_a_later_state_is_tried_again(self):
        """After a refusal, because its cause may be gone."""

        def track(connection, id, params):
            if params["state"] == {"n": 1}:
                raise Error(210, "presence_taken", "another one is shown")
            return {"outcome": "acked", "key": "k"}

        self.daemon.on["track"] = track
        run = self.track("sleep", "600", options=["-v", "-"], stdin=subprocess.PIPE)
        run.wait_error("presence_taken")
        run.process.stdin.write('{"n":2}\n')
        run.process.stdin.flush()
        run.wait_error("presence room:1 shown as k")
        run.process.terminate()
        self.assertEqual(run.end()[0], 143)

    def test_told_with_verbose(self):
        run = self.track("cat", options=["-v", "--key", "k"], stdin=subprocess.PIPE)
        run.wait_error("shown")
        run.process.stdin.close()
        code, lines, errors = run.end()
        self.assertEqual((code, lines), (0, []))
        self.assertRegex(errors, r"(?m)^\S+ -- presence room:1 shown as k$")

    def test_states_are_ours_then(self):
        """Not its: it has an empty stdin. It goes on when ours ends."""
        fifo = os.path.join(self.daemon.dir.name, "fifo")
        os.mkfifo(fifo)
        run = self.track("sh", "-c", f"wc -c; read x < {fifo}; exit 4", options=["--stdin"], stdin=subprocess.PIPE)
        self.assertEqual(self.request("track")["state"], {"n": 1})
        self.assertEqual(run.line(), "0")
        run.process.stdin.write('{"n":2}\n')
        run.process.stdin.close()
        self.assertEqual(self.request("track")["state"], {"n": 2})
        with open(fifo, "w") as f:
            f.write("go\n")
        self.assertEqual(run.end()[0:2], (4, []))

    def test_a_bad_state_is_said_before(self):
        code, lines, errors = self.run_cli("presence", "room:1", "track", "{", "--", "echo", "x").end()
        self.assertEqual((code, lines), (6, []))
        self.assertIn("the state is not JSON: ", errors)


if __name__ == "__main__":
    unittest.main()
