import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLinks, interfaceOf } from './host-links.ts';
import { GroupWriter } from '../src/cache/group-writer.ts';
import { LiveMirror } from '../src/cache/live-mirror.ts';
import { openDatastore } from '../src/datastore/open-datastore.ts';
import { networkProfile } from '../src/driver/networks/network-profile.ts';
import { parseCidr } from '../src/ip/cidr.ts';
import { parseRuleExpression } from '../src/cli/profiles/rule-expression.ts';
import { enterNewNamespace } from '../test/lab/namespace.ts';
import { percentile, table } from './measure.ts';
import { MeasuredDaemon, type Duration } from './measured-daemon.ts';

/**
 * Measures the daemon on a host with many endpoints (veths, no Docker): time from the commit of a rule to the first
 * allowed packet, denied packets that pass during a kill -9 and a cold start, the duration of both, and memory.
 */

const many = Number(process.argv[2] ?? 1000);
const rounds = Number(process.argv[3] ?? 20);
const backend = process.argv[4] === 'legacy' ? 'legacy' : 'nft';
const signal = AbortSignal.timeout(600_000);
const node = 'here';
const [receiver, sender] = ['receiver', 'sender'].map((name) => `calico-${name}-${process.pid}`);
if (receiver === undefined || sender === undefined) throw new Error('two namespaces are required');

const folder = mkdtempSync(join(tmpdir(), 'calico-scale-'));
const namespace = enterNewNamespace();
const children: ChildProcess[] = [];
const ip = (...argv: readonly string[]) => execFileSync('ip', argv, { encoding: 'utf8' });
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  for (const name of [receiver, sender]) execFileSync('ip', ['netns', 'del', name]);
  namespace[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});
for (const name of [receiver, sender]) ip('netns', 'add', name);

const file = join(folder, 'calico.db');
const mirror = new LiveMirror(await openDatastore({ kind: 'sqlite', file }));
void mirror.run(signal);
await mirror.reached(0n, signal);
const writer = new GroupWriter(mirror);

const addressOf = (n: number) => `10.65.${n >> 8}.${n & 255}`;
const profileOf = (n: number) => (n === 1 ? 'target' : n === 2 ? 'source' : 'web');

async function setTarget(isOpen: boolean): Promise<void> {
  const made = networkProfile('target');
  const open = parseRuleExpression(['allow', 'udp', 'from', 'tag', 'source']);
  const ingress = [...(made.spec.ingress ?? []), ...(isOpen ? [open] : [])];
  const value = { ...made, spec: { ...made.spec, ingress } };
  await writer.write((draft) => draft.put('Profile', 'target', value), signal);
}

await setTarget(false);
await writer.write((draft) => {
  for (const name of ['source', 'web']) draft.put('Profile', name, networkProfile(name));
}, signal);
// One plan for each, because etcd limits the keys of a transaction; the writer groups plans up to that limit.
await Promise.all(
  Array.from({ length: many }, (_, index) => {
    const n = index + 1;
    const name = `${node}-${n}`;
    return writer.write(
      (draft) =>
        draft.put('WorkloadEndpoint', `libnetwork/${name}`, {
          kind: 'WorkloadEndpoint',
          apiVersion: 'projectcalico.org/v3',
          metadata: { name, namespace: 'libnetwork' },
          spec: {
            orchestrator: 'libnetwork',
            node,
            endpoint: `endpoint${n}`,
            ipNetworks: [parseCidr(`${addressOf(n)}/32`)],
            profiles: [profileOf(n)],
            interfaceName: interfaceOf(n),
          },
        }),
      signal,
    );
  }),
);
createLinks(many);
for (const [n, name] of [
  [1, receiver],
  [2, sender],
] as const) {
  ip('link', 'set', `peer${n}`, 'netns', name);
  ip('-n', name, 'link', 'set', `peer${n}`, 'up');
  ip('-n', name, 'address', 'add', `${addressOf(n)}/32`, 'dev', `peer${n}`);
  ip('-n', name, 'route', 'add', '169.254.1.1', 'dev', `peer${n}`);
  ip('-n', name, 'route', 'add', 'default', 'via', '169.254.1.1');
  const neighbour = ['169.254.1.1', 'lladdr', 'ee:ee:ee:ee:ee:ee', 'dev', `peer${n}`];
  ip('-n', name, 'neighbour', 'add', ...neighbour);
}
execFileSync('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);

const daemon = new MeasuredDaemon({
  folder,
  node,
  settings: { CALICO_DATASTORE_FILE: file, CALICO_IPTABLES_BACKEND: backend },
  signal,
});

const arrivals: bigint[] = [];
function startEnd(name: string, ...argv: readonly string[]): ChildProcess {
  const command = ['netns', 'exec', name, process.execPath, 'bench/datagrams.ts', ...argv];
  const child = spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = chunk.toString().split('\n');
    arrivals.push(...lines.filter((line) => /^\d+$/.test(line)).map(BigInt));
  });
  children.push(child);
  return child;
}

daemon.start();
await daemon.untilInSync(5);
const receiving = startEnd(receiver, 'receive');
if (receiving.stdout !== null) await once(receiving.stdout, 'data');
startEnd(sender, 'send', addressOf(1));
await sleep(1000);

const denied = { arrived: arrivals.length };
const commits: number[] = [];
async function measureCommit(): Promise<number> {
  // Allowed datagrams create a conntrack entry; each round starts without one.
  await setTarget(false);
  await sleep(150);
  execFileSync('conntrack', ['-F'], { stdio: 'ignore' });
  await sleep(100);
  arrivals.length = 0;
  await sleep(50);
  denied.arrived += arrivals.length;
  const started = process.hrtime.bigint();
  await setTarget(true);
  while (arrivals[0] === undefined) await sleep(2);
  return Number(arrivals[0] - started) / 1e6;
}
// The kernel brings up a thousand new links one after another, which takes about 10 s: the first round waits for it.
await measureCommit();
for (let n = 0; n < rounds; n++) commits.push(await measureCommit());
await setTarget(false);
await sleep(200);
execFileSync('conntrack', ['-F'], { stdio: 'ignore' });
await sleep(100);

interface Interruption extends Duration {
  readonly passed: number;
}

/** Kills the daemon, runs a function, and restarts the daemon, under a stream of denied packets. */
async function interrupted(meanwhile: () => void): Promise<Interruption> {
  arrivals.length = 0;
  await daemon.end('SIGKILL');
  meanwhile();
  await sleep(200);
  daemon.start();
  const inSync = await daemon.untilInSync(5);
  await sleep(500);
  return { ...inSync, passed: arrivals.length };
}

const killed = await interrupted(() => undefined);
// As after a reboot: no routes to containers, and no rules.
const cold = await interrupted(() => {
  ip('route', 'flush', 'proto', '80');
  for (const tool of [`iptables-${backend}`, `ip6tables-${backend}`]) {
    for (const name of ['raw', 'mangle', 'nat', 'filter']) {
      for (const flag of ['-F', '-X']) execFileSync(tool, ['-t', name, flag]);
    }
  }
  execFileSync('ipset', ['destroy']);
});
// Verifies the stream: it arrives when a rule allows it.
arrivals.length = 0;
await setTarget(true);
await sleep(500);
if (arrivals.length === 0) throw new Error('allowed datagrams do not arrive: the stream is broken');
const memory = daemon.memoryKb() / 1000;

process.stdout.write(
  table(
    [`the process, ${many} endpoints, iptables-${backend}`, 'p50', 'p99'],
    [
      [
        'a rule that allows: commit to first packet (ms)',
        percentile(commits, 0.5).toFixed(1),
        percentile(commits, 0.99).toFixed(1),
      ],
      ['denied datagrams that passed before the rule', String(denied.arrived), ''],
      ...interruptionRows('kill -9', killed),
      ...interruptionRows('cold start', cold),
      ['resident memory (MB)', memory.toFixed(0), ''],
    ],
  ),
);
process.exit(0);

function interruptionRows(
  name: string,
  { ms, processorMs, passed }: Interruption,
): readonly (readonly string[])[] {
  return [
    [`${name}: start to in sync (ms)`, ms.toFixed(0), ''],
    [`${name}: CPU time of the process until then (ms)`, String(processorMs), ''],
    [`${name}: denied datagrams that passed meanwhile`, String(passed), ''],
  ];
}
