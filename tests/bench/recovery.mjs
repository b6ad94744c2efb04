// SPDX-License-Identifier: MIT
// The official JavaScript client with its own defaults: joins topics and says what becomes of them, as lines of JSON.
//
//     recovery.mjs URL KEY N    -> {"topic":T,"status":"SUBSCRIBED"} and whatever else the client says of each channel
import { createRequire } from 'node:module'
import process from 'node:process'

const require = createRequire(process.env.RTB_NODE_MODULES + '/')
const { RealtimeClient } = require('@supabase/realtime-js')

const [url, key, n] = process.argv.slice(2)
const client = new RealtimeClient(url, { params: { apikey: key }, transport: require('ws') })
await client.setAuth(key)
for (let i = 0; i < Number(n); i++) {
  const topic = `recovery:${i}`
  const channel = client.channel(topic)
  channel.on('broadcast', { event: '*' }, () => {})
  channel.subscribe((status) => process.stdout.write(JSON.stringify({ topic, status }) + '\n'))
}
process.stdin.on('end', () => process.exit(0)).resume()
