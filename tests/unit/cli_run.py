# SPDX-License-Identifier: MIT
"""What the tests of the command share: its runs, a played daemon for each test. The command is argv[1]."""

import json
import os
import queue
import subprocess
import sys
import threading
import unittest

from cli_fake import Daemon

DEADLINE = 60
COMMAND = os.path.abspath(sys.argv.pop(1))


class Run:
    """The command, its stdout as lines."""

    def __init__(self, daemon, *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **kw):
        self.process = subprocess.Popen(
            [COMMAND, "-s", daemon.path if daemon else "/nonexistent/s", *args],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            **kw,
        )
        self.lines = queue.Queue()
        self.errors = []
        self.error_news = threading.Condition()
        self.threads = []
        if self.process.stdout:
            self.read(self.process.stdout, self.lines.put)
        self.read(self.process.stderr, self.take_error)

    def read(self, stream, put):
        def loop():
            for line in stream:
                put(line.rstrip("\n"))

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self.threads.append(thread)

    def take_error(self, line):
        with self.error_news:
            self.errors.append(line)
            self.error_news.notify_all()

    def wait_error(self, text):
        with self.error_news:
            if not self.error_news.wait_for(lambda: any(text in line for line in self.errors), DEADLINE):
                raise AssertionError(f"no {text!r} in {self.errors}")

    def line(self):
        return self.lines.get(timeout=DEADLINE)

    def json(self):
        return json.loads(self.line())

    def kill(self):
        """For what a failed test leaves behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def end(self):
        """Waits. Return: exit code, the lines not yet taken, stderr."""
        code = self.process.wait(DEADLINE)
        for thread in self.threads:
            thread.join(DEADLINE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return code, list(self.lines.queue), "\n".join(self.errors)


class Case(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)

    def run_cli(self, *args, **kw):
        run = Run(self.daemon, *args, **kw)
        self.addCleanup(run.kill)
        return run

    def connection(self):
        return self.daemon.connections.get(timeout=DEADLINE)

    def told(self, line):
        """An outcome as JSON without the id that the library made."""
        told = json.loads(line)
        self.assertRegex(told.pop("id"), "^[0-9a-f]{16}-[0-9a-f]+$")
        return told

    def sent(self):
        """The next broadcast without that id."""
        params = self.request("broadcast")
        self.assertRegex(params.pop("id"), "^[0-9a-f]{16}-[0-9a-f]+$")
        return params

    def request(self, method):
        while True:
            name, params = self.daemon.requests.get(timeout=DEADLINE)
            if name == method:
                return params
