import { backoffMs, pause } from '../async/deadline.ts';
import type { ChangeBatch, Datastore, Listing } from '../datastore/datastore.ts';

/** What following a prefix yields: everything that is, then what changes, and again everything after a break. */
export type Followed =
  /** A part of what is; the first of a listing, or one more. */
  | { readonly kind: 'page'; readonly page: Listing; readonly isFirst: boolean }
  /** The pages were all there is at their revision. */
  | { readonly kind: 'listed'; readonly revision: bigint }
  | { readonly kind: 'changes'; readonly batch: ChangeBatch }
  /** The store did not answer, or the watch broke; a listing follows as soon as it answers. */
  | { readonly kind: 'broken'; readonly error: unknown };

const firstRetryMs = 100;
const longestRetryMs = 1000;

/**
 * Lists and watches a prefix until the signal is aborted; a store that is away is asked again and again. What lies
 * below the prefixes of `unheld` is not listed.
 */
export async function* follow(
  datastore: Datastore,
  { prefix, unheld }: { readonly prefix: string; readonly unheld: readonly string[] },
  signal: AbortSignal,
): AsyncGenerator<Followed> {
  let delays = backoffMs(firstRetryMs, longestRetryMs);
  while (!signal.aborted) {
    try {
      let revision: bigint | undefined;
      for await (const page of datastore.pages(prefix, signal, unheld)) {
        yield { kind: 'page', page, isFirst: revision === undefined };
        ({ revision } = page);
      }
      if (revision === undefined) continue;
      delays = backoffMs(firstRetryMs, longestRetryMs);
      yield { kind: 'listed', revision };
      for await (const batch of datastore.watch(prefix, revision, signal)) {
        yield { kind: 'changes', batch };
      }
    } catch (error) {
      if (!signal.aborted) yield { kind: 'broken', error };
    }
    await pause(delays.next().value, signal);
  }
}
