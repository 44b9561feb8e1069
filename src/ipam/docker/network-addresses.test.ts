import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { endpointName } from '../../model/kinds/workload-endpoint.ts';
import { nodes, withIpam, type Lab, labNamespace } from '../ipam-lab.fixture.ts';
import { checkIpam } from '../maintenance/report.ts';
import { addressSpace, swarmAddressSpace } from './network-addresses.ts';

type Subnet = Parameters<Lab['plans']['adoptSubnets']>[1]['subnets'][number];

function subnetOf(cidr: string, more: Partial<Subnet> = {}): Subnet {
  return {
    family: cidr.includes(':') ? 6 : 4,
    addressSpace: undefined,
    cidr: parseCidr(cidr),
    gateway: undefined,
    auxiliary: {},
    ...more,
  };
}

/** CreateNetwork; returns the network with its IPAM data. */
async function create(
  lab: Lab,
  id: string,
  subnets: readonly Subnet[],
  node = 'host-a',
): Promise<DockerNetwork> {
  return lab.plan((draft) => {
    const adopted = lab.plans.adoptSubnets(draft, { node, networkId: id, subnets });
    const network: DockerNetwork = {
      id,
      node,
      ipam: adopted.ipam,
      internal: false,
      ipv4: true,
      ipv6: true,
      subnets: [...adopted.subnets],
      options: {},
      ...(adopted.nextHop4 === undefined ? {} : { nextHop4: adopted.nextHop4 }),
      ...(adopted.nextHop6 === undefined ? {} : { nextHop6: adopted.nextHop6 }),
    };
    draft.put('DockerNetwork', `${node}/${id}`, network);
    return network;
  });
}

function pools(lab: Lab): readonly string[] {
  return [...lab.mirror.list('IPPool').values()].map(({ value }) => value.spec.cidr).toSorted();
}

async function bind(
  lab: Lab,
  network: DockerNetwork,
  endpointId: string,
  address: string,
): Promise<void> {
  const { node } = network;
  const addresses = [parseAddress(address)];
  await lab.plan((draft) => {
    lab.plans.bindEndpoint(draft, { node, network, endpointId, addresses });
    const name = endpointName(node, endpointId);
    draft.put('WorkloadEndpoint', `${labNamespace}/${name}`, {
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name, namespace: labNamespace },
      spec: {
        node,
        endpoint: endpointId,
        interfaceName: 'cali0',
        orchestrator: 'libnetwork',
        ipNetworks: [parseNet(`${address}/32`)],
      },
    });
  });
}

test("a subnet chosen by Docker's own IPAM is a pool of that host, and deleted with the network", () =>
  withIpam(async (lab) => {
    const network = await create(lab, 'n1', [
      subnetOf('172.30.0.0/24', { gateway: parseAddress('172.30.0.1') }),
      subnetOf('fd00:30::/64'),
    ]);
    assert.equal(network.ipam, 'docker');
    assert.deepEqual(network.subnets, [
      { family: 4, cidr: '172.30.0.0/24', gateway: '172.30.0.1' },
      { family: 6, cidr: 'fd00:30::/64' },
    ]);
    assert.equal(network.nextHop4, '172.30.0.1');
    assert.match(network.nextHop6 ?? '', /^fe80::/);
    const { metadata } = lab.mirror.get('IPPool', 'subnet-172-30-0-0-24')?.value ?? assert.fail();
    assert.deepEqual(metadata.annotations, { 'docker.projectcalico.org/host-local': 'host-a' });
    // No other network can use the subnet, on this host or another.
    await assert.rejects(lab.pool('host-b', '172.30.0.0/25'), { code: 'ipam/subnet-overlaps' });
    await assert.rejects(create(lab, 'n2', [subnetOf('172.30.0.128/25')], 'host-b'), {
      message:
        /Docker chose subnet 172\.30\.0\.128\/25, which belongs to a network of host host-a \(172/,
    });
    await assert.rejects(create(lab, 'n2', [subnetOf('10.65.0.0/25')]), {
      message: /which belongs to IP pool default-ipv4-ippool \(10\.65\.0\.0\/26\)/,
    });
    await assert.rejects(create(lab, 'n2', [subnetOf('127.1.0.0/24')]), {
      code: 'ipam/special-subnet',
    });
    await lab.plan((draft) => lab.plans.dropSubnets(draft, network));
    assert.deepEqual(pools(lab), ['10.65.0.0/26']);
    await lab.plan((draft) => lab.plans.dropSubnets(draft, network));
  }));

test('the pool of a network that disappeared is recreated for the next one, and one in use stays', () =>
  withIpam(async (lab) => {
    const first = await create(lab, 'n1', [subnetOf('172.30.0.0/24')]);
    await bind(lab, first, 'e1', '172.30.0.2');
    await assert.rejects(create(lab, 'n2', [subnetOf('172.30.0.0/24')]), {
      code: 'ipam/docker-subnet-taken',
    });
    await lab.removeNetwork('host-a', 'n1');
    await assert.rejects(create(lab, 'n2', [subnetOf('172.30.0.0/24')], 'host-b'), {
      code: 'ipam/docker-subnet-taken',
    });
    await create(lab, 'n2', [subnetOf('172.30.0.0/24')]);
    assert.equal(await lab.holder('172.30.0.2'), undefined, 'nor do its addresses stay');
    assert.deepEqual(pools(lab), ['10.65.0.0/26', '172.30.0.0/24']);
  }));

test("an address allocated by Docker's IPAM belongs to the new endpoint, and is released with it", () =>
  withIpam(async (lab) => {
    const network = await create(lab, 'n1', [subnetOf('172.30.0.0/24')]);
    const named = { ...network, name: 'web' };
    await bind(lab, named, 'e1', '172.30.0.2');
    assert.deepEqual(await lab.holder('172.30.0.2'), {
      handle_id: 'docker.host-a.172-30-0-2',
      secondary: {
        node: 'host-a',
        pool: 'docker',
        network: 'n1',
        endpoint: 'e1',
        networkName: 'web',
      },
    });
    await bind(lab, named, 'e1', '172.30.0.2');
    await bind(lab, named, 'e2', '172.30.0.2');
    assert.equal((await lab.holder('172.30.0.2'))?.secondary?.['endpoint'], 'e2');
    assert.deepEqual(
      [...lab.mirror.list('WorkloadEndpoint').values()].map(({ value }) => value.spec.endpoint),
      ['e2'],
      'who had it is no more',
    );
    const release = (endpointId: string, of = named) =>
      lab.plan((draft) => {
        const addresses = [parseAddress('172.30.0.2')];
        lab.plans.releaseEndpoint(draft, { node: 'host-a', network: of, endpointId, addresses });
      });
    await release('e1');
    await release('e2', { ...named, ipam: 'calico' });
    assert.ok(await lab.holder('172.30.0.2'), "another endpoint's, and that of our own IPAM, stay");
    await release('e2');
    assert.equal(await lab.holder('172.30.0.2'), undefined);
    assert.equal(lab.mirror.list('Handle').size, 0);
  }));

test('an address of this IPAM is bound to its endpoint, and to no other while that one exists', () =>
  withIpam(async (lab) => {
    const pool = await lab.pool('host-a', '10.99.0.0/24');
    const poolId = String(pool['PoolID']);
    await lab.adopt('host-a', 'n1', [pool]);
    const network = lab.mirror.get('DockerNetwork', 'host-a/n1')?.value ?? assert.fail();
    await lab.address('host-a', poolId, '10.99.0.7');
    await bind(lab, network, 'e1', '10.99.0.7');
    const facts = { node: 'host-a', pool: 'n0', network: 'n1', endpoint: 'e1' };
    assert.deepEqual((await lab.holder('10.99.0.7'))?.secondary, facts);
    await bind(lab, network, 'e1', '10.99.0.7');
    const isTaken = {
      code: 'ipam/address-taken',
      message: /endpoint e1 of network n1 on host host-a/,
    };
    await assert.rejects(bind(lab, network, 'e2', '10.99.0.7'), isTaken);
    await lab.disconnect('host-a', 'e1');
    await bind(lab, network, 'e2', '10.99.0.7');
    assert.equal((await lab.holder('10.99.0.7'))?.secondary?.['endpoint'], 'e2');
    // Its record was lost, but Docker still has it allocated.
    await bind(lab, network, 'e3', '10.99.0.9');
    assert.deepEqual((await lab.holder('10.99.0.9'))?.secondary, { ...facts, endpoint: 'e3' });
    const other = String((await lab.pool('host-b', '10.99.0.0/24'))['PoolID']);
    await lab.address('host-b', other, '10.99.0.20');
    await assert.rejects(bind(lab, network, 'e4', '10.99.0.20'), { code: 'ipam/address-taken' });
    const Options = { RequestAddressType: 'com.docker.network.gateway' };
    await lab.address('host-a', poolId, '10.99.0.1', Options);
    await assert.rejects(bind(lab, network, 'e4', '10.99.0.1'), {
      message: /in use by the network as its gateway address on host host-a/,
    });
  }));

test('auxiliary addresses are reserved for a network, and shared by its hosts', () =>
  withIpam(async (lab) => {
    const auxiliary = { router: parseAddress('10.99.0.2') };
    for (const node of nodes) {
      const pool = await lab.pool(node, '10.99.0.0/24');
      const gateway = parseAddress('10.99.0.1');
      const Options = { RequestAddressType: 'com.docker.network.gateway' };
      await lab.address(node, String(pool['PoolID']), '10.99.0.1', Options);
      const asked = { gateway, auxiliary, addressSpace };
      const network = await create(lab, 'n1', [subnetOf('10.99.0.0/24', asked)], node);
      assert.deepEqual(network.subnets, [
        { family: 4, cidr: '10.99.0.0/24', gateway, auxiliary, poolId: pool['PoolID'] },
      ]);
      assert.equal(network.nextHop4, '10.99.0.1');
      const poolId = String(pool['PoolID']);
      await assert.rejects(lab.address(node, poolId, '10.99.0.2'), { code: 'ipam/address-taken' });
    }
    const { secondary } = (await lab.holder('10.99.0.2')) ?? assert.fail();
    assert.deepEqual(secondary, {
      node: 'host-a',
      pool: 'n0',
      type: 'auxiliary',
      holders: 'host-a/n0,host-b/n1',
    });
    const outside = subnetOf('10.99.0.0/24', {
      addressSpace,
      auxiliary: { router: parseAddress('10.98.0.1') },
    });
    await lab.pool('host-a', '10.99.0.0/24');
    await assert.rejects(create(lab, 'n9', [outside]), {
      message: 'address 10.98.0.1 is not in subnet 10.99.0.0/24',
    });
    assert.deepEqual(checkIpam(lab.mirror), []);
  }));

test('a network finds the pool requested for it: by its next hop, its gateway, or as the latest one', () =>
  withIpam(async (lab) => {
    const began = Date.now();
    const asked: Record<string, unknown>[] = [];
    for (const [index, subnet] of ['10.99.0.0/24', undefined, '10.99.0.0/24'].entries()) {
      lab.now = () => new Date(began + index * 1000);
      asked.push(await lab.pool('host-a', subnet));
    }
    const [first, any, last] = asked.map((pool) => String(pool['PoolID']));
    const hopOf = (poolId: string | undefined) =>
      [...lab.mirror.list('DockerPool').values()].find(({ value }) => value.poolId === poolId)
        ?.value.nextHop;
    const Options = { RequestAddressType: 'com.docker.network.gateway' };
    await lab.address('host-a', first ?? '', '10.99.0.1', Options);
    const adopt = async (id: string, cidr: string, gateway?: string, space = addressSpace) => {
      const more = {
        addressSpace: space,
        ...(gateway === undefined ? {} : { gateway: parseAddress(gateway) }),
      };
      const { subnets, nextHop4 } = await create(lab, id, [subnetOf(cidr, more)]);
      return [subnets[0]?.poolId, nextHop4];
    };
    const anyHop = hopOf(any) ?? assert.fail();
    assert.deepEqual(await adopt('by hop', '0.0.0.0/0', anyHop), [any, anyHop]);
    assert.deepEqual(await adopt('by gateway', '10.99.0.0/24', '10.99.0.1'), [first, '10.99.0.1']);
    assert.deepEqual(await adopt('internal', '10.99.0.0/24'), [last, hopOf(last)]);
    await assert.rejects(adopt('none left', '10.99.0.0/24'), { code: 'ipam/unknown-pool-id' });
    // A pool that Swarm's manager requested is no network of this host until CreateNetwork says so.
    const swarm = await lab.pool('host-a', '10.97.0.0/24', undefined, swarmAddressSpace);
    const hop = hopOf(String(swarm['PoolID'])) ?? assert.fail();
    await assert.rejects(adopt('local', '10.97.0.0/24', hop), { code: 'ipam/unknown-pool-id' });
    const global = await adopt('global', '10.97.0.0/24', hop, swarmAddressSpace);
    assert.deepEqual(global, [swarm['PoolID'], hop]);
  }));

test('unused allocations of libnetwork-plugin are released with their network; nothing else is', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    const addresses = ['10.99.0.1', '10.99.0.2', '10.99.0.3', '10.99.0.4'].map(parseAddress);
    for (const address of addresses.slice(0, 3)) await lab.address('host-a', poolId, address);
    await lab.plan((draft) => {
      for (const [id, block] of draft.entries('Block4')) {
        const attributes = (block.attributes ?? []).map((one, index) =>
          index < 2 ? { secondary: {} } : one,
        );
        draft.put('Block4', id, { ...block, attributes });
      }
    });
    const network = await create(lab, 'n2', [subnetOf('172.30.0.0/24')]);
    await lab.plan((draft) => {
      const name = endpointName('host-a', 'e1');
      draft.put('WorkloadEndpoint', `${labNamespace}/${name}`, {
        kind: 'WorkloadEndpoint',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name, namespace: labNamespace },
        spec: {
          node: network.node,
          endpoint: 'e1',
          interfaceName: 'cali0',
          orchestrator: 'libnetwork',
          ipNetworks: [parseNet('10.99.0.2/32')],
        },
      });
    });
    await lab.plan((draft) => lab.plans.releaseAdopted(draft, addresses));
    const allocation = await Promise.all(
      addresses.map(async (one) => (await lab.holder(one)) !== undefined),
    );
    assert.deepEqual(allocation, [false, true, true, false]);
  }));
