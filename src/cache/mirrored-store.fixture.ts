import type { Datastore } from '../datastore/datastore.ts';
import { GroupWriter } from './group-writer.ts';
import { LiveMirror } from './live-mirror.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';

/** A mirror that follows, until it is disposed of. */
export interface Followed extends AsyncDisposable {
  readonly mirror: LiveMirror;
}

/** Follows a store, which is closed when it is no more; in sync. */
export async function followed(store: Datastore, waitMs?: number): Promise<Followed> {
  const mirror = new LiveMirror(store, undefined, undefined, waitMs);
  const stop = new AbortController();
  const running = mirror.run(stop.signal);
  await mirror.reached(0n, AbortSignal.timeout(600_000));
  return {
    mirror,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      await store.close();
    },
  };
}

/** An empty store in memory that is followed, until it is disposed of. */
export interface MirroredStore extends Followed {
  readonly writer: GroupWriter;
}

/**
 * Opens it, in sync; `seen` puts something between the store and those who use it, `waitMs` is how long these wait
 * for the watch.
 */
export async function openMirroredStore(
  seen: (store: Datastore) => Datastore = (store) => store,
  waitMs?: number,
): Promise<MirroredStore> {
  const following = await followed(seen(await openSqliteStore(':memory:')), waitMs);
  return {
    mirror: following.mirror,
    writer: new GroupWriter(following.mirror, waitMs),
    [Symbol.asyncDispose]: () => following[Symbol.asyncDispose](),
  };
}
