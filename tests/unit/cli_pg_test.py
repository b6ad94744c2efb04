# SPDX-License-Identifier: MIT
"""`rtbridge sub --pg` against a played daemon: cli_pg_test.py COMMAND"""

import json
import os
import pty
import unittest

import msgpack

from cli_fake import Error
from cli_run import Case

UPDATE = {
    "schema": "public",
    "table": "todos",
    "type": "UPDATE",
    "commit_timestamp": "2025-11-19T00:22:40.877Z",
    "columns": [{"name": "id", "type": "int8"}, {"name": "title", "type": "text"}],
    "record": {"id": 46, "title": "x"},
    "old_record": {"id": 46, "title": "w"},
    "errors": None,
}


def number(text):
    """One that JSON can say and a double cannot hold."""
    return msgpack.ExtType(1, text.encode())


def data(type, record=None, old=None, **more):
    change = {"schema": "public", "table": "todos", "type": type, "commit_timestamp": "", "columns": [], "errors": None}
    if record is not None:
        change["record"] = record
    if old is not None:
        change["old_record"] = old
    return {**change, **more}


class Pg(Case):
    def ready(self, *args, **kw):
        """The command, its connection, and what it has asked for."""
        run = self.run_cli("sub", *args, **kw)
        connection = self.connection()
        return run, connection, self.request("subscribe")

    def row(self, connection, change, ids=(1,)):
        connection.notify("postgres_changes", ids=list(ids), data=change)

    def state(self, connection, *entries, chan=1):
        connection.notify("channel", chan=chan, topic="", private=False, state="joined", postgres_changes=list(entries))

    def on_terminal(self, *args):
        """What it prints there; the test ends it by -C."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        run, connection, _ = self.ready(*args, stdout=theirs)
        os.close(theirs)

        def end():
            code, _, errors = run.end()
            self.assertEqual(code, 0)
            text = os.read(ours, 65536).decode().replace("\r\n", "\n")
            return [line.split(" ", 1)[1] for line in text.splitlines()], errors  # without the time

        return run, connection, end


class Wishes(Pg):
    def asked(self, *args):
        run, _, params = self.ready("-E", *args)
        self.assertEqual(run.end(), (0, [], ""))
        return params

    def test_bindings(self):
        params = self.asked(
            "--pg", "public.todos",
            "--pg", "public.orders:update?status=eq.paid,total=gte.10.5", "--select", 'id,"a,b"',
            "--pg", "*", "--pg", 'x."My.Table":INSERT',
        )  # fmt: skip
        self.assertEqual(params.get("topic", ""), "")
        self.assertFalse(params.get("private", False))
        self.assertIsNone(params.get("broadcast"))
        self.assertEqual(
            [{k: v for k, v in b.items() if (k, v) != ("event", "*")} for b in params["postgres_changes"]],
            [
                {"schema": "public", "table": "todos"},
                {"event": "UPDATE", "schema": "public", "table": "orders", "filter": "status=eq.paid,total=gte.10.5",
                 "select": ["id", "a,b"]},
                {"schema": "*", "table": "*"},
                {"event": "INSERT", "schema": "x", "table": "My.Table"},
            ],
        )  # fmt: skip

    def test_one_topic_carries_them(self):
        params = self.asked("room:1", "--private", "--pg", "public.todos")
        self.assertEqual((params["topic"], params["private"]), ("room:1", True))
        self.assertEqual(len(params["postgres_changes"]), 1)
        self.assertIsNotNone(params.get("broadcast"))

    def test_of_two_topics_none(self):
        self.asked("a", "b", "--pg", "public.todos")
        self.assertIn(("", False), self.daemon.chans)
        self.assertEqual(len(self.daemon.bindings), 1)

    def test_bad_ones_need_no_daemon(self):
        self.daemon.stop()
        for args, words in (
            (["todos"], "cannot use --pg todos: at character 6: behind the schema comes a dot and a table"),
            (["public.todos:INSRT"], 'cannot use --pg public.todos:INSRT: at character 14: "INSRT" is no event'),
            (["public.todos?"], "cannot use --pg public.todos?: at character 14: behind ? comes a filter"),
            (["a.b", "--select", "x,"], "cannot use --select x,: at character 3: a column is missing here"),
        ):
            with self.subTest(args):
                code, lines, errors = self.run_cli("sub", "--pg", *args).end()
                self.assertEqual((code, lines), (2, []))
                self.assertIn("rtbridge: " + words, errors)
                self.assertIn("; see `rtbridge sub --help`", errors)

    def test_too_long_a_name(self):
        code, _, errors = self.run_cli("sub", "--pg", "public." + "x" * 300).end()
        self.assertEqual(code, 2)
        self.assertIn("cannot watch public.x", errors)


class Rows(Pg):
    def test_json(self):
        run, c, _ = self.ready("--pg", "public.todos", "-C", "2")
        self.row(c, UPDATE)
        self.row(c, data("INSERT", {"n": number("12345678901234567890123"), "m": number("1.50"), "i": 2**63}))
        code, lines, errors = run.end()
        self.assertEqual((code, errors, len(lines)), (0, "", 2))
        self.assertEqual(json.loads(lines[0]), {"type": "postgres_changes", "pg": "public.todos", "data": UPDATE})
        self.assertTrue(lines[0].startswith('{"type":"postgres_changes","pg":"public.todos","data":{"schema":"public"'))
        self.assertIn('"record":{"n":12345678901234567890123,"m":1.50,"i":9223372036854775808}', lines[1])

    def test_each_wish_gets_its_rows(self):
        run, c, _ = self.ready("--pg", "public.todos", "--pg", "public.*:UPDATE", "-C", "4")
        self.row(c, UPDATE, ids=(2, 1, 99))
        self.row(c, data("INSERT", {"id": 1}), ids=(1,))
        self.row(c, data("INSERT", {"id": 2}), ids=(98, 99))
        self.row(c, data("UPDATE", {"id": 3}), ids=(2,))
        _, lines, _ = run.end()
        got = [json.loads(line) for line in lines]
        self.assertEqual(
            sorted((line["pg"], line["data"]["type"], line["data"]["record"]["id"]) for line in got),
            [("public.*:UPDATE", "UPDATE", 3), ("public.*:UPDATE", "UPDATE", 46), ("public.todos", "INSERT", 1),
             ("public.todos", "UPDATE", 46)],
        )  # fmt: skip

    def test_rows_and_messages_count_together(self):
        run, c, _ = self.ready("room:1", "--pg", "public.todos", "-C", "3")
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
        self.row(c, UPDATE)
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=2)
        self.assertEqual([json.loads(line)["type"] for line in run.end()[1]], ["broadcast", "postgres_changes", "broadcast"])

    def test_time_over(self):
        run, c, _ = self.ready("--pg", "public.todos", "-W", "0.5")
        self.row(c, UPDATE)
        self.assertEqual(run.end()[0], 0)
        code, _, errors = self.ready("--pg", "public.todos", "-W", "0.1")[0].end()
        self.assertEqual(code, 27)
        self.assertIn("0 messages or rows came within 0.1 s", errors)

    def test_for_people(self):
        run, c, end = self.on_terminal("--pg", "public.todos", "-C", "9")
        self.row(c, data("INSERT", {"id": 1, "title": "a"}))
        self.row(c, data("UPDATE", {"id": 1, "title": "b"}, {"id": 1}))
        self.row(c, UPDATE)
        self.row(c, data("UPDATE", {"id": 2, "t": "b", "n": number("1.50")}, {"id": 1, "t": "b", "n": number("1.5")}))
        self.row(c, data("UPDATE", {"id": 1}, {"id": 1, "large": "x"}))
        self.row(c, data("DELETE", old={"id": 1}))
        self.row(c, data("INSERT", {"id": 1}, errors=["Error 413: Payload Too Large"]))
        self.row(c, data("DELETE", old={}, errors=["Error 401: Unauthorized", "Error \x1b"]))
        self.row(c, data("INS\x1bERT", {"t": "\x9b\n"}, schema="p\x07", table="\x1b[2J"))
        self.assertEqual(end(), ([
            'INSERT public.todos {"id":1,"title":"a"}',
            'UPDATE public.todos {"id":1,"title":"b"}',
            'UPDATE public.todos {"id":46,"title":"x"}, was {"title":"w"}',
            'UPDATE public.todos {"id":2,"t":"b","n":1.50}, was {"id":1,"n":1.5}',
            'UPDATE public.todos {"id":1}',
            'DELETE public.todos {"id":1}',
            'INSERT public.todos {"id":1} -- Error 413: Payload Too Large',
            "DELETE public.todos {} -- Error 401: Unauthorized -- Error ?",
            'INS?ERT p?.?[2J {"t":"?\\n"}',
        ], ""))  # fmt: skip

    TURNING = "".join(map(chr, [0x200E, 0x200F, 0x61C, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]))

    def test_what_turns_a_line_is_not_shown_to_people(self):
        run, c, end = self.on_terminal("--pg", "public.todos", "-C", "2")
        self.row(c, data("INSERT", {"a\u202eb": self.TURNING}, table=f"t{self.TURNING}o"))
        # Their neighbours are letters and signs like others.
        self.row(c, data("INSERT", {"t": "\u200d\u2010\u2027\u202f\u2065\u206a\u2026\u061b\u061d\u00a0é"}))
        marks = "?" * len(self.TURNING)
        self.assertEqual(end(), ([
            f'INSERT public.t{marks}o {{"a?b":"{marks}"}}',
            'INSERT public.todos {"t":"\u200d\u2010\u2027\u202f\u2065\u206a\u2026\u061b\u061d\u00a0é"}',
        ], ""))  # fmt: skip

    def test_programs_get_it_as_it_is(self):
        run, c, _ = self.ready("--pg", "public.todos", "-C", "1")
        self.row(c, data("INSERT", {"t": self.TURNING}))
        self.assertEqual(json.loads(run.end()[1][0])["data"]["record"]["t"], self.TURNING)


class Trouble(Pg):
    REFUSED = {"state": "error", "code": "binding_refused", "text": "Unable to subscribe to changes"}

    def test_all_refused(self):
        for answer, code, advice in (
            (self.REFUSED, 5, "publication supabase_realtime"),
            ({"state": "error", "code": "bad_filter", "text": "Error parsing"}, 5, "column=operator.value"),
            ({"state": "error", "code": "bad_select", "text": "Error parsing"}, 5, "--select"),
            ({"state": "error", "code": "private_only", "text": "private channels only"}, 5, "--private"),
            ({"state": "error", "code": "unauthorized", "text": "no"}, 5, "policies"),
            ({"state": "error", "code": "too_many", "text": "no connection has room"}, 6, ""),
        ):
            with self.subTest(answer["code"]):
                self.daemon.binding = lambda binding: answer
                got, lines, errors = self.run_cli("sub", "--pg", "public.nosuch").end()
                self.assertEqual(got, code)
                self.assertTrue(errors.startswith(f"rtbridge: cannot watch public.nosuch: {answer['text']} ({answer['code']})"))
                self.assertIn(advice, errors)
                self.assertEqual([json.loads(line) for line in lines], [{"type": "binding", "pg": "public.nosuch", **answer}])

    def test_the_rest_goes_on(self):
        self.daemon.binding = lambda binding: self.REFUSED if binding["table"] == "nosuch" else {"state": "ready"}
        run, c, _ = self.ready("--pg", "public.nosuch", "--pg", "public.todos", "-C", "1")
        self.assertEqual(run.json()["code"], "binding_refused")
        run.wait_error("cannot watch public.nosuch")
        self.row(c, UPDATE, ids=(2,))
        code, lines, _ = run.end()
        self.assertEqual((code, json.loads(lines[0])["pg"]), (0, "public.todos"))
        code, _, _ = self.run_cli("sub", "--pg", "public.nosuch", "--pg", "public.todos", "-E").end()
        self.assertEqual(code, 5)

    def test_a_topic_goes_on_without_rows(self):
        self.daemon.binding = lambda binding: self.REFUSED
        run, c, _ = self.ready("room:1", "--pg", "public.nosuch", "-C", "1")
        run.wait_error("cannot watch public.nosuch")
        c.notify("broadcast", chan=1, topic="room:1", event="e", payload=1)
        self.assertEqual(run.end()[0], 0)

    def test_all_of_both_refused(self):
        def subscribe(connection, id, params):
            if params.get("topic"):
                raise Error(300, "rejected", "Unauthorized")
            return self.daemon.subscribe(connection, id, params)

        self.daemon.on["subscribe"] = subscribe
        self.daemon.binding = lambda binding: {"state": "error", "code": "too_many", "text": "full"}
        self.assertEqual(self.run_cli("sub", "a", "b", "--pg", "public.todos").end()[0], 5)

    def test_a_refusal_may_pass(self):
        self.daemon.binding = lambda binding: self.REFUSED if binding["table"] == "late" else {"state": "ready"}
        run, c, _ = self.ready("--pg", "public.late", "--pg", "public.todos", "-C", "1")
        self.assertEqual(run.json()["state"], "error")
        self.state(c, {"id": 1, "state": "ready"})
        self.assertEqual(run.json(), {"type": "binding", "pg": "public.late", "state": "ready"})
        self.row(c, UPDATE)
        self.assertEqual(json.loads(run.end()[1][0])["pg"], "public.late")

    def test_people_are_told_once(self):
        refused = {"id": 1, **self.REFUSED}
        other = {**refused, "code": "bad_filter", "text": "Error parsing"}
        self.daemon.binding = lambda binding: self.REFUSED if binding["table"] == "late" else {"state": "ready"}
        run, c, end = self.on_terminal("--pg", "public.late", "--pg", "public.todos", "-C", "1")
        run.wait_error("cannot watch public.late")
        self.state(c, {"id": 1, "state": "pending"})
        self.state(c, refused)  # tried again
        self.state(c, other)
        self.state(c, {"id": 1, "state": "pending"})
        self.state(c, other)
        self.state(c, {"id": 1, "state": "ready"})
        self.state(c, other)
        self.row(c, UPDATE, ids=(2,))
        errors = [line.split(" ", 1)[1] for line in end()[1].splitlines()]
        words = ["cannot watch public.late: Unable to subscribe to changes (binding_refused); is the table",
                 "cannot watch public.late: Error parsing (bad_filter); a filter is",
                 "-- binding public.late ready",
                 "cannot watch public.late: Error parsing (bad_filter); a filter is"]  # fmt: skip
        self.assertEqual([e[: len(w)] for e, w in zip(errors, words)], words)
        self.assertEqual(len(errors), len(words))

    def test_programs_are_told_each_time(self):
        self.daemon.binding = lambda binding: self.REFUSED if binding["table"] == "late" else {"state": "ready"}
        run, c, _ = self.ready("--pg", "public.late", "--pg", "public.todos", "-C", "1")
        self.assertEqual(run.json()["state"], "error")
        self.state(c, {"id": 1, "state": "pending"})
        self.state(c, {"id": 1, **self.REFUSED})
        self.assertEqual(run.json()["state"], "error")
        self.row(c, UPDATE, ids=(2,))
        code, _, errors = run.end()
        self.assertEqual((code, errors.count("cannot watch")), (0, 1))

    def test_a_restart_of_the_daemon_makes_no_refusal_new(self):
        self.daemon.binding = lambda binding: self.REFUSED if binding["table"] == "late" else {"state": "ready"}
        run, c, end = self.on_terminal("--pg", "public.late", "--pg", "public.todos", "-C", "1")
        run.wait_error("cannot watch public.late")
        self.daemon.stop()
        run.wait_error("-- state attaching")
        self.daemon.listen()
        self.request("subscribe")
        self.row(self.connection(), UPDATE, ids=(2,))
        self.assertEqual(end()[1].count("public.late"), 1)

    def test_verbose_tells_each_time(self):
        self.daemon.binding = lambda binding: self.REFUSED if binding["table"] == "late" else {"state": "ready"}
        run, c, end = self.on_terminal("--pg", "public.late", "--pg", "public.todos", "-v", "-C", "1")
        run.wait_error("cannot watch public.late")
        self.state(c, {"id": 1, "state": "pending"})
        self.state(c, {"id": 1, **self.REFUSED})
        self.row(c, UPDATE, ids=(2,))
        errors = end()[1]
        self.assertEqual(errors.count("cannot watch public.late"), 1)
        self.assertEqual(errors.count("-- binding public.late error: Unable to subscribe to changes"), 1)

    def test_trouble_that_stays_is_told_once(self):
        down = {"id": 1, "state": "pending", "code": "database_connections", "text": "no connection left"}
        run, c, end = self.on_terminal("--pg", "public.todos", "-C", "1")
        self.state(c, down)
        self.state(c, {"id": 1, "state": "pending"})
        self.state(c, down)
        self.row(c, UPDATE)
        self.assertEqual(end()[1].count("no connection left"), 1)

    def test_waiting_is_told(self):
        """After 5 s, once, and not of those whose trouble was told or that flow."""
        trouble = {"state": "pending", "code": "database_connections", "text": "no connection left"}
        self.daemon.binding = lambda binding: {
            "quiet": {"state": "pending"}, "also": {"state": "pending"}, "down": trouble, "bad": self.REFUSED,
        }.get(binding["table"], {"state": "ready"})  # fmt: skip
        tables = ("quiet", "down", "todos", "bad", "also")
        run, c, end = self.on_terminal(*(x for t in tables for x in ("--pg", f"public.{t}")), "-C", "1")
        words = "rtbridge: public.{} is pending: {}; see `rtbridge status`"
        run.wait_error(words.format("quiet", "the server has not said yet that its changes flow"))
        run.wait_error("public.also is pending")
        c.notify("connection", state="connecting", since=1)
        self.state(c, {"id": 1, "state": "ready"})
        self.state(c, {"id": 1, "state": "pending"})
        self.state(c, {"id": 3, "state": "pending"})
        run.wait_error(words.format("todos", "the daemon's connection to the server is connecting"))
        self.row(c, UPDATE)
        errors = end()[1]
        for table in ("quiet", "todos", "also"):
            self.assertEqual(errors.count(f"public.{table} is pending"), 1, errors)
        self.assertEqual(errors.count("is pending"), 3, errors)

    def test_an_interruption_is_told_with_its_gap(self):
        run, c, _ = self.ready("--pg", "public.todos", "-C", "1")
        self.state(c, {"id": 1, "state": "pending", "code": "database_replication", "text": "the server starts again"})
        self.assertEqual(
            run.json(),
            {"type": "binding", "pg": "public.todos", "state": "pending", "code": "database_replication",
             "text": "the server starts again"},
        )  # fmt: skip
        c.notify("gap", chan=1, topic="", ids=[1], **{"from": 1000, "to": 2000}, cause="connection")
        self.assertEqual(
            run.json(), {"type": "gap", "pg": "public.todos", "from": 1000, "to": 2000, "cause": "connection"}
        )
        self.state(c, {"id": 1, "state": "ready"})
        self.assertEqual(run.json(), {"type": "binding", "pg": "public.todos", "state": "ready"})
        self.row(c, UPDATE)
        self.assertEqual(run.end()[0], 0)

    def test_a_terminal_is_told_too(self):
        run, c, end = self.on_terminal("--pg", "public.todos", "-v", "-C", "1")
        run.wait_error("-- binding public.todos ready")
        self.state(c, {"id": 1, "state": "pending", "code": "connection", "text": "go\x1bne"})
        c.notify("gap", chan=1, topic="", ids=[1], **{"from": 1000, "to": 2000}, cause="connection")
        self.row(c, UPDATE)
        _, errors = end()
        self.assertRegex(errors, r"-- binding public\.todos pending: go\?ne\n")
        self.assertRegex(errors, r"-- gap public\.todos: changes may have been missed from \S+ to \S+ \(connection\)$")

    def test_daemon_goes_and_comes(self):
        run, c, _ = self.ready("--pg", "public.todos", "-C", "1")
        self.daemon.stop()
        notice = run.json()
        self.assertEqual((notice["type"], notice["state"]), ("state", "attaching"))
        self.daemon.listen()
        self.assertEqual(run.json(), {"type": "state", "state": "attached"})
        gap = run.json()
        self.assertLessEqual(gap.pop("from"), gap.pop("to"))
        self.assertEqual(gap, {"type": "gap", "pg": "public.todos", "cause": "detached"})
        self.request("subscribe")
        self.row(self.connection(), UPDATE)
        code, lines, _ = run.end()
        self.assertEqual((code, [json.loads(line)["type"] for line in lines]), (0, ["postgres_changes"]))

    def test_people_hear_what_was_missed_without_the_daemon(self):
        run, c, end = self.on_terminal("--pg", "public.todos", "--pg", "public.b", "-C", "1")
        self.daemon.stop()
        run.wait_error("-- state attaching")
        self.daemon.listen()
        self.request("subscribe")
        self.row(self.connection(), UPDATE)
        errors = end()[1]
        for table in ("todos", "b"):
            self.assertRegex(errors, rf"-- gap public\.{table}: changes may have been missed from \S+ to \S+ \(detached\)")
        self.assertEqual(errors.count("-- gap"), 2)

    def test_a_daemon_without_them(self):
        def hello(connection, id, params):
            connection.answer(id, {"protocol": 1, "server": {"name": "old", "version": "1"}, "session": 1,
                                   "limits": {"frame_bytes": 4194304}, "features": ["broadcast"],
                                   "connection": self.daemon.connection})  # fmt: skip

        self.daemon.on["hello"] = hello
        code, _, errors = self.run_cli("sub", "--pg", "public.todos").end()
        self.assertEqual(code, 6)
        self.assertIn("cannot watch public.todos: this daemon does not offer database changes", errors)


if __name__ == "__main__":
    unittest.main()
