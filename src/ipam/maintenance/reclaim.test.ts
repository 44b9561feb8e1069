import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signal, withIpam, type Lab } from '../ipam-lab.fixture.ts';
import { reclaim, findLeaks, leakIdentity, leakKey, type SwarmFacts } from './reclaim.ts';
import { swarmAddressSpace } from '../docker/network-addresses.ts';
import { checkIpam } from './report.ts';

const gatewayOption = { RequestAddressType: 'com.docker.network.gateway' };

async function findsOf(lab: Lab, node: string, swarm?: SwarmFacts): Promise<readonly string[]> {
  const finds = await lab.plan((draft) => findLeaks(draft, node, swarm));
  return finds.map(leakKey);
}

test('a host finds its own leaks: addresses without an endpoint, pools without a network', () =>
  withIpam(async (lab) => {
    const own = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    const other = String((await lab.pool('host-b', '10.99.0.0/24'))['PoolID']);
    await lab.address('host-a', own, '10.99.0.7');
    await lab.address('host-b', other, '10.99.0.8');
    assert.deepEqual(await findsOf(lab, 'host-a'), [
      'address 10.99.0.7 docker.host-a.10-99-0-7',
      `pool ${own}`,
    ]);
    assert.deepEqual(await findsOf(lab, 'host-b'), [
      'address 10.99.0.8 docker.host-b.10-99-0-8',
      `pool ${other}`,
    ]);
    // A host reclaims nothing of another host, even if asked to, and nothing that has an owner again.
    const ofA = await lab.plan((draft) => findLeaks(draft, 'host-a'));
    await lab.plan((draft) => reclaim(draft, 'host-b', ofA));
    assert.ok(await lab.holder('10.99.0.7'));
    await lab.adopt('host-a', 'net1', [{ Pool: '10.99.0.0/24', Data: await nextHop(lab, own) }]);
    await lab.connect('host-a', 'net1', { endpointId: 'e1', address: '10.99.0.7' });
    assert.deepEqual(await findsOf(lab, 'host-a'), []);
    await lab.plan((draft) => reclaim(draft, 'host-a', ofA));
    assert.equal((await lab.holder('10.99.0.7'))?.secondary?.['endpoint'], 'e1');
    assert.ok(await lab.holder('10.99.0.8'));
    await lab.disconnect('host-a', 'e1');
    assert.deepEqual(await findsOf(lab, 'host-a'), ['address 10.99.0.7 docker.host-a.10-99-0-7']);
    await lab.removeNetwork('host-a', 'net1');
    assert.equal(await lab.plan((draft) => reclaim(draft, 'host-a', ofA)), 'done');
    assert.equal(await lab.holder('10.99.0.7'), undefined);
    assert.deepEqual(
      [...lab.mirror.list('DockerPool').values()].map(({ value }) => value.node),
      ['host-b'],
    );
    assert.ok(lab.mirror.get('IPPool', 'subnet-10-99-0-0-24'), 'host-b uses it still');
  }));

test('an address that was released and allocated again is not the leak that was found before', () =>
  withIpam(async (lab) => {
    const own = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    await lab.address('host-a', own, '10.99.0.7');
    const found = await lab.plan((draft) => findLeaks(draft, 'host-a'));
    const release = { PoolID: own, Address: '10.99.0.7' };
    await lab.ipam('host-a').releaseAddress.answer(release, signal);
    await lab.address('host-a', own, '10.99.0.7');
    const again = await lab.plan((draft) => findLeaks(draft, 'host-a'));
    const identities = (leaks: typeof found) => leaks.map(leakIdentity);
    const [before, after] = [identities(found), identities(again)];
    assert.deepEqual([before.length, before[1] === after[1]], [2, true], 'the pool is the same');
    assert.notEqual(before[0], after[0]);
    await lab.plan((draft) => reclaim(draft, 'host-a', found.slice(0, 1)));
    assert.ok(await lab.holder('10.99.0.7'), 'an earlier find reclaims nothing');
    await lab.plan((draft) => reclaim(draft, 'host-a', again.slice(0, 1)));
    assert.equal(await lab.holder('10.99.0.7'), undefined);
  }));

async function nextHop(lab: Lab, poolId: string) {
  const records = [...lab.mirror.list('DockerPool').values()].map(({ value }) => value);
  const hop = records.find((record) => record.poolId === poolId)?.nextHop ?? assert.fail();
  return { 'com.docker.network.gateway': `${hop}/32` };
}

test('an address shared by hosts stays until the last of them has removed its pool', () =>
  withIpam(async (lab) => {
    const pools = new Map<string, string>();
    for (const node of ['host-a', 'host-b']) {
      const poolId = String((await lab.pool(node, '10.99.0.0/24'))['PoolID']);
      pools.set(node, poolId);
      await lab.address(node, poolId, '10.99.0.1', gatewayOption);
    }
    const sharers = async () => (await lab.holder('10.99.0.1'))?.secondary?.['holders'];
    assert.equal(await sharers(), 'host-a/n0,host-b/n1');
    assert.deepEqual(await findsOf(lab, 'host-a'), [`pool ${pools.get('host-a')}`]);
    await lab.ipam('host-a').releasePool.answer({ PoolID: pools.get('host-a') ?? '' }, signal);
    assert.deepEqual(await findsOf(lab, 'host-b'), [`pool ${pools.get('host-b')}`]);
    const finds = await lab.plan((draft) => findLeaks(draft, 'host-a'));
    assert.deepEqual(finds.map(leakKey), ['address 10.99.0.1 docker.shared.10-99-0-1']);
    await lab.plan((draft) => reclaim(draft, 'host-a', finds));
    assert.equal(await sharers(), 'host-b/n1');
    await lab.plan((draft) => draft.remove('DockerPool', 'host-b/n1'));
    const last = await lab.plan((draft) => findLeaks(draft, 'host-b'));
    await lab.plan((draft) => reclaim(draft, 'host-b', last));
    assert.equal(await lab.holder('10.99.0.1'), undefined);
    assert.deepEqual(checkIpam(lab.mirror), []);
  }));

test("a manager's pool is a leak once the network is removed, the host is no manager, or another manager leads", () =>
  withIpam(async (lab) => {
    const ask = async (node: string) => {
      const pool = await lab.pool(node, '10.99.0.0/24', undefined, swarmAddressSpace);
      return String(pool['PoolID']);
    };
    const leader = await ask('host-a');
    const isManager = true;
    const inTouch = (...networks: readonly string[]) => ({
      isManager,
      networks: new Set(networks),
    });
    const never = [`pool ${leader}`];
    assert.deepEqual(await findsOf(lab, 'host-a', { isManager }), never, 'tied to no network');
    await lab.allocate('host-a', 'web', '10.99.0.0/24', '10.99.0.1');
    const claimed = await lab.address('host-a', leader);
    assert.deepEqual(await findsOf(lab, 'host-a', { isManager }), []);
    assert.deepEqual(await findsOf(lab, 'host-a', inTouch('web')), []);
    assert.deepEqual(await findsOf(lab, 'host-a', inTouch('other')), [`pool ${leader}`]);
    assert.deepEqual(await findsOf(lab, 'host-a', { isManager: false }), [`pool ${leader}`]);
    const next = await ask('host-b');
    await lab.allocate('host-b', 'web', '10.99.0.0/24', '10.99.0.1');
    const replaced = [`claim ${claimed} host-a/n0`, `pool ${leader}`];
    assert.deepEqual(await findsOf(lab, 'host-a', { isManager }), replaced);
    // The former leader may never come back: the present leader reclaims its claims. Its record is its own.
    assert.deepEqual(await findsOf(lab, 'host-b', { isManager }), replaced.slice(0, 1));
    const reclaimOn = (host: string) =>
      lab.on(host).write((draft) => {
        const finds = findLeaks(draft, host, { isManager });
        reclaim(draft, host, finds, { isManager });
      }, signal);
    await reclaimOn('host-b');
    assert.equal(await lab.holder(claimed), undefined);
    await reclaimOn('host-a');
    assert.deepEqual(
      [...lab.mirror.list('DockerPool').values()].map(({ value }) => value.poolId),
      [next],
    );
  }));
