import type { Settings } from '../config/settings.ts';
import { datastoreOptions } from './from-settings.ts';
import { refuseNewer } from '../datastore/sqlite-format.ts';

/**
 * Throws what keeps the daemon from starting and will not change by itself: `datastore/too-new` for a file that a
 * newer program has written, `datastore/unavailable` for one that is damaged, `datastore/bad-file` for a certificate
 * of etcd. It writes nothing, and loads little.
 */
export async function checkStart(settings: Settings): Promise<void> {
  const datastore = datastoreOptions(settings);
  if (datastore.kind === 'sqlite') {
    refuseNewer(datastore.file);
  } else {
    const { readCredentials } = await import('../datastore/etcd-credentials.ts');
    await readCredentials(datastore);
  }
}
