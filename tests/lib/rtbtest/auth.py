# SPDX-License-Identifier: MIT
"""Stories of clients with tokens of their own and, where root runs them, of several users of the machine."""

import uuid

from . import tokens
from .changes import Changes, Watch
from .peer import Peer, RequestError
from .story import Story
from .users import ROOT, connect_as, directory

BAD_TOKEN, FORBIDDEN, DENIED, REJECTED, JOIN_BUDGET = 211, 301, 407, 300, 103
ALL_RIGHTS = "rwpt"
WORDS = {"r": "read", "w": "write", "p": "presence_read", "t": "presence_write"}


def sub_of(name):
    """Whose token it is: a UUID, as databases have it."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def policy(name, topic, rights=ALL_RIGHTS):
    """Rules of the devserver. name: whose token, or a role in front of which stands @; rights: letters of WORDS."""
    who = name[1:] if name.startswith("@") else f"sub={sub_of(name)}"
    return "".join(f"{WORDS[letter]} {who} {topic}\n" for letter in rights)


class Bearers(Story):
    """Everybody of the machine may attach; .rules decide what they may do (none of a rule: the daemon's user and root all)."""

    rules = ()
    uids = {}       # name: uid of who is another user; used by root only
    policies = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if cls.policies is not None:
            cls.server.set_policies(cls.policies)

    @classmethod
    def make_daemon(cls, sections=None, server=None, **kwargs):
        sections = {name: dict(keys) for name, keys in (sections or {}).items()}
        sections.setdefault("socket", {}).setdefault("mode", "0666")
        if cls.rules:
            sections.setdefault("access", {}).setdefault("rule", list(cls.rules))
        daemon = super().make_daemon(sections, server, dir=directory(), **kwargs)
        daemon.own_dir = True
        return daemon

    @classmethod
    def token(cls, name, **claims):
        """A good token of this name."""
        return tokens.make(sub_of(name), secret=cls.server.secret, **claims)

    def connection_of(self, name, daemon=None):
        """None: as this process."""
        uid = self.uids.get(name) if ROOT else None
        return None if uid is None else connect_as((daemon or self.daemon).socket, uid)

    def of(self, name, token=None, daemon=None, **kwargs):
        """A client of this user; with a token of this name if token is True, or with that one."""
        if token is True:
            token = self.token(name)
        return self.peer(daemon, name=name, token=token, sock=self.connection_of(name, daemon), **kwargs)

    def code(self, call, *args, **kwargs):
        """The code of the error that a request ends with, 0 without one."""
        try:
            call(*args, **kwargs)
        except RequestError as e:
            return e.code
        return 0


class BearerChanges(Bearers, Changes):
    """The same with a database."""

    def watch_of(self, name, table, token=None, daemon=None):
        if token is True:
            token = self.token(name)
        watch = Watch((daemon or self.daemon).socket, table, name=name, token=token, sock=self.connection_of(name, daemon))
        self.addCleanup(watch.close)
        return watch

    @staticmethod
    def marked_as(peer):
        """From now on came(peer) knows what has come."""
        peer.subscribe("marks", postgres_changes=[{"event": "INSERT", "schema": "public", "table": "marks"}])
        return peer


class Cut(Peer):
    """For who is refused at the door: reads what is said until the daemon closes."""

    def __init__(self, path, sock=None):
        super().__init__(path, hello=False, sock=sock)
        try:
            self.request("hello", {"protocol": 1, "client": {"name": "cut", "version": "1"}})
        except BrokenPipeError:
            pass  # it was faster; what it said can be read
        self.wait_closed()
        self.close()

    def error(self):
        """The code of what it was told."""
        [(method, params)] = self.notices
        assert method == "error" and not self.responses, (self.notices, self.responses)
        return params["error"][0]
