# SPDX-License-Identifier: MIT
"""Certificates of a test, good and bad, and devservers that show them.

    with Certificates() as certs:                             # a temporary directory, gone afterwards
        with DevServer(bin, **certs.options("expired")) as server: ...        # wss:// and https:// at server.url
        with DevServer(bin, **certs.options("good", tls_old=True)) as server: ...   # nothing newer than TLS 1.1
        certs.ca                                              # the path of the CA to trust
        certs.context()                                       # an ssl.SSLContext that trusts it alone

NAMES: "good" for localhost, 127.0.0.1 and ::1; "expired"; "future" (not valid yet); "wrong-name" (elsewhere.example);
"unknown" (good, but of the CA certs.other_ca); "self-signed". A handshake that is slow, or is never answered, is TcpProxy's
(tcpproxy.py): proxy.shape(DOWN, slice=1, pause_ms=2), proxy.silence(). A server that speaks no TLS at all is a DevServer
without options at a wss:// address.
"""

import os
import ssl
import subprocess
import tempfile

NAMES = ("good", "expired", "future", "wrong-name", "unknown", "self-signed")
SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "wire", "make_certs.sh")


class Certificates:
    def __init__(self):
        self._dir = tempfile.TemporaryDirectory(prefix="rtbridge-certs-")
        self.dir = self._dir.name
        subprocess.run([SCRIPT, self.dir], check=True)
        self.ca, self.other_ca = self.path("ca.pem"), self.path("other-ca.pem")

    def path(self, name):
        return os.path.join(self.dir, name)

    def options(self, name="good", **more):
        """Those of a DevServer that shows this certificate."""
        assert name in NAMES, name
        return {"tls_cert": self.path(name + ".pem"), "tls_key": self.path(name + ".key"), **more}

    def context(self):
        return ssl.create_default_context(cafile=self.ca)

    def close(self):
        self._dir.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
