import { writeFileSync } from 'node:fs';
import { configText } from '../../src/bird/config-text.ts';
import {
  block,
  configuration,
  inputsOf,
  node,
  peer,
  pool,
  type Case,
} from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../../src/routing/bgp/bgp-model.ts';
import { startRoutingMachine } from '../../test/lab/birds.ts';
import { median } from '../measure.ts';

/**
 * Time until BIRD has checked the configuration of one of many nodes, and until it has loaded one in which a peer has
 * changed: `node bench/bgp.ts load [NODES]`. No other node is there.
 */

const count = Number(process.argv[2] ?? 1000);
const rounds = 7;

const resources: Case = {
  nodes: Array.from({ length: count }, (_, index) =>
    node(index === 0 ? 'a' : `node-${index}`, {
      ipv4Address: `172.16.${Math.floor(index / 250)}.${1 + (index % 250)}/16`,
    }),
  ),
  configurations: [configuration('default', {})],
  pools: [pool('main', '10.64.0.0/12')],
  blocks: Array.from({ length: 16 }, (_, index) => block(`10.65.${index}.0/26`, 'a')),
  connected: ['172.16.0.0/16'],
};

await using machine = await startRoutingMachine();
await machine.run(['sh', '-e'], {
  input:
    'ip link add e0 type veth peer name e1\nip address add 172.16.0.1/16 dev e0\nip link set e0 up\nip link set e1 up\n',
});
const file = '/run/bird.conf';
const times: Record<'check' | 'load', number[]> = { check: [], load: [] };
const timed = async (what: keyof typeof times, argv: readonly string[]) => {
  const begun = performance.now();
  await machine.run(argv);
  times[what].push(performance.now() - begun);
};
for (let round = 0; round <= rounds; round++) {
  const router = peer('router', { peerIP: '172.16.200.1', asNumber: 65_000 + round });
  const text = configText(bgpModel(inputsOf({ ...resources, peers: [router] })), {
    logFile: '/run/bird.log',
    foreignProtocols: [80, 81, 82],
    families: [4, 6],
    programsKernel: true,
  });
  writeFileSync(machine.path(file), text);
  await timed('check', ['bird', '-p', '-c', file]);
  if (round === 0) await machine.run(['bird', '-c', file, '-s', '/run/bird.ctl']);
  else await timed('load', ['birdc', '-s', '/run/bird.ctl', 'configure']);
}
console.log(
  `${count} nodes: checked in ${median(times.check).toFixed(0)} ms, loaded in ${median(times.load).toFixed(0)} ms (medians of ${rounds})`,
);
