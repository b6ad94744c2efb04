# SPDX-License-Identifier: MIT
"""The key is nowhere but where it must be: not in arguments, environment, log, status, answers or a core."""

import os
import shutil
import subprocess
import unittest

from rtbtest.peer import Peer
from rtbtest.story import Story


class Secrets(Story):
    def marks(self):
        """The key, and the long middle of it, as it is and as it stands in a URL."""
        payload = self.key.split(".")[1]
        signature = self.key.split(".")[2]
        return [self.key.encode(), payload.encode(), signature.encode()]

    def check(self, what, data):
        for mark in self.marks():
            self.assertNotIn(mark, data, f"the key is in {what}")

    def test_marker_key(self):
        with self.another(log_level="debug") as daemon:
            with Peer(daemon.socket) as peer:
                peer.subscribe("secret:1")
                peer.broadcast("secret:1", "e", {"n": 1})
                self.server.fault({"op": "close", "code": 1012, "sockets": "all"})
                peer.wait_notice("channel", lambda n: n["state"] == "rejoining")
                peer.wait_notice("channel", lambda n: n["state"] == "ready")
                peer.sync(upstream=True)
                self.check("status", str(peer.status()).encode())
            pid = daemon.process.pid
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    self.check(name, f.read())
            with open(daemon.log_path, "rb") as f:
                self.check("the log", f.read())
            self.check("notifications", "\n".join(daemon.statuses).encode())
            with open(f"/proc/{pid}/limits") as f:
                self.assertRegex(f.read(), r"Max core file size +0 ")
            if os.getuid() == 0 and shutil.which("gcore") and not self.sanitized:
                self.check_core(daemon)

    def check_core(self, daemon):
        """What a debugger of root would write; pages left out of cores by the kernel are left out by gdb as well."""
        prefix = os.path.join(daemon.dir, "core")
        out = subprocess.run(["gcore", "-o", prefix, str(daemon.process.pid)], capture_output=True, text=True)
        path = f"{prefix}.{daemon.process.pid}"
        self.assertTrue(os.path.exists(path), out.stdout + out.stderr)
        with open(path, "rb") as f:
            data = f.read()
        self.assertIn(b"secret:1", data, "the core has the heap")
        self.check("a core", data)

    def test_refused_key_is_not_repeated(self):
        with self.make_daemon(start=False) as daemon:
            daemon.write_key("marker.secret-that-nobody-may-see.marker")
            daemon.start()
            with Peer(daemon.socket) as peer:
                from rtbtest.wait import until
                until(lambda: peer.status()["connection"]["state"] == "auth_failed", "the key is refused")
                self.assertNotIn("secret-that-nobody", str(peer.status()))
            self.assertNotIn("secret-that-nobody", daemon.log_text())


if __name__ == "__main__":
    unittest.main()
