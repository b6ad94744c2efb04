#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Compares json_tool (proto/rtbp_json.h) with model.py, document by document, byte by byte.

usage: differential.py JSON_TOOL GRAMMAR_TXT [DOCUMENTS [SEED]]
"""
import re
import struct
import subprocess
import sys

import model
from generate import Generator

sys.set_int_max_str_digits(0)

NASTY_JSON = [
    *(str(s * (2**n + d)) for n in (31, 32, 53, 63, 64, 70) for d in (-1, 0, 1) for s in (1, -1)),
    "-0", "-0.0", "-0e1", "0.00", "1e23", "1E400", "-1e400", "1e-400", "5e-324", "4.9e-324",
    "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
    "2.2250738585072014e-308", "1.7976931348623157e308", "1.7976931348623158e308",
    "1.7976931348623159e308", "9007199254740993", "9007199254740993.0", "0.1000000000000000055",
    "123456789012345678", "1234567890123456.7", "1234567890123456.8", "1234567890123456.75",
    "6.62607015e-34", "8.41e21", "9.5367431640625e-7", "1e22", "1e21", "100e-2", "1.10", "12e0",
    "1e99999999999999999999", "1e-99999999999999999999", "0e99999999999999999999",
    *(repr(2.0**n) for n in range(-1074, 1024)),
    *(f"{2.0**n:.{p}e}" for n in range(-1074, 1024, 7) for p in (14, 15, 16)),
    *(repr(10.0**n) for n in range(-323, 309)),
    *(f"0.{'0' * n}1" for n in range(30)),
    "[" * 64 + "]" * 64, "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65,
    '"' + "\\ud83d" * 20 + '"', '{"\\ud800":1,"\\udc00":2}', '{"a":1,"b":2,"a":3}',
    *("[" + ",".join("0" * n) + "]" for n in (15, 16, 17, 300)),
    *('{' + ",".join(f'"{i % m}":{i}' for i in range(n)) + '}' for n in (15, 16, 32, 33, 70) for m in (n, n - 1, 7)),
]
NASTY_MP = [
    *(b"\x91" * n + b"\xc0" for n in (63, 64, 65, 400, 2000)),
    *(bytes([b]) + rest for b in range(256) for rest in (b"", b"\0", b"\0\0\0\0\0\0\0\0\0", b"\x01\x011")),
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\0", b"\xdb\xff\xff\xff\xff",
    *(b"\xcb" + struct.pack(">d", s * 2.0**n) for n in range(-1074, 1024) for s in (1, -1)),
    *(b"\xca" + struct.pack(">I", i << 23 | m) for i in range(512) for m in (0, 1, 0x7FFFFF)),
]


class Tool:
    """Runs all jobs of one kind in one process."""

    def __init__(self, path):
        self.path = path

    def run(self, kind, documents):
        stdin = b"".join(kind + struct.pack(">I", len(d)) + d for d in documents)
        out = subprocess.run([self.path], input=stdin, stdout=subprocess.PIPE, check=True).stdout
        results, at = [], 0
        for _ in documents:
            code, _, size = struct.unpack_from(">iII", out, at)
            at += 12
            results.append(out[at : at + size] if code == 0 else None)
            at += size
        if at != len(out):
            sys.exit("json_tool wrote more than it was asked for")
        return results


def compare(what, documents, got, want):
    n_accepted = 0
    for document, g, w in zip(documents, got, want):
        if g != w:
            sys.exit(f"{what}: {document!r}\n  got:  {g!r}\n  want: {w!r}")
        n_accepted += w is not None
    print(f"{what}: {len(documents)} documents, {n_accepted} accepted, all the same")


def read_grammar(path):
    with open(path, encoding="ascii") as file:
        for line in file:
            verdict, name, text = line.rstrip("\n").split(" ")
            data = re.sub(rb"%(..)", lambda m: bytes([int(m[1], 16)]), text.encode())
            yield verdict, name, data


def check_grammar(tool, path):
    cases = list(read_grammar(path))
    for (verdict, name, data), result in zip(cases, tool.run(b"j", [c[2] for c in cases])):
        if (result is not None) != (verdict == "y"):
            sys.exit(f"{name}: {data!r} must be {'accepted' if verdict == 'y' else 'refused'}")
    print(f"grammar: {len(cases)} cases, all as they must be")
    return [c[2] for c in cases]


def check_json(tool, documents):
    got = tool.run(b"j", documents)
    compare("JSON to MessagePack", documents, got, [model.json_to_mp(d) for d in documents])
    accepted = [mp for mp in got if mp is not None]
    back = tool.run(b"m", accepted)
    compare("and back", accepted, back, [model.mp_to_json(mp) for mp in accepted])
    compare("and there again", back, tool.run(b"j", back), accepted)


def check_mp(tool, documents):
    got = tool.run(b"m", documents)
    compare("MessagePack to JSON", documents, got, [model.mp_to_json(d) for d in documents])
    accepted = [text for text in got if text is not None]
    compare("and back", accepted, tool.run(b"j", accepted), [model.json_to_mp(t) for t in accepted])


def main():
    tool, grammar = Tool(sys.argv[1]), sys.argv[2]
    n = int(sys.argv[3]) if len(sys.argv) > 3 else 20000
    gen = Generator(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    documents = check_grammar(tool, grammar) + [t.encode() for t in NASTY_JSON]
    documents += [gen.json_bytes() for _ in range(n // 4)]
    documents += [gen.number_text().encode() for _ in range(n // 4)]
    check_json(tool, documents)
    check_mp(tool, NASTY_MP + [gen.mp_document() for _ in range(n // 2)])
    texts = [gen.damage(gen.string().encode()) for _ in range(n // 20)]
    compare("quote", texts, tool.run(b"q", texts), [model.quote(t) for t in texts])


main()
