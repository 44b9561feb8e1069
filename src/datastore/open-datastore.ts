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
