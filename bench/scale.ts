import { execFileSync } from 'node:child_process';
import { Supervisor } from '../src/async/supervise.ts';
import { Agent } from '../src/agent/agent.ts';
import { openDrivers } from '../src/agent/kernel.ts';
import { openKernelSockets } from '../src/dataplane/kernel-sockets.ts';
import { createLinks } from '../src/workload/links.ts';
import { HostPortReservations } from '../src/dataplane/host-ports/host-port-reservations.ts';
import { Ipv6Forwarding } from '../src/dataplane/host-settings.ts';
import { KernelMonitor } from '../src/dataplane/netlink/monitor.ts';
import { ToolRunner } from '../src/dataplane/process.ts';
import { GroupWriter } from '../src/cache/group-writer.ts';
import { LiveMirror } from '../src/cache/live-mirror.ts';
import { openDatastore } from '../src/datastore/open-datastore.ts';
import { hostInterfaceName, temporaryInterfaceName } from '../src/workload/interfaces.ts';
import { networkProfile } from '../src/driver/networks/network-profile.ts';
import { parseCidr } from '../src/ip/cidr.ts';
import type { WorkloadEndpoint } from '../src/model/kinds/workload-endpoint.ts';
import { parseRuleExpression } from '../src/cli/profiles/rule-expression.ts';
import { createLogger } from '../src/telemetry/log.ts';
import { enterNewNamespace } from '../test/lab/namespace.ts';
import { percentile, table } from './measure.ts';

/**
 * Measures the agent of a host with many endpoints (veths in a separate namespace, no Docker): the time of one more
 * endpoint, of a changed rule that all use, of a remote endpoint that joins a tag, and of a restart.
 */

const many = Number(process.argv[2] ?? 1000);
const rounds = Number(process.argv[3] ?? 20);
const backend = process.argv[4] === 'legacy' ? 'legacy' : 'nft';
const signal = AbortSignal.timeout(600_000);
const stop = new AbortController();

const namespace = enterNewNamespace();
process.once('exit', () => namespace[Symbol.dispose]());
const log = createLogger({
  level: 'warn',
  write: (line) => process.stderr.write(line),
  now: () => new Date(),
});
const store = await openDatastore({ kind: 'sqlite', file: ':memory:' });
const mirror = new LiveMirror(store);
void mirror.run(stop.signal);
const writer = new GroupWriter(mirror);
const sockets = openKernelSockets();
const runner = new ToolRunner();
const supervisor = new Supervisor({ onFailure: ({ error }) => log.warn(String(error)) });

function startAgent(until: AbortSignal, followed = mirror): Agent {
  const agent = new Agent({
    node: 'here',
    mirror: followed,
    log,
    supervisor,
    drivers: openDrivers({
      sockets,
      runner,
      chosen: { backend, why: 'chosen for the benchmark' },
      families: [4, 6],
    }),
    hostPorts: new HostPortReservations(sockets.libc),
    families: [4, 6],
    statics: { endpointToHostAction: 'Return' },
    ipv6Forwarding: new Ipv6Forwarding('/run/calico-bench/control.sock'),
    resolvesNames: true,
    endsForbiddenFlows: false,
  });
  agent.start(until);
  return agent;
}

let agent = startAgent(stop.signal);
const monitor = new KernelMonitor(sockets.libc, (events) => agent.onKernelEvents(events));
const monitoring = monitor.run(stop.signal);
const links = createLinks({ sockets, log, onMade: (...made) => agent.linkMade(...made) });
await mirror.reached(0n, signal);

const id = (n: number) => `${String(n).padStart(6, '0')}abcdef0123456789`;
function endpoint(n: number, profile: string, node = 'here'): WorkloadEndpoint {
  const endpointId = id(n);
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: `${node}-${n}`, namespace: 'libnetwork' },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: endpointId,
      ipNetworks: [parseCidr(`10.${65 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}/32`)],
      profiles: [profile],
      interfaceName: hostInterfaceName(endpointId),
    },
  };
}

/** Adds an endpoint as Join does, without Docker: veth, endpoint, policy programmed. */
async function join(n: number, profile: string): Promise<number> {
  const started = performance.now();
  await links.createVeth({
    hostName: hostInterfaceName(id(n)),
    peerName: temporaryInterfaceName(id(n)),
    peerMac: `ca:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`,
    mtuBytes: 1500,
    hasIpv6: false,
  });
  const { revision } = await writer.write(
    (draft) => draft.put('WorkloadEndpoint', `libnetwork/here-${n}`, endpoint(n, profile)),
    signal,
  );
  await agent.programmed(id(n), revision, signal);
  return performance.now() - started;
}

async function setProfile(name: string, ports: number): Promise<bigint> {
  const made = networkProfile(name);
  const extra = parseRuleExpression(['allow', 'tcp', 'to', 'ports', String(ports)]);
  const spec = { ...made.spec, ingress: [...(made.spec.ingress ?? []), extra] };
  const { revision } = await writer.write(
    (draft) => draft.put('Profile', name, { ...made, spec }),
    signal,
  );
  return revision;
}

const timed = async (work: (n: number) => Promise<number>): Promise<readonly string[]> => {
  const times: number[] = [];
  for (let n = 0; n < rounds; n++) times.push(await work(n));
  return [percentile(times, 0.5).toFixed(1), percentile(times, 0.99).toFixed(1)];
};

await setProfile('web', 1);
for (let n = 0; n < many; n++) await join(n, 'web');
const known = await timed((n) => join(many + n, 'web'));
const fresh = await timed(async (n) => {
  await setProfile(`new${n}`, 80);
  return join(many + rounds + n, `new${n}`);
});
const rule = await timed(async (n) => {
  const started = performance.now();
  await agent.programmed('none', await setProfile('web', 1000 + n), signal);
  return performance.now() - started;
});
const member = await timed(async (n) => {
  const started = performance.now();
  const { revision } = await writer.write(
    (draft) =>
      draft.put('WorkloadEndpoint', `libnetwork/there-${n}`, endpoint(60_000 + n, 'web', 'there')),
    signal,
  );
  await agent.programmed('none', revision, signal);
  return performance.now() - started;
});
// Each endpoint with its own Profile.
for (let n = 0; n < many; n++) {
  await writer.write((draft) => {
    draft.put('Profile', `own${n}`, networkProfile(`own${n}`));
    draft.put('WorkloadEndpoint', `libnetwork/here-${n}`, endpoint(n, `own${n}`));
  }, signal);
}
await agent.programmed('none', mirror.revision, signal);
const freshAmongMany = await timed(async (n) => {
  await setProfile(`newer${n}`, 80);
  return join(many + 2 * rounds + n, `newer${n}`);
});
const ruleAmongMany = await timed(async (n) => {
  const started = performance.now();
  await agent.programmed('none', await setProfile('own7', 1000 + n), signal);
  return performance.now() - started;
});

// A restart: a new agent on the same kernel, with a new mirror.
const restarted = performance.now();
const second = new LiveMirror(store);
agent = startAgent(stop.signal, second);
void second.run(stop.signal);
await second.reached(0n, signal);
await agent.programmed('none', second.revision, signal);
const restart = performance.now() - restarted;
const chains =
  execFileSync(`iptables-${backend}-save`, { encoding: 'utf8', maxBuffer: 1 << 26 }).split(
    '\n:cali',
  ).length - 1;

process.stdout.write(
  table(
    [`${many} endpoints, iptables-${backend}, ${chains} chains`, 'p50 (ms)', 'p99 (ms)'],
    [
      ['new endpoint, existing policy', ...known],
      ['new endpoint, new policy', ...fresh],
      ['rule used by all endpoints: commit to kernel', ...rule],
      ['remote endpoint joins a tag: commit to kernel', ...member],
      [`with ${many} Profiles: new endpoint, new policy`, ...freshAmongMany],
      [`with ${many} Profiles: rule of one, commit to kernel`, ...ruleAmongMany],
      ['restart of the agent to in sync', restart.toFixed(0), ''],
    ],
  ),
);
stop.abort();
await monitoring;
monitor.close();
process.exit(0);
