# SPDX-License-Identifier: MIT
"""Writes proto/vectors/frames.json to stdout: the golden frames of the local protocol.

The bytes come from Debian's msgpack module; the tests read them with it, with jansson and rtbp_msg_parse(), and
write them again with rtbp_pack.h, so that two encoders that know nothing of each other agree on each byte.
"""

import base64
import json
import struct

import msgpack

SENTENCE = "a sentence for people"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYXV0aGVudGljYXRlZCIsImV4cCI6MTcwMDAwMzYwMH0.c2lnbmF0dXJl"
CONNECTION = {"state": "online", "since": 1700000000123}
BACKOFF = {"state": "backoff", "since": 1700000000123, "reason": "connect", "text": "Connection refused",
           "next_try_ms": 1500}


def number(text):
    return msgpack.ExtType(1, text.encode())


def request(name, id_, method, params):
    return {"name": name, "from": "client", "message": [0, id_, method, params]}


def call(name, method, params):
    return {"name": name, "from": "client", "message": [2, method, params]}


def result(name, id_, value):
    return {"name": name, "from": "daemon", "message": [1, id_, None, value]}


def error(name, id_, code, error_name, retry_after_ms=None):
    return {"name": name, "from": "daemon", "message": [1, id_, [code, error_name, SENTENCE, retry_after_ms], None]}


def notice(name, method, params):
    return {"name": name, "from": "daemon", "message": [2, method, params]}


def last_words(code, error_name):
    return notice(f"{error_name}, the last words of the daemon", "error",
                  {"error": [code, error_name, SENTENCE, None]})


STATUS = {
    "server": {"name": "rtbridged", "version": "0.1.0", "pid": 4711, "uptime_ms": 90061001},
    "connection": CONNECTION,
    "url": "wss://abcdefghijklmnopqrst.supabase.co/realtime/v1/websocket",
    "vsn": "2.0.0",
    "admin": True,
    "links": [{"link": 0, "state": "online", "since": 1700000000123, "why": "shared by all", "joins": 2,
               "rtt_ms": 37},
              {"link": 1, "state": "online", "since": 1700000000456, "why": "presence in room:1", "joins": 1,
               "rtt_ms": 38, "uid": 1000}],
    "clients": [{"session": 3, "uid": 1000, "pid": 70000, "name": "worker", "version": "1.2", "subscriptions": 2,
                 "trackers": 1, "queued_bytes": 0}],
    "channels": [
        {"chan": 1, "topic": "room:1", "private": False, "identity": 0, "state": "ready", "link": 0, "subscribers": 2,
         "queued_sends": 0, "presence": "ok", "entries": 2, "trackers": 2, "shown": 1},
        {"chan": 2, "topic": "room:2", "private": True, "identity": 1, "state": "rejected", "link": 0, "subscribers": 1,
         "queued_sends": 3, "trackers": 0, "shown": 0, "code": "rejected", "text": "Unauthorized"},
        {"chan": 3, "topic": "room:3", "private": True, "identity": 0, "state": "rejoining", "link": 0, "subscribers": 1,
         "queued_sends": 0, "trackers": 0, "shown": 0, "code": "join_budget", "text": SENTENCE, "retry_in_ms": 65000},
    ],
    "identities": [{"identity": 1, "role": "authenticated", "state": "accepted", "expires": 1700003600, "clients": 1,
                    "channels": 1}],
    "feeds": [
        {"feed": 1, "identity": 0, "link": 0, "state": "ready", "bindings": 2, "ready": True},
        {"feed": 2, "identity": 1, "link": 0, "state": "joined", "bindings": 1, "ready": False, "chan": 2,
         "code": "database_unreachable", "text": "Unable to connect to the project database"},
    ],
    "postgres_changes": [
        {"id": 1, "identity": 0, "binding": {"event": "*", "schema": "public", "table": "todos"}, "state": "ready", "feed": 1,
         "clients": 2, "rows": 65536},
        {"id": 2, "identity": 0, "binding": {"event": "INSERT", "schema": "public", "table": "todos", "filter": "prio=gt.3",
                              "select": ["id", "title"]}, "state": "ready", "feed": 1, "clients": 1, "rows": 0},
        {"id": 3, "identity": 1, "binding": {"event": "*", "schema": "app", "table": "*"}, "state": "pending", "feed": 2,
         "clients": 1, "rows": 0, "code": "database_unreachable",
         "text": "Unable to connect to the project database"},
        {"id": 4, "identity": 0, "binding": {"event": "*", "schema": "public", "table": "no_such_table"}, "state": "error",
         "clients": 1, "rows": 0, "code": "binding_refused", "text": SENTENCE},
    ],
    "private_only": False,
    "counters": {"reconnects": 1, "messages_in": 256, "messages_out": 255, "bytes_in": 65536, "bytes_out": 65535,
                 "deliveries": 4294967296, "undecoded": 0, "slow_consumers": 127, "malformed": 0},
    "http": {"requests": 2, "text": "Connection refused", "next_try_ms": 4000},
    "last_disconnect": {"since": 1700000000001, "reason": "lost", "text": "Connection reset by peer"},
}

HELLO = {"protocol": 1, "server": {"name": "rtbridged", "version": "0.1.0"}, "session": 3,
         "limits": {"frame_bytes": 4194304, "queue_bytes": 8388608, "topic_bytes": 240, "event_bytes": 255,
                    "key_bytes": 255, "state_bytes": 65536, "binding_bytes": 8192, "bindings": 1000, "depth": 64,
                    "subscriptions": 1000},
         "features": ["broadcast", "sync.upstream", "presence", "gap", "postgres_changes", "auth", "http", "outcome",
                      "replay", "system"], "connection": CONNECTION}

ALICE = {"key": "alice", "ref": "GHlA1fShRjMmZhnL", "state": {"n": 1}}
# A second client under the same key; its state is its own business.
ALICE_2 = {"key": "alice", "ref": "GHlA1fShRjMmZhnM", "state": {"members": ["bob"], "at": 1.5}}
BOB = {"key": "bob", "ref": "GHlA1gAbRjMmZhnN", "state": {}}
# A member of a rtbridge that merges.
CAROL = {"key": "carol", "ref": "rtbridge:0c8e3a", "state": {"n": number("0.10")}}


def watched(name, presence, snapshot, state="ready"):
    return result(name, 12, {"chan": 3, "topic": "room:3", "private": False, "state": state,
                             "presence": {"state": presence, "snapshot": snapshot}})


# Every kind of binding. The last two are the first one, said in other words.
BINDINGS = [
    {"event": "*", "schema": "public", "table": "todos"},
    {"event": "insert", "schema": "public", "table": "todos", "filter": "prio=gt.3,title=not.in.(a,\"b,c\")",
     "select": ["id", "title"]},
    {"event": "UPDATE", "schema": "public", "table": "no_such_table"},
    {"event": "DELETE", "schema": "app"},
    {"schema": "*", "table": "*"},
    {"schema": "public", "table": "todos"},
    {"event": "*", "schema": "public", "table": "todos", "filter": "", "select": []},
]
REFUSED = {"id": 3, "state": "error", "code": "binding_refused", "text": SENTENCE}
SLOW = {"id": 4, "state": "pending", "code": "database_unreachable", "text": SENTENCE}
# Distinct bindings in the order asked.
STANDS = [{"id": 1, "state": "ready"}, {"id": 2, "state": "ready"}, REFUSED, SLOW, {"id": 5, "state": "pending"}]

COLUMNS = [{"name": "id", "type": "int8"}, {"name": "title", "type": "text"}, {"name": "price", "type": "numeric"},
           {"name": "tags", "type": "_text"}, {"name": "more", "type": "jsonb"}, {"name": "done", "type": "bool"}]
ROW = {"id": 9007199254740993, "title": "gr\u00fc\u00df dich", "price": number("12.50"), "tags": ["a", "b"],
       "more": {"n": [1, None]}, "done": False}


def bound(name, id_, states, state="ready", topic=""):
    return result(name, id_, {"chan": 4, "topic": topic, "private": False, "state": state, "postgres_changes": states})


def row(name, ids, type_, record=None, old_record=None, columns=None, errors=None,
        timestamp="2025-11-19T00:22:40.877Z"):
    data = {"schema": "public", "table": "todos", "type": type_, "commit_timestamp": timestamp,
            "columns": COLUMNS if columns is None else columns}
    if record is not None:
        data["record"] = record
    if old_record is not None:
        data["old_record"] = old_record
    return notice(name, "postgres_changes", {"ids": ids, "data": {**data, "errors": errors}})


def tracked(outcome, **more):
    return result(f"track {outcome}", 9, {"outcome": outcome, "key": "alice", **more})


# Every kind of value that a payload may hold, at the edges where encodings change.
EDGES = {
    "nil": None, "bools": [False, True], "empty": ["", [], {}],
    "unsigned": [0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740991],
    "signed": [-1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -9007199254740991],
    "64 bits": [9007199254740992, 9223372036854775807, 18446744073709551615, -9223372036854775808],
    "floats": [0.5, -1.25, 1e300, 5e-324],
    "numbers": [number("1.50"), number("12345678901234567890123"), number("1e400")],
    "text": ["\x00\t", "gr\u00fc\u00df dich", "\u20ac", "\U0001f600", "x" * 31, "y" * 32],
    "array of 16": list(range(16)),
    "": {"\u00e9": "keys are any text"},
    "map of 16": {f"k{i}": i for i in range(16)},
}

FRAMES = [
    request("hello", 0, "hello", {"protocol": 1, "client": {"name": "worker", "version": "1.2"}}),
    request("hello with a token", 0, "hello",
            {"protocol": 1, "client": {"name": "worker", "version": "1.2"}, "token": TOKEN}),
    result("hello with a token, answered", 0, {**HELLO, "token": {"state": "pending", "expires": 1700003600}}),
    result("hello answered", 0, HELLO),
    result("hello answered while there is no connection, the project's plan being known", 0,
           {**HELLO, "limits": {**HELLO["limits"], "payload_bytes": 256500}, "connection": BACKOFF}),
    error("hello refused: version", 0, 402, "version"),
    error("hello refused: bad_token, it may be sent again", 0, 211, "bad_token"),

    request("subscribe, all left to defaults", 1, "subscribe", {"topic": "room:1"}),
    request("subscribe, everything said", 2, "subscribe",
            {"topic": "room:2", "private": True, "broadcast": {"events": ["message", "*"], "self": True, "replay": {"since": 1700000000123, "limit": 10},
                                                                  "replication_ready": True},
             "wait": "joined", "timeout_ms": 5000, "keep": True}),
    result("subscribe answered ready", 1, {"chan": 1, "topic": "room:1", "private": False, "state": "ready"}),
    result("subscribe answered joining, for keep", 2,
           {"chan": 2, "topic": "room:2", "private": True, "state": "joining"}),
    error("subscribe refused: timeout", 2, 101, "timeout"),
    error("subscribe refused: join_failed, worth a retry in 2 s", 2, 102, "join_failed", 2000),
    error("subscribe refused: bad_topic", 2, 201, "bad_topic"),
    error("subscribe refused: too_many", 2, 207, "too_many"),
    error("subscribe refused: rejected", 2, 300, "rejected"),
    error("subscribe refused: hello_first", 2, 208, "hello_first"),

    request("subscribe with presence", 12, "subscribe", {"topic": "room:3", "presence": {}}),
    request("subscribe with presence, everything said", 12, "subscribe",
            {"topic": "room:3", "private": False, "broadcast": {"events": ["message"]},
             "presence": {"events": ["sync", "join", "leave", "update"], "key": "alice"}, "wait": "ready"}),
    request("subscribe with presence nil, as if absent", 13, "subscribe", {"topic": "room:1", "presence": None}),
    watched("subscribe answered with presence", "ok", [ALICE, ALICE_2, BOB, CAROL]),
    watched("subscribe answered with presence: nobody", "ok", []),
    watched("subscribe answered with presence not known yet", "pending", [], "joined"),
    watched("subscribe answered with presence denied", "denied", []),
    watched("subscribe answered with presence overflowed", "overflow", []),
    error("subscribe refused: bad_key", 12, 209, "bad_key"),

    request("subscribe with postgres_changes, without a topic", 14, "subscribe",
            {"wait": "joined", "keep": True, "postgres_changes": BINDINGS[:1]}),
    request("subscribe with postgres_changes, the topic empty, every kind of binding", 15, "subscribe",
            {"topic": "", "private": False, "postgres_changes": BINDINGS}),
    request("subscribe with postgres_changes, everything said", 16, "subscribe",
            {"topic": "room:4", "private": True, "broadcast": {"events": ["message"]}, "presence": {"key": "alice"},
             "postgres_changes": BINDINGS[:2], "wait": "joined", "timeout_ms": 5000, "keep": True}),
    request("subscribe with postgres_changes nil, as if absent", 17, "subscribe",
            {"topic": "room:1", "postgres_changes": None}),
    bound("subscribe answered with bindings", 14, STANDS[:1]),
    bound("subscribe answered with bindings ready, refused, pending, and repeated", 15,
          [*STANDS, STANDS[0], STANDS[0]], "joined"),
    result("subscribe answered with everything", 16,
           {"chan": 5, "topic": "room:4", "private": True, "state": "joined",
            "presence": {"state": "pending", "snapshot": []}, "postgres_changes": STANDS[:2]}),
    error("subscribe refused: too_many bindings", 15, 207, "too_many"),

    request("unsubscribe by chan", 3, "unsubscribe", {"chan": 1}),
    request("unsubscribe by topic", 3, "unsubscribe", {"topic": "room:2", "private": True}),
    request("unsubscribe from all", 3, "unsubscribe", {"all": True}),
    request("unsubscribe from what has no topic", 3, "unsubscribe", {"topic": "", "private": False}),
    result("unsubscribe answered", 3, {}),
    error("unsubscribe refused: not_subscribed", 3, 206, "not_subscribed"),

    request("broadcast by chan", 127, "broadcast", {"chan": 1, "event": "message", "payload": {"text": "hi"}}),
    request("broadcast by topic, everything said", 128, "broadcast",
            {"topic": "room:2", "private": True, "event": "message", "via": "ws", "ttl_ms": 60000, "payload": EDGES}),
    request("broadcast of bytes", 255, "broadcast",
            {"topic": "room:1", "event": "file", "payload": bytes(range(256))}),
    request("broadcast of one number that no float holds", 256, "broadcast",
            {"topic": "room:1", "event": "price", "payload": number("0.10")}),
    request("broadcast of nil", 65535, "broadcast", {"topic": "room:1", "event": "tick", "payload": None}),
    call("broadcast that wants no answer", "broadcast", {"chan": 1, "event": "message", "payload": [1, 2, 3]}),
    result("broadcast acked", 127, {"outcome": "acked", "via": "ws"}),
    result("broadcast denied", 127, {"outcome": "denied", "via": "ws", "text": SENTENCE}),
    result("broadcast unknown", 127, {"outcome": "unknown", "via": "ws", "text": SENTENCE}),
    result("broadcast too_big", 127, {"outcome": "too_big", "via": "ws", "text": SENTENCE}),
    result("broadcast busy", 127, {"outcome": "busy", "via": "ws"}),
    result("broadcast expired", 127, {"outcome": "expired", "via": "ws"}),
    request("broadcast by HTTP, with a name", 129, "broadcast",
            {"topic": "room:1", "event": "message", "via": "http", "id": "01234567-89ab-4cde-8f01-23456789abcd",
             "payload": {"text": "hi"}}),
    request("broadcast with more beside the payload", 130, "broadcast",
            {"topic": "room:1", "event": "message", "payload": {"text": "hi"}, "extra": {"trace": "a1", "n": 1}}),
    result("broadcast sent by HTTP", 129, {"outcome": "sent", "via": "http"}),
    result("broadcast rate_limited by HTTP", 129,
           {"outcome": "rate_limited", "via": "http", "text": SENTENCE, "retry_in_ms": 5000}),
    result("broadcast unsupported", 129, {"outcome": "unsupported", "via": "http", "text": SENTENCE}),
    result("broadcast bad_payload", 129, {"outcome": "bad_payload", "via": "http", "text": SENTENCE}),
    request("outcome", 131, "outcome", {"id": "01234567-89ab-4cde-8f01-23456789abcd"}),
    result("outcome pending", 131, {"outcome": "pending", "via": "ws"}),
    error("outcome: unknown_id", 131, 212, "unknown_id"),
    result("broadcast not_joined", 127, {"outcome": "not_joined", "via": "ws", "text": "Unauthorized"}),
    error("broadcast refused: busy, worth a retry in 250 ms", 127, 100, "busy", 250),
    error("broadcast refused: bad_request", 127, 200, "bad_request"),
    error("broadcast refused: bad_event", 127, 202, "bad_event"),
    error("broadcast refused: bad_payload", 127, 203, "bad_payload"),
    error("broadcast refused: unsupported", 127, 205, "unsupported"),

    request("track by chan", 9, "track", {"chan": 3, "state": {"n": 1}}),
    request("track by topic, everything said", 9, "track",
            {"topic": "room:3", "private": False, "key": "alice", "state": {"n": number("1.50"), "tags": [None, True]},
             "timeout_ms": 5000}),
    call("track that wants no answer", "track", {"chan": 3, "state": {}}),
    tracked("acked"),
    tracked("throttled", text=SENTENCE, retry_in_ms=4500),
    tracked("queued", text=SENTENCE),
    tracked("denied", text=SENTENCE),
    tracked("replaced"),
    error("track refused: bad_key", 9, 209, "bad_key"),
    error("track refused: bad_payload", 9, 203, "bad_payload"),
    error("track refused: presence_taken", 9, 210, "presence_taken"),
    request("untrack by chan", 10, "untrack", {"chan": 3}),
    request("untrack by topic", 10, "untrack", {"topic": "room:3", "private": False}),
    result("untrack answered", 10, {}),
    error("untrack refused: not_subscribed", 10, 206, "not_subscribed"),
    request("presence by chan", 11, "presence", {"chan": 3}),
    request("presence by topic", 11, "presence", {"topic": "room:3", "private": False}),
    result("presence answered", 11, {"state": "ok", "snapshot": [ALICE, BOB]}),
    result("presence answered while it is not known", 11, {"state": "overflow", "snapshot": []}),
    error("presence refused: not_subscribed", 11, 206, "not_subscribed"),

    request("auth", 18, "auth", {"token": TOKEN}),
    request("auth for one topic", 19, "auth", {"token": TOKEN, "topic": "room:1", "timeout_ms": 1000}),
    request("auth for one chan", 20, "auth", {"token": TOKEN, "chan": 1}),
    request("auth, cleared", 21, "auth", {"token": None}),
    result("auth, answered", 18, {"state": "accepted", "expires": 1700003600}),
    result("auth, answered before any join", 19, {"state": "unproven", "expires": 1700003600}),
    result("auth, cleared, answered", 21, {"state": "cleared"}),
    error("auth with what is no token", 18, 211, "bad_token"),
    notice("the end of a token", "error", {"method": "auth", "code": "token_expired", "error": [211, "bad_token", SENTENCE, None]}),
    notice("the end of a topic's token", "error",
           {"method": "auth", "topic": "room:1", "code": "token_signature", "error": [211, "bad_token", SENTENCE, None]}),
    error("auth that could not be decided", 19, 101, "timeout"),
    error("auth while too much waits for the one before", 19, 100, "busy"),
    error("subscribe, not allowed", 2, 301, "forbidden"),
    error("subscribe, its token has ended", 2, 211, "bad_token"),
    error("broadcast, not allowed", 127, 301, "forbidden"),
    error("track, its token has ended", 9, 211, "bad_token"),
    error("subscribe, too many failures", 2, 103, "join_budget", 65000),
    request("channels", 22, "channels", {}),
    result("channels, answered", 22, {"channels": STATUS["channels"]}),
    error("channels refused: hello_first", 22, 208, "hello_first"),
    request("clients", 23, "clients", {}),
    result("clients, answered", 23, {"clients": STATUS["clients"]}),
    error("clients refused: hello_first", 23, 208, "hello_first"),
    request("status", 65536, "status", {}),
    result("status answered", 65536, STATUS),
    result("status answered while there is no connection", 65536,
           {**{k: v for k, v in STATUS.items() if k != "last_disconnect"}, "connection": BACKOFF, "clients": [],
            "channels": [], "feeds": [], "postgres_changes": [],
            "links": [{**STATUS["links"][0], "state": "backoff", "joins": 0, "rtt_ms": None}]}),
    error("status refused: hello_first", 65536, 208, "hello_first"),

    result("status answered: the daemon's own token could not be renewed", 65536,
           {**STATUS, "token": {"source": "command", "state": "late", "since": 1700000000123, "role": "service_role",
                                "expires": 1700000600, "next_try_ms": 12000, "code": "command_failed",
                                "text": SENTENCE}}),
    request("reconnect", 24, "reconnect", {}),
    result("reconnect, answered", 24, {"state": "connecting", "since": 1700000000123, "reason": "closed",
                                       "text": SENTENCE}),
    error("reconnect, not allowed", 24, 301, "forbidden"),
    request("refresh_token", 25, "refresh_token", {"timeout_ms": 5000}),
    result("refresh_token, answered: it came", 25,
           {"source": "refresh", "state": "good", "since": 1700000000123, "role": "authenticated",
            "expires": 1700003600, "next_try_ms": 3240000}),
    result("refresh_token, answered: it did not", 25,
           {"source": "refresh", "state": "denied", "since": 1700000000123, "code": "refused", "text": SENTENCE}),
    error("refresh_token, there is none", 25, 205, "unsupported"),
    error("refresh_token refused: timeout", 25, 101, "timeout"),

    request("sync", 4294967295, "sync", {}),
    request("sync with the server", 7, "sync", {"upstream": True, "timeout_ms": 1000}),
    result("sync answered", 4294967295, {}),
    error("sync refused: timeout", 7, 101, "timeout"),
    request("a method that there is not", 8, "no_such_method", {}),
    error("a method that there is not, refused: unknown_method", 8, 204, "unknown_method"),

    notice("a broadcast", "broadcast", {"chan": 1, "topic": "room:1", "event": "message", "payload": {"text": "hi"}}),
    notice("a broadcast of any payload, with meta and extra", "broadcast",
           {"chan": 2, "topic": "room:2", "event": "message", "payload": EDGES,
            "meta": {"id": "6c1a8f52-0000-4000-8000-000000000001", "replayed": True}, "extra": {"more": [1.5]}}),
    notice("a broadcast of bytes", "broadcast",
           {"chan": 1, "topic": "room:1", "event": "file", "payload": bytes(range(255, -1, -1))}),
    notice("a broadcast without an event", "broadcast",
           {"chan": 1, "topic": "room:1", "event": "", "raw": {"event": 5, "payload": "x"}}),
    notice("a broadcast that could not be decoded", "broadcast",
           {"chan": 1, "topic": "room:1", "event": "message", "payload": b'{"a":', "undecodable": True}),

    notice("a broadcast that the server had stored", "broadcast",
           {"chan": 2, "topic": "room:2", "event": "message", "payload": {"n": 1},
            "meta": {"id": "01234567-89ab-4cde-8f01-23456789abcd", "replayed": True}}),
    notice("replay, all that is stored", "replay", {"chan": 2, "topic": "room:2", "stored": "replayed", "n": 3}),
    notice("replay, as many as asked for", "replay", {"chan": 2, "topic": "room:2", "stored": "truncated", "n": 25}),
    notice("replay that could not be done", "replay",
           {"chan": 2, "topic": "room:2", "stored": "none", "n": 0, "text": SENTENCE}),
    notice("a notice of the server", "system",
           {"chan": 1, "topic": "room:1", "extension": "system", "status": "ok",
            "text": "Replication connection established"}),

    notice("channel joining", "channel", {"chan": 1, "topic": "room:1", "private": False, "state": "joining"}),
    notice("channel joined", "channel", {"chan": 1, "topic": "room:1", "private": False, "state": "joined"}),
    notice("channel ready", "channel", {"chan": 1, "topic": "room:1", "private": False, "state": "ready"}),
    notice("channel rejoining", "channel",
           {"chan": 1, "topic": "room:1", "private": False, "state": "rejoining", "code": "join_rate",
            "text": SENTENCE, "retry_in_ms": 2000}),
    notice("channel rejected", "channel",
           {"chan": 2, "topic": "room:2", "private": True, "state": "rejected", "code": "unauthorized",
            "text": "Unauthorized"}),
    *(notice(f"channel rejected: {code}", "channel",
             {"chan": 2, "topic": "room:2", "private": True, "state": "rejected", "code": code, "text": SENTENCE})
      for code in ("token_replaced", "token_cleared", "token_expired", "forbidden")),
    notice("channel joining: tried out on a connection apart", "channel",
           {"chan": 2, "topic": "room:2", "private": True, "state": "joining", "code": "probation",
            "text": SENTENCE}),
    notice("channel closed", "channel",
           {"chan": 2, "topic": "room:2", "private": True, "state": "closed", "code": "unauthorized", "text": SENTENCE}),

    notice("channel joined, its presence not known yet", "channel",
           {"chan": 3, "topic": "room:3", "private": False, "state": "joined", "presence": "pending"}),
    notice("channel ready, with presence", "channel",
           {"chan": 3, "topic": "room:3", "private": False, "state": "ready", "presence": "ok"}),
    notice("channel rejoining, for presence", "channel",
           {"chan": 3, "topic": "room:3", "private": False, "state": "rejoining", "code": "presence", "text": SENTENCE}),

    notice("channel joined, its bindings in all states", "channel",
           {"chan": 4, "topic": "", "private": False, "state": "joined", "postgres_changes": STANDS}),
    notice("channel rejoining, for database changes", "channel",
           {"chan": 5, "topic": "room:4", "private": True, "state": "rejoining", "code": "postgres_changes",
            "text": SENTENCE, "presence": "ok",
            "postgres_changes": [{"id": 1, "state": "pending", "code": "connection", "text": SENTENCE}]}),

    row("a row inserted", [1, 2], "INSERT", record=ROW),
    row("a row updated", [1], "UPDATE", record={**ROW, "done": True, "price": number("0.10")},
        old_record={"id": 9007199254740993}),
    row("a row deleted", [1, 65536], "DELETE", old_record={"id": 46}),
    row("a row too large for the server", [1], "INSERT", record={"id": 46}, errors=["Error 413: Payload Too Large"]),
    row("a row of a table without a primary key", [1], "UPDATE", record={}, old_record={}, columns=[], timestamp=None,
        errors=["Error 400: Bad Request, no primary key"]),
    row("a row that the token may not read", [1], "DELETE", old_record={}, columns=[], timestamp=None,
        errors=["Error 401: Unauthorized"]),

    notice("presence, all of it", "presence", {"chan": 3, "topic": "room:3", "sync": [ALICE, CAROL]}),
    notice("presence, a leave", "presence", {"chan": 3, "topic": "room:3", "leave": [ALICE]}),
    notice("presence, every kind of change", "presence",
           {"chan": 3, "topic": "room:3", "leave": [ALICE], "join": [ALICE_2, BOB],
            "update": [{"key": "carol", "prev": "rtbridge:0c8e3a", "ref": "rtbridge:0c8e3a", "state": {"n": 2}},
                       {"key": "bob", "prev": BOB["ref"], "ref": "GHlA1hXvRjMmZhnP", "state": {"n": 3}}]}),
    notice("a gap", "gap",
           {"chan": 3, "topic": "room:3", "from": 1700000000123, "to": 1700000004567, "cause": "connection", "stored": "none", "n": 0}),
    notice("a gap of what is stored in part", "gap",
           {"chan": 2, "topic": "room:2", "from": 1700000000123, "to": 1700000004567, "cause": "connection",
            "stored": "truncated", "n": 23}),
    notice("a gap of two bindings", "gap",
           {"chan": 4, "topic": "", "from": 1700000000123, "to": 1700000004567, "cause": "undecodable",
            "ids": [1, 4]}),

    notice("track, not shown any more", "track",
           {"chan": 3, "topic": "room:3", "private": False, "key": "alice", "outcome": "queued", "text": SENTENCE}),
    notice("track, shown again", "track",
           {"chan": 3, "topic": "room:3", "private": False, "key": "alice", "outcome": "acked"}),

    notice("connection idle", "connection", {"state": "idle", "since": 1700000000123}),
    notice("connection connecting", "connection", {"state": "connecting", "since": 1700000000123}),
    notice("connection online", "connection", CONNECTION),
    notice("connection stalled", "connection", {**BACKOFF, "state": "stalled"}),
    notice("connection backoff", "connection", BACKOFF),
    notice("connection auth_failed", "connection",
           {"state": "auth_failed", "since": 1700000000123, "reason": "auth", "text": SENTENCE}),
    notice("connection config_error", "connection",
           {"state": "config_error", "since": 1700000000123, "reason": "config", "text": SENTENCE}),
    notice("connection draining", "connection", {"state": "draining", "since": 1700000000123}),

    notice("error of a broadcast that wanted no answer", "error",
           {"method": "broadcast", "error": [202, "bad_event", SENTENCE, None]}),
    notice("error, a track that was answered before", "error",
           {"error": [300, "rejected", SENTENCE, None], "method": "track", "chan": 3, "topic": "room:3"}),
    notice("error, a track that ended with its token", "error",
           {"error": [211, "bad_token", SENTENCE, None], "method": "track", "chan": 3, "topic": "room:3",
            "private": False}),
    last_words(400, "protocol"),
    last_words(401, "too_big"),
    last_words(403, "hello_timeout"),
    last_words(404, "slow_consumer"),
    last_words(405, "shutdown"),
    last_words(406, "full"),
    last_words(407, "denied"),
    last_words(408, "no_memory"),
]

# The same meanings in bytes that no encoder needs to write and every decoder must read.
OTHER_FORMS = [
    ("channel ready, its map counted in 16 bits",
     "93 02 a7 6368616e6e656c de0004 a4 6368616e 01 a5 746f706963 a6 726f6f6d3a31 a7 70726976617465 c2"
     "a5 7374617465 a5 7265616479",
     notice("", "channel", {"chan": 1, "topic": "room:1", "private": False, "state": "ready"})),
    ("sync, every length as long as can be",
     "dd00000004 cf0000000000000000 cf0000000000000007 db00000004 73796e63 df00000001 db00000008 757073747265616d c3",
     request("", 7, "sync", {"upstream": True})),
    ("an integer in signed form, a float in 32 bits",
     "93 02 a9 62726f616463617374 83 a4 6368616e d10001 a5 6576656e74 d901 65 a7 7061796c6f6164 92 d20001e240 ca3fc00000",
     notice("", "broadcast", {"chan": 1, "event": "e", "payload": [123456, 1.5]})),
    ("unknown keys and further elements",
     "95 01 03 c0 81 a5 6c61746572 93 010203 a7 7472616c616c61",
     {"from": "daemon", "message": [1, 3, None, {"later": [1, 2, 3]}, "tralala"]}),
]


def plain(value):
    """The value in forms that every JSON parser keeps."""
    if isinstance(value, bytes):
        return {"$bin": base64.b64encode(value).decode()}
    if isinstance(value, msgpack.ExtType):
        return {"$ext": [value.code, value.data.decode()]}
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"$int": str(value)}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


def entries():
    for f in FRAMES:
        body = msgpack.packb(f["message"], use_bin_type=True)
        yield {"name": f["name"], "from": f["from"], "hex": (struct.pack(">I", len(body)) + body).hex(),
               "message": plain(f["message"])}
    for name, body, f in OTHER_FORMS:
        body = bytes.fromhex(body)
        yield {"name": name, "from": f["from"], "other_form": True,
               "hex": (struct.pack(">I", len(body)) + body).hex(), "message": plain(f["message"])}


print("[")
print(",\n".join("  " + json.dumps(e, ensure_ascii=True) for e in entries()))
print("]")
