import type { Datastore } from '../datastore/datastore.ts';
import { GroupWriter } from './group-writer.ts';
import { nodeScope } from './cache-scope.ts';
import { LiveMirror } from './live-mirror.ts';

/** Writers of one datastore, each with its own connection and mirror, like separate processes. */
export interface Writers extends AsyncDisposable {
  readonly mirrors: readonly LiveMirror[];
  readonly writers: readonly GroupWriter[];
}

/**
 * Opens the writers and resolves when their mirrors are in sync; `open` opens another connection to the same datastore.
 * Each mirror has the scope of the named node, or the full scope.
 */
export async function openWriters(
  nodes: readonly (string | undefined)[],
  open: () => Promise<Datastore>,
): Promise<Writers> {
  const stores = await Promise.all(nodes.map(open));
  const mirrors = stores.map((store, index) => {
    const node = nodes[index];
    const scope = node === undefined ? undefined : nodeScope(node);
    return new LiveMirror(store, undefined, undefined, undefined, scope);
  });
  const stop = new AbortController();
  const running = mirrors.map((mirror) => mirror.run(stop.signal));
  const signal = AbortSignal.timeout(600_000);
  await Promise.all(mirrors.map((mirror) => mirror.reached(0n, signal)));
  return {
    mirrors,
    writers: mirrors.map((mirror) => new GroupWriter(mirror)),
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await Promise.all(running);
      await Promise.all(stores.map((store) => store.close()));
    },
  };
}
