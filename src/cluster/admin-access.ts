import { readFileSync } from 'node:fs';
import type { DatastoreOptions } from '../datastore/open-datastore.ts';
import { CalicoError, describe, hasErrorCode } from '../errors/error.ts';
import { requireJoined, type ClusterFile, type ClusterPaths } from './cluster-file.ts';
import { adminOptions } from './etcd-access.ts';

/** The administrator's access to the datastore of a cluster, which members have. */

/** A member as its files describe it. */
export interface MemberAccess {
  readonly file: ClusterFile;
  /** The certificate of the authority, PEM. */
  readonly ca: string;
  readonly datastore: Extract<DatastoreOptions, { kind: 'etcd' }>;
}

/**
 * Returns the access of this host. Throws `cluster/none` for a host without a cluster, `cluster/interrupted`, `cluster/no-admin` for a client,
 * which names the members.
 */
export function memberAccess(paths: ClusterPaths): MemberAccess {
  const file = requireJoined(paths);
  for (const needed of [paths.ca, paths.adminCert, paths.adminKey]) {
    try {
      readFileSync(needed);
    } catch (error) {
      if (hasErrorCode(error, 'ENOENT')) {
        throw new CalicoError('cluster/no-admin', { hosts: hostsOf(file.endpoints) });
      }
      const why = describe(error);
      throw new CalicoError('cluster/bad-file', { file: needed, why }, { cause: error });
    }
  }
  return {
    file,
    ca: readFileSync(paths.ca, 'utf8'),
    datastore: adminOptions(paths, file.endpoints),
  };
}

/** `192.0.2.1, 192.0.2.2 or 192.0.2.3`. */
function hostsOf(endpoints: readonly string[]): string {
  const hosts = endpoints.map((endpoint) => new URL(endpoint).hostname);
  const last = hosts.at(-1) ?? 'a member';
  return hosts.length < 2 ? last : `${hosts.slice(0, -1).join(', ')} or ${last}`;
}
