import { isDeepStrictEqual } from 'node:util';
import { pause, withDeadline } from '../../async/deadline.ts';
import { GroupWriter } from '../../cache/group-writer.ts';
import { UncachedView } from '../../cache/uncached-view.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import { writeInSteps, type Failed } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import { describe, isCalicoError } from '../../errors/error.ts';
import type { IpAddress } from '../../ip/address.ts';
import { addressState, allocateAddress } from '../../ipam/pools/address-state.ts';
import { describeAllocation, findAllocation, userOf } from '../../ipam/records/allocation.ts';
import { allocatedAddresses } from '../../ipam/records/block.ts';
import { release, rewriteAllocation } from '../../ipam/records/records.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import { isHeldBy, type OwnEntry, type OwnState } from './own-state.ts';

/** What a host has put back into a datastore that was restored from a backup. */
export interface Reasserted {
  /** Number of entries and addresses written. */
  readonly written: number;
  /** Addresses that run here and that the datastore gives to others, and what could not be written: one sentence each. */
  readonly conflicts: readonly string[];
}

/** Addresses changed per plan: one may need a new block, and a transaction is limited. */
const addressesAtOnce = 8;
/** How often endpoints are written again that are not permitted yet, in milliseconds. */
const namespacePollMs = 200;

/**
 * Writes what a host knows of itself into a datastore that was restored from an older backup: its node, networks and
 * endpoints, and its addresses, so that no other host gets one of them. What the node has not any more is released.
 * It is written to a locked datastore, too. Repeatable. Throws `datastore/…` if nothing can be written.
 */
export async function reassert(
  store: Datastore,
  own: OwnState,
  options: {
    readonly now: Date;
    /** Whether the state is complete, so that what it does not have is released. */
    readonly releasesFormer: boolean;
    readonly signal: AbortSignal;
    /** How long a member may take to permit endpoints in the namespace of a network, in milliseconds. */
    readonly namespaceMs?: number;
  },
): Promise<Reasserted> {
  const { now, signal } = options;
  const writer = new GroupWriter(new UncachedView(store), undefined, undefined, true);
  const write = async <T>(plan: (draft: Draft) => T) => (await writer.write(plan, signal)).result;
  let written = 0;
  const putBack = (entries: readonly OwnEntry[]) =>
    writeInSteps(entries, async (step) => {
      written += await write((draft) => step.filter((one) => one.putBack(draft)).length);
    });
  let failed = await putBack(own.entries);
  const stop = withDeadline(signal, options.namespaceMs ?? 10_000);
  for (let denied = failed.filter(isDenied); denied.length > 0 && !stop.aborted;) {
    await pause(namespacePollMs, stop);
    const again = await putBack(denied.map(({ item }) => item));
    failed = [...failed.filter((one) => !isDenied(one)), ...again];
    denied = again.filter(isDenied);
  }
  const conflicts = failed.map(({ item, error }) => `${item.kind} ${item.id}: ${describe(error)}`);
  const ids = new Set(own.entries.map(({ kind, id }) => `${kind} ${id}`));
  while (options.releasesFormer) {
    const removed = await write((draft) => removeFormer(draft, own, ids));
    written += removed;
    if (removed < addressesAtOnce) break;
  }
  const failures = await writeInSteps([...own.allocations], async (step) => {
    for (let from = 0; from < step.length; from += addressesAtOnce) {
      const some = step.slice(from, from + addressesAtOnce);
      const results = await write((draft) =>
        some.map((one) => putAddress(draft, own.node, one, now)),
      );
      for (const result of results) {
        if (typeof result === 'string') conflicts.push(result);
        else if (result) written++;
      }
    }
  });
  conflicts.push(...failures.map(({ item: [address], error }) => `${address}: ${describe(error)}`));
  return { written, conflicts: [...new Set(conflicts)] };
}

/**
 * Reports whether an endpoint may be permitted yet: a member learns of a namespace by the network, which a backup from
 * before does not have.
 */
function isDenied({ item, error }: Failed<OwnEntry>): boolean {
  return item.kind === 'WorkloadEndpoint' && isCalicoError(error, 'datastore/denied');
}

/** Removes endpoints and addresses that this node does not have any more; returns how many, `addressesAtOnce` at most. */
function removeFormer(draft: Draft, own: OwnState, ids: ReadonlySet<string>): number {
  const { node, allocations } = own;
  let count = 0;
  const endpoints = Array.from(draft.entries('WorkloadEndpoint'));
  for (const [id, { spec }] of endpoints) {
    if (count >= addressesAtOnce) return count;
    if (spec.node !== node || ids.has(`WorkloadEndpoint ${id}`)) continue;
    draft.remove('WorkloadEndpoint', id);
    count++;
  }
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const cidr of Array.from(draft.entries(kind), ([id]) => id)) {
      for (const [address, holder] of addressesOf(draft, kind, cidr)) {
        if (count >= addressesAtOnce) return count;
        if (!isHeldBy(node, holder) || allocations.has(address)) continue;
        const found = findAllocation(draft, address);
        if (found === undefined) continue;
        release(draft, found.block, found);
        count++;
      }
    }
  }
  return count;
}

function addressesOf(draft: Draft, kind: 'Block4' | 'Block6', cidr: string) {
  const block = draft.get(kind, cidr);
  return block === undefined ? [] : [...allocatedAddresses(block)];
}

/** Allocates an address as it was; returns whether it was written, or a sentence on who else has it. */
function putAddress(
  draft: Draft,
  node: string,
  [address, holder]: readonly [IpAddress, AllocationAttributes],
  now: Date,
): boolean | string {
  const state = addressState(draft, address);
  const { allocation } = state;
  if (allocation === undefined) {
    allocateAddress(draft, state, { node, holder, now, isUsersOwn: true });
    return true;
  }
  if (isDeepStrictEqual(allocation.holder, holder)) return false;
  if (!isHeldBy(node, allocation.holder)) {
    const user = userOf(draft, address);
    return `${address} of ${describeAllocation(holder, undefined)} is allocated to ${describeAllocation(allocation.holder, user)}`;
  }
  if (allocation.holder.handle_id === holder.handle_id) {
    rewriteAllocation(draft, allocation.block, { address, holder });
    return true;
  }
  release(draft, allocation.block, allocation);
  allocateAddress(draft, addressState(draft, address), { node, holder, now, isUsersOwn: true });
  return true;
}
