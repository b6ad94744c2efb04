# SPDX-License-Identifier: MIT
"""Reads the golden frames as a binding would, and holds them against the names of rtbp_table.h.

vectors.py FRAMES.JSON RTBP_TABLE.H
"""

import base64
import json
import re
import struct
import sys
import unittest

import msgpack


def meaning(value):
    """The JSON of a vector as the values that msgpack gives."""
    if isinstance(value, list):
        return [meaning(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$bin"}:
        return base64.b64decode(value["$bin"], validate=True)
    if set(value) == {"$ext"}:
        code, text = value["$ext"]
        return msgpack.ExtType(code, text.encode())
    if set(value) == {"$int"}:
        return int(value["$int"])
    return {k: meaning(v) for k, v in value.items()}


def same(a, b):
    """Equal in type as well: Python takes 1, 1.0 and True for one."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def keys_of(value):
    if isinstance(value, dict):
        yield from value
        for v in value.values():
            yield from keys_of(v)
    elif isinstance(value, list):
        for v in value:
            yield from keys_of(v)


def table(text, which):
    rows = re.search(rf"#define {which}\(X\)(.*?[^\\])\n\n", text, re.S).group(1)
    return re.findall(r"X\(\w+, (?:(\d+), )?\"(\w+)\"", rows.replace("\\\n", " "))


class Vectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(frames_path, encoding="ascii") as f:
            cls.frames = json.load(f)
        with open(table_path, encoding="utf-8") as f:
            cls.table = f.read()

    def test_bytes_have_their_meaning(self):
        for v in self.frames:
            with self.subTest(v["name"]):
                frame = bytes.fromhex(v["hex"])
                self.assertEqual(struct.unpack(">I", frame[:4])[0], len(frame) - 4)
                said = msgpack.unpackb(frame[4:], raw=False, strict_map_key=True)
                self.assertTrue(same(said, meaning(v["message"])), said)

    def test_names_are_unique(self):
        names = [v["name"] for v in self.frames]
        self.assertEqual(len(names), len(set(names)))

    def test_shapes(self):
        for v in self.frames:
            message = v["message"]
            with self.subTest(v["name"]):
                self.assertIn(v["from"], ("client", "daemon"))
                self.assertIn(message[0], (0, 2) if v["from"] == "client" else (1, 2))
                if message[0] == 1:
                    self.assertEqual([message[2], message[3]].count(None), 1)
                    if message[2]:
                        self.assert_error(message[2])
                    else:
                        self.assertIsInstance(message[3], dict)
                else:
                    self.assertIsInstance(message[-1], dict)

    def assert_error(self, error):
        code, name, text, retry_after_ms = error
        self.assertIn((str(code), name), table(self.table, "RTBP_ERRORS"))
        self.assertIsInstance(text, str)
        self.assertIsInstance(retry_after_ms, (int, type(None)))

    def test_every_method(self):
        messages = [v["message"] for v in self.frames]
        for _, method in table(self.table, "RTBP_METHODS"):
            with self.subTest(method):
                requests = [m[1] for m in messages if m[0] == 0 and m[2] == method]
                self.assertTrue(requests)
                answers = [m for m in messages if m[0] == 1 and m[1] in requests]
                self.assertTrue([m for m in answers if m[2] is None], "no result")
                self.assertTrue([m for m in answers if m[2] is not None], "no error")

    def test_every_notice(self):
        said = {v["message"][1] for v in self.frames if v["from"] == "daemon" and v["message"][0] == 2}
        self.assertEqual(said, {name for _, name in table(self.table, "RTBP_NOTICES")})

    def test_every_error(self):
        said = set()
        for v in self.frames:
            message = v["message"]
            error = message[2] if message[0] == 1 else message[-1].get("error") if message[0] == 2 else None
            if error:
                self.assert_error(error)
                said.add((str(error[0]), error[1]))
        self.assertEqual(said, set(table(self.table, "RTBP_ERRORS")))

    def test_every_field(self):
        said = {key for v in self.frames for key in keys_of(v["message"])}
        fields = {name for _, name in table(self.table, "RTBP_FIELDS")}
        self.assertEqual(fields - said, set())


if __name__ == "__main__":
    frames_path, table_path = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
