import type { View } from '../cache/view.ts';
import { writeInSteps, type Progress } from '../datastore/steps.ts';
import type { Draft } from '../datastore/writer.ts';
import { CalicoError } from '../errors/error.ts';
import { blockHost, type AllocationAttributes } from '../model/kinds/block.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import { lastReportId, liveReportId } from '../model/kinds/node-report.ts';
import { endpointAddresses, endpointPrefixes } from '../model/kinds/workload-endpoint.ts';
import { claimsOn, hasUser, putClaims } from '../ipam/docker/claims.ts';
import { sharersOf, swarmSharer } from '../ipam/docker/addresses.ts';
import { releasePool } from '../ipam/docker/docker-pools.ts';
import { releasePrefixes } from '../ipam/docker/prefixes.ts';
import type { Allocation } from '../ipam/records/allocation.ts';
import { allocatedAddresses, allocationOf, isEmptyBlock } from '../ipam/records/block.ts';
import {
  affinityKind,
  blockKind,
  blockLengths,
  getBlock,
  putBlock,
  release,
  removeBlock,
  rewriteAllocation,
} from '../ipam/records/records.ts';
import { beingDeleted, isBeingDeleted, livenessOf, startOf } from './node-liveness.ts';
import { familyOf } from '../ip/address.ts';
import { cidrContains, cidrFamily, networksOf, type Cidr } from '../ip/cidr.ts';

/**
 * Plans that delete a node with everything that belongs to it, as Calico's own client does
 * (libcalico-go/lib/clientv3/node.go). Each leaves a consistent state, and each can run again: an interrupted deletion
 * is finished by starting it again. The mark on the Node comes first and keeps its daemon from writing; the Node goes
 * last.
 */

/** One object of a node, or a block with addresses of it. */
export interface Belonging {
  readonly kind: EntryKind;
  readonly id: string;
  /** The blocks of an endpoint's addresses. */
  readonly blocks?: readonly Cidr[];
}

/** The objects of a node in the order of their deletion, by name for people. */
export type Belongings = readonly (readonly [title: string, items: readonly Belonging[]])[];

/** Keys per step; the last object of a step may add as many again. */
const stepKeys = 40;

/** Handles of tunnel addresses. Source: node/pkg/allocateip. */
function tunnelHandles(node: string): ReadonlySet<string> {
  const kinds = ['ipip', 'vxlan', 'vxlan-v6', 'wireguard', 'wireguard-v6'];
  return new Set(kinds.map((kind) => `${kind}-tunnel-addr-${node}`));
}

/** Returns everything that belongs to a node, apart from the Node and its reports. */
export function belongingsOf(view: View, node: string): Belongings {
  const idsOf = <K extends EntryKind>(kind: K, found: Iterable<string>) =>
    [...found].map((id) => ({ kind, id }));
  const onNode = (kind: 'HostEndpoint' | 'BGPPeer') => {
    const ids: string[] = [];
    for (const [id, { value }] of view.list(kind)) if (value.spec.node === node) ids.push(id);
    return idsOf(kind, ids);
  };
  const below = (
    kind: 'DockerNetwork' | 'DockerPool' | 'Affinity4' | 'Affinity6' | 'NetworkReport',
  ) =>
    idsOf(
      kind,
      [...view.list(kind, `${node}/`).keys()].filter((id) => id.startsWith(`${node}/`)),
    );
  const blocks = (['Block4', 'Block6'] as const).flatMap((kind) => {
    const all = [...view.list(kind)].flatMap(([id, { value }]) => {
      const isOwn = blockHost(value) === node;
      const hasOwn = (value.attributes ?? []).some((holder) => isOfNode(holder, node));
      return isOwn || hasOwn ? [id] : [];
    });
    return idsOf(kind, all);
  });
  const configurations = (['FelixConfiguration', 'BGPConfiguration'] as const).flatMap((kind) =>
    idsOf(kind, view.get(kind, `node.${node}`) === undefined ? [] : [`node.${node}`]),
  );
  return [
    ['endpoints', endpointsOf(view, node)],
    ['networks', below('DockerNetwork')],
    ['reports on networks of all hosts', below('NetworkReport')],
    ['address pools of networks', below('DockerPool')],
    ['blocks with addresses', blocks],
    ['block affinities', [...below('Affinity4'), ...below('Affinity6')]],
    ['host endpoints', onNode('HostEndpoint')],
    ['BGP peers', onNode('BGPPeer')],
    ['configurations', configurations],
  ];
}

function endpointsOf(view: View, node: string): readonly Belonging[] {
  const all: Belonging[] = [];
  for (const [id, { value }] of view.list('WorkloadEndpoint')) {
    if (value.spec.node !== node) continue;
    const blocks = endpointAddresses(value).flatMap((address) => {
      const family = familyOf(address);
      const within = [...networksOf(address, blockLengths[family])];
      return within.filter((cidr) => view.list(blockKind(family)).has(cidr));
    });
    all.push({ kind: 'WorkloadEndpoint', id, blocks: [...new Set(blocks)] });
  }
  return all;
}

/**
 * Begins a deletion: marks the Node. Throws `node/runs` or `node/may-run` unless it is certain that its daemon does not
 * run, or the deletion is forced or was begun before; `datastore/not-found` if there is nothing to delete.
 */
export function beginDeletion(
  draft: Draft,
  request: {
    readonly node: string;
    readonly isForced: boolean;
    /** Something belongs to the node. */
    readonly hasBelongings: boolean;
    readonly now: Date;
  },
): void {
  const { node, isForced, hasBelongings, now } = request;
  const present = draft.isUnreadable('Node', node) ? undefined : draft.get('Node', node);
  const isBegun = present !== undefined && isBeingDeleted(present);
  const liveness = livenessOf(draft, node);
  const exists = present !== undefined || draft.isUnreadable('Node', node);
  if (!exists && !hasBelongings && liveness.state === 'unknown') {
    throw new CalicoError('datastore/not-found', { kind: 'Node', name: node });
  }
  if (!isForced && !isBegun) {
    if (liveness.state === 'live') {
      const since = startOf(liveness.report)?.toISOString() ?? liveness.report.time;
      throw new CalicoError('node/runs', { node, since });
    }
    // A Node to which nothing belongs, such as one made by hand, is no host.
    if (liveness.state === 'unknown' && hasBelongings)
      throw new CalicoError('node/may-run', { node });
  }
  if (present !== undefined && !isBegun) draft.put('Node', node, beingDeleted(present, now));
}

/** Deletes one object of a node; `more`: the plan must run again. */
function deleteBelonging(draft: Draft, node: string, belonging: Belonging): Progress {
  const { kind, id } = belonging;
  switch (kind) {
    case 'WorkloadEndpoint':
      deleteEndpoint(draft, node, belonging);
      return 'done';
    case 'DockerPool': {
      const record = draft.get('DockerPool', id);
      return record === undefined ? 'done' : releasePool(draft, record.poolId, node);
    }
    case 'Block4':
    case 'Block6':
      return clearBlock(draft, node, { kind, id });
    default:
      draft.remove(kind, id);
      return 'done';
  }
}

/** Deletes the Node and its reports, once nothing belongs to it. */
export function finishDeletion(draft: Draft, node: string): void {
  for (const id of [liveReportId(node), lastReportId(node)]) draft.remove('NodeReport', id);
  if (draft.isUnreadable('Node', node)) draft.discardUnreadable('Node', node);
  else draft.remove('Node', node);
}

/** An endpoint and its addresses in one step: an address in use is never free. */
function deleteEndpoint(draft: Draft, node: string, { id, blocks = [] }: Belonging): void {
  const endpoint = draft.get('WorkloadEndpoint', id);
  if (endpoint?.spec.node !== node) return;
  draft.remove('WorkloadEndpoint', id);
  for (const address of endpointAddresses(endpoint)) {
    for (const cidr of blocks) {
      const block = cidrContains(cidr, address) ? getBlock(draft, cidr) : undefined;
      const holder = block && allocationOf(block, address);
      if (block === undefined || holder === undefined) continue;
      // libnetwork-plugin recorded no owner.
      if (Object.keys(holder.secondary ?? {}).length === 0) {
        release(draft, block, { address, holder });
      } else releaseOfNode(draft, node, { address, block, holder });
    }
  }
  releasePrefixes(draft, endpointPrefixes(endpoint));
}

/** Releases a node's addresses in a block, and its affinity: a block with addresses of others belongs to nobody. */
function clearBlock(
  draft: Draft,
  node: string,
  { kind, id }: { readonly kind: 'Block4' | 'Block6'; readonly id: string },
): Progress {
  const block = draft.get(kind, id);
  if (block === undefined) return 'done';
  const held = [...allocatedAddresses(block)].filter(([, holder]) => isOfNode(holder, node));
  const some = held.slice(0, stepKeys);
  draft.readAhead(
    'Handle',
    some.flatMap(([, { handle_id: handle }]) => handle ?? []),
  );
  for (const [address] of some) {
    const now = getBlock(draft, block.cidr);
    const holder = now && allocationOf(now, address);
    if (now !== undefined && holder !== undefined) {
      releaseOfNode(draft, node, { address, block: now, holder });
    }
  }
  if (held.length > stepKeys) return 'more';
  giveUpBlock(draft, node, block.cidr);
  return 'done';
}

function giveUpBlock(draft: Draft, node: string, cidr: Cidr): void {
  const block = getBlock(draft, cidr);
  if (block === undefined || blockHost(block) !== node) return;
  if (isEmptyBlock(block)) return removeBlock(draft, block);
  const { hostAffinity: _, affinity_claim_time: __, ...others } = block;
  putBlock(draft, { ...others, affinity: null });
  draft.remove(affinityKind(cidrFamily(cidr)), `${node}/${cidr}`);
}

/** Reports whether an address, or a part of it, is a node's. */
function isOfNode(holder: AllocationAttributes, node: string): boolean {
  const { secondary = {}, handle_id: handle = '' } = holder;
  return (
    secondary['node'] === node ||
    tunnelHandles(node).has(handle) ||
    (sharersOf(holder) ?? []).some((sharer) => nodeOfSharer(sharer) === node) ||
    claimsOn(holder).some((claim) => claim.startsWith(`${node}/`))
  );
}

/** Releases what a node has of an address; shares and claims of other nodes stay. */
function releaseOfNode(draft: Draft, node: string, allocation: Allocation): void {
  const { address, block, holder } = allocation;
  if (!isOfNode(holder, node)) return;
  const sharers = sharersOf(holder);
  if (sharers !== undefined) {
    const left = sharers.filter((sharer) => nodeOfSharer(sharer) !== node);
    const [first] = left;
    if (first === undefined) return release(draft, block, allocation);
    const own = holder.secondary?.['node'] === node ? { node: nodeOfSharer(first) } : {};
    const secondary = { ...holder.secondary, ...own, holders: left.join(',') };
    return rewriteAllocation(draft, block, { address, holder: { ...holder, secondary } });
  }
  const claims = claimsOn(holder).filter((claim) => !claim.startsWith(`${node}/`));
  const isUser =
    holder.secondary?.['node'] === node || tunnelHandles(node).has(holder.handle_id ?? '');
  if (!isUser && hasUser(holder)) return putClaims(draft, allocation, claims);
  if (claims.length === 0) return release(draft, block, allocation);
  const secondary = { swarm: claims.join(',') };
  rewriteAllocation(draft, block, { address, holder: { ...holder, secondary } });
}

function nodeOfSharer(sharer: string): string {
  const text = sharer.startsWith(swarmSharer) ? sharer.slice(swarmSharer.length) : sharer;
  return text.slice(0, text.lastIndexOf('/'));
}

/** A store as the deletion uses it: reads, and transactions. */
export interface DeletionStore {
  readonly look: <Result>(look: (view: View) => Result) => Promise<Result>;
  readonly write: <Result>(plan: (draft: Draft) => Result) => Promise<Result>;
}

/** Another tool that runs on the node may write again and again. */
const maxRounds = 5;

/**
 * Deletes a node with everything that belongs to it. `report` gets a line for each step. Throws as `beginDeletion`, and
 * the errors of the datastore; start it again to continue.
 */
export async function deleteNode(
  { look, write }: DeletionStore,
  request: { readonly node: string; readonly isForced: boolean; readonly now: Date },
  report: (line: string) => void,
): Promise<void> {
  const { node } = request;
  const count = (found: Belongings) => found.reduce((sum, [, items]) => sum + items.length, 0);
  const all = (view: View) => belongingsOf(view, node);
  const hasBelongings = count(await look(all)) > 0;
  await write((draft) => beginDeletion(draft, { ...request, hasBelongings }));
  // What its daemon wrote before it saw the mark is found by looking again.
  let rounds = 0;
  for (let found = await look(all); count(found) > 0; found = await look(all)) {
    if (rounds++ === maxRounds) {
      const what = `deletion of node ${node}`;
      throw new CalicoError('datastore/contended', { what, attempts: maxRounds });
    }
    for (const [title, items] of found) await deleteAll(title, items);
  }
  await write((draft) => finishDeletion(draft, node));

  async function deleteAll(title: string, items: readonly Belonging[]): Promise<void> {
    let done = 0;
    const deleteTogether = async (step: readonly Belonging[]) => {
      const plan = (draft: Draft): Progress => {
        const progress = step.map((item) => deleteBelonging(draft, node, item));
        return progress.includes('more') ? 'more' : 'done';
      };
      while ((await write(plan)) === 'more');
      done += step.length;
      report(`${title}: ${done} of ${items.length} deleted`);
    };
    if (items.some(({ kind }) => largeKinds.has(kind))) {
      for (const item of items) await deleteTogether([item]);
      return;
    }
    const [failed] = await writeInSteps(items, deleteTogether);
    if (failed !== undefined) throw failed.error;
  }
}

/** Kinds of which one object may need several transactions. */
const largeKinds: ReadonlySet<EntryKind> = new Set(['Block4', 'Block6', 'DockerPool']);
