// SPDX-License-Identifier: MIT
// The official client of the auth server, driven by lines of JSON on standard input; says what it sees as lines on standard
// output.
//
//     auth_client.mjs URL KEY
//     {"op":"refresh","token":T}   -> {"type":"refreshed","session":{...}} or {"type":"refreshed","error":{"name","status","code","message"}}
//                                     after as many attempts as the client makes by itself
//     {"op":"session"}             -> {"type":"session","session":{...}|null}: what the client keeps
//     what the client tells its application: {"type":"event","event":E,"refresh_token":T|null}
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import process from 'node:process'

// The packages are installed in the build folder (RTB_NODE_MODULES), not beside this file.
const require = createRequire(process.env.RTB_NODE_MODULES + '/')
const { AuthClient } = require('@supabase/auth-js')

const [url, key] = process.argv.slice(2)
const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const auth = new AuthClient({ url, headers: { apikey: key }, autoRefreshToken: false, persistSession: false, detectSessionInUrl: false })

auth.onAuthStateChange((event, session) => say({ type: 'event', event, refresh_token: session?.refresh_token ?? null }))

const told = (error) => ({ name: error.name, status: error.status, code: error.code, message: error.message })

for await (const line of createInterface({ input: process.stdin })) {
  const { op, token } = JSON.parse(line)
  if (op === 'refresh') {
    const { data, error } = await auth.refreshSession({ refresh_token: token })
    say(error ? { type: 'refreshed', error: told(error) } : { type: 'refreshed', session: data.session })
  } else if (op === 'session') {
    const { data } = await auth.getSession()
    say({ type: 'session', session: data.session })
  }
}
process.exit(0)
