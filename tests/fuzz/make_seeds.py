#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes what was recorded of the real server as seeds for the fuzz targets phx and json, and for gotrue what
Supabase Auth and those in front of it answer.

usage: make_seeds.py DIR  (makes DIR/phx, DIR/json, DIR/gotrue)
"""
import base64
import glob
import hashlib
import json
import os
import sys

import msgpack

HERE = os.path.dirname(os.path.abspath(__file__))
TRANSCRIPTS = os.path.join(HERE, "..", "transcripts")
LARGEST = 4096  # what the fuzzer makes itself


def frames():
    """(reads it as: a byte, the frame) of every frame that came from the server; of those to it, what is text."""
    for path in sorted(glob.glob(os.path.join(TRANSCRIPTS, "*.jsonl"))):
        vsn = 0 if path.endswith(".v1.jsonl") else 1
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                if line.get("opcode") == "text" and "chars in all)" not in line["data"][-40:]:
                    yield vsn, line["data"].encode()
                elif line.get("opcode") == "binary":
                    data = base64.b64decode(line["data"])
                    if line["dir"] == "send" and data[:1] == b"\x03" and len(data) > 7:
                        data = as_received(data)
                    yield vsn | 2, data


def as_received(push):
    """What the server makes of a broadcast that it was sent."""
    _, join_ref, ref, topic, event, _, encoding = push[:7]
    return bytes([4, topic, event, 0, encoding]) + push[7 + join_ref + ref:]


def payloads(frame):
    """The JSON documents in a frame."""
    yield frame
    try:
        parts = json.loads(frame)
    except ValueError:
        return
    for part in parts if isinstance(parts, list) else [parts]:
        if isinstance(part, dict) and part:
            yield json.dumps(part, ensure_ascii=False).encode()


def with_many_keys():
    """What no server has said yet: more keys than are compared one by one, some of them twice, as JSON and MessagePack."""
    for n, again in ((200, 0), (200, 1), (500, 7)):
        names = [f"{i:x}" for i in range(n)] + [f"{i * 3:x}" for i in range(again)]
        yield b"{" + b",".join(b'"%s":%d' % (name.encode(), i) for i, name in enumerate(names)) + b"}"
        body = b"".join(msgpack.packb(name) + msgpack.packb(i % 100) for i, name in enumerate(names))
        yield b"\xde" + len(names).to_bytes(2, "big") + body


STATUSES = [200, 400, 401, 403, 404, 422, 429, 500, 0, 302, 201, 409]  # as in fuzz_gotrue.c
CODES = ["refresh_token_already_used", "refresh_token_not_found", "session_not_found", "session_expired", "user_banned",
         "user_not_found", "validation_failed", "bad_jwt", "no_authorization", "hook_timeout", "zq0xk9w7vjy3"]


def auth_answers():
    """(status, body) of answers to a refresh."""
    tokens = {"access_token": "eyJh.eyJl.c2ln", "token_type": "bearer", "expires_in": 3600, "expires_at": 1800003600,
              "refresh_token": "abcdefghij12"}
    users = [{}, {"id": "5d", "app_metadata": {"providers": ["email"]}, "user_metadata": {"access_token": "no"}, "n": [1.50, -0.0]}]
    for user in users:
        yield 200, {**tokens, "user": user}
        yield 201, {"user": user, **tokens, "expires_in": 1.5, "weak_password": None}
    for key in tokens:
        yield 200, {k: v for k, v in tokens.items() if k != key}
        yield 200, {**tokens, key: "a b" if isinstance(tokens[key], str) else -1}
    for code in CODES:
        for status in (400, 401, 403, 404, 422):
            yield status, {"code": status, "error_code": code, "msg": "Invalid Refresh Token: zq0xk9w7vjy3"}
        yield 400, {"code": code, "message": "no"}
    for words in ("Already Used", "Refresh Token Not Found", "zq0xk9w7vjy3"):
        yield 400, {"code": 400, "msg": "Invalid Refresh Token: " + words}
        yield 400, {"error": "invalid_grant", "error_description": "Invalid Refresh Token: " + words}
    yield 401, {"message": "Invalid API key", "hint": "Double check your key."}
    yield 429, {"code": 429, "error_code": "over_request_rate_limit", "msg": "Request rate limit reached"}
    yield 500, {"code": 500, "error_code": "unexpected_failure", "msg": "zq0xk9w7vjy3"}


def put(folder, data):
    if len(data) > LARGEST:
        return
    with open(os.path.join(folder, hashlib.sha1(data).hexdigest()), "wb") as file:
        file.write(data)


def main():
    phx, plain, gotrue = (os.path.join(sys.argv[1], name) for name in ("phx", "json", "gotrue"))
    for folder in (phx, plain, gotrue):
        os.makedirs(folder, exist_ok=True)
    for how, frame in frames():
        put(phx, bytes([how]) + frame)
        if not how & 2:
            for document in payloads(frame):
                put(plain, document)
    for document in with_many_keys():
        put(plain, document)
    for status, answer in auth_answers():
        put(gotrue, bytes([STATUSES.index(status)]) + json.dumps(answer).encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
