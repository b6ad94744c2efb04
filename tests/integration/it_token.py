# SPDX-License-Identifier: MIT
"""The daemon's own token: where it comes from, what is done with it, and what happens when there is none."""

import json
import os
import signal
import unittest

from rtbtest.daemon import Daemon
from rtbtest.peer import Peer
from rtbtest.story import Story, binary
from rtbtest.wait import until


def put(path, text):
    """In one step, as who cares does it."""
    with open(path + ".new", "w") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(text)
    os.rename(path + ".new", path)


class TokenStory(Story):
    def with_token(self, **keys):
        """A daemon with these keys in [upstream], started when it is entered; {dir} is its folder."""
        daemon = self.make_daemon(start=False)
        self.addCleanup(daemon.remove)
        with open(daemon.config, "a") as f:
            f.write("[upstream]\n" + "".join(f"{k} = {v.format(dir=daemon.dir)}\n" for k, v in keys.items()))
        return daemon

    def token_of(self, daemon):
        with Peer(daemon.socket) as peer:
            return peer.status()["token"]

    def wait_token(self, daemon, state, code=None):
        return until(lambda: (lambda t: t if t["state"] == state and (code is None or t.get("code") == code) else None)(
            self.token_of(daemon)), lambda: f"the token is {state} ({code}); it is {self.token_of(daemon)}; {daemon.log_text()}")

    def join(self, daemon, topic):
        peer = self.peer(daemon)
        self.assertEqual(peer.subscribe(topic, private=True)["state"], "ready")
        return peer

    def subs(self, event, topic):
        return [e.get("sub") for e in self.server.log(event=event, topic="realtime:" + topic)]


class File(TokenStory):
    def test_replaced(self):
        daemon = self.with_token(token_file="{dir}/token")
        path = os.path.join(daemon.dir, "token")
        put(path, self.server.token(role="authenticated", sub="first"))
        daemon.start()
        self.wait_token(daemon, "good")
        self.join(daemon, "file:1")
        pushes = self.server.status()["access_tokens"]
        put(path, self.server.token(role="authenticated", sub="first", exp_in=7200))
        until(lambda: self.server.status()["access_tokens"] > pushes, "the channel is told")
        # Something that is no token keeps the old one, and says so.
        put(path, "nonsense")
        self.assertIn("cannot be used", self.wait_token(daemon, "late", "bad_token")["text"])
        self.join(daemon, "file:2")
        put(path, self.server.token(role="authenticated", sub="first", exp_in=9000))
        self.wait_token(daemon, "good")
        daemon.stop()

    def test_none_yet(self):
        """It starts, listens, and waits; nothing goes with the key instead."""
        daemon = self.with_token(token_file="{dir}/token")
        daemon.start()
        peer = self.peer(daemon)
        joins = self.server.status()["joins_ever"]
        id = peer.request("subscribe", {"topic": "none:1", "private": True, "timeout_ms": 60000})
        self.assertIn(self.token_of(daemon)["state"], ("waiting", "denied"))
        peer.status()
        self.assertEqual(self.server.status()["joins_ever"], joins)
        put(os.path.join(daemon.dir, "token"), self.server.token(role="authenticated", sub="late"))
        self.assertEqual(peer.result(id)["state"], "ready")
        daemon.stop()


    def test_causes_are_logged(self):
        """Each once, also when the code is the same; and what differs in a number alone is the same cause."""
        daemon = self.with_token(token_file="{dir}/token")
        path = os.path.join(daemon.dir, "token")
        put(path, "two words")
        daemon.start()
        self.wait_token(daemon, "waiting", "bad_file")
        for text, words in (("x" * 9000, "9000 bytes"), ("x" * 9001, "9001 bytes"), ("", "empty"), (" ", "empty")):
            put(path, text)
            until(lambda: words in self.token_of(daemon)["text"], lambda: f"{words}; {self.token_of(daemon)}")
        logged = daemon.log_text()
        for words, n in (("more than one word", 1), ("9000 bytes", 1), ("9001 bytes", 0), ("empty", 1)):
            self.assertEqual(logged.count(words), n, f"{words}: {logged}")
        os.unlink(path)
        self.assertIn("write the token into it", self.wait_token(daemon, "waiting", "no_token")["text"])
        daemon.stop()


class Command(TokenStory):
    def run_again(self, daemon, script, words):
        """What a command of these lines comes to, when the token's text has these words."""
        put(os.path.join(daemon.dir, "script"), script)
        daemon.reload()
        until(lambda: words in self.token_of(daemon).get("text", ""), lambda: f"{words}; {self.token_of(daemon)}")
        return self.token_of(daemon)

    def test_what_goes_wrong(self):
        """It is told with what to do; the token that is there serves on; and another script helps."""
        daemon = self.with_token(token_command="exec sh {dir}/script", token_timeout="2s")
        first, second = (self.server.token(role="authenticated", sub="wrong", exp_in=s) for s in (3600, 7200))
        put(os.path.join(daemon.dir, "script"), f"echo {first}")
        daemon.start()
        self.wait_token(daemon, "good")
        self.join(daemon, "wrong:1")
        # Each with a text of its own: that of the one before is still there for a while.
        cases = [("exit 7", "ended with status 7; run it by hand", "command_failed"),
                 (f"echo {second}; exit 1", "ended with status 1", "command_failed"),
                 ("echo; echo ' '", "printed nothing; it must print the token alone", "command_failed"),
                 (f"echo {second}; echo {second}", "printed more than one word; it must", "command_failed"),
                 ("while :; do echo x; done", "bytes; it must print the token alone", "command_failed"),
                 ("sleep 1000", "took longer than 2000 ms and was ended; see what it waits for", "command_failed"),
                 ("exit 3", "ended with status 3", "command_failed"),
                 ("trap '' TERM; sleep 1000", "more time (token_timeout)", "command_failed"),
                 ("kill -9 $$", "signal 9", "command_failed"),
                 ("{dir}/script", "may not run the program", "command_failed"),
                 ("{dir}/nowhere", "finds no such program", "command_failed"),
                 ("echo sb_secret_abcdefghijklmnop", "is an API key", "bad_token"),
                 ("echo nonsense", "give another one", "bad_token")]
        for script, words, code in cases:
            said = self.run_again(daemon, script.replace("{dir}", daemon.dir), words)
            self.assertEqual((said["state"], said["code"]), ("late", code), f"{script}: {said}")
        self.join(daemon, "wrong:2")
        pushes = self.server.status()["access_tokens"]
        self.run_again(daemon, f"echo; echo ' {second} '", "")
        self.wait_token(daemon, "good")
        until(lambda: self.server.status()["access_tokens"] > pushes, "the channels are told")
        self.assertNotIn("eyJ", daemon.log_text())
        daemon.stop()

    def test_not_executable(self):
        """At the start, too: it waits, and goes on as soon as the program can be run."""
        daemon = self.with_token(token_command="{dir}/program")
        path = os.path.join(daemon.dir, "program")
        put(path, f"#!/bin/sh\necho {self.server.token(role='authenticated', sub='run')}\n")
        daemon.start()
        self.assertIn("may not run the program", self.wait_token(daemon, "waiting", "command_failed")["text"])
        os.chmod(path, 0o700)
        self.wait_token(daemon, "good")
        daemon.stop()

    def test_command(self):
        daemon = self.with_token(token_command="cat {dir}/out; echo something >&2; exit $(cat {dir}/status)")
        put(os.path.join(daemon.dir, "out"), self.server.token(role="authenticated", sub="run"))
        put(os.path.join(daemon.dir, "status"), "0")
        daemon.start()
        self.wait_token(daemon, "good")
        self.join(daemon, "command:1")
        put(os.path.join(daemon.dir, "status"), "3")
        with Peer(daemon.socket) as peer:
            said = peer.call("refresh_token", {})
        self.assertEqual(said["state"], "late", said)
        self.assertIn("3", said["text"])
        put(os.path.join(daemon.dir, "status"), "0")
        put(os.path.join(daemon.dir, "out"), self.server.token(role="authenticated", sub="run", exp_in=7200))
        daemon.reload()
        self.wait_token(daemon, "good")
        daemon.stop()


class Refresh(TokenStory):
    def session(self, **more):
        session = self.server.session(sub="user", **more)
        daemon = self.with_token(refresh_token_file="{dir}/seed", auth_url=self.server.auth_url, state_dir="{dir}/state",
                                 token_timeout="2s")
        put(os.path.join(daemon.dir, "seed"), session.refresh_token)
        return session, daemon

    def kept(self, daemon):
        with open(os.path.join(daemon.dir, "state", "refresh-token")) as f:
            return f.read().strip().split(":")[1]

    def test_kept_over_a_crash(self):
        session, daemon = self.session()
        daemon.start()
        self.wait_token(daemon, "good")
        self.join(daemon, "refresh:1")
        for _ in range(3):
            self.assertEqual(self.kept(daemon), session.active())
            before = len(self.server.token_log())
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait()
            daemon.start()
            self.wait_token(daemon, "good")
            self.assertGreater(len(self.server.token_log()), before)
        self.assertFalse([e for e in self.server.token_log() if e.revoked])
        daemon.stop()

    def test_answer_lost(self):
        """The server has renewed the session, and nobody heard it: the same token again gives the same answer again."""
        session, daemon = self.session()
        self.server.token_fault("drop", work=True, count=2)
        daemon.start()
        self.wait_token(daemon, "good")
        self.assertEqual(self.kept(daemon), session.active())
        self.assertFalse([e for e in self.server.token_log() if e.revoked])
        daemon.stop()

    def test_login_needed(self):
        session, daemon = self.session()
        session.revoke()
        daemon.start()
        self.assertTrue(self.wait_token(daemon, "denied", "login_needed")["text"])
        fresh = self.server.session(sub="user")
        put(os.path.join(daemon.dir, "seed"), fresh.refresh_token)
        self.wait_token(daemon, "good")
        self.assertEqual(self.kept(daemon), fresh.active())
        daemon.stop()

    def test_no_seed_yet(self):
        _, daemon = self.session()
        seed = os.path.join(daemon.dir, "seed")
        os.rename(seed, seed + ".later")
        daemon.start()
        self.assertIn("put a refresh token into it", self.wait_token(daemon, "waiting", "no_token")["text"])
        os.rename(seed + ".later", seed)
        self.wait_token(daemon, "good")
        daemon.stop()

    def test_folder_made_anew(self):
        """What the session becomes is written where the folder is now, not into one that nobody finds any more."""
        session, daemon = self.session()
        daemon.start()
        self.wait_token(daemon, "good")
        os.rename(os.path.join(daemon.dir, "state"), os.path.join(daemon.dir, "gone"))
        os.mkdir(os.path.join(daemon.dir, "state"), 0o700)
        with Peer(daemon.socket) as peer:
            self.assertEqual(peer.call("refresh_token", {})["state"], "good")
        self.assertEqual(self.kept(daemon), session.active())
        daemon.kill()
        daemon.start()
        self.wait_token(daemon, "good")
        self.assertFalse([e for e in self.server.token_log() if e.revoked])
        daemon.stop()

    def test_key_is_replaced(self):
        """The gateway takes the key no more: that ends no session, another key is used at once, and warned of as the first."""
        session, daemon = self.session()
        self.server.token_fault("answer", work=False, status=401, type="application/json", body='{"message":"Invalid API key"}')
        daemon.start()
        said = self.wait_token(daemon, "waiting", "bad_apikey")
        self.assertGreater(said["next_try_ms"], 30000, said)
        self.assertNotIn("no policy binds", daemon.log_text())
        put(daemon.key_file, self.server.token(role="service_role"))
        until(lambda: self.token_of(daemon)["state"] == "good", lambda: f"with another key; {daemon.log_text()}", 20)
        self.assertIn("no policy binds", daemon.log_text())
        self.assertEqual(self.kept(daemon), session.active())
        daemon.stop()

    def test_beside_sends_without_an_answer(self):
        """The hub has all its requests on their way, and nobody answers them: the token is renewed all the same."""
        _, daemon = self.session()
        daemon.start()
        self.wait_token(daemon, "good")
        peer = self.peer(daemon)
        self.addCleanup(self.server.fault, op="clear")
        self.server.http_fault("hang", path="*/api/*", work=False, count=100)
        hung = [peer.request("broadcast", {"topic": f"hung:{i}", "event": "e", "payload": {"n": i}, "via": "http"}) for i in range(12)]
        until(lambda: len([r for r in self.server.requests() if "/api/" in r.path]) >= 8, "eight are on their way")
        with Peer(daemon.socket) as other:
            said = other.call("refresh_token", {})
        self.assertEqual((said["state"], said.get("code")), ("good", None), said)
        self.assertTrue(hung)
        daemon.kill()

    def test_two_daemons(self):
        """One session is for one: the second would end it for both."""
        _, daemon = self.session()
        daemon.start()
        self.wait_token(daemon, "good")
        other = Daemon(binary("rtbridged"), self.server.url, self.server.token(role="anon"), start=False)
        self.addCleanup(other.remove)
        with open(other.config, "a") as f:
            f.write(f"[upstream]\nrefresh_token_file = {daemon.dir}/seed\nauth_url = {self.server.auth_url}\n"
                    f"state_dir = {daemon.dir}/state\n")
        other.start(wait=False)
        self.assertNotEqual(other.process.wait(20), 0)
        self.assertIn("give each daemon a folder (state_dir) and a login of its own", other.log_text())
        self.wait_token(daemon, "good")
        daemon.stop()

    def test_said_nowhere(self):
        session, daemon = self.session()
        daemon.start()
        self.wait_token(daemon, "good")
        self.join(daemon, "refresh:2")
        with Peer(daemon.socket) as peer:
            said = json.dumps(peer.status()) + daemon.log_text()
        for name in ("cmdline", "environ"):
            with open(f"/proc/{daemon.process.pid}/{name}", "rb") as f:
                said += f.read().decode("utf-8", "replace")
        for secret in (session.refresh_token, session.active(), self.kept(daemon)):
            self.assertNotIn(secret, said)
        self.assertNotIn("eyJ", said)
        daemon.stop()


if __name__ == "__main__":
    unittest.main()
