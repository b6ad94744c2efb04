#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The devserver behind TLS, with good and bad certificates, and with old versions.

usage: behaviour_tls.py PATH-OF-RTBRIDGE-DEVSERVER [NAME-OF-TEST...]
"""

import os
import socket
import ssl
import sys
import unittest
import urllib.parse
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rtbtest.devserver import DevServer, RawWebSocket  # noqa: E402
from rtbtest.tls import Certificates  # noqa: E402
from rtbtest.wait import DEADLINE  # noqa: E402

BIN = None
WRONG = {"expired": "has expired", "future": "not yet valid", "wrong-name": "mismatch", "unknown": "unable to get local issuer",
         "self-signed": "self-signed certificate"}


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.certs = Certificates()
        cls.addClassCleanup(cls.certs.close)

    def server(self, name="good", **options):
        server = DevServer(BIN, **self.certs.options(name, **options))
        self.addCleanup(server.stop)
        return server

    def handshake(self, server, context):
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as sock:
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
                return tls.version()

    def test_a_good_one(self):
        server = self.server()
        path = urllib.parse.urlparse(server.url).path
        ws = RawWebSocket("127.0.0.1", server.port, f"{path}/websocket?vsn=2.0.0&apikey={server.token()}", tls=self.certs.context())
        self.addCleanup(ws.abort)
        ws.send_text('[null,"1","phoenix","heartbeat",{}]')
        self.assertEqual(ws.recv_frame()[1], b'[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]')
        session = server.session()
        self.assertEqual(server.refresh(session.refresh_token)[0], 200)
        self.assertTrue(server.auth_url.startswith("https://"))

    def test_bad_ones(self):
        for name, why in WRONG.items():
            server = self.server(name)
            with self.assertRaises(ssl.SSLCertVerificationError) as refused:
                self.handshake(server, self.certs.context())
            self.assertIn(why, str(refused.exception), name)
            self.assertEqual(server.status()["sockets_open"], 0)  # it does serve: who checks nothing gets an answer

    def test_nothing_new(self):
        server = self.server(tls_old=True)
        new = self.certs.context()
        new.minimum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(ssl.SSLError):
            self.handshake(server, new)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old = self.certs.context()
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.set_ciphers("ALL:@SECLEVEL=0")
            self.assertEqual(self.handshake(server, old), "TLSv1.1")
        self.assertEqual(server.status()["sockets_open"], 0)


if __name__ == "__main__":
    BIN = sys.argv.pop(1)
    unittest.main()
