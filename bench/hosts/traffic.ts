import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { startCluster } from '../../test/lab/cluster/cluster.ts';
import type { ClusterHost } from '../../test/lab/cluster/cluster-host.ts';
import { oneSegment } from '../../test/lab/cluster/fabric.ts';
import { words } from '../../test/lab/words.ts';
import { median, table } from '../measure.ts';
import { applyPool, namespaceOf } from './lab.ts';

/**
 * Measures throughput, round trips and small packets between containers on two hosts, with the policy of their network:
 * by plain routes, through VXLAN and, in a kernel that has it, IP-in-IP, between the hosts themselves, and on an overlay
 * network of Docker. The paths take turns; the figures are medians.
 */

const rounds = Number(process.argv[2] ?? 7);
const seconds = Number(process.argv[3] ?? 1);
const engine = process.argv[4] === '20.10' ? '20.10' : '28.5';

const measured = z.object({
  bitsPerSecond: z.number(),
  roundTripUs: z.number(),
  datagramsPerSecond: z.number(),
  /** CPU time of both ends, with what the kernel does in their place. */
  nsPerKilobyte: z.number(),
  usPerDatagram: z.number(),
  /** Of a flow that the receiver never answers: policy judges each of its packets. */
  usPerUnansweredDatagram: z.number(),
});
type Measured = z.infer<typeof measured>;

interface Path {
  readonly name: string;
  readonly client: string;
  readonly server: string;
  readonly address: string;
}

const children: ChildProcess[] = [];
await using cluster = await startCluster({ topology: oneSegment(2), docker: engine });
const [first, second] = cluster.hosts;
if (first === undefined || second === undefined) throw new Error('two hosts are required');
const own = (host: ClusterHost) => host.host.path('/proc/1/ns/net');
const paths: readonly Path[] = [
  {
    name: 'host to host',
    client: own(first),
    server: own(second),
    address: second.place.address,
  },
  await calicoPath('plain route', 'direct', '10.66.0.0/16'),
  await calicoPath('VXLAN', 'vxlan', '10.67.0.0/16'),
  ...(await ipipPath()),
  ...(await overlayPath()),
];
try {
  for (const { server } of paths) await serve(server);
  const results = new Map<string, Measured[]>();
  for (let round = 0; round < rounds; round++) {
    // The first round is the warm-up.
    for (const path of paths) {
      const figures = await measure(path, round === 0 ? 0.2 : seconds);
      if (round > 0) results.set(path.name, [...(results.get(path.name) ?? []), figures]);
    }
  }
  print(results);
} finally {
  for (const child of children) child.kill('SIGKILL');
}

function print(results: ReadonlyMap<string, readonly Measured[]>): void {
  const base = results.get('host to host') ?? [];
  const rows = [...results].map(([name, figures]) => {
    const of = (field: keyof Measured) => median(figures.map((one) => one[field]));
    // Of the same round, because the load of the machine changes.
    const ratio = (field: keyof Measured) =>
      median(figures.map((one, round) => one[field] / (base[round]?.[field] ?? Number.NaN)));
    const more = median(
      figures.map((one, round) => one.roundTripUs - (base[round]?.roundTripUs ?? Number.NaN)),
    );
    return [
      name,
      `${(of('bitsPerSecond') / 1e9).toFixed(2)} (${ratio('bitsPerSecond').toFixed(2)})`,
      `${of('roundTripUs').toFixed(1)} (${more.toFixed(1)} more)`,
      `${(of('datagramsPerSecond') / 1000).toFixed(0)} (${ratio('datagramsPerSecond').toFixed(2)})`,
      `${of('nsPerKilobyte').toFixed(0)} (${ratio('nsPerKilobyte').toFixed(2)})`,
      `${of('usPerDatagram').toFixed(1)} (${ratio('usPerDatagram').toFixed(2)})`,
      `${of('usPerUnansweredDatagram').toFixed(1)} (${ratio('usPerUnansweredDatagram').toFixed(2)})`,
    ];
  });
  process.stdout.write(
    table(
      [
        `Docker ${engine}, ${rounds - 1} rounds of ${seconds} s`,
        'TCP (Gbit/s)',
        'round trip (µs)',
        'datagrams of 64 bytes (1000/s)',
        'CPU per kB of TCP (ns)',
        'CPU per datagram (µs)',
        'CPU per unanswered datagram (µs)',
      ],
      rows,
    ),
  );
}

/** Returns no path if this kernel has no IP-in-IP. */
async function ipipPath(): Promise<readonly Path[]> {
  if (first === undefined) throw new Error('two hosts are required');
  const add = 'ip link show tunl0 || { ip link add name probe type ipip && ip link delete probe; }';
  const { status } = await first.exec(['sh', '-c', add]);
  return status === 0 ? [await calicoPath('IP-in-IP', 'ipip', '10.69.0.0/16')] : [];
}

async function calicoPath(
  name: string,
  mode: 'direct' | 'vxlan' | 'ipip',
  cidr: string,
): Promise<Path> {
  if (first === undefined || second === undefined) throw new Error('two hosts are required');
  await applyPool(first, { name: mode, cidr, mode });
  await cluster.network(mode, { subnet: cidr, ipv6: false });
  await first.run(`${mode}-client`, { network: mode });
  const { addresses } = await second.run(`${mode}-server`, { network: mode });
  const client = await namespaceOf(first, `${mode}-client`);
  const server = await namespaceOf(second, `${mode}-server`);
  const address = addresses[0] ?? '';
  await first.host.docker(...words`exec ${`${mode}-client`} ping -c 1 -w 20 ${address}`);
  return { name, client, server, address };
}

/** Returns no path if this machine cannot have overlay networks. */
async function overlayPath(): Promise<readonly Path[]> {
  if (first === undefined || second === undefined) throw new Error('two hosts are required');
  try {
    await first.host.docker(...words`swarm init --advertise-addr ${first.place.address}`);
    const token = await first.host.docker('swarm', 'join-token', '-q', 'worker');
    await second.host.docker(...words`swarm join --token ${token} ${first.place.address}:2377`);
    await first.host.docker(
      ...words`network create -d overlay --attachable --subnet 10.68.0.0/16 overlay`,
    );
    const run = (host: ClusterHost, name: string) =>
      host.host.docker(...words`run -d --name ${name} --net overlay calico-test sleep 10000`);
    await run(first, 'overlay-client');
    await run(second, 'overlay-server');
    const address = await second.host.docker(
      'inspect',
      '-f',
      '{{.NetworkSettings.Networks.overlay.IPAddress}}',
      'overlay-server',
    );
    const client = await namespaceOf(first, 'overlay-client');
    await first.host.docker(...words`exec overlay-client ping -c 1 -w 20 ${address}`);
    const server = await namespaceOf(second, 'overlay-server');
    return [{ name: "Docker's overlay", client, server, address }];
  } catch (error) {
    process.stderr.write(`no overlay network: ${String(error)}\n`);
    return [];
  }
}

function run(namespace: string, ...argv: readonly string[]) {
  const child = spawn(
    'nsenter',
    [
      `--net=${namespace}`,
      'setpriv',
      '--pdeathsig',
      'KILL',
      '--',
      'python3',
      `${import.meta.dirname}/ends.py`,
      ...argv,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  children.push(child);
  return child;
}

async function serve(namespace: string): Promise<void> {
  const { stdout } = run(namespace, 'serve');
  await once(stdout, 'data');
}

async function measure({ client, address }: Path, duration: number): Promise<Measured> {
  const { stdout } = run(client, 'measure', address, String(duration));
  return measured.parse(JSON.parse(await text(stdout)));
}
