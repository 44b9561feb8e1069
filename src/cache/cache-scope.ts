import { briefTypeOf, concernsHost, type BriefBlock, type BriefValue } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import { decodeBriefBlock, encodeBriefBlock } from './brief-blocks.ts';
import { keyTextOf, textOf, type Written } from './tables.ts';
import { BriefEndpoints, encodeBriefEndpoint } from './brief-endpoints.ts';

/** The part of the datastore that is cached; the rest is read when a plan needs it. */
export interface CacheScope {
  /** Kinds of which only the entries written by this process are cached. */
  readonly uncached: ReadonlySet<EntryKind>;
  /** Kinds of which some values are cached in brief. */
  readonly briefs: { readonly [K in EntryKind]?: CachedInBrief<EntryValue<K>, BriefValue<K>> };
}

/** How a kind is cached of which some values are needed in part only. */
interface CachedInBrief<Value, Brief> {
  /** Reports whether the brief is cached instead of the whole value. */
  readonly isEnough: (brief: Brief) => boolean;
  readonly of: (value: Value) => Brief;
  /** See `EntryType`. */
  readonly groups: (id: string, brief: Brief) => readonly string[];
  /** Returns the brief of a stored text; throws `datastore/corrupt` for the same texts as decoding the whole value. */
  readonly decode: (written: Written) => Brief;
}

/** Encodes a brief as a text that has the same brief, because the whole value is not cached. */
export const encodeBrief: {
  readonly [K in EntryKind]?: (id: string, brief: BriefValue<K>) => string;
} = {
  WorkloadEndpoint: encodeBriefEndpoint,
  Block4: (_, brief) => encodeBriefBlock(brief),
  Block6: (_, brief) => encodeBriefBlock(brief),
};

/** The whole datastore, for tools and tests. */
export const fullScope: CacheScope = { uncached: new Set(), briefs: {} };

/**
 * Returns the scope of a node: everything except handles and the reports of hosts, which only plans read; endpoints of other hosts only with
 * the fields for policy and IPAM, and their blocks only with the fields for routes.
 */
export function nodeScope(node: string): CacheScope {
  const endpoints = new BriefEndpoints();
  const blocks: CachedInBrief<EntryValue<'Block4'>, BriefBlock> = {
    isEnough: (brief) => !concernsHost(brief, node),
    ...briefTypeOf.Block4,
    decode: (written) => decodeBriefBlock(keyTextOf(written), textOf(written)),
  };
  return {
    uncached: new Set(['Handle', 'NetworkReport', 'NodeReport']),
    briefs: {
      WorkloadEndpoint: {
        isEnough: (brief) => brief.node !== node,
        groups: briefTypeOf.WorkloadEndpoint.groups,
        of: (endpoint) => endpoints.of(endpoint),
        decode: (written) => endpoints.decode(written),
      },
      Block4: blocks,
      Block6: blocks,
    },
  };
}
