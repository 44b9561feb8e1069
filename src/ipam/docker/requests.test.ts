import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { signal, withIpam } from '../ipam-lab.fixture.ts';
import { addressSpaces, createDockerIpam } from './docker-ipam.ts';
import { chooseNextHop } from './next-hop.ts';
import { formatPoolId, isOwnPoolId, parsePoolId } from './pool-id.ts';

test('a PoolID contains the whole request', () => {
  const facts = fc.record(
    {
      family: fc.constantFrom<4 | 6>(4, 6),
      subnet: fc.constantFrom('10.99.0.0/16', 'fd00::/64').map(parseCidr),
      range: fc.constantFrom('10.99.4.0/24', 'fd00::/96').map(parseCidr),
      ipPools: fc.array(fc.constantFrom('a', 'b-c', 'd.e'), { minLength: 1, maxLength: 3 }),
      forSwarm: fc.constant(true),
      nonce: fc.constantFrom('1f2e3d4c', 'x'),
    },
    { requiredKeys: ['family', 'nonce'], noNullPrototype: true },
  );
  fc.assert(
    fc.property(facts, (asked) => {
      const poolId = formatPoolId(asked);
      assert.ok(isOwnPoolId(poolId));
      assert.deepEqual(parsePoolId(poolId), asked);
    }),
  );
  const text = 'calico;v=4;for=swarm;subnet=10.99.0.0/16;range=10.99.4.0/24;pools=a,b;id=n0';
  assert.equal(formatPoolId(parsePoolId(text)), text);
  for (const other of [
    'CalicoPool',
    'calico',
    'calico;v=5;id=x',
    'calico;v=4',
    'docker;v=4;id=x',
    '',
  ]) {
    assert.throws(() => parsePoolId(other), { code: 'ipam/unknown-pool-id' }, other);
  }
  assert.ok(!isOwnPoolId('calico') && !isOwnPoolId('CalicoPoolIPv4'));
});

test('a next hop is link-local, not reserved, and different for each network of a host', () =>
  withIpam(async (lab) => {
    const choose = (nonce: string, family: 4 | 6 = 4, node = 'host-a') =>
      lab.plan((draft) => chooseNextHop(draft, { node, family, nonce }));
    const first = await choose('n');
    assert.match(first, /^169\.254\./);
    assert.match(await choose('n', 6), /^fe80::/);
    assert.equal(await choose('n'), first, 'the same whenever it is free');
    const next = (hop: string, step: number) => {
      const [, , c = 0, d = 0] = hop.split('.').map(Number);
      const at = c * 256 + d + step;
      return `169.254.${Math.floor(at / 256)}.${at % 256}`;
    };
    await lab.plan((draft) => {
      draft.put('DockerPool', 'host-a/x', {
        poolId: 'calico;v=4;id=x',
        node: 'host-a',
        family: 4,
        nextHop: parseAddress(first),
        createdAt: '2026-01-01T00:00:00Z',
      });
      draft.put('DockerNetwork', 'host-a/y', {
        id: 'y',
        node: 'host-a',
        ipam: 'docker',
        internal: false,
        ipv4: true,
        ipv6: false,
        subnets: [],
        options: {},
        nextHop4: parseAddress(next(first, 1)),
      });
    });
    assert.equal(await choose('n'), next(first, 2), 'those of pools and of networks are in use');
    assert.equal(await choose('n', 4, 'host-b'), first, "another host's are not");
    // A search that begins in a reserved range returns the first address after it.
    const hops = new Map<string, number>();
    await lab.plan((draft) => {
      for (let n = 0; n < 3000; n++) {
        const hop = chooseNextHop(draft, { node: 'host-b', family: 4, nonce: `nonce-${n}` });
        hops.set(hop, (hops.get(hop) ?? 0) + 1);
      }
    });
    const thirds = new Set([...hops.keys()].map((hop) => hop.split('.')[2]));
    assert.ok(!thirds.has('0') && !thirds.has('255'), 'RFC 3927 reserves the first and last 256');
    assert.ok(!hops.has('169.254.169.254'));
    assert.ok(
      (hops.get('169.254.1.0') ?? 0) > 5,
      'those that begin in a reserved range go on after it',
    );
  }));

test('a pool has its subnet, or 0.0.0.0/0 for any, and its next hop as gateway', () =>
  withIpam(async (lab) => {
    const Options = { RequestAddressType: 'com.docker.network.gateway' };
    const any = await lab.requestPool('host-a', {});
    assert.equal(any['Pool'], '0.0.0.0/0');
    assert.match(String(Object.values(any['Data'] ?? {})[0]), /^169\.254\.\d+\.\d+\/32$/);
    const hop = await lab.address('host-a', String(any['PoolID']), undefined, Options);
    assert.match(hop, /^169\.254\./, 'a gateway that is not chosen is the next hop');
    assert.equal(await lab.address('host-a', String(any['PoolID']), hop, Options), hop);
    assert.equal(await lab.holder(hop), undefined, 'which is of no pool');
    await lab.plan((draft) => {
      const pool = draft.get('IPPool', 'default-ipv4-ippool') ?? assert.fail();
      const spec = { ...pool.spec, cidr: parseCidr('fd00::/48'), blockSize: 122 };
      draft.put('IPPool', 'six', { ...pool, metadata: { name: 'six' }, spec });
    });
    const six = await lab.requestPool('host-a', { V6: true });
    assert.equal(six['Pool'], 'fd00::/48');
    const unspecified = await lab.requestPool('host-a', { Pool: '0.0.0.0/24' });
    assert.equal(unspecified['Pool'], '0.0.0.0/0', 'any subnet of a size is any');
    const answer = await lab
      .ipam('host-a')
      .requestAddress.answer({ PoolID: String(six['PoolID']), Address: '::', Options: {} }, signal);
    assert.match('Address' in answer ? String(answer.Address) : '', /^fd00::.*\/128$/);
    const space = 'CalicoAddressSpace';
    assert.deepEqual(addressSpaces('local'), {
      LocalDefaultAddressSpace: space,
      GlobalDefaultAddressSpace: space,
    });
    assert.equal(addressSpaces('global').GlobalDefaultAddressSpace, 'CalicoSwarmAddressSpace');
  }));

test('endless requests of Docker for an IPv6 pool are rejected after 32 unused ones', () =>
  withIpam(async (lab) => {
    await lab.plan((draft) => {
      const pool = draft.get('IPPool', 'default-ipv4-ippool') ?? assert.fail();
      const spec = { ...pool.spec, cidr: parseCidr('fd00::/48'), blockSize: 122 };
      draft.put('IPPool', 'six', { ...pool, metadata: { name: 'six' }, spec });
    });
    const began = Date.now();
    lab.now = () => new Date(began);
    const ask = () => lab.requestPool('host-a', { V6: true });
    for (let n = 0; n < 32; n++) await ask();
    await assert.rejects(ask(), { code: 'ipam/asked-too-often' });
    assert.ok(await lab.requestPool('host-b', { V6: true }), 'another host has its own');
    assert.ok(await lab.requestPool('host-a', {}), 'IPv4 pools may be shown as any');
    assert.ok(await lab.requestPool('host-a', { Pool: 'fd00:99::/64', V6: true }));
    lab.now = () => new Date(began + 5000);
    assert.ok(await ask(), 'those of a while ago do not count');
  }));

test('an address is released only by its holder: another host, another network or a repetition releases nothing', () =>
  withIpam(async (lab) => {
    const [a, b] = [
      await lab.pool('host-a', '10.99.0.0/24'),
      await lab.pool('host-b', '10.99.0.0/24'),
    ];
    const [own, other] = [String(a['PoolID']), String(b['PoolID'])];
    const second = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    await lab.address('host-a', own, '10.99.0.7');
    await lab.release('host-b', other, '10.99.0.7');
    await lab.release('host-a', second, '10.99.0.7');
    await lab.release('host-a', 'CalicoPoolIPv4', '10.99.0.7');
    await lab.release('host-b', own, '10.99.0.7');
    await lab.release('host-a', own, '169.254.1.1');
    await lab.release('host-a', own, '10.98.0.1');
    await lab.release('host-a', own, '0.0.0.0');
    assert.ok(await lab.holder('10.99.0.7'));
    await lab.release('host-a', own, '10.99.0.7/32');
    assert.equal(await lab.holder('10.99.0.7'), undefined);
    await lab.release('host-a', own, '10.99.0.7');
    // Each network releases its own share of a shared address.
    const Options = { RequestAddressType: 'com.docker.network.gateway' };
    await lab.address('host-a', own, '10.99.0.1', Options);
    await lab.address('host-b', other, '10.99.0.1', Options);
    await lab.address('host-a', own, '10.99.0.1', Options);
    await lab.release('host-a', second, '10.99.0.1');
    assert.equal((await lab.holder('10.99.0.1'))?.secondary?.['holders'], 'host-a/n0,host-b/n1');
    await lab.release('host-a', own, '10.99.0.1');
    assert.equal((await lab.holder('10.99.0.1'))?.secondary?.['holders'], 'host-b/n1');
    await lab.release('host-b', other, '10.99.0.1');
    assert.equal(await lab.holder('10.99.0.1'), undefined);
    assert.equal(lab.mirror.list('Handle').size, 0);
  }));

test('an allocated address becomes a shared gateway with its own network only', () =>
  withIpam(async (lab) => {
    const own = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    const second = String((await lab.pool('host-a', '10.99.0.0/24'))['PoolID']);
    const Options = { RequestAddressType: 'com.docker.network.gateway' };
    await lab.address('host-a', own, '10.99.0.7');
    await assert.rejects(lab.address('host-a', second, '10.99.0.7', Options), {
      code: 'ipam/address-taken',
    });
    await lab.address('host-a', own, '10.99.0.7', Options);
    assert.deepEqual((await lab.holder('10.99.0.7'))?.secondary, {
      node: 'host-a',
      pool: 'n0',
      type: 'gateway',
      holders: 'host-a/n0',
    });
    await assert.rejects(lab.address('host-a', second, '10.99.0.7'), {
      message: /in use by the network as its gateway address on host host-a/,
    });
  }));

test('a new subnet must not overlap ranges of the host; one of an existing pool may, and no subnet is not checked', () =>
  withIpam(async (lab) => {
    let asked = 0;
    const ipam = createDockerIpam({
      node: 'host-a',
      writer: lab.writer,
      now: () => new Date(),
      nonce: () => `u${asked}`,
      stamp: (pool) => ({ ...pool, metadata: { ...pool.metadata, uid: 'stamped' } }),
      last: lab.last,
      usedRanges: () => {
        asked++;
        return [{ cidr: parseCidr('10.99.0.0/16'), what: 'interface eth0' }];
      },
    });
    const request = (Pool?: string) =>
      ipam.requestPool.answer(
        { AddressSpace: undefined, Pool, SubPool: undefined, Options: {}, V6: false },
        signal,
      );
    await assert.rejects(request('10.99.7.0/24'), {
      code: 'ipam/subnet-in-use',
      message: /subnet 10\.99\.7\.0\/24 overlaps interface eth0 \(10\.99\.0\.0\/16\) on this host/,
    });
    assert.ok(await request('10.98.0.0/24'));
    assert.equal(asked, 2);
    assert.equal(
      lab.mirror.get('IPPool', 'subnet-10-98-0-0-24')?.value.metadata['uid'],
      'stamped',
      'it is a resource like others',
    );
    assert.ok(await request());
    assert.equal(asked, 2, 'a pool that is there is not compared');
    await lab.pool('host-b', '10.99.7.0/24');
    assert.ok(await request('10.99.7.0/25'), 'what another host made is there already');
  }));

test('the error of a full pool names range and size, for several pools all of them', () =>
  withIpam(async (lab) => {
    const poolId = String((await lab.pool('host-a'))['PoolID']);
    for (let n = 0; n < 64; n++) await lab.address('host-a', poolId);
    const full = (where: string, size: number) => ({
      code: 'ipam/full',
      message: new RegExp(`^no free address in ${where} \\(${size} addresses\\);`),
    });
    const first = String.raw`IP pool default-ipv4-ippool \(10\.65\.0\.0/26\)`;
    await assert.rejects(lab.address('host-a', poolId), full(first, 64));
    await lab.plan((draft) => {
      const pool = draft.get('IPPool', 'default-ipv4-ippool') ?? assert.fail();
      const spec = { ...pool.spec, cidr: parseCidr('10.66.0.0/28'), blockSize: 28 };
      draft.put('IPPool', 'more', { ...pool, metadata: { name: 'more' }, spec });
    });
    for (let n = 0; n < 16; n++) await lab.address('host-a', poolId);
    const both = `${first}, ${String.raw`more \(10\.66\.0\.0/28\)`}`;
    await assert.rejects(lab.address('host-a', poolId), full(both, 80));
    await assert.rejects(lab.address('host-a', poolId, '10.67.0.1'), {
      message:
        'address 10.67.0.1 is not in IP pool default-ipv4-ippool (10.65.0.0/26), more (10.66.0.0/28)',
    });
  }));

test('a new container whose event comes after its request does not get the address of a stopped one', () =>
  withIpam(async (lab) => {
    const pool = await lab.pool('host-a', '10.99.0.0/24');
    const poolId = String(pool['PoolID']);
    await lab.adopt('host-a', 'net1', [pool]);
    const [address, other] = [
      await lab.address('host-a', poolId),
      await lab.address('host-a', poolId),
    ].map(parseAddress);
    assert.ok(address !== undefined && other !== undefined);
    await lab.release('host-a', poolId, address);
    await lab.release('host-a', poolId, other);
    lab.last.used({ address, network: 'net1', container: 'app', containerId: 'id-app' });
    lab.last.freed(address);
    assert.equal(await lab.address('host-a', poolId), address);
    await lab.release('host-a', poolId, address);
    const requested = lab.address('host-a', poolId);
    await new Promise((resolve) => setTimeout(resolve, 5));
    lab.last.containerNamed('id-new', 'new', true);
    assert.notEqual(await requested, address);
  }));
