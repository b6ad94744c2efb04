# SPDX-License-Identifier: MIT
"""Presence by the rtbridge command, through the real daemon: who is seen, by whom, and when no more."""

import json
import queue
import random
import signal
import subprocess
import threading
import unittest

from rtbtest.story import Story, binary
from rtbtest.wait import DEADLINE


class Run:
    """The command. Its lines are JSON, for its stdout is no terminal."""

    def __init__(self, daemon, *args, stdin=subprocess.DEVNULL):
        self.process = subprocess.Popen([binary("rtbridge"), "-s", daemon.socket, *args], stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.lines, self.errors = queue.Queue(), []
        self.threads = [threading.Thread(target=self.read, args=a, daemon=True)
                        for a in ((self.process.stdout, self.lines.put), (self.process.stderr, self.errors.append))]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def read(stream, put):
        for line in stream:
            put(line.rstrip("\n"))

    def json(self):
        return json.loads(self.lines.get(timeout=DEADLINE))

    def wait(self, **members):
        """The next line that has these members."""
        while True:
            line = self.json()
            if members.items() <= line.items():
                return line

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self, plain=False):
        """Exit code, the lines not yet taken, stderr."""
        code = self.process.wait(DEADLINE)
        for thread in self.threads:
            thread.join(DEADLINE)
        self.close()
        lines = [line if plain else json.loads(line) for line in self.lines.queue]
        return code, lines, "\n".join(self.errors)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


class PresenceCommand(Story):
    def setUp(self):
        self.topic = f"cli:{random.randrange(10 ** 9)}"

    def run_cli(self, *args, daemon=None, **kw):
        run = Run(daemon or self.daemon, *args, **kw)
        self.addCleanup(run.close)
        return run

    def presence(self, *args, **kw):
        return self.run_cli("presence", self.topic, *args, **kw)

    def watch(self, **kw):
        run = self.presence("watch", **kw)
        self.assertEqual(run.wait(type="presence")["entries"], [])
        return run

    def shown(self, *args, **kw):
        run = self.presence("track", *args, **kw)
        run.wait(type="track", state="shown")
        return run

    def wait_server(self, want):
        self.server.wait_presence("realtime:" + self.topic, want)

    def test_two_and_one_killed(self):
        watch = self.watch()
        alice = self.shown('{"n":1}', "--key", "alice")
        bob = self.shown('{"n":2}', "--key", "bob")
        watch.wait(event="join", key="alice", state={"n": 1})
        watch.wait(event="join", key="bob", state={"n": 2})
        self.wait_server({"alice": [{"n": 1}], "bob": [{"n": 2}]})
        code, lines, errors = self.presence("ls").end()
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual([(e["key"], e["state"]) for e in lines], [("alice", {"n": 1}), ("bob", {"n": 2})])
        status = "\n".join(self.run_cli("status").end(plain=True)[1])
        self.assertRegex(status, rf"(?m)^1 +online .* in channel {self.topic}$")
        self.assertRegex(status, rf"(?m)^\d+ +{self.topic} .* ok, 2 there +2 ")
        alice.process.kill()
        watch.wait(event="leave", key="alice", state={"n": 1})
        self.wait_server({"bob": [{"n": 2}]})
        bob.process.send_signal(signal.SIGTERM)
        self.assertEqual(bob.end()[0], 143)
        watch.wait(event="leave", key="bob")
        self.assertEqual(self.presence("ls").end(), (0, [], ""))

    def test_states_from_stdin(self):
        run = self.run_cli("sub", self.topic, "--presence", "-C", "3")
        run.wait(event="sync")
        track = self.presence("track", "--key", "k", "-", stdin=subprocess.PIPE)
        track.say('{"n":1}\n')
        track.wait(state="shown")
        track.say('no json\n{"n":1.50}\n')
        track.process.stdin.close()
        code, lines, errors = track.end()
        # The daemon may pace the second one.
        self.assertIn([line["state"] for line in lines], (["shown"], ["throttled", "shown"]))
        self.assertEqual(code, 6)
        self.assertRegex(errors, "line 2: the state is not JSON: ")
        code, lines, _ = run.end()
        changes = [{k: line.get(k) for k in ("event", "state", "previous")} for line in lines if line["type"] == "presence"]
        self.assertEqual((code, changes), (0, [
            {"event": "join", "state": {"n": 1}, "previous": None},
            {"event": "update", "state": {"n": 1.5}, "previous": {"n": 1}},
            {"event": "leave", "state": {"n": 1.5}, "previous": None},
        ]))

    def test_around_a_command(self):
        watch = self.watch()
        track = self.presence("track", '{"job":7}', "--", "sh", "-c", "read x; exit 5", stdin=subprocess.PIPE)
        watch.wait(event="join", state={"job": 7})
        track.process.stdin.close()
        self.assertEqual(track.end()[0:2], (5, []))
        watch.wait(event="leave", state={"job": 7})
        self.wait_server({})

    def test_over_a_restart_of_the_daemon(self):
        with self.another() as daemon:
            watch = self.watch()
            track = self.shown('{"n":1}', "--key", "k", daemon=daemon)
            watch.wait(event="join", key="k")
            daemon.kill()
            watch.wait(event="leave", key="k")
            daemon.start()
            track.wait(state="shown")
            watch.wait(event="join", key="k", state={"n": 1})

    def test_told_of_an_interruption(self):
        track = self.shown("--key", "k")
        self.server.fault({"op": "close", "sockets": "all"})
        pending = track.wait(type="track", state="pending")
        self.assertEqual((pending["key"], pending["code"]), ("k", "queued"))
        self.assertTrue(pending["text"])
        track.wait(type="track", state="shown")

    def test_gap(self):
        run = self.run_cli("sub", self.topic, "--presence")
        run.wait(event="sync")
        self.server.fault({"op": "close", "sockets": "all"})
        self.assertEqual(run.wait(type="channel")["state"], "rejoining")
        gap = run.wait(type="gap")
        self.assertEqual((gap["topic"], gap["cause"]), (self.topic, "connection"))
        self.assertLessEqual(gap["from"], gap["to"])
        run.wait(type="channel", state="ready")

    def test_denied(self):
        self.server.fault({"op": "deny_presence", "topic": "realtime:" + self.topic, "read": True, "write": True})
        for verb, code in (("ls", 5), ("watch", 5), ("track", 5)):
            with self.subTest(verb):
                self.assertEqual(self.presence(verb).end()[0], code)

    def test_a_second_one_is_refused(self):
        with self.another(sections={"presence": {"trackers": "refuse"}}) as daemon:
            self.shown("--key", "first", daemon=daemon)
            code, lines, errors = self.presence("track", "--key", "second", daemon=daemon).end()
            self.assertEqual(code, 6)
            self.assertRegex(errors, r"^rtbridge: cannot be shown in \S+: .* \(presence_taken\)$")
            self.assertEqual((lines[0]["state"], lines[0]["code"]), ("refused", "presence_taken"))
            self.assertIn("[presence] trackers = refuse", lines[0]["text"])


if __name__ == "__main__":
    unittest.main()
