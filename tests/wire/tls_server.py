#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""WebSocket echo servers behind TLS, one per certificate.

    tls_server.py FOLDER NAME...

NAME.pem and NAME.key are in FOLDER (make_certs.sh); "old" is the good certificate with TLS 1.1 at
most. /sink answers each message with its length, other paths with the message. Prints "PORT NAME N" for each, for "plain" (no TLS), for "good6" (the good one on ::1, if
there is an IPv6 loopback), for "mute" (accepts, says nothing) and for servers that answer a TLS greeting with
something else (ODD), then "READY"; serves until standard input ends.
"""
import asyncio
import os
import socket
import ssl
import sys
import threading
import warnings

import websockets


ODD = {
    "banner": b"220 mail.example ESMTP\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "notify": b"\x15\x03\x03\x00\x02\x01\x00",  # "close notify"
    "refusal": b"\x15\x03\x03\x00\x02\x02\x28",  # "handshake failure"
    "gone": None,
    "cut": b"\x16\x03\x03\x40\x00" + b"\x02" * 9,  # of a record, and the end
    "half": b"\x16\x03\x03\x40\x00" + b"\x02" * 7,  # of a record
}


def odd_server(answer):
    async def serve_one(reader, writer):
        try:
            if await reader.read(65536):
                writer.write(answer or b"")
                while answer not in (None, ODD["cut"]) and await reader.read(65536):
                    pass
        except ConnectionError:
            pass
        writer.close()
    return serve_one


async def echo(ws):
    try:
        async for message in ws:
            await ws.send(str(len(message)) if ws.path.startswith("/sink") else message)
    except websockets.ConnectionClosed:
        pass


def refuse_dot(sock, name, context):
    """A name that ends in a dot is none that a certificate could have; many servers know no such host."""
    return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name and name.endswith(".") else None


def tls_context(folder, name):
    cert = "good" if name == "old" else name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, cert + ".pem"), os.path.join(folder, cert + ".key"))
    context.sni_callback = refuse_dot
    if name == "old":
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def serve_old(context):
    """In a thread: asyncio does not send the alert of a handshake that failed."""
    listener = socket.create_server(("127.0.0.1", 0))
    print("PORT old %d" % listener.getsockname()[1], flush=True)

    def accept_all():
        while True:
            sock, _ = listener.accept()
            try:
                context.wrap_socket(sock, server_side=True).close()
            except OSError:
                sock.close()
    threading.Thread(target=accept_all, daemon=True).start()


async def serve(name, context, host="127.0.0.1"):
    server = await websockets.serve(echo, host, 0, ssl=context, max_size=None)
    print("PORT %s %d" % (name, server.sockets[0].getsockname()[1]), flush=True)
    return server


async def main():
    folder = sys.argv[1]
    servers = [await serve("plain", None)]
    for name in sys.argv[2:]:
        if name == "old":
            serve_old(tls_context(folder, name))
        else:
            servers.append(await serve(name, tls_context(folder, name)))
    try:
        servers.append(await serve("good6", tls_context(folder, "good"), "::1"))
    except OSError:
        pass
    for name, answer in ODD.items():
        servers.append(await asyncio.start_server(odd_server(answer), "127.0.0.1", 0))
        print("PORT %s %d" % (name, servers[-1].sockets[0].getsockname()[1]), flush=True)
    mute = socket.create_server(("127.0.0.1", 0))
    print("PORT mute %d" % mute.getsockname()[1], flush=True)
    print("READY", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, os.read, 0, 4096):
        pass


if __name__ == "__main__":
    asyncio.run(main())
