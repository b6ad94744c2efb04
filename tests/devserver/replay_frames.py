# SPDX-License-Identifier: MIT
"""The frames of the replay: parts of recorded messages, their new names, and what a strict server would do with them."""

import base64
import hashlib
import hmac
import json
import re

from rtbtest.devserver import sign

RECORDED_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
RECORDED_AT = 1795376500  # seconds, about
PROTOCOL_EVENTS = {"phx_join", "phx_leave", "phx_reply", "phx_close", "phx_error", "heartbeat", "broadcast", "presence",
                   "access_token", "system", "presence_state", "presence_diff", "postgres_changes", "track", "untrack"}
CHANNEL_TOPIC = re.compile(r"(?<=this Channel topic: ).*")
JWT = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]+")


def parse_json(text):
    """Numbers keep their digits (1.50 and 1.5 differ), and a key that comes twice is two members."""
    def members(pairs):
        value = {}
        for k, v in pairs:
            while k in value:
                k += " (again)"
            value[k] = v
        return value

    return json.loads(text, parse_float=lambda digits: ("number", digits), object_pairs_hook=members)


# ---- frames ----------------------------------------------------------------------------------------------------------

class Message:
    """A Phoenix message out of a recorded or received frame. `raw` where it is none."""

    FIELDS = ("join_ref", "ref", "topic", "event", "payload")

    def __init__(self, v1, opcode, data):
        self.v1, self.opcode, self.raw, self.kind = v1, opcode, data, None
        self.fields = {}
        try:
            if opcode == "binary" and not v1:
                self._binary(data)
            else:
                self._text(data if isinstance(data, str) else data.decode())
            self.ok = True
        except (ValueError, KeyError, IndexError, TypeError):
            self.ok = False

    def _text(self, text):
        value = parse_json(text)
        if self.v1:
            self.fields = {k: value[k] for k in ("ref", "topic", "event", "payload")}
            self.fields["join_ref"] = value.get("join_ref")
            self.has_join_ref = "join_ref" in value
        else:
            if not isinstance(value, list) or len(value) < 5:
                raise ValueError("no Phoenix array")
            self.fields = dict(zip(self.FIELDS, value))
            self.rest = value[5:]

    def _binary(self, data):
        self.kind = data[0]
        names = {0: ("join_ref", "ref", "topic", "event"), 2: ("topic", "event"),
                 3: ("join_ref", "ref", "topic", "user_event", "metadata"), 4: ("topic", "user_event", "metadata")}[self.kind]
        at = 1 + len(names)
        if self.kind in (3, 4):
            self.fields["encoding"] = data[at]
            at += 1
        for name, size in zip(names, data[1:1 + len(names)]):
            if at + size > len(data):
                raise ValueError("short")
            self.fields[name] = data[at:at + size].decode()
            at += size
        self.names = names
        self.fields.setdefault("event", "broadcast")
        self.fields["payload"] = data[at:]

    def make_v1(self, sent):
        """What version 1 has of a version 2 message: servers do not tell the join_ref."""
        self.v1, self.has_join_ref = True, sent
        if self.ok and not sent:
            self.fields["join_ref"] = None

    def __getattr__(self, name):
        if name.startswith("__") or "fields" not in self.__dict__:
            raise AttributeError(name)
        return self.fields.get(name)

    def encode(self):
        if not self.ok:
            return self.raw
        if self.kind is not None:
            parts = [self.fields[n].encode() for n in self.names]
            head = bytes([self.kind] + [len(p) for p in parts])
            if self.kind in (3, 4):
                head += bytes([self.fields["encoding"]])
            return head + b"".join(parts) + self.fields["payload"]
        if self.v1:
            value = {k: self.fields[k] for k in ("topic", "event", "payload", "ref")}
            if self.has_join_ref:
                value["join_ref"] = self.fields["join_ref"]
        else:
            value = [self.fields[k] for k in self.FIELDS] + self.rest
        return dump(value)

    def __repr__(self):
        if not self.ok:
            return repr(self.raw)
        return f"kind {self.kind} {self.fields}" if self.kind is not None else self.encode()


def dump(value):
    """JSON text of a value of parse_json()."""
    if isinstance(value, tuple):
        return value[1]
    if isinstance(value, list):
        return "[" + ",".join(dump(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k) + ":" + dump(v) for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


# ---- new names -------------------------------------------------------------------------------------------------------

class Names:
    """Replaces the names of one scenario, consistently and without collisions."""

    def __init__(self, rng, server):
        self.rng, self.server = rng, server
        self.words, self.refs, self.keys, self.used = {}, {}, {}, set()
        self.tokens = {}
        self.recorded_at = RECORDED_AT

    def fresh(self, head=""):
        while True:
            word = head + "".join(self.rng.choice("abcdefghijklmnopqrstuvwxyz0123456789-_é") for _ in range(self.rng.randint(4, 12)))
            if word not in self.used:
                self.used.add(word)
                return word

    def word(self, old):
        if old not in self.words:
            self.words[old] = self.fresh("w") if old else old
        return self.words[old]

    def topic(self, old):
        if not isinstance(old, str) or old == "phoenix":
            return old
        head, colon, sub = old.partition(":")
        head = head if head == "realtime" else self.word(head)
        return head + colon + self.sub(sub)

    def sub(self, old):
        """Part by part: without a config the parts name a schema and a table."""
        return ":".join(self.word(part) for part in old.split(":"))

    def ref(self, conn, old):
        if old is None or old == "":
            return old
        if (conn, old) not in self.refs:
            number = self.rng.randint(1000, 10 ** 9)
            self.refs[conn, old] = number if isinstance(old, int) else f"{self.fresh('r')}{number}"
        return self.refs[conn, old]

    def event(self, old):
        return old if old in PROTOCOL_EVENTS or not isinstance(old, str) else self.word(old)

    def token(self, old):
        """The same claims, their times as far from now as they were then; a wrong signature stays a wrong one."""
        if old not in self.tokens:
            part = [base64.urlsafe_b64decode(p + "=" * (-len(p) % 4)) for p in old.split(".")[:2]]
            header, claims = json.loads(part[0]), json.loads(part[1])
            good = sign_raw(old.rsplit(".", 1)[0], RECORDED_SECRET) == old
            for claim in ("iat", "exp"):
                if isinstance(claims.get(claim), (int, float)):
                    claims[claim] += self.server.now - self.recorded_at
            claims["session"] = self.fresh()
            self.claims(claims)
            self.tokens[old] = sign(claims, self.server.secret if good else self.fresh(), header)
        return self.tokens[old]

    def claims(self, claims):
        """What else is to change in a token; for those that know more."""

    def presence_key(self, old):
        """A number stays a number."""
        if old is None or old == "":
            return old
        if str(old) not in self.keys:
            self.keys[str(old)] = str(self.rng.randint(10, 10 ** 6)) if isinstance(old, int) else self.fresh("k")
        new = self.keys[str(old)]
        return int(new) if isinstance(old, int) else new

    def text(self, old):
        return JWT.sub(lambda m: self.token(m[0]), old)

    def value(self, value):
        """Tokens wherever they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(v) for v in value]
        if isinstance(value, dict):
            return {k: self.value(v) for k, v in value.items()}
        return value

    def told(self, text):
        """An error that names the channel."""
        return CHANNEL_TOPIC.sub(lambda m: self.sub(m[0]), text)

    def payload(self, event, payload):
        payload = self.value(payload)
        if not isinstance(payload, dict):
            return payload
        payload = dict(payload)
        if event == "broadcast" and "event" in payload:
            payload["event"] = self.event(payload["event"])
        if event == "phx_join" and isinstance(payload.get("config"), dict):
            presence = payload["config"].get("presence")
            if isinstance(presence, dict) and "key" in presence:
                presence["key"] = self.presence_key(presence["key"])
        if event == "system" and "channel" in payload:
            payload["channel"] = self.sub(payload["channel"])
            payload["message"] = self.told(payload["message"])
        if event == "presence_state":
            payload = {self.keys.get(k, k): v for k, v in payload.items()}
        if event == "presence_diff":
            payload = {side: {self.keys.get(k, k): v for k, v in payload[side].items()} for side in payload}
        if event == "phx_reply" and isinstance(payload.get("response"), dict):
            if "reason" in payload["response"]:
                payload["response"]["reason"] = self.told(payload["response"]["reason"])
            for binding in payload["response"].get("postgres_changes", []):
                for part in ("schema", "table", "filter"):
                    if binding.get(part) in self.words:
                        binding[part] = self.words[binding[part]]
        return payload

    def message(self, conn, m):
        """Renames in place."""
        if not m.ok:
            if isinstance(m.raw, str):
                for old, new in self.words.items():
                    m.raw = m.raw.replace(f'"{old}"', f'"{new}"').replace(f'"realtime:{old}"', f'"realtime:{new}"')
            return m
        f = m.fields
        for name in ("join_ref", "ref"):
            if name in f:
                f[name] = self.ref(conn, f[name])
        f["topic"] = self.topic(f["topic"])
        if m.kind is None:
            f["payload"] = self.payload(f["event"], f["payload"])
        if "user_event" in f:
            f["user_event"] = self.event(f["user_event"])
        if m.kind != 2:
            f["event"] = self.event(f["event"])
        return m


def sign_raw(body, secret):
    mac = hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest()
    return body + "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


# ---- what the strict server does -------------------------------------------------------------------------------------

def find(steps, start, conn, fits):
    for i in range(start, len(steps)):
        if steps[i]["dir"] == "recv" and (conn is None or steps[i]["conn"] == conn) and "message" in steps[i] and fits(steps[i]["message"]):
            return i
    return None


def same_broadcast(sent, got):
    """Is `got` the copy of `sent` that some subscriber received?"""
    if not got.ok or got.event != "broadcast" or got.topic != sent.topic:
        return False
    if sent.kind is None:
        return got.kind is None and got.payload == sent.payload
    if got.kind is not None:
        return got.user_event == sent.user_event and got.payload == sent.payload
    return isinstance(got.payload, dict) and got.payload.get("event") == sent.user_event


def make_strict(steps):
    """Takes away the answers to what only a lenient server takes.

    A frame relies on leniency if its topic is joined on its socket and its join_ref is not the join's (nor, where the
    join had none, the join's ref). What it caused is its own reply, and the copies of it if it is a broadcast. A leave
    is under that rule on both servers.
    """
    joined, waiting, gone = {}, {}, set()
    for i, step in enumerate(steps):
        m = step.get("message")
        if m is None or not m.ok or i in gone:
            continue
        at = (step["conn"], m.topic)
        if step["dir"] == "recv":
            if m.event == "phx_reply" and (at, m.ref) in waiting and m.payload["status"] == "ok":
                joined[at] = waiting.pop((at, m.ref))
            elif m.event in ("phx_close", "phx_error") and not step.get("replaced"):
                joined.pop(at, None)
            continue
        if m.event == "phx_join":
            refs = [m.join_ref, m.join_ref if m.join_ref is not None else m.ref]
            waiting[at, m.ref] = refs
            if at in joined:
                # The phx_close of the replaced channel comes after the new reply, maybe with the same ref.
                j = find(steps, i, step["conn"], lambda x: x.ok and x.event == "phx_close" and x.topic == m.topic)
                if j is not None:
                    steps[j]["replaced"] = True
        elif at in joined and m.event != "phx_leave" and m.join_ref not in joined[at]:
            lose_answers(steps, i, step["conn"], m, gone)
    return [s for i, s in enumerate(steps) if i not in gone]


def lose_answers(steps, i, conn, m, gone):
    assert m.event != "presence", "what a presence call causes cannot be told from its frame"
    j = find(steps, i, conn, lambda x: x.ok and x.event == "phx_reply" and x.topic == m.topic and x.ref == m.ref)
    if j is not None:
        gone.add(j)
    if m.event == "broadcast":
        for other in {s["conn"] for s in steps if s["dir"] == "recv"}:
            j = find(steps, i, other, lambda x: same_broadcast(m, x))
            if j is not None:
                gone.add(j)
