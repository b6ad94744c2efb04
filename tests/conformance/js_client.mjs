// SPDX-License-Identifier: MIT
// The official JavaScript client, driven by lines of JSON on standard input; says what it sees as lines on standard output.
//
//     js_client.mjs URL KEY VSN
//     {"op":"join","topic":T,"self":bool,"ack":bool,"private":bool}   -> {"type":"status","topic":T,"status":"SUBSCRIBED"}
//     {"op":"send","topic":T,"event":E,"payload":P}                   -> {"type":"sent","result":"ok"}
//     {"op":"send_binary","topic":T,"event":E,"base64":B}             -> the same
//     {"op":"heartbeat"}                                              -> {"type":"heartbeat","status":"ok"}
//     {"op":"leave","topic":T}                                        -> {"type":"left","result":"ok"}
//     broadcasts: {"type":"broadcast","topic":T,"event":E,"payload":P} or "base64" for bytes
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import process from 'node:process'

// The packages are installed in the build folder (RTB_NODE_MODULES), not beside this file.
const require = createRequire(process.env.RTB_NODE_MODULES + '/')
const { RealtimeClient } = require('@supabase/realtime-js')
const WebSocket = require('ws')

const [url, key, vsn] = process.argv.slice(2)
const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const channels = new Map()
const client = new RealtimeClient(url, {
  params: { apikey: key },
  transport: WebSocket,
  vsn,
  heartbeatCallback: (status) => say({ type: 'heartbeat', status }),
})
await client.setAuth(key)

function bytesOf(payload) {
  if (payload instanceof ArrayBuffer) return Buffer.from(payload)
  if (ArrayBuffer.isView(payload)) return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  return null
}

const operations = {
  join({ topic, self = false, ack = false, private: isPrivate = false }) {
    const channel = client.channel(topic, { config: { broadcast: { self, ack }, private: isPrivate } })
    channel.on('broadcast', { event: '*' }, (message) => {
      const bytes = bytesOf(message.payload)
      if (bytes) say({ type: 'broadcast', topic, event: message.event, base64: bytes.toString('base64') })
      else say({ type: 'broadcast', topic, event: message.event, payload: message.payload })
    })
    channel.subscribe((status, error) => say({ type: 'status', topic, status, error: error && String(error) }))
    channels.set(topic, channel)
  },
  async send({ topic, event, payload }) {
    const result = await channels.get(topic).send({ type: 'broadcast', event, payload })
    say({ type: 'sent', result })
  },
  async send_binary({ topic, event, base64 }) {
    const bytes = Buffer.from(base64, 'base64')
    const payload = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
    say({ type: 'sent', result: await channels.get(topic).send({ type: 'broadcast', event, payload }) })
  },
  async heartbeat() {
    await client.sendHeartbeat()
  },
  async leave({ topic }) {
    say({ type: 'left', result: await client.removeChannel(channels.get(topic)) })
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  await operations[command.op](command)
}
await client.disconnect()
process.exit(0)
