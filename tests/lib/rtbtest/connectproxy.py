# SPDX-License-Identifier: MIT
"""An HTTP proxy that knows CONNECT and passwords, on 127.0.0.1. What the network does to it, a TcpProxy in front of it plays.

    with ConnectProxy("user:password") as connect, TcpProxy(connect.port) as proxy:
        daemon(sections={"upstream": {"proxy": f"http://127.0.0.1:{proxy.port}", "proxy_auth_file": file}})
        connect.credentials = "user:another"                from the next connection on; None: whoever comes
        connect.tunnels                                     where each leads that was opened: ["127.0.0.1:4000"]
        connect.refused                                     how often it has said 407

Only the right request is answered by 200: the target twice, in the line and as Host, and a password where one is wanted.
"""

import base64
import re
import socket
import threading

REQUEST = re.compile(rb"CONNECT (?P<where>[^ ]+:[0-9]+) HTTP/1\.1\r\nHost: (?P=where)\r\n"
                     rb"(Proxy-Authorization: Basic (?P<auth>[A-Za-z0-9+/]+=*)\r\n)?\r\n")
HEAD_BYTES = 65536


def _pump(source, sink):
    """Until the end of one direction, which is passed on; until the end of all when it is no end in order."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class ConnectProxy:
    def __init__(self, credentials=None):
        self.credentials, self.tunnels, self.refused = credentials, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock, self.open, self.threads = threading.Lock(), set(), []
        self._start(self._accept)

    def _start(self, run, *args):
        thread = threading.Thread(target=run, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _keep(self, sock):
        """False when all is over."""
        with self.lock:
            if self.open is None:
                sock.close()
                return False
            self.open.add(sock)
            return True

    def _drop(self, *socks):
        with self.lock:
            for sock in socks:
                sock.close()
                if self.open is not None:
                    self.open.discard(sock)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._keep(sock):
                self._start(self._serve, sock)

    def _serve(self, sock):
        try:
            self._lead(sock)
        except OSError:
            pass
        finally:
            self._drop(sock)

    def _lead(self, sock):
        head = b""
        while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
            data = sock.recv(HEAD_BYTES)
            if not data:
                return
            head += data
        request = REQUEST.fullmatch(head)
        if not request:
            sock.sendall(b"HTTP/1.1 400 No such thing here\r\n\r\n")
        elif not self._may(request["auth"]):
            with self.lock:
                self.refused += 1
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"here\"\r\n"
                         b"Content-Length: 0\r\n\r\n")
        else:
            self._connect(sock, request["where"].decode())

    def _may(self, auth):
        return self.credentials is None or auth == base64.b64encode(self.credentials.encode())

    def _connect(self, sock, where):
        host, _, port = where.rpartition(":")
        try:
            target = socket.create_connection((host.strip("[]"), int(port)))
        except OSError:
            sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        if not self._keep(target):
            return
        try:
            with self.lock:
                self.tunnels.append(where)
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(target, sock), daemon=True)
            back.start()
            _pump(sock, target)
            back.join()
        finally:
            self._drop(target)

    def stop(self):
        with self.lock:
            socks, self.open = [*self.open, self.listener], None
        for sock in socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        for thread in self.threads:
            thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
