import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyResource, deleteResource } from './resources/resource-plans.ts';
import type { Datastore } from '../datastore/datastore.ts';
import type { LiveMirror } from '../cache/live-mirror.ts';
import { raced, type Race } from '../cache/raced-store.fixture.ts';
import { openWriters } from '../cache/writers.fixture.ts';
import { isCalicoError } from '../errors/error.ts';
import { parseAddress } from '../ip/address.ts';
import {
  cidrsOverlap,
  parseCidr,
  parseInterfaceAddress,
  splitCidr,
  type Cidr,
} from '../ip/cidr.ts';
import { entryTypes } from '../model/kinds/index.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import { allocatedAddresses, newBlock, withAllocation } from '../ipam/records/block.ts';
import { createDockerIpam } from '../ipam/docker/docker-ipam.ts';
import { LastAddresses } from '../ipam/docker/last-addresses.ts';
import { createNetworkAddresses } from '../ipam/docker/network-addresses.ts';

/**
 * Concurrent hosts and commands on one datastore: no two pools and no two blocks overlap at any moment, and no address is
 * allocated twice.
 */

const signal = AbortSignal.timeout(600_000);

/** Subnets with different overlaps. */
const subnets = [
  '10.9.0.0/16',
  '10.9.0.0/24',
  '10.9.0.0/27',
  '10.9.0.16/28',
  '10.9.0.32/27',
  '10.9.7.0/24',
  '10.8.0.0/15',
].map((text) => parseCidr(text));

const step = fc.record({
  kind: fc.constantFrom(
    'pool',
    'pool',
    'address',
    'address',
    'specific',
    'release',
    'release-pool',
    'apply',
    'delete',
    'docker-network',
    'foreign-pool',
    'foreign-delete',
  ),
  host: fc.nat(2),
  subnet: fc.constantFrom(...subnets),
  blockSize: fc.constantFrom(26, 27, 28, 29),
  pick: fc.nat(40),
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** Tests for every datastore; `open` opens another connection, to an empty datastore after `empty`. */
export function ownersContract(options: {
  readonly open: () => Promise<Datastore>;
  readonly empty: () => Promise<void>;
  readonly runs: number;
}): void {
  test('with concurrent requests of several hosts nothing overlaps and no address has two owners', () =>
    fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        await options.empty();
        await using crowd = await openWriters(
          [undefined, 'host-0', 'host-1', 'host-2'],
          options.open,
        );
        const [watching = assert.fail(), ...mirrors] = crowd.mirrors;
        const [, ...writers] = crowd.writers;
        const faults = watchForOverlaps(watching);
        const hosts = mirrors.map((mirror, index) =>
          host(`host-${index}`, { mirror, writer: writers[index] ?? assert.fail() }),
        );
        const owners = new Map<string, string>();
        // Hosts run concurrently; the steps of a host run in sequence.
        await Promise.all(
          hosts.map(async (one, index) => {
            for (const each of steps.filter((any) => any.host === index)) {
              await act(one, each, owners);
            }
          }),
        );
        await caughtUp(watching, mirrors);
        assert.deepEqual(faults, []);
      }),
      { numRuns: options.runs },
    ));

  test('of two overlapping subnets requested concurrently, one gets a pool', async () => {
    await options.empty();
    await using crowd = await openWriters(['host-0', 'host-1'], options.open);
    const hosts = crowd.writers.map((writer, index) =>
      host(`host-${index}`, { writer, mirror: crowd.mirrors[index] ?? assert.fail() }),
    );
    const [first = assert.fail(), second = assert.fail()] = hosts;
    for (let third = 0; third < 20; third++) {
      const requests = [
        first.requestPool(parseCidr(`10.${third}.0.0/16`)),
        second.requestPool(parseCidr(`10.${third}.7.0/24`)),
      ];
      const answers = await Promise.allSettled(requests);
      const taken: string[] = [];
      for (const [index, answer] of answers.entries()) {
        if (answer.status === 'rejected') continue;
        taken.push(
          await (hosts[index] ?? first)
            .requestAddress(answer.value, `10.${third}.7.0`)
            .catch(() => 'refused'),
        );
      }
      assert.ok(taken.filter((one) => one !== 'refused').length <= 1, 'one address has two owners');
      const made = [...first.mirror.list('IPPool').values()].filter(({ value }) =>
        cidrsOverlap(value.spec.cidr, parseCidr(`10.${third}.0.0/16`)),
      );
      assert.equal(made.length, 1, made.map(({ id }) => id).join());
    }
  });

  test('blocks of two sizes, claimed concurrently in overlapping pools, do not overlap', async () => {
    await options.empty();
    await using crowd = await openWriters([undefined, 'host-0', 'host-1'], options.open);
    const [watching = assert.fail(), ...mirrors] = crowd.mirrors;
    const [, ...writers] = crowd.writers;
    const faults = watchForOverlaps(watching);
    const hosts = mirrors.map((mirror, index) =>
      host(`host-${index}`, { mirror, writer: writers[index] ?? assert.fail() }),
    );
    const all: string[] = [];
    for (let third = 0; third < 20; third++) {
      const subnet = parseCidr(`10.9.${third}.0/26`);
      const allocated = await Promise.all(
        hosts.map(async (one, index) => {
          // One block covers the whole pool, the other a quarter of it.
          await one.foreign(`foreign-${third}-${index}`, { subnet, blockSize: 26 + 2 * index });
          const poolId = await one.requestPool(undefined, `foreign-${third}-${index}`);
          const ask = () => one.requestAddress(poolId).catch(() => undefined);
          return Promise.all(Array.from({ length: 4 }, ask));
        }),
      );
      const addresses = allocated.flat().filter((address) => address !== undefined);
      assert.ok(addresses.length >= 4);
      assert.equal(new Set(addresses).size, addresses.length, 'one address has two owners');
      all.push(...addresses);
    }
    await caughtUp(watching, mirrors);
    const held = [...watching.list('Block4').values()].flatMap(({ value }) =>
      [...allocatedAddresses(value)].map(([address]) => address),
    );
    assert.deepEqual(held.toSorted(), all.toSorted());
    assert.deepEqual(faults, []);
  });

  test('an address that another host allocates from its own block after it was read as free has one owner', () =>
    withOverlap(async ({ races: [, race], ask: [askFirst, askSecond], createInner, ownersOf }) => {
      await createInner();
      let taken: string | undefined;
      race.beforeCommit = async () => {
        taken = await askFirst();
      };
      await assert.rejects(askSecond('10.9.0.20'), { code: 'ipam/address-taken' });
      assert.equal(taken, '10.9.0.20');
      assert.deepEqual(await ownersOf('10.9.0.20'), ['host-0']);
    }));

  for (const [when, atCommit, borrower] of [
    ['before', 'nothing', undefined],
    ['while', 'take', undefined],
    ['from a block with an address of the other host while', 'take', 'host-0'],
    ['from a block created while', 'create and take', undefined],
  ] as const) {
    test(`an address of two overlapping blocks, allocated ${when} the host of the other block allocates any, has one owner`, () =>
      withOverlap(async ({ races: [race], ask: [askFirst, askSecond], createInner, ownersOf }) => {
        const take = async () => assert.equal(await askSecond(), '10.9.0.20');
        if (atCommit !== 'create and take') await createInner(borrower);
        if (atCommit === 'nothing') await take();
        else {
          race.beforeCommit = async () => {
            if (atCommit === 'create and take') await createInner();
            await take();
          };
        }
        assert.equal(await askFirst(), '10.9.0.21');
        assert.deepEqual(await ownersOf('10.9.0.20'), ['host-1']);
        assert.deepEqual(await ownersOf('10.9.0.21'), ['host-0']);
      }));
  }

  /**
   * Two hosts whose blocks overlap after `createInner`, like after a tool changed the block size of a pool in use: the
   * first host has 10.9.0.0/26, full up to .19, and the second host has 10.9.0.20/30 inside it.
   */
  async function withOverlap(use: (overlap: Overlap) => Promise<void>): Promise<void> {
    await options.empty();
    const races: readonly [Race, Race] = [{ beforeCommit: undefined }, { beforeCommit: undefined }];
    let opened = 0;
    const open = async () => {
      const race = races[opened++ - 1];
      const store = await options.open();
      return race === undefined ? store : raced(store, race);
    };
    await using crowd = await openWriters([undefined, 'host-0', 'host-1'], open);
    const [watching = assert.fail(), ...mirrors] = crowd.mirrors;
    const [, ...writers] = crowd.writers;
    const hosts = mirrors.map((mirror, index) =>
      host(`host-${index}`, { mirror, writer: writers[index] ?? assert.fail() }),
    );
    const [first = assert.fail(), second = assert.fail()] = hosts;
    const [outer, inner] = [parseCidr('10.9.0.0/26'), parseCidr('10.9.0.20/30')];
    for (const one of hosts) await one.foreign('foreign', { subnet: outer, blockSize: 26 });
    const pools = [
      await first.requestPool(undefined, 'foreign'),
      await second.requestPool(undefined, 'foreign'),
    ] as const;
    while ((await first.requestAddress(pools[0])) !== '10.9.0.19');
    await caughtUp(second.mirror, [first.mirror]);
    await use({
      races,
      ask: [
        (address) => first.requestAddress(pools[0], address),
        (address) => second.requestAddress(pools[1], address),
      ],
      createInner: async (borrower) => {
        const { Block4, Affinity4 } = entryTypes;
        const empty = newBlock(inner, 'host-1', new Date());
        const holder = { handle_id: 'borrowed', secondary: { node: borrower ?? '' } };
        const block =
          borrower === undefined ? empty : withAllocation(empty, parseAddress('10.9.0.23'), holder);
        const writes = [
          { key: Block4.key(inner), value: Block4.encode(block) },
          {
            key: Affinity4.key(`host-1/${inner}`),
            value: Affinity4.encode({ state: 'confirmed', deleted: false }),
          },
        ];
        const { revision } = await watching.datastore.commit({ compares: [], writes }, signal);
        await Promise.all(mirrors.map((mirror) => mirror.reached(revision, signal)));
      },
      ownersOf: async (address) => {
        await caughtUp(watching, mirrors);
        return [...watching.list('Block4').values()].flatMap(({ value }) =>
          [...allocatedAddresses(value)]
            .filter(([held]) => held === address)
            .map(([, { secondary }]) => secondary?.['node']),
        );
      },
    });
  }
}

interface Overlap {
  /** Of each host. */
  readonly races: readonly [Race, Race];
  /** Requests an address for a host. */
  readonly ask: readonly [Ask, Ask];
  /** Creates the second host's block; the last address of it is the borrower's, if any. */
  readonly createInner: (borrower?: string) => Promise<void>;
  /** Returns the hosts that an address is allocated to, in all blocks. */
  readonly ownersOf: (address: string) => Promise<readonly (string | undefined)[]>;
}

type Ask = (address?: string) => Promise<string>;

/** Resolves when the mirror has the revision of the others. */
async function caughtUp(mirror: LiveMirror, others: readonly LiveMirror[]): Promise<void> {
  const revisions = others.map(({ revision }) => revision);
  await mirror.reached(
    revisions.reduce((a, b) => (a > b ? a : b)),
    signal,
  );
}

interface Host {
  readonly node: string;
  readonly mirror: LiveMirror;
  readonly pools: string[];
  readonly addresses: { readonly poolId: string; readonly address: string }[];
  requestPool(subnet: Cidr | undefined, ipPool?: string): Promise<string>;
  requestAddress(poolId: string, address?: string): Promise<string>;
  releaseAddress(poolId: string, address: string): Promise<void>;
  releasePool(poolId: string): Promise<void>;
  apply(pool: IpPool): Promise<void>;
  remove(name: string): Promise<void>;
  adopt(networkId: string, cidr: Cidr): Promise<void>;
  /** Creates or deletes a pool like an unrelated tool: without checks of other pools, and without deleting its blocks. */
  foreign(
    name: string,
    pool: { readonly subnet: Cidr; readonly blockSize: number } | undefined,
  ): Promise<void>;
}

let nonces = 0;

function host(
  node: string,
  {
    mirror,
    writer,
  }: {
    readonly mirror: LiveMirror;
    readonly writer: Parameters<typeof createDockerIpam>[0]['writer'];
  },
): Host {
  const ipam = createDockerIpam({
    usedRanges: () => [],
    node,
    writer,
    now: () => new Date(),
    nonce: () => `n${nonces++}`,
    stamp: (pool) => pool,
    last: new LastAddresses(),
  });
  const plans = createNetworkAddresses({
    now: () => new Date(),
    stamp: <R>(resource: R) => resource,
    usedRanges: () => [],
  });
  const context = { stamp: <R>(resource: R) => resource, versionOf: () => undefined };
  return {
    node,
    mirror,
    pools: [],
    addresses: [],
    requestPool: async (subnet, ipPool) => {
      const request = {
        AddressSpace: undefined,
        Pool: subnet,
        SubPool: undefined,
        Options: ipPool === undefined ? {} : { pool: ipPool },
        V6: false,
      };
      const answer = await ipam.requestPool.answer(request, signal);
      return 'PoolID' in answer ? String(answer.PoolID) : assert.fail();
    },
    requestAddress: async (poolId, address) => {
      const request = { PoolID: poolId, Address: address, Options: {} };
      const answer = await ipam.requestAddress.answer(request, signal);
      return parseInterfaceAddress('Address' in answer ? String(answer.Address) : '').address;
    },
    releaseAddress: async (poolId, address) => {
      await ipam.releaseAddress.answer({ PoolID: poolId, Address: address }, signal);
    },
    releasePool: async (poolId) => {
      await ipam.releasePool.answer({ PoolID: poolId }, signal);
    },
    apply: async (pool) => {
      await writer.write((draft) => applyResource(draft, pool, context), signal);
    },
    remove: async (name) => {
      await writer.write((draft) => deleteResource(draft, 'IPPool', name), signal);
    },
    foreign: async (name, pool) => {
      const value =
        pool === undefined
          ? undefined
          : entryTypes.IPPool.encode(poolNamed(name, pool.subnet, pool.blockSize));
      const writes = [{ key: entryTypes.IPPool.key(name), value }];
      const { revision } = await mirror.datastore.commit({ compares: [], writes }, signal);
      // Deleting a missing key writes nothing and causes no event.
      if (pool !== undefined) await mirror.reached(revision, signal);
    },
    adopt: async (networkId, cidr) => {
      const subnet = {
        family: 4 as const,
        cidr,
        addressSpace: undefined,
        gateway: undefined,
        auxiliary: {},
      };
      await writer.write(
        (draft) => plans.adoptSubnets(draft, { node, networkId, subnets: [subnet] }),
        signal,
      );
    },
  };
}

/** Runs one step; an expected error is a valid result. */
async function act(
  one: Host,
  { kind, subnet, blockSize, pick }: Step,
  owners: Map<string, string>,
): Promise<void> {
  const poolId = one.pools[pick % Math.max(one.pools.length, 1)];
  const held = one.addresses[pick % Math.max(one.addresses.length, 1)];
  try {
    if (kind === 'pool') one.pools.push(await one.requestPool(subnet));
    if (kind === 'docker-network') await one.adopt(`net-${one.node}-${pick}`, subnet);
    if (kind === 'foreign-pool') await one.foreign(`foreign-${pick % 3}`, { subnet, blockSize });
    if (kind === 'foreign-delete') await one.foreign(`foreign-${pick % 3}`, undefined);
    if (kind === 'delete') await one.remove(`pool-${pick % 4}`);
    if (kind === 'apply') await one.apply(poolNamed(`pool-${pick % 4}`, subnet, blockSize));
    if (poolId === undefined) return;
    if (kind === 'address' || kind === 'specific') {
      const requested = kind === 'specific' ? `10.9.0.${pick}` : undefined;
      const address = await one.requestAddress(poolId, requested);
      const owner = owners.get(address);
      // A repeated request of the same network for an address without endpoint gets the address again.
      if (owner === poolId && address === requested) return;
      assert.equal(owner, undefined, `${address} has two owners`);
      owners.set(address, poolId);
      one.addresses.push({ poolId, address });
    }
    if (kind === 'release' && held !== undefined) {
      one.addresses.splice(one.addresses.indexOf(held), 1);
      owners.delete(held.address);
      await one.releaseAddress(held.poolId, held.address);
    }
    if (kind === 'release-pool') {
      one.pools.splice(one.pools.indexOf(poolId), 1);
      // Docker releases the addresses of a pool before the pool.
      for (const { address } of one.addresses.filter((each) => each.poolId === poolId)) {
        owners.delete(address);
        await one.releaseAddress(poolId, address);
      }
      const kept = one.addresses.filter((each) => each.poolId !== poolId);
      one.addresses.splice(0, one.addresses.length, ...kept);
      await one.releasePool(poolId);
    }
  } catch (error) {
    if (!isCalicoError(error) || error.code.startsWith('datastore/')) {
      if (!isCalicoError(error, 'datastore/not-found')) throw error;
    }
  }
}

function poolNamed(name: string, cidr: Cidr, blockSize: number): IpPool {
  return {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    // A pool smaller than a block is invalid.
    spec: { cidr, blockSize: Math.max(blockSize, splitCidr(cidr).prefixLength) },
  };
}

/** Checks pools and blocks after every change. Returns the list to which overlaps are added. */
function watchForOverlaps(mirror: LiveMirror): readonly string[] {
  const faults: string[] = [];
  mirror.subscribe(() => {
    const pools = [...mirror.list('IPPool').values()].map(
      ({ id, value }) => [id, value.spec.cidr] as const,
    );
    const blocks = [...mirror.list('Block4').values()].map(({ value }) => value);
    const blockNames = blocks.map(({ cidr }) => [`block ${cidr}`, cidr] as const);
    const own = pools.filter(([name]) => !name.startsWith('foreign-'));
    for (const list of [own, blockNames]) {
      for (const [index, [name, cidr]] of list.entries()) {
        for (const [other, second] of list.slice(index + 1)) {
          if (cidrsOverlap(cidr, second))
            faults.push(`${name} (${cidr}) overlaps ${other} (${second})`);
        }
      }
    }
    const held = blocks.flatMap((block) =>
      [...allocatedAddresses(block)].map(([address]) => address),
    );
    if (new Set(held).size !== held.length) faults.push('an address is allocated in two blocks');
  });
  return faults;
}
