// SPDX-License-Identifier: MIT
// Compares presence_fold (daemon/realtime/presence.h) with Phoenix' own Presence, call by call, on random histories.
//
//     presence_fold.mjs TOOL [SEEDS [FIRST_SEED]]
//
// Three things differ on purpose; `Oracle` bends Phoenix to them:
//   - what has not the expected shape is passed over (Phoenix throws), of equal refs of a key the last one counts;
//   - diffs that waited for a state that never came are dropped at the next join;
//   - a state's word about a ref that is held already is taken (Phoenix keeps the old one: real refs never come back
//     with another state, but trackers can forge them).
// What clients see of a bridge that merges is modelled by `view`.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import process from 'node:process'
import { honest, hostile, random } from './presence_histories.mjs'

const require = createRequire(process.env.RTB_NODE_MODULES + '/')
// The one that the official client itself uses.
const { Presence } = createRequire(require.resolve('@supabase/realtime-js'))('@supabase/phoenix')

const BRIDGE = 'rtbridge:'
const KEY_MAX = 255
const isMap = (v) => typeof v === 'object' && v !== null && !Array.isArray(v)
const isDiff = (v) => isMap(v) && ['joins', 'leaves'].every((k) => !Object.hasOwn(v, k) || isMap(v[k]))

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical)}]`
  if (!isMap(value)) return JSON.stringify(value)
  return `{${Object.keys(value).sort().map((k) => JSON.stringify(k) + ':' + canonical(value[k]))}}`
}

function cleaned(keys) {
  const result = Object.create(null)
  for (const [key, value] of Object.entries(keys)) {
    if (!isMap(value) || !Array.isArray(value.metas)) continue
    const metas = value.metas.filter((m) => isMap(m) && typeof m.phx_ref === 'string' && !m.phx_ref.startsWith(BRIDGE))
    result[key] = { metas: metas.filter((m, i) => !metas.slice(i + 1).some((n) => n.phx_ref === m.phx_ref)) }
  }
  return result
}

class Oracle {
  constructor() {
    this.handlers = {}
    this.ref = 1
    this.presence = new Presence({ on: (event, handler) => (this.handlers[event] = handler), joinRef: () => String(this.ref) })
  }
  joining() {
    this.ref++
    this.presence.pendingDiffs = []
  }
  state(payload) {
    if (!isMap(payload)) return false
    const state = cleaned(payload)
    for (const [key, held] of Object.entries(this.presence.state)) {
      const said = new Map((state[key]?.metas ?? []).map((m) => [m.phx_ref, m]))
      held.metas = held.metas.map((m) => said.get(m.phx_ref) ?? m)
    }
    this.handlers.presence_state(state)
    return true
  }
  diff(payload) {
    if (!isDiff(payload)) return false
    this.handlers.presence_diff({ joins: cleaned(payload.joins ?? {}), leaves: cleaned(payload.leaves ?? {}) })
    return true
  }
}

const isKey = (s) => s !== '' && Buffer.byteLength(s) <= KEY_MAX && !/\p{Cc}/u.test(s) && !s.startsWith(BRIDGE)

// The entries of a Phoenix state: name -> {key, ref, state, prev}. Of a bridge that merges they are the members of all its
// metas (what comes later in the list replaces what an earlier one says of a member) and the metas without members.
function view(state) {
  const entries = new Map()
  const add = (key, ref, value, prev) => entries.set(JSON.stringify([key, ref]), { key, ref, state: canonical(value), prev })
  for (const [key, { metas }] of Object.entries(state)) {
    const isBridge = key.startsWith(BRIDGE)
    for (const { phx_ref, phx_ref_prev, ...rest } of metas) {
      if (isBridge && isMap(rest.members)) {
        for (const [member, value] of Object.entries(rest.members)) if (isKey(member) && isMap(value)) add(member, key, value)
      } else {
        add(key, phx_ref, rest, phx_ref_prev)
      }
    }
  }
  return entries
}

function check(condition, what) {
  if (!condition) throw new Error(what)
}

// A client that knows the snapshot and applies what it is told.
class Client {
  entries = new Map()

  apply([leave, join, update], after) {
    const name = ({ key, ref }) => JSON.stringify([key, ref])
    const before = new Map(this.entries)
    for (const e of leave) {
      check(this.entries.get(name(e)) === canonical(e.state), `leave of what is not there: ${JSON.stringify(e)}`)
      this.entries.delete(name(e))
    }
    for (const e of join) {
      check(!this.entries.has(name(e)) && !before.has(name(e)), `join of what is there: ${JSON.stringify(e)}`)
      this.entries.set(name(e), canonical(e.state))
    }
    for (const e of update) {
      const prev = name({ key: e.key, ref: e.prev })
      check(before.has(prev) && this.entries.has(prev), `update of what is not there: ${JSON.stringify(e)}`)
      if (e.prev === e.ref) {
        check(before.get(prev) !== canonical(e.state), `update without news: ${JSON.stringify(e)}`)
      } else {
        check(!before.has(name(e)), `update to what is there: ${JSON.stringify(e)}`)
        check(after.get(name(e))?.prev === e.prev, `update that nobody claimed: ${JSON.stringify(e)}`)
      }
      this.entries.delete(prev)
      this.entries.set(name(e), canonical(e.state))
    }
    for (const e of join) {
      const prev = after.get(name(e))?.prev
      check(typeof prev !== 'string' || prev.startsWith(BRIDGE) || !leave.some((l) => l.key === e.key && l.ref === prev),
        `leave and join that are an update: ${JSON.stringify(e)}`)
    }
  }
}

const sorted = (entries) => [...entries].map(([k, v]) => k + (typeof v === 'string' ? v : v.state)).sort().join('\n')

function checkSnapshot({ snapshot, count }, want, what) {
  const got = snapshot.map((e) => JSON.stringify([e.key, e.ref]) + canonical(e.state)).sort()
  check(count === snapshot.length, `count ${count}, ${snapshot.length} entries`)
  check(got.join('\n') === sorted(want), `snapshot, ${what}:\n${got.join('\n')}\nexpected:\n${sorted(want)}`)
}

const counts = { calls: 0, leave: 0, join: 0, update: 0, malformed: 0 }

function replay(steps, answers) {
  const oracle = new Oracle(), client = new Client()
  let isKnown = false
  steps.forEach(({ call, payload, truth }, i) => {
    const answer = JSON.parse(answers[i])
    try {
      const isRight = payload === undefined ? (oracle.joining(), true) : oracle[call](JSON.parse(payload))
      check(answer.r === (isRight ? 0 : 1), `result ${answer.r}`)
      if (isRight && call !== 'diff') isKnown = call === 'state'
      check(answer.current === isKnown, `current: ${answer.current}`)
      check((isRight && isKnown) || answer.changes.every((c) => !c.length), 'changes while nothing may change')
      const want = view(oracle.presence.state)
      client.apply(answer.changes, want)
      checkSnapshot(answer, want, 'as Phoenix has it')
      checkSnapshot(answer, client.entries, 'as the client has it')
      if (truth) checkSnapshot(answer, view(truth), 'as the server has it')
      counts.malformed += !isRight
      answer.changes.forEach((c, which) => (counts[['leave', 'join', 'update'][which]] += c.length))
    } catch (error) {
      error.message = `call ${i}: ${call} ${payload ?? ''}\nchanges: ${JSON.stringify(answer.changes)}\n${error.message}`
      throw error
    }
  })
  counts.calls += steps.length
}

const [tool, nSeeds = '60', first = '1'] = process.argv.slice(2)
const letters = { joining: 'j', state: 's', diff: 'd' }
for (let seed = Number(first); seed < Number(first) + Number(nSeeds); seed++) {
  const steps = (seed % 2 ? honest : hostile)(random(seed))
  const input = 'n\n' + steps.map((s) => letters[s.call] + (s.payload ?? '') + '\n').join('')
  const run = spawnSync(tool, { input, maxBuffer: 1 << 30, encoding: 'utf8', stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    check(run.status === 0, `the tool ended with ${run.status ?? run.signal}`)
    const answers = run.stdout.trimEnd().split('\n')
    check(answers.length === steps.length + 1, `${answers.length} answers to ${steps.length + 1} calls`)
    replay(steps, answers.slice(1))
  } catch (error) {
    console.error(`seed ${seed}, ${error.message}`)
    process.exit(1)
  }
}
check(Object.values(counts).every((n) => n > 100), `too little happened: ${JSON.stringify(counts)}`)
console.log(`the same as Phoenix': ${JSON.stringify(counts)}`)
