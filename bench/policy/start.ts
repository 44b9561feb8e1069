import { setImmediate } from 'node:timers/promises';
import { inSlices } from '../../src/async/slices.ts';
import { briefEndpoint } from '../../src/model/briefs.ts';
import { PolicyEngine } from '../../src/profiles/policy-engine.ts';
import type { PolicyOutput } from '../../src/ruleset/renderer.ts';
import { table } from '../measure.ts';
import {
  endpoint,
  namespaceProfile,
  namespaces,
  networkSets,
  setPolicy,
  tagPolicy,
} from './world.ts';

/**
 * Measures the start with decoded resources in memory, without etcd and kernel, as Felix's benchmark of its calculation
 * graph does: 200 endpoints of this host among many, policies for tags, or policies for network sets; then these
 * endpoints are gone. `start.ts tags|sets ENDPOINTS POLICIES [felix|reverse]`; `reverse` sets the endpoints of this host
 * before the policies.
 */

const [kind = 'tags', endpoints = '10000', policies = '1000', order = 'felix'] =
  process.argv.slice(2);
const isOfTags = kind === 'tags';
const local = 200;
const count = { policies: 0, sets: 0, members: 0, stacks: 0, others: 0 };
const output: PolicyOutput = {
  setPolicy: () => count.policies++,
  removePolicy: () => count.others++,
  setStack: () => count.stacks++,
  removeStack: () => count.others++,
  addSet: () => count.sets++,
  removeSet: () => count.others++,
  addMember: () => count.members++,
  removeMember: () => count.others++,
  addDispatch: () => count.others++,
  removeDispatch: () => count.others++,
  setHostGuards: () => count.others++,
};

const remote = Array.from({ length: Number(endpoints) }, (_, n) => {
  const one = endpoint('there', n + 1000);
  return { id: `libnetwork/${one.metadata.name}`, brief: briefEndpoint(one) };
});
const own = Array.from({ length: local }, (_, n) => {
  const one = endpoint('here', n);
  return { id: `libnetwork/${one.metadata.name}`, one };
});
const made = Array.from({ length: Number(policies) }, (_, n) =>
  isOfTags ? tagPolicy(n) : setPolicy(n),
);
const sets = isOfTags ? [] : networkSets(Number(policies));
const heap = () => {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / 1e6;
};
const before = heap();

/** Returns the CPU time of the main thread, which other work on the machine does not lengthen. */
function processorMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** CPU times of the turns of the event loop: what arrives during one waits until its end. */
const turns: number[] = [];
let turnedAt = processorMs();
function turned(): void {
  const now = processorMs();
  turns.push(now - turnedAt);
  turnedAt = now;
}

/** Returns the wait that a share of calls, which arrive at any time, does not exceed. */
function waiting(share: number): number {
  const total = turns.reduce((sum, turn) => sum + turn, 0);
  const late = (ms: number) => turns.reduce((sum, turn) => sum + Math.max(0, turn - ms), 0) / total;
  let [low, high] = [0, Math.max(...turns)];
  while (high - low > 0.01) {
    const middle = (low + high) / 2;
    if (late(middle) > 1 - share) low = middle;
    else high = middle;
  }
  return high;
}

const engine = new PolicyEngine({ node: 'here', families: [4, 6], output });
/** As the mirror reports a listing: in slices, twenty changes at once. */
const listed = async <Item>(items: readonly Item[], set: (item: Item) => void) =>
  inSlices(items, {
    atOnce: 20,
    act: (some) => {
      engine.collect();
      for (const item of some) set(item);
    },
  });
const profiles = Array.from({ length: namespaces }, (_, n) => namespaceProfile(n));
const steps = {
  profiles: () => listed(profiles, (one) => engine.setProfile(one.metadata.name, one)),
  'remote endpoints': () => listed(remote, ({ id, brief }) => engine.setRemote(id, brief)),
  'network sets': () =>
    listed(sets, (one) => engine.setNetworkSet(`set ${one.metadata.name}`, one)),
  policies: () =>
    listed(made, (one) => engine.setPolicy('GlobalNetworkPolicy', one.metadata.name, one)),
  'endpoints of this host': () => listed(own, ({ id, one }) => engine.setEndpoint(id, one)),
  'places of endpoints': async () => engine.settle(),
  'the round': async () => round(),
  'a changed rule of all policies': () =>
    listed(made, (one) => {
      const { ingress = [] } = one.spec;
      const spec = { ...one.spec, ingress: [...ingress, { action: 'Deny' as const }] };
      engine.setPolicy('GlobalNetworkPolicy', one.metadata.name, { ...one, spec });
    }),
  'its round': async () => {
    await engine.settle();
    round();
  },
  'endpoints of this host gone': async () => {
    await listed(own, ({ id }) => engine.setEndpoint(id, undefined));
    await engine.settle();
    round();
    while (engine.hasIdle) {
      // As the agent's polls do.
      engine.dropIdle(10);
      await setImmediate();
    }
  },
} as const;

function round(): void {
  engine.beforeRound();
  engine.beforeTables();
  engine.afterTables();
  engine.moveEndpoints();
  engine.releaseHeld();
}

const watch = setInterval(turned, 1);
const rows: string[][] = [];
/** Adds a row with what the steps take. */
async function measure(name: string, ...of: readonly (keyof typeof steps)[]): Promise<void> {
  globalThis.gc?.();
  turns.length = 0;
  turnedAt = processorMs();
  const before = process.cpuUsage();
  const parts: string[] = [];
  for (const step of of) {
    const started = processorMs();
    await steps[step]();
    parts.push(`${step} ${((processorMs() - started) / 1000).toFixed(2)}`);
  }
  turned();
  const { user, system } = process.cpuUsage(before);
  rows.push([
    name,
    ((user + system) / 1e6).toFixed(2),
    Math.max(...turns).toFixed(0),
    waiting(0.99).toFixed(0),
    of.length === 1 ? '' : parts.join(', '),
  ]);
}

const last = ['policies', 'endpoints of this host'] as const;
await measure(
  'start',
  'profiles',
  'remote endpoints',
  'network sets',
  ...(order === 'reverse' ? last.toReversed() : last),
  'places of endpoints',
  'the round',
);
const settled = { ...count };
const live = heap();
const resident = process.resourceUsage().maxRSS / 1e3;
await measure('a rule more in all policies', 'a changed rule of all policies', 'its round');
await measure('endpoints of this host gone', 'endpoints of this host gone');
clearInterval(watch);

process.stdout.write(
  table(
    [
      `${local} of ${endpoints} endpoints, ${policies} policies for ${isOfTags ? 'tags' : 'network sets'}`,
      'CPU time of the process (s)',
      'longest block of the event loop (CPU time, ms)',
      'wait of calls: p99 (CPU time, ms)',
      'of the main thread (s)',
    ],
    rows,
  ),
);
process.stdout.write(
  `\nLive heap: resources ${before.toFixed(0)} MB, with the engine ${live.toFixed(0)} MB; resident at most ${resident.toFixed(0)} MB.\n` +
    `Emitted: policies ${settled.policies}, stacks ${settled.stacks}, sets ${settled.sets}, members ${settled.members}.\n`,
);
