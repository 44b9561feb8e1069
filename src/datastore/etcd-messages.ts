import type { ICompare, IRangeRequest, ITxnRequest } from 'etcd3';
import type { Compare, KeyValue, RangeCompare, Transaction } from './datastore.ts';

/** A transaction in etcd's form. If it fails, it returns the compared keys, then the newest write of each range. */
export function toRequest({ compares, ranges = [], writes }: Transaction): ITxnRequest {
  return {
    compare: [...compares.map(toCompare), ...ranges.map(toRangeCompare)],
    success: writes.map(({ key, value, lease = '0' }) =>
      value === undefined
        ? { request_delete_range: { key: Buffer.from(key) } }
        : { request_put: { key: Buffer.from(key), value: Buffer.from(value), lease } },
    ),
    failure: [
      ...compares.map(({ key }) => ({ request_range: { key: Buffer.from(key) } })),
      ...ranges.map((range) => ({ request_range: newestWrite(range) })),
    ],
  };
}

function toCompare({ key, modRevision }: Compare): ICompare {
  return {
    key: Buffer.from(key),
    result: 'Equal',
    target: 'Mod',
    mod_revision: modRevision.toString(),
  };
}

/** A comparison with `range_end` holds if it holds for every key of the range. Source: etcd API v3, Compare. */
function toRangeCompare({ prefix, afterRevision, isOfNewKeys }: RangeCompare): ICompare {
  const revision = (afterRevision + 1n).toString();
  return {
    key: Buffer.from(prefix),
    range_end: endOfPrefix(prefix),
    result: 'Less',
    ...(isOfNewKeys === true
      ? { target: 'Create', create_revision: revision }
      : { target: 'Mod', mod_revision: revision }),
  };
}

/** Returns a request for the last written key of the range, if it was written after the revision. */
function newestWrite({ prefix, afterRevision, isOfNewKeys }: RangeCompare): IRangeRequest {
  const revision = (afterRevision + 1n).toString();
  return {
    key: Buffer.from(prefix),
    range_end: endOfPrefix(prefix),
    ...(isOfNewKeys === true ? { min_create_revision: revision } : { min_mod_revision: revision }),
    sort_target: 'Mod',
    sort_order: 'Descend',
    limit: 1,
    keys_only: true,
  };
}

export function newestOf(found: readonly (readonly KeyValue[])[]): {
  readonly newestInRanges?: bigint;
} {
  const [first, ...others] = found.flat().map(({ modRevision }) => modRevision);
  if (first === undefined) return {};
  return { newestInRanges: others.reduce((a, b) => (a > b ? a : b), first) };
}

export function toKeyValue(kv: {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: string;
}): KeyValue {
  return {
    key: kv.key.toString('utf8'),
    value: kv.value.toString('utf8'),
    modRevision: BigInt(kv.mod_revision),
  };
}

/** Keys from `key` to before `end`. */
export interface KeyRange {
  readonly key: Buffer;
  readonly end: Buffer;
}

/** Returns the ranges below a prefix that are not below the excluded ones. */
export function rangesOf(prefix: string, without: readonly string[]): readonly KeyRange[] {
  const ranges: KeyRange[] = [];
  let key: Buffer = Buffer.from(prefix);
  for (const inner of without.toSorted()) {
    ranges.push({ key, end: Buffer.from(inner) });
    key = endOfPrefix(inner);
  }
  return [...ranges, { key, end: endOfPrefix(prefix) }];
}

export function endOfPrefix(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end[last] = (end[last] ?? 0) + 1;
  return end;
}
