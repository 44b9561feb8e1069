import { startLab } from '../test/lab/network-lab.ts';
import { kindOf, median, table } from './measure.ts';

/**
 * Measures published ports on a Calico network and on a bridge network in one run: 206 ports on one container, and one
 * more container with one port in addition to none and to 500 published ports; with the daemon's counters.
 */

const rounds = Number(process.argv[2] ?? 5);
const networks = ['bench-bridge', 'bench-calico'] as const;
const many = 206;
const perContainer = 50;
const containers = 10;
const timeoutMs = 300_000;

await using lab = await startLab(kindOf(process.argv[3], process.argv[4]));
await lab.docker('network', 'create', 'bench-bridge');
await lab.network('bench-calico');
await lab.client('stays', '--net', 'bench-calico');

const rows: string[][] = [];
const empty = await oneMore('no other ports');
await wide();
for (const [index, network] of networks.entries()) {
  for (let n = 0; n < containers; n++) {
    const first = 20_000 + index * 10_000 + n * perContainer;
    const ports = `${first}-${first + perContainer - 1}:1-${perContainer}`;
    await run(`${network}-${n}`, network, ports);
  }
}
const full = await oneMore(`${containers * perContainer} others`);
process.stdout.write(
  table(
    [
      'docker run and rm -f',
      'network',
      'ms (median)',
      'processes',
      'transactions',
      'netlink',
      'datastore',
    ],
    rows,
  ),
);
process.stdout.write(
  `\none more container, ratio of ${containers * perContainer} other ports to none: ${networks
    .map((network) => `${network.replace('bench-', '')} ${ratio(network)}`)
    .join(', ')}\n`,
);

/** Starts and removes a container with one port several times. */
async function oneMore(others: string): Promise<ReadonlyMap<string, number>> {
  return measure(`1 port, ${others}`, '8080:80', rounds);
}

async function wide(): Promise<void> {
  await measure(
    `${many} ports`,
    `9000-${9000 + many - 1}:9000-${9000 + many - 1}`,
    Math.min(rounds, 3),
  );
}

async function measure(
  what: string,
  ports: string,
  times: number,
): Promise<ReadonlyMap<string, number>> {
  const spent = new Map<string, number[]>(networks.map((network) => [network, []]));
  const work: number[] = [0, 0, 0, 0];
  for (let n = 0; n < times; n++) {
    for (const network of networks) {
      const before = await counters();
      const took = await once(network, ports);
      spent.get(network)?.push(took);
      if (network === 'bench-bridge') continue;
      for (const [index, count] of (await counters()).entries()) {
        work[index] = (work[index] ?? 0) + count - (before[index] ?? 0);
      }
    }
  }
  const medians = new Map(networks.map((network) => [network, median(spent.get(network) ?? [])]));
  for (const network of networks) {
    const counted = work.map((count) => (count / times).toFixed(1));
    rows.push([
      what,
      network.replace('bench-', ''),
      (medians.get(network) ?? 0).toFixed(0),
      ...(network === 'bench-calico' ? counted : ['', '', '', '']),
    ]);
  }
  return medians;
}

async function once(network: string, ports: string): Promise<number> {
  const started = performance.now();
  await run('measured', network, ports);
  await lab.host.run(['docker', 'rm', '-f', 'measured'], { timeoutMs });
  return performance.now() - started;
}

/** A bridge network needs a minute for some hundred ports. */
async function run(name: string, network: string, ports: string): Promise<void> {
  const argv = ['run', '-d', '--name', name, '--net', network, '-p', ports, 'calico-test'];
  await lab.host.run(['docker', ...argv], { timeoutMs });
}

function ratio(network: string): string {
  return ((full.get(network) ?? 0) / (empty.get(network) ?? 1)).toFixed(2);
}

/** Returns the numbers of forks, table transactions, netlink requests and datastore transactions since the start. */
async function counters(): Promise<readonly number[]> {
  const text = await lab.metrics();
  return ['forks', 'table_transactions', 'netlink_requests', 'datastore_transactions'].map((name) =>
    Number(new RegExp(`^calico_${name}_total (\\S+)$`, 'm').exec(text)?.[1]),
  );
}
