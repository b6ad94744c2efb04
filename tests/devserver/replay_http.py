# SPDX-License-Identifier: MIT
"""Requests to the HTTP API in the recordings: with new names, asked again, and their answers compared."""

import base64
import json
import re
import urllib.parse

from replay_compare import Mismatch

SINGLE = re.compile(r"(.*/broadcast/)([^/]+)(/events/)([^/]+)")
OWN_HEADERS = ("host", "connection", "content-length")  # of the recorder's connection
TOLD = ("content-type", "x-rate-limit", "x-rate-limit-remaining", "x-rate-rolling")


def restore(body, note, large):
    """A body that the recorder has cut at 300 characters; note: what it said about it, large: a text that was too large."""
    if not isinstance(body, str) or not body.endswith("…"):
        return body
    if '{"d":"xxx' in body:
        return body[:body.index("xxx")] + large + '"}}]}'
    n = int(re.match(r"(\d+) messages", note)[1])
    return json.dumps({"messages": [{"topic": "none", "event": "e", "payload": {"i": i}} for i in range(n)]})


def _messages(value, names):
    """New names in a batch, as far as it is one."""
    for m in value.get("messages", []) if isinstance(value, dict) and isinstance(value.get("messages"), list) else []:
        if isinstance(m.get("topic"), str):
            m["topic"] = names.topic(m["topic"]) if m["topic"].startswith("realtime:") else names.sub(m["topic"])
        if "event" in m:
            m["event"] = names.event(m["event"])
    return value


def _dump(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def rename(step, names):
    """In place: names in the path and the body, tokens wherever they are; the body becomes bytes."""
    path, mark, query = step["path"].partition("?")
    single = SINGLE.fullmatch(path)
    if single:
        topic, event = (urllib.parse.unquote(single[i]) for i in (2, 4))
        path = single[1] + urllib.parse.quote(names.sub(topic), safe="") + single[3] + urllib.parse.quote(names.event(event), safe="")
    step["path"] = path + mark + names.text(query)
    headers = {k: names.text(v) for k, v in step["headers"].items() if k not in OWN_HEADERS or v.count(".") == 1}
    body = step.get("body")
    if isinstance(body, dict) and set(body) == {"base64"}:
        step["body"] = base64.b64decode(body["base64"])
    elif isinstance(body, str):
        try:
            step["body"] = _dump(_messages(json.loads(body), names))
        except ValueError:
            step["body"] = body.encode()
    elif body is not None:
        step["body"] = _dump(_messages(body, names))
    if body is not None:
        headers.setdefault("content-type", "application/json")  # the recorder's own, which it did not note
    step["headers"] = headers


def ask(server, step):
    """(status, headers, body)"""
    return server.request(step["method"], step["path"], step.get("body"), step["headers"])


def _value(text, is_json):
    return json.loads(text) if is_json else text


def compare(step, answer, paced):
    """paced: the limits are not the recorded ones."""
    status, headers, body = answer
    want = step.get("headers", {})
    is_json = want.get("content-type", "").startswith("application/json")
    try:
        same = status == step["status"] and _value(body, is_json) == _value(step["body"], is_json)
    except ValueError:
        same = False
    for name in TOLD if want else ():
        if not (paced and name.startswith("x-rate")) and headers.get(name) != want.get(name):
            same = False
    if not same:
        raise Mismatch(f"HTTP: recorded {step['status']} {want} {step['body']}\n      got      {status} {headers} {body}")


def flip(step, rng):
    """Breaks what is expected; returns what was done."""
    told = [name for name in TOLD if name in step.get("headers", {}) and not step.get("paced")]
    how = rng.choice(["status", "body", "header"] if told else ["status", "body"])
    if how == "status":
        step["status"] += 1
    elif how == "body":
        step["body"] = '{"message":"x"}' if step["body"] != '{"message":"x"}' else '""'
    else:
        del step["headers"][rng.choice(told)]
    return f"another {how} of an HTTP answer"
