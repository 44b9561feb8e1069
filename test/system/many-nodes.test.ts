import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { blockProtocol } from '../../src/dataplane/routes/route-classes.ts';
import { KernelAgent } from '../lab/kernel-agent.ts';
import { eventually } from '../lab/poll.ts';
import { manyNodes, manyNodesPool, putNode, type Mode } from '../lab/cluster/many-nodes.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

function ip(command: string): string {
  return execFileSync('ip', command.split(' '), { encoding: 'utf8' });
}

before(() => {
  ip('link add eth0 type veth peer name wire');
  for (const name of ['eth0', 'wire']) ip(`link set ${name} up`);
  ip(`addr add ${manyNodes.uplink} dev eth0`);
});

/** Netlink requests for the block of a node: its route; through a tunnel also the neighbour and its remote host. */
const requestsOf: Readonly<Record<Mode, number>> = { direct: 1, vxlan: 3 };

for (const mode of ['direct', 'vxlan'] as const) {
  describe(`the routes to many nodes, ${mode}`, { timeout: 600_000 }, () => {
    let lab: KernelAgent;
    before(async () => {
      lab = await KernelAgent.start('nft');
      await lab.write((draft) => draft.put('IPPool', 'many', manyNodesPool(mode)));
      await lab.write((draft) => putNode(draft, 0));
      // The routes through a tunnel wait for its interface.
      const needed = mode === 'vxlan' ? 'vxlan.calico' : 'eth0';
      assert.ok(await eventually(() => lab.kernel.routes.link(needed)?.isUp === true));
      await lab.settled();
    });
    after(async () => lab[Symbol.asyncDispose]());

    const add = async (from: number, to: number): Promise<number> => {
      const before = lab.sockets.rtnetlink.requests;
      const numbers = Array.from({ length: to - from }, (_, index) => from + index);
      await Promise.all(numbers.map((n) => lab.write((draft) => putNode(draft, n))));
      await lab.settled();
      return lab.sockets.rtnetlink.requests - before;
    };

    test('one more node costs the same requests, however many nodes there are', async () => {
      assert.equal(await add(1, 2), requestsOf[mode]);
      assert.equal(await add(2, 400), 398 * requestsOf[mode]);
      assert.equal(await add(400, 401), requestsOf[mode]);
      const routes = ip(`route show proto ${blockProtocol}`).trim().split('\n');
      assert.equal(routes.length, 401);
    });
  });
}
