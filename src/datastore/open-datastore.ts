import type { Datastore } from './datastore.ts';
import type { EtcdOptions } from './etcd-credentials.ts';
import { openSqliteStore } from './sqlite-store.ts';

export type DatastoreOptions =
  | { readonly kind: 'sqlite'; readonly file: string }
  | ({ readonly kind: 'etcd' } & EtcdOptions);

/**
 * Opens the store that the settings name. The etcd client is loaded here, as hosts without etcd need none of it: by
 * a file of ours, for of a bundled CommonJS library a dynamic import has no names.
 */
export async function openDatastore(options: DatastoreOptions): Promise<Datastore> {
  if (options.kind === 'sqlite') return openSqliteStore(options.file);
  const { openEtcdStore } = await import('./etcd-store.ts');
  return openEtcdStore(options);
}
