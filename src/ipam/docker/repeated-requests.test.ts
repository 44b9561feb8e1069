import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withIpam, type Lab } from '../ipam-lab.fixture.ts';

const isTaken = { code: 'ipam/address-taken' };

/** Creates a network of host-a on a subnet; returns its PoolID. */
async function network(lab: Lab, id: string): Promise<string> {
  const pool = await lab.pool('host-a', '10.99.0.0/24');
  await lab.adopt('host-a', id, [pool]);
  return String(pool['PoolID']);
}

function named(container: string): Readonly<Record<string, string>> {
  return { 'com.docker.network.endpoint.name': container };
}

test('a repeated request for one address succeeds until an endpoint has it', () =>
  withIpam(async (lab) => {
    const poolId = await network(lab, 'net1');
    const ask = () => lab.address('host-a', poolId, '10.99.0.7');
    assert.deepEqual(new Set(await Promise.all([ask(), ask(), ask()])), new Set(['10.99.0.7']));
    assert.equal(await ask(), '10.99.0.7');
    await lab.connect('host-a', 'net1', { endpointId: 'e1', address: '10.99.0.7' });
    await assert.rejects(ask(), isTaken);
    // Its endpoint was removed, but Docker has yet to release the address, and means the first allocation.
    await lab.disconnect('host-a', 'e1');
    await assert.rejects(ask(), isTaken);
    await lab.release('host-a', poolId, '10.99.0.7');
    await lab.release('host-a', poolId, '10.99.0.7');
    assert.equal(await ask(), '10.99.0.7');
  }));

test('an unused address of one network is not allocated to another network or host', () =>
  withIpam(async (lab) => {
    const poolId = await network(lab, 'net1');
    const other = await network(lab, 'net2');
    const elsewhere = String((await lab.pool('host-b', '10.99.0.0/24'))['PoolID']);
    await lab.address('host-a', poolId, '10.99.0.7');
    await assert.rejects(lab.address('host-a', other, '10.99.0.7'), isTaken);
    await assert.rejects(lab.address('host-b', elsewhere, '10.99.0.7'), isTaken);
  }));

test('if Docker names the container, another one is rejected, and a repeated request for any address gets the same', () =>
  withIpam(async (lab) => {
    const poolId = await network(lab, 'net1');
    await lab.address('host-a', poolId, '10.99.0.7', named('app'));
    assert.equal(await lab.address('host-a', poolId, '10.99.0.7', named('app')), '10.99.0.7');
    await assert.rejects(lab.address('host-a', poolId, '10.99.0.7', named('db')), isTaken);
    const ask = (container: string) => lab.address('host-a', poolId, undefined, named(container));
    const [first, second] = await Promise.all([ask('web'), ask('web')]);
    assert.equal(first, second);
    assert.notEqual(await ask('worker'), first);
    await lab.connect('host-a', 'net1', { endpointId: 'e1', address: first });
    assert.notEqual(await ask('web'), first);
  }));

test('a reserved address stays with its network, even if requested repeatedly', () =>
  withIpam(async (lab) => {
    const pool = await lab.pool('host-a', '10.99.0.0/24');
    const poolId = String(pool['PoolID']);
    const asGateway = { RequestAddressType: 'com.docker.network.gateway' };
    for (const _ of [1, 2]) {
      assert.equal(await lab.address('host-a', poolId, '10.99.0.1', asGateway), '10.99.0.1');
      // An auxiliary address looks like any other until the network is created.
      assert.equal(await lab.address('host-a', poolId, '10.99.0.5'), '10.99.0.5');
    }
    await assert.rejects(lab.address('host-a', poolId, '10.99.0.1'), isTaken);
  }));
