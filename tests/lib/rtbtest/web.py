# SPDX-License-Identifier: MIT
"""The devserver's HTTP API as tests use it: requests, what became of them, faults; and what a database would send.

    server.post("/api/broadcast", {"messages": [...]})     one request with a good token: (status, headers, body)
    server.http_fault("answer", status=429, retry_after=2, count=3)
    server.http_fault("drop", path="*/events/*")           carried out, but the connection ends without an answer
    for request in server.requests(): ...                  all that came, the oldest first
    server.db_send("room", "news", {"n": 1})               as realtime.send(); returns the message's id

What the faults do is told in the devserver's README.
"""

import base64
import json
import urllib.parse
import uuid

from .wait import DEADLINE, until

_NO_BODY = object()


class Request:
    """One request to the HTTP API, as the devserver saw it.

    n: counted from 1; at_ms: wall clock; method; path, without the query and undecoded; query: {name: value}; headers:
    {name in small letters: value}; body: bytes; status: of its answer, None if there was none; fault: the "how" of the
    fault that it met, or None.
    """

    def __init__(self, entry):
        self.n, self.at_ms, self.method, self.path = (entry[k] for k in ("n", "at_ms", "method", "path"))
        self.headers, self.status, self.fault = entry["headers"], entry["status"], entry["fault"]
        self.query = dict(urllib.parse.parse_qsl(entry["query"], keep_blank_values=True))
        self.body = base64.urlsafe_b64decode(entry["body"] + "=" * (-len(entry["body"]) % 4))

    def json(self):
        return json.loads(self.body)

    @property
    def messages(self):
        """Of a batch: its messages."""
        return self.json()["messages"]

    @property
    def token(self):
        """What it came with: that of Authorization, otherwise apikey."""
        bearer = self.headers.get("authorization", "")
        return bearer.split(" ")[1] if " " in bearer else self.headers.get("apikey")

    @property
    def single(self):
        """(topic, event) of a request for one message, decoded; None of a batch."""
        parts = [urllib.parse.unquote(p) for p in self.path.split("/")]
        return (parts[-3], parts[-1]) if len(parts) > 3 and parts[-2] == "events" else None

    def __repr__(self):
        return f"<{self.n}: {self.method} {self.path} {self.body[:100]!r} {self.fault or ''} -> {self.status}>"


class Web:
    """A part of DevServer."""

    def post(self, path, body=_NO_BODY, token=None, headers=None, base="/realtime/v1/api"):
        """POST BASE + path: bytes go as they are, anything else as JSON; (status, headers, body as text).

        token: for Authorization; None: a good one of the role anon; "": no such header. headers: further ones, which
        count more than those that are made here; a value of None leaves one out.
        """
        all_headers = {}
        if isinstance(body, bytes):
            all_headers["content-type"] = "application/octet-stream"
        elif body is not _NO_BODY:
            all_headers["content-type"] = "application/json"
            body = json.dumps(body).encode()
        token = self.token() if token is None else token
        if token:
            all_headers["authorization"] = f"Bearer {token}"
        all_headers.update(headers or {})
        return self.request("POST", base + path, b"" if body is _NO_BODY else body,
                            {k: v for k, v in all_headers.items() if v is not None})

    def requests(self, path=None, method=None):
        """What came to the HTTP API since the start, the oldest first, as Request. path: what it ends with, or a part."""
        whole = json.loads(self.request("GET", "/_devserver/requests")[2])
        if whole["ever"] > len(whole["entries"]):
            raise AssertionError(f"of {whole['ever']} requests only the last are known")
        found = [Request(e) for e in whole["entries"]]
        return [r for r in found if (path is None or path in r.path) and (method is None or method == r.method)]

    def wait_requests(self, n, seconds=DEADLINE, **match):
        """Polls until so many (or more) have come; returns them."""

        def look():
            found = self.requests(**match)
            return found if len(found) >= n else None

        return until(look, f"{n} requests {match or ''}", seconds)

    def http_fault(self, how, **members):
        """What becomes of the next requests to the HTTP API (count [1], path: a shell pattern of those meant).

        how: answer, garbage, delay, slow, half, close, drop, hang, chunked, endless. status, body, type, retry_after, headers
        (an object): the answer instead of the true one. work: whether the request is carried out. ms, bytes: of delay, slow,
        chunked and endless. close: the connection ends behind the answer, which does not say so.
        """
        self.fault(op="http", how=how, **members)

    def db_send(self, topic, event, payload, private=True, id=None, **members):
        """As realtime.send() in the database: stored and passed on. topic: without "realtime:". Returns the id.

        age_ms: stored as being so old; deliver=False: stored only; store=False: passed on only. A payload of bytes goes
        as realtime.send_binary(). With a real database (option postgres) SQL does this.
        """
        id = id or str(uuid.uuid4())
        if isinstance(payload, (bytes, bytearray)):
            members["base64"] = base64.b64encode(payload).decode()
        else:
            members["payload"] = payload
        self.fault(op="db_send", topic=topic, event=event, private=private, id=id, **members)
        return id

    def refuse_replay(self, **members):
        """Refuses joins that ask for a replay (topic, with its "realtime:"; reason; count [1])."""
        self.fault(op="refuse_replay", **members)

    def replication(self, ms=0, fail=False, **members):
        """When the next joins that ask for it (topic, count [1]) hear of the replication connection, or that it failed."""
        self.fault(op="replication", ms=ms, fail=fail, **members)
