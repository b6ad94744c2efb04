# SPDX-License-Identifier: MIT
"""How the recorded projects were set up: their policies and limits, and the pace at which a recording is played.

The real server sleeps 5 s before it refuses a join, which holds up the whole socket, and some tokens end within their
recording. These times are scaled by one factor, the pace. Nothing waits for a time to pass: what was done while a
socket stood still, or before a token's end, is checked to have been in time here, too. Where the machine was too slow
for that the recording is played again at a slower pace.
"""

import base64
import json
import math
import os
import re
import select
import time

import replay_http
from replay_frames import RECORDED_AT, Names

PACES = (0.02, 0.1, 0.8)  # of the recording's time
ERROR_DELAY_S = 5
CONNECT_DELAY_S = 2  # before a refused upgrade is answered
LIMIT_TICK_S = 5  # at the end of each the server reckons how many joined in a second
UNPACED_TICK_MS = 600000  # no average is reckoned while a recording lasts
SLACK_S = 0.005  # clocks that count milliseconds
SOON_S = 600  # a token that lives no longer ends within its recording

OPERATOR = "Server requested disconnect"
FLOOD = "Too many messages per second"
FRAME_MAX = 5000000
BIG_TOPIC = b"realtime:big1"
CUT_TEXT = re.compile(r"(.*?)x+…\((\d+) chars in all\)", re.S)


class TooSlow(Exception):
    """The machine was too slow for this pace."""


# ---- projects --------------------------------------------------------------------------------------------------------

class Project:
    """How the server of a recording was set up.

    options:  of the devserver, by their names there
    policies: {channel without "realtime:": {role: rights}}, the role * is any that the database has. None: private channels
              are open to everybody
    shown:    which rights a recording shows: (channel, role, right)
    alone:    no other recording may be played on the same server at the same time
    by_topic: channels are independent of each other: the recording shows an order of theirs that is chance
    paced:    limits of so many a second are reached: they are scaled with the pace
    at:       when it was recorded: tokens keep their distance to it
    idle_s:   it is about silence: after how much of it a socket is closed; it is played in time, see replay_links.py
    hosts:    its URLs name projects, and refused upgrades are answered with the pause of the real server
    unshown:  further options, which make no difference to what the recording shows
    """

    def __init__(self, policies=None, shown=(), alone=True, by_topic=False, paced=False, at=RECORDED_AT, idle_s=None, hosts=False,
                 unshown=None, **options):
        self.policies, self.shown, self.at = policies, shown, at
        self.idle_s, self.hosts, self.unshown = idle_s, hosts, unshown or {}
        self.alone, self.by_topic, self.paced, self.options = alone, by_topic, paced, options

    def renamed(self, names):
        """A copy with the names of this run."""
        policies = None if self.policies is None else {
            names.sub(sub): {role: set(rights) for role, rights in roles.items()} for sub, roles in self.policies.items()}
        shown = [(names.sub(sub), role, right) for sub, role, right in self.shown]
        return Project(policies, shown, self.alone, self.by_topic, self.paced, self.at, self.idle_s, self.hosts, self.unshown,
                       **self.options)

    def flips(self, steps):
        """Ways to set the server up wrongly, which the recording must show: (what, function)."""
        def other(name):
            old = self.options[name]
            self.options[name] = not old if isinstance(old, bool) else old + "x" if isinstance(old, str) else old + 100

        def turn(sub, role, right):
            self.policies.setdefault(sub, {}).setdefault(role, set()).symmetric_difference_update({right})

        for name in self.options:
            yield f"another {name} than {self.options[name]}", lambda name=name: other(name)
        if any(step.get("refused") for step in steps):
            yield "no delay of refused joins", lambda: self.options.update(join_error_delay_ms=0)
        if self.idle_s:
            yield "half of the idle time", lambda: self.options.update(idle_share=0.25)
        if self.hosts:
            yield "no delay of refused upgrades", lambda: self.options.update(connect_error_delay_ms=0)
        for cell in self.shown:
            yield f"{cell[2]} of {cell[1]} in {cell[0]} the other way round", lambda cell=cell: turn(*cell)


BROADCAST, PRESENCE = ["read", "write"], ["presence_read", "presence_write"]
PRIVATE = {"priv-ro": {"anon": BROADCAST[:1], "authenticated": BROADCAST[:1]},
           "priv-ok": {"anon": BROADCAST + PRESENCE, "authenticated": BROADCAST + PRESENCE},
           "priv-ok2": {"*": BROADCAST + PRESENCE},
           "priv-bc": {"anon": BROADCAST, "authenticated": BROADCAST},
           "priv-auth": {"authenticated": BROADCAST}}
SHOWN = ([("priv-no", "anon", "read")] + [("priv-ro", "anon", right) for right in BROADCAST]
         + [(sub, "anon", right) for sub in ("priv-ok", "priv-bc") for right in BROADCAST + PRESENCE]
         + [("priv-auth", "anon", "read")] + [("priv-auth", "authenticated", right) for right in BROADCAST])
PROJECTS = {
    "51b": Project(),
    "52": Project(by_topic=True),
    "53": Project(PRIVATE, SHOWN, alone=False),
    "54": Project({"priv-ok": PRIVATE["priv-ok"]}, [("priv-ok", "anon", "read")], private_only=True),
    "60": Project(max_channels=3),
    "61": Project(paced=True, max_joins_per_second=1),
    "61b": Project(paced=True, max_joins_per_second=1),
    "55": Project(hosts=True, tenant="localhost", suspended_tenant="suspended"),
    "62": Project(paced=True, max_events_per_second=2),
    "62b": Project(paced=True, max_events_per_second=2),
    "63": Project(max_users=1),
    "64": Project(max_payload_kb=10, max_events_per_second=100),
    "65": Project(idle_s=60),
    "66": Project(idle_s=60),
    "67": Project(idle_s=60),
    "68": Project(),
    # The recorded database was too slow to subscribe before the server was ended.
    "69": Project(by_topic=True, unshown={"pg_subscribe_delay_ms": 1000000}),
    "70": Project({"priv-ok-rest": {"anon": BROADCAST}},
                  [("priv-ok-rest", "anon", right) for right in BROADCAST] + [("priv-no", "anon", "write")],
                  at=1795377232, tenant="127", suspended_tenant="suspended", max_events_per_second=100),
    "85": Project({"priv-auth-js": {"authenticated": BROADCAST}},
                  [("priv-auth-js", "authenticated", right) for right in BROADCAST] + [("priv-no", "authenticated", "read")]),
    "86": Project(),
}
ORDINARY = Project(alone=False)


def project(name):
    """That of the recording with this name."""
    return PROJECTS.get(name.split("-")[0], ORDINARY)


def options(projects, pace, folder):
    """Those of a server for all these projects; the file with the policies goes into the folder."""
    found = {"join_error_delay_ms": round(ERROR_DELAY_S * 1000 * pace)}
    for each in projects:
        if each.idle_s:
            found["idle_ms"] = round(each.idle_s * 1000 * pace * each.options.get("idle_share", 1))
        if each.hosts:
            found["connect_error_delay_ms"] = round(CONNECT_DELAY_S * 1000 * pace)
        found.update({**each.unshown, **{k: v for k, v in each.options.items() if k != "idle_share"}})
    if any(each.paced for each in projects):
        found["rate_tick_ms"] = round(LIMIT_TICK_S * 1000 * pace)
        for name in ("max_joins_per_second", "max_events_per_second"):
            if name in found:
                found[name] = round(found[name] / pace)
    else:
        found["rate_tick_ms"] = UNPACED_TICK_MS
    if any(each.policies is not None for each in projects):
        found["policies"] = os.path.join(folder, "policies")
        with open(found["policies"], "w", encoding="utf-8") as f:
            f.writelines(f"{right} {role} {sub}\n" for each in projects for sub, roles in (each.policies or {}).items()
                         for role, rights in roles.items() for right in sorted(rights))
    return found


# ---- what a recording shows ------------------------------------------------------------------------------------------

def mark(steps):
    """Marks joins that were refused after the delay ("refused"), messages that came because a token had ended ("ended"),
    where the limit of joins was passed or no longer so ("limited"), and where that of events was passed ("flooded")."""
    joins, sent, limit = {}, {}, []
    for i, step in enumerate(steps):
        m = step.get("message")
        if m is not None and m.ok and step["dir"] == "send":
            sent[step["conn"], m.topic] = step["t_ms"]
            if m.event == "phx_join":
                joins[step["conn"], m.ref] = step
        elif m is not None and m.ok:
            if m.event == "phx_reply" and m.payload["status"] == "error" and (step["conn"], m.ref) in joins:
                join = joins[step["conn"], m.ref]
                join["refused"] = step["t_ms"] - join["t_ms"] > 900 * ERROR_DELAY_S
                if "Too many joins" in m.payload["response"]["reason"]:
                    limit.append((steps.index(join), True))
            if m.event == "system" and "expired" in m.payload["message"]:
                step["ended"] = step["t_ms"] - sent[step["conn"], m.topic] > 1000
            if is_flood(step):
                steps[burst(steps, i)]["flooded"] = True
        elif step.get("what") == "upgrade_refused" and "Too many joins" in step["body"]:
            limit.append((i - 1, True))
        elif step.get("opcode") == "close" and step["code"] == 1001:
            limit.append((i + 1, False))
    for at, limited in limit:
        if at < len(steps):
            steps[at]["limited"] = limited


def is_flood(line):
    return line["dir"] == "recv" and FLOOD in line.get("data", "")


def burst(lines, i):
    """Where the run of sends begins that was answered, among others, by line i."""
    while lines[i]["dir"] != "send":
        i -= 1
    while lines[i - 1]["dir"] == "send":
        i -= 1
    return i


def cut_bursts(lines):
    """Of a burst that went over the limit several messages could pass, as chance had it: here it is one."""
    for end in [line for line in lines if is_flood(line)]:
        start = burst(lines, lines.index(end))
        conn = end["conn"]
        passed = [line for line in lines[start:lines.index(end)] if line["dir"] == "recv" and line["conn"] == conn]
        late = []
        for line in passed:
            _, ref, topic, event, _ = json.loads(line["data"])
            first = next(p for p in passed if json.loads(p["data"])[3] == event)
            if line is first:
                continue
            lines.remove(line)
            if event == "phx_reply":
                unmatched = {"status": "error", "response": {"reason": "unmatched topic"}}
                late.append(dict(line, data=json.dumps([None, ref, topic, event, unmatched])))
        after = lines.index(end) + 2  # behind the phx_close
        lines[after:after] = late
    return lines


def restore(lines):
    """What the recorder has cut, or could not note."""
    large, note = "", ""
    for i, line in list(enumerate(lines)):
        data = line.get("data", "")
        cut = CUT_TEXT.fullmatch(data)
        if cut:
            tail = '"}]' if data[0] == "[" else '"}}'
            line["data"] = cut[1] + "x" * (int(cut[2]) - len(cut[1]) - len(tail)) + tail
        elif line["dir"] == "send" and data.count("x") > 10000:
            large = "x" * 11000
        elif line.get("what") == "note":
            note = line["text"]
            if note == "binary user push":
                # Of a frame that it had made itself it kept the answer only.
                frame = bytes([3, 1, 2, len(BIG_TOPIC), 1, 0, 0]) + b"150" + BIG_TOPIC + b"x" + b"x" * 11000
                lines.insert(i + 1, {"dir": "send", "conn": "A", "opcode": "binary", "data": base64.b64encode(frame).decode(), "t_ms": line["t_ms"]})
        elif line.get("what") == "http_request":
            line["body"] = replay_http.restore(line.get("body"), note, large)
    return lines


def edit(lines):
    """Without what is no part of the story: sockets that were left to themselves and closed after a minute or dropped
    after some, and what still came for those that the recorder had closed. With what the server's operator did unseen,
    and with what the recorder had cut."""
    closed, kept, oversized = set(), [], False
    for line in cut_bursts(restore(lines)):
        idle = line["dir"] == "recv" and line["opcode"] == "close" and line["code"] == 1000
        oversized = oversized or line["dir"] == "send" and len(line["data"]) > FRAME_MAX
        if line["dir"] == "recv" and line["opcode"] == "close" and line["code"] == 1006 and line["conn"] not in closed:
            if oversized:
                # The recorder was still sending when the server ended the connection, and did not see its last frame.
                line["code"] = 1009
            else:
                # A socket without a channel, dropped by the server after a while. Here the client drops it.
                line = {"dir": "info", "what": "dropped", "conn": line["conn"], "t_ms": line["t_ms"]}
        if line.get("conn") in closed and line["dir"] == "recv" and line["opcode"] != "close" or idle:
            continue
        if line["dir"] == "send" and line["opcode"] == "close":
            closed.add(line["conn"])
        if line["dir"] == "recv" and OPERATOR in line["data"] and not any(OPERATOR in k.get("data", "") for k in kept):
            kept.append({"dir": "info", "what": "operator", "order": {"op": "disconnect"}, "t_ms": line["t_ms"]})
        kept.append(line)
    return kept


# ---- time ------------------------------------------------------------------------------------------------------------

def readable(link):
    """Is there anything that the client has not read yet?"""
    return bool(link.ws.data) or bool(select.select([link.ws.sock], [], [], 0)[0])


def end_of(payload):
    """The exp of the token in the payload, or None."""
    try:
        part = payload["access_token"].split(".")[1]
        exp = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    return exp if isinstance(exp, (int, float)) else None


class TimedNames(Names):
    """Tokens of a short life, made when they were first sent (at_s after the recording's beginning), have one at its pace."""

    at_s = 0

    def claims(self, claims):
        iat, exp = claims.get("iat"), claims.get("exp")
        if isinstance(iat, (int, float)) and isinstance(exp, (int, float)) and 0 < exp - iat < SOON_S:
            claims["exp"] = self.server.began + (self.at_s + exp - iat) * self.server.pace


class Ends:
    """The tokens of a scenario that end within it, by channel."""

    def __init__(self, now):
        self.now, self.due = now, {}

    def sent(self, conn, m):
        """To be called before a message is sent. True if it takes the place of a token that would end."""
        if not m.ok or m.event not in ("phx_join", "access_token"):
            return False
        end = end_of(m.payload)
        if end is not None and self.now < end < self.now + SOON_S:
            self.due[conn, m.topic] = end
            return False
        return end is not None and (conn, m.topic) in self.due

    def replaced(self, conn, topic):
        """The server has another token."""
        self.in_time()
        del self.due[conn, topic]

    def in_time(self):
        """To be called when all that was to come before the next end has come."""
        if self.due and time.time() >= min(self.due.values()):
            raise TooSlow("a token ended before its time in the recording")

    def ended(self, conn, topic):
        """The server has said so. Returns whether it is true."""
        return time.time() >= self.due.pop((conn, topic), math.inf) - SLACK_S
