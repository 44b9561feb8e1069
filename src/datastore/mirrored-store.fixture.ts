import type { Datastore } from './datastore.ts';
import { GroupWriter } from './group-writer.ts';
import { LiveMirror } from './live-mirror.ts';
import { openSqliteStore } from './sqlite-store.ts';

/** An empty store in memory that is followed, until it is disposed of. */
export interface MirroredStore extends AsyncDisposable {
  readonly mirror: LiveMirror;
  readonly writer: GroupWriter;
}

/** Opens it, in sync; `seen` puts something between the store and those who use it. */
export async function openMirroredStore(
  seen: (store: Datastore) => Datastore = (store) => store,
): Promise<MirroredStore> {
  const store = await openSqliteStore(':memory:');
  const mirror = new LiveMirror(seen(store));
  const stop = new AbortController();
  const running = mirror.run(stop.signal);
  await mirror.reached(0n, AbortSignal.timeout(60_000));
  return {
    mirror,
    writer: new GroupWriter(mirror),
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      await store.close();
    },
  };
}
