import { isDeepStrictEqual } from 'node:util';
import type { Draft } from '../../datastore/writer.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { Snapshot } from '../../cache/snapshot.ts';
import type { IpAddress } from '../../ip/address.ts';
import { allocatedAddresses } from '../../ipam/records/block.ts';
import type { AllocationAttributes } from '../../model/kinds/block.ts';
import { valuesOf } from '../joining/stored-items.ts';
import type { EntryKind, EntryValue } from '../../model/kinds/index.ts';

/** An entry of this host, or one that its containers need. */
export interface OwnEntry {
  readonly kind: EntryKind;
  readonly id: string;
  /** Writes the entry, if the draft has another value; shared ones only if it has none. Returns whether it was written. */
  readonly putBack: (draft: Draft) => boolean;
}

/** What a host knows of itself: it is true, whatever an older datastore says. */
export interface OwnState {
  readonly node: string;
  readonly entries: readonly OwnEntry[];
  /** The addresses that are allocated to this node. */
  readonly allocations: ReadonlyMap<IpAddress, AllocationAttributes>;
}

const ownKinds = ['Node', 'DockerNetwork', 'DockerPool', 'WorkloadEndpoint'] as const;
const sharedKinds = ['IPPool', 'Profile', 'NetworkDefinition', 'NetworkReport'] as const;

/** The values that a host knew of a datastore. */
export type KnownValues = Pick<Mirror, 'cached'>;

/** Returns the values in a snapshot; those that cannot be read are left out. */
export function valuesIn({ entries }: Pick<Snapshot, 'entries'>): KnownValues {
  const items = entries.map(([key, value]) => ({ key, value }));
  return {
    cached: (kind) => {
      const values = [...valuesOf(items, kind)];
      return new Map(values.map(([id, value]) => [id, { id, value, modRevision: 0n }]));
    },
  };
}

/** Returns the state of a node from its cache of the datastore. */
export function ownStateOf(mirror: KnownValues, node: string): OwnState {
  const allocations = new Map<IpAddress, AllocationAttributes>();
  for (const kind of ['Block4', 'Block6'] as const) {
    for (const { value: block } of mirror.cached(kind).values()) {
      for (const [address, holder] of allocatedAddresses(block)) {
        if (isHeldBy(node, holder)) allocations.set(address, holder);
      }
    }
  }
  const entries = [
    ...sharedKinds.flatMap((kind) => entriesOf(mirror, kind, () => true)),
    ...ownKinds.flatMap((kind) =>
      entriesOf(mirror, kind, (id, value) => isOfNode(node, id, value)),
    ),
  ];
  return { node, entries, allocations };
}

function entriesOf<K extends EntryKind>(
  mirror: KnownValues,
  kind: K,
  isWanted: (id: string, value: EntryValue<K>) => boolean,
): readonly OwnEntry[] {
  const isShared = sharedKinds.some((one) => one === kind);
  return [...mirror.cached(kind)].flatMap(([id, { value }]) => {
    const putBack = (draft: Draft): boolean => {
      if (draft.isUnreadable(kind, id)) return false;
      const present = draft.get(kind, id);
      if (present !== undefined && (isShared || isDeepStrictEqual(present, value))) return false;
      draft.put(kind, id, value);
      return true;
    };
    return isWanted(id, value) ? [{ kind, id, putBack }] : [];
  });
}

function isOfNode(node: string, id: string, value: EntryValue<(typeof ownKinds)[number]>): boolean {
  if ('node' in value) return value.node === node;
  return 'node' in value.spec ? value.spec.node === node : id === node;
}

/** Reports whether an address is allocated to a node alone, and not shared by the hosts of a swarm. */
export function isHeldBy(node: string, { secondary = {} }: AllocationAttributes): boolean {
  const { node: holder, holders, swarm } = secondary;
  return holder === node && holders === undefined && swarm === undefined;
}
