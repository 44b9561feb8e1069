import { backoffMs, pause } from '../async/deadline.ts';
import {
  decodeKey,
  decodeText,
  type ChangeBatch,
  type Datastore,
  type EncodedKeyValue,
  type KeyValue,
} from '../datastore/datastore.ts';

/** An item of a page: as bytes, if the store has it so. */
export type ListedItem = KeyValue | EncodedKeyValue;

/** An event of `follow`: a listing of the prefix, then its changes, and after an interruption those since. */
export type Followed =
  /** A page of a listing, the first or a later one. Its items must be iterated once, to the end. */
  | { readonly kind: 'page'; readonly items: Iterable<ListedItem>; readonly isFirst: boolean }
  /** The listing is complete at this revision. */
  | { readonly kind: 'listed'; readonly revision: bigint }
  | { readonly kind: 'changes'; readonly batch: ChangeBatch }
  /**
   * The datastore is unavailable or the watch failed. When it is available again, the changes since follow, or a new
   * listing if its history does not have them.
   */
  | { readonly kind: 'broken'; readonly error: unknown }
  /** The datastore is available again, and the changes since follow. */
  | { readonly kind: 'resumed' };

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
  let last: KeyValue | undefined;
  let revision: bigint | undefined;
  while (!signal.aborted) {
    try {
      if (
        revision !== undefined &&
        last !== undefined &&
        (await isHistoryOf(datastore, last, signal))
      ) {
        // Removals after the last write are repeated.
        revision = last.modRevision;
        yield { kind: 'resumed' };
      } else {
        [last, revision] = [undefined, undefined];
        let listed: bigint | undefined;
        for await (const page of datastore.pages(prefix, signal, uncached)) {
          const items = new Noted(page.encoded ?? page.items, last);
          yield { kind: 'page', items, isFirst: listed === undefined };
          last = items.newest === undefined ? undefined : withText(items.newest);
          listed = page.revision;
        }
        if (listed === undefined) continue;
        revision = listed;
        yield { kind: 'listed', revision };
      }
      delays = backoffMs(firstRetryMs, longestRetryMs);
      for await (const batch of datastore.watch(prefix, revision, signal)) {
        yield { kind: 'changes', batch };
        last = newestWrite(last, batch.changes.flatMap(writtenBy));
      }
    } catch (error) {
      if (!signal.aborted) yield { kind: 'broken', error };
    }
    await pause(delays.next().value, signal);
  }
}

async function isHistoryOf(
  datastore: Datastore,
  last: KeyValue,
  signal: AbortSignal,
): Promise<boolean> {
  return (await datastore.hasWritten?.(last, signal)) ?? false;
}

/** The items of a page, and the newest of those that were iterated. */
class Noted implements Iterable<ListedItem> {
  newest: ListedItem | undefined;
  readonly #items: Iterable<ListedItem>;

  constructor(items: Iterable<ListedItem>, newest: ListedItem | undefined) {
    this.#items = items;
    this.newest = newest;
  }

  *[Symbol.iterator](): Generator<ListedItem, undefined> {
    for (const item of this.#items) {
      this.newest = newer(this.newest, item);
      yield item;
    }
    return undefined;
  }
}

function writtenBy({
  key,
  value,
  modRevision,
}: ChangeBatch['changes'][number]): readonly KeyValue[] {
  return value === undefined ? [] : [{ key, value, modRevision }];
}

function newestWrite(
  last: KeyValue | undefined,
  writes: readonly KeyValue[],
): KeyValue | undefined {
  return writes.reduce<KeyValue | undefined>(newer, last);
}

function newer<Item extends Pick<KeyValue, 'modRevision'>>(
  newest: Item | undefined,
  one: Item,
): Item {
  return newest === undefined || one.modRevision > newest.modRevision ? one : newest;
}

/** The bytes are a part of a page, which must not stay. */
function withText(item: ListedItem): KeyValue {
  if ('value' in item) return item;
  return { key: decodeKey(item), value: decodeText(item), modRevision: item.modRevision };
}
