# SPDX-License-Identifier: MIT
"""What a changed row looks like at a local client: types, digits, old rows, events, filters, columns, the server's errors."""

import secrets
import unittest
from decimal import Decimal

import msgpack

from rtbtest.changes import Changes, start_postgres
from rtbtest.outside import decode

NO_JSON = ("'NaN'", "'-Infinity'")  # null: the database's decoder has no word for them

# Column type, and a value of it in SQL.
VALUES = [
    ("int2", "-32768"), ("int4", "2147483647"), ("int8", "9007199254740993"), ("int8", "-9223372036854775808"),
    ("int8", "9223372036854775807"), ("numeric", "18446744073709551615"), ("numeric", "18446744073709551616"),
    ("numeric", "123456789012345678901234567890.1234567890"), ("numeric", "0.1"), ("numeric(10,2)", "12.50"), ("numeric(10,2)", "12.34"),
    ("numeric", "-0.00000000000000000001"), ("numeric", "'NaN'"), ("float8", "0.1"), ("float8", "1.5e-7"), ("float8", "'-Infinity'"),
    ("float4", "1.5"), ("bool", "true"), ("bool", "false"), ("text", "null"), ("text", "''"), ("text", r"E'é 😀 \" \\ \n \x01'"),
    ("varchar(20)", "'null'"), ("uuid", "'6f1c2b1e-6a43-4b0e-9a3c-0d5f0a9b7c11'"), ("oid", "4294967295"),
    ("json", "'{\"b\": 1, \"a\": [12345678901234567890.50, null]}'"), ("jsonb", "'{\"x\": {\"y\": 9007199254740993, \"z\": 1.50}}'"),
    ("jsonb", "'\"text\"'"), ("jsonb", "'null'"), ("int8[]", "'{1,9007199254740993,null}'"), ("text[]", "array['a,b', 'c\"d', '{}', null]"),
    ("numeric[]", "'{{1.50,2},{3,123456789012345678901}}'"), ("int4[]", "'{}'"), ("bytea", r"'\x00deadbeef'"), ("bytea", "''"),
    ("timestamptz", "'2024-01-02 03:04:05.678901+02'"), ("timestamp", "'2024-01-02 03:04:05.6'"), ("date", "'2024-02-29'"),
    ("time", "'03:04:05'"), ("interval", "'1 day 02:00'"), ("inet", "'10.0.0.1/8'"), ("point", "'(1,2)'"), ("int4range", "'[1,5)'"),
]


def digits(value):
    """All digits of a number, and where its point is."""
    if isinstance(value, msgpack.ExtType):
        assert value.code == 1, value
        return Decimal(value.data.decode()).as_tuple()
    return Decimal(repr(value)).as_tuple()


def exact(value):
    """Comparable with the types: 1 is not True, and 1.0 not 1."""
    if isinstance(value, list):
        return [exact(v) for v in value]
    if isinstance(value, dict):
        return {k: exact(v) for k, v in value.items()}
    return type(value).__name__, value


class Rows(Changes):
    def setUp(self):
        self.name = "t_" + secrets.token_hex(4)

    def brief(self, peer):
        """[type, new row, old row] of all that came."""
        return [[p["data"]["type"], p["data"].get("record"), p["data"].get("old_record")] for p in self.came(peer)]

    def ready(self, *bindings):
        peer, entries = self.marked(*bindings)
        self.assertEqual([e["state"] for e in entries], ["ready"] * len(bindings), entries)
        return peer, [e["id"] for e in entries]

    def test_types(self):
        columns = [f"c{i} {kind}" for i, (kind, _) in enumerate(VALUES)]
        at = self.table(self.name, "id int8 primary key, " + ", ".join(columns))
        peer, [id] = self.ready(at)
        self.sql(f"insert into {self.name} values (1, " + ", ".join(value for _, value in VALUES) + ")")
        [change] = self.came(peer)
        data = change["data"]
        self.assertEqual(change["ids"], [id])
        self.assertEqual(set(data), {"schema", "table", "type", "commit_timestamp", "columns", "record", "errors"})
        self.assertEqual((data["schema"], data["table"], data["type"], data["errors"]), ("public", self.name, "INSERT", None))
        self.assertRegex(data["commit_timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        catalogue = self.sql(f"select attname, typname from pg_attribute a join pg_type t on t.oid = atttypid "
                             f"where attrelid = '{self.name}'::regclass and attnum > 0 order by attnum")
        self.assertEqual([(c["name"], c["type"]) for c in data["columns"]], [tuple(line.split("|")) for line in catalogue.splitlines()])
        self.assertEqual(sorted(data["record"]), sorted(["id"] + [f"c{i}" for i in range(len(VALUES))]))
        for i, (kind, value) in enumerate(VALUES):
            with self.subTest(kind=kind, value=value):
                got = data["record"][f"c{i}"]
                if kind == "bytea":
                    self.assertEqual(got, self.sql(f"select encode(c{i}, 'hex') from {self.name}"))
                    continue
                want = self.sql(f"select coalesce(to_jsonb(c{i})::text, 'null') from {self.name}")
                self.assertEqual(exact(got), exact(decode(want) if value not in NO_JSON else None))
                if isinstance(got, (int, float, msgpack.ExtType)) and not isinstance(got, bool):
                    self.assertEqual(digits(got), Decimal(self.sql(f"select c{i} from {self.name}")).as_tuple())

    def test_large_values(self):
        at = self.table(self.name, "id int8 primary key, t text, u text")
        peer, _ = self.ready(at)
        self.sql(f"insert into {self.name} values (1, repeat('ä', 450000), 'small')")
        self.sql(f"insert into {self.name} values (2, repeat('x', 1100000), 'small')")
        whole, cut = self.came(peer)
        self.assertEqual((whole["data"]["record"], whole["data"]["errors"]), ({"id": 1, "t": "ä" * 450000, "u": "small"}, None))
        self.assertEqual((cut["data"]["record"], cut["data"]["errors"]), ({"id": 2, "u": "small"}, ["Error 413: Payload Too Large"]))

    def test_old_rows(self):
        at = self.table(self.name, "id int8 primary key, a int4, t text")
        full = self.table(self.name + "_full", "id int8 primary key, a int4, t text", f"alter table {self.name}_full replica identity full")
        for where in at, full:
            peer, _ = self.ready(where)
            self.sql("insert into {0} values (1, 2, 'x'); update {0} set a = 3; update {0} set id = 5; delete from {0}".format(where["table"]))
            rows = [{"id": 1, "a": 2, "t": "x"}, {"id": 1, "a": 3, "t": "x"}, {"id": 5, "a": 3, "t": "x"}]
            old = rows if where is full else [{"id": 1}, {"id": 1}, {"id": 5}]
            got = self.brief(peer)
            self.assertEqual(got, [["INSERT", rows[0], None], ["UPDATE", rows[1], old[0]], ["UPDATE", rows[2], old[1]], ["DELETE", None, old[2]]])

    def test_events(self):
        at = self.table(self.name, "id int8 primary key, a int4")
        events = ["INSERT", "update", "Delete", "*", None]
        peer, ids = self.ready(*[dict(at, event=e) if e else at for e in events])
        self.assertEqual(ids[3], ids[4])  # absent means all
        self.sql("insert into {0} values (1); update {0} set a = 2; delete from {0}; truncate {0}".format(self.name))
        got = [(p["data"]["type"], sorted(p["ids"])) for p in self.came(peer)]
        self.assertEqual(got, [("INSERT", sorted([ids[0], ids[3]])), ("UPDATE", sorted([ids[1], ids[3]])), ("DELETE", sorted([ids[2], ids[3]]))])

    def test_truncate_says_nothing(self):
        at = self.table(self.name, "id int8 primary key")
        peer, _ = self.ready(at)
        self.sql(f"insert into {self.name} values (1), (2)")
        self.assertEqual(len(self.came(peer)), 2)
        self.sql(f"truncate {self.name}")
        self.assertEqual(self.came(peer), [])
        self.sql(f"insert into {self.name} values (3)")
        self.assertEqual(self.brief(peer), [["INSERT", {"id": 3}, None]])

    def test_one_message_for_several_bindings(self):
        at = self.table(self.name, "id int8 primary key, a int4")
        peer, ids = self.ready(at, dict(at, event="INSERT"), dict(at, filter="a=eq.1"), dict(at, filter="a=eq.2"), dict(at, filter="id=gt.0"), at)
        self.assertEqual((ids[0], len(set(ids))), (ids[5], 5))
        self.sql(f"insert into {self.name} values (1, 1), (2, 2)")
        self.assertEqual([(p["data"]["record"]["id"], sorted(p["ids"])) for p in self.came(peer)],
                         [(1, sorted(ids[:3] + ids[4:5])), (2, sorted(ids[:2] + ids[3:5]))])

    # A filter, and what it means.
    FILTERS = {
        "n=eq.2": "n = 2", "n=neq.2": "n <> 2", "n=gt.1,n=lte.3": "n > 1 and n <= 3", "n=gte.2,t=eq.a,b=is.true": "n >= 2 and t = 'a' and b",
        "n=in.(1,3)": "n in (1, 3)", "n=not.in.(1,3)": "n not in (1, 3)", "n=not.eq.2": "n <> 2", 't=eq."a,b"': "t = 'a,b'",
        r't=eq."q\"x"': "t = 'q\"x'", 't=in.("a,b",a)': "t in ('a,b', 'a')", 't=eq."(x)",n=lt.3': "t = '(x)' and n < 3", "t=like.a%": "t like 'a%'",
        "t=not.ilike.A%": "t not ilike 'a%'", "t=match.^[aq]": "t ~ '^[aq]'", "t=is.null": "t is null", "t=not.is.null,b=is.false": "t is not null and not b",
        "n=isdistinct.2": "n is distinct from 2", "t=eq.": "t = ''", "": "true",
    }

    def test_filters(self):
        at = self.table(self.name, "id int8 primary key, n int4, t text, b bool")
        peer, ids = self.ready(*[dict(at, event="INSERT", filter=f) for f in self.FILTERS])
        texts = ["'a'", "'a,b'", "'q\"x'", "'(x)'", "'A'", "''", "null"]
        rows = [(n, t, b) for n in ("1", "2", "3", "null") for t in texts for b in ("true", "false", "null")]
        self.sql(f"insert into {self.name} values " + ",".join(f"({i}, {n}, {t}, {b})" for i, (n, t, b) in enumerate(rows)))
        got = self.came(peer)
        for id, (text, meaning) in zip(ids, self.FILTERS.items()):
            want = [int(i) for i in self.sql(f"select id from {self.name} where {meaning} order by id").split()]
            self.assertEqual([p["data"]["record"]["id"] for p in got if id in p["ids"]], want, text)

    def test_select(self):
        at = self.table(self.name, "id int8 primary key, a int4, t text")
        peer, ids = self.ready(dict(at, select=["t"]), at, dict(at, select=[]), dict(at, select=["a"]))
        self.assertEqual(ids[1], ids[2])
        self.sql(f"insert into {self.name} values (1, 2, 'x')")
        got = {p["ids"][0]: (p["data"]["record"], [c["name"] for c in p["data"]["columns"]]) for p in self.came(peer)}
        self.assertEqual(got, {ids[0]: ({"id": 1, "t": "x"}, ["id", "t"]), ids[1]: ({"id": 1, "a": 2, "t": "x"}, ["id", "a", "t"]),
                               ids[3]: ({"id": 1, "a": 2}, ["id", "a"])})

    def test_errors_of_the_server(self):
        none = self.table(self.name, "a int4")
        hidden = self.table(self.name + "_hidden", "id int8 primary key")
        peer, ids = self.ready(none, hidden)
        self.sql(f"revoke select on {self.name}_hidden from anon")
        self.sql(f"insert into {self.name} values (1); insert into {self.name}_hidden values (1)")
        got = self.came(peer)
        self.assertEqual([p["ids"] for p in got], [[ids[0]], [ids[1]]])
        for p, error in zip(got, ["Error 400: Bad Request, no primary key", "Error 401: Unauthorized"]):
            self.assertEqual((p["data"]["errors"], p["data"]["record"], p["data"]["columns"], p["data"]["commit_timestamp"]), ([error], {}, [], None))

    def test_patterns_and_whole_schemas(self):
        schema = "s_" + secrets.token_hex(4)
        self.sql(f"create schema {schema}; grant usage on schema {schema} to anon")
        for name in "my_t", "myxt", "other":
            self.sql(f"create table {schema}.{name} (id int8 primary key); grant select on {schema}.{name} to anon;"
                     f"alter publication supabase_realtime add table {schema}.{name}")
        peer, ids = self.ready({"schema": schema}, {"schema": schema, "table": "*"}, {"schema": schema, "table": "my_t"}, {"schema": "*", "table": "other"})
        for name in "my_t", "myxt", "other":
            self.sql(f"insert into {schema}.{name} values (1)")
        got = [(p["data"]["schema"], p["data"]["table"], sorted(p["ids"])) for p in self.came(peer)]
        self.assertEqual(got, [(schema, "my_t", sorted(ids[:3])), (schema, "myxt", sorted(ids[:3])), (schema, "other", sorted(ids[:2] + ids[3:]))])

    def test_only_what_is_committed(self):
        at = self.table(self.name, "id int8 primary key")
        peer, _ = self.ready(at)
        self.sql("begin; insert into {0} values (1); rollback; begin; insert into {0} values (3); insert into {0} values (2); commit".format(self.name))
        self.assertEqual([r[1]["id"] for r in self.brief(peer)], [3, 2])


class RowsV1(Rows):
    vsn = "1.0.0"

    def test_serializer(self):
        self.assertEqual(self.peer().status()["vsn"], self.vsn)
        self.assertEqual({s["vsn"] for s in self.server.sockets()}, {self.vsn})


def setUpModule():
    start_postgres()


if __name__ == "__main__":
    unittest.main()
