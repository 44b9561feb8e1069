import { setTimeout as sleep } from 'node:timers/promises';
import { block, node, pool } from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { makeBirds, startRoutingMachine } from '../../test/lab/birds.ts';

/**
 * Measures a node-to-node mesh that comes up: `node bench/bgp.ts mesh [NODES]`. Each node is a BIRD in a network
 * namespace, on one segment, with permanent neighbours, and announces one block.
 */

const count = Number(process.argv[2] ?? 50);
const signal = AbortSignal.timeout(300_000);
const numbers = Array.from({ length: count }, (_, index) => index + 1);

await using machine = await startRoutingMachine();
const birds = await makeBirds(machine, {
  nodes: numbers.map((n) => node(`n${n}`, { ipv4Address: `172.16.0.${n}/16` })),
  pools: [pool('main', '10.65.0.0/16')],
  blocks: numbers.map((n) => block(`10.65.${n}.0/26`, `n${n}`)),
});
const begun = performance.now();
for (const bird of birds) await bird.start();
const started = performance.now();
for (const bird of birds) {
  for (;;) {
    const states = await bird.states(signal);
    if (states.filter(({ state }) => state === 'Established').length === count - 1) break;
    await sleep(20);
  }
}
const isUp = performance.now();
for (const bird of birds) while ((await bird.routes(4)).length < count - 1) await sleep(20);
const isKnown = performance.now();
const seconds = (to: number) => ((to - begun) / 1000).toFixed(2);
process.stdout.write(
  [
    `${count} nodes, ${(count * (count - 1)) / 2} sessions; seconds after the first start:`,
    `all processes run ${seconds(started)}, all sessions are established ${seconds(isUp)}, all routes are in the kernels ${seconds(isKnown)}`,
    '',
  ].join('\n'),
);
