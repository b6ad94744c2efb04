# SPDX-License-Identifier: MIT
"""Random documents from a seed: JSON text and MessagePack, valid and broken."""
import random
import struct

KEYS = ["", "a", "b", "id", "name", "é", "日本", "with space", "a\0b", "x" * 31, "x" * 32, "k\n"]
CHARS = 'abc 0189/"\\\b\f\n\r\t\0\x1f\x7fé€日\u2028😀\U0010ffff'
BROKEN_UTF8 = [b"\x80", b"\xc0\x80", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"]
EDGES = [2**n + d for n in (0, 5, 7, 8, 15, 16, 31, 32, 53, 63, 64) for d in (-2, -1, 0, 1)]


class Generator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def string(self):
        n = self.r.choice([0, 1, 3, 8, 15, 16, 17, 31, 32, 33, 60, 255, 256])
        return "".join(self.r.choice(CHARS) for _ in range(self.r.randint(0, n)))

    def double(self):
        kind = self.r.randrange(6)
        if kind == 0:
            return struct.unpack(">d", self.r.randbytes(8))[0]
        if kind == 1:
            return self.r.uniform(-180, 180)
        if kind == 2:
            return round(self.r.uniform(-1e6, 1e6), self.r.randint(0, 8))
        if kind == 3:
            return 2.0 ** self.r.randint(-1074, 1023)
        if kind == 4:
            return float(self.r.randint(0, 10**self.r.randint(1, 22)))
        return self.r.random() * 10.0 ** self.r.randint(-30, 30)

    def finite(self):
        while True:
            d = self.double()
            if d - d == 0:
                return d

    def digits(self, n):
        return "".join(self.r.choice("0123456789") for _ in range(n))

    def number_text(self):
        kind = self.r.randrange(8)
        if kind == 0:
            return str(self.r.choice((-1, 1)) * self.r.choice(EDGES))
        if kind == 1:
            return str(self.r.getrandbits(self.r.randint(1, 80)))
        if kind == 2:
            return repr(self.finite())
        if kind == 3:
            # a neighbour of a shortest text, or more digits of it
            d = self.finite()
            return f"{d:.{self.r.randint(0, 25)}e}"
        if kind == 4:
            return f"{self.r.uniform(-1e9, 1e9):.{self.r.randint(1, 20)}f}"
        sign = self.r.choice(["", "-"])
        whole = self.digits(self.r.choice([1, 1, 2, 3, 15, 16, 17, 19, 20, 21])).lstrip("0") or "0"
        fraction = self.r.choice(["", ".0", ".00", ".5", ".50", "." + self.digits(self.r.randint(1, 20))])
        exp = self.r.choice(["", "", "e0", "E+2", "e-2", f"e{self.r.randint(-345, 330)}"])
        return sign + whole + fraction + exp

    def escape(self, text):
        out = []
        for char in text:
            code = ord(char)
            short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\n": "\\n", "/": "\\/"}
            if code < 0x20 or char in '"\\' or self.r.random() < 0.1:
                if char in short and self.r.random() < 0.5:
                    out.append(short[char])
                elif code >= 0x10000:
                    code -= 0x10000
                    out.append(f"\\u{0xd800 + (code >> 10):04x}\\u{0xdc00 + (code & 1023):04X}")
                else:
                    out.append(f"\\u{code:04x}")
            else:
                out.append(char)
        if self.r.random() < 0.03:
            out.append(self.r.choice(["\\ud800", "\\udfff", "\\ud83dx", "\\ud800\\n"]))
        return '"' + "".join(out) + '"'

    def space(self):
        return self.r.choice(["", "", "", " ", "\n\t", "\r\n"])

    def json_text(self, depth=0):
        kind = self.r.randrange(10 if depth < 6 else 7)
        if kind < 3:
            body = self.number_text()
        elif kind < 5:
            body = self.escape(self.string())
        elif kind < 7:
            body = self.r.choice(["null", "true", "false", "0", '""', "[]", "{}"])
        else:
            n = self.r.choice([0, 1, 2, 3, 5, 15, 16, 17] if depth else [3, 16, 40])
            items = [self.json_text(depth + 1 + (n > 5)) for _ in range(n)]
            if kind == 7:
                body = "[" + ",".join(items) + "]"
            else:
                names = [self.r.choice(KEYS) if self.r.random() < 0.5 else self.string() for _ in items]
                body = "{" + ",".join(
                    self.space() + self.escape(k) + self.space() + ":" + v for k, v in zip(names, items)
                ) + "}"
        return self.space() + body + self.space()

    def json_bytes(self):
        data = self.json_text().encode()
        return self.damage(data) if self.r.random() < 0.3 else data

    def damage(self, data):
        data = bytearray(data or b" ")
        for _ in range(self.r.choice([1, 1, 1, 3])):
            at = self.r.randrange(len(data))
            kind = self.r.randrange(6)
            if kind == 0:
                del data[at:]
            elif kind == 1:
                del data[at]
            elif kind == 2:
                data[at:at] = self.r.choice([b",", b"[", b"}", b'"', b"\\", b"0", b"e", b".", b"\0"])
            elif kind == 3:
                data[at:at] = self.r.choice(BROKEN_UTF8)
            elif kind == 4:
                data[at] = self.r.randrange(256)
            else:
                data[at] ^= 1 << self.r.randrange(8)
            if not data:
                return b""
        return bytes(data)

    # MessagePack, in any encoding size

    def head(self, n, fix, fix_max, codes):
        sizes = [(code, size) for code, size in codes if n < 1 << (8 * size)]
        if n <= fix_max and self.r.random() < 0.7:
            return bytes([fix | n])
        code, size = sizes[0] if self.r.random() < 0.7 else self.r.choice(sizes)
        return bytes([code]) + n.to_bytes(size, "big")

    def mp_string(self, text):
        data = text.encode()
        return self.head(len(data), 0xA0, 31, [(0xD9, 1), (0xDA, 2), (0xDB, 4)]) + data

    def mp_int(self):
        value = self.r.choice(EDGES) if self.r.random() < 0.5 else self.r.getrandbits(self.r.randint(1, 64))
        value = min(value, 2**64 - 1) * self.r.choice((-1, 1))
        value = max(value, -(2**63))
        fits = [bytes([value & 0xFF])] if -32 <= value < 128 else []
        for code, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
            if 0 <= value < 1 << (8 * size):
                fits.append(bytes([code]) + value.to_bytes(size, "big"))
        for code, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
            if -(1 << (8 * size - 1)) <= value < 1 << (8 * size - 1):
                fits.append(bytes([code]) + value.to_bytes(size, "big", signed=True))
        return self.r.choice(fits)

    def mp_ext(self):
        data, kind = self.number_text().encode(), 1
        odd = self.r.random()
        if odd < 0.02:
            kind = self.r.randrange(256)
        elif odd < 0.04:
            data = self.r.choice([b"", b" 1", b"1 ", b"01", b"NaN", b"1.", b"[]", b"-"])
        elif odd < 0.06:
            return self.head(len(data), 0, -1, [(0xC4, 1), (0xC5, 2), (0xC6, 4)]) + data
        codes = [(0xC7, 1), (0xC8, 2), (0xC9, 4)]
        if len(data) in (1, 2, 4, 8, 16) and self.r.random() < 0.8:
            return bytes([0xD4 + len(data).bit_length() - 1, kind]) + data
        return self.head(len(data), 0, -1, codes) + bytes([kind]) + data

    def mp_float(self):
        d = self.double() if self.r.random() < 0.05 else self.finite()
        if self.r.random() < 0.3:
            return b"\xca" + self.r.randbytes(4) if self.r.random() < 0.1 else b"\xca" + struct.pack(
                ">f", self.r.uniform(-1000, 1000)
            )
        return b"\xcb" + struct.pack(">d", d)

    def mp_key(self):
        if self.r.random() < 0.005:
            return self.mp_int()
        return self.mp_string(self.r.choice(KEYS) if self.r.random() < 0.1 else self.string())

    def mp_bytes(self, depth=0):
        kind = self.r.randrange(11 if depth < 6 else 8)
        if kind < 2:
            return self.mp_int()
        if kind < 4:
            return self.mp_float()
        if kind == 4:
            return self.mp_ext()
        if kind < 7:
            return self.mp_string(self.string())
        if kind == 7:
            return self.r.choice([b"\xc0", b"\xc2", b"\xc3", b"\x80", b"\x90", b"\xa0"])
        n = self.r.choice([0, 1, 2, 3, 5, 15, 16, 17] if depth else [3, 16, 40])
        items = [self.mp_bytes(depth + 1 + (n > 5)) for _ in range(n)]
        if kind == 8:
            return self.head(n, 0x90, 15, [(0xDC, 2), (0xDD, 4)]) + b"".join(items)
        return self.head(n, 0x80, 15, [(0xDE, 2), (0xDF, 4)]) + b"".join(
            self.mp_key() + item for item in items
        )

    def mp_document(self):
        data = self.mp_bytes()
        return self.damage(data) if self.r.random() < 0.25 else data
