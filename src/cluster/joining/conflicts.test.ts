import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { addressAt, cidrsOverlap, parseCidr, subnetAt, type Cidr } from '../../ip/cidr.ts';
import { newBlock, withAllocation } from '../../ipam/records/block.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import type { Node } from '../../model/kinds/node.ts';
import type { HostIdentity, NodeReport } from '../../model/kinds/node-report.ts';
import { findConflicts, freeRanges, type Island, type Mainland } from './conflicts.ts';
import { itemOf } from './stored-items.fixture.ts';
import type { StoredItem } from './stored-items.ts';

const now = new Date('2026-03-01T12:00:00Z');
const minutesLater = (minutes: number) => new Date(now.getTime() + minutes * 60_000);
const apiVersion = 'projectcalico.org/v3';

const identity = (name: string): HostIdentity => ({
  bootId: name,
  networkNamespace: name,
  machineId: name,
  macs: [`02:00:00:00:00:${name.slice(-1).padStart(2, '0')}`],
});
const pool = (name: string, cidr: string, more: Partial<IpPool['metadata']> = {}, blockSize = 26) =>
  itemOf('IPPool', name, {
    kind: 'IPPool',
    apiVersion,
    metadata: { name, ...more },
    spec: { cidr: parseCidr(cidr), blockSize },
  });
const block = (host: string, cidr: Cidr, ordinals: readonly number[]): StoredItem => {
  const filled = ordinals.reduce(
    (present, ordinal) =>
      withAllocation(present, addressAt(cidr, BigInt(ordinal)), {
        handle_id: `${host}-${ordinal}`,
        secondary: { node: host, networkName: 'web', container: `c${ordinal}` },
      }),
    newBlock(cidr, host, now),
  );
  return itemOf('Block4', cidr, filled);
};
const node = (name: string, address: string): StoredItem => {
  const value: Node = {
    kind: 'Node',
    apiVersion,
    metadata: { name },
    spec: { bgp: { ipv4Address: `${address}/24` } },
  };
  return itemOf('Node', name, value);
};
const report = (name: string, isLive: boolean): StoredItem => {
  const value: NodeReport = {
    time: now.toISOString(),
    uptime: 1,
    first_update: true,
    host: identity(name),
  };
  return itemOf('NodeReport', `${name}/${isLive ? 'status' : 'last_reported_status'}`, value);
};
const network = (host: string, name: string, subnets: readonly string[]): StoredItem => {
  const value: DockerNetwork = {
    id: `${host}${name}`,
    node: host,
    name,
    ipam: 'calico',
    internal: false,
    ipv4: true,
    ipv6: false,
    subnets: subnets.map((cidr) => ({ family: 4, cidr: parseCidr(cidr) })),
    options: {},
  };
  return itemOf('DockerNetwork', `${host}/${value.id}`, value);
};
const definition = (name: string, uid: string, subnets: readonly string[]): StoredItem => {
  const value: NetworkDefinition = {
    name,
    uid,
    createdAt: now.toISOString(),
    internal: false,
    ipv6: false,
    subnets: subnets.map((cidr) => ({ cidr: parseCidr(cidr) })),
    options: {},
    labels: {},
  };
  return itemOf('NetworkDefinition', name, value);
};

const cluster = (...items: readonly StoredItem[]): Mainland => ({
  time: now,
  items: [node('host-1', '192.0.2.1'), report('host-1', true), ...items],
  own: new Set(),
});
const island = (...items: readonly StoredItem[]): Island => ({
  node: 'host-2',
  host: identity('host-2'),
  time: now,
  items: [node('host-2', '192.0.2.2'), ...items],
});
const texts = (of: Island, joins: Mainland) =>
  findConflicts(of, joins).map(({ about, text }) => `${about}: ${text}`);

describe('conflicts of a host with the cluster that it joins', () => {
  test('a new host and a host with other addresses have none', () => {
    const range = pool('default-ipv4-ippool', '10.65.0.0/16');
    const first = block('host-1', parseCidr('10.65.0.0/26'), [0, 1]);
    assert.deepEqual(texts(island(), cluster(range, first)), []);
    const second = block('host-2', parseCidr('10.65.0.64/26'), [0, 1]);
    assert.deepEqual(texts(island(range, second), cluster(range, first)), []);
  });

  test('containers in a block of another host are named, and how many addresses both use', () => {
    const range = pool('default-ipv4-ippool', '10.65.0.0/16');
    const cidr = parseCidr('10.65.0.0/26');
    assert.deepEqual(
      texts(
        island(range, block('host-2', cidr, [0, 1, 2, 3, 4, 5])),
        cluster(range, block('host-1', cidr, [1, 2, 7])),
      ),
      [
        'addresses: 10.65.0.0 (container c0 of network web), 10.65.0.1 (container c1 of network web), 10.65.0.2 (container c2 of network web), 10.65.0.3 (container c3 of network web), 10.65.0.4 (container c4 of network web) and 1 more in block 10.65.0.0/26 of this host, but block 10.65.0.0/26 belongs to host host-1, which uses 2 of them; renumber the containers',
      ],
    );
  });

  test('a block without containers is no conflict', () => {
    const range = pool('default-ipv4-ippool', '10.65.0.0/16');
    const cidr = parseCidr('10.65.0.0/26');
    const used = block('host-1', cidr, [1]);
    assert.deepEqual(texts(island(range, block('host-2', cidr, [])), cluster(range, used)), []);
  });

  test('pools that overlap are one only if range and block size are the same', () => {
    const theirs = pool('default-ipv4-ippool', '10.65.0.0/16');
    assert.deepEqual(texts(island(pool('mine', '10.65.0.0/16')), cluster(theirs)), []);
    assert.deepEqual(texts(island(pool('mine', '10.65.0.0/16', {}, 24)), cluster(theirs)), [
      'pool: IP pool mine (10.65.0.0/16, blocks of /24) of this host overlaps IP pool default-ipv4-ippool (10.65.0.0/16, blocks of /26) of the cluster; delete it (calico-cnm delete ippool mine) once no container uses it',
    ]);
    const local = (host: string) => ({
      annotations: { 'docker.projectcalico.org/host-local': host },
    });
    assert.deepEqual(
      texts(
        island(pool('subnet-a', '172.20.0.0/16', local('host-2'))),
        cluster(pool('subnet-a', '172.20.0.0/16', local('host-1'))),
      ),
      [
        'pool: IP pool subnet-a (172.20.0.0/16, blocks of /26) of this host overlaps a network of host host-1 (172.20.0.0/16); recreate the network with another --subnet',
      ],
    );
  });

  test('networks of one name must have the same subnets', () => {
    const joins = cluster(
      network('host-1', 'web', ['10.5.0.0/24']),
      network('host-1', 'any', ['0.0.0.0/0']),
      definition('all', 'u1', ['10.6.0.0/24']),
    );
    const same = island(
      network('host-2', 'web', ['10.5.0.0/24']),
      network('host-2', 'any', ['0.0.0.0/0']),
      network('host-2', 'all', ['10.6.0.0/24']),
    );
    assert.deepEqual(texts(same, joins), []);
    const others = island(
      network('host-2', 'web', ['10.5.1.0/24']),
      network('host-2', 'any', ['10.9.0.0/24']),
      definition('all', 'u2', ['10.6.0.0/24']),
      network('host-2', 'all', ['10.6.0.0/24']),
    );
    assert.deepEqual(texts(others, joins), [
      'network: network all is defined both on this host and in the cluster; remove it here (calico-cnm network rm all) after its containers',
      'network: network web has subnets 10.5.1.0/24 on this host and 10.5.0.0/24 on host host-1; recreate it here with another name, or with the same subnets',
      'network: network any has subnets 10.9.0.0/24 on this host and from the IP pools on host host-1; recreate it here with another name, or with the same subnets',
    ]);
  });

  test('a node name is taken by another host, whether it runs or not, but not by the same host', () => {
    const taken = (isLive: boolean): Mainland => ({
      ...cluster(node('host-2', '192.0.2.2'), report('host-2', isLive)),
    });
    const stranger = { ...island(), host: identity('host-9') };
    assert.match(texts(stranger, taken(true)).join('\n'), /^node: .* taken by a host that runs/);
    assert.match(texts(stranger, taken(false)).join('\n'), /calico-cnm cluster remove host-2/);
    for (const isLive of [true, false]) assert.deepEqual(texts(island(), taken(isLive)), []);
  });

  test('the own blocks and networks of a host that joins again are no conflict', () => {
    const own = block('host-2', parseCidr('10.65.0.64/26'), [0]);
    const joins = cluster(node('host-2', '192.0.2.2'), report('host-2', false), own);
    assert.deepEqual(texts(island(own), joins), []);
    const moved = { ...cluster(own), own: new Set([own.key]) };
    assert.deepEqual(texts(island(own), moved), []);
    assert.equal(texts(island(own), cluster(own)).length, 1);
  });

  test('another node with the address of this host, and a clock that is a day off, are named', () => {
    const joins = cluster(node('host-3', '192.0.2.2'));
    assert.match(texts(island(), joins).join('\n'), /^node: node host-3 has address 192\.0\.2\.2/);
    assert.deepEqual(texts({ ...island(), time: minutesLater(-24 * 60 - 5) }, cluster()), [
      'clock: the clock of this host is 24 h 5 min behind that of the cluster; set it, for example: timedatectl set-ntp true',
    ]);
    assert.deepEqual(texts({ ...island(), time: minutesLater(4) }, cluster()), []);
  });

  test('without a conflict no address, block or range is used twice', () => {
    const ofHost = (host: string) =>
      fc
        .record({
          pools: fc.array(
            fc.record({ at: fc.integer({ min: 0, max: 3 }), size: fc.constantFrom(25, 26) }),
            { maxLength: 2 },
          ),
          blocks: fc.uniqueArray(
            fc.record({
              at: fc.integer({ min: 0, max: 7 }),
              length: fc.constantFrom(25, 26),
              used: fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { maxLength: 4 }),
            }),
            { maxLength: 3, selector: ({ at, length }) => `${at}/${length}` },
          ),
        })
        .map(({ pools, blocks }) => ({
          pools: pools.map(({ at, size }, index) => ({
            item: pool(
              `${host}-${index}`,
              subnetAt(parseCidr('10.65.0.0/22'), 24, BigInt(at)),
              {},
              size,
            ),
            cidr: subnetAt(parseCidr('10.65.0.0/22'), 24, BigInt(at)),
            size,
          })),
          blocks: blocks.map(({ at, length, used }) => {
            const cidr = subnetAt(parseCidr('10.65.0.0/22'), length, BigInt(at));
            return { item: block(host, cidr, used), cidr, isUsed: used.length > 0 };
          }),
        }));
    fc.assert(
      fc.property(ofHost('host-2'), ofHost('host-1'), (own, theirs) => {
        const items = (side: typeof own) => [...side.pools, ...side.blocks].map(({ item }) => item);
        const found = findConflicts(island(...items(own)), cluster(...items(theirs)));
        const isTwice = own.blocks.some(
          (one) => one.isUsed && theirs.blocks.some(({ cidr }) => cidrsOverlap(one.cidr, cidr)),
        );
        assert.equal(
          found.some(({ about }) => about === 'addresses'),
          isTwice,
        );
        const isMixed = own.pools.some((one) =>
          theirs.pools.some((two) => one.cidr === two.cidr && one.size !== two.size),
        );
        assert.equal(
          found.some(({ about }) => about === 'pool'),
          isMixed,
        );
      }),
    );
  });

  test('the range to renumber to overlaps no pool of either side', () => {
    const range = pool('default-ipv4-ippool', '10.65.0.0/16');
    const cidr = parseCidr('10.65.0.0/26');
    const own = island(range, pool('b', '10.67.0.0/16'), block('host-2', cidr, [1]));
    const joins = cluster(range, pool('a', '10.66.0.0/16'), block('host-1', cidr, [1]));
    const conflicts = findConflicts(own, joins);
    assert.deepEqual(freeRanges(conflicts, { island: own, cluster: joins }), ['10.68.0.0/16']);
    assert.deepEqual(freeRanges([], { island: own, cluster: joins }), []);
  });
});
