import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent } from '../../src/agent/agent.ts';
import { openDrivers } from '../../src/agent/kernel.ts';
import { Supervisor } from '../../src/async/supervise.ts';
import { nodeScope } from '../../src/cache/cache-scope.ts';
import { GroupWriter } from '../../src/cache/group-writer.ts';
import { LiveMirror } from '../../src/cache/live-mirror.ts';
import { HostPortReservations } from '../../src/dataplane/host-ports/host-port-reservations.ts';
import { Ipv6Forwarding } from '../../src/dataplane/host-settings.ts';
import { listRoutes } from '../../src/dataplane/netlink/route.ts';
import { blockProtocol } from '../../src/dataplane/routes/route-classes.ts';
import { openKernelSockets } from '../../src/dataplane/kernel-sockets.ts';
import { KernelMonitor } from '../../src/dataplane/netlink/monitor.ts';
import { ToolRunner } from '../../src/dataplane/process.ts';
import type { Datastore } from '../../src/datastore/datastore.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { createLogger } from '../../src/telemetry/log.ts';
import {
  manyNodes,
  manyNodesPool,
  nodeName,
  putNode,
  type Mode,
} from '../../test/lab/cluster/many-nodes.ts';
import { enterNewNamespace } from '../../test/lab/namespace.ts';
import { percentile, table } from '../measure.ts';

/**
 * Measures the agent's routes to the blocks of many nodes: at the start of the agent, at its restart with the routes in
 * the kernel, and for one more node. The netlink requests are those for links, addresses, neighbours and routes.
 */

const nodes = Number(process.argv[2] ?? 1000);
const rounds = Number(process.argv[3] ?? 50);
const signal = AbortSignal.timeout(300_000);
const namespace = enterNewNamespace();
process.once('exit', () => namespace[Symbol.dispose]());
const log = createLogger({
  level: 'warn',
  write: (line) => process.stderr.write(line),
  now: () => new Date(),
});
const ip = (text: string) => execFileSync('ip', text.split(' '), { encoding: 'utf8' });
ip('link add eth0 type veth peer name wire');
for (const link of ['eth0', 'wire']) ip(`link set ${link} up`);
ip(`addr add ${manyNodes.uplink} dev eth0`);

interface Cost {
  readonly ms: number;
  readonly processorMs: number;
  readonly requests: number;
}

const reading = openKernelSockets().rtnetlink;
const rows: string[][] = [];
for (const mode of ['direct', 'vxlan'] as const) rows.push(...(await measure(mode)));
process.stdout.write(
  table([`${nodes} nodes with one block each`, 'ms', 'CPU time (ms)', 'netlink requests'], rows),
);
process.exit(0);

async function measure(mode: Mode): Promise<readonly string[][]> {
  const store = await openDatastore({ kind: 'sqlite', file: ':memory:' });
  const filling = new AbortController();
  const filled = new LiveMirror(store);
  void filled.run(filling.signal);
  await filled.reached(0n, signal);
  const writer = new GroupWriter(filled);
  await writer.write((draft) => draft.put('IPPool', 'many', manyNodesPool(mode)), signal);
  await Promise.all(
    Array.from({ length: nodes }, (_, n) => writer.write((draft) => putNode(draft, n), signal)),
  );
  const first = await start(store);
  const more: Cost[] = [];
  for (let n = nodes; n < nodes + rounds; n++) {
    more.push(
      await first.cost(async () => {
        const { revision } = await writer.write((draft) => putNode(draft, n), signal);
        await first.agent.programmed('none', revision, signal);
      }),
    );
  }
  await first.stop();
  const second = await start(store);
  await second.stop();
  ip(`route flush proto ${blockProtocol}`);
  filling.abort();
  await store.close();
  const requests = more.map((one) => one.requests);
  const ms = (share: number) =>
    percentile(
      more.map((one) => one.ms),
      share,
    ).toFixed(1);
  return [
    [`${mode}: start of the agent, list read to programmed`, ...shown(first.started)],
    [`${mode}: restart with all routes in the kernel`, ...shown(second.started)],
    [
      `${mode}: one more node, commit to programmed (p50, p99)`,
      `${ms(0.5)}, ${ms(0.99)}`,
      percentile(
        more.map((one) => one.processorMs),
        0.5,
      ).toFixed(1),
      `${percentile(requests, 0.5)} (at most ${Math.max(...requests)})`,
    ],
  ];
}

function shown({ ms, processorMs, requests }: Cost): readonly string[] {
  return [ms.toFixed(0), processorMs.toFixed(0), String(requests)];
}

/** Starts an agent on a datastore as the daemon does; resolves when all is programmed. */
async function start(store: Datastore) {
  const stopping = new AbortController();
  const sockets = openKernelSockets();
  const mirror = new LiveMirror(store, undefined, undefined, undefined, nodeScope(nodeName(0)));
  const agent = new Agent({
    node: nodeName(0),
    mirror,
    log,
    supervisor: new Supervisor({ onFailure: ({ error }) => log.warn(String(error)) }),
    drivers: openDrivers({
      sockets,
      runner: new ToolRunner(),
      chosen: { backend: 'nft', why: 'chosen for the benchmark' },
      families: [4, 6],
    }),
    hostPorts: new HostPortReservations(sockets.libc),
    families: [4, 6],
    statics: { endpointToHostAction: 'Return' },
    ipv6Forwarding: new Ipv6Forwarding('/run/calico-bench/control.sock'),
    resolvesNames: true,
    endsForbiddenFlows: false,
  });
  const cost = async (work: () => Promise<void>): Promise<Cost> => {
    const [began, processor, requests] = [
      performance.now(),
      process.cpuUsage(),
      sockets.rtnetlink.requests,
    ];
    await work();
    const { user, system } = process.cpuUsage(processor);
    return {
      ms: performance.now() - began,
      processorMs: (user + system) / 1000,
      requests: sockets.rtnetlink.requests - requests,
    };
  };
  agent.start(stopping.signal);
  const monitor = new KernelMonitor(sockets.libc, (events) => agent.onKernelEvents(events));
  const monitoring = monitor.run(stopping.signal);
  const following = mirror.run(stopping.signal);
  await mirror.reached(0n, signal);
  const started = await cost(async () => {
    await agent.programmed('none', mirror.revision, signal);
    // Routes through a tunnel wait for its interface.
    while (listRoutes(reading, { family: 4, protocol: blockProtocol }).length < nodes) {
      signal.throwIfAborted();
      await sleep(5);
    }
  });
  return {
    agent,
    started,
    cost,
    stop: async () => {
      stopping.abort();
      await Promise.all([monitoring, following]);
      monitor.close();
    },
  };
}
