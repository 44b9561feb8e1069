import assert from 'node:assert/strict';
import fc from 'fast-check';
import { listAll, type Datastore } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import { nodes, signal, withIpam, type Lab } from '../ipam/ipam-lab.fixture.ts';
import { allocatedAddresses } from '../ipam/records/block.ts';
import { valuesOf } from './joining/stored-items.ts';

/** What a store holds: allocations with their holders, the count of each handle, and the endpoints. */
export async function contents(store: Datastore) {
  const { items } = await listAll(store, '/calico/', signal);
  const allocations = new Map<string, unknown>();
  const counts = new Map<string, number>();
  for (const [, block] of valuesOf(items, 'Block4')) {
    for (const [address, holder] of allocatedAddresses(block)) {
      assert.equal(allocations.has(address), false, `${address} is in two blocks`);
      allocations.set(address, holder);
      const { handle_id: handle = '' } = holder;
      counts.set(handle, (counts.get(handle) ?? 0) + 1);
    }
  }
  const handles = new Map<string, number>();
  for (const [id, { block = {} }] of valuesOf(items, 'Handle')) {
    handles.set(
      id,
      Object.values(block).reduce((sum, one) => sum + one, 0),
    );
  }
  const endpoints = [...valuesOf(items, 'WorkloadEndpoint').keys()].toSorted();
  return { allocations: Object.fromEntries(allocations), counts, handles, endpoints };
}

/** Returns a copy of a store, in memory. */
export async function copyOf(store: Datastore): Promise<Datastore> {
  const copy = await openSqliteStore(':memory:');
  const { items } = await listAll(store, '/', signal);
  const writes = items.map(({ key, value }) => ({ key, value }));
  await copy.commit({ compares: [], writes }, signal);
  return copy;
}

/** Containers of two hosts, started and removed one by one. */
class Containers {
  readonly #lab: Lab;
  readonly #pools = new Map<string, string>();
  readonly #running = new Map<string, { readonly node: string; readonly address: string }>();
  #count = 0;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  async begin(): Promise<void> {
    for (const node of nodes) {
      const pool = await this.#lab.pool(node);
      this.#pools.set(node, String(pool['PoolID']));
      await this.#lab.adopt(node, `net-${node}`, [pool]);
    }
  }

  async run(all: readonly Step[]): Promise<void> {
    for (const one of all) {
      await ('start' in one ? this.start(one.start) : this.remove(one.remove));
    }
  }

  async start(node: string): Promise<void> {
    const endpointId = `endpoint-${this.#count++}`;
    const address = await this.#lab
      .address(node, this.#pools.get(node) ?? '')
      .catch(() => undefined);
    if (address === undefined) return;
    await this.#lab.connect(node, `net-${node}`, { endpointId, address });
    this.#running.set(endpointId, { node, address });
  }

  /** Removes the container that has run for that long. */
  async remove(age: number): Promise<void> {
    const all = [...this.#running];
    const [endpointId, { node, address }] = all[age % Math.max(all.length, 1)] ?? ['', {}];
    if (node === undefined || address === undefined) return;
    await this.#lab.disconnect(node, endpointId);
    await this.#lab.release(node, this.#pools.get(node) ?? '', address);
    this.#running.delete(endpointId);
  }
}

/** Lends containers of two hosts with a network each, and the store that they are in. */
export async function withContainers(
  use: (given: {
    readonly lab: Lab;
    readonly live: Datastore;
    readonly containers: Containers;
  }) => Promise<void>,
): Promise<void> {
  let live: Datastore | undefined;
  await withIpam(
    async (lab) => {
      assert.ok(live !== undefined);
      const containers = new Containers(lab);
      await containers.begin();
      await use({ lab, live, containers });
    },
    (store) => (live = store),
  );
}

/** A container starts on a node, or one is removed. */
type Step = { readonly start: string } | { readonly remove: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ start: fc.constantFrom(...nodes) }),
  fc.record({ remove: fc.nat({ max: 20 }) }),
);
/** Starts and removals of containers. */
export const steps = fc.array(step, { maxLength: 25 });
