// SPDX-License-Identifier: MIT
// The official JavaScript client, driven by lines of JSON on standard input; says what it sees as lines on standard output.
//
//     js_client.mjs URL KEY VSN
//     {"op":"join","topic":T,"self":bool,"ack":bool,"private":bool}   -> {"type":"status","topic":T,"status":"SUBSCRIBED"}
//     {"op":"send","topic":T,"event":E,"payload":P}                   -> {"type":"sent","result":"ok"}; with "timeout":MS it
//                                                                     waits no longer than that for an acknowledgement
//     {"op":"send_binary","topic":T,"event":E,"base64":B}             -> the same
//     {"op":"heartbeat"}                                              -> {"type":"heartbeat","status":"ok"}
//     {"op":"leave","topic":T}                                        -> {"type":"left","topic":T,"result":"ok"}
//     {"op":"join",...,"presence":KEY}                                with presence, under this key
//     {"op":"track","topic":T,"state":S}, {"op":"untrack","topic":T}  -> {"type":"tracked","topic":T,"result":"ok"}
//     {"op":"view","topic":T}    -> {"type":"view","topic":T,"result":"ok","state":PRESENCE_STATE,"raw":[[KEY,REF,S],...]}
//                                   after everything that the server has sent before: what presenceState() says, and
//                                   what the frames that came over the socket make, without the client's own fold
//     {"op":"changes","topic":T,"bindings":[B,...]}   joins with these bindings of database changes; status as for join, and
//                                   -> {"type":"system","topic":T,"status":"ok","message":M} once they flow
//     {"op":"auth","token":T}                                         -> {"type":"auth"}, when the channels have been told
//     what the server says about a channel: {"type":"system","topic":T,"status":"error","message":M}
//     changes: {"type":"change","topic":T,"binding":N,"payload":P}, N from 0
//     broadcasts: {"type":"broadcast","topic":T,"event":E,"payload":P} or "base64" for bytes; with "meta" if it came so
//     {"op":"join",...,"broadcast":{...}}                             with these further options of broadcasts
//     {"op":"open","topic":T,"private":bool}                          a channel that is not joined: for the next two
//     {"op":"http_send","topic":T,"event":E,"payload":P} or "base64"  -> {"type":"sent","result":"ok"}, or "error", with
//                                                                     "error":TEXT; "timeout":MS as for send
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
const raw = new Map()

// Only the plain words of the server: a state replaces, leaves go, joins come.
function tap(data) {
  if (typeof data !== 'string') return
  const message = JSON.parse(data)
  const { topic, event, payload } = Array.isArray(message) ? { topic: message[2], event: message[3], payload: message[4] } : message
  if (event === 'presence_state') raw.set(topic, new Map())
  const entries = raw.get(topic)
  if (!entries) return
  const each = (keys, act) => {
    for (const [key, { metas }] of Object.entries(keys)) for (const meta of metas) act(JSON.stringify([key, meta.phx_ref]), key, meta)
  }
  const put = (name, key, { phx_ref, phx_ref_prev, ...state }) => entries.set(name, [key, phx_ref, state])
  if (event === 'presence_state') each(payload, put)
  if (event === 'presence_diff') {
    each(payload.leaves, (name) => entries.delete(name))
    each(payload.joins, put)
  }
}

class TappedWebSocket extends WebSocket {
  constructor(...args) {
    super(...args)
    raw.clear()
    this.addEventListener('message', ({ data }) => tap(data))
  }
}

const client = new RealtimeClient(url, {
  params: { apikey: key },
  transport: TappedWebSocket,
  vsn,
  reconnectAfterMs: () => 100,
  heartbeatCallback: (status) => say({ type: 'heartbeat', status }),
})
await client.setAuth(key)

function bytesOf(payload) {
  if (payload instanceof ArrayBuffer) return Buffer.from(payload)
  if (ArrayBuffer.isView(payload)) return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  return null
}

function arrayBuffer(base64) {
  const bytes = Buffer.from(base64, 'base64')
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
}

const operations = {
  open({ topic, private: isPrivate = false }) {
    channels.set(topic, client.channel(topic, { config: { private: isPrivate } }))
  },
  async http_send({ topic, event, payload, base64, timeout }) {
    if (base64 !== undefined) payload = arrayBuffer(base64)
    try {
      const { success } = await channels.get(topic).httpSend(event, payload, { timeout })
      say({ type: 'sent', result: success ? 'ok' : 'error' })
    } catch (error) {
      say({ type: 'sent', result: 'error', error: String(error) })
    }
  },
  join({ topic, self = false, ack = false, private: isPrivate = false, presence, broadcast = {} }) {
    const config = { broadcast: { self, ack, ...broadcast }, private: isPrivate }
    if (presence !== undefined) config.presence = { enabled: true, key: presence }
    const channel = client.channel(topic, { config })
    channel.on('broadcast', { event: '*' }, (message) => {
      const bytes = bytesOf(message.payload)
      const { event, meta } = message
      if (bytes) say({ type: 'broadcast', topic, event, meta, base64: bytes.toString('base64') })
      else say({ type: 'broadcast', topic, event, meta, payload: message.payload })
    })
    channel.on('system', {}, ({ status, message }) => say({ type: 'system', topic, status, message }))
    channel.subscribe((status, error) => say({ type: 'status', topic, status, error: error && String(error) }))
    channels.set(topic, channel)
  },
  changes({ topic, bindings }) {
    const channel = client.channel(topic)
    bindings.forEach((binding, n) =>
      channel.on('postgres_changes', binding, (payload) => say({ type: 'change', topic, binding: n, payload })))
    channel.on('system', {}, ({ status, message }) => say({ type: 'system', topic, status, message }))
    channel.subscribe((status, error) => say({ type: 'status', topic, status, error: error && String(error) }))
    channels.set(topic, channel)
  },
  async auth({ token }) {
    await client.setAuth(token)
    say({ type: 'auth' })
  },
  async send({ topic, event, payload, timeout }) {
    const result = await channels.get(topic).send({ type: 'broadcast', event, payload }, { timeout })
    say({ type: 'sent', result })
  },
  async send_binary({ topic, event, base64 }) {
    const payload = arrayBuffer(base64)
    say({ type: 'sent', result: await channels.get(topic).send({ type: 'broadcast', event, payload }) })
  },
  async heartbeat() {
    await client.sendHeartbeat()
  },
  async leave({ topic }) {
    const result = await client.removeChannel(channels.get(topic))
    raw.delete('realtime:' + topic)
    say({ type: 'left', topic, result })
  },
  async track({ topic, state }) {
    say({ type: 'tracked', topic, result: await channels.get(topic).track(state) })
  },
  async untrack({ topic }) {
    say({ type: 'tracked', topic, result: await channels.get(topic).untrack() })
  },
  async view({ topic }) {
    const channel = channels.get(topic)
    // No presence call for the server, but it answers, after all that it has sent.
    const result = await channel.send({ type: 'presence' })
    const entries = raw.get('realtime:' + topic)
    say({ type: 'view', topic, result, state: channel.presenceState(), raw: entries ? [...entries.values()] : null })
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  await operations[command.op](command)
}
await client.disconnect()
process.exit(0)
