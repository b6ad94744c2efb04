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


class Command(TokenStory):
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
        with Peer(daemon.socket) as peer:
            self.assertEqual(peer.call("refresh_token", {})["state"], "good")
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
        self.assertIn("refresh-token", other.log_text())
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
