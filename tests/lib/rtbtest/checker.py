# SPDX-License-Identifier: MIT
"""What must hold whatever fails: the one judge of all stories about failures.

Numbered messages {"s": sender, "n": counter} go out, listeners hear them; afterwards verify() says

    twice       a listener got a message twice
    order       ... or behind a later one of its sender (of those that went one way)
    changed     ... or not as it was sent
    stranger    ... or one that nobody has sent
    loss        one is missing between two others of its sender, and no gap between these two covers its time
    false gap   a gap whose time holds no join of the channel (the server's log), or that no `rejoining` came before
    no gap      a channel came back, or was joined anew by the server's log, and no gap tells it
    outcome     a send has no outcome, more than one, or one that is not true: see TAKEN

The truth about what the server took and passed on is a witness: a client past the daemon (and past what fails in front of
it). What a witness could not see is no proof of anything. Times are of the wall clock, in ms.

It knows no sockets: it is told what happened. `events` of a listener are its notifications, in their order.
"""

import collections
import zlib

# What an outcome says of the message: the server took it (True), it did not (False), nobody knows (None).
TAKEN = {"acked": True, "sent": True, "unknown": None, "denied": False, "expired": False, "busy": False, "too_big": False,
         "rate_limited": False, "not_joined": False, "bad_payload": False, "unsupported": False, "refused": False}


class Violation(AssertionError):
    pass


def seal(s, n, size=0):
    """The payload of a message, with so many bytes to carry, which it can be checked by."""
    pad = (f"{s}.{n}." * (size // 3 + 1))[:size]
    return {"s": s, "n": n, "pad": pad, "sum": zlib.crc32(f"{s}.{n}.{pad}".encode())}


def is_whole(payload):
    try:
        return payload["sum"] == zlib.crc32(f"{payload['s']}.{payload['n']}.{payload['pad']}".encode())
    except (KeyError, TypeError):
        return False


class Message:
    """One send. way: those of one sender that take one are in order among each other (a topic, ws or http)."""

    def __init__(self, sender, n, topic, at_ms, local, way):
        self.sender, self.n, self.topic, self.at_ms, self.local, self.way = sender, n, topic, at_ms, local, way
        self.outcomes, self.ended_ms = [], None

    @property
    def outcome(self):
        return self.outcomes[0] if len(self.outcomes) == 1 else None

    def __repr__(self):
        return f"{self.sender}:{self.n} to {self.topic} at {self.at_ms}, {'/'.join(self.outcomes) or 'no outcome'} at {self.ended_ms}"


class Listener:
    """Who hears one topic from one moment on. `own`: the sender that it is itself, whose messages it does not get."""

    def __init__(self, name, topic, own, at_ms, changes, elsewhere):
        self.name, self.topic, self.own, self.since_ms = name, topic, own, at_ms
        self.changes, self.elsewhere = changes, elsewhere
        self.events, self.until_ms = [], None

    def ended(self, at_ms):
        """Nothing is expected any more."""
        self.until_ms = at_ms

    def broadcast(self, payload, at_ms, undecodable=False):
        self.events.append(("message", at_ms, payload, undecodable))

    def gap(self, notice, at_ms):
        self.events.append(("gap", at_ms, notice))

    def channel(self, notice, at_ms):
        self.events.append(("channel", at_ms, notice))

    def around(self, at, before=4, after=4):
        """For people: the events around one."""
        lines = []
        for i in range(max(0, at - before), min(len(self.events), at + after + 1)):
            kind, ms, what = self.events[i][:3]
            if kind == "message":
                what = f"{what.get('s')}:{what.get('n')}" if isinstance(what, dict) else what
            lines.append(f"      {'>' if i == at else ' '} {ms} {kind} {what}")
        return "\n".join(lines)


class Witness:
    """A client past the daemon: what it got of a topic, and when it could not hear."""

    def __init__(self, topic):
        self.topic, self.got, self.blind, self.twice = topic, {}, [], []

    def broadcast(self, payload, at_ms):
        key = (payload["s"], payload["n"])
        if key in self.got:
            self.twice.append(key)
        self.got.setdefault(key, at_ms)

    def gone(self, from_ms, to_ms):
        """It was not joined meanwhile."""
        self.blind.append((from_ms, to_ms))

    def could_hear(self, from_ms, to_ms):
        return not any(a <= to_ms and b >= from_ms for a, b in self.blind)


class Checker:
    """transit_ms: how long a message may be on its way. slack_ms: between the clocks of here and of the server's log."""

    def __init__(self, transit_ms=2000, slack_ms=500):
        self.transit_ms, self.slack_ms = transit_ms, slack_ms
        self.messages, self.listeners, self.witnesses = {}, [], {}
        self.joins, self.joins_unknown = {}, []
        self.violations = []
        self.judged = collections.Counter()

    # ---- what happened ----

    def sent(self, sender, n, topic, at_ms, local=False, way="ws"):
        """local: through the daemon, so that it has an outcome."""
        key = (sender, n)
        assert key not in self.messages, f"{key} is sent twice by the test"
        self.messages[key] = Message(sender, n, topic, at_ms, local, way)

    def outcome(self, sender, n, word, at_ms, way=None):
        """Of a local send; an error of the request is the outcome "refused". way: the one that it took, if it says so."""
        message = self.messages[(sender, n)]
        message.way = way or message.way
        message.outcomes.append(word)
        message.ended_ms = at_ms

    def listener(self, name, topic, at_ms, own=None, changes=False, elsewhere=False):
        """From the answer to its subscription on. changes: of database changes, whose channel is nobody's business.
        elsewhere: at another daemon, or of another identity, than the local senders."""
        self.listeners.append(Listener(name, topic, own, at_ms, changes, elsewhere))
        return self.listeners[-1]

    def witness(self, topic):
        return self.witnesses.setdefault(topic, Witness(topic))

    def knows_joins_of(self, topic):
        """Its joins will be told by joined(), all of them. Not for topics that the daemon joins more than once at a time."""
        self.joins.setdefault(topic, [])

    def joined(self, topic, at_ms):
        """The server's log: the daemon joined it, and the server said yes."""
        self.joins[topic].append(at_ms)

    def joins_not_known(self, from_ms, to_ms):
        """The log of this time is lost."""
        self.joins_unknown.append((from_ms, to_ms))

    # ---- what it means ----

    def verify(self):
        """Raises Violation with everything that is wrong."""
        self.check()
        if self.violations:
            shown = "\n".join(self.violations[:20])
            more = f"\n... and {len(self.violations) - 20} more" if len(self.violations) > 20 else ""
            raise Violation(f"{len(self.violations)} violations:\n{shown}{more}")

    def check(self):
        """Fills .violations anew, and .judged: how many of what were looked at."""
        self.violations, self.judged = [], collections.Counter()
        for message in self.messages.values():
            self.judged["sends"] += 1
            self.judge_send(message)
        for witness in self.witnesses.values():
            for key in witness.twice:
                self.say("twice", f"the witness of {witness.topic} got {key}")
        for listener in self.listeners:
            self.judge_listener(listener)
        return self.violations

    def say(self, kind, text, listener=None, at=None):
        around = "" if listener is None or at is None else "\n" + listener.around(at)
        self.violations.append(f"  {kind}: {text}{around}")

    def delivered(self, message):
        """Whether the server passed it on: True, False, or None when nobody can know."""
        witness = self.witnesses.get(message.topic)
        if witness is None:
            return TAKEN.get(message.outcome) if message.local else None
        if (message.sender, message.n) in witness.got:
            return True
        end = message.ended_ms if message.ended_ms is not None else message.at_ms
        # Of one whose sender never heard of it, nobody knows when it was taken.
        end = max(end, message.at_ms) + self.transit_ms
        return False if witness.could_hear(message.at_ms - self.slack_ms, end) else None

    def judge_send(self, message):
        if not message.local:
            return
        if len(message.outcomes) != 1:
            self.say("outcome", f"{len(message.outcomes)} for {message}")
            return
        if message.outcome not in TAKEN:
            self.say("outcome", f"an unknown word for {message}")
            return
        taken, delivered = TAKEN[message.outcome], self.delivered(message)
        self.judged[f"outcome {message.outcome}"] += 1
        if taken is None or delivered is None or message.topic not in self.witnesses:
            return
        if taken != delivered:
            self.say("outcome", f"{message} is not true: the witness {'has' if delivered else 'never got'} it")

    def judge_listener(self, x):
        self.judged["listeners"] += 1
        got = self.judge_messages(x)
        self.judge_gaps(x)
        for sender in got:
            self.judge_missing(x, sender, got[sender])

    def judge_messages(self, x):
        """{sender: [(n, position)]} of what came, in its order."""
        got, seen, last = collections.defaultdict(list), {}, {}
        for at, event in enumerate(x.events):
            if event[0] != "message":
                continue
            payload, undecodable = event[2:]
            self.judged["received"] += 1
            if undecodable or not isinstance(payload, dict) or "s" not in payload or not self.same(payload):
                self.say("changed", f"{x.name} got of {x.topic}: {str(payload)[:200]}", x, at)
                continue
            key = (payload["s"], payload["n"])
            message = self.messages.get(key)
            if message is None or message.topic != x.topic:
                self.say("stranger", f"{x.name} got of {x.topic}: {key}, known is: {message}", x, at)
                continue
            if key in seen:
                self.say("twice", f"{x.name} got {message} at {x.events[seen[key]][1]} and at {event[1]}", x, at)
                continue
            seen[key] = at
            way = (message.sender, message.way)
            if message.n < last.get(way, -1):
                self.say("order", f"{x.name} got {message} behind {message.sender}:{last[way]}", x, at)
            last[way] = max(message.n, last.get(way, -1))
            got[message.sender].append((message.n, at))
        return got

    @staticmethod
    def same(payload):
        return is_whole(payload) if "sum" in payload else True

    # ---- gaps ----

    def judge_gaps(self, x):
        away, told = None, False  # the position of `rejoining`; whether a gap has come since
        gaps = []
        for at, event in enumerate(x.events):
            if event[0] == "gap":
                self.judged["gaps"] += 1
                gaps.append(event[2])
                self.judge_gap(x, at, event[2], away)
                told = True
            elif event[0] == "channel" and not x.changes:
                state = event[2]["state"]
                if state in ("rejoining", "joining"):
                    away, told = (at, False) if away is None else (away, told)
                elif state in ("joined", "ready") and away is not None:
                    if not told:
                        self.say("no gap", f"{x.name}: {x.topic} is back without one", x, at)
                    away = None
                elif state in ("rejected", "closed"):
                    away = None
        if x.topic in self.joins and not x.changes:
            self.judge_joins(x, gaps)

    def judge_gap(self, x, at, gap, away):
        if gap["from"] > gap["to"]:
            self.say("false gap", f"{x.name}: {x.topic}: from is behind to: {gap}", x, at)
        if x.changes:
            return
        # `moved`: the channel is taken over by another connection and was never away.
        if away is None and gap["cause"] != "moved":
            self.say("false gap", f"{x.name}: {x.topic}: it was not away: {gap}", x, at)
        if x.topic not in self.joins or self.overlaps(self.joins_unknown, gap["from"], gap["to"]):
            return
        if not any(gap["from"] - self.slack_ms <= ms <= gap["to"] + self.slack_ms for ms in self.joins[x.topic]):
            self.say("false gap", f"{x.name}: the server knows of no join of {x.topic} in it: {gap}; joins {self.joins[x.topic]}", x, at)

    def judge_joins(self, x, gaps):
        """Each join after the one that it subscribed with is in a gap."""
        end = x.until_ms if x.until_ms is not None else float("inf")
        for ms in self.joins[x.topic]:
            if not x.since_ms + self.slack_ms < ms < end - self.slack_ms:
                continue
            self.judged["rejoins"] += 1
            if not any(g["from"] - self.slack_ms <= ms <= g["to"] + self.slack_ms for g in gaps):
                self.say("no gap", f"{x.name}: {x.topic} was joined anew at {ms}, and only these were told: {gaps}")

    def overlaps(self, intervals, from_ms, to_ms):
        return any(a <= to_ms + self.slack_ms and b >= from_ms - self.slack_ms for a, b in intervals)

    # ---- what is missing ----

    def judge_missing(self, x, sender, got):
        """Between two that came: each other one of this sender to this topic."""
        have = {n: at for n, at in got}
        numbers = sorted(have)
        sent = [m for m in self.messages.values() if m.sender == sender and m.topic == x.topic]
        for m in sent:
            if sender == x.own or not numbers[0] < m.n < numbers[-1] or m.n in have:
                continue
            before = max(have[n] for n in numbers if n < m.n)
            after = min(have[n] for n in numbers if n > m.n)
            self.judge_loss(x, m, min(before, after), max(before, after))

    def judge_loss(self, x, m, before, after):
        self.judged["missing"] += 1
        delivered = self.delivered(m)
        if delivered is False or (m.local and TAKEN.get(m.outcome) is False):
            return
        # The daemon hands on what the server took; of one without an answer it cannot know.
        here = m.local and not x.elsewhere
        if here and m.outcome == "unknown":
            return
        if here and m.outcome == "acked":
            self.say("loss", f"{x.name} misses {m}, which was taken and is handed on here", x, after)
            return
        end = self.witnesses[m.topic].got.get((m.sender, m.n), m.at_ms) if m.topic in self.witnesses else m.at_ms
        gaps = [e[2] for e in x.events[before:after + 1] if e[0] == "gap"]
        if any(g["from"] - self.slack_ms <= end + self.transit_ms and m.at_ms <= g["to"] + self.slack_ms for g in gaps):
            self.judged["missing, told"] += 1
            return
        where = f"; the gaps between {x.events[before][1]} and {x.events[after][1]}: {gaps}"
        self.say("loss", f"{x.name} misses {m}, which the server {'passed on' if delivered else 'may have passed on'} at {end}{where}", x, after)

    def summary(self):
        return ", ".join(f"{n} {what}" for what, n in sorted(self.judged.items()))
