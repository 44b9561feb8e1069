import type { Datastore } from './datastore.ts';
import type { EtcdOptions } from './etcd-credentials.ts';
import { openSqliteStore } from './sqlite-store.ts';

export type DatastoreOptions =
  | { readonly kind: 'sqlite'; readonly file: string }
  | ({ readonly kind: 'etcd' } & EtcdOptions);

/**
 * Opens the configured store. The etcd client is loaded only here, because hosts without etcd do not need it: through
 * a module of this project, because a dynamic import of a bundled CommonJS library has no named exports.
 */
export async function openDatastore(options: DatastoreOptions): Promise<Datastore> {
  if (options.kind === 'sqlite') return openSqliteStore(options.file);
  const { openEtcdStore } = await import('./etcd-store.ts');
  return openEtcdStore(options);
}

/** How long patient calls wait: the only member of a cluster restarts within 2 s, on a slow host within some more. */
export const refusedMs = 6000;

/**
 * As `openDatastore`; calls wait while the only member of a cluster restarts. For commands, and for the steps of a move.
 * The store that a daemon goes on using must not wait, because calls from Docker have deadlines.
 */
export function openPatiently(options: DatastoreOptions): Promise<Datastore> {
  return openDatastore(options.kind === 'etcd' ? { ...options, refusedMs } : options);
}
