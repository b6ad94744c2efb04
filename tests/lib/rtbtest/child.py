# SPDX-License-Identifier: MIT
"""A local client in a process of its own, that can be killed. Requests go in as lines of JSON, answers come out."""

import json
import os
import select
import signal
import subprocess
import sys

from .peer import Peer, RequestError
from .wait import DEADLINE


class Child:
    """`with Child(daemon.socket) as child: child.call("track", {...})`; the pid is .process.pid."""

    def __init__(self, path, name="child"):
        self.process = subprocess.Popen([sys.executable, "-m", "rtbtest.child", path, name], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.read() == {"attached": True}

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the child ended: {self.process.wait(DEADLINE)}")
        return json.loads(line)

    def post(self, method, params):
        """Does not wait for the answer, and so nothing may be called after it: for who is killed next."""
        self.process.stdin.write(json.dumps([method, params]) + "\n")
        self.process.stdin.flush()

    def call(self, method, params):
        self.post(method, params)
        answer = self.read()
        if "error" in answer:
            raise RequestError(answer["error"])
        return answer["result"]

    def track(self, topic, state, **params):
        return self.call("track", dict(params, topic=topic, state=state))

    def untrack(self, topic, **params):
        return self.call("untrack", dict(params, topic=topic))

    def kill(self):
        """SIGKILL, and reaped."""
        if self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(DEADLINE)
            self.process.stdin.close()
            self.process.stdout.close()

    close = kill

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.kill()


def say(message):
    print(json.dumps(message), flush=True)


def main(path, name):
    peer = Peer(path, name=name)
    say({"attached": True})
    pending = b""
    while True:
        # Notifications are read too: who does not read would be ended as a slow consumer.
        ready, _, _ = select.select([0, peer.sock], [], [])
        if peer.sock in ready:
            peer.drain()
            peer.notices.clear()
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            try:
                say({"result": peer.call(*json.loads(line))})
            except RequestError as e:
                say({"error": [e.code, e.name, e.text, e.retry_after_ms]})


if __name__ == "__main__":
    main(*sys.argv[1:])
