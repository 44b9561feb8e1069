import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { bgpReport } from '../../src/bird/report.ts';
import { startCluster } from '../../test/lab/cluster/cluster.ts';
import type { ClusterHost } from '../../test/lab/cluster/cluster-host.ts';
import { oneSegment } from '../../test/lab/cluster/fabric.ts';
import { callPlugin } from '../../test/lab/plugin-client.ts';
import { applyPool } from '../hosts/lab.ts';
import { percentile } from '../measure.ts';

/**
 * Measures the time from Docker's request for an address on host 1, which needs a new block, until the route to the
 * block is in the kernel of host 3, through the route reflector host 2: `node bench/bgp.ts latency [BLOCKS]`. It
 * includes the allocation and, on host 1, BIRD's check of its configuration.
 */

/** A host has at most 20 blocks. */
const count = Number(process.argv[2] ?? 15);
const addressesOfBlock = 4;

await using cluster = await startCluster({ topology: oneSegment(3), routers: true });
const [first, second, third] = cluster.hosts;
if (first === undefined || second === undefined || third === undefined) {
  throw new Error('three hosts are required');
}
await applyPool(first, { name: 'small', cidr: '10.66.0.0/16', mode: 'direct', blockSize: 30 });
await first.calico('bgp', 'enable');
await established([first, third], 4);
await first.calico('bgp', 'reflector', 'add', 'host-2');
await first.calico('bgp', 'mesh', 'off');
await established([first, third], 2);

/** When a route to a block appeared on host 3. */
const seen = new Map<string, number>();
const monitor = spawn('nsenter', [
  `--net=${third.host.path('/proc/1/ns/net')}`,
  'ip',
  'monitor',
  'route',
]);
createInterface({ input: monitor.stdout }).on('line', (line) => {
  const [, net = ''] = /^(10\.66\.\S+\/30) via \S+ .*proto bird/.exec(line) ?? [];
  seen.set(net, performance.now());
});
await sleep(2000);

const socket = first.host.path('/run/docker/plugins/calico.sock');
const call = async (method: string, asked: Readonly<Record<string, unknown>>) => {
  const { status, text, body } = await callPlugin(socket, method, asked);
  if (status !== 200) throw new Error(text);
  return body;
};
const { PoolID } = await call('IpamDriver.RequestPool', {
  AddressSpace: 'CalicoAddressSpace',
  Pool: '10.66.0.0/16',
  SubPool: '',
  Options: null,
  V6: false,
});
const times: number[] = [];
const known = new Set<string>();
while (times.length < count) {
  const begun = performance.now();
  const answer = await call('IpamDriver.RequestAddress', { PoolID, Address: '', Options: {} });
  const address = z
    .string()
    .parse(answer['Address'])
    .replace(/\/\d+$/, '');
  const [, , c = '0', d = '0'] = address.split('.');
  const net = `10.66.${c}.${Number(d) & ~(addressesOfBlock - 1)}/30`;
  if (known.has(net)) continue;
  known.add(net);
  while (!seen.has(net)) await sleep(1);
  times.push((seen.get(net) ?? Number.NaN) - begun);
}
monitor.kill();
const [p50, p99] = [0.5, 0.99].map((at) => percentile(times, at).toFixed(1));
process.stdout.write(
  `${count} new blocks of host 1, in the kernel of host 3 through reflector host 2: ${p50} ms p50, ${p99} ms p99\n`,
);

async function established(hosts: readonly ClusterHost[], sessions: number): Promise<void> {
  for (const host of hosts) {
    for (;;) {
      const { stdout } = await host.tryCalico('bgp', 'status', '-o', 'json');
      const report = stdout === '' ? undefined : bgpReport.parse(JSON.parse(stdout));
      const up = report?.sessions.filter(({ state }) => state === 'Established').length ?? 0;
      if (up === sessions && up === report?.sessions.length) break;
      await sleep(200);
    }
  }
}
