import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeAll, writeInSteps } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr, type Cidr } from '../../ip/cidr.ts';
import { endpointName } from '../../model/kinds/workload-endpoint.ts';
import { newBlock } from '../records/block.ts';
import { reclaim, findLeaks } from '../maintenance/reclaim.ts';
import { subnetPool, subnetPoolName } from '../pools/subnet-pools.ts';
import { allocateInUse } from '../maintenance/repair.ts';
import { signal, withIpam, type Lab, labNamespace } from '../ipam-lab.fixture.ts';
import { createNetworkAddresses } from './network-addresses.ts';
import { hostLocal } from '../pools/pools.ts';
import { claimBlock, assignInBlock } from '../records/records.ts';
import { checkIpam } from '../maintenance/report.ts';

/** Pools with more blocks and addresses than fit one etcd transaction. */

const node = 'host-a';

/** Gives the host a number of blocks of a /16, each with a number of addresses of removed endpoints. */
async function fill(lab: Lab, subnet: string, blocks: number, allocation: number): Promise<void> {
  const plan = (cidr: Cidr) => (draft: Draft) => {
    claimBlock(draft, { cidr, host: node, now: new Date() });
    const prefix = cidr.slice(0, cidr.lastIndexOf('.'));
    for (let index = 0; index < allocation; index++) {
      const address = parseAddress(`${prefix}.${index}`);
      const block = draft.get('Block4', cidr) ?? newBlock(cidr, node, new Date());
      assignInBlock(draft, block, {
        address,
        holder: { handle_id: `h-${address}`, secondary: {} },
      });
    }
  };
  await Promise.all(
    Array.from({ length: blocks }, (_, index) =>
      lab.writer.write(plan(parseCidr(subnet.replace('.0.0/16', `.${index}.0/26`))), signal),
    ),
  );
}

function assertGone(lab: Lab, subnet: string): void {
  const name = subnetPoolName(parseCidr(subnet));
  assert.equal(lab.mirror.get('IPPool', name), undefined);
  for (const kind of ['Block4', 'Affinity4', 'Handle', 'DockerPool'] as const) {
    assert.equal(lab.mirror.list(kind).size, 0, kind);
  }
  assert.deepEqual(checkIpam(lab.mirror), []);
}

const fillings = [
  { what: '70 empty blocks', blocks: 70, allocation: 0 },
  { what: '5 full blocks', blocks: 5, allocation: 64 },
];

for (const { what, blocks, allocation } of fillings) {
  test(`a pool of ${what} is released by Docker's call, whole`, () =>
    withIpam(async (lab) => {
      const { PoolID } = await lab.pool(node, '10.99.0.0/16');
      await fill(lab, '10.99.0.0/16', blocks, allocation);
      await lab.releasePool(node, String(PoolID));
      assertGone(lab, '10.99.0.0/16');
    }));

  test(`a pool of ${what} that no network uses is reclaimed`, () =>
    withIpam(async (lab) => {
      await lab.pool(node, '10.99.0.0/16');
      await fill(lab, '10.99.0.0/16', blocks, allocation);
      const { result } = await lab.writer.write((draft) => findLeaks(draft, node), signal);
      const pools = result.filter(({ kind }) => kind === 'pool');
      const failed = await writeInSteps(pools, (step) =>
        writeAll(lab.writer, (draft) => reclaim(draft, node, step), signal),
      );
      assert.deepEqual(failed, []);
      assertGone(lab, '10.99.0.0/16');
    }));

  test(`a network of Docker's own IPAM with ${what} is removed, or recreated`, () =>
    withIpam(async (lab) => {
      const subnet = parseCidr('10.98.0.0/16');
      const addresses = createNetworkAddresses({
        now: () => new Date(),
        stamp: <R>(resource: R) => resource,
        usedRanges: () => [],
      });
      await lab.writer.write(
        (draft) =>
          draft.put('IPPool', subnetPoolName(subnet), subnetPool(subnet, { [hostLocal]: node })),
        signal,
      );
      await fill(lab, '10.98.0.0/16', blocks, allocation);
      const asked = {
        node,
        networkId: 'n1',
        subnets: [
          {
            family: 4 as const,
            addressSpace: 'LocalDefault',
            cidr: subnet,
            gateway: undefined,
            auxiliary: {},
          },
        ],
      };
      const { result: adopted } = await lab.writer.write((draft) => {
        const made = addresses.adoptSubnets(draft, asked);
        assert.equal(draft.get('IPPool', subnetPoolName(subnet))?.spec.cidr, subnet);
        return made;
      }, signal);
      const network = {
        id: 'n1',
        node,
        ipam: adopted.ipam,
        internal: false,
        ipv4: true,
        ipv6: false,
        subnets: [...adopted.subnets],
        options: {},
      };
      await writeAll(lab.writer, (draft) => addresses.dropSubnets(draft, network), signal);
      assertGone(lab, '10.98.0.0/16');
    }));
}

test('a single block with more addresses than fit in a transaction is deleted in steps', () =>
  withIpam(async (lab) => {
    const { PoolID } = await lab.pool(node, '10.99.0.0/16');
    const cidr = parseCidr('10.99.0.0/24');
    await lab.writer.write(
      (draft) => claimBlock(draft, { cidr, host: node, now: new Date() }),
      signal,
    );
    await Promise.all(
      Array.from({ length: 256 }, (_, index) =>
        lab.writer.write((draft) => {
          const block = draft.get('Block4', cidr);
          const address = parseAddress(`10.99.0.${index}`);
          if (block !== undefined) {
            assignInBlock(draft, block, {
              address,
              holder: { handle_id: `h-${index}`, secondary: {} },
            });
          }
        }, signal),
      ),
    );
    assert.equal(lab.mirror.list('Handle').size, 256);
    await lab.releasePool(node, String(PoolID));
    assertGone(lab, '10.99.0.0/16');
  }));

test('a network with many pools of a manager is freed with all of them, and not with those of another one', () =>
  withIpam(async (lab) => {
    const record = (index: number) => ({
      poolId: `calico;v=4;for=swarm;id=n${index}`,
      node: index === 0 ? 'host-b' : node,
      family: 4 as const,
      swarm: { network: 'n1', isReplaced: true },
      createdAt: new Date().toISOString(),
    });
    await Promise.all(
      Array.from({ length: 140 }, (_, index) =>
        lab.writer.write(
          (draft) => draft.put('DockerPool', `${record(index).node}/n${index}`, record(index)),
          signal,
        ),
      ),
    );
    await lab.free(node, 'n1');
    assert.deepEqual([...lab.mirror.list('DockerPool').keys()], ['host-b/n0']);
  }));

test('addresses in use whose blocks are all lost are allocated again, a few at a time', () =>
  withIpam(async (lab) => {
    await lab.pool(node, '10.99.0.0/16');
    const endpoints = Array.from({ length: 60 }, (_, index) => ({
      endpointId: `${index}`.padStart(64, 'e'),
      address: `10.99.${index}.1`,
    }));
    await Promise.all(
      endpoints.map(({ endpointId, address }) =>
        lab.writer.write((draft) => {
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
              ipNetworks: [parseCidr(`${address}/32`)],
            },
          });
        }, signal),
      ),
    );
    const endpointIds = [...lab.mirror.list('WorkloadEndpoint').keys()];
    const repaired = new Set<string>();
    for (;;) {
      const { result } = await lab.writer.write(
        (draft) => allocateInUse(draft, { endpointIds, now: new Date() }),
        signal,
      );
      if (result.length === 0) break;
      for (const address of result) repaired.add(address);
    }
    assert.equal(repaired.size, endpoints.length);
    assert.equal(lab.mirror.list('Block4').size, endpoints.length);
  }));
