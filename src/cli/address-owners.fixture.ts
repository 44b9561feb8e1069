import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { applyResource, deleteResource } from './resource-plans.ts';
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
 * Several hosts and commands on one datastore, at the same time: whatever they ask, no two pools, no two blocks
 * overlap at any moment, and no address is given out twice.
 */

const signal = AbortSignal.timeout(600_000);

/** Subnets that overlap in many ways, and block sizes that fit some of them. */
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

/** The tests that hold on every store; `open` makes one more connection, to an empty store after `empty`. */
export function ownersContract(options: {
  readonly open: () => Promise<Datastore>;
  readonly empty: () => Promise<void>;
  readonly runs: number;
}): void {
  test('whatever several hosts ask at the same time, nothing overlaps and no address has two owners', () =>
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
        const given = new Map<string, string>();
        // All hosts go on at their own pace, each one step after the other.
        await Promise.all(
          hosts.map(async (one, index) => {
            for (const each of steps.filter((any) => any.host === index)) {
              await act(one, each, given);
            }
          }),
        );
        await caughtUp(watching, mirrors);
        assert.deepEqual(faults, []);
      }),
      { numRuns: options.runs },
    ));

  test('of two subnets that overlap, asked for at the same moment, one has a pool', async () => {
    await options.empty();
    await using crowd = await openWriters(['host-0', 'host-1'], options.open);
    const hosts = crowd.writers.map((writer, index) =>
      host(`host-${index}`, { writer, mirror: crowd.mirrors[index] ?? assert.fail() }),
    );
    const [first = assert.fail(), second = assert.fail()] = hosts;
    for (let third = 0; third < 20; third++) {
      const asked = [
        first.askPool(parseCidr(`10.${third}.0.0/16`)),
        second.askPool(parseCidr(`10.${third}.7.0/24`)),
      ];
      const answers = await Promise.allSettled(asked);
      const taken: string[] = [];
      for (const [index, answer] of answers.entries()) {
        if (answer.status === 'rejected') continue;
        taken.push(
          await (hosts[index] ?? first)
            .askAddress(answer.value, `10.${third}.7.0`)
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

  test('blocks of two sizes, asked for at the same moment in pools that overlap, do not overlap', async () => {
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
      const given = await Promise.all(
        hosts.map(async (one, index) => {
          // One block is the whole pool, the other a quarter of it.
          await one.foreign(`foreign-${third}-${index}`, { subnet, blockSize: 26 + 2 * index });
          const poolId = await one.askPool(undefined, `foreign-${third}-${index}`);
          const ask = () => one.askAddress(poolId).catch(() => undefined);
          return Promise.all(Array.from({ length: 4 }, ask));
        }),
      );
      const addresses = given.flat().filter((address) => address !== undefined);
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

  test('an address that another host takes from its own block, after it was read as free there, has one owner', () =>
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
    test(`an address of two overlapping blocks, taken ${when} the host of the other takes any, has one owner`, () =>
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
   * Two hosts whose blocks overlap once `createInner` is called, as a tool leaves them that changes the block size of a
   * pool in use: of 10.9.0.0/26, which is the first host's and full up to .19, the second has 10.9.0.20/30.
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
      await first.askPool(undefined, 'foreign'),
      await second.askPool(undefined, 'foreign'),
    ] as const;
    while ((await first.askAddress(pools[0])) !== '10.9.0.19');
    await caughtUp(second.mirror, [first.mirror]);
    await use({
      races,
      ask: [
        (address) => first.askAddress(pools[0], address),
        (address) => second.askAddress(pools[1], address),
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

/** Resolves when the mirror has seen what the others have. */
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
  askPool(subnet: Cidr | undefined, ipPool?: string): Promise<string>;
  askAddress(poolId: string, address?: string): Promise<string>;
  releaseAddress(poolId: string, address: string): Promise<void>;
  releasePool(poolId: string): Promise<void>;
  apply(pool: IpPool): Promise<void>;
  remove(name: string): Promise<void>;
  adopt(networkId: string, cidr: Cidr): Promise<void>;
  /** As a tool that knows nothing of us makes or removes a pool: without a look at others, and leaving its blocks. */
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
  const plans = createNetworkAddresses({ now: () => new Date(), stamp: (pool) => pool });
  const context = { stamp: <R>(resource: R) => resource, versionOf: () => undefined };
  return {
    node,
    mirror,
    pools: [],
    addresses: [],
    askPool: async (subnet, ipPool) => {
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
    askAddress: async (poolId, address) => {
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
      // Removing what is not there is no write, of which nobody is told.
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

/** Carries out one step; a refusal with one of our sentences is as good an answer. */
async function act(
  one: Host,
  { kind, subnet, blockSize, pick }: Step,
  given: Map<string, string>,
): Promise<void> {
  const poolId = one.pools[pick % Math.max(one.pools.length, 1)];
  const held = one.addresses[pick % Math.max(one.addresses.length, 1)];
  try {
    if (kind === 'pool') one.pools.push(await one.askPool(subnet));
    if (kind === 'docker-network') await one.adopt(`net-${one.node}-${pick}`, subnet);
    if (kind === 'foreign-pool') await one.foreign(`foreign-${pick % 3}`, { subnet, blockSize });
    if (kind === 'foreign-delete') await one.foreign(`foreign-${pick % 3}`, undefined);
    if (kind === 'delete') await one.remove(`pool-${pick % 4}`);
    if (kind === 'apply') await one.apply(poolNamed(`pool-${pick % 4}`, subnet, blockSize));
    if (poolId === undefined) return;
    if (kind === 'address' || kind === 'specific') {
      const wanted = kind === 'specific' ? `10.9.0.${pick}` : undefined;
      const address = await one.askAddress(poolId, wanted);
      const owner = given.get(address);
      // One that the same network got and made no endpoint of is given again: the call was repeated.
      if (owner === poolId && address === wanted) return;
      assert.equal(owner, undefined, `${address} has two owners`);
      given.set(address, poolId);
      one.addresses.push({ poolId, address });
    }
    if (kind === 'release' && held !== undefined) {
      one.addresses.splice(one.addresses.indexOf(held), 1);
      given.delete(held.address);
      await one.releaseAddress(held.poolId, held.address);
    }
    if (kind === 'release-pool') {
      one.pools.splice(one.pools.indexOf(poolId), 1);
      // What Docker has of a pool it gives back before the pool.
      for (const { address } of one.addresses.filter((each) => each.poolId === poolId)) {
        given.delete(address);
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
    // A pool that is smaller than a block is refused wherever it is read.
    spec: { cidr, blockSize: Math.max(blockSize, splitCidr(cidr).prefixLength) },
  };
}

/** Looks at pools and blocks after every change; answers the list that faults are put in. */
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
    if (new Set(held).size !== held.length) faults.push('an address is held in two blocks');
  });
  return faults;
}
