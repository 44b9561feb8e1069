import { isDeepStrictEqual } from 'node:util';
import type { KeyValue } from '../../datastore/datastore.ts';
import { formatJson, parseJson } from '../../model/json.ts';
import { entryTypeOf, parseKey } from '../../model/kinds/index.ts';
import type { StoredItem } from '../joining/stored-items.ts';
import { liveReportId } from '../../model/kinds/node-report.ts';
import { omittedKeys } from './omissions.ts';
import { prefixReservation } from '../../model/kinds/ip-reservation.ts';

/**
 * Which values a move writes to the target, without effects. A value keeps its text byte for byte, whether calico-cnm
 * reads its kind or not.
 */

/** A value to write to the target, over what has this revision there; `0n`: nothing. */
export interface Copy {
  readonly key: string;
  readonly value: string;
  readonly over: bigint;
  /** The target had a value of others, which this one contains. */
  readonly isMerged?: boolean;
}

export interface MovePlan {
  readonly copies: readonly Copy[];
  /** What an earlier, interrupted move left in the target and the source no longer has. */
  readonly removals: readonly { readonly key: string; readonly over: bigint }[];
  /** Keys of values that the target has already, with the same meaning under the same name. */
  readonly kept: readonly string[];
  /** Number of values that are not copied; see `omittedKeys`. */
  readonly omitted: number;
  /** Names of values that the target has with another meaning. */
  readonly collisions: readonly string[];
}

export const lockKey = entryTypeOf.ClusterInformation.key('default');

/** Reports whether a value is copied: not the lock, which moves last, nor the report of a daemon that runs. */
export function isMoved(node: string): (item: StoredItem) => boolean {
  const reported = entryTypeOf.NodeReport.key(liveReportId(node));
  return ({ key }) => key !== lockKey && key !== reported;
}

/**
 * Compares source and target; of a target that serves others it needs all IP pools and blocks, and the values of the
 * source's keys and of renamed pools (`sharedKeys`). `own`: the values in the target that an earlier move of this host wrote and nobody has
 * changed since, by key.
 */
export function planMove(facts: {
  readonly node: string;
  readonly source: readonly StoredItem[];
  readonly target: ReadonlyMap<string, KeyValue>;
  readonly own: ReadonlyMap<string, KeyValue>;
}): MovePlan {
  const { target, own, node } = facts;
  const copies: Copy[] = [];
  const kept: string[] = [];
  const collisions: string[] = [];
  const source = facts.source.filter(isMoved(node));
  const namedPools = poolsNamed(source);
  const theirs = [...target.values()].filter(({ key }) => !own.has(key));
  const omitted = omittedKeys(source, theirs, namedPools);
  const wanted = new Set<string>();
  for (const { key, value } of inOrder(source)) {
    if (omitted.has(key)) continue;
    const present = target.get(key);
    if (present === undefined || own.has(key)) {
      wanted.add(key);
      if (present?.value === value) kept.push(key);
      else copies.push({ key, value, over: present?.modRevision ?? 0n });
      continue;
    }
    const merged = mergedReservation(key, value, present);
    const renamed = renamedPool({ key, value }, { node, namedPools });
    const there = renamed && target.get(renamed.key);
    if (isSameMeaning(value, present.value)) {
      kept.push(key);
    } else if (merged !== undefined) {
      copies.push({ key, value: merged, over: present.modRevision, isMerged: true });
    } else if (renamed !== undefined && (there === undefined || own.has(renamed.key))) {
      wanted.add(renamed.key);
      if (there?.value === renamed.value) kept.push(renamed.key);
      else copies.push({ ...renamed, over: there?.modRevision ?? 0n });
    } else {
      collisions.push(titleOf(key));
    }
  }
  const removals = [...own.values()]
    .filter(({ key }) => !wanted.has(key) && key !== lockKey)
    .map(({ key, modRevision }) => ({ key, over: modRevision }));
  return { copies, removals, kept, omitted: omitted.size, collisions };
}

/** Blocks before pools, and both after their Node, so that what others see meanwhile is consistent. */
const order = ['Node', 'Block4', 'Block6', 'Affinity4', 'Affinity6', 'Handle', 'IPPool'];

function inOrder(items: readonly StoredItem[]): readonly StoredItem[] {
  const rank = ({ key }: StoredItem) => {
    const at = order.indexOf(parseKey(key)?.kind ?? '');
    return at < 0 ? order.length : at;
  };
  return items
    .map((item) => ({ item, at: rank(item) }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** Reports whether two texts differ only in when and by whom they were created. */
function isSameMeaning(one: string, other: string): boolean {
  if (one === other) return true;
  const [first, second] = [meaningOf(one), meaningOf(other)];
  return first !== undefined && isDeepStrictEqual(first, second);
}

function meaningOf(text: string): unknown {
  const value = objectOf(text);
  if (value === undefined) return undefined;
  const metadata = value['metadata'];
  if (!isObject(metadata)) return value;
  const { uid: _uid, creationTimestamp: _created, resourceVersion: _version, ...others } = metadata;
  return { ...value, metadata: others };
}

/** The prefixes behind containers of both sides. */
function mergedReservation(key: string, ours: string, theirs: KeyValue): string | undefined {
  if (key !== entryTypeOf.IPReservation.key(prefixReservation)) return undefined;
  const { decode, encode } = entryTypeOf.IPReservation;
  try {
    const [own, other] = [decode(key, ours), decode(key, theirs.value)];
    const all = [...(own.spec.reservedCIDRs ?? []), ...(other.spec.reservedCIDRs ?? [])];
    return encode({
      ...other,
      spec: { ...other.spec, reservedCIDRs: [...new Set(all)].toSorted() },
    });
  } catch {
    return undefined;
  }
}

/**
 * Returns an IP pool under a name that contains the node's: default pools have the same names on all hosts, and those of
 * IPv6 random ranges. `undefined` for other values, and for a pool that a network names.
 */
function renamedPool(
  { key, value }: StoredItem,
  { node, namedPools }: { readonly node: string; readonly namedPools: ReadonlySet<string> },
): StoredItem | undefined {
  const name = entryTypeOf.IPPool.idOf(key);
  if (name === undefined || namedPools.has(name)) return undefined;
  const pool = objectOf(value);
  const metadata = pool?.['metadata'];
  if (pool === undefined || !isObject(metadata)) return undefined;
  const renamed = renamedPoolName(name, node);
  return {
    key: entryTypeOf.IPPool.key(renamed),
    value: formatJson({ ...pool, metadata: { ...metadata, name: renamed } }),
  };
}

function renamedPoolName(name: string, node: string): string {
  return `${name}-${node}`.slice(0, 253);
}

/** Returns the keys whose values in the target decide about those of the source. */
export function sharedKeys(node: string, source: readonly StoredItem[]): readonly string[] {
  const keys = source.map(({ key }) => key);
  const pools = keys.flatMap((key) => entryTypeOf.IPPool.idOf(key) ?? []);
  const renamed = pools.map((name) => entryTypeOf.IPPool.key(renamedPoolName(name, node)));
  return [...new Set([...keys, ...renamed])];
}

/** Returns the names of IP pools that Docker's pools name. */
function poolsNamed(source: readonly StoredItem[]): ReadonlySet<string> {
  const names = new Set<string>();
  for (const { key, value } of source) {
    if (parseKey(key)?.kind !== 'DockerPool') continue;
    const pool = objectOf(value) ?? {};
    const { ipPools, ipPool } = pool;
    for (const name of Array.isArray(ipPools) ? ipPools : []) names.add(String(name));
    if (typeof ipPool === 'string') names.add(ipPool);
  }
  return names;
}

function titleOf(key: string): string {
  const parsed = parseKey(key);
  return parsed === undefined ? key : `${entryTypeOf[parsed.kind].label} ${parsed.id}`;
}

function objectOf(text: string): Record<string, unknown> | undefined {
  try {
    const value = parseJson(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
