# SPDX-License-Identifier: MIT
"""What proto/rtbp_json.h promises, said a second time with Python's json and msgpack.

Both functions return None for what must be refused.
"""
import json
import math
import re
from decimal import Decimal, getcontext

import msgpack

DEPTH = 64
EXT_NUMBER = 1
getcontext().prec = 50


class Refused(Exception):
    pass


def number(text):
    """The value that carries the JSON number `text`: int, float or ExtType."""
    if re.fullmatch(r"-?\d+", text) and text != "-0":
        if len(text) <= 20 and -(2**63) <= int(text) < 2**64:
            return int(text)
    as_text = msgpack.ExtType(EXT_NUMBER, text.encode())
    fraction = re.search(r"\.(\d+)", text)
    if fraction and len(fraction[1]) > 1 and fraction[1].endswith("0"):
        return as_text
    value = float(text)
    if not re.search(r"[1-9]", re.split("[eE]", text)[0]):
        return value
    if math.isinf(value) or value == 0:
        return as_text
    # Digits and magnitude survive exactly when the shortest text has the same value.
    return value if same_decimal(text, repr(value)) else as_text


def same_decimal(a, b):
    """Equal as decimals; Decimal's exponents are bounded, those of JSON are not."""
    return split_decimal(a) == split_decimal(b)


def split_decimal(text):
    sign, whole, fraction, exp = re.fullmatch(
        r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?", text
    ).groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    stripped = digits.rstrip("0")
    power = int(exp or 0) - len(fraction) + len(digits) - len(stripped)
    return sign, stripped, power


def well_formed(text):
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def fix(value):
    return well_formed(value) if isinstance(value, str) else value


def last_wins(pairs):
    result = {}
    for key, value in pairs:
        key = well_formed(key)
        result.pop(key, None)
        result[key] = fix(value)
    return result


def fix_lists(value):
    if isinstance(value, list):
        return [fix_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: fix_lists(item) for key, item in value.items()}
    return fix(value)


def refuse(*_):
    raise Refused


def text_depth(text):
    """How deep brackets nest in a document that is known to be valid."""
    depth = deepest = 0
    for char in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def read_json(data):
    """The value of a JSON document in bytes."""
    text = data.decode("utf-8")
    try:
        value = json.loads(
            text,
            parse_int=number,
            parse_float=number,
            parse_constant=refuse,
            object_pairs_hook=last_wins,
        )
    except RecursionError:
        raise Refused from None
    if text_depth(text) > DEPTH:
        raise Refused
    return fix_lists(value)


def json_to_mp(data):
    try:
        return msgpack.packb(read_json(data), use_bin_type=True)
    except (ValueError, Refused):
        return None


def distinct(pairs):
    result = {}
    for key, value in pairs:
        if not isinstance(key, str) or key in result:
            raise Refused
        result[key] = value
    return result


def read_mp(data):
    return msgpack.unpackb(
        data,
        raw=False,
        strict_map_key=False,
        object_pairs_hook=distinct,
        ext_hook=msgpack.ExtType,
    )


JSON_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def write_float(value):
    if math.isnan(value) or math.isinf(value):
        raise Refused
    return re.sub(r"e([-+])0*", lambda m: "e" + m[1].strip("+"), repr(value))


def write_json(value, depth=0):
    """The JSON text of a value, as a list of strings to join."""
    if isinstance(value, msgpack.ExtType):
        if value.code != EXT_NUMBER or not JSON_NUMBER.fullmatch(value.data):
            raise Refused
        return value.data.decode()
    if isinstance(value, float):
        return write_float(value)
    if isinstance(value, (dict, list)):
        if depth == DEPTH:
            raise Refused
        if isinstance(value, list):
            return "[" + ",".join(write_json(item, depth + 1) for item in value) + "]"
        return (
            "{"
            + ",".join(
                write_json(key) + ":" + write_json(item, depth + 1)
                for key, item in value.items()
            )
            + "}"
        )
    if value is None or isinstance(value, (bool, int, str)):
        return json.dumps(value, ensure_ascii=False)
    raise Refused


def mp_to_json(data):
    try:
        return write_json(read_mp(data)).encode("utf-8")
    except (ValueError, msgpack.UnpackException, Refused, RecursionError):
        return None


def quote(data):
    """A JSON string of any bytes; each byte that is not UTF-8 counts on its own."""
    text = data.decode("utf-8", "surrogateescape")
    return json.dumps(re.sub("[\udc80-\udcff]", "\ufffd", text), ensure_ascii=False).encode()
