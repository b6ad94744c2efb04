#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes grammar.txt: what RFC 8259 allows and what it does not, case by case.

The verdict of each case follows from how it is built, not from any parser. One case a line:
`y` (allowed) or `n`, a name, the document with all but printable ASCII, '%' and space as %XX.
"""
import sys

cases = []


def case(verdict, name, data):
    if isinstance(data, str):
        data = data.encode()
    cases.append((verdict, name, data))


def yes(name, *documents):
    for i, data in enumerate(documents):
        case("y", f"{name}_{i}", data)


def no(name, *documents):
    for i, data in enumerate(documents):
        case("n", f"{name}_{i}", data)


def numbers():
    """number = [ minus ] int [ frac ] [ exp ]: every way to fill the parts, right and wrong."""
    for minus in ("", "-"):
        for whole in ("0", "7", "10", "1234567890"):
            for frac in ("", ".0", ".25", ".000"):
                for exp in ("", "e1", "E+05", "e-0"):
                    yes("number", minus + whole + frac + exp)
    no("number_minus", "-", "--1", "-+1", "+1", "+", "- 1", "-\n1", "1-", "1-1", "\u22121")
    no("number_int", "00", "01", "-01", "007", "-00", "0x1F", "0b1", "0o7", "1_0", "1,0", "1'0", "١", "１")
    no("number_frac", ".", ".5", "-.5", "5.", "-5.", "5.e1", "5.-1", "5.+1", "5..1", "5.1.2", "5. 1", "5 .1", "0.", "0,5")
    no("number_exp", "e1", "1e", "1E", "1e+", "1e-", "1e++1", "1e+-1", "1e1.5", "1e1e1", "1e 1", "1 e1", "1e1x", "1ee1", "-e1", ".e1", "1ex", "1e1.")
    no("number_word", "NaN", "nan", "-NaN", "Infinity", "-Infinity", "inf", "-inf", "Inf", "1f", "1d", "1L", "1n", "1u")
    yes("number_long", "1" * 400, "0." + "3" * 400, "1e" + "0" * 300 + "1", "-" + "9" * 400 + "e-400", "1e400", "1e-400")


def strings():
    for escape in '"\\/bfnrt':
        yes("escape", f'"\\{escape}"', f'"a\\{escape}b"')
    for char in range(0x21, 0x7F):
        if chr(char) not in '"\\/bfnrtu':
            no("escape_unknown", f'"\\{chr(char)}"')
    no("escape_odd", b'"\\\x00"', b'"\\\x1f"', b'"\\\x7f"', '"\\é"', '"\\ "', '"\\\n"')
    for code in (0, 0x1F, 0x20, 0x22, 0x5C, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFD, 0xFFFE, 0xFFFF):
        yes("unicode_escape", f'"\\u{code:04x}"', f'"\\u{code:04X}"')
    yes("surrogate_pair", '"\\ud800\\udc00"', '"\\uDBFF\\uDFFF"', '"\\uD83D\\ude00"')
    # the grammar allows them, their meaning is open
    yes("surrogate_alone", '"\\ud800"', '"\\udfff"', '"\\udc00\\ud800"', '"\\ud800\\ud800\\udc00"', '"\\ud800a"', '{"\\ud800":0}')
    no("unicode_escape", '"\\u"', '"\\u0"', '"\\u00"', '"\\u000"', '"\\u000g"', '"\\ug000"', '"\\u-001"', '"\\u+001"', '"\\u 001"', '"\\U0041"', '"\\u{41}"', '"\\x41"', '"\\u00', '"\\', '"\\"', '"\\ud800\\"', '"\\ud800\\u"', '"\\ud800\\udc0"')
    for code in range(0x20):
        no("control", b'"' + bytes([code]) + b'"')
    for char in range(0x20, 0x80):
        if chr(char) not in '"\\':
            yes("ascii", b'"' + bytes([char]) + b'"')
    no("quote", '"', '"a', 'a"', "'a'", "`a`", '"a""b"', '"a"b', '“a”', '"""', "a", '"a\'')


def utf8():
    for code in (0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFDD0, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFF, 0x10FFFF):
        text = chr(code)
        yes("utf8", f'"{text}"', f'"{"x" * 15}{text}"', f'"{text * 17}"', f'{{"{text}":0}}')
        no("utf8_cut", f'"{text}'.encode()[:-1] + b'"', b'"' + text.encode()[1:] + b'"')
        no("utf8_outside", text)
    bad = [bytes([b]) for b in (0x80, 0xBF, 0xC0, 0xC1, 0xF5, 0xF8, 0xFE, 0xFF)]
    bad += [b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x80\x80\xaf", b"\xf0\x8f\xbf\xbf"]
    bad += [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf"]
    bad += [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xc3\xc3\xa9", b"\xe2\x28\xa1", b"\xe2\x82\x28", b"\xf0\x9f\x98\x28"]
    for data in bad:
        no("utf8_bad", b'"' + data + b'"', b'"' + b"x" * 15 + data + b'"', b'{"' + data + b'":0}', data)


def structure():
    values = ["null", "true", "false", "0", '""', "[]", "{}", "[0]", '{"a":0}']
    for v in values:
        yes("value", v, f" {v} ", f"\t{v}\n", f"\r\n{v}\r\n", f"[{v}]", f"[ {v} , {v} ]", f'{{"k":{v}}}', f'{{ "k" : {v} , "l" : {v} }}')
        no("trailing", v + ",", v + "]", v + "}", v + ":", v + ' ""', v + "\0", v + " []", v + "//", v + "/**/", v + "#", v + ";")
        no("leading", "," + v, "]" + v, "}" + v, ":" + v, "\0" + v, "\ufeff" + v, "\xa0" + v, "\v" + v, "\f" + v, "//\n" + v, "\u2028" + v)
        no("array", f"[{v}", f"[{v},", f"[{v},]", f"[,{v}]", f"[{v},,{v}]", f"[{v} {v}]", f"[{v}:{v}]", f"[{v}}}", f"[{v};{v}]", f"({v})")
        no("object", f'{{"k":{v}', f'{{"k":{v},', f'{{"k":{v},}}', f'{{,"k":{v}}}', f'{{"k":{v},,"l":{v}}}', f'{{"k":{v} "l":{v}}}', f'{{"k":{v}]', f'{{"k"{v}}}', f'{{"k"::{v}}}', f'{{"k",{v}}}', f'{{"k"={v}}}', f'{{:{v}}}', f'{{k:{v}}}', f"{{'k':{v}}}", f'{{{v}}}')
        if v != '""':
            no("key", f"{{{v}:0}}")
    no("object_cut", "{", '{"', '{"k', '{"k"', '{"k":', '{"k":}', '{"k"}', "{]", "{[}", "{{}}", '{"k":0}}')
    no("array_cut", "[", "[[", "[]]", "[}", "[1", '["', "[,]", "[:]", "]", "}")
    no("empty", "", " ", "\n\t\r ", "\0", "\ufeff")
    no("word", "nul", "nulll", "Null", "NULL", "tru", "truee", "True", "TRUE", "fals", "False", "undefined", "None", "nil", "n", "t", "f", "null0", "true false", "nu ll", "tr\nue", "t\0rue")
    yes("nested", "[" * 64 + "]" * 64, '{"a":' * 64 + "0" + "}" * 64, '[{"a":' * 32 + "[" * 0 + "0" + "}]" * 32)
    yes("same_key", '{"a":0,"a":1}', '{"":0,"":1}', '{"a":0,"\\u0061":1}')
    yes("null_key", '{"\\u0000":0,"a\\u0000":1}')


def encode(data):
    return "".join(chr(b) if 0x20 < b < 0x7F and b != 0x25 else f"%{b:02X}" for b in data)


def main():
    numbers()
    strings()
    utf8()
    structure()
    seen = {}
    for verdict, name, data in cases:
        if seen.setdefault(data, verdict) != verdict:
            sys.exit(f"{name}: two verdicts about {data!r}")
    done = set()
    for verdict, name, data in cases:
        if data not in done:
            print(verdict, name, encode(data))
        done.add(data)


main()
