import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cidrContains } from '../../ip/cidr.ts';
import { parseAddress } from '../../ip/address.ts';
import { defaultPool, signal, withIpam, type Lab } from '../ipam-lab.fixture.ts';

/** With any one invalid stored value, Docker gets an address of the valid pools, and the value is reported. */

const [host, other] = ['host-a', 'host-b'];
const pools = '/calico/resources/v3/projectcalico.org/ippools/';
const blocks = '/calico/ipam/v2/assignment/ipv4/block/';

/** Writes a value as another tool would. */
async function write(lab: Lab, key: string, value: unknown): Promise<void> {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const result = await lab.mirror.datastore.commit(
    { compares: [], writes: [{ key, value: text }] },
    signal,
  );
  assert.equal(result.kind, 'committed');
  if (result.kind === 'committed') await lab.mirror.reached(result.revision, signal);
}

async function assertServed(lab: Lab): Promise<void> {
  for (const node of [host, other]) {
    const { PoolID } = await lab.pool(node);
    const address = parseAddress(await lab.address(node, String(PoolID)));
    assert.ok(cidrContains(defaultPool.spec.cidr, address), address);
  }
}

const oddPools = {
  'a selector that is none': { cidr: '10.201.0.0/16', nodeSelector: '!!! (' },
  'blocks of a negative size': { cidr: '10.202.0.0/16', blockSize: -5 },
  'blocks that fill the memory': { cidr: '0.0.0.0/0', blockSize: 1 },
  'blocks smaller than an address': { cidr: '10.203.0.0/16', blockSize: 200 },
  'less than one of its blocks': { cidr: '10.204.0.0/24', blockSize: 20 },
  'one address and blocks of 64': { cidr: '10.205.0.7/32' },
};

describe('one odd IP pool', () => {
  for (const [what, spec] of Object.entries(oddPools)) {
    test(what, () =>
      withIpam(async (lab) => {
        const key = `${pools}aaa`;
        const head = { kind: 'IPPool', apiVersion: 'projectcalico.org/v3' };
        await write(lab, key, { ...head, metadata: { name: 'aaa' }, spec });
        await assertServed(lab);
        assert.match(
          lab.mirror.unreadableValues().get(key)?.why ?? '',
          /^spec\.(nodeSelector|blockSize|cidr): /,
        );
      }),
    );
  }
});

const free = { cidr: '10.65.0.0/29', affinity: 'host:host-a', attributes: [] };
const eight: readonly (number | null)[] = [null, null, null, null, null, null, null, null];
const oddBlocks = {
  'no JSON': '{',
  'without places': { ...free, allocations: [], unallocated: [0, 1] },
  'free addresses outside of it': { ...free, allocations: eight, unallocated: [100, 3] },
  'free addresses before it': { ...free, allocations: eight, unallocated: [-1] },
};

describe('one odd block', () => {
  for (const [what, block] of Object.entries(oddBlocks)) {
    test(what, () =>
      withIpam(async (lab) => {
        // One in every eighth of the pool, so that any host reads it.
        for (let first = 0; first < 56; first += 8) {
          const key = `${blocks}10.65.0.${first}-29`;
          const cidr = `10.65.0.${first}/29`;
          await write(lab, key, typeof block === 'string' ? block : { ...block, cidr });
        }
        await assertServed(lab);
        assert.equal(lab.mirror.unreadableValues().size, 7);
        const { PoolID } = await lab.pool(host, '10.65.0.0/26');
        await assert.rejects(lab.address(host, String(PoolID), '10.65.0.9'), {
          code: 'datastore/corrupt',
        });
      }),
    );
  }

  test('an allocated address that is also listed as free', () =>
    withIpam(async (lab) => {
      const allocations = eight.with(0, 0);
      const attributes = [{ handle_id: 'somebody' }];
      const allocation = { ...free, allocations, attributes, unallocated: [0, 1] };
      await write(lab, `${blocks}10.65.0.0-29`, allocation);
      await write(lab, '/calico/ipam/v2/host/host-a/ipv4/block/10.65.0.0-29', {});
      const { PoolID } = await lab.pool(host, '10.65.0.0/26');
      assert.equal(await lab.address(host, String(PoolID)), '10.65.0.1');
    }));
});

test('handles that cannot be read, of all addresses but one', () =>
  withIpam(async (lab) => {
    for (let number = 0; number < 63; number++) {
      await write(lab, `/calico/ipam/v2/handle/docker.host-a.10-65-0-${number}`, '{');
    }
    const { PoolID } = await lab.pool(host);
    assert.equal(await lab.address(host, String(PoolID)), '10.65.0.63');
  }));

test('claims that cannot be read, of all blocks but one', () =>
  withIpam(async (lab) => {
    for (let first = 0; first < 56; first += 8) {
      await write(lab, `/calico/ipam/v2/host/host-a/ipv4/block/10.65.0.${first}-29`, '{');
    }
    await assertServed(lab);
  }));
