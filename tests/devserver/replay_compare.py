# SPDX-License-Identifier: MIT
"""Frames that came, compared with those that were recorded."""

import itertools
import re

from replay_frames import Message, parse_json

PHX_REF = re.compile(r"[\w-]{16}")
AGO = re.compile(r"(?<=expired )\d+(?= seconds ago)")
AGO_S = 300  # tokens keep their distance to the time of the recordings by about so much
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
MESSAGE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Mismatch(Exception):
    pass


class Bindings:
    """Recorded generated ids and the ones of this run: one to one."""

    def __init__(self):
        self.there, self.back = {}, {}

    def same(self, old, new):
        return self.there.setdefault(old, new) == new and self.back.setdefault(new, old) == old

    def try_out(self, compare):
        """compare(ids), whose new pairs count only if it says yes."""
        trial = Bindings()
        trial.there, trial.back = dict(self.there), dict(self.back)
        if not compare(trial):
            return False
        self.there, self.back = trial.there, trial.back
        return True


def same_list(want, got, ids):
    return len(want) == len(got) and all(same_value(w, g, ids) for w, g in zip(want, got))


def same_members(want, got, ids):
    """Objects. A generated key may stand for another, so that more than one pairing may have to be tried."""
    if len(want) != len(got):
        return False
    if not want:
        return True
    k = next(iter(want))
    rest = {key: v for key, v in want.items() if key != k}
    if k in got:
        others = [k]
    else:
        others = [g for g in got if UUID.fullmatch(g)] if UUID.fullmatch(k) else []
    return any(ids.try_out(lambda trial: (other == k or trial.same(k, other))
                           and same_value(want[k], got[other], trial, k)
                           and same_members(rest, {g: v for g, v in got.items() if g != other}, trial))
               for other in others)


def same_value(want, got, ids, key=None):
    if key in ("phx_ref", "phx_ref_prev") and PHX_REF.fullmatch(str(want)):
        return isinstance(got, str) and PHX_REF.fullmatch(got) is not None and ids.same(want, got)
    if key == "id" and isinstance(want, int):
        return isinstance(got, int) and ids.same(want, got)
    if key == "id" and MESSAGE_ID.fullmatch(str(want)):
        return isinstance(got, str) and MESSAGE_ID.fullmatch(got) is not None and ids.same(want, got)
    if type(want) is not type(got):
        return False
    if isinstance(want, dict):
        return same_members(want, got, ids)
    if isinstance(want, list) and key == "metas":
        return any(ids.try_out(lambda trial: same_list(want, order, trial)) for order in itertools.permutations(got))
    if isinstance(want, list):
        return same_list(want, got, ids)
    if isinstance(want, str) and AGO.search(want) and AGO.search(got):
        return AGO.sub("", want) == AGO.sub("", got) and abs(int(AGO.search(want)[0]) - int(AGO.search(got)[0])) < AGO_S
    return want == got


def same_database_message(want, got, ids):
    """Kind 4 with the server's own metadata: the database has made the id in it, and writes JSON in its own way."""
    if got.kind != 4 or any(want.fields[k] != got.fields[k] for k in ("topic", "user_event", "encoding")):
        return False
    try:
        if not same_value(parse_json(want.metadata), parse_json(got.metadata), ids):
            return False
        if want.encoding:
            return same_value(parse_json(want.payload.decode()), parse_json(got.payload.decode()), ids)
    except ValueError:
        return False
    return want.payload == got.payload


def same_message(want, got, ids):
    if want.opcode != got.opcode or want.ok != got.ok:
        return False
    if want.ok and want.kind == 4 and want.metadata:
        return same_database_message(want, got, ids)
    if not want.ok or want.kind is not None:
        return want.encode() == got.encode()
    if want.v1 and set(parse_json(got.raw)) != {"ref", "topic", "event", "payload"}:
        return False
    return all(type(want.fields[k]) is type(got.fields[k]) and same_value(want.fields[k], got.fields[k], ids)
               for k in Message.FIELDS) and (want.v1 or got.rest == [])


def free_pair(a, b, presence_refs):
    """A reply to a presence call and a presence_diff next to it."""
    pair = {a.event, b.event}
    reply = a if a.event == "phx_reply" else b
    return pair == {"phx_reply", "presence_diff"} and reply.ref in presence_refs


def is_news(m):
    """What comes by itself, at no fixed time."""
    return m.ok and m.event == "system"


def subscribed(frames):
    """Takes out what tells that bindings are subscribed: it comes when the database is ready, at any time after the join."""
    told = [m for m in frames if is_news(m) and m.payload.get("extension") == "postgres_changes"]
    for m in told:
        i = frames.index(m)
        if any(later.ok and later.event == "phx_reply" and (later.topic, later.ref) == (m.topic, m.join_ref) for later in frames[i:]):
            raise Mismatch(f"before the join is answered: {m}")
        del frames[i]
    return sorted(told, key=lambda m: str(m.topic))


def compare(conn, want, got, ids, presence_refs, by_topic):
    """Frames that came against those recorded; both are lists of Message. by_topic: there is an order within a topic only."""
    want, got = want[:], got[:]
    in_order(conn, subscribed(want), subscribed(got), ids, presence_refs)
    if by_topic:
        for side in (want, got):
            side.sort(key=lambda m: str(m.topic))
    in_order(conn, want, got, ids, presence_refs)


def in_order(conn, want, got, ids, presence_refs):
    i = 0
    while i < max(len(want), len(got)):
        if i >= len(got):
            raise Mismatch(f"{conn}: missing {want[i]}")
        if i >= len(want):
            raise Mismatch(f"{conn}: unexpected {got[i]}")
        if i + 1 < len(want) and i + 1 < len(got) and free_pair(want[i], want[i + 1], presence_refs) \
                and want[i].event == got[i + 1].event and want[i + 1].event == got[i].event:
            got[i], got[i + 1] = got[i + 1], got[i]
        if not same_message(want[i], got[i], ids):
            raise Mismatch(f"{conn}: expected {want[i]}\n      got      {got[i]}")
        i += 1
