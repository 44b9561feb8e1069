import type { Datastore } from './datastore.ts';
import type { EtcdOptions } from './etcd-credentials.ts';
import { openEtcdStore } from './etcd-store.ts';
import { openSqliteStore } from './sqlite-store.ts';

export type DatastoreOptions =
  | { readonly kind: 'sqlite'; readonly file: string }
  | ({ readonly kind: 'etcd' } & EtcdOptions);

/** Opens the store that the settings name. */
export function openDatastore(options: DatastoreOptions): Promise<Datastore> {
  return options.kind === 'etcd' ? openEtcdStore(options) : openSqliteStore(options.file);
}
