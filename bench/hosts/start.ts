import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { startCluster } from '../../test/lab/cluster/cluster.ts';
import type { ClusterHost } from '../../test/lab/cluster/cluster-host.ts';
import { EngineApi } from '../../test/lab/engine-api.ts';
import { oneSegment, twoSubnets } from '../../test/lab/cluster/fabric.ts';
import { percentile, table } from '../measure.ts';
import { applyPool, namespaceOf } from './lab.ts';

/**
 * Measures when a container that starts on host 1 is reachable from a container on host 3: echo requests, one every
 * 20 ms, from the moment that Docker has responded to the start and the address is read, until the first reply. And
 * whether the first packet of a new container to one on host 3 is answered. Blocks have four addresses, so that many
 * containers are the first of a new block.
 */

const count = Number(process.argv[2] ?? 40);
const engine = process.argv[3] === '20.10' ? '20.10' : '28.5';
const mode = process.argv[4] === 'vxlan' ? 'vxlan' : 'direct';
const topology = mode === 'vxlan' ? twoSubnets(2, 1) : oneSegment(3);

await using cluster = await startCluster({ topology, docker: engine });
const [first, , third] = cluster.hosts;
if (first === undefined || third === undefined) throw new Error('three hosts are required');
await applyPool(first, { name: 'small', cidr: '10.66.0.0/16', mode, blockSize: 30 });
await cluster.network('web', { subnet: '10.66.0.0/16', ipv6: false });
const far = await third.run('far', { network: 'web' });
const api = new EngineApi(first.host.path('/run/docker.sock'));
const echo = spawn('nsenter', [
  `--net=${await namespaceOf(third, 'far')}`,
  'python3',
  `${import.meta.dirname}/ends.py`,
  'echo',
]);
const lines = createInterface({ input: echo.stdout })[Symbol.asyncIterator]();
await lines.next();

interface Start {
  readonly isFirstOfBlock: boolean;
  readonly requests: number;
  readonly ms: number;
  /** From the response of Docker to the first request. */
  readonly readMs: number;
  readonly isFirstPacketAnswered: boolean;
}

const blocks = new Set<number>();
const starts: Start[] = [];
for (let n = 0; n < count; n++) starts.push(await start(first, n));
echo.stdin.end();
const rows = [true, false].map((isFirst) => {
  const some = starts.filter(({ isFirstOfBlock }) => isFirstOfBlock === isFirst);
  const share = (is: (one: Start) => boolean) => `${some.filter(is).length} of ${some.length}`;
  const ms = (of: (one: Start) => number) =>
    [0.5, 0.99].map((at) => percentile(some.map(of), at).toFixed(1)).join(', ');
  return [
    isFirst ? 'first container of a block' : 'other containers',
    share(({ requests }) => requests === 1),
    ms(({ readMs }) => readMs),
    ms((one) => one.ms),
    share(({ isFirstPacketAnswered }) => isFirstPacketAnswered),
  ];
});
process.stdout.write(
  table(
    [
      `docker run on host 1, Docker ${engine}, ${mode}`,
      'first echo request from host 3 answered',
      'sent after the start (ms: p50, p99)',
      'until the reply (ms: p50, p99)',
      'its own first packet to host 3 answered',
    ],
    rows,
  ),
);

async function start(host: ClusterHost, n: number): Promise<Start> {
  // Its first process sends one request at once, and then waits.
  const ping = `ping -c 1 -W 2 ${far.addresses[0] ?? ''} >/dev/null && touch /answered; exec sleep 1000`;
  const created = z.object({ Id: z.string() }).parse(
    await api.call('POST', `/containers/create?name=c${n}`, {
      Image: 'calico-test',
      Cmd: ['sh', '-c', ping],
      HostConfig: { NetworkMode: 'web' },
    }),
  );
  await api.call('POST', `/containers/${created.Id}/start`);
  const began = performance.now();
  const { NetworkSettings } = z
    .object({
      NetworkSettings: z.object({
        Networks: z.object({ web: z.object({ IPAddress: z.string() }) }),
      }),
    })
    .parse(await api.call('GET', `/containers/${created.Id}/json`));
  const address = NetworkSettings.Networks.web.IPAddress;
  const readMs = performance.now() - began;
  echo.stdin.write(`${address}\n`);
  const [requests = 0, ms = 0] = String((await lines.next()).value)
    .split(' ')
    .map(Number);
  const block = Number(address.split('.')[2]) * 64 + (Number(address.split('.')[3]) >> 2);
  const isFirstOfBlock = !blocks.has(block);
  blocks.add(block);
  const wait =
    'for i in 1 2 3 4 5 6 7 8 9 10; do test -e /answered && exit; sleep 0.1; done; exit 1';
  const { status } = await host.exec(['docker', 'exec', `c${n}`, 'sh', '-c', wait]);
  return { isFirstOfBlock, requests, ms, readMs, isFirstPacketAnswered: status === 0 };
}
