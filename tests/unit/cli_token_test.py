# SPDX-License-Identifier: MIT
"""--token-file of the rtbridge command, against a played daemon: cli_token_test.py COMMAND"""

import os
import tempfile
import unittest

from cli_fake import Error
from cli_run import Case, Run

A, B, C = (f"e30.e30.{name}-token" for name in ("first", "second", "third"))


class Token(Case):
    def setUp(self):
        super().setUp()
        self.dir = tempfile.TemporaryDirectory(prefix="rtb-token-")
        self.addCleanup(self.dir.cleanup)
        self.path = os.path.join(self.dir.name, "token")
        self.write(A + "\n")

    def write(self, text, mode=0o600):
        """As one replaces such a file: whole, or not at all."""
        with open(self.path + ".new", "w", encoding="utf-8") as f:
            os.chmod(f.fileno(), mode)
            f.write(text)
        os.rename(self.path + ".new", self.path)

    def run_with(self, *args, **kw):
        return self.run_cli(args[0], "--token-file", self.path, *args[1:], **kw)

    def sub(self, *args):
        run = self.run_with("sub", "t", *args)
        connection = self.connection()
        self.assertEqual(self.request("hello")["token"], A)
        self.request("subscribe")
        return run, connection

    def end_token(self, connection, text="it has expired"):
        connection.notify("broadcast", chan=1, topic="t", event="e", payload=1)
        connection.notify("channel", chan=1, topic="t", private=False, state="rejected", code="token_expired",
                          text=text)  # fmt: skip
        self.say_error(connection, text, method="auth", code="token_expired")

    def say_error(self, connection, text, **about):
        connection.send([2, "error", {"error": [211, "bad_token", text, None], **about}])

    def stop(self, run):
        run.process.terminate()
        code, lines, errors = run.end()
        self.assertEqual(code, 143)
        self.assertNotIn("-token", errors.replace(self.path, ""))
        return lines, errors


class File(Token):
    def refused(self, code, words, *args):
        got, lines, errors = self.run_with(*(args or ("sub", "t"))).end()
        self.assertEqual((got, lines), (code, []), errors)
        self.assertRegex(errors, words)
        self.assertNotIn("-token\n", errors + "\n")
        self.assertEqual(errors.count("\n"), 0, errors)

    def test_what_is_said(self):
        for text in (A, f" \t{A}\r\n\n"):
            self.write(text, 0o400)
            self.assertEqual(self.run_with("pub", "t", "e").end(), (0, ["acked"], ""))
            self.assertEqual(self.request("hello")["token"], A)
        self.assertEqual(self.run_cli("pub", "t", "e").end()[0], 0)
        self.assertNotIn("token", self.request("hello"))

    def test_from_the_environment(self):
        self.write(B)
        for env, args, token in ((self.path, (), B), ("", (), None), ("/nonexistent/x", ("--token-file", self.path), B)):
            run = self.run_cli("pub", "t", "e", *args, env={**os.environ, "RTBRIDGE_TOKEN_FILE": env})
            self.assertEqual(run.end()[0], 0)
            self.assertEqual(self.request("hello").get("token"), token)
        # Those that ask for nothing need none.
        self.daemon.on["status"] = lambda c, id, p: {"connection": {"state": "online"}}
        for verb in ("status", "channels", "clients"):
            run = self.run_cli(verb, env={**os.environ, "RTBRIDGE_TOKEN_FILE": "/nonexistent/x"})
            self.assertEqual(run.end()[0], 0)
            self.assertNotIn("token", self.request("hello"))

    def test_for_all_that_ask(self):
        for args in (("sub", "t", "-E"), ("pub", "t", "e"), ("presence", "t", "ls"),
                     ("presence", "t", "watch", "-W", "0.2"), ("presence", "t", "track", "-W", "0.2"),
                     ("presence", "t", "track", "--", "sleep", "0.2")):  # fmt: skip
            with self.subTest(args):
                run = self.run_with(*args)
                self.assertEqual(self.request("hello")["token"], A)
                self.assertEqual(run.end()[0], 0)

    def test_bad_files(self):
        self.write(A, 0o640)
        if os.getuid() != 0:
            self.refused(1, "mode 0640 lets others read the token; run: chmod 600 .*token$")
        self.write(A, 0o644)
        self.refused(1, "mode 0644 lets others read the token; run: chmod 600 .*token$")
        for text, words in (("", "empty"), (" \n", "empty"), (f"{A} {B}", "more than one word"), ("x" * 8193, "8 KiB"),
                            ("x" * 100000, "8 KiB"), ("a:b", "form of one")):  # fmt: skip
            self.write(text)
            self.refused(1, words)
        os.unlink(self.path)
        self.refused(1, "token: No such file")
        os.mkfifo(self.path, 0o600)
        self.refused(1, "not a regular file", "presence", "t", "track", "--", "echo", "it runs")

    def test_a_token_in_place_of_its_file(self):
        long = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJlc2lnbmF0dXJl"
        words = "rtbridge: cannot use the token: this looks like a token itself; write it to a file and name the file"
        for token in (long, long + "\n", "Bearer " + long, "eyJ" + "x" * 5000, "sb_secret_abcdefghijklmnop", "sb_publishable_abc",
                      "AbCdEfGhIjKl.AbCdEfGhIjKl.AbCdEfGhIjKl_-"):  # fmt: skip
            for args, env in ((["--token-file", token], ""), ([f"--token-file={token}"], "x"), ([], token)):
                with self.subTest(token=token[:40], args=len(args)):
                    run = self.run_cli("sub", "t", *args, env={**os.environ, "RTBRIDGE_TOKEN_FILE": env})
                    self.assertEqual(run.end(), (1, [], words))
        # A file is one whatever it is called, and a missing one is called by its name.
        for name in ("sb_token", "eyJ", "a-long-name.of-three-long.parts-in-all"):
            self.path = os.path.join(self.dir.name, name)
            self.write(A)
            run = self.run_cli("pub", "t", "e", "--token-file", name, cwd=self.dir.name)
            self.assertEqual(run.end()[0], 0)
        for name in ("my.own.jwt", "sb_tokens/mine", "two-long-parts.make-no-token"):
            errors = self.run_cli("pub", "t", "e", "--token-file", name, cwd=self.dir.name).end()[2]
            self.assertEqual(errors, f"rtbridge: cannot use the token: {name}: No such file or directory")

    def test_no_message_repeats_a_token(self):
        token = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9." + "x" * 300
        for args, words in ((["sub", token], r"cannot subscribe to \(a token\): bad topic"), ([token], r"unknown command \(a token\);"),
                            (["presence", "t", token], r"unknown: \(a token\);"), (["sub", "t", "-W", token], r"cannot use -W \(a token\):"),
                            (["-s", token[:100], "status"], r"cannot connect to \(a token\): No such file"),
                            (["pub", "t", "e", "--key", token], "does not take --key")):  # fmt: skip
            with self.subTest(words):
                code, lines, errors = self.run_cli(*args).end()
                self.assertNotEqual(code, 0)
                self.assertRegex(errors, words)
                self.assertNotIn("eyJ", errors)

    @unittest.skipIf(os.getuid() != 0, "only root makes files that are root's")
    def test_readable_for_a_group_of_root(self):
        self.write(A, 0o640)
        self.assertEqual(self.run_with("pub", "t", "e").end()[0], 0)
        self.assertEqual(self.request("hello")["token"], A)

    def test_refused_at_once(self):
        def hello(connection, id, params):
            raise Error(211, "bad_token", "the token has expired")

        self.daemon.on["hello"] = hello
        for args in (("sub", "t"), ("pub", "t", "e"), ("presence", "t", "track"), ("presence", "t", "ls")):
            with self.subTest(args):
                self.refused(5, "cannot attach: .*the token has expired; put another token into .*/token$", *args)

    def test_never_good(self):
        """Then there is nothing to wait for."""

        def subscribe(connection, id, params):
            self.say_error(connection, "it is forged", method="auth")
            raise Error(211, "bad_token", "it is forged")

        self.daemon.on["subscribe"] = subscribe
        code, _, errors = self.run_with("sub", "t").end()
        self.assertEqual((code, errors), (5, f"rtbridge: cannot join t: it is forged (bad_token); put another token into {self.path}"))

    def test_a_command_runs_all_the_same(self):
        def hello(connection, id, params):
            raise Error(211, "bad_token", "the token has expired")

        self.daemon.on["hello"] = hello
        run = self.run_with("presence", "t", "track", "--", "sh", "-c", "read x; echo $x", stdin=-1)
        run.wait_error("the token has expired (bad_token); waiting for another one in")
        run.process.stdin.write("it runs\n")
        run.process.stdin.flush()
        self.assertEqual(run.end()[:2], (0, ["it runs"]))


class Renewal(Token):
    def test_replaced_in_time(self):
        run, connection = self.sub("--json")
        self.write(B)
        self.assertEqual(self.request("auth"), {"token": B})
        run.wait_error(f"goes on with the new token in {self.path}, which ends 2")
        # Without another token in it there is nothing to say.
        self.write(B + "\n")
        self.write(C)
        self.assertEqual(self.request("auth"), {"token": C})
        connection.notify("broadcast", chan=1, topic="t", event="e", payload=1)
        self.assertEqual(run.json()["event"], "e")
        run.wait_error("goes on")
        lines, errors = self.stop(run)
        self.assertEqual((lines, errors.count("goes on")), ([], 2))

    def test_ended_and_replaced(self):
        run, connection = self.sub()
        self.end_token(connection)
        run.wait_error(f"the token has ended: it has expired (token_expired); waiting for another one in {self.path}")
        self.assertEqual(run.json()["type"], "broadcast")
        self.assertEqual(run.json(), {"type": "channel", "topic": "t", "state": "rejected", "code": "token_expired",
                                      "text": "it has expired"})  # fmt: skip
        self.write(B)
        self.assertEqual(self.request("auth"), {"token": B})
        self.request("subscribe")
        gap = run.json()
        while gap["type"] != "gap":
            gap = run.json()
        self.assertEqual(gap["cause"], "token_expired")
        self.assertEqual(run.json()["state"], "ready")
        self.stop(run)

    def test_replaced_before_it_ends(self):
        """The end is what makes it look, before its time has come."""
        run, connection = self.sub()
        self.write(B)
        self.end_token(connection)
        self.assertEqual(self.request("auth"), {"token": B})
        self.request("subscribe")
        run.wait_error("goes on with the new token")
        self.assertNotIn("waiting", self.stop(run)[1])

    def test_the_new_one_is_refused(self):
        def auth(connection, id, params):
            if params["token"] == B:
                raise Error(211, "bad_token", "the token is forged")
            return self.daemon.token

        self.daemon.on["auth"] = auth
        run, _ = self.sub()
        self.write(B)
        run.wait_error(f"cannot use the new token in {self.path}: the token is forged")
        self.write(A, 0o644)
        run.wait_error("mode 0644 lets others read the token")
        self.write(C)
        run.wait_error("goes on with the new token")
        self.stop(run)

    def test_over_a_restart(self):
        run, _ = self.sub()

        def hello(connection, id, params):
            if params["token"] == A:
                raise Error(211, "bad_token", "it has expired")
            return usual(connection, id, params)

        usual = self.daemon.on["hello"]
        self.daemon.on["hello"] = hello
        self.daemon.stop()
        self.daemon.listen()
        run.wait_error("waiting for another one in")
        self.write(B)
        self.connection()
        self.request("subscribe")
        run.wait_error("goes on with the new token")
        self.stop(run)

    def test_track(self):
        run = self.run_with("presence", "t", "track")
        connection = self.connection()
        self.assertEqual(run.json()["state"], "shown")
        self.say_error(connection, "it has expired", method="track", chan=1, topic="t", private=False)
        self.say_error(connection, "it has expired", method="auth")
        self.assertEqual(run.json()["state"], "refused")
        run.wait_error("waiting for another one in")
        self.write(B)
        states = [run.json()["state"]]
        while states[-1] != "shown":
            states.append(run.json()["state"])
        self.assertIn(states, (["shown"], ["pending", "shown"]))
        self.stop(run)

    def test_rows(self):
        run = self.run_with("sub", "--pg", "a.b", "-v")
        connection = self.connection()
        while run.json().get("state") != "ready":
            pass
        connection.notify("channel", chan=1, topic="", private=False, state="rejected", code="token_expired",
                          text="it has expired", postgres_changes=[])  # fmt: skip
        self.assertEqual(run.json()["code"], "token_expired")
        self.write(B)
        while run.json().get("state") != "ready":
            pass
        self.stop(run)


class Refused(Case):
    def test_codes(self):
        for error, words in (
            (Error(301, "forbidden", "not for you"),
             r"not for you \(forbidden\); see the access rules \(\[access\]\) in the daemon's configuration$"),
            (Error(301, "forbidden", "this user may act with a token of its own only, and gave none"),
             r"gave none \(forbidden\); give one by --token-file FILE or \$RTBRIDGE_TOKEN_FILE$"),
            (Error(211, "bad_token", "expired"), r"expired \(bad_token\); see --token-file$"),
            (Error(300, "rejected", "Unauthorized"), r"Unauthorized \(rejected\); see the policies of the project$"),
        ):

            def refuse(connection, id, params):
                raise error

            for method in ("subscribe", "broadcast", "track"):
                self.daemon.on[method] = refuse
            for args in (("sub", "t"), ("presence", "t", "ls"), ("pub", "t", "e"), ("presence", "t", "track"), ("sub", "--pg", "a.b")):
                with self.subTest(args):
                    code, _, errors = self.run_cli(*args).end()
                    self.assertEqual(code, 5)
                    self.assertRegex(errors, words)

    def test_forbidden_later(self):
        """The access rules have changed."""
        for chan, (args, topic) in enumerate(((("sub", "t"), "t"), (("sub", "--pg", "a.b"), "")), 1):
            with self.subTest(args):
                run = self.run_cli(*args, "-v", "--json")
                connection = self.connection()
                while run.json().get("state") != "ready":
                    pass
                connection.notify("channel", chan=chan, topic=topic, private=False, state="rejected", code="forbidden",
                                  text="not any more")  # fmt: skip
                code, _, errors = run.end()
                self.assertEqual(code, 5)
                self.assertRegex(errors, r"not any more \(forbidden\); see the access rules")

    def test_the_daemons_own(self):
        """Who has given no token can do nothing about it, but for saying it to who runs the daemon."""
        advice = ("; without --token-file that is the daemon's own token or key, for who runs the daemon to replace: see `rtbridge "
                  "status`, `rtbridged --check`")  # fmt: skip
        run = self.run_cli("sub", "t", "-v", "--json")
        connection = self.connection()
        while run.json().get("state") != "ready":
            pass
        connection.notify("channel", chan=1, topic="t", private=False, state="rejoining", code="token_missing", text="none yet",
                          retry_in_ms=4000)  # fmt: skip
        run.wait_error(f"t rejoining: none yet (token_missing); next try in 4.0 s{advice}")
        connection.notify("channel", chan=1, topic="t", private=False, state="rejected", code="token_expired", text="it has ended")
        code, _, errors = run.end()
        self.assertEqual(code, 5)
        self.assertTrue(errors.endswith(f"it has ended (token_expired){advice}"), errors)

    def test_status_begins_with_it(self):
        """A connection without a token that is good serves nobody who needs the daemon's."""
        token = {"source": "command", "since": 1700000000000, "code": "command_failed", "text": "it ended with 1"}
        for state in ("waiting", "late", "bad", "denied", "good"):
            status = {"connection": {"state": "online"}, "url": "wss://host/x", "token": dict(token, state=state)}
            self.daemon.on["status"] = lambda c, id, p, status=status: status
            with self.subTest(state):
                code, lines, _ = self.run_cli("status").end()
                words = "" if state == "good" else f" token={state}"
                self.assertEqual((code, lines[0]), (0, f"online - wss://host/x channels=0 clients=0{words}"))
                self.assertRegex(lines[1], f"^  token {state} .*: command_failed: it ended with 1$")

    def test_too_many_failures(self):
        """Those are waited out."""

        def subscribe(connection, id, params):
            self.daemon.on["subscribe"] = self.daemon.subscribe
            raise Error(103, "join_budget", "too many joins have failed", 1100)

        self.daemon.on["subscribe"] = subscribe
        run = self.run_cli("sub", "t", "-E", "--json")
        self.assertEqual(run.json(), {"type": "channel", "topic": "t", "state": "joining", "code": "join_budget",
                                      "text": "too many joins have failed", "retry_in_ms": 1100})  # fmt: skip
        self.assertEqual(run.json()["state"], "ready")
        self.assertEqual(run.end()[::2], (0, "rtbridge: t joining: too many joins have failed (join_budget); next try in 1.1 s; "
                                             "with one more connection ([limits] links in the daemon's configuration) it would be "
                                             "tried apart, at once"))  # fmt: skip
        self.daemon.on["subscribe"] = subscribe
        run = self.run_cli("presence", "t", "ls")
        run.wait_error("-- channel t joining: too many joins have failed; next try in 1.1 s; with one more connection")
        self.assertEqual(run.end()[0], 0)

    def test_usage(self):
        for args in (["status", "--token-file", "x"], ["channels", "more"], ["clients", "--token-file", "x"]):
            code, _, errors = Run(None, *args).end()
            self.assertEqual(code, 2)
            self.assertIn("see `rtbridge --help`", errors)


if __name__ == "__main__":
    unittest.main()
