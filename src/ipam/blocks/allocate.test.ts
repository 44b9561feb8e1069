import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr, subnetAt } from '../../ip/cidr.ts';
import { defaultPool, signal, withIpam, type Lab } from '../ipam-lab.fixture.ts';
import { checkIpam } from '../maintenance/report.ts';
import { entryTypes } from '../../model/kinds/index.ts';
import { fnv1 } from './claim.ts';

/** The blocks with their hosts, and how much of each is in use. */
function blocks(lab: Lab): readonly string[] {
  return [...lab.mirror.list('Block4').values()]
    .map(({ value: { cidr, affinity, allocations } }) => {
      const used = allocations.filter((index) => index !== null).length;
      return `${cidr} ${String(affinity)} ${used}`;
    })
    .toSorted();
}

function affinities(lab: Lab): readonly string[] {
  return [...lab.mirror.list('Affinity4').keys()].toSorted();
}

async function configure(lab: Lab, config: Record<string, boolean | number>): Promise<void> {
  const all = { auto_allocate_blocks: true, ...config };
  await lab.plan((draft) => draft.put('IpamConfig', 'config', all));
}

test('a host starts with the block that its name hashes to, like Calico', async () => {
  assert.equal(fnv1(''), 0x811c9dc5);
  assert.equal(fnv1('a'), 0x050c5d7e);
  assert.equal(fnv1('foobar'), 0x31f0b262);
  await withIpam(async (lab) => {
    for (const node of ['host-a', 'host-b']) {
      const poolId = String((await lab.pool(node))['PoolID']);
      const first = subnetAt(defaultPool.spec.cidr, 29, BigInt(fnv1(node) % 8));
      const address = await lab.address(node, poolId);
      assert.equal(`${address}/29`, first, 'the first address of that block');
      assert.ok(affinities(lab).includes(`${node}/${first}`));
    }
  });
});

test('a host fills its block before it claims the next one in order', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a'))['PoolID']);
    const start = fnv1('host-a') % 8;
    const expected = [0, 1].flatMap((step) =>
      Array.from({ length: 8 }, (_, ordinal) => `10.65.0.${((start + step) % 8) * 8 + ordinal}`),
    );
    const given: string[] = [];
    for (let n = 0; n < 9; n++) given.push(await lab.address('host-a', poolId));
    assert.deepEqual(given, expected.slice(0, 9));
    const [first, second] = [given[0] ?? '', given[8] ?? ''];
    await lab.release('host-a', poolId, first);
    assert.equal(await lab.address('host-a', poolId), first < second ? first : expected[9]);
  }));

test('an empty block of another host is taken over after a minute, and not before', () =>
  withIpam(async (lab) => {
    const began = Date.now();
    const at = (ms: number) => (lab.now = () => new Date(began + ms));
    at(0);
    await configure(lab, { strict_affinity: true });
    const [a, b] = [
      String((await lab.pool('host-a', '10.99.0.0/29'))['PoolID']),
      String((await lab.pool('host-b', '10.99.0.0/29'))['PoolID']),
    ];
    await lab.plan((draft) => {
      const pool = draft.get('IPPool', 'subnet-10-99-0-0-29') ?? assert.fail();
      draft.put('IPPool', pool.metadata.name, { ...pool, spec: { ...pool.spec, blockSize: 29 } });
    });
    const held = await lab.address('host-a', a);
    at(3_600_000);
    const isFull = { code: 'ipam/full', message: /subnet 10\.99\.0\.0\/29 \(8 addresses\)/ };
    await assert.rejects(lab.address('host-b', b), isFull, 'it is in use');
    await lab.release('host-a', a, held);
    assert.deepEqual(blocks(lab), ['10.99.0.0/29 host:host-a 0']);
    at(58_000);
    await assert.rejects(lab.address('host-b', b), isFull, 'its host claimed it a moment ago');
    at(61_000);
    await lab.address('host-b', b);
    assert.deepEqual(blocks(lab), ['10.99.0.0/29 host:host-b 1']);
    assert.deepEqual(affinities(lab), ['host-b/10.99.0.0/29']);
    await assert.rejects(lab.address('host-a', a), isFull);
  }));

test('with all blocks claimed, a host borrows an address unless affinity is strict', () =>
  withIpam(async (lab) => {
    const [a, b] = [
      String((await lab.pool('host-a', '10.99.0.0/29'))['PoolID']),
      String((await lab.pool('host-b', '10.99.0.0/29'))['PoolID']),
    ];
    await lab.address('host-a', a, '10.99.0.0');
    assert.equal(await lab.address('host-b', b), '10.99.0.1');
    assert.deepEqual(blocks(lab), ['10.99.0.0/29 host:host-a 2']);
    assert.equal((await lab.holder('10.99.0.1'))?.secondary?.['node'], 'host-b');
    await configure(lab, { strict_affinity: true });
    await assert.rejects(lab.address('host-b', b), { code: 'ipam/full' });
    await assert.rejects(lab.address('host-b', b, '10.99.0.5'), {
      code: 'ipam/address-elsewhere',
      message: /block of host host-a/,
    });
    assert.equal(await lab.address('host-a', a, '10.99.0.5'), '10.99.0.5');
    await configure(lab, { strict_affinity: false });
    for (let n = 0; n < 5; n++) await lab.address('host-b', b);
    await assert.rejects(lab.address('host-a', a), { code: 'ipam/full' });
    assert.deepEqual(
      checkIpam(lab.mirror).filter((text) => !/not used by an endpoint/.test(text)),
      [],
    );
  }));

test('a host claims no block if auto-allocation is disabled, and at most its limit, 20 by default', () =>
  withIpam(async (lab) => {
    const wide = { ...defaultPool.spec, cidr: parseCidr('10.65.0.0/24'), blockSize: 32 };
    await lab.plan((draft) =>
      draft.put('IPPool', 'default-ipv4-ippool', { ...defaultPool, spec: wide }),
    );
    const poolId = String((await lab.pool('host-a'))['PoolID']);
    await lab.plan((draft) => draft.put('IpamConfig', 'config', { strict_affinity: false }));
    await assert.rejects(lab.address('host-a', poolId), { code: 'ipam/no-new-blocks' });
    await configure(lab, { maxBlocksPerHost: 0 });
    for (let n = 0; n < 20; n++) await lab.address('host-a', poolId);
    const isLimit = (limit: number) => ({
      code: 'ipam/block-limit',
      message: new RegExp(`has reached its limit of ${limit} blocks`),
    });
    await assert.rejects(lab.address('host-a', poolId), isLimit(20));
    await configure(lab, { maxBlocksPerHost: 21 });
    const last = await lab.address('host-a', poolId);
    await assert.rejects(lab.address('host-a', poolId), isLimit(21));
    // Blocks of other pools do not count: the limit applies to the pools of the request.
    assert.ok(
      await lab.address('host-a', String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID'])),
    );
    await lab.release('host-a', poolId, last);
    assert.equal(await lab.address('host-a', poolId), last);
  }));

test('addresses of a reserved range and outside --ip-range are not allocated automatically', () =>
  withIpam(async (lab) => {
    await lab.plan((draft) =>
      draft.put('IPReservation', 'r', {
        kind: 'IPReservation',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'r' },
        spec: { reservedCIDRs: [parseCidr('10.99.0.16/30'), parseCidr('10.99.0.64/26')] },
      }),
    );
    const poolId = String((await lab.pool('host-a', '10.99.0.0/24', '10.99.0.16/29'))['PoolID']);
    const given: string[] = [];
    for (let n = 0; n < 4; n++) given.push(await lab.address('host-a', poolId));
    assert.deepEqual(given, ['10.99.0.20', '10.99.0.21', '10.99.0.22', '10.99.0.23']);
    await assert.rejects(lab.address('host-a', poolId), {
      code: 'ipam/full',
      message: /--ip-range 10\.99\.0\.16\/29 of subnet .*8 addresses, 4 reserved/,
    });
    // Requested addresses are not restricted.
    assert.equal(await lab.address('host-a', poolId, '10.99.0.17'), '10.99.0.17');
    assert.equal(await lab.address('host-a', poolId, '10.99.0.200'), '10.99.0.200');
    const whole = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    const rest = new Set<string>();
    for (let n = 0; n < 256 - 68 - 5; n++) rest.add(await lab.address('host-a', whole));
    await assert.rejects(lab.address('host-a', whole), { code: 'ipam/full' });
    const ordinals = [...rest].map((address) => Number(address.split('.')[3]));
    assert.deepEqual(
      ordinals.filter((n) => n >= 64 && n < 128),
      [],
    );
  }));

test('no address of an unreadable block is allocated from a block that overlaps it', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a', '10.99.0.0/29'))['PoolID']);
    await lab.address('host-a', poolId, '10.99.0.0');
    const key = entryTypes.Block4.key('10.99.0.0/30');
    const { revision } = await lab.mirror.datastore.commit(
      { compares: [], writes: [{ key, value: '{' }] },
      signal,
    );
    await lab.mirror.reached(revision, signal);
    assert.equal(await lab.address('host-a', poolId), '10.99.0.4');
    await assert.rejects(lab.address('host-a', poolId, '10.99.0.1'), { code: 'datastore/corrupt' });
  }));
