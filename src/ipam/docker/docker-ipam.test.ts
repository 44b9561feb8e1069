import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { reclaim, findLeaks } from '../maintenance/reclaim.ts';
import { defaultPool, nodes, signal, withIpam } from '../ipam-lab.fixture.ts';
import { checkIpam } from '../maintenance/report.ts';
import { allocatedAddresses } from '../records/block.ts';

const step = fc.record({
  kind: fc.constantFrom('request', 'request', 'release', 'release-again', 'specific'),
  node: fc.constantFrom(...nodes),
  pick: fc.nat(100),
});

test('for any requests of Docker on two hosts, no address has two owners and none is lost', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) =>
      withIpam(async (lab) => {
        const pools = new Map<string, string>();
        for (const node of nodes) pools.set(node, String((await lab.pool(node))['PoolID']));
        const allocation = new Map<string, string>();
        const released: string[] = [];
        for (const { kind, node, pick } of steps) {
          const poolId = pools.get(node) ?? assert.fail();
          const mine = [...allocation]
            .filter(([, owner]) => owner === node)
            .map(([address]) => address);
          if (kind === 'request' || kind === 'specific') {
            const wanted = kind === 'specific' ? `10.65.0.${pick % 64}` : undefined;
            const given = await lab.address(node, poolId, wanted).catch((error: unknown) => {
              // An address of this network without an endpoint is returned again: the call was repeated.
              const owner = allocation.get(wanted ?? '');
              const isOthers = owner !== undefined && owner !== node;
              const isExpected = wanted === undefined ? allocation.size === 64 : isOthers;
              assert.ok(isExpected, String(error));
              return undefined;
            });
            if (given === undefined) continue;
            const isRepeated = given === wanted && allocation.get(given) === node;
            assert.ok(isRepeated || !allocation.has(given), `${given} has two owners`);
            allocation.set(given, node);
          } else if (kind === 'release' && mine.length > 0) {
            const address = mine[pick % mine.length] ?? assert.fail();
            await lab.release(node, poolId, address);
            allocation.delete(address);
            released.push(address);
          } else if (kind === 'release-again' && released.length > 0) {
            // Repeated by the other host: it must not release an address that has a new owner.
            const address = released[pick % released.length] ?? assert.fail();
            const other = nodes.find((name) => name !== allocation.get(address)) ?? node;
            await lab.release(other, pools.get(other) ?? '', address);
          }
        }
        const stored = [...lab.mirror.list('Block4').values()].flatMap(({ value }) =>
          [...allocatedAddresses(value)].map(([address, { secondary }]) => [
            address,
            secondary?.['node'],
          ]),
        );
        assert.deepEqual(new Map(stored.map(([a, n]) => [a, n])), allocation);
        const problems = checkIpam(lab.mirror).filter(
          (text) => !text.includes('not used by an endpoint'),
        );
        assert.deepEqual(problems, []);
        for (const node of nodes) {
          await lab.writer.write((draft) => reclaim(draft, node, findLeaks(draft, node)), signal);
        }
        assert.deepEqual(checkIpam(lab.mirror), []);
        assert.equal(lab.mirror.list('Handle').size, 0);
        assert.equal(lab.mirror.list('DockerPool').size, 0);
      }),
    ),
    { numRuns: 40 },
  );
});

test('an IP pool created for a subnet is deleted with the last host that uses it', () =>
  withIpam(async (lab) => {
    const [a, b] = [
      await lab.pool('host-a', '10.99.0.0/24'),
      await lab.pool('host-b', '10.99.0.0/24'),
    ];
    assert.equal(a['Pool'], '10.99.0.0/24');
    assert.ok(lab.mirror.get('IPPool', 'subnet-10-99-0-0-24'));
    await lab.releasePool('host-a', String(a['PoolID']));
    assert.ok(lab.mirror.get('IPPool', 'subnet-10-99-0-0-24'));
    await lab.releasePool('host-b', String(b['PoolID']));
    assert.equal(lab.mirror.get('IPPool', 'subnet-10-99-0-0-24'), undefined);
    await lab.releasePool('host-b', String(b['PoolID']));
  }));

test('hosts share the gateway and the auxiliary addresses of a subnet; containers do not get them', () =>
  withIpam(async (lab) => {
    for (const node of nodes) {
      const pool = await lab.pool(node, '10.99.0.0/29');
      const PoolID = String(pool['PoolID']);
      const Options = { RequestAddressType: 'com.docker.network.gateway' };
      const gateway = { PoolID, Address: '10.99.0.1', Options };
      await lab.ipam(node).requestAddress.answer(gateway, signal);
      const given = await lab.address(node, PoolID);
      assert.notEqual(given, '10.99.0.1');
    }
    const second = await lab.pool('host-a', '10.99.0.0/29');
    await assert.rejects(
      lab.ipam('host-a').requestAddress.answer(
        {
          PoolID: String(second['PoolID']),
          Address: '10.99.0.1',
          Options: { RequestAddressType: 'com.docker.network.gateway' },
        },
        signal,
      ),
      { code: 'ipam/address-taken' },
    );
  }));

test('a network with two subnets continues with the second under the same PoolID', () =>
  withIpam(async (lab) => {
    const pools = [
      await lab.pool('host-a', '10.99.0.0/31'),
      await lab.pool('host-a', '10.99.1.0/31'),
    ];
    await lab.adopt('host-a', 'net1', pools);
    const first = String(pools[0]?.['PoolID']);
    const given = [
      await lab.address('host-a', first),
      await lab.address('host-a', first),
      await lab.address('host-a', first),
    ];
    assert.deepEqual(
      given.map((address) => address.slice(0, 7)),
      ['10.99.0', '10.99.0', '10.99.1'],
    );
    await lab.release('host-a', first, given[2] ?? '');
    assert.equal(
      await lab.address('host-a', first),
      given[2] === '10.99.1.0' ? '10.99.1.1' : '10.99.1.0',
    );
  }));

test('reservations, block limits, strict affinity and node selectors are respected', () =>
  withIpam(async (lab) => {
    await lab.writer.write((draft) => {
      draft.put('IPReservation', 'r', {
        kind: 'IPReservation',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'r' },
        spec: { reservedCIDRs: [parseCidr('10.65.0.0/27')] },
      });
      draft.put('IpamConfig', 'config', {
        auto_allocate_blocks: true,
        strict_affinity: true,
        maxBlocksPerHost: 2,
      });
    }, signal);
    const poolId = String((await lab.pool('host-a'))['PoolID']);
    for (let n = 0; n < 16; n++) {
      const address = await lab.address('host-a', poolId);
      assert.ok(Number(address.split('.')[3]) >= 32, `${address} is reserved`);
    }
    await assert.rejects(lab.address('host-a', poolId), { code: 'ipam/block-limit' });
    await lab.writer.write((draft) => {
      const { spec, ...rest } = defaultPool;
      draft.put('IPPool', 'default-ipv4-ippool', {
        ...rest,
        spec: { ...spec, nodeSelector: "rack == 'host-b'" },
      });
    }, signal);
    await assert.rejects(lab.pool('host-a'), { code: 'ipam/no-pool' });
    assert.ok(
      parseAddress(await lab.address('host-b', String((await lab.pool('host-b'))['PoolID']))),
    );
  }));

test('a PoolID whose record was lost still works', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    await lab.writer.write((draft) => {
      const ids = [...draft.entries('DockerPool')].map(([id]) => id);
      for (const id of ids) draft.remove('DockerPool', id);
    }, signal);
    assert.match(await lab.address('host-a', poolId), /^10\.99\.0\./);
    await assert.rejects(lab.address('host-a', 'something else'), { code: 'ipam/unknown-pool-id' });
  }));

test('an address that Docker released before its endpoint can be requested again, and no other', () =>
  withIpam(async (lab) => {
    const pool = await lab.pool('host-a', '10.99.0.0/24');
    const poolId = String(pool['PoolID']);
    await lab.adopt('host-a', 'net1', [pool]);
    for (const address of ['10.99.0.7', '10.99.0.8']) {
      await lab.address('host-a', poolId, address);
      await lab.connect('host-a', 'net1', { endpointId: `of${address}`, address });
    }
    const isTaken = { code: 'ipam/address-taken' };
    await assert.rejects(lab.address('host-a', poolId, '10.99.0.7'), isTaken);
    await lab.release('host-a', poolId, '10.99.0.7');
    assert.equal(await lab.address('host-a', poolId, '10.99.0.7'), '10.99.0.7');
    await lab.connect('host-a', 'net1', { endpointId: 'next', address: '10.99.0.7' });
    await assert.rejects(lab.address('host-a', poolId, '10.99.0.7'), isTaken);
    await assert.rejects(lab.address('host-a', poolId, '10.99.0.8'), isTaken);
  }));
