import type { IWatchResponse, WatchClient } from 'etcd3';
import type { ChangeBatch, KeyChange } from './datastore.ts';

/** The watched range: keys from `key` to before `rangeEnd`, changes after a revision. */
export interface WatchedRange {
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
  readonly afterRevision: bigint;
}

/** etcd ended a watch for a reason that every member has. */
export class WatchCancelled extends Error {}

/**
 * Yields the changes of a range from its own watch, until the signal is aborted. Throws the error that ended the
 * watch. Large responses arrive in fragments (`fragment`): a backlog would otherwise be one message of any size.
 *
 * The library's watcher neither requests fragments nor distinguishes them from whole responses.
 */
export async function* watchEtcd(
  client: WatchClient,
  { key, rangeEnd, afterRevision }: WatchedRange,
  stop: AbortSignal,
): AsyncGenerator<ChangeBatch> {
  const received: IWatchResponse[] = [];
  let lost: Error | undefined;
  let wake = (): void => undefined;
  const onStop = () => wake();
  const lose = (error: Error) => {
    lost ??= error;
    wake();
  };
  const stream = await client.watch();
  stream.on('error', lose);
  stream.on('end', () => lose(new Error('etcd ended it')));
  stream.on('data', (response) => {
    received.push(response);
    wake();
  });
  stop.addEventListener('abort', onStop);
  try {
    stream.write({
      create_request: {
        key,
        range_end: rangeEnd,
        start_revision: (afterRevision + 1n).toString(),
        fragment: true,
      },
    });
    const assembly = new ChangeAssembly();
    for (;;) {
      for (const response of received.splice(0)) {
        if (response.canceled) throw cancelled(response);
        const batch = assembly.take(response.events.map(toChange), response.fragment);
        if (batch !== undefined) yield batch;
      }
      if (stop.aborted) return;
      if (lost !== undefined) throw lost;
      if (received.length > 0) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    stop.removeEventListener('abort', onStop);
    stream.cancel();
  }
}

/**
 * Assembles fragments of etcd's responses into batches that are complete up to their revision. The revision of the
 * header is that of the store, not that of the changes, and is ignored.
 */
export class ChangeAssembly {
  /** Changes of the newest revision; more may follow. */
  #pending: KeyChange[] = [];

  /** Adds one message's changes, in order of revision; `isFragment`: more of the same response follows. */
  take(changes: readonly KeyChange[], isFragment: boolean): ChangeBatch | undefined {
    const all = [...this.#pending, ...changes];
    const newest = all.at(-1)?.modRevision;
    const isComplete = ({ modRevision }: KeyChange) => !isFragment || modRevision !== newest;
    const count = all.findLastIndex(isComplete) + 1;
    const last = all[count - 1];
    this.#pending = all.slice(count);
    if (last === undefined) return undefined;
    return { revision: last.modRevision, changes: lastOfEachKey(all.slice(0, count)) };
  }
}

/** A batch may span several revisions; only the last change of a key counts. */
function lastOfEachKey(changes: readonly KeyChange[]): readonly KeyChange[] {
  return [...new Map(changes.map((change) => [change.key, change])).values()];
}

function toChange({ type, kv }: IWatchResponse['events'][number]): KeyChange {
  return {
    key: kv.key.toString('utf8'),
    value: type === 'Delete' ? undefined : kv.value.toString('utf8'),
    modRevision: BigInt(kv.mod_revision),
  };
}

function cancelled({ cancel_reason: reason, compact_revision: compacted }: IWatchResponse): Error {
  if (compacted !== '0') return new WatchCancelled('the revision has been compacted');
  return new WatchCancelled(reason === '' ? 'the watch was cancelled' : reason);
}
