# SPDX-License-Identifier: MIT
"""Starting and stopping: sockets in the way, key files, configurations, unreachable servers; what it says then."""

import os
import signal
import socket
import stat
import subprocess
import sys
import unittest

from rtbtest.daemon import Daemon
from rtbtest.peer import Peer
from rtbtest.story import Story, binary
from rtbtest.wait import DEADLINE, until


class Start(Story):
    def fails(self, daemon, code, *words):
        """It must end by itself with this code and a message that has all the words."""
        daemon.start(wait=False)
        self.assertEqual(daemon.process.wait(DEADLINE), code, daemon.log_text())
        daemon.stop(expect=code)
        for word in words:
            self.assertIn(word, daemon.log_text())
        self.assertNotIn("ERROR: AddressSanitizer", daemon.log_text())

    def unstarted(self, **kwargs):
        daemon = self.make_daemon(start=False, **kwargs)
        self.addCleanup(daemon.remove)
        return daemon

    def test_second_daemon_on_the_same_socket(self):
        second = self.unstarted(sections={"socket": {"path": self.daemon.socket}})
        self.fails(second, 1, self.daemon.socket, "another")
        self.assertIn("server", self.peer().status())

    def test_stale_socket_is_replaced(self):
        daemon = self.unstarted()
        daemon.start()
        daemon.kill()
        self.assertTrue(stat.S_ISSOCK(os.stat(daemon.socket).st_mode))
        daemon.start()
        Peer(daemon.socket).close()
        daemon.stop()
        self.assertFalse(os.path.exists(daemon.socket))

    def test_what_is_no_socket_is_left_alone(self):
        daemon = self.unstarted()
        with open(daemon.socket, "w") as f:
            f.write("precious")
        self.fails(daemon, 1, daemon.socket)
        with open(daemon.socket) as f:
            self.assertEqual(f.read(), "precious")
        os.unlink(daemon.socket)
        target = os.path.join(daemon.dir, "target")
        os.symlink(target, daemon.socket)
        self.fails(daemon, 1, daemon.socket)
        self.assertTrue(os.path.islink(daemon.socket))
        os.unlink(daemon.socket)
        os.mkdir(daemon.socket)
        self.fails(daemon, 1, daemon.socket)

    @unittest.skipUnless(os.getuid() == 0, "needs root to make a socket of another user")
    def test_socket_of_another_user(self):
        daemon = self.unstarted()
        foreign = socket.socket(socket.AF_UNIX)
        foreign.bind(daemon.socket)
        foreign.close()
        os.chown(daemon.socket, 12345, 12345)
        self.fails(daemon, 1, daemon.socket)
        self.assertTrue(os.path.exists(daemon.socket))

    def test_mode_and_group(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.daemon.socket).st_mode), 0o600)
        with self.make_daemon(sections={"socket": {"mode": "0660", "group": str_group()}}) as daemon:
            self.assertEqual(stat.S_IMODE(os.stat(daemon.socket).st_mode), 0o660)
        self.fails(self.unstarted(sections={"socket": {"group": "no-such-group"}}), 1, "no-such-group")

    @unittest.skipUnless(os.getuid() == 0, "needs root to become another user")
    def test_other_users_are_kept_out(self):
        os.chmod(self.daemon.dir, 0o755)
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({self.daemon.socket!r})"
        other = subprocess.run(["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "/usr/bin/python3", "-c", code],
                               capture_output=True, text=True)
        self.assertIn("PermissionError", other.stderr)

    def test_key_file(self):
        daemon = self.unstarted()
        os.chmod(daemon.key_file, 0o644)
        self.fails(daemon, 78, daemon.key_file, "chmod 600")
        os.chmod(daemon.key_file, 0o600)
        daemon.write_key("")
        self.fails(daemon, 78, daemon.key_file, "empty")
        os.unlink(daemon.key_file)
        self.fails(daemon, 78, daemon.key_file, "No such file")
        os.mkfifo(daemon.key_file)
        self.fails(daemon, 78, daemon.key_file)

    def test_configurations(self):
        for sections, words in [
            ({"upstream": {"url": "ftp://x"}}, [":2", "url", "https://"]),
            ({"upstream": {"url": "https://"}}, ["url", "host"]),
            ({"upstream": {"url": "https://x/?apikey=abc"}}, ["url", "apikey_file"]),
            ({"upstream": {"vsn": "3"}}, [":4", "vsn", "2.0.0"]),
            ({"upstream": {"colour": "blue"}}, ["colour"]),
            ({"upstairs": {"url": "x"}}, ["upstairs", "[upstream]"]),
            ({"socket": {"mode": "rw"}}, ["mode", "0600"]),
            ({"socket": {"path": "relative"}}, ["path", "absolute"]),
            ({"socket": {"path": "/" + "x" * 200}}, ["at most 107"]),
            ({"limits": {"clients": "many"}}, ["clients", "number"]),
            ({"log": {"level": "loud"}}, ["level", "debug"]),
            ({"upstream": {"header": "authorization: x"}}, ["header", "x-"]),
        ]:
            daemon = self.unstarted(sections=sections)
            daemon.start(wait=False)
            self.assertNotEqual(daemon.process.wait(DEADLINE), 0, sections)
            daemon.stop(expect=None)
            for word in words:
                self.assertIn(word, daemon.log_text(), sections)

    def test_check(self):
        daemon = self.unstarted(sections={"upstream": {"url": "https://REF.supabase.co/", "params": "a=b", "header": "x-a: b"}})
        out = subprocess.run([binary("rtbridged"), "--config", daemon.config, "--check"], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("wss://REF.supabase.co:443/realtime/v1/websocket", out.stdout)
        self.assertNotIn(self.key, out.stdout + out.stderr)
        missing = subprocess.run([binary("rtbridged"), "--config", "/nonexistent/c", "--check"], capture_output=True, text=True)
        self.assertEqual(missing.returncode, 78)
        self.assertIn("/nonexistent/c", missing.stderr)
        wrong = subprocess.run([binary("rtbridged"), "--frob"], capture_output=True, text=True)
        self.assertEqual(wrong.returncode, 2)

    def test_warnings_of_check_are_those_of_the_start(self):
        daemon = self.unstarted(sections={"limits": {"links": "1"}, "access": {"rule": "allow * read topic x"},
                                          "upstream": {"url": "http://insecure.invalid"}})
        daemon.write_key("sb_secret_abcdef")
        out = subprocess.run([binary("rtbridged"), "--config", daemon.config, "--check"], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        warnings = [line.split(None, 1)[1] for line in out.stdout.splitlines() if line.startswith("warning")]
        self.assertEqual([w.split(":")[0] for w in warnings],
                         ["[upstream] url", "[upstream] apikey_file", "[limits] links"], out.stdout)
        daemon.start()
        for warning in warnings:
            self.assertEqual(daemon.log_text().count(warning), 1, daemon.log_text())
        self.assertNotIn("abcdef", out.stdout + daemon.log_text())
        daemon.stop()

    def test_a_quoted_table_in_a_rule(self):
        with self.make_daemon(sections={"access": {"rule": 'deny * read table public."My ""odd"".Table"'}}) as daemon, \
             Peer(daemon.socket) as peer:
            wishes = [{"schema": "public", "table": table} for table in ('My "odd".Table', '"My ""odd"".Table"', "My", "*")]
            entries = peer.subscribe("", postgres_changes=wishes)["postgres_changes"]
            self.assertEqual([e.get("code") for e in entries], ["forbidden", None, None, None], entries)

    def test_socket_option_wins(self):
        daemon = self.unstarted()
        path = os.path.join(daemon.dir, "other.sock")
        process = subprocess.Popen([binary("rtbridged"), "--config", daemon.config, "--socket", path],
                                   stderr=subprocess.DEVNULL)
        until(lambda: os.path.exists(path), "the socket is there")
        process.terminate()
        self.assertEqual(process.wait(DEADLINE), 0)

    def test_without_standard_streams(self):
        """Nothing of ours gets their numbers."""
        daemon = self.unstarted()
        code = "import os, sys; os.closerange(0, 3); os.execv(sys.argv[1], sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", code, daemon.binary, "--config", daemon.config])
        try:
            until(lambda: os.path.exists(daemon.socket), "it listens")
            for fd in range(3):
                self.assertEqual(os.readlink(f"/proc/{process.pid}/fd/{fd}"), "/dev/null")
            with Peer(daemon.socket) as peer:
                self.wait_online(peer)
        finally:
            process.terminate()
            self.assertEqual(process.wait(DEADLINE), 0)

    def test_unreachable_upstream(self):
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        for url, state, word in [(f"ws://127.0.0.1:{port}", "backoff", "127.0.0.1"),
                                 ("wss://no-such-host.invalid", "backoff", "no-such-host.invalid"),
                                 ("ws://192.0.2.1:4000", "config_error", "192.0.2.1")]:
            with self.make_daemon(sections={"upstream": {"url": url}}) as daemon, Peer(daemon.socket) as peer:
                status = until(lambda: (s := peer.status())["connection"]["state"] == state and s, f"{url}: {state}")
                self.assertIn(word, status["connection"]["text"])
                self.assertIn("next_try_ms", status["connection"])
                self.assertEqual(peer.broadcast("room:1", "e", 1, ttl_ms=100)["outcome"], "expired")

    def test_a_key_of_another_project(self):
        with self.make_daemon() as daemon:
            daemon.stop()
            daemon.write_key("not.a.jwt")
            daemon.start()
            with Peer(daemon.socket) as peer:
                status = until(lambda: (s := peer.status())["connection"]["state"] == "auth_failed" and s, "auth_failed")
                self.assertIn("401", status["connection"]["text"])

    def test_sigterm_carries_out_what_was_sent(self):
        outside = self.outside()
        outside.join("term:1")
        with self.another() as daemon:
            peer = Peer(daemon.socket)
            peer.subscribe("term:1")
            ids = [peer.request("broadcast", {"topic": "term:1", "event": "n", "payload": n}) for n in range(2000)]
            peer.result(ids[0])
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_notify("STOPPING=1")
            peer.wait_closed()
            # Also what lay in the socket unread when the signal came.
            self.assertEqual({peer.responses[id][3]["outcome"] for id in ids[1:]}, {"acked"})
            self.assertEqual([e["error"][1] for e in peer.take("error")], ["shutdown"])
            self.assertEqual([p for _, p in outside.recv_broadcasts(len(ids))], list(range(len(ids))))
            daemon.stop()


def str_group():
    import grp
    return grp.getgrgid(os.getgid()).gr_name


if __name__ == "__main__":
    unittest.main()
