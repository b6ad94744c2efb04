// SPDX-License-Identifier: MIT
// Random histories of a channel's presence for presence_fold.mjs: arrays of {call, payload}, payload being JSON.

// mulberry32
export function random(seed) {
  let a = seed
  const next = () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = (n) => Math.floor(next() * n)
  return { below, chance: (p) => next() < p, of: (array) => array[below(array.length)] }
}

const KEYS = ['a', 'b', '', '__proto__', 'constructor', 'toString', '7', '08', 'ä', 'a\u0000', 'rtbridge:x', 'rtbridge:y', 'rtbridge:']

// The second row are no keys.
const MEMBERS = [
  'a', 'b', 'c', 'd', 'e', '__proto__', 'rtbridge', 'ä', 'x'.repeat(255),
  '', 'rtbridge:x', 'a\u0000', '\u007f', '\u009f', 'x'.repeat(256), 'ä'.repeat(128),
]

function members(r) {
  const result = Object.create(null)
  for (let n = r.below(8); n > 0; n--) result[r.of(MEMBERS)] = r.chance(0.1) ? r.below(2) : { n: r.below(3) }
  return result
}

function content(r, key) {
  if (key.startsWith('rtbridge:') && r.chance(0.8)) return { members: members(r) }
  return r.of([{}, { n: r.below(3) }, { text: 'ü', deep: { n: [r.below(2), null] } }, { metas: [], members: { a: {} } }])
}

// A server, people who come, change and go, and a client that sometimes is away. `truth` stands where the client has
// heard everything.
export function honest(r) {
  const steps = []
  const state = Object.create(null)
  let n = 0, isAway = true, early = null

  const deliver = (diff) => {
    const payload = JSON.stringify(diff)
    if (early) early.push(payload)
    else if (!isAway) steps.push({ call: 'diff', payload, truth: JSON.parse(JSON.stringify(state)) })
  }
  const metasOf = (key) => state[key]?.metas ?? []
  const put = (key, joins, leaves) => {
    const metas = [...metasOf(key).filter((m) => !leaves.includes(m)), ...joins]
    if (metas.length) state[key] = { metas }
    else delete state[key]
    const part = (list) => Object.assign(Object.create(null), list.length ? { [key]: { metas: list } } : {})
    deliver({ joins: part(joins), leaves: part(leaves) })
  }
  const happens = () => {
    const key = r.of(KEYS)
    const metas = metasOf(key), old = r.of(metas.length ? metas : [null])
    const fresh = { phx_ref: `ref${n++}`, ...content(r, key) }
    if (!old || (metas.length < 4 && r.chance(0.3))) put(key, [fresh], [])
    else if (r.chance(0.6)) put(key, [{ ...fresh, phx_ref_prev: old.phx_ref }], [old])
    else put(key, [], [old])
  }
  // The state is made at some moment after the join; diffs from before and after that moment may overtake it.
  const join = () => {
    steps.push({ call: 'joining' })
    isAway = false
    early = []
    for (let i = r.below(4); i > 0; i--) happens()
    const payload = JSON.stringify(state)
    const sent = early.length
    for (let i = r.below(4); i > 0; i--) happens()
    const overtaking = r.chance(0.5) ? early.length : sent
    for (const diff of early.slice(0, overtaking)) steps.push({ call: 'diff', payload: diff })
    steps.push({ call: 'state', payload })
    for (const diff of early.slice(overtaking)) steps.push({ call: 'diff', payload: diff })
    early = null
    steps.at(-1).truth = JSON.parse(JSON.stringify(state))
  }
  while (steps.length < 200) {
    if (isAway) {
      for (let i = r.below(10); i > 0; i--) happens()
      join()
    } else if (r.chance(0.05)) {
      isAway = true
    } else {
      happens()
    }
  }
  return steps
}

// Anything: few refs, so that they clash; wrong shapes; no order.
export function hostile(r) {
  const odd = () => r.of([null, 7, 'x', [], [{ phx_ref: '1' }], {}, { metas: {} }, { metas: 'x' }, { metas: [] }])
  const meta = (key) => {
    if (r.chance(0.05)) return r.of([null, 1, [], {}, { phx_ref: 1 }, { phx_ref: null }, { phx_ref: 'rtbridge:x', n: 1 }])
    const m = { phx_ref: r.of(['1', '2', '3', '4', '5', '', '__proto__']), ...content(r, key) }
    if (r.chance(0.5)) m.phx_ref_prev = r.of(['1', '1', '1', '2', '3', '', 'rtbridge:x', 7, m.phx_ref])
    return m
  }
  const keys = () => {
    const result = Object.create(null)
    for (let n = r.below(6); n > 0; n--) {
      const key = r.of(KEYS)
      result[key] = r.chance(0.05) ? odd() : { metas: Array.from({ length: r.below(5) }, () => meta(key)), more: 1 }
    }
    return result
  }
  const diff = () => {
    if (r.chance(0.03)) return odd()
    const result = { joins: keys(), leaves: keys(), more: null }
    if (r.chance(0.1)) delete result.joins
    if (r.chance(0.1)) delete result.leaves
    if (r.chance(0.03)) result[r.of(['joins', 'leaves'])] = r.of([null, [], 1, 'x'])
    return result
  }
  return Array.from({ length: 200 }, () => {
    const call = r.chance(0.06) ? 'joining' : r.chance(0.15) ? 'state' : 'diff'
    if (call === 'joining') return { call }
    return { call, payload: JSON.stringify(call === 'diff' ? diff() : r.chance(0.05) ? r.of([null, [], 7]) : keys()) }
  })
}
