import type { DatastoreOptions } from '../datastore/open-datastore.ts';
import { refuseNewer } from '../datastore/sqlite-format.ts';

/**
 * Throws permanent errors that would keep the daemon from starting: `datastore/too-new` for a file written by a newer
 * version, `datastore/unavailable` for a damaged one, `datastore/bad-file` for a certificate of etcd. Writes nothing,
 * and loads little.
 */
export async function checkStart(datastore: DatastoreOptions): Promise<void> {
  if (datastore.kind === 'sqlite') {
    refuseNewer(datastore.file);
  } else {
    const { readCredentials } = await import('../datastore/etcd-credentials.ts');
    await readCredentials(datastore);
  }
}
