# SPDX-License-Identifier: MIT
"""Recordings about the life of a link: refused upgrades (55), silence (65 to 67), the server's end (68, 69), reconnects (86).

What is no part of what a server says is taken out of them here. Silence is played in (scaled) time: a socket that is not
heard is closed, whatever it receives; so no marker may be sent on it, and what a client of the recording sent later has to
come later here, too.
"""

import select
import time
import urllib.parse

from rtbtest.devserver import PING, PONG, TEXT, Closed
from rtbtest.wait import DEADLINE
import replay_auth
from replay_compare import Mismatch, compare
from replay_frames import Message

HOST = "localhost.example"  # of requests that the recorder sent to its server itself


def edit(lines):
    """Without what a proxy did and said, and what this server has not or has in addition (see the README of the recordings).

    A request of the operator stands for what it does; the one that does nothing to sockets is not asked.
    """
    kept, skip_response = [], 0
    for line in lines:
        what = line.get("what")
        if what == "http_request" and ("/api/tenants/" in line["path"] or "/longpoll" in line["path"]):
            skip_response += 1
        elif what == "http_response" and skip_response:
            skip_response -= 1
        elif what in ("proxy_drops_tcp", "proxy_refuses_upgrade"):
            pass
        elif line["dir"] == "send" and line.get("opcode") == "close" and line["code"] == 1006:
            pass  # how the proxy saw the end that it had made
        elif line.get("conn") == "P" and lines[0]["name"].startswith("55"):
            pass  # the gateway's path
        else:
            if what == "http_request" and "headers" not in line:
                line["headers"] = {"host": HOST, "Connection": "keep-alive"}
            kept.append(line)
    return kept


def host_of(url):
    """Host header of a recorded URL that names one; else None."""
    host = urllib.parse.urlparse(url).hostname
    return f"{host}:4000" if host else None


class Upgrade:
    """One that is refused with a pause or without one: was it here, too?"""

    def __init__(self, refusal, began_ms, pace):
        self.slow = refusal["t_ms"] - began_ms > 900 * replay_auth.CONNECT_DELAY_S
        self.delay_s, self.at = replay_auth.CONNECT_DELAY_S * pace, time.monotonic()

    def refused(self):
        """Mismatch if it came too early, TooSlow if it came too late to tell."""
        took = time.monotonic() - self.at
        if self.slow and took < self.delay_s - replay_auth.SLACK_S:
            raise Mismatch(f"refused after {took:.3f} s, not {self.delay_s:.3f} s")
        if not self.slow and took >= self.delay_s:
            raise replay_auth.TooSlow(f"refused after {took:.3f} s")


class Paced:
    """Plays the steps of a scenario at their times."""

    def __init__(self, scenario):
        self.scenario, self.pace = scenario, scenario.server.pace
        self.idle_s = scenario.project.idle_s * self.pace
        self.began, self.heard = time.monotonic(), {}

    def read(self, conn, link):
        try:
            opcode, data = link.ws.recv_frame()
        except Closed as closed:
            link.code = closed.code
            link.ended_at = time.monotonic()
            return
        if opcode == PONG:
            link.pongs += 1
        else:
            link.got.append(Message(link.v1, "text" if opcode == TEXT else "binary", data.decode() if opcode == TEXT else data))

    def read_until(self, enough, deadline):
        """What comes, until it is enough or it is time (monotonic)."""
        while not enough():
            links = {link.ws.sock: (conn, link) for conn, link in self.scenario.links.items() if link.code is None}
            buffered = [pair for pair in links.values() if link_has_frame(pair[1])]
            for conn, link in buffered:
                self.read(conn, link)
            if buffered:
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for sock in select.select(list(links), [], [], left)[0]:
                self.read(*links[sock])

    def at(self, step):
        return self.began + step["t_ms"] / 1000 * self.pace

    def sends(self, conn):
        """Just now. The recording's client was never silent for too long before it."""
        now = time.monotonic()
        if now - self.heard.get(conn, now) >= self.idle_s:
            self.scenario.out_of_time(f"{conn} was silent for too long")
        self.heard[conn] = now

    def wait(self, enough, missing):
        self.read_until(enough, time.monotonic() + DEADLINE)
        if not enough():
            raise Mismatch(f"missing {missing}")

    def closed(self, step, link):
        conn = step["conn"]
        self.wait(lambda: link.code is not None, f"{conn}: close {step['code']}")
        silence = link.ended_at - self.heard[conn]
        if silence < self.idle_s - replay_auth.SLACK_S:
            raise Mismatch(f"{conn}: closed with {link.code} after {silence:.3f} s, not {self.idle_s:.3f} s")
        self.scenario.compare(conn, link, step["code"])
        link.ws.abort()
        del self.scenario.links[conn]

    def step(self, step):
        conn, sc = step.get("conn"), self.scenario
        link = sc.links.get(conn)
        if step["dir"] == "info":
            if step["what"] == "connect":
                sc.connect(step, None)
                sc.links[conn].pongs = sc.links[conn].pongs_wanted = 0
                self.heard[conn] = time.monotonic()
            return
        if step["dir"] == "send":
            self.read_until(lambda: False, self.at(step))
            if step["opcode"] == "close":
                sc.close(step)
                return
            self.sends(conn)
            if link.code is not None:
                raise Mismatch(f"{conn}: closed by the server with {link.code}")
            if step["opcode"] == "ping":
                link.ws.send_frame(PING, b"")
            else:
                link.send(step["opcode"], step["message"].encode())
        elif step["opcode"] == "close":
            self.closed(step, link)
        elif step["opcode"] == "pong":
            link.pongs_wanted += 1
            self.wait(lambda: link.code is not None or link.pongs >= link.pongs_wanted, f"{conn}: pong {link.pongs_wanted}")
        else:
            link.want.append(step["message"])
            self.wait(lambda: link.code is not None or len(link.got) >= len(link.want), f"{conn}: {step['message']}")

    def run(self):
        for step in self.scenario.steps:
            yield
            self.step(step)
        for conn, link in self.scenario.links.items():
            compare(conn, link.want, link.got, self.scenario.ids, link.presence_refs, False)
            if link.pongs != link.pongs_wanted:
                raise Mismatch(f"{conn}: {link.pongs} pongs, recorded {link.pongs_wanted}")


def link_has_frame(link):
    """Is there a whole frame that was received, but not looked at?"""
    data = link.ws.data
    if len(data) < 2:
        return False
    size = data[1] & 0x7f
    extra = {126: 2, 127: 8}.get(size, 0)
    if len(data) < 2 + extra:
        return False
    if extra:
        size = int.from_bytes(data[2:2 + extra], "big")
    return len(data) >= 2 + extra + size
