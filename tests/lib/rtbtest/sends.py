# SPDX-License-Identifier: MIT
"""Stories of messages: who got which, and a daemon whose connection to the server can be cut and kept away."""

import uuid

from .peer import RequestError
from .story import Story
from .wait import until


def fresh(name):
    """A topic that no other test has."""
    return f"{name}:{uuid.uuid4().hex[:12]}"


class Sends(Story):
    """The daemon's WebSockets are all of the server's but those of remote()."""

    def setUp(self):
        self.remote_ids = set()
        self.addCleanup(self.server.fault, op="clear")

    def remote(self, *topics, private=False, **kwargs):
        """A client on the server, joined to these; close() or cut() of the daemon leaves it alone."""
        before = {s["id"] for s in self.server.status()["sockets"]}
        client = self.outside(**kwargs)
        after = self.server.wait_status(lambda st: {s["id"] for s in st["sockets"]} - before, "the remote's socket")
        [id] = {s["id"] for s in after["sockets"]} - before
        self.remote_ids.add(id)
        for topic in topics:
            client.join(topic, private=private, broadcast={"ack": False, "self": False})
        return client

    # ---- the connection ----

    def daemon_sockets(self):
        return [s["id"] for s in self.server.status()["sockets"] if s["id"] not in self.remote_ids and not s["closing"]]

    def cut(self, code=0):
        """Ends the daemon's connections; it comes back by itself."""
        self.server.fault(op="close", code=code, sockets=self.daemon_sockets())

    def down(self, peer):
        """Ends them, and refuses new ones until up(). peer: tells when the daemon has seen it."""
        self.server.fault(op="refuse_upgrade", count=-1)
        self.cut()
        until(lambda: peer.status()["connection"]["state"] == "backoff", "the daemon is offline")

    def up(self):
        """Ends all faults."""
        self.server.fault(op="clear")

    def back(self, peer, chans=()):
        """Until this peer was told that these of its channels are back."""
        for chan in chans:
            peer.wait_notice("channel", lambda n: n["chan"] == chan and n["state"] == "ready")

    # ---- what came ----

    @staticmethod
    def came(peer):
        """{topic: [(event, payload)]} of all that has come, and what the server has sent to the daemon by now."""
        peer.sync(upstream=True)
        found = {}
        for n in peer.take("broadcast"):
            found.setdefault(n["topic"], []).append((n["event"], n["payload"]))
        return found

    def outcome(self, peer, id):
        """As `broadcast` is answered, by the name of a send."""
        return peer.call("outcome", {"id": id})

    def code(self, call, *args, **kwargs):
        """The code of the error that a request ends with, 0 without one."""
        try:
            call(*args, **kwargs)
        except RequestError as e:
            return e.code
        return 0
