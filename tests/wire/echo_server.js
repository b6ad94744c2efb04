// SPDX-License-Identifier: MIT
// An echo server with the npm package "ws", plain and TLS.
//
//   node echo_server.js MODULES [NAME=CERT,KEY]...
//
// MODULES is a node_modules folder. Prints "PORT NAME N" for each listener ("plain" and the given
// names) and "READY", serves until standard input ends. Paths: /echo answers each message as it
// came; /pieces answers in fragments of odd sizes with pings between them.
"use strict";

const fs = require("fs");
const http = require("http");
const https = require("https");
const path = require("path");

const { WebSocketServer } = require(path.join(process.argv[2], "ws"));

// A cheap generator: the sizes of fragments must differ, not be random.
function* sizes() {
  let x = 12345;
  for (;;) {
    x = (x * 1103515245 + 12345) % 2147483648;
    yield x % 70001;
  }
}

function sendPieces(ws, data, binary, next) {
  let at = 0;
  for (;;) {
    const end = Math.min(data.length, at + next().value);
    const fin = end === data.length;
    ws.send(data.subarray(at, end), { binary, fin });
    if (fin) return;
    ws.ping("between");
    at = end;
  }
}

function onConnection(ws, request) {
  const pieces = request.url.startsWith("/pieces");
  const gen = sizes();
  ws.on("message", (data, binary) => {
    if (pieces) sendPieces(ws, data, binary, () => gen.next());
    else ws.send(data, { binary });
  });
  ws.on("error", () => {});
}

function listen(server, name) {
  const wss = new WebSocketServer({ server, maxPayload: 16 << 20, perMessageDeflate: true });
  wss.on("connection", onConnection);
  wss.on("error", () => {});
  server.on("tlsClientError", () => {});
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      console.log(`PORT ${name} ${server.address().port}`);
      resolve();
    });
  });
}

async function main() {
  await listen(http.createServer(), "plain");
  for (const arg of process.argv.slice(3)) {
    const [name, files] = arg.split("=");
    const [cert, key] = files.split(",");
    const options = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
    if (name === "old") options.maxVersion = "TLSv1.1", options.minVersion = "TLSv1";
    if (name === "old") options.ciphers = "DEFAULT@SECLEVEL=0";
    if (name === "tls12") options.maxVersion = "TLSv1.2";
    await listen(https.createServer(options), name);
  }
  console.log("READY");
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
}

main();
