import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'node:test';
import {
  block,
  configuration,
  node,
  peer,
  pool,
  type Case,
} from '../../src/routing/bgp/bgp-cases.fixture.ts';
import type { IpFamily } from '../../src/ip/address.ts';
import { makeBirds, startRoutingMachine } from '../lab/birds.ts';
import type { Node } from '../../src/model/kinds/node.ts';

const six = (n: number) => ({ ipv6Address: `2001:db8::${n}/64` });
const four = (n: number) => ({ ipv4Address: `172.16.0.${n}/16` });
const noMesh = configuration('default', { nodeToNodeMeshEnabled: false });
const pools = [pool('main', '10.65.0.0/16'), pool('six', 'fd00:65::/48')];

/** The configuration of nodes as BIRDs alone; each of a name that is one letter announces a block. */
describe('BIRDs with the configuration of nodes', { timeout: 300_000 }, () => {
  /** Every node with a block gets to those of all others. */
  async function allReach(family: IpFamily, given: Case & { readonly nodes: readonly Node[] }) {
    await using machine = await startRoutingMachine();
    const birds = await makeBirds(machine, { ...given, pools });
    for (const bird of birds) await bird.start();
    const nets = new Map(given.blocks?.map(({ cidr, host }) => [host, cidr]));
    const deadline = Date.now() + 60_000;
    for (const bird of birds) {
      const { name } = bird;
      const others = [...nets].flatMap(([host, net]) => (host === name ? [] : [net])).toSorted();
      let found = await bird.routes(family);
      while (found.length < others.length && Date.now() < deadline) {
        await sleep(200);
        found = await bird.routes(family);
      }
      assert.deepEqual(found.toSorted(), others, name);
    }
  }

  test('reflectors of two clusters reflect to each other, and each to its clients', () =>
    allReach(4, {
      // a and b are clients of east, c of west; the clients of a cluster have no session with the other one.
      nodes: [
        node('a', four(1), { zone: 'east' }),
        node('b', four(2), { zone: 'east' }),
        node('c', four(3), { zone: 'west' }),
        node('east', { ...four(11), routeReflectorClusterID: '1.0.0.1' }, { rr: 'east' }),
        node('west', { ...four(12), routeReflectorClusterID: '1.0.0.2' }, { rr: 'west' }),
      ],
      configurations: [noMesh],
      peers: [
        peer('east', { nodeSelector: "zone == 'east'", peerSelector: "rr == 'east'" }),
        peer('west', { nodeSelector: "zone == 'west'", peerSelector: "rr == 'west'" }),
        peer('reflectors', { nodeSelector: 'has(rr)', peerSelector: 'has(rr)' }),
      ],
      blocks: [block('10.65.1.0/26', 'a'), block('10.65.2.0/26', 'b'), block('10.65.3.0/26', 'c')],
    }));

  test('reflectors that are clients of a reflector above them, and two in one cluster', () =>
    allReach(4, {
      nodes: [
        node('a', four(1), { zone: 'east' }),
        node('b', four(2), { zone: 'west' }),
        node('east-1', { ...four(11), routeReflectorClusterID: '1.0.0.1' }, { rr: 'east' }),
        node('east-2', { ...four(12), routeReflectorClusterID: '1.0.0.1' }, { rr: 'east' }),
        node('west', { ...four(13), routeReflectorClusterID: '1.0.0.2' }, { rr: 'west' }),
        node('top', { ...four(14), routeReflectorClusterID: '1.0.0.9' }, { top: '' }),
      ],
      configurations: [noMesh],
      peers: [
        peer('east', { nodeSelector: "zone == 'east'", peerSelector: "rr == 'east'" }),
        peer('west', { nodeSelector: "zone == 'west'", peerSelector: "rr == 'west'" }),
        peer('top', { nodeSelector: 'has(rr)', peerSelector: 'has(top)' }),
      ],
      blocks: [block('10.65.1.0/26', 'a'), block('10.65.2.0/26', 'b')],
    }));

  test('nodes with IPv6 addresses only exchange the blocks of IPv6 pools', () =>
    allReach(6, {
      nodes: [node('a', six(1)), node('b', six(2)), node('c', six(3))],
      blocks: [
        block('fd00:65::/122', 'a'),
        block('fd00:65::40/122', 'b'),
        block('fd00:65::80/122', 'c'),
      ],
    }));
});
