# SPDX-License-Identifier: MIT
"""Starts the real rtbridged for a test: private directory, observed readiness, captured log."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from .wait import DEADLINE, Deadline


class Daemon:
    """rtbridged with a configuration of its own. `with Daemon(bin, url=..., apikey=...) as d:`

    Readiness is observed on a NOTIFY_SOCKET; everything lives in a temporary directory that is removed at the end.
    """

    def __init__(self, binary, url, apikey, sections=None, log_level="debug", dir=None, env=None, start=True):
        self.binary = binary
        self.own_dir = dir is None
        self.dir = dir or tempfile.mkdtemp(prefix="rtbridge-test-")
        self.socket = os.path.join(self.dir, "rtbridge.sock")
        self.config = os.path.join(self.dir, "rtbridged.conf")
        self.key_file = os.path.join(self.dir, "apikey")
        self.log_path = os.path.join(self.dir, "rtbridged.log")
        self.env = env or {}
        self.process = None
        self.statuses = []
        self.write_key(apikey)
        self.write_config({"upstream": {"url": url, "apikey_file": self.key_file}, "socket": {"path": self.socket},
                           "log": {"level": log_level}}, sections or {})
        if start:
            self.start()

    def write_key(self, apikey):
        with open(self.key_file, "w") as f:
            f.write(apikey + "\n")
        os.chmod(self.key_file, 0o600)

    def write_config(self, *layers):
        merged = {}
        for layer in layers:
            for section, keys in layer.items():
                merged.setdefault(section, {}).update(keys)
        with open(self.config, "w") as f:
            for section, keys in merged.items():
                f.write(f"[{section}]\n")
                for key, values in keys.items():
                    for value in values if isinstance(values, list) else [values]:
                        f.write(f"{key} = {value}\n")

    def start(self, wait=True):
        notify_path = os.path.join(self.dir, "notify")
        if os.path.exists(notify_path):
            os.unlink(notify_path)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(notify_path)
        env = dict(os.environ, NOTIFY_SOCKET=notify_path, **self.env)
        self.statuses = []
        self.news = threading.Condition()
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen([self.binary, "--config", self.config], env=env, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        # A service manager always reads: a notification that nobody takes would hold the daemon up.
        threading.Thread(target=self.listen, args=(notify, self.process), daemon=True).start()
        if wait:
            self.wait_notify("READY=1")
        return self

    def listen(self, notify, process):
        notify.settimeout(0.1)
        with notify:
            while True:
                try:
                    message = notify.recv(4096).decode()
                except socket.timeout:
                    if process.poll() is not None:
                        return
                    continue
                with self.news:
                    self.statuses.append(message)
                    self.news.notify_all()

    def wait_notify(self, text, deadline=DEADLINE):
        """A notification of this run that contains `text`."""
        end = Deadline(deadline)
        with self.news:
            while True:
                for message in self.statuses:
                    if text in message:
                        return message
                left = end.left(f"no notification {text!r}; log:\n{self.log_text()}")
                if self.process.poll() is not None:
                    raise AssertionError(f"rtbridged ended with {self.process.returncode}; log:\n{self.log_text()}")
                self.news.wait(min(left, 0.25))

    def reload(self):
        """SIGHUP, carried out wholly. Returns what was logged by it."""
        ready, size = self.count_notify("READY=1"), len(self.log_text())
        self.process.send_signal(signal.SIGHUP)
        end = Deadline()
        while self.count_notify("READY=1") <= ready:
            with self.news:
                self.news.wait(min(end.left("the daemon has reloaded"), 0.25))
        return self.log_text()[size:]

    def count_notify(self, text):
        with self.news:
            return sum(text in message for message in self.statuses)

    def log_text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def stop(self, sig=signal.SIGTERM, expect=0):
        """Ends it and checks how it ended. Sanitizer reports make the exit code wrong, and are in the log."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"rtbridged did not end; log:\n{self.log_text()}")
        self.process = None
        self.log.close()
        if expect is not None and code != expect:
            raise AssertionError(f"rtbridged ended with {code}, not {expect}; log:\n{self.log_text()}")

    def kill(self):
        self.stop(signal.SIGKILL, expect=-signal.SIGKILL)

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def remove(self):
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if self.process is not None:
                self.stop(expect=0 if kind is None else None)
            if kind is not None:
                print(f"---- log of rtbridged ----\n{self.log_text()[-20000:]}")
        finally:
            self.remove()
