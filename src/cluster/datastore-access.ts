import { accessSync, constants, existsSync } from 'node:fs';
import { lockedError } from '../cache/lock.ts';
import type { Settings } from '../config/settings.ts';
import type { EtcdRole } from '../datastore/etcd-credentials.ts';
import type { DatastoreOptions } from '../datastore/open-datastore.ts';
import { datastoreOptions } from '../host/from-settings.ts';
import {
  clusterPaths,
  readClusterFile,
  type ClusterFile,
  type ClusterPaths,
} from './cluster-file.ts';
import { adminOptions, nodeOptions } from './etcd-access.ts';
import { fileMark } from './moving/file-mark.ts';
import { nodePermissions, permits } from './roles.ts';

/**
 * Returns the datastore of this host: etcd of the settings; that of its cluster; or the file of a single host. In a
 * cluster, `node` uses the certificate of the node, whose role permits what a daemon does; `admin`, for commands, that of
 * the administrator on hosts where it can be read, which are members. Throws `cluster/bad-file`; `datastore/moved` or
 * `datastore/incomplete` if the file is not the datastore, and the settings do not say which is.
 */
export function datastoreAccess(settings: Settings, as: 'node' | 'admin'): DatastoreOptions {
  const { datastoreFile } = settings;
  const mark = fileMark(datastoreFile);
  if (settings.etcdEndpoints !== undefined) {
    // Until the last step of a move, the file has the data.
    if (mark?.state === 'copying') return { kind: 'sqlite', file: datastoreFile };
    return datastoreOptions(settings);
  }
  const paths = clusterPaths(settings);
  const file = readClusterFile(paths);
  // A command that was interrupted after the move into the cluster, or before that out of it.
  const isStill = mark?.state === 'moved' || (file?.step === 'alone' && !existsSync(datastoreFile));
  const isJoined = file?.state === 'joined' || isStill;
  if (file === undefined || !isJoined) {
    if (mark !== undefined && mark.state !== 'copying') throw lockedError(datastoreFile, mark);
    return datastoreOptions(settings);
  }
  const { endpoints } = file;
  if (as === 'admin' && isReadable(paths.adminKey)) return adminOptions(paths, endpoints);
  return nodeAccess(paths, file);
}

/** The access of this node to the etcd of its cluster, with what to do if it is denied. */
export function nodeAccess(
  paths: ClusterPaths,
  file: ClusterFile,
): Extract<DatastoreOptions, { kind: 'etcd' }> {
  return { ...nodeOptions(paths, file.endpoints), role: roleOf(file) };
}

function roleOf({ node, endpoints }: ClusterFile): EtcdRole {
  const permissions = nodePermissions(node);
  const members = endpoints.map((endpoint) => new URL(endpoint).hostname).join(', ');
  const again = 'calico-cnm cluster join';
  const alone = 'calico-cnm cluster leave --force';
  return {
    mayWrite: (key) => permits(permissions, 'write', key),
    remedy: `run the command as root on a host with the admin credential: ${members}`,
    denied: `node ${node} has no access, because it was removed from the cluster; run on this host: ${again} (to join again), or ${alone} (to keep its networks in a datastore of its own)`,
    rejected: `certificate of node ${node} rejected; check the clock, or run on this host: ${again}`,
  };
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
