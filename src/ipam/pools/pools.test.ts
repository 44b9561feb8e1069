import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { cidrContains, halves, hostCidr, parseCidr } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { endpointName } from '../../model/kinds/workload-endpoint.ts';
import { withoutAllocation } from '../records/block.ts';
import { allocateInUse, recountHandles } from '../maintenance/repair.ts';
import { findAllocation } from '../records/allocation.ts';
import { defaultPool, signal, withIpam, type Lab, labNamespace } from '../ipam-lab.fixture.ts';
import { putBlock } from '../records/records.ts';
import { checkIpam, poolUsage } from '../maintenance/report.ts';

/** Returns the default pool with another name and changed fields. */
function poolWith(name: string, spec: Partial<IpPool['spec']>): IpPool {
  return { ...defaultPool, metadata: { name }, spec: { ...defaultPool.spec, ...spec } };
}

async function putPool(lab: Lab, pool: IpPool): Promise<void> {
  await lab.writer.write((draft) => draft.put('IPPool', pool.metadata.name, pool), signal);
}

/** Frees an address in its block as another tool does, even if it is in use. */
async function forget(lab: Lab, text: string): Promise<void> {
  const address = parseAddress(text);
  await lab.writer.write((draft) => {
    const { block } = findAllocation(draft, address) ?? assert.fail();
    putBlock(draft, withoutAllocation(block, address));
  }, signal);
}

/** Starts a container on host-a with an address of the default pool. */
async function withContainer(
  use: (
    lab: Lab,
    container: { readonly poolId: string; readonly address: string },
  ) => Promise<void>,
): Promise<void> {
  await withIpam(async (lab) => {
    const pool = await lab.pool('host-a');
    const poolId = String(pool['PoolID']);
    await lab.adopt('host-a', 'net1', [pool]);
    const address = await lab.address('host-a', poolId);
    await lab.connect('host-a', 'net1', { endpointId: 'e1', address });
    await lab.writer.write((draft) => {
      const id = `${labNamespace}/${endpointName('host-a', 'e1')}`;
      const endpoint = draft.get('WorkloadEndpoint', id) ?? assert.fail();
      const ipNetworks = [hostCidr(parseAddress(address))];
      const annotations = { 'docker.projectcalico.org/network': 'net1' };
      draft.put('WorkloadEndpoint', id, {
        ...endpoint,
        metadata: { ...endpoint.metadata, annotations },
        spec: { ...endpoint.spec, ipNetworks },
      });
    }, signal);
    await use(lab, { poolId, address });
  });
}

test('an address that an endpoint uses is not allocated, even if its block lists it as free', () =>
  withContainer(async (lab, { poolId, address }) => {
    await forget(lab, address);
    const isTaken = { code: 'ipam/address-taken', message: /endpoint e1 on host host-a/ };
    await assert.rejects(lab.address('host-a', poolId, address), isTaken);
    const other = String((await lab.pool('host-b'))['PoolID']);
    await assert.rejects(lab.address('host-b', other, address), isTaken);
    for (let n = 0; n < 63; n++) assert.notEqual(await lab.address('host-b', other), address);
    await assert.rejects(lab.address('host-b', other), { code: 'ipam/full' });
  }));

test('an address that is in use but free in its block is allocated again to its user', () =>
  withContainer(async (lab, { address }) => {
    const holderBefore = await lab.writer.write(
      (draft) => findAllocation(draft, parseAddress(address))?.holder,
      signal,
    );
    await forget(lab, address);
    assert.equal(checkIpam(lab.mirror).length, 2);
    const endpointIds = [...lab.mirror.list('WorkloadEndpoint').keys()];
    const plan = { endpointIds, now: new Date() };
    const repaired = await lab.writer.write((draft) => allocateInUse(draft, plan), signal);
    assert.deepEqual(repaired.result, [address]);
    await lab.writer.write(recountHandles, signal);
    assert.deepEqual(checkIpam(lab.mirror), []);
    const after = await lab.writer.write(
      (draft) => findAllocation(draft, parseAddress(address))?.holder,
      signal,
    );
    assert.deepEqual(after.result, holderBefore.result);
    const again = await lab.writer.write((draft) => allocateInUse(draft, plan), signal);
    assert.deepEqual(again.result, []);
  }));

test('reserved addresses are not free, and a reserved address in use is not counted twice', () =>
  withContainer(async (lab, { poolId, address }) => {
    const reservation = (name: string, cidr: string) => ({
      kind: 'IPReservation' as const,
      apiVersion: 'projectcalico.org/v3' as const,
      metadata: { name },
      spec: { reservedCIDRs: [parseCidr(cidr)] },
    });
    const half = halves(defaultPool.spec.cidr).find((one) =>
      cidrContains(one, parseAddress(address)),
    );
    await lab.writer.write((draft) => {
      draft.put('IPReservation', 'half', reservation('half', half ?? assert.fail()));
      draft.put('IPReservation', 'inside', reservation('inside', `${address}/32`));
      draft.put('IPReservation', 'outside', reservation('outside', '10.99.0.0/16'));
    }, signal);
    const counts = ({ total, used, reserved, free }: ReturnType<typeof poolUsage>[number]) =>
      [total, used, reserved, free].join(' ');
    assert.deepEqual(poolUsage(lab.mirror).map(counts), ['64 1 32 32']);
    for (let n = 0; n < 32; n++) await lab.address('host-a', poolId);
    assert.deepEqual(poolUsage(lab.mirror).map(counts), ['64 33 32 0']);
    await assert.rejects(lab.address('host-a', poolId), {
      message: /\(64 addresses, 32 reserved\)/,
    });
  }));

test('a pool that is not for workloads is rejected, whether it is named, contains a subnet, or is changed later', () =>
  withIpam(async (lab) => {
    await putPool(
      lab,
      poolWith('tunnels', { cidr: parseCidr('10.66.0.0/24'), allowedUses: ['Tunnel'] }),
    );
    const isRefused = { code: 'ipam/pool-not-for-workloads', message: /allowedUses: Tunnel/ };
    await assert.rejects(lab.pool('host-a', '10.66.0.0/25'), isRefused);
    const named = { AddressSpace: undefined, Pool: undefined, SubPool: undefined, V6: false };
    const options = { Options: { pool: 'tunnels' } };
    await assert.rejects(
      lab.ipam('host-a').requestPool.answer({ ...named, ...options }, signal),
      isRefused,
    );
    const poolId = String((await lab.pool('host-a', '10.65.0.0/26'))['PoolID']);
    await putPool(lab, poolWith('default-ipv4-ippool', { allowedUses: ['Tunnel'] }));
    await assert.rejects(lab.address('host-a', poolId), isRefused);
    await assert.rejects(lab.address('host-a', poolId, '10.65.0.9'), isRefused);
  }));

test('networks of a split pool continue with its parts, and new networks can use them', () =>
  withIpam(async (lab) => {
    const request = { AddressSpace: undefined, Pool: undefined, SubPool: undefined, V6: false };
    const answer = await lab
      .ipam('host-a')
      .requestPool.answer({ ...request, Options: { pool: 'default-ipv4-ippool' } }, signal);
    const named = 'PoolID' in answer ? String(answer.PoolID) : '';
    const bySubnet = String((await lab.pool('host-a', '10.65.0.0/26'))['PoolID']);
    const made = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    const before = await lab.address('host-a', made, '10.99.0.7');
    // As calicoctl ipam split does: copies with another name and range, then the old pool is deleted.
    await lab.writer.write((draft) => {
      for (const name of ['default-ipv4-ippool', 'subnet-10-99-0-0-24']) {
        const pool = draft.get('IPPool', name) ?? assert.fail();
        for (const [index, cidr] of halves(pool.spec.cidr).entries()) {
          const part = `split-${name}-${index}`;
          draft.put('IPPool', part, {
            ...pool,
            metadata: { ...pool.metadata, name: part },
            spec: { ...pool.spec, cidr },
          });
        }
        draft.remove('IPPool', name);
      }
    }, signal);
    const given: string[] = [];
    for (let n = 0; n < 32; n++) given.push(await lab.address('host-a', named));
    for (let n = 0; n < 32; n++) given.push(await lab.address('host-a', bySubnet));
    assert.equal(new Set(given).size, 64, 'both parts are used');
    await assert.rejects(lab.address('host-a', named), { code: 'ipam/full' });
    const other = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    await assert.rejects(lab.address('host-a', other, before), { code: 'ipam/address-taken' });
    await lab.releasePool('host-a', other);
    assert.equal(await lab.address('host-a', made, '10.99.0.200'), '10.99.0.200');
    const second = String((await lab.pool('host-b', '10.99.0.0/24'))['PoolID']);
    assert.equal(await lab.address('host-b', second, '10.99.0.201'), '10.99.0.201');
    for (const [node, poolId, address] of [
      ['host-a', made, '10.99.0.7'],
      ['host-a', made, '10.99.0.200'],
      ['host-b', second, '10.99.0.201'],
    ] as const) {
      await lab.release(node, poolId, address);
    }
    await lab.releasePool('host-a', made);
    assert.equal(lab.mirror.list('IPPool').size, 4);
    await lab.releasePool('host-b', second);
    assert.deepEqual(
      [...lab.mirror.list('IPPool').keys()].toSorted(),
      ['split-default-ipv4-ippool-0', 'split-default-ipv4-ippool-1'],
      'the parts of a pool that was made for a subnet go with it',
    );
  }));

test('errors name a full --ip-range, and the subnet for an address outside it', async () => {
  await withIpam(async (lab) => {
    const pool = String((await lab.pool('host-a', '10.99.0.0/24', '10.99.0.9/32'))['PoolID']);
    assert.equal(await lab.address('host-a', pool), '10.99.0.9');
    const said = (pattern: RegExp) => (error: unknown) => pattern.test(String(error));
    await assert.rejects(
      lab.address(
        'host-b',
        String((await lab.pool('host-b', '10.99.0.0/24', '10.99.0.9/32'))['PoolID']),
      ),
      said(
        /no free address in --ip-range 10\.99\.0\.9\/32 of subnet 10\.99\.0\.0\/24 \(1 address\)/,
      ),
    );
    await assert.rejects(
      lab.address('host-a', pool, '10.97.0.1'),
      said(/address 10\.97\.0\.1 is not in subnet 10\.99\.0\.0\/24/),
    );
  });
});

test('a network without a subnet uses the enabled pools for workloads that are automatic and select its host', () =>
  withIpam(async (lab) => {
    const at = (third: number) => parseCidr(`10.66.${third}.0/26`);
    const asked = (node = 'host-a', options: Record<string, string> = {}) =>
      lab.requestPool(node, { Options: options });
    const specs: Readonly<Record<string, Partial<IpPool['spec']>>> = {
      disabled: { cidr: at(1), disabled: true },
      tunnels: { cidr: at(2), allowedUses: ['Tunnel', 'LoadBalancer'] },
      manual: { cidr: at(3), assignmentMode: 'Manual' },
      elsewhere: { cidr: at(4), nodeSelector: "rack == 'host-b'" },
      'default-ipv4-ippool': { disabled: true },
    };
    for (const [name, spec] of Object.entries(specs)) await putPool(lab, poolWith(name, spec));
    await lab.pool('host-a', '10.67.0.0/26');
    const isNone = { code: 'ipam/no-pool', message: /IPv4 pool for host host-a/ };
    await assert.rejects(asked(), isNone, 'a pool made for a subnet is for that subnet alone');
    await putPool(lab, poolWith('usable', { cidr: at(5), nodeSelector: '' }));
    const poolOf = async (answer: Promise<Record<string, unknown>>) => {
      const poolId = String((await answer)['PoolID']);
      return lab.address('host-a', poolId);
    };
    assert.match(await poolOf(asked()), /^10\.66\.5\./);
    assert.match(await poolOf(asked('host-a', { pool: 'manual' })), /^10\.66\.3\./);
    assert.match(await poolOf(asked('host-a', { pool: 'elsewhere' })), /^10\.66\.4\./);
    assert.match(await poolOf(asked('host-a', { pool: ' usable , manual ' })), /^10\.66\.[35]\./);
    await assert.rejects(asked('host-a', { pool: 'tunnels' }), {
      code: 'ipam/pool-not-for-workloads',
    });
    await assert.rejects(asked('host-a', { pool: 'disabled' }), {
      message: /no enabled IP pool "disabled" of this address family; available: elsewhere, manual/,
    });
    await assert.rejects(asked('host-a', { pools: 'usable' }), {
      message: 'unknown --ipam-opt "pools"; known: pool',
    });
    const ofDocker = { 'com.docker.network.driver.mtu': '1400', pool: '' };
    assert.match(await poolOf(asked('host-a', ofDocker)), /^10\.66\.5\./);
    await assert.rejects(lab.requestPool('host-a', { V6: true }), { message: /IPv6 pool/ });
    // Both are used, in the given order.
    const both = String((await asked('host-b', { pool: 'usable,manual' }))['PoolID']);
    const thirds = new Set<string>();
    for (let n = 0; n < 64; n++) {
      thirds.add((await lab.address('host-b', both)).split('.')[2] ?? '');
    }
    assert.deepEqual([...thirds], ['5', '3']);
  }));

test('a subnet is rejected with the reason: it overlaps, is too large, is not in the named pool, or does not contain --ip-range', () =>
  withIpam(async (lab) => {
    await putPool(lab, poolWith('other', { cidr: parseCidr('10.70.0.0/24'), blockSize: 26 }));
    const asked = (Pool: string, SubPool?: string, Options: Record<string, string> = {}) =>
      lab.requestPool('host-a', { Pool, SubPool, Options });
    await assert.rejects(asked('10.70.0.0/16'), {
      message:
        'subnet 10.70.0.0/16 overlaps IP pool other (10.70.0.0/24) but is not inside it; choose another subnet',
    });
    await assert.rejects(asked('8.0.0.0/7'), { message: 'subnet 8.0.0.0/7: too large' });
    await assert.rejects(asked('2600::/15'), { message: 'subnet 2600::/15: too large' });
    await assert.rejects(asked('10.99.0.0/24', '10.98.0.0/25'), {
      message: 'subnet 10.99.0.0/24: does not contain --ip-range 10.98.0.0/25',
    });
    await assert.rejects(asked('10.99.0.0/24', undefined, { pool: 'other' }), {
      message: 'subnet 10.99.0.0/24 is not inside IP pool other',
    });
    const inside = await asked('10.70.0.64/26', '10.70.0.64/27', { pool: 'other' });
    assert.equal(inside['Pool'], '10.70.0.64/26');
    assert.match(await lab.address('host-a', String(inside['PoolID'])), /^10\.70\.0\.(6|7|8|9)/);
    assert.equal(lab.mirror.list('IPPool').size, 2, 'it is of the pool that is there');
    await lab.releasePool('host-a', String(inside['PoolID']));
    assert.equal(lab.mirror.list('IPPool').size, 2, 'and does not take that pool away');
    const six = await asked('fd00:99::/64');
    assert.equal(six['Pool'], 'fd00:99::/64');
    const made = lab.mirror.get('IPPool', 'subnet-fd00-99-64')?.value.spec;
    assert.deepEqual([made?.blockSize, made?.natOutgoing], [122, false]);
    const [small, large] = [await asked('10.99.0.0/29'), await asked('10.98.0.0/16')];
    const sizes = [small, large].map(({ Pool }) => {
      const name = `subnet-${String(Pool).replaceAll(/[./]/g, '-')}`;
      const spec = lab.mirror.get('IPPool', name)?.value.spec;
      return [spec?.blockSize, spec?.natOutgoing, spec?.ipipMode, spec?.nodeSelector];
    });
    assert.deepEqual(sizes, [
      [29, true, 'Never', 'all()'],
      [26, true, 'Never', 'all()'],
    ]);
  }));
