#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of corpus/presence: what each socket of the recorded conversations heard of the presence of a topic,
and a few conversations that no server has yet held. What the fuzzer found stands beside them and stays.

usage: make_presence_corpus.py (no arguments)
"""
import glob
import json
import os
import re

import msgpack

HERE = os.path.dirname(os.path.abspath(__file__))
TRANSCRIPTS = os.path.join(HERE, "..", "transcripts")
CORPUS = os.path.join(HERE, "corpus", "presence")
SIZE = b"\x0a"  # 1 MiB may be held
LETTERS = {"phx_join": "j", "presence_state": "s", "presence_diff": "d"}


def frames(path):
    """(socket, topic, event, payload) of the text frames that matter."""
    with open(path, encoding="utf-8") as file:
        for line in map(json.loads, file):
            if line.get("opcode") != "text":
                continue
            try:
                frame = json.loads(line["data"])
            except ValueError:
                continue
            if isinstance(frame, dict):
                topic, event, payload = frame.get("topic"), frame.get("event"), frame.get("payload")
            elif isinstance(frame, list) and len(frame) == 5:
                topic, event, payload = frame[2:]
            else:
                continue
            if event in LETTERS and (event == "phx_join") == (line["dir"] == "send"):
                yield line["conn"], topic, event, payload


def as_json(calls):
    return SIZE + b"".join(
        c.encode() if c == "j" else c.encode() + json.dumps(p, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for c, p in calls)


def as_messagepack(calls):
    return SIZE + b"".join(b"j" if c == "j" else c.upper().encode() + msgpack.packb(p) for c, p in calls)


def recorded():
    for path in sorted(glob.glob(os.path.join(TRANSCRIPTS, "*presence*.v2.jsonl"))):
        calls = {}
        for conn, topic, event, payload in frames(path):
            calls.setdefault((conn, topic), []).append((LETTERS[event], payload))
        for (conn, topic), list_ in calls.items():
            if any(c != "j" for c, _ in list_):
                scenario = os.path.basename(path).removesuffix(".jsonl")
                yield re.sub(r"[^\w.-]", "-", f"{scenario}.{conn}.{topic.removeprefix('realtime:')}"), list_


def meta(ref, prev=None, **state):
    return dict(state, phx_ref=ref) if prev is None else dict(state, phx_ref=ref, phx_ref_prev=prev)


def key(*metas):
    return {"metas": list(metas)}


def diff(joins=None, leaves=None):
    return {"joins": joins or {}, "leaves": leaves or {}}


def made_up():
    bridge = "rtbridge:h"
    yield "bridge", [
        ("s", {bridge: key(meta("1", members={"x": {"n": 1}, "y": {}, "odd": 7}))}),
        ("d", diff({bridge: key(meta("2", "1", members={"x": {"n": 2}, "z": {}}))}, {bridge: key(meta("1"))})),
        ("d", diff({bridge: key(meta("3", members={"x": {"n": 2}}))})), ("d", diff(None, {bridge: key(meta("2"))})),
        ("d", diff({bridge: key(meta("4", "3", n=1)), "x": key(meta("1"), meta(bridge))}, {bridge: key(meta("3"))})),
        ("d", diff({bridge: key(meta("5", bridge, members=[]))})), ("d", diff(None, {bridge: key(meta("5"), meta("4"))}))]
    yield "stranger", [
        ("s", {bridge: key(meta("1", members={"x": {"n": 1}, "y": {}}), meta("s", members={}))}),
        ("d", diff({bridge: key(meta("t", members={"x": {"n": 2}, "": {}, bridge: {}, "a\0": {}, "z": {}}))})),
        ("d", diff({bridge: key(meta("2", "1", members={"x": {"n": 3}}))}, {bridge: key(meta("1"))})),
        ("d", diff({bridge: key(meta("u", "t"), meta("s", n=1))}, {bridge: key(meta("t"))})),
        ("d", diff({bridge: key(meta("u", members={"y": {}}))})), ("j", None),
        ("s", {bridge: key(meta("2", members={"x": {"n": 3}, "y": {"n": 4}}), meta("u", members={"y": {}}))})]
    yield "rejoin", [
        ("d", diff({"a": key(meta("1"))})), ("s", {"a": key(meta("1"), meta("2", n=2))}), ("j", None),
        ("d", diff({"a": key(meta("3", "2", n=3))}, {"a": key(meta("2"))})), ("j", None),
        ("d", diff({"b": key(meta("5"))})), ("d", diff(None, {"b": key(meta("5"))})),
        ("s", {"a": key(meta("4", "1"), meta("2", n=3)), "": key(meta(""))})]
    yield "shapes", [
        ("s", []), ("d", {"joins": []}), ("d", {"leaves": None}), ("d", {}),
        ("s", {"a": 1, "b": {}, "c": {"metas": {}}, "d": {"metas": [1, [], {}, {"phx_ref": 7}, meta("1"), meta("1", n=1)]}})]
    yield "claims", [
        ("s", {"a": key(meta("1"), meta("2"))}),
        ("d", diff({"a": key(meta("3", "1"), meta("4", "1"), meta("5", "4"), meta("2", "1", n=1))}, {"a": key(meta("1"), meta("4"))}))]
    yield "overflow", [
        ("s", {"a": key(meta("1", pad="x" * 300))}), ("d", diff({"b": key(meta("2", pad="x" * 300))})),
        ("d", diff({"c": key(meta("3", pad="x" * 300))})), ("s", {}), ("j", None), ("s", {"a": key(meta("1"))})]


def main():
    os.makedirs(CORPUS, exist_ok=True)
    for name, calls in [*recorded(), *made_up()]:
        for suffix, data in ((".json", as_json(calls)), (".mp", as_messagepack(calls))):
            with open(os.path.join(CORPUS, name + suffix), "wb") as file:
                file.write(b"\0" + data[1:] if name == "overflow" else data)


if __name__ == "__main__":
    main()
