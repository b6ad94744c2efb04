#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The devserver's token endpoint: what it asks for, what it gives out, and what tests can make of that.

usage: behaviour_token.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import json
import os
import random
import re
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import DevServer, WsClient  # noqa: E402
from rtbtest.gotrue import LIES  # noqa: E402
from rtbtest.tokens import claims_of  # noqa: E402
from rtbtest.wait import DEADLINE  # noqa: E402

BIN = None
T = "realtime:room"
NOT_FOUND = "Invalid Refresh Token: Refresh Token Not Found"
USED = "Invalid Refresh Token: Already Used"
NEW_API = {"X-Supabase-Api-Version": "2024-01-01"}


class WithServer(unittest.TestCase):
    options = {}

    def setUp(self):
        self.server = DevServer(BIN, **self.options)
        self.addCleanup(self.server.stop)

    def good(self, refresh_token):
        status, _, answer = self.server.refresh(refresh_token)
        self.assertEqual(status, 200, answer)
        return answer

    def refused(self, refresh_token, code, message=None, **kwargs):
        status, headers, answer = self.server.refresh(refresh_token, **kwargs)
        self.assertEqual((status, answer.get("code"), answer.get("error_code")), (400, 400, code))
        self.assertEqual(headers["x-sb-error-code"], code)
        self.assertEqual(set(answer), {"code", "error_code", "msg"})
        if message is not None:
            self.assertEqual(answer["msg"], message)
        return answer["msg"]


class Endpoint(WithServer):
    def test_the_answer(self):
        session = self.server.session(sub="7c9e6679-7425-40de-944b-e07fc1f90ae7", life_s=90, email="ann@example.com")
        before = int(time.time())
        status, headers, answer = self.server.refresh(session.refresh_token, base="/any/where")
        self.assertEqual(status, 200)
        self.assertEqual(headers["content-type"], "application/json")
        self.assertEqual((headers["sb-auth-user-id"], headers["sb-auth-session-id"]), (session.sub, session.id))
        self.assertEqual(set(answer), {"access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"})
        self.assertEqual((answer["token_type"], answer["expires_in"]), ("bearer", 90))
        self.assertRegex(answer["refresh_token"], r"^[a-z0-9]{12}$")
        self.assertNotEqual(answer["refresh_token"], session.refresh_token)
        self.assertNotEqual(answer["access_token"], session.access_token)
        claims = claims_of(answer["access_token"])
        self.assertEqual((claims["sub"], claims["role"], claims["session_id"]), (session.sub, "authenticated", session.id))
        self.assertEqual((claims["exp"], claims["exp"] - claims["iat"]), (answer["expires_at"], 90))
        self.assertTrue(before <= claims["iat"] <= time.time())
        self.assertTrue({"iss", "aud", "email", "phone", "app_metadata", "user_metadata", "aal", "amr", "is_anonymous"} < set(claims))
        self.assertEqual((answer["user"]["id"], answer["user"]["role"], answer["user"]["email"]),
                         (session.sub, "authenticated", "ann@example.com"))
        self.assertEqual(answer["user"]["identities"][0]["user_id"], session.sub)

    def test_the_access_token_joins(self):
        session = self.server.session(sub="ann", role="authenticated")
        self.server.set_policies("read sub=ann room")
        for token in (session.access_token, self.good(session.refresh_token)["access_token"]):
            ws = WsClient(self.server.url, self.server.token())
            self.addCleanup(ws.abort)
            self.assertEqual(ws.join(T, {"private": True}, token)["status"], "ok")
        self.assertEqual([(j["sub"], j["role"]) for j in self.server.joins(T)], [("ann", "authenticated")] * 2)
        [other] = [self.server.session(role="anon", sub="ben")]
        self.assertEqual(claims_of(other.access_token)["role"], "anon")

    def test_the_key(self):
        token = self.server.session().refresh_token
        hint = "Double check your Supabase `anon` or `service_role` API key."
        for headers, want in (({"apikey": None}, {"message": "No API key found in request",
                                                  "hint": "No `apikey` request header or url param was found."}),
                              ({"apikey": "garbage"}, {"message": "Invalid API key", "hint": hint}),
                              ({"apikey": ""}, {"message": "Invalid API key", "hint": hint}),
                              ({"apikey": None, "authorization": f"Bearer {self.server.token()}"}, None)):
            status, _, answer = self.server.refresh(token, headers=headers)
            self.assertEqual(status, 401)
            if want:
                self.assertEqual(answer, want)
        self.assertEqual(self.server.token_log(), [])
        self.assertEqual(self.server.refresh(token, headers={"apikey": None}, query=f"?grant_type=refresh_token&apikey={self.server.token()}")[0], 200)
        self.assertEqual(self.server.refresh("zzzzzzzzzzzz", headers={"apikey": "sb_publishable_x"})[0], 400)

    def test_what_is_no_refresh(self):
        token = self.server.session().refresh_token
        for query in ("", "?grant_type=", "?grant_type=authorization_code", "?grant=refresh_token"):
            self.refused(token, "invalid_credentials", "unsupported_grant_type", query=query)
        key = {"apikey": self.server.token()}
        self.assertEqual(self.server.request("GET", "/auth/v1/token?grant_type=refresh_token", headers=key)[0], 405)
        status, headers, text = self.server.request("POST", "/auth/v1/tokens", b"{}", key)
        self.assertEqual((status, text), (404, "404 page not found\n"))
        self.assertEqual(self.server.sessions()[0]["active"], [token])

    def test_bodies(self):
        head = "Could not parse request body as JSON: "
        into = "json: cannot unmarshal {} into Go value of type api.RefreshTokenGrantParams"
        field = "json: cannot unmarshal {} into Go struct field RefreshTokenGrantParams.refresh_token of type string"
        for body, why in ((b"", "unexpected end of JSON input"), (b'{"refresh_token":', "unexpected end of JSON input"),
                          (b"refresh", "invalid character 'r' looking for beginning of value"),
                          (b"[]", into.format("array")), (b'"x"', into.format("string")), (b"7", into.format("number")),
                          (b'{"refresh_token":7}', field.format("number")), (b'{"refresh_token":["x"]}', field.format("array")),
                          (b'{"refresh_token":true}', field.format("bool"))):
            self.assertEqual(self.refused(None, "bad_json", body=body), head + why, body)
        for token in ("", "short", "elevenchars", "UPPERCASE123", "not/a/token!", "longerthantwelve", "ü" * 12):
            self.refused(token, "validation_failed", "Refresh token is not valid")
        for body in (b"null", b"{}", b'{"refresh_token":null}'):
            self.refused(None, "validation_failed", "Refresh token is not valid", body=body)
        self.assertEqual(self.server.token_log()[-1].presented, "")

    def test_content_types(self):
        session = self.server.session()
        for kind in (None, "text/plain", "application/json"):
            status, _, answer = self.server.refresh(session.active(), headers={"content-type": kind})
            self.assertEqual(status, 200, kind)
        # A form is read for its grant_type, and is gone then.
        form = {"content-type": "application/x-www-form-urlencoded"}
        self.refused(session.active(), "bad_json", headers=form)
        self.refused(session.active(), "bad_json", headers=form, query="", body=b"grant_type=refresh_token&refresh_token=x")
        self.refused(session.active(), "invalid_credentials", headers=form, body=b"grant_type=nope")

    def test_errors_of_the_newer_api(self):
        status, headers, answer = self.server.refresh("zzzzzzzzzzzz", headers=NEW_API)
        self.assertEqual((status, answer), (400, {"code": "refresh_token_not_found", "message": NOT_FOUND}))
        self.assertEqual(headers["x-supabase-api-version"], "2024-01-01")
        for old in ("2023-12-31", "new", ""):
            self.refused("zzzzzzzzzzzz", "refresh_token_not_found", NOT_FOUND, headers={"X-Supabase-Api-Version": old})


class Rotation(WithServer):
    options = {"reuse_interval_ms": 0}

    def test_one_after_the_other(self):
        session = self.server.session()
        presented, all_tokens = session.refresh_token, [session.refresh_token]
        for _ in range(5):
            presented = self.good(presented)["refresh_token"]
            all_tokens.append(presented)
        self.assertEqual(len(set(all_tokens)), 6)
        self.assertEqual([(a.presented, a.issued) for a in self.server.token_log(session)], list(zip(all_tokens, all_tokens[1:])))
        self.assertEqual(session.active(), presented)

    def test_a_lost_answer_is_told_again(self):
        session = self.server.session()
        for how in ("drop", "half"):
            self.server.token_fault(how)
            before = session.active()
            with self.assertRaises(Exception):
                self.server.refresh(before)
            rotated = session.active()
            self.assertNotEqual(rotated, before)
            for _ in range(3):
                self.assertEqual(self.good(before)["refresh_token"], rotated)
            self.assertEqual([a.reuse for a in self.server.token_log(session)][-4:], [None, "parent", "parent", "parent"])
            self.assertEqual(self.good(rotated)["refresh_token"], session.active())

    def test_two_behind_is_abuse(self):
        session = self.server.session()
        second = self.good(session.refresh_token)["refresh_token"]
        third = self.good(second)["refresh_token"]
        self.refused(session.refresh_token, "refresh_token_already_used", USED)
        for token in (third, second, session.refresh_token):
            self.refused(token, "refresh_token_already_used", USED)
        last = self.server.token_log(session)
        self.assertEqual([(a.reuse, a.revoked) for a in last[2:]], [("abuse", 1)] * 4)
        self.assertIsNone(session.active())

    def test_sessions_are_apart(self):
        one, two = self.server.session(sub="u"), self.server.session(sub="u")
        one.revoke()
        self.refused(one.refresh_token, "refresh_token_already_used", USED)
        self.good(two.refresh_token)

    def test_ends(self):
        for end, code, text in (("expire", "session_expired", "Session Expired"),
                                ("idle", "session_expired", "Session Expired (Inactivity)"),
                                ("newer", "session_expired", "Session Expired (Revoked by Newer Login)"),
                                ("end", "refresh_token_not_found", "Refresh Token Not Found"),
                                ("revoke", "refresh_token_already_used", "Already Used")):
            session = self.server.session()
            getattr(session, end)()
            for _ in range(2):
                self.refused(session.refresh_token, code, "Invalid Refresh Token: " + text)
        session = self.server.session()
        session.orphan()
        self.refused(session.refresh_token, "session_not_found", "Invalid Refresh Token: No Valid Session Found")
        self.refused(session.refresh_token, "refresh_token_not_found", NOT_FOUND)

    def test_bans(self):
        one, two, other = self.server.session(sub="u"), self.server.session(sub="u"), self.server.session(sub="v")
        one.ban()
        for session in (one, two, self.server.session(sub="u")):
            self.refused(session.refresh_token, "user_banned", "Invalid Refresh Token: User Banned")
        self.good(other.refresh_token)
        one.unban()
        self.good(two.refresh_token)

    def test_orders_that_are_wrong(self):
        for order in ({"op": "session", "how": "expire"}, {"op": "session", "how": "kill"}, {"op": "token_answer", "set": 1},
                      {"op": "token_answer", "without": {}}, {"op": "token_answer", "sets": {}}):
            with self.assertRaises(AssertionError):
                self.server.fault(order)
        self.server.session()
        with self.assertRaises(AssertionError):
            self.server.fault(op="session", how="kill")
        for members in ({"life": 5}, {"life_s": 0}):
            status, _, _ = self.server.request("POST", "/_devserver/session", json.dumps(members))
            self.assertEqual(status, 400)


class Model:
    """What a session makes of its tokens, told again."""

    def __init__(self, first, always_soon):
        self.rows, self.always_soon = [[first, None, False]], always_soon  # token, parent, revoked

    def refresh(self, token, issued):
        """What has to come of it: the new token (issued: the server's word for one that is new), or None."""
        row = next(r for r in self.rows if r[0] == token)
        active = next((r for r in reversed(self.rows) if not r[2]), None)
        if row[2] and active and active[1] == token:
            return active[0]
        if row[2] and not self.always_soon:
            for r in self.rows:
                r[2] = True
            return None
        row[2] = True
        self.rows.append([issued, token, False])
        return issued


class AtRandom(unittest.TestCase):
    def test_any_token_at_any_time(self):
        seed = random.SystemRandom().randrange(10 ** 9)
        for interval in (0, 10 ** 9):
            with self.subTest(seed=seed, interval=interval), DevServer(BIN, reuse_interval_ms=interval) as server:
                rng = random.Random(seed)
                for _ in range(20):
                    session = server.session()
                    model, known = Model(session.refresh_token, interval > 0), [session.refresh_token]
                    for _ in range(rng.randint(1, 12)):
                        token = known[-1 - min(int(rng.expovariate(1)), len(known) - 1)]
                        status, _, answer = server.refresh(token)
                        issued = answer.get("refresh_token")
                        fresh = issued if issued not in known else None
                        self.assertEqual(issued, model.refresh(token, fresh))
                        self.assertEqual(status, 200 if issued else 400)
                        known += [issued] if fresh else []
                    active = [r[0] for r in model.rows if not r[2]]
                    self.assertEqual(next(s["active"] for s in server.sessions() if s["id"] == session.id), active)


class Rate(WithServer):
    options = {"max_refreshes": 2}

    def test_too_many(self):
        session = self.server.session()
        for _ in range(2):
            self.good(session.active())
        status, _, answer = self.server.refresh(session.active())
        self.assertEqual((status, answer), (429, {"code": 429, "error_code": "over_request_rate_limit", "msg": "Request rate limit reached"}))
        self.assertEqual(len(self.server.token_log()), 3)


class Faults(WithServer):
    def raw(self, token):
        """The connection on which a refresh was asked for."""
        sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        self.addCleanup(sock.close)
        body = json.dumps({"refresh_token": token})
        sock.sendall(f"POST /auth/v1/token?grant_type=refresh_token HTTP/1.1\r\nhost: h\r\napikey: {self.server.token()}\r\n"
                     f"content-length: {len(body)}\r\n\r\n{body}".encode())
        return sock

    def test_answers(self):
        session = self.server.session()
        for status in (500, 502, 503, 504, 429):
            self.server.token_fault("answer", status=status, retry_after=7, body="<html>no</html>", type="text/html")
            got = self.server.refresh(session.refresh_token)
            self.assertEqual((got[0], got[1]["retry-after"], got[1]["content-type"], got[2]), (status, "7", "text/html", "<html>no</html>"))
        self.server.token_fault("answer", status=200, body="x" * 2000000)
        self.assertEqual(len(self.server.refresh(session.refresh_token)[2]), 2000000)
        self.server.token_fault("garbage")
        with self.assertRaises(Exception):
            self.server.refresh(session.refresh_token)
        self.assertEqual((self.server.token_log(), session.active()), ([], session.refresh_token))
        self.assertEqual(len(self.server.requests(path="/auth/v1/")), 7)
        self.server.token_fault("slow", bytes=100, ms=1)
        self.good(session.refresh_token)
        for members in ({}, {"bytes": 7}, {"bytes": 100000}, {"bytes": 50, "ms": 1}):
            self.server.token_fault("chunked", **members)
            status, headers, answer = self.server.refresh(session.active())
            self.assertEqual((status, headers["transfer-encoding"], answer["token_type"]), (200, "chunked", "bearer"))
            self.assertNotIn("content-length", headers)

    def test_other_requests_are_spared(self):
        self.server.token_fault("answer", status=500)
        self.assertEqual(self.server.post("/broadcast", {"messages": [{"topic": "t", "event": "e", "payload": {}}]})[0], 202)
        self.assertEqual(self.server.refresh("zzzzzzzzzzzz")[0], 500)

    def test_hang(self):
        session = self.server.session()
        self.server.token_fault("hang", work=False)
        sock = self.raw(session.refresh_token)
        self.server.wait_requests(1)
        self.good(session.refresh_token)  # a marker: the server goes on, and this one has said nothing
        sock.setblocking(False)
        with self.assertRaises(BlockingIOError):
            sock.recv(1)
        self.assertEqual(len(self.server.token_log()), 1)

    def test_endless(self):
        session = self.server.session()
        self.server.token_fault("endless", bytes=65536)
        sock = self.raw(session.refresh_token)
        data = b""
        while len(data) < 3000000:
            piece = sock.recv(65536)
            self.assertTrue(piece)
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "))
        self.assertNotIn(b"content-length", head.lower())
        self.assertTrue(re.fullmatch(rb'\{"access_token":"x+', body))
        self.assertEqual(session.active(), session.refresh_token)
        sock.close()
        self.good(session.refresh_token)

    def test_lies(self):
        truth = set(self.good(self.server.session().refresh_token))
        for name, lie in LIES.items():
            session, lie = self.server.session(), lie(self.server)
            self.server.token_lie(name)
            answer = self.good(session.refresh_token)
            self.assertEqual(set(answer), (truth | set(lie.get("set", {}))) - set(lie.get("without", [])), name)
            for key, value in lie.get("set", {}).items():
                if key != "access_token":
                    self.assertEqual(answer[key], value, name)
            self.assertEqual(session.active() == session.refresh_token, bool(lie.get("keep")), name)
            again = self.good(session.active())
            self.assertEqual(set(again), truth, name)
            self.assertEqual(again["expires_in"], 3600)

    def test_the_same_token_again_and_again(self):
        session = self.server.session()
        self.server.token_lie("same refresh_token", count=2)
        for _ in range(2):
            self.assertEqual(self.good(session.refresh_token)["refresh_token"], session.refresh_token)
        self.assertNotEqual(self.good(session.refresh_token)["refresh_token"], session.refresh_token)

    def test_a_lie_waits_for_a_good_answer(self):
        session = self.server.session()
        self.server.token_lie(set={"expires_in": 7})
        self.refused("zzzzzzzzzzzz", "refresh_token_not_found")
        self.assertEqual(self.good(session.refresh_token)["expires_in"], 7)


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
