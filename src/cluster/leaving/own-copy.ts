import { rmSync } from 'node:fs';
import { GroupWriter } from '../../cache/group-writer.ts';
import { LiveMirror } from '../../cache/live-mirror.ts';
import type { Mirror } from '../../cache/mirror.ts';
import { bootstrap } from '../../datastore/bootstrap.ts';
import type { Datastore } from '../../datastore/datastore.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import { isCalicoError } from '../../errors/error.ts';
import { deleteNode } from '../../host/delete-node.ts';
import { blockHost } from '../../model/kinds/block.ts';
import { entryKinds, entryTypeOf, parseKey, type EntryKind } from '../../model/kinds/index.ts';
import { endpointIdsOf } from '../../model/kinds/workload-endpoint.ts';
import type { Stamp } from '../../model/stamp.ts';
import type { StoredItem } from '../joining/stored-items.ts';
import { handlesOf } from './handles.ts';

/** What a host knows of a datastore that does not respond. */
export type KnownDatastore = Pick<Mirror, 'cached' | 'cachedInBrief' | 'unreadableValues'>;

/** What a datastore of a single host has of that of its cluster. */
export interface OwnCopy {
  readonly networks: number;
  readonly containers: number;
  /** The other nodes of the cluster, and the number of their endpoints; neither is in the copy. */
  readonly otherNodes: readonly string[];
  readonly otherContainers: number;
}

export interface OwnCopyOptions {
  readonly node: string;
  /** The SQLite file that is written; what an interrupted attempt has left there is deleted. */
  readonly file: string;
  readonly stamp: Stamp;
  readonly now: () => Date;
}

/** Values that the copy has not: its identity is its own, handles follow from blocks, and reports are written anew. */
const uncopied: ReadonlySet<EntryKind> = new Set([
  'ClusterInformation',
  'Handle',
  'NodeReport',
  'NetworkReport',
]);

/** Number of values in a transaction. */
const valuesAtOnce = 500;

/**
 * Writes a datastore of a single host from what the host knows of its cluster: its node, networks, endpoints and
 * addresses, and what is shared by all hosts, such as IP pools, Profiles and policies. What belongs to other nodes is
 * deleted as `node delete` does. Throws `datastore/…`; then the file is of no use.
 */
export async function writeOwnCopy(
  known: KnownDatastore,
  { node, file, stamp, now }: OwnCopyOptions,
  signal: AbortSignal,
): Promise<OwnCopy> {
  // Read at once: what is known may change.
  const items = itemsOf(known, node);
  const otherNodes = otherNodesIn(known, node);
  const count = { networks: 0, containers: 0 };
  for (const { value } of known.cached('DockerNetwork').values()) {
    if (value.node === node) count.networks++;
  }
  for (const { value } of known.cached('WorkloadEndpoint').values()) {
    if (value.spec.node === node) count.containers++;
  }
  const otherContainers = known.cachedInBrief('WorkloadEndpoint').size;
  for (const one of ['', '-wal', '-shm']) rmSync(`${file}${one}`, { force: true });
  const store = await openSqliteStore(file);
  try {
    for (let from = 0; from < items.length; from += valuesAtOnce) {
      const writes = items.slice(from, from + valuesAtOnce);
      await store.commit({ compares: [], writes }, signal);
    }
    await makeOwn(store, { node, otherNodes, stamp, now }, signal);
  } finally {
    await store.close();
  }
  const named = [...known.cached('Node').keys()].filter((name) => name !== node);
  return { ...count, otherNodes: named.toSorted(), otherContainers };
}

function itemsOf(known: KnownDatastore, node: string): readonly StoredItem[] {
  const items = entryKinds.flatMap((kind) => (uncopied.has(kind) ? [] : textsOf(known, kind)));
  const blocks = (['Block4', 'Block6'] as const).flatMap((kind) => [
    ...known.cached(kind).values(),
  ]);
  const { key: keyOf, encode } = entryTypeOf.Handle;
  for (const [id, handle] of handlesOf(blocks.map(({ value }) => value))) {
    items.push({ key: keyOf(id), value: encode(handle) });
  }
  for (const [key, { text }] of known.unreadableValues()) {
    if (isKept(key, node)) items.push({ key, value: text });
  }
  return items;
}

function textsOf<K extends EntryKind>(known: KnownDatastore, kind: K): StoredItem[] {
  const { key, encode } = entryTypeOf[kind];
  return [...known.cached(kind)].map(([id, { value }]) => ({ key: key(id), value: encode(value) }));
}

/** An invalid policy denies what it selects; an invalid endpoint of another host would count as one of this. */
function isKept(key: string, node: string): boolean {
  const parsed = parseKey(key);
  if (parsed === undefined || uncopied.has(parsed.kind)) return false;
  if (parsed.kind !== 'WorkloadEndpoint') return true;
  const [namespace = ''] = parsed.id.split('/');
  return parsed.id.startsWith(endpointIdsOf(node, namespace));
}

/** Returns the nodes to which something belongs; some may not exist any more. */
function otherNodesIn(known: KnownDatastore, node: string): ReadonlySet<string> {
  const nodes = new Set<string>(known.cached('Node').keys());
  for (const key of known.unreadableValues().keys()) {
    const parsed = parseKey(key);
    if (parsed?.kind === 'Node') nodes.add(parsed.id);
  }
  for (const kind of ['DockerNetwork', 'DockerPool', 'Affinity4', 'Affinity6'] as const) {
    for (const id of known.cached(kind).keys()) nodes.add(id.slice(0, id.indexOf('/')));
  }
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const { value } of known.cached(kind).values()) {
      const holders = (value.attributes ?? []).map(({ secondary }) => secondary?.['node']);
      for (const one of [blockHost(value), ...holders]) if (one !== undefined) nodes.add(one);
    }
  }
  nodes.delete(node);
  return nodes;
}

/** Gives a copy an identity of its own, and deletes what belongs to other nodes. */
async function makeOwn(
  store: Datastore,
  facts: Pick<OwnCopyOptions, 'node' | 'stamp' | 'now'> & {
    readonly otherNodes: ReadonlySet<string>;
  },
  signal: AbortSignal,
): Promise<void> {
  const { node, otherNodes, stamp, now } = facts;
  const stop = new AbortController();
  const mirror = new LiveMirror(store);
  const following = mirror.run(AbortSignal.any([signal, stop.signal]));
  const writer = new GroupWriter(mirror);
  const { view } = writer;
  try {
    await mirror.reached(0n, signal);
    await writer.write((draft) => bootstrap(draft, { nodeName: node, stamp }), signal);
    for (const other of otherNodes) {
      await deleteNode(
        {
          look: (look) => view.look(() => look(view), signal),
          write: async (plan) => (await writer.write(plan, signal)).result,
        },
        { node: other, isForced: true, now: now() },
        () => undefined,
      ).catch((error: unknown) => {
        if (!isCalicoError(error, 'datastore/not-found')) throw error;
      });
    }
  } finally {
    stop.abort();
    await following;
  }
}
