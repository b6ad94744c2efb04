#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A throw-away PostgreSQL 15 that decodes logically: its data and its Unix socket are in a temporary directory.

As a program: `postgres.py [DIR]` starts one in DIR (or in a new directory), prints its conninfo on a line, and ends and
removes it when its standard input ends. Until then it takes lines: `stop`, `kill`, `start`; each is answered by a line.

Class Postgres runs that program as its child: whatever becomes of a test, its end of the pipe closes, and so nothing
stays behind. Should the program itself be killed, the kernel ends the server with it.

Standard library only; speaks to the server by psql.
"""

import os
import pwd
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile

try:
    from .wait import DEADLINE, Deadline, until
except ImportError:  # as a program
    from wait import DEADLINE, Deadline, until

BIN = "/usr/lib/postgresql/15/bin"
WAL2JSON = "/usr/lib/postgresql/15/lib/wal2json.so"

# Nothing here outlives the test, so nothing needs to survive a crash of the machine. But commits are synchronous: what is
# not written yet is not decoded yet. UTC, as the servers in the field.
SETTINGS = {
    "listen_addresses": "", "wal_level": "logical", "max_replication_slots": 20, "max_wal_senders": 20,
    "max_connections": 100, "shared_buffers": "32MB", "fsync": "off", "full_page_writes": "off", "autovacuum": "off",
    "timezone": "UTC", "log_timezone": "UTC", "jit": "off",
    "max_parallel_workers_per_gather": 0, "log_min_messages": "warning",
}


# Who may decode: a setting of those releases only that ask; others do not start with a setting that they do not know.
DECODERS = "output_plugin_libraries"


class SqlError(Exception):
    """What psql said."""


def clean_environment():
    """Nobody's PGHOST, PGOPTIONS or ~/.psqlrc is to change a test."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, "LC_ALL": "C.UTF-8"}


# ---- the program -----------------------------------------------------------------------------------------------------

def server_user():
    """Whom the server runs as: PostgreSQL refuses to be root. None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit("postgres.py: PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def new_directory():
    """A directory that the server's user can reach, with room for the name of a Unix socket (107 bytes)."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = os.path.realpath(parent)
        open_to_all = all(os.stat(path[:i] or "/").st_mode & 0o001 for i, c in enumerate(path + "/") if c == "/")
        if len(os.fsencode(path)) <= 60 and (open_to_all or os.geteuid() != 0):
            return tempfile.mkdtemp(prefix="rtbridge-pg-", dir=path)
    raise SystemExit("postgres.py: no temporary directory that is short and that other users can reach; set TMPDIR")


class Server:
    """The server's process and its directory."""

    def __init__(self, directory):
        for path, package in ((f"{BIN}/postgres", "postgresql-15"), (WAL2JSON, "postgresql-15-wal2json"),
                              (shutil.which("psql"), "postgresql-client-15")):
            if path is None or not os.path.exists(path):
                raise SystemExit(f"postgres.py: PostgreSQL 15 is not whole here; install the Debian package {package}")
        self.user = server_user()
        self.process = None
        self.made = directory is None or not os.path.exists(directory)
        if directory is not None:
            os.makedirs(directory, exist_ok=True)
        self.directory = os.path.abspath(directory) if directory is not None else new_directory()
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "log")

    def as_user(self, args):
        """The kernel ends what it starts when this program dies: SIGQUIT is PostgreSQL's immediate shutdown."""
        who = ["--reuid", str(self.user.pw_uid), "--regid", str(self.user.pw_gid), "--clear-groups"] if self.user else []
        return ["setpriv", *who, "--pdeathsig", "QUIT", "--", *args]

    def settings(self):
        known = subprocess.run([f"{BIN}/postgres", "--describe-config"], cwd="/", env=clean_environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout
        decoders = {DECODERS: "pgoutput, test_decoding, wal2json"} if f"\n{DECODERS}\t" in known else {}
        return {**SETTINGS, **decoders, "unix_socket_directories": self.directory}

    def create(self):
        os.makedirs(self.data, mode=0o700)
        if self.user:
            for path in (self.directory, self.data):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        made = subprocess.run(self.as_user([f"{BIN}/initdb", "-N", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                                            "--locale=C.UTF-8"]), cwd="/", env=clean_environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if made.returncode != 0:
            raise SystemExit(f"postgres.py: initdb failed:\n{made.stdout}")
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as conf:
            for name, value in self.settings().items():
                conf.write(f"{name} = '{value}'\n")

    def start(self):
        if self.process is not None:
            return
        with open(self.log, "ab") as log:
            # A session of its own: what ends the test's group of processes is not to be faster than the cleaning up.
            self.process = subprocess.Popen(self.as_user([f"{BIN}/postgres", "-D", self.data]), cwd="/", stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=clean_environment(), start_new_session=True)
        until(self.ready, "PostgreSQL is ready", pause=0.01)

    def ready(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                raise SystemExit(f"postgres.py: PostgreSQL ended with status {self.process.returncode}:\n{log.read()}")
        try:
            with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as f:
                lines = f.read().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and int(lines[0]) == self.process.pid and lines[7].strip() == "ready"

    def stop(self, number=signal.SIGINT):
        """SIGINT: clients are cut off, the rest is orderly. SIGQUIT: as in a crash."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def remove(self):
        self.stop(signal.SIGQUIT)
        if self.made:
            shutil.rmtree(self.directory, ignore_errors=True)
            return
        shutil.rmtree(self.data, ignore_errors=True)
        for name in os.listdir(self.directory):
            if name == "log" or name.startswith(".s.PGSQL."):
                os.unlink(os.path.join(self.directory, name))

    @property
    def conninfo(self):
        return f"host={self.directory} port=5432 user=postgres dbname=postgres"


def main(args):
    def ended(number, frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, ended)
    server = Server(args[0] if args else None)
    try:
        server.create()
        server.start()
        print(server.conninfo, flush=True)
        for line in sys.stdin:
            word = line.strip()
            if word == "start":
                server.start()
            elif word == "stop":
                server.stop()
            elif word == "kill":
                server.stop(signal.SIGQUIT)
            print(word if word in ("start", "stop", "kill") else f"unknown: {word}", flush=True)
    except BrokenPipeError:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        server.remove()


# ---- for tests -------------------------------------------------------------------------------------------------------

class Psql:
    """A psql that stays, for one database."""

    def __init__(self, conninfo):
        self.mark = "done " + secrets.token_hex(8)
        self.said = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-qAt", conninfo], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.said, env={**clean_environment(), "PGOPTIONS": "-c client_min_messages=warning"})

    def run(self, text):
        end = Deadline()
        try:
            self.process.stdin.write(f"{text}\n;\n\\echo {self.mark}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it says why below
        mark, out = self.mark.encode() + b"\n", b""
        while not out.endswith(mark):
            if not select.select([self.process.stdout], [], [], end.left(f"an answer to {text}"))[0]:
                continue
            piece = os.read(self.process.stdout.fileno(), 262144)
            if not piece:
                self.process.wait()
                self.said.seek(0)
                raise SqlError(self.said.read().decode().strip() or f"psql ended with status {self.process.returncode}")
            out += piece
        return out[:-len(mark)].decode().rstrip("\n")

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.said.close()


class Postgres:
    """`with Postgres() as pg: pg.sql("select 1")`; pg.conninfo is for libpq. A superuser without a password."""

    def __init__(self):
        # A session of its own, so that what ends the test's group of processes does not end the cleaning up.
        self.keeper = subprocess.Popen([sys.executable, os.path.abspath(__file__)], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.conninfo = self.keeper.stdout.readline().strip()
        self.psqls = {}
        if not self.conninfo:
            raise AssertionError(self.keeper.communicate()[1].strip() or "PostgreSQL did not start")

    def conninfo_of(self, dbname):
        return self.conninfo.replace("dbname=postgres", f"dbname={dbname}")

    def sql(self, text, dbname="postgres"):
        """Runs statements, each in a transaction of its own unless it is between begin and commit; returns the rows
        (lines, columns separated by |). SqlError when one fails: those after it are not run."""
        if dbname not in self.psqls:
            self.psqls[dbname] = Psql(self.conninfo_of(dbname))
        try:
            return self.psqls[dbname].run(text)
        except BaseException:
            self.forget(dbname)
            raise

    def forget(self, dbname):
        """Ends the session with a database (its temporary tables and settings go), as a drop of it wants."""
        if dbname in self.psqls:
            self.psqls.pop(dbname).close()

    def create_database(self, name):
        """A new, empty database; returns its conninfo."""
        self.sql(f'create database "{name}"')
        return self.conninfo_of(name)

    def drop_database(self, name):
        """Whoever still uses it is cut off, and its replication slots go."""
        self.forget(name)
        self.sql(f"alter database \"{name}\" allow_connections false;"
                 f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
        until(lambda: self.sql(f"select count(*) from pg_replication_slots where database = '{name}' and active") == "0",
              f"no slot of {name} is in use")
        self.sql(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{name}'")
        self.sql(f'drop database "{name}" with (force)')

    def _order(self, word):
        for dbname in list(self.psqls):
            self.forget(dbname)
        self.keeper.stdin.write(word + "\n")
        self.keeper.stdin.flush()
        if self.keeper.stdout.readline().strip() != word:
            raise AssertionError(f"PostgreSQL: {word} failed: {self.keeper.communicate()[1].strip()}")

    def stop(self):
        """An orderly end; the data stay, and start() goes on with them."""
        self._order("stop")

    def kill(self):
        """An end as in a crash; the data stay."""
        self._order("kill")

    def start(self):
        self._order("start")

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        """Ends the server and removes all of it."""
        for dbname in list(self.psqls):
            self.forget(dbname)
        self.keeper.communicate(timeout=DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()


if __name__ == "__main__":
    main(sys.argv[1:])
