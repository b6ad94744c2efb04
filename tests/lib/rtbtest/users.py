# SPDX-License-Identifier: MIT
"""Other users of the machine. Only root can act for them; they need no entry in /etc/passwd.

The kernel tells the daemon who *connects*. So a process of that user connects, hands its connection over and ends; the
daemon's client of that user is then a Peer like any other: Peer(path, sock=connect_as(path, 2001)).
"""

import os
import socket
import tempfile

ROOT = os.geteuid() == 0
WHY_ROOT = "only root can act for other users"


def _hand_over(path, uid, gid, groups, end):
    """In the new process."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except OSError as e:
            end.sendall(f"{e.errno} {e.strerror}".encode())
            return
        socket.send_fds(end, [b"0"], [sock.fileno()])


def connect_as(path, uid, gid=None, groups=()):
    """A connection to the Unix socket `path` that was made by a process of these. OSError as connect() has it."""
    here, there = socket.socketpair()
    with here, there:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _hand_over(path, uid, uid if gid is None else gid, list(groups), there)
                status = 0
            finally:
                os._exit(status)
        there.close()
        said, fds, _, _ = socket.recv_fds(here, 256, 1)
        status = os.waitpid(pid, 0)[1]
        if status != 0:
            raise AssertionError(f"uid {uid}: cannot connect to {path}: the process ended with {status}")
        if not fds:
            number, _, text = said.decode().partition(" ")
            raise OSError(int(number), text, path)
        return socket.socket(fileno=fds[0])


def directory():
    """A new directory that other users can reach; the caller removes it."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        path = os.path.realpath(parent)
        if all(os.stat(path[:i] or "/").st_mode & 0o001 for i, c in enumerate(path + "/") if c == "/"):
            made = tempfile.mkdtemp(prefix="rtbridge-test-", dir=path)
            os.chmod(made, 0o711)
            return made
    raise AssertionError("no temporary directory that other users can reach; set TMPDIR")
