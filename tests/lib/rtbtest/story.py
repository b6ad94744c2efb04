# SPDX-License-Identifier: MIT
"""The frame of an integration story: a devserver, a daemon that is online, peers that are closed at the end.

The binaries are those of the build folder that ctest names in RTB_BIN; RTB_STRICT=1 makes the devserver drop messages with a
wrong join_ref, as newer servers do.
"""

import os
import unittest

from .daemon import Daemon
from .devserver import DevServer
from .outside import Outside
from .peer import Peer
from .wait import until

BIN = os.environ["RTB_BIN"]
STRICT = os.environ.get("RTB_STRICT") == "1"


def binary(name):
    return os.path.join(BIN, name)


class Story(unittest.TestCase):
    """One devserver and one daemon for all tests of a class; every test gets fresh peers."""

    server_options = {}
    sections = {}
    vsn = "2.0.0"
    sanitized = os.environ.get("RTB_SANITIZE", "") != ""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(cls.make_server())
        cls.key = cls.server.token(role="anon")
        cls.daemon = cls.enterClassContext(cls.make_daemon())
        with Peer(cls.daemon.socket) as peer:
            cls.wait_online(peer)

    @classmethod
    def make_server(cls):
        options = dict(cls.server_options)
        if STRICT:
            options["strict_refs"] = True
        return DevServer(binary("rtbridge-devserver"), **options)

    @classmethod
    def make_daemon(cls, sections=None, server=None, **kwargs):
        merged = {name: dict(keys) for name, keys in cls.sections.items()}
        # Attempts follow each other fast: the tests end connections often.
        upstream = {"vsn": cls.vsn, "backoff_min": "50ms", "backoff_max": "400ms"}
        merged["upstream"] = dict(upstream, **merged.get("upstream", {}))
        for name, keys in (sections or {}).items():
            merged.setdefault(name, {}).update(keys)
        server = server or cls.server
        return Daemon(binary("rtbridged"), server.url, server.token(role="anon"), sections=merged, **kwargs)

    @staticmethod
    def wait_online(peer):
        until(lambda: peer.status()["connection"]["state"] == "online", "the daemon is online")

    def another(self, **kwargs):
        """A further daemon on the same devserver, for this test alone; online when it is entered."""
        daemon = self.make_daemon(**kwargs)
        with Peer(daemon.socket) as peer:
            self.wait_online(peer)
        return daemon

    def peer(self, daemon=None, **kwargs):
        peer = Peer((daemon or self.daemon).socket, **kwargs)
        self.addCleanup(peer.close)
        return peer

    def outside(self, **kwargs):
        """A client on a WebSocket of its own, past the daemon."""
        client = Outside(self.server.url, self.key, **kwargs)
        self.addCleanup(client.close)
        return client
