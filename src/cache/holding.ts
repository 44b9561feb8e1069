import type { EntryKind, EntryValue } from '../model/kinds/index.ts';
import { BriefEndpoints } from './brief-endpoints.ts';

/** What a cache holds of the datastore; the rest is read when a plan wants it. */
export interface Holding {
  /** Kinds of which nothing is held but what was written from here. */
  readonly unheld: ReadonlySet<EntryKind>;
  /** Kinds of which some values are held in brief. */
  readonly briefs: { readonly [K in EntryKind]?: Briefs<EntryValue<K>> };
}

/** How values of a kind are held of which only a part is of use here. */
interface Briefs<Value> {
  readonly isBrief: (value: Value) => boolean;
  readonly of: (value: Value) => Value;
  /** The value of a stored text, in brief if that will do; throws `datastore/corrupt`. */
  readonly decode: (
    key: string,
    text: string,
    whole: (key: string, text: string) => Value,
  ) => Value;
}

/** Everything, as a tool or a test may want it. */
export const everything: Holding = { unheld: new Set(), briefs: {} };

/**
 * What a node needs: all but the handles, which only plans look at, and of the endpoints of other hosts what policy
 * and address management go by.
 */
export function heldByNode(node: string): Holding {
  const endpoints = new BriefEndpoints();
  const marks = [`"node":"${node}"`, `"node": "${node}"`];
  return {
    unheld: new Set(['Handle']),
    briefs: {
      WorkloadEndpoint: {
        isBrief: ({ spec }) => spec.node !== node,
        of: (endpoint) => endpoints.of(endpoint),
        decode: (key, text, whole) => {
          if (marks.some((mark) => text.includes(mark))) return whole(key, text);
          const brief = endpoints.decode(key, text);
          return brief.spec.node === node ? whole(key, text) : brief;
        },
      },
    },
  };
}
