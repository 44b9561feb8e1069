import { kindOf, median, table } from './measure.ts';
import { startLab, type NetworkLab } from '../test/lab/network-lab.ts';

/**
 * Measures `docker run --rm` without a network, on a bridge network, on a driver that does nothing, and on a Calico
 * network, in paired rounds of one run, and counts the work per container.
 */

const rounds = Number(process.argv[2] ?? 20);
const networks = ['none', 'bench-bridge', 'bench-empty', 'bench-calico'] as const;

await using lab = await startLab(kindOf(process.argv[3], process.argv[4]));
const { host } = lab;
host.spawn([`${process.cwd()}/node_modules/.bin/node`, `${process.cwd()}/bench/empty-driver.ts`]);
const pairs = Array.from(
  { length: rounds + 5 },
  (_, n) => `link add pool${n} type veth peer name far${n}`,
);
await host.run(['ip', '-batch', '-'], { input: `${pairs.join('\n')}\n` });
await lab.eventually(
  async () => (await host.exec(['test', '-S', '/run/docker/plugins/empty.sock'])).status === 0,
);
await lab.docker('network', 'create', 'bench-bridge');
await lab.docker('network', 'create', '-d', 'empty', 'bench-empty');
await lab.network('bench-calico');
await lab.client('stays', '--net', 'bench-calico');

const times = new Map<string, number[]>(networks.map((name) => [name, []]));
await round();
for (const list of times.values()) list.length = 0;
const before = await counters(lab);
for (let n = 0; n < rounds; n++) await round();
const after = await counters(lab);

const none = times.get('none') ?? [];
const over = (name: string) =>
  median((times.get(name) ?? []).map((time, index) => time - (none[index] ?? 0)));
process.stdout.write(
  table(
    ['network', 'docker run --rm (ms, median)', 'more than none (ms)'],
    networks.map((name) => [name, median(times.get(name) ?? []).toFixed(1), over(name).toFixed(1)]),
  ),
);
process.stdout.write(
  `\nratio calico / bridge ${(over('bench-calico') / over('bench-bridge')).toFixed(2)}, calico - empty ${(over('bench-calico') - over('bench-empty')).toFixed(1)} ms\n\n`,
);
const each = (name: string) => ((after.get(name) ?? 0) - (before.get(name) ?? 0)) / rounds;
const calls = [...after.keys()].filter((name) => name.includes('call_seconds_sum'));
process.stdout.write(
  table(
    ['per container on a Calico network, start and removal', ''],
    [
      [
        'in plugin calls (ms)',
        (calls.reduce((sum, name) => sum + each(name), 0) * 1000).toFixed(1),
      ],
      ...calls.map((name) => [
        name.replace(/.*method="(.*)".*/, '$1 (ms)'),
        (each(name) * 1000).toFixed(2),
      ]),
      [
        'CPU time of the daemon, its polls included (ms)',
        (each('process_cpu_seconds_total') * 1000).toFixed(1),
      ],
      ...['forks', 'table_transactions', 'netlink_requests', 'datastore_transactions'].map(
        (name) => [
          name.replace('_', ' ').replace('forks', 'processes'),
          each(`calico_${name}_total`).toFixed(2),
        ],
      ),
      [
        'resident memory (MB)',
        ((after.get('process_resident_memory_bytes') ?? 0) / 1e6).toFixed(0),
      ],
    ],
  ),
);

async function round(): Promise<void> {
  for (const name of networks) {
    const started = performance.now();
    await lab.docker('run', '--rm', '--net', name, 'calico-test', 'true');
    times.get(name)?.push(performance.now() - started);
  }
}

/** Returns the relevant counters of the daemon. */
async function counters(of: NetworkLab): Promise<ReadonlyMap<string, number>> {
  const text = await of.metrics();
  const wanted =
    /^(calico_(?:forks|table_transactions|netlink_requests|datastore_transactions)_total|calico_docker_call_seconds_sum\S*|process_resident_memory_bytes|process_cpu_seconds_total) (\S+)$/gm;
  return new Map([...text.matchAll(wanted)].map(([, name = '', value]) => [name, Number(value)]));
}
