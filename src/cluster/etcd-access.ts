import { existsSync } from 'node:fs';
import type { Datastore } from '../datastore/datastore.ts';
import type { EtcdOptions } from '../datastore/etcd-credentials.ts';
import { openDatastore, refusedMs, type DatastoreOptions } from '../datastore/open-datastore.ts';
import type { ClusterPaths } from './cluster-file.ts';
import type { EtcdAdmin } from './etcd/admin.ts';

/** How this host reaches the etcd of its cluster, with the credentials in its files. */

type EtcdAccess = Extract<DatastoreOptions, { kind: 'etcd' }>;

/** Returns where etcd is, and the credential of its administrator. */
export function adminOptions(paths: ClusterPaths, endpoints: readonly string[]): EtcdAccess {
  const { ca: caFile, adminCert: certFile, adminKey: keyFile } = paths;
  return { kind: 'etcd', endpoints, caFile, certFile, keyFile };
}

/** As `adminOptions`, with the credential of this node. */
export function nodeOptions(paths: ClusterPaths, endpoints: readonly string[]): EtcdAccess {
  const { ca: caFile, nodeCert: certFile, nodeKey: keyFile } = paths;
  return { kind: 'etcd', endpoints, caFile, certFile, keyFile };
}

/** Reports whether this host has the administrator's credential. */
export function hasAdminCredential(paths: ClusterPaths): boolean {
  return existsSync(paths.adminKey) && existsSync(paths.adminCert);
}

/** Members and data of an etcd, by one credential. */
export interface OpenedEtcd extends AsyncDisposable {
  readonly admin: EtcdAdmin;
  readonly datastore: Datastore;
}

/** Opens both without sending a request; loads the library of etcd. Throws `datastore/bad-file`. */
export async function openEtcd(options: EtcdOptions): Promise<OpenedEtcd> {
  const { EtcdAdmin: Admin } = await import('./etcd/admin.ts');
  await using opened = new AsyncDisposableStack();
  const admin = opened.adopt(await Admin.open(options), (one) => one.close());
  const datastore = await openDatastore({ ...options, kind: 'etcd' });
  opened.defer(() => datastore.close());
  const kept = opened.move();
  return { admin, datastore, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** As `openEtcd`; calls wait while the only member restarts, as those of `openPatiently`. */
export function openEtcdPatiently(options: EtcdOptions): Promise<OpenedEtcd> {
  return openEtcd({ ...options, refusedMs });
}
