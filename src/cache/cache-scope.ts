import { briefTypeOf, concernsHost, type BriefBlock, type BriefValue } from '../model/briefs.ts';
import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import { decodeBriefBlock, encodeBriefBlock } from './brief-blocks.ts';
import { BriefEndpoints, encodeBriefEndpoint } from './brief-endpoints.ts';

/** What a cache holds of the datastore; the rest is read when a plan wants it. */
export interface CacheScope {
  /** Kinds of which nothing is held but what was written from here. */
  readonly unheld: ReadonlySet<EntryKind>;
  /** Kinds of which some values are held in brief. */
  readonly briefs: { readonly [K in EntryKind]?: HeldInBrief<EntryValue<K>, BriefValue<K>> };
}

/** How values of a kind are held of which only a part is of use here. */
interface HeldInBrief<Value, Brief> {
  /** Whether no more is held than that. */
  readonly isEnough: (brief: Brief) => boolean;
  readonly of: (value: Value) => Brief;
  /** See `EntryType`. */
  readonly groups: (id: string, brief: Brief) => readonly string[];
  /** The brief of a stored text; throws `datastore/corrupt`, for the same texts as decoding it whole. */
  readonly decode: (key: string, text: string) => Brief;
}

/** Texts that have the same brief as one that is held, for where the value itself is not to be had. */
export const encodeBrief: {
  readonly [K in EntryKind]?: (id: string, brief: BriefValue<K>) => string;
} = {
  WorkloadEndpoint: encodeBriefEndpoint,
  Block4: (_, brief) => encodeBriefBlock(brief),
  Block6: (_, brief) => encodeBriefBlock(brief),
};

/** Everything, as a tool or a test may want it. */
export const fullScope: CacheScope = { unheld: new Set(), briefs: {} };

/**
 * What a node needs: all but the handles, which only plans look at; of the endpoints of other hosts what policy and
 * address management go by, and of their blocks what routes go by.
 */
export function nodeScope(node: string): CacheScope {
  const endpoints = new BriefEndpoints();
  const blocks: HeldInBrief<EntryValue<'Block4'>, BriefBlock> = {
    isEnough: (brief) => !concernsHost(brief, node),
    ...briefTypeOf.Block4,
    decode: decodeBriefBlock,
  };
  return {
    unheld: new Set(['Handle']),
    briefs: {
      WorkloadEndpoint: {
        isEnough: (brief) => brief.node !== node,
        groups: briefTypeOf.WorkloadEndpoint.groups,
        of: (endpoint) => endpoints.of(endpoint),
        decode: (key, text) => endpoints.decode(key, text),
      },
      Block4: blocks,
      Block6: blocks,
    },
  };
}
