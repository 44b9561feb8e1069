import { configText } from '../../src/bird/config-text.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import {
  block,
  configuration,
  inputsOf,
  node,
  pool,
} from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../../src/routing/bgp/bgp-model.ts';

/** CPU time to derive and render the configuration of BIRD on one of many nodes: `node bench/bgp.ts render [NODES]`. */

const count = Number(process.argv[2] ?? 1000);
const rounds = 20;

const nodes = Array.from({ length: count }, (_, index) =>
  node(index === 0 ? 'a' : `node-${index}`, {
    ipv4Address: `172.16.${Math.floor(index / 250)}.${1 + (index % 250)}/16`,
  }),
);
const inputs = {
  ...inputsOf({
    nodes,
    configurations: [configuration('default', {})],
    pools: [pool('main', '10.64.0.0/12')],
    blocks: Array.from({ length: 16 }, (_, index) => block(`10.65.${index}.0/26`, 'a')),
  }),
  connected: [parseCidr('172.16.0.0/16')],
};

const times = Array.from({ length: rounds }, () => {
  const begun = process.cpuUsage();
  const text = configText(bgpModel(inputs), {
    logFile: '/run/calico/bird.log',
    foreignProtocols: [80, 81, 82],
    families: [4, 6],
    programsKernel: true,
  });
  const { user, system } = process.cpuUsage(begun);
  return { ms: (user + system) / 1000, bytes: text.length };
}).toSorted((a, b) => a.ms - b.ms);

const median = times[rounds / 2];
console.log(
  `${count} nodes: ${median?.bytes ?? 0} bytes, median CPU time ${median?.ms.toFixed(1) ?? ''} ms, slowest ${times.at(-1)?.ms.toFixed(1) ?? ''} ms of ${rounds}`,
);
