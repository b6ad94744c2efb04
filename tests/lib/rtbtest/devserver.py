# SPDX-License-Identifier: MIT
"""Starts rtbridge-devserver, makes its tokens, scripts its faults; and a small blocking WebSocket client.

Standard library only.
"""

import base64
import hashlib
import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import struct
import subprocess
import urllib.parse
import warnings

from . import tokens
from .gotrue import GoTrue
from .misdeeds import Misdeeds
from .tokens import sign  # noqa: F401 (its users have it from here)
from .wait import DEADLINE, Deadline, until
from .web import Web

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def _presence(status, topic, private):
    found = {}
    for room in status["presence"]:
        if (room["topic"], room["private"]) == (topic, private):
            for entry in room["entries"]:
                found.setdefault(entry["key"], []).append(entry["state"])
    return found


class DevServer(Web, GoTrue, Misdeeds):
    """`with DevServer(bin, strict_refs=True, idle_ms=500) as server:` Options are those of the program, with _ for -.

    postgres: libpq's words for a database, e.g. Postgres().conninfo, whose changes it passes on; without it rows come from
    postgres_row() only. private_only=True: refuses public joins. policies: a file of rules for private channels (or
    set_policies() later); without any, everybody may do everything there. faithful_delays=True: 5 s before a refused join is
    answered, with the whole socket, and 2 s before a refused upgrade; join_error_delay_ms, connect_error_delay_ms: other
    times. max_channels, max_users, max_joins_per_second, max_events_per_second, max_presence_per_second: limits (a rate is an
    average, reached or not at a tick of rate_tick_ms [5000] only); max_payload_kb: of one message. no_replay=True: a server
    that knows nothing of replay. Its HTTP API, and what a database sends: see web.py; its token endpoint: see gotrue.py;
    what else it can do wrong: see misdeeds.py.
    """

    def __init__(self, binary, secret=None, listen="127.0.0.1:0", start=True, **options):
        self.binary = binary
        self.secret = secret or secrets.token_hex(24)
        self.listen = listen
        self.options = options
        self.process = None
        self.url = None
        self.port = None
        if start:
            self.start()

    def start(self):
        args = [self.binary, "--jwt-secret", self.secret, "--listen", self.listen]
        for name, value in self.options.items():
            if value is True:
                args.append("--" + name.replace("_", "-"))
            elif value is not None and value is not False:
                args += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise AssertionError(f"the devserver did not start: status {self.process.wait()}")
        self.port = urllib.parse.urlparse(self.url).port
        self.tls = self.url.startswith("wss:")
        self.listen = f"127.0.0.1:{self.port}"

    def _end(self, number, expect):
        if self.process is None:
            return
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        self.process.stdout.close()
        self.process = None
        if expect is not None and status != expect:
            raise AssertionError(f"the devserver ended with status {status}")

    def stop(self):
        """SIGTERM, as at a deploy: close 1012 to all. Fails unless it ends with status 0."""
        self._end(signal.SIGTERM, 0)

    def kill(self):
        """SIGKILL: the sockets break."""
        self._end(signal.SIGKILL, None)

    def restart(self):
        """A new process on the same port with the same secret; stops the old one if it still runs."""
        self.stop()
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        else:
            self.kill()

    def token(self, role="anon", exp_in=3600, **claims):
        """A signed token. A claim of None is left out."""
        return tokens.make(role=role, exp_in=exp_in, secret=self.secret, **claims)

    def _tls_context(self):
        context = ssl._create_unverified_context()
        if self.options.get("tls_old"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def request(self, method, path, body=None, headers=None):
        """One HTTP request: (status, headers, body as text)."""
        if self.tls:
            link = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=DEADLINE, context=self._tls_context())
        else:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            link.request(method, path, body, headers or {})
            answer = link.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            link.close()

    def status(self):
        return json.loads(self.request("GET", "/_devserver/status")[2])

    def fault(self, order=None, **members):
        """`server.fault({"op": "mute"})` or `server.fault(op="mute")`."""
        status, _, text = self.request("POST", "/_devserver/fault", json.dumps(dict(order or {}, **members)))
        if status != 200:
            raise AssertionError(f"fault {order or members}: {status} {text}")

    # Tokens and policies.

    def set_policies(self, text):
        """New rules for private channels, e.g. "read sub=ann room:*"; None: everybody may do everything.

        What a channel has looked up it keeps until its next token.
        """
        self.fault(op="policies", text=text)

    def reload_policies(self):
        """The rules as they are in the file now."""
        self.fault(op="policies", reload=True)

    def disconnect(self, **members):
        """As the project's operator: a system message on each channel, close 1012."""
        self.fault(op="disconnect", **members)

    def log(self, event=None, topic=None, refused=None):
        """The last 5000 joins and new tokens, the oldest first.

        event: "phx_join" or "access_token"; refused: True for those whose outcome is an error, False for the others. Each
        has n, at_ms (wall clock), socket (its id), event, topic, private, token ("none", "key": sb_..., "jwt", "other": no
        JWT), role, sub, exp, outcome ("ok", "same", "ignored", or the server's words). Of a join that carries no token of its
        own the claims are those of the socket's key.
        """
        whole = json.loads(self.request("GET", "/_devserver/log")[2])
        if whole["ever"] > len(whole["entries"]):
            raise AssertionError(f"of {whole['ever']} joins and tokens only the last are known")
        return [e for e in whole["entries"]
                if (event is None or e["event"] == event) and (topic is None or e["topic"] == topic)
                and (refused is None or refused == (e["outcome"] not in ("ok", "same", "ignored")))]

    def joins(self, topic=None, refused=None):
        return self.log("phx_join", topic, refused)

    def pushed_tokens(self, topic=None, refused=None):
        return self.log("access_token", topic, refused)

    def wait_log(self, condition, what, seconds=DEADLINE):
        """Polls the log until condition(its entries) is true; returns them."""

        def look():
            entries = self.log()
            return entries if condition(entries) else None

        return until(look, what, seconds)

    def joined(self, topic):
        """The channels of a topic as the status has them, of all sockets, each with its "socket"."""
        return [dict(t, socket=s["id"]) for s in self.status()["sockets"] for t in s["topics"] if t["topic"] == topic]

    # Database changes. What the orders do is told in the devserver's README.

    def postgres_row(self, table, type, schema="public", **members):
        """A changed row that no database has: record, old_record, columns, errors, commit_timestamp."""
        self.fault(op="postgres_row", table=table, type=type, schema=schema, **members)

    def postgres_refuse(self, schema, table, **members):
        """Refuses bindings with just these names; times: how often [-1, for ever]."""
        self.fault(op="postgres_refuse", schema=schema, table=table, **members)

    def postgres_delay(self, ms, **members):
        """Delays the subscription of a join; topic or prefix: of which."""
        self.fault(op="postgres_delay", ms=ms, **members)

    def postgres_raw(self, topic, payload, **members):
        """A postgres_changes message with this payload."""
        self.fault(op="postgres_raw", topic=topic, payload=payload, **members)

    def postgres_again(self, topic, **members):
        """Says "Subscribed to PostgreSQL" once more."""
        self.fault(op="postgres_again", topic=topic, **members)

    def postgres_lost(self, topic, **members):
        """Loses the subscription, says so, and gets it back after ms [1000]."""
        self.fault(op="postgres_lost", topic=topic, **members)

    def wait_subscribed(self, topic, n=1, seconds=DEADLINE):
        """Until the database changes of n sockets that joined the topic flow."""
        return self.wait_status(
            lambda st: sum(any(t["topic"] == topic and t["subscribed"] for t in s["topics"]) for s in st["sockets"]) >= n,
            f"{n} socket(s) subscribed on {topic}", seconds)

    def sockets(self, topic=None):
        """The open sockets of the status; with a topic only those that have joined it."""
        return [s for s in self.status()["sockets"]
                if topic is None or any(t["topic"] == topic for t in s["topics"])]

    def presence(self, topic, private=False):
        """Who is present in a room, as the server has it: {key: [payload, ...]}."""
        return _presence(self.status(), topic, private)

    def wait_status(self, condition, what, seconds=DEADLINE):
        """Polls the status until condition(status) is true; returns that status."""

        def look():
            status = self.status()
            return status if condition(status) else None

        return until(look, what, seconds)

    def wait_presence(self, topic, want, private=False, seconds=DEADLINE):
        """Polls until presence(topic, private) is `want`; the payloads of one key may come in any order."""

        def ordered(presences):
            return {key: sorted(states, key=json.dumps) for key, states in presences.items()}

        return self.wait_status(lambda st: ordered(_presence(st, topic, private)) == ordered(want),
                                f"presence of {topic} is {want}", seconds)

    def wait_joined(self, topic, n=1, seconds=DEADLINE):
        return self.wait_status(
            lambda st: sum(any(t["topic"] == topic for t in s["topics"]) for s in st["sockets"]) >= n,
            f"{n} socket(s) joined {topic}", seconds)


class Closed(Exception):
    """The other side ended the WebSocket: .code of its close frame, 1005 without one in it, 1006 without a close frame."""

    def __init__(self, code):
        super().__init__(f"closed with {code}")
        self.code = code


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body}")
        self.status, self.headers, self.body = status, headers, body


class RawWebSocket:
    """Frames as they are. path_query is what follows host and port."""

    def __init__(self, host, port, path_query, headers=None, tls=None):
        self.sock = socket.create_connection((host, port), timeout=DEADLINE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=host)
        self.data = b""
        try:
            self._upgrade(host, port, path_query, headers or {})
        except BaseException:
            self.sock.close()
            raise

    def _upgrade(self, host, port, path_query, headers):
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path_query} HTTP/1.1", f"Host: {headers.pop('host', f'{host}:{port}')}", "Upgrade: websocket",
                 "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        lines += [f"{k}: {v}" for k, v in headers.items()]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        end = Deadline()
        while b"\r\n\r\n" not in self.data:
            self._more(end, "answer to the upgrade")
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        status, fields = head.decode().split("\r\n")[0], head.decode().split("\r\n")[1:]
        self.headers = {k.strip().lower(): v.strip() for k, v in (f.split(":", 1) for f in fields)}
        status = int(status.split()[1])
        if status != 101:
            size = int(self.headers.get("content-length", "0"))
            while len(self.data) < size:
                self._more(end, "body of the refusal")
            raise Refused(status, self.headers, self.data[:size].decode())
        want = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        assert self.headers["sec-websocket-accept"] == want.decode()

    def _more(self, end, what):
        self.sock.settimeout(end.left(what))
        try:
            piece = self.sock.recv(262144)
        except socket.timeout:
            raise AssertionError(f"deadline: {what}") from None
        except ConnectionError:
            piece = b""
        if not piece:
            raise Closed(1006)
        self.data += piece

    def send_frame(self, opcode, payload, fin=True, announce=None):
        """One masked frame; `announce` lies about its size."""
        size = len(payload) if announce is None else announce
        head = bytes([(0x80 if fin else 0) | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", size)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", size)
        mask = os.urandom(4)
        key = int.from_bytes(mask * (len(payload) // 4 + 1), "big") >> (8 * (4 - len(payload) % 4))
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big") if payload else b""
        self.sock.settimeout(DEADLINE)
        self.sock.sendall(head + mask + masked)

    def send_text(self, text):
        self.send_frame(TEXT, text.encode() if isinstance(text, str) else text)

    def send_binary(self, data):
        self.send_frame(BINARY, data)

    def _parse(self):
        """(opcode, payload) if a whole frame is here, else None."""
        d = self.data
        if len(d) < 2:
            return None
        size, at = d[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(d[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(d[2:10], "big"), 10
        if len(d) < at or len(d) < at + size:
            return None
        assert d[0] & 0xF0 == 0x80 and not d[1] & 0x80, "the server fragmented or masked a frame"
        self.data = d[at + size:]
        return d[0] & 0x0F, d[at:at + size]

    def recv_frame(self, seconds=DEADLINE):
        """The next (opcode, payload); Closed at the end, AssertionError when none comes in time."""
        end = Deadline(seconds)
        while True:
            frame = self._parse()
            if frame is None:
                self._more(end, "a frame")
                continue
            if frame[0] == CLOSE:
                raise Closed(int.from_bytes(frame[1][:2], "big") if len(frame[1]) >= 2 else 1005)
            return frame

    def recv(self, seconds=DEADLINE):
        """The next message: str for text, bytes for binary."""
        opcode, payload = self.recv_frame(seconds)
        return payload.decode() if opcode == TEXT else payload

    def close(self, code=1000):
        """Close frame, then wait until the server has ended the connection."""
        try:
            self.send_frame(CLOSE, struct.pack(">H", code))
            while True:
                self.recv_frame()
        except (Closed, OSError):
            pass
        self.abort()

    def abort(self):
        """Drops the TCP connection without a close frame."""
        self.sock.close()


class WsClient(RawWebSocket):
    """A blocking Realtime client: WsClient(server.url, server.token()). Messages are [join_ref, ref, topic, event, payload]."""

    def __init__(self, url, apikey, vsn="2.0.0", headers=None, verify=None):
        at = urllib.parse.urlparse(url)
        tls = None
        if at.scheme == "wss":
            tls = ssl.create_default_context(cafile=verify) if verify else ssl._create_unverified_context()
        query = {"apikey": apikey, "vsn": vsn}
        path = f"{at.path}/websocket?" + urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        self.v1 = vsn is None or vsn.startswith("1")
        self.next_ref = 1
        self.join_refs = {}
        super().__init__(at.hostname, at.port, path, headers, tls)

    def ref(self):
        self.next_ref += 1
        return str(self.next_ref - 1)

    def push(self, topic, event, payload, ref=None, join_ref="auto"):
        """Sends one event, with the topic's join_ref; returns its ref."""
        ref = ref or self.ref()
        if join_ref == "auto":
            join_ref = self.join_refs.get(topic)
        if self.v1:
            message = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
        else:
            message = [join_ref, ref, topic, event, payload]
        self.send_text(json.dumps(message))
        return ref

    def recv_message(self, seconds=DEADLINE):
        """The next text message as [join_ref, ref, topic, event, payload] (v1: join_ref None); bytes as they are."""
        message = self.recv(seconds)
        if isinstance(message, bytes):
            return message
        message = json.loads(message)
        if self.v1:
            return [None] + [message[k] for k in ("ref", "topic", "event", "payload")]
        return message

    def expect(self, event, topic=None, ref=None, seconds=DEADLINE):
        """Reads until a message with this event (and topic, ref) comes; returns it."""
        end = Deadline(seconds)
        while True:
            m = self.recv_message(end.left(f"{event} of {topic or 'any topic'}"))
            if isinstance(m, bytes) or m[3] != event:
                continue
            if (topic is None or m[2] == topic) and (ref is None or m[1] == ref):
                return m

    def join(self, topic, config=None, token=None, **payload):
        """Joins and returns the payload of the reply: {"status": ..., "response": ...}."""
        ref = self.ref()
        payload.setdefault("config", config or {})
        if token is not None:
            payload["access_token"] = token
        self.push(topic, "phx_join", payload, ref=ref, join_ref=ref)
        reply = self.expect("phx_reply", topic, ref)[4]
        if reply["status"] == "ok":
            self.join_refs[topic] = ref
        return reply

    def broadcast(self, topic, event, payload):
        return self.push(topic, "broadcast", {"type": "broadcast", "event": event, "payload": payload})

    def broadcast_binary(self, topic, event, payload, json_encoding=False):
        """A kind 3 frame (version 2 only); returns its ref."""
        ref = self.ref()
        parts = [(self.join_refs.get(topic) or "").encode(), ref.encode(), topic.encode(), event.encode()]
        self.send_binary(bytes([3] + [len(p) for p in parts] + [0, int(json_encoding)]) + b"".join(parts) + payload)
        return ref

    def heartbeat(self):
        """Sends one and waits for its answer; what came before it is returned."""
        ref = self.push("phoenix", "heartbeat", {}, join_ref=None)
        before = []
        while True:
            m = self.recv_message()
            if not isinstance(m, bytes) and m[1] == ref and m[2] == "phoenix":
                return before
            before.append(m)
