#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The demo's outsider: a Realtime client on a WebSocket of its own, as a browser would have.

    demo-outside.py URL APIKEY_FILE TOPIC

URL is the WebSocket address up to /websocket. Each line on standard input, EVENT JSON, is sent as a broadcast; each
broadcast that arrives is printed as a line. "ready" is printed when the channel is joined. It reconnects by itself.
"""

import asyncio
import json
import sys
import urllib.parse

import websockets


async def lines_of_stdin():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def talk(socket, key, topic, stdin):
    ref = 1
    config = {"broadcast": {"ack": False, "self": False}, "presence": {"enabled": False, "key": ""},
              "postgres_changes": [], "private": False}
    join = {"config": config}
    if not key.startswith("sb_"):
        join["access_token"] = key
    await socket.send(json.dumps(["1", "1", topic, "phx_join", join]))

    async def read():
        async for frame in socket:
            if isinstance(frame, bytes):  # kind 4: topic, event and metadata lengths, encoding, then the strings
                n_topic, n_event, n_meta = frame[1:4]
                start = 5 + n_topic
                event = frame[start:start + n_event].decode()
                print("outside", event, frame[start + n_event + n_meta:].decode(), flush=True)
                continue
            _, reply_ref, _, event, payload = json.loads(frame)
            if event == "phx_reply" and reply_ref == "1":
                if payload["status"] != "ok":
                    sys.exit(f"demo-outside.py: the server refused the join: {payload['response']}")
                print("ready", flush=True)
            elif event == "broadcast":
                print("outside", payload["event"], json.dumps(payload["payload"]), flush=True)

    async def write():
        nonlocal ref
        while line := (await stdin.readline()).decode().strip():
            event, payload = line.split(" ", 1)
            ref += 1
            message = {"type": "broadcast", "event": event, "payload": json.loads(payload)}
            await socket.send(json.dumps(["1", str(ref), topic, "broadcast", message]))
        raise EOFError

    async def beat():
        nonlocal ref
        while True:
            await asyncio.sleep(25)
            ref += 1
            await socket.send(json.dumps([None, str(ref), "phoenix", "heartbeat", {}]))

    tasks = [asyncio.ensure_future(f()) for f in (read, write, beat)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()


async def main():
    url, key_file, topic = sys.argv[1:4]
    with open(key_file) as f:
        key = f.read().strip()
    query = urllib.parse.urlencode({"apikey": key, "vsn": "2.0.0"})
    stdin = await lines_of_stdin()
    while True:
        try:
            async with websockets.connect(f"{url}/websocket?{query}", compression=None) as socket:
                await talk(socket, key, "realtime:" + topic, stdin)
        except EOFError:
            return
        except (OSError, websockets.WebSocketException):
            await asyncio.sleep(0.2)


asyncio.run(main())
