# SPDX-License-Identifier: MIT
"""The devserver's token endpoint as tests use it: sessions, refreshes, what became of them, and answers that go wrong.

    session = server.session(role="authenticated", sub="ann", life_s=3600)
    session.refresh_token, session.access_token, session.id, session.sub   # as after a login
    session.active()              # the refresh token that would work now; None: the session has ended
    session.ban(), session.unban(), session.expire(), session.end(), session.orphan(), session.revoke(), ...

    status, headers, answer = server.refresh(session.refresh_token)        # as a client would; answer: parsed JSON
    for asked in server.token_log(): ...                                   # what came, the oldest first
    server.wait_tokens(2)                                                  # until two refreshes have come

    server.token_fault("drop")                              # rotated, but the answer is cut before its first byte
    server.token_fault("half")                              # rotated, and cut in the middle of the answer
    server.token_fault("slow", ms=20, bytes=1)              # piece by piece
    server.token_fault("chunked", bytes=7)                  # a good answer in chunks of 7 bytes
    server.token_fault("hang", work=False)                  # never answered, nothing done
    server.token_fault("answer", status=503, retry_after=2, count=3)
    server.token_fault("answer", status=200, type="text/html", body="<html>hello</html>")
    server.token_fault("answer", status=200, body="x" * 2000000)
    server.token_fault("endless", bytes=65536)              # a good head and a body that never ends
    server.token_lie("expires_in negative")                 # a good answer but for this; see LIES
    server.token_lie(set={"expires_in": 7}, without=["user"], count=2)

token_fault() takes what http_fault() of web.py takes and is about this endpoint alone; such requests stand in
server.requests(path="/auth/v1/"), too, also those that were not carried out. token_log() has only those that were looked at.

Access tokens are signed with the server's secret and good for joins. A refresh token works once; the one before the current
one is answered with the current one; a used one after the reuse interval (option reuse_interval_ms [10000]; 0: at once)
ends the session. Options of the server: token_life [3600 s], reuse_interval_ms, max_refreshes (then 429).

Sessions are those of one process: after a restart there are none. As on the real thing the auth server can be another one than
that of the sockets, which may then come and go:

    auth = DevServer(bin); server = DevServer(bin, secret=auth.secret)     # and auth.auth_url for the daemon
"""

import json

from . import tokens
from .wait import DEADLINE, until

PATH = "/auth/v1/token"
PATTERN = "*" + PATH


def _expired(server):
    return {"access_token": tokens.make("ann", exp_in=-60, secret=server.secret)}


# What token_lie() can say by name: function of the server -> {"set", "without", "keep"}.
LIES = {
    "no expires_in": lambda server: {"without": ["expires_in"]},
    "no expires": lambda server: {"without": ["expires_in", "expires_at"]},
    "expires_in 0": lambda server: {"set": {"expires_in": 0}},
    "expires_in 10 years": lambda server: {"set": {"expires_in": 315360000}},
    "expires_in negative": lambda server: {"set": {"expires_in": -5}},
    "expires_in string": lambda server: {"set": {"expires_in": "3600"}},
    "expires_in huge": lambda server: {"set": {"expires_in": 10 ** 30}},
    "access_token no JWT": lambda server: {"set": {"access_token": "this is no JWT"}},
    "access_token empty": lambda server: {"set": {"access_token": ""}},
    "access_token expired": lambda server: {"set": _expired(server)},
    "access_token number": lambda server: {"set": {"access_token": 5}},
    "access_token of 100 KB": lambda server: {"set": {"access_token": tokens.oversized(server.secret, 100000)}},
    "no access_token": lambda server: {"without": ["access_token"]},
    "no refresh_token": lambda server: {"without": ["refresh_token"]},
    "refresh_token null": lambda server: {"set": {"refresh_token": None}},
    "refresh_token empty": lambda server: {"set": {"refresh_token": ""}},
    "refresh_token number": lambda server: {"set": {"refresh_token": 12}},
    "refresh_token with newline": lambda server: {"set": {"refresh_token": "abc\ndef\u0000ghi"}},
    "refresh_token of 100 KB": lambda server: {"set": {"refresh_token": "r" * 100000}},
    "same refresh_token": lambda server: {"keep": True},
    "token_type null": lambda server: {"set": {"token_type": None}},
    "user of 100 KB": lambda server: {"set": {"user": {"id": "u", "user_metadata": {"bio": "x" * 100000}}}},
    "user of no object": lambda server: {"set": {"user": [1, "two"]}},
    "no user": lambda server: {"without": ["user"]},
    "unknown members": lambda server: {"set": {"provider_token": "p", "weak_password": None, "новое": [{}]}},
}


class Asked:
    """One refresh, as the devserver saw it.

    n: counted from 1; at_ms: wall clock; presented: the refresh token (None: none was understood); status and error_code of
    the answer (error_code "gateway": the apikey was missing or bad; such are not listed); session, sub: whose token it was;
    issued: the new refresh token, or None; reuse: of a token that had been used before "parent" (its successor, still
    unused, was told again), "interval" (soon enough for another one) or "abuse" (the session ended over it), otherwise
    None; revoked: how many sessions ended over it.
    """

    def __init__(self, entry):
        self.__dict__.update(entry)

    def __repr__(self):
        return f"<{self.n}: {self.presented} -> {self.status} {self.error_code or self.issued} reuse={self.reuse}>"


class Session:
    """One session of the devserver's token endpoint. refresh_token and access_token are those of its beginning."""

    def __init__(self, server, answer):
        self.server, self.answer = server, answer
        self.id, self.sub = answer["session_id"], answer["user"]["id"]
        self.refresh_token, self.access_token = answer["refresh_token"], answer["access_token"]
        self.life_s = answer["expires_in"]

    def _do(self, how, **members):
        self.server.fault(op="session", how=how, **(members or {"id": self.id}))

    def ban(self):
        """Its user is banned, in all sessions: 400 user_banned."""
        self._do("ban", sub=self.sub)

    def unban(self):
        self._do("unban", sub=self.sub)

    def expire(self):
        """The session's time is over: 400 session_expired."""
        self._do("expire")

    def idle(self):
        """It was not used for too long: 400 session_expired."""
        self._do("idle")

    def newer(self):
        """Its user has logged in elsewhere, where only one session is allowed: 400 session_expired."""
        self._do("newer")

    def end(self):
        """The user has logged out: 400 refresh_token_not_found."""
        self._do("end")

    def orphan(self):
        """The session is gone, its tokens are not: 400 session_not_found, then refresh_token_not_found."""
        self._do("orphan")

    def revoke(self):
        """All its tokens are revoked since long ago: 400 refresh_token_already_used."""
        self._do("revoke")

    def active(self):
        """The newest refresh token that was not used yet; None if there is none."""
        found = [s for s in self.server.sessions() if s["id"] == self.id]
        return found[0]["active"][-1] if found and found[0]["active"] else None


class GoTrue:
    """A part of DevServer."""

    @property
    def auth_url(self):
        """Where the auth server is, without a slash at the end: http://127.0.0.1:PORT/auth/v1."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/auth/v1"

    def session(self, role="authenticated", sub=None, life_s=None, email=None, not_after_ms=None):
        """A new session, as after a login. sub: the user's id [a new UUID]; life_s: of its access tokens [option token_life];
        not_after_ms: it ends so much later."""
        members = {"role": role, "sub": sub, "life_s": life_s, "email": email, "not_after_ms": not_after_ms}
        status, _, text = self.request("POST", "/_devserver/session",
                                       json.dumps({k: v for k, v in members.items() if v is not None}))
        if status != 200:
            raise AssertionError(f"session {members}: {status} {text}")
        return Session(self, json.loads(text))

    def sessions(self):
        """All of them: id, sub, role, life_s, banned, ended, active (its refresh tokens that were not used yet)."""
        return json.loads(self.request("GET", "/_devserver/sessions")[2])["sessions"]

    def refresh(self, refresh_token, headers=None, body=None, query="?grant_type=refresh_token", base=""):
        """POST BASE/auth/v1/token as a client does it: (status, headers, answer), the answer parsed where it is JSON.

        headers: further ones, which count more than apikey and content-type; a value of None leaves one out. body: bytes
        instead of {"refresh_token": refresh_token}.
        """
        all_headers = {"apikey": self.token(), "content-type": "application/json;charset=UTF-8", **(headers or {})}
        if body is None:
            body = json.dumps({"refresh_token": refresh_token}).encode()
        status, got, text = self.request("POST", base + PATH + query, body, {k: v for k, v in all_headers.items() if v is not None})
        return status, got, json.loads(text) if got.get("content-type", "").startswith("application/json") else text

    def token_log(self, session=None):
        """The refreshes that were looked at (of a Session), the oldest first, as Asked."""
        whole = json.loads(self.request("GET", "/_devserver/tokens")[2])
        if whole["ever"] > len(whole["entries"]):
            raise AssertionError(f"of {whole['ever']} refreshes only the last are known")
        return [Asked(e) for e in whole["entries"] if session is None or e["session"] == session.id]

    def wait_tokens(self, n, session=None, seconds=DEADLINE):
        """Polls until so many (or more) refreshes have been looked at; returns them."""

        def look():
            found = self.token_log(session)
            return found if len(found) >= n else None

        return until(look, f"{n} refreshes", seconds)

    def token_fault(self, how, **members):
        """What becomes of the next requests to the token endpoint: http_fault() for its path alone."""
        self.http_fault(how, path=PATTERN, **members)

    def token_lie(self, name=None, set=None, without=None, keep=False, count=1):
        """The next good answers are good but for this. name: one of LIES; or set: {member: value}, without: [member], keep:
        nothing is rotated, and the presented token is given out again."""
        lie = LIES[name](self) if name is not None else {"set": set or {}, "without": without or [], "keep": keep}
        self.fault(op="token_answer", count=count, **lie)
