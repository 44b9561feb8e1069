import { backoffMs, pause } from '../async/deadline.ts';
import type { ChangeBatch, Datastore, Listing } from '../datastore/datastore.ts';

/** An event of `follow`: a listing of the prefix, then its changes, and a new listing after an interruption. */
export type Followed =
  /** A page of a listing, the first or a later one. */
  | { readonly kind: 'page'; readonly page: Listing; readonly isFirst: boolean }
  /** The listing is complete at this revision. */
  | { readonly kind: 'listed'; readonly revision: bigint }
  | { readonly kind: 'changes'; readonly batch: ChangeBatch }
  /** The datastore is unavailable or the watch failed; a listing follows when it is available again. */
  | { readonly kind: 'broken'; readonly error: unknown };

const firstRetryMs = 100;
const longestRetryMs = 1000;

/**
 * Lists and watches a prefix until the signal is aborted; retries while the datastore is unavailable. Keys below the
 * prefixes of `uncached` are not listed.
 */
export async function* follow(
  datastore: Datastore,
  { prefix, uncached }: { readonly prefix: string; readonly uncached: readonly string[] },
  signal: AbortSignal,
): AsyncGenerator<Followed> {
  let delays = backoffMs(firstRetryMs, longestRetryMs);
  while (!signal.aborted) {
    try {
      let revision: bigint | undefined;
      for await (const page of datastore.pages(prefix, signal, uncached)) {
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
