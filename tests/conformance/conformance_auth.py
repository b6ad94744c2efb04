# SPDX-License-Identifier: MIT
"""The devserver's token endpoint as the official client (npm @supabase/auth-js) sees it."""

import os
import unittest

from conformance import Js
from rtbtest.devserver import DevServer
from rtbtest.tokens import claims_of


class Auth(Js):
    """An auth_client.mjs process."""

    script = "auth_client.mjs"

    def __init__(self, server):
        super().__init__(server.auth_url, server.token())

    def refresh(self, token):
        """(session, None) or (None, error)"""
        self.do("refresh", token=token)
        answer = self.wait("refreshed")
        return answer.get("session"), answer.get("error")


class Refreshing(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(DevServer(os.path.join(os.environ["RTB_BIN"], "rtbridge-devserver"), reuse_interval_ms=0))
        self.client = Auth(self.server)
        self.addCleanup(self.client.close)

    def good(self, token):
        session, error = self.client.refresh(token)
        self.assertIsNone(error)
        return session

    def refused(self, token, code, message):
        session, error = self.client.refresh(token)
        self.assertIsNone(session)
        self.assertEqual((error["name"], error["status"], error["code"], error["message"]), ("AuthApiError", 400, code, message))

    def test_a_session(self):
        mine = self.server.session(sub="7c9e6679-7425-40de-944b-e07fc1f90ae7", life_s=120, email="ann@example.com")
        session = self.good(mine.refresh_token)
        self.assertEqual(session["refresh_token"], mine.active())
        self.assertEqual((session["token_type"], session["expires_in"]), ("bearer", 120))
        self.assertEqual(session["expires_at"], claims_of(session["access_token"])["exp"])
        self.assertEqual((session["user"]["id"], session["user"]["email"], session["user"]["role"]), (mine.sub, "ann@example.com", "authenticated"))
        told = self.client.wait("event", event="TOKEN_REFRESHED")
        self.assertEqual(told["refresh_token"], session["refresh_token"])
        self.client.do("session")
        self.assertEqual(self.client.wait("session")["session"], session)

    def test_one_after_the_other(self):
        mine = self.server.session()
        token = mine.refresh_token
        for _ in range(3):
            token = self.good(token)["refresh_token"]
        self.assertEqual(token, mine.active())
        self.assertEqual([a.reuse for a in self.server.token_log(mine)], [None] * 3)

    def test_the_access_token_joins(self):
        mine = self.server.session(sub="ann")
        self.server.set_policies("read sub=ann room")
        js = Js(self.server.url, self.server.token(), "2.0.0")
        self.addCleanup(js.close)
        js.auth(self.good(mine.refresh_token)["access_token"])
        self.assertEqual(js.join("room", private=True), "SUBSCRIBED")

    def test_what_is_refused(self):
        head = "Invalid Refresh Token: "
        self.refused("zzzzzzzzzzzz", "refresh_token_not_found", head + "Refresh Token Not Found")
        self.refused("short", "validation_failed", "Refresh token is not valid")
        for how, code, why in (("expire", "session_expired", "Session Expired"), ("ban", "user_banned", "User Banned"),
                               ("revoke", "refresh_token_already_used", "Already Used")):
            mine = self.server.session()
            getattr(mine, how)()
            self.refused(mine.refresh_token, code, head + why)
        mine = self.server.session()
        mine.orphan()
        self.assertEqual(self.client.refresh(mine.refresh_token)[1]["name"], "AuthSessionMissingError")
        self.assertEqual(self.server.token_log(mine)[0].error_code, "session_not_found")

    def test_the_client_tries_again(self):
        """Its own retries meet the answer that was lost: the token it presents again is then the parent."""
        for how, members in (("drop", {}), ("half", {}), ("answer", {"status": 503})):
            mine = self.server.session()
            self.server.token_fault(how, **members)
            session = self.good(mine.refresh_token)
            self.assertEqual(session["refresh_token"], mine.active(), how)
            log = self.server.token_log(mine)
            self.assertEqual({a.presented for a in log}, {mine.refresh_token})
            self.assertEqual([a.reuse for a in log], [None] if how == "answer" else [None, "parent"], how)


if __name__ == "__main__":
    unittest.main()
