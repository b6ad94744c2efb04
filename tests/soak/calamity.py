# SPDX-License-Identifier: MIT
"""Every kind of fault that the soak knows. Each is a method that begins it, plans its end, and returns words for the log."""

import signal

from rtbtest.faults import accept_head, frame, http, upgraded
from rtbtest.tcpproxy import DOWN, UP

WAYS = (UP, DOWN, "both")
# After these the daemon has no reason to wait long.
SYSTEM_WORDS = ["Server requested disconnect", "Query was cancelled, please try again", "Node request timeout", "no word that anybody knows",
                "Too many database timeouts", "Realtime was unable to connect to the project database", "RPC call error"]
# After these a minute; after the last ones five.
SLOW_WORDS = ["Too many messages per second", "Too many presence messages per second", "Client presence rate limit exceeded"]
SLOWEST_WORDS = ["Realtime was disabled for this tenant", "Tenant not found"]
JOIN_WORDS = ["RealtimeRestarting: Realtime is restarting, please standby", "InitializingProjectConnection: Connecting",
              "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect",
              "UnableToConnectToProject: Realtime was unable to connect to the project database"]
LAST_WORDS = ["You do not have permissions to read from this Channel topic: outcast", "Token has expired 12 seconds ago"]
HTTP_FAULTS = [("answer", {"status": 500}), ("answer", {"status": 503, "retry_after": 1}), ("answer", {"status": 429, "retry_after": 1}),
               ("garbage", {}), ("delay", {"ms": 300}), ("slow", {"ms": 2, "bytes": 9}), ("close", {}), ("drop", {}), ("half", {}),
               ("drop", {"work": False}), ("hang", {})]


class Calamity:
    def __init__(self, soak):
        """Of a short soak: nothing that makes the daemon wait for a minute; of one below half an hour: for five."""
        self.soak, self.r, self.proxy = soak, soak.r, soak.proxy
        self.slow_words = SLOW_WORDS + (SLOWEST_WORDS if soak.minutes >= 30 else [])
        often = [self.latency, self.slices, self.bandwidth, self.reset, self.fin, self.cut, self.cut, self.hole, self.hole, self.refuse,
                 self.silence, self.slam, self.close_code, self.close_code, self.refuse_upgrade, self.odd_answer, self.restart, self.kill_server,
                 self.refuse_join, self.late_join, self.no_join, self.end_channel, self.end_channel, self.system, self.system,
                 self.disconnect, self.http, self.http, self.stop_reader, self.kill_reader, self.reload, self.rows_lost,
                 self.rows_again, self.half_frame, self.nonsense, self.burst, self.last_words, self.token_server]
        seldom = [self.refused_for_long, self.slow_system] if soak.minutes >= 5 else []
        self.kinds = often + seldom
        self.bag = []

    def next(self):
        """Another fault: each kind once before any comes again."""
        if not self.bag:
            self.bag = self.r.sample(self.kinds, len(self.kinds))
        kind = self.bag.pop()
        return kind.__name__, kind()

    def later(self, seconds, what):
        self.soak.later(seconds, what)

    def daemon_sockets(self):
        return [s["id"] for s in self.soak.server.status()["sockets"] if not s["closing"] and
                not any(t["sub"] == "past the daemon" for t in s["topics"])]

    def server_fault(self, op, **members):
        """At the daemon's sockets, unless the rule waits for something."""
        self.soak.server.fault(op=op, **members)

    # ---- the network ----

    def shape(self, seconds, direction, **what):
        self.proxy.shape(direction, **what)
        self.later(seconds, lambda: self.proxy.shape("both"))
        return f"{direction} {what} for {seconds:.1f} s"

    def latency(self):
        return self.shape(self.r.uniform(2, 8), self.r.choice(WAYS), latency_ms=self.r.randrange(5, 300), jitter_ms=self.r.randrange(200))

    def slices(self):
        return self.shape(self.r.uniform(2, 6), self.r.choice(WAYS), slice=self.r.choice((1, 3, 10, 100)))

    def bandwidth(self):
        return self.shape(self.r.uniform(2, 6), self.r.choice(WAYS), bandwidth=self.r.randrange(20_000, 200_000))

    def reset(self):
        return f"{self.proxy.drop('rst')} connections"

    def fin(self):
        return f"{self.proxy.drop('fin')} connections"

    def cut(self):
        words = []
        for _ in range(self.r.randrange(1, 4)):
            direction, at, how = self.r.choice((UP, DOWN)), self.r.randrange(0, 6000), self.r.choice(("rst", "fin"))
            self.proxy.cut(direction, at, how)
            words.append(f"{how} behind {at} {direction}")
        self.proxy.drop()
        return ", ".join(words)

    def hole(self):
        direction, seconds = self.r.choice(WAYS), self.r.uniform(0.3, 5)
        self.proxy.hole(direction)
        self.later(seconds, self.proxy.heal)
        return f"{direction} for {seconds:.1f} s"

    def refuse(self):
        seconds = self.r.uniform(0.5, 5)
        self.proxy.refuse()
        self.proxy.drop()
        self.later(seconds, self.proxy.accept)
        return f"for {seconds:.1f} s"

    def slam(self):
        count = self.r.randrange(1, 8)
        self.proxy.slam(count)
        self.proxy.drop()
        return f"{count} connections"

    def silence(self):
        seconds = self.r.uniform(1, 5)
        self.proxy.silence()
        self.proxy.drop()
        self.later(seconds, self.proxy.heal)
        return f"for {seconds:.1f} s"

    def odd_answer(self):
        answers = [http(301, Location="http://127.0.0.1:1/"), http(200, b"<html>log in</html>"), http(502), lambda head: [b"SSH-2.0-x\r\n\r\n"],
                   lambda head: [accept_head(head, key="AAAAAAAAAAAAAAAAAAAAAA==")], upgraded(frame(8, b"\x03\xe8")), upgraded(frame(3, b"x")),
                   upgraded(frame(1, b" " * (9 << 20)))]
        nr, count = self.r.randrange(len(answers)), self.r.randrange(1, 4)
        self.proxy.answer(answers[nr], count=count, then="fin")
        self.proxy.drop()
        return f"number {nr}, {count} times"

    # ---- the server ----

    def close_code(self):
        code = self.r.choice((0, 1000, 1001, 1006, 1008, 1009, 1011, 1012, 1013, 3000, 4001))
        self.server_fault("close", code=code, sockets=self.daemon_sockets())
        return str(code)

    def half_frame(self):
        self.server_fault("half_frame", bytes=self.r.randrange(2, 100000), sockets=self.daemon_sockets())
        return ""

    def nonsense(self):
        for text in "[1,2]", "{}", "[" * 1000, '["x",null,"realtime:soak:0","phx_reply",{}]', '[null,null,"realtime:soak:0","presence_diff",7]':
            self.server_fault("send", topic="", text=text, sockets=self.daemon_sockets())
        self.server_fault("bad_json", sockets=self.daemon_sockets())
        return ""

    def refuse_upgrade(self):
        status, count = self.r.choice((500, 502, 503, 504)), self.r.randrange(1, 5)
        self.server_fault("refuse_upgrade", status=status, count=count)
        self.proxy.drop()
        return f"{status}, {count} times"

    def refused_for_long(self):
        status = self.r.choice((401, 403, 404, 429))
        self.server_fault("refuse_upgrade", status=status, count=1)
        self.proxy.drop()
        return str(status)

    def restart(self):
        seconds = self.r.uniform(0, 3)
        self.soak.server_down(kill=False)
        self.later(seconds, self.soak.server_up)
        return f"away for {seconds:.1f} s"

    def kill_server(self):
        seconds = self.r.uniform(0, 3)
        self.soak.server_down(kill=True)
        self.later(seconds, self.soak.server_up)
        return f"away for {seconds:.1f} s"

    def disconnect(self):
        self.server_fault("disconnect", sockets=self.daemon_sockets())
        return ""

    # ---- channels ----

    def topic(self):
        return "realtime:" + self.r.choice(self.soak.topics)

    def refuse_join(self):
        reason = self.r.choice(JOIN_WORDS)
        self.server_fault("refuse_join", prefix="realtime:soak:", reason=reason, count=self.r.randrange(1, 4))
        self.proxy.drop()
        return reason

    def late_join(self):
        ms = self.r.randrange(100, 3000)
        self.server_fault("delay_reply", event="phx_join", prefix="realtime:soak:", ms=ms, stall=self.r.random() < 0.5)
        self.proxy.drop()
        return f"{ms} ms"

    def no_join(self):
        self.server_fault("drop_reply", event="phx_join", prefix="realtime:soak:", count=1)
        self.proxy.drop()
        return ""

    def end_channel(self):
        op, topic = self.r.choice(("phx_close", "phx_error")), self.topic()
        self.server_fault(op, topic=topic, sockets=self.daemon_sockets())
        return f"{op} of {topic}"

    def say(self, text, topic):
        self.server_fault("system", topic=topic, message=text, close=True, sockets=self.daemon_sockets())
        return f"{text!r} on {topic}"

    def system(self):
        return self.say(self.r.choice(SYSTEM_WORDS), self.topic())

    def slow_system(self):
        return self.say(self.r.choice(self.slow_words), self.topic())

    def last_words(self):
        """A channel that is over for good: of a topic and a subscription that nobody else has."""
        return self.soak.outcast(lambda topic: self.say(self.r.choice(LAST_WORDS), "realtime:" + topic))

    def rows_lost(self):
        topics = {t["topic"] for s in self.soak.server.status()["sockets"] for t in s["topics"] if t["subscribed"] and t["sub"] != "past the daemon"}
        for topic in topics:
            self.server_fault("postgres_lost", topic=topic, ms=self.r.randrange(100, 2000))
        return str(len(topics))

    def rows_again(self):
        topics = {t["topic"] for s in self.soak.server.status()["sockets"] for t in s["topics"] if t["subscribed"] and t["sub"] != "past the daemon"}
        for topic in topics:
            self.server_fault("postgres_again", topic=topic)
        return str(len(topics))

    def http(self):
        how, members = self.r.choice(HTTP_FAULTS)
        self.soak.server.http_fault(how, **dict({"count": self.r.randrange(1, 4)}, **members))
        return f"{how} {members}"

    def token_server(self):
        """The next refresh of the daemon's token goes wrong in a way that is borne."""
        how, members = self.r.choice([("answer", {"status": 503}), ("answer", {"status": 500}), ("slow", {"ms": 5, "bytes": 20}),
                                      ("delay", {"ms": 500}), ("garbage", {}), ("drop", {"work": False}), ("drop", {}), ("half", {})])
        self.soak.auth.token_fault(how, **members)
        return f"{how} {members}"

    # ---- this machine ----

    def stop_reader(self):
        i, seconds = self.r.randrange(len(self.soak.victims.children)), self.r.uniform(1, 8)
        self.soak.victims.signal(i, signal.SIGSTOP)
        self.later(seconds, lambda: self.soak.victims.signal(i, signal.SIGCONT))
        return f"number {i} for {seconds:.1f} s"

    def kill_reader(self):
        i = self.r.randrange(len(self.soak.victims.children))
        self.soak.victims.replace(i)
        return f"number {i}"

    def reload(self):
        self.soak.daemon.process.send_signal(signal.SIGHUP)
        return ""

    def burst(self):
        """Many large messages at once."""
        mouth, n = self.r.choice([m for m in self.soak.field.mouths if m.peer is not None]), self.r.randrange(50, 200)
        for _ in range(n):
            mouth.send(size=2000)
        return f"{n} of {mouth.name}"
