#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the rtbridge command says when something is refused or waits: in words of the real daemon, with what to do about it."""

import os
import signal
import subprocess
import time
import unittest

from rtbtest.auth import Bearers
from rtbtest.story import binary
from rtbtest.wait import DEADLINE


class Words(Bearers):
    rules = ["deny * write topic closed:*", "deny * read table secret.*"]
    policies = "read anon allowed:*\nwrite anon allowed:*\n"

    def cli(self, *args, daemon=None):
        """Exit code, stdout, stderr."""
        env = {name: value for name, value in os.environ.items() if name != "RTBRIDGE_TOKEN_FILE"}
        run = subprocess.run([binary("rtbridge"), "-s", (daemon or self.daemon).socket, *args], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=DEADLINE, env=env)  # fmt: skip
        return run.returncode, run.stdout, run.stderr

    def token_file(self, token):
        path = os.path.join(self.daemon.dir, "token")
        with open(path, "w", encoding="utf-8") as f:
            os.chmod(f.fileno(), 0o600)
            f.write(token + "\n")
        self.addCleanup(os.unlink, path)
        return path

    def test_the_access_rules(self):
        advice = r"\(forbidden\); see the access rules \(\[access\]\) in the daemon's configuration\n"
        for args, out in ((("pub", "closed:1", "e"), "denied\n"), (("sub", "--pg", "secret.t"), "")):
            with self.subTest(args):
                code, lines, errors = self.cli(*args)
                self.assertEqual(code, 5)
                self.assertRegex(errors, advice)
                self.assertTrue(lines.startswith(out), lines)
        self.assertEqual(self.cli("pub", "--ws", "open:1", "e"), (0, "acked\n", ""))

    def test_a_token_of_its_own(self):
        daemon = self.enterContext(self.another(sections={"access": {"rule": ["allow * read,write,presence topic *"],
                                                                     "identity": "own *"}}))  # fmt: skip
        for args in (("pub", "t", "e"), ("sub", "t"), ("presence", "t", "ls"), ("presence", "t", "track")):
            with self.subTest(args):
                code, _, errors = self.cli(*args, daemon=daemon)
                self.assertEqual(code, 5)
                self.assertTrue(errors.endswith(" (forbidden); give one by --token-file FILE or $RTBRIDGE_TOKEN_FILE\n"), errors)
        path = self.token_file(self.token("ann"))
        self.assertEqual(self.cli("pub", "--ws", "t", "e", "--token-file", path, daemon=daemon), (0, "acked\n", ""))

    def test_bad_tokens(self):
        path = self.token_file(self.token("ann", exp=int(time.time()) - 60))
        for args in (("pub", "t", "e"), ("sub", "t")):
            code, out, errors = self.cli(*args, "--token-file", path)
            self.assertEqual((code, out), (5, ""))
            self.assertRegex(errors, f"^rtbridge: cannot attach: .*expired.*; put another token into {path}\n$")
        token = self.token("ann")
        code, out, errors = self.cli("pub", "t", "e", "--token-file", token)
        self.assertEqual((code, out), (1, ""))
        self.assertIn("this looks like a token itself", errors)
        self.assertNotIn(token.split(".")[1], errors)

    def test_too_many_failures(self):
        daemon = self.enterContext(self.another(sections={"limits": {"links": "1"}}))
        for i in range(2):
            code, _, errors = self.cli("sub", "--private", f"no:{i}", daemon=daemon)
            self.assertEqual(code, 5)
            self.assertTrue(errors.endswith(" (rejected); see the policies of the project\n"), errors)
        code, out, errors = self.cli("pub", "--ws", "--private", "no:2", "e", "--ttl", "2s", daemon=daemon)
        self.assertEqual((code, out), (27, "expired\n"))
        waiting, expired = errors.splitlines()
        self.assertRegex(waiting, r"^rtbridge: no:2 is not joined yet: .* have failed.* \(join_budget\);.*\(\[limits\] links ")
        self.assertRegex(expired, r"^rtbridge: .* have failed.* \(join_budget\);.*\(\[limits\] links ")
        code, out, errors = self.cli("sub", "--private", "no:3", "-W", "2", daemon=daemon)
        self.assertEqual(code, 27)
        self.assertIn('"code":"join_budget"', out)
        self.assertRegex(errors, r"^rtbridge: no:3 joining: .* \(join_budget\); next try in \d+\.\d s; .*\(\[limits\] links ")

    def test_a_daemon_that_does_not_answer(self):
        daemon = self.enterContext(self.another())
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            code, out, errors = self.cli("pub", "t", "e", "-W", "0.5", daemon=daemon)
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        self.assertEqual((code, out), (27, ""))
        self.assertEqual(errors, "rtbridge: no answer within 0.5 s (-W) from the daemon; nothing was sent\n")


if __name__ == "__main__":
    unittest.main()
