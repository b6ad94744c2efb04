# SPDX-License-Identifier: MIT
"""What no good server does to a connection, as tests order it from the devserver. Each acts on sockets: "all" [default], the
id of one in server.sockets(), or a list of ids.

The end of connections
    server.close_sockets(1013, reason="try again later")    any code of 1000 to 4999; 1005: a close frame without one
    server.break_sockets()                                   no close frame: the TCP connection is reset (RST)
    server.break_sockets("fin")                              no close frame: it ends gently (FIN)
    server.disconnect()                                      as the operator does it (devserver.py)

Upgrades (rules: the next `count` [1; -1: all] upgrades)
    server.refuse_upgrades(status=429, retry_after=3, count=2)           in the real server's words
    server.upgrade_fault("answer", status=302, headers={"location": "https://elsewhere.example/"})
    server.upgrade_fault("answer", status=200, type="text/html", body="<html>log in</html>")
    server.upgrade_fault("garbage")                          also hang, close, drop, half, slow, delay, endless (web.py)
    server.bad_upgrade("accept")                             a 101 that is wrong: see BAD_UPGRADES
    server.fault(op="hang_upgrade")

Silence
    server.heartbeats(False, sockets=3)                      not answered any more; True: again
    server.stall(), server.unstall()                         nothing of a socket moves, in or out; what waited comes then
    server.stall(tcp=True)                                   nor is its TCP connection read
    server.fault(op="mute"), server.fault(op="unmute")       everybody: all is read, nothing answered

Messages
    server.push("realtime:room", "phx_reply", {"status": "ok", "response": {}}, ref="no such", join_ref="1")
    server.phx_close_again("realtime:room")                  a phx_close of the channel that stays
    server.late_close(500, topic="realtime:room")            the next phx_close comes so many ms later
    server.stale_reply("realtime:room")                      a reply to a join of long ago
    server.send_text("no JSON"), server.send_bytes(b"...")   whole frames with anything in them
    server.big_frame(9 << 20)                                a text frame of so many bytes, all of them
    server.raw(b"...")                                       bytes into the TCP stream: bad opcodes, reserved bits, masks
    server.unfinished_frame(9 << 20, sent=10)                announced, begun, and never ended
    server.fragments(1000, times=3), server.fragments(65536, times=-1, ms=5)   a message without its end, without end
"""

import base64

BAD_UPGRADES = ("accept", "no accept", "extension", "protocol", "no upgrade", "no connection", "old http")
UPGRADES = "*/websocket"

# For raw(): each breaks RFC 6455 in one way.
BROKEN_FRAMES = {
    "reserved bit": b"\xc1\x02hi",
    "reserved opcode": b"\x83\x02hi",
    "reserved control opcode": b"\x8b\x00",
    "masked": b"\x81\x82\x00\x00\x00\x00hi",
    "fragmented ping": b"\x09\x00",
    "ping of 126 bytes": b"\x89\x7e\x00\x7e" + b"p" * 126,
    "continuation of nothing": b"\x80\x02hi",
    "text within a text": b"\x01\x02hi\x81\x02hi",
    "text that is no UTF-8": b"\x81\x04\xff\xfe\xfd\xfc",
    "length of 64 bits": b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    "close of one byte": b"\x88\x01\x03",
    "close 999": b"\x88\x02\x03\xe7",
    "close 1005 on the wire": b"\x88\x02\x03\xed",
    "close with a reason that is no UTF-8": b"\x88\x04\x03\xe8\xff\xfe",
}


class Misdeeds:
    """A part of DevServer."""

    def close_sockets(self, code=1012, reason="", sockets="all"):
        """A close frame. reason: up to 123 bytes."""
        self.fault(op="close", code=code, reason=reason, sockets=sockets)

    def break_sockets(self, tcp="rst", sockets="all"):
        """The end without a close frame: 1006 to the client. tcp: rst or fin."""
        self.fault(op="close", code=0, tcp=tcp, sockets=sockets)

    def refuse_upgrades(self, status=503, count=1, **members):
        """reason: the "error" of the body [the real server's]; retry_after: s; ms: so much later."""
        self.fault(op="refuse_upgrade", status=status, count=count, **members)

    def upgrade_fault(self, how, **members):
        """What becomes of the next upgrades: http_fault() for them. Such requests stand in server.requests()."""
        self.http_fault(how, path=UPGRADES, **members)

    def bad_upgrade(self, how, count=1):
        """The next upgrades get a 101 that is wrong in this way (BAD_UPGRADES), and are sockets for the server."""
        self.fault(op="bad_upgrade", how=how, count=count)

    def heartbeats(self, answer, sockets="all"):
        self.fault(op="heartbeats", answer=answer, sockets=sockets)

    def stall(self, tcp=False, sockets="all"):
        self.fault(op="stall", tcp=tcp, sockets=sockets)

    def unstall(self, sockets="all"):
        self.fault(op="unstall", sockets=sockets)

    def push(self, topic, event, payload=None, ref=None, join_ref=None, sockets="all"):
        """A Phoenix message out of nowhere, in the form of each socket's version (which has no join_ref in version 1)."""
        self.fault(op="push", topic=topic, event=event, payload={} if payload is None else payload, ref=ref, join_ref=join_ref,
                   sockets=sockets)

    def phx_close_again(self, topic):
        """To each socket that has joined the topic, with its join_ref; the channel stays."""
        for channel in self.joined(topic):
            ref = channel["join_ref"]
            self.push(topic, "phx_close", ref=ref, join_ref=ref, sockets=channel["socket"])

    def late_close(self, ms, **members):
        """The next phx_close (of topic; count [1]) comes so much later; for the server the channel ends at once."""
        self.fault(op="late_close", ms=ms, **members)

    def stale_reply(self, topic, status="ok", response=None, ref="0", join_ref="0"):
        """To each socket that has joined the topic, a reply of another join than its own."""
        for channel in self.joined(topic):
            self.push(topic, "phx_reply", {"status": status, "response": response or {}}, ref=ref, join_ref=join_ref,
                      sockets=channel["socket"])

    def send_text(self, text, sockets="all"):
        self.fault(op="send", text=text, sockets=sockets)

    def send_bytes(self, data, sockets="all"):
        self.fault(op="send_binary", base64=base64.b64encode(data).decode(), sockets=sockets)

    def big_frame(self, size, sockets="all"):
        """A text frame of `size` bytes (up to 30 MB), which is JSON: ["xxx..."]."""
        self.send_text('["' + "x" * (size - 4) + '"]', sockets)

    def raw(self, data, sockets="all"):
        """Bytes as they are, between two frames. See BROKEN_FRAMES."""
        self.fault(op="raw", base64=base64.b64encode(data).decode(), sockets=sockets)

    def unfinished_frame(self, size, sent, sockets="all"):
        """The head of a text frame of `size` bytes, `sent` of them, and nothing more; the connection stays."""
        self.fault(op="half_frame", bytes=size, sent=sent, sockets=sockets)

    def fragments(self, size, times=1, ms=0, sockets="all"):
        """`times` (-1: without end) fragments of `size` bytes of one text message, none the last, each `ms` after the one
        before; then nothing more."""
        self.fault(op="fragments", bytes=size, times=times, ms=ms, sockets=sockets)
