#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The throw-away PostgreSQL of the tests itself: it keeps its data over restarts, and nothing of it stays behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)
from rtbtest.postgres import Postgres, SqlError  # noqa: E402
from rtbtest.wait import DEADLINE, until  # noqa: E402

PROGRAM = os.path.join(LIB, "rtbtest", "postgres.py")
HOLDER = f"import sys; sys.path.insert(0, {LIB!r}); from rtbtest.postgres import Postgres; " \
         "pg = Postgres(); print(pg.conninfo, flush=True); print(pg.keeper.pid, flush=True); sys.stdin.read()"


def directory_of(conninfo):
    return dict(word.split("=") for word in conninfo.split())["host"]


def postmaster_of(directory):
    with open(os.path.join(directory, "data", "postmaster.pid"), encoding="utf-8") as f:
        return int(f.readline())


def gone(pid):
    """Ended; a zombie that nobody has reaped yet has ended, too."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Throwaway(unittest.TestCase):
    def test_a_life(self):
        with Postgres() as pg:
            directory = directory_of(pg.conninfo)
            self.assertEqual(pg.sql("show wal_level; show timezone; show listen_addresses; select current_user"), "logical\nUTC\n\npostgres")
            pg.sql("create table t (a int, b text); insert into t values (1, 'é;\n''x'), (2, null)")
            with self.assertRaises(SqlError) as error:
                pg.sql("insert into t values (3); select none; insert into t values (4)")
            self.assertIn('column "none" does not exist', str(error.exception))
            for again in pg.restart, lambda: (pg.kill(), pg.start()):
                again()
                self.assertEqual(pg.sql("select * from t order by a"), "1|é;\n'x\n2|\n3|")
            other = pg.create_database("other")
            self.assertIn("dbname=other", other)
            pg.sql("select pg_create_logical_replication_slot('slot', 'wal2json'); create table t (a int)", "other")
            pg.drop_database("other")
            self.assertEqual(pg.sql("select count(*) from pg_database where datname = 'other'"), "0")
        self.assertFalse(os.path.exists(directory))

    def hold(self):
        """A process that has a PostgreSQL: it, the pid of the keeper, the directory."""
        holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(holder.stdout.close)
        self.addCleanup(holder.stdin.close)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        directory = directory_of(holder.stdout.readline())
        return holder, int(holder.stdout.readline()), directory

    def test_a_killed_test(self):
        holder, keeper, directory = self.hold()
        postmaster = postmaster_of(directory)
        holder.kill()
        until(lambda: gone(keeper) and gone(postmaster) and not os.path.exists(directory), "all is gone")

    def test_a_killed_keeper(self):
        _, keeper, directory = self.hold()
        self.addCleanup(shutil.rmtree, directory)
        postmaster = postmaster_of(directory)
        os.kill(keeper, signal.SIGKILL)
        until(lambda: gone(postmaster), "the server has ended")

    def test_for_scripts(self):
        parent = tempfile.mkdtemp(prefix="rtbridge-pg-test-", dir="/tmp")
        self.addCleanup(shutil.rmtree, parent)
        os.chmod(parent, 0o755)
        directory = os.path.join(parent, "new")
        program = subprocess.Popen([sys.executable, PROGRAM, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(directory_of(program.stdout.readline()), directory)
        for line, answer in (("stop", "stop"), ("start", "start"), ("kill", "kill"), ("start", "start"), ("what", "unknown: what")):
            program.stdin.write(line + "\n")
            program.stdin.flush()
            self.assertEqual(program.stdout.readline().strip(), answer)
        postmaster = postmaster_of(directory)
        program.communicate(timeout=DEADLINE)
        self.assertEqual(program.returncode, 0)
        self.assertTrue(gone(postmaster))
        self.assertEqual(os.listdir(parent), [])


if __name__ == "__main__":
    unittest.main()
