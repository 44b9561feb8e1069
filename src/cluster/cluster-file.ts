import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { replaceFileSync } from '../async/replace-file.ts';
import type { Settings } from '../config/settings.ts';
import { CalicoError, describe, hasErrorCode } from '../errors/error.ts';

/** What a host stores about its cluster: one folder, next to the datastore of a single host. */

/** The paths of a host's cluster files. */
export interface ClusterPaths {
  readonly folder: string;
  /** `ClusterFile`. */
  readonly file: string;
  readonly ca: string;
  /** Members only. */
  readonly caKey: string;
  /** The certificate of this node as a user of etcd. */
  readonly nodeCert: string;
  readonly nodeKey: string;
  /** The certificate of etcd's administrator; members only. */
  readonly adminCert: string;
  readonly adminKey: string;
  /** etcd's configuration, certificates and data; members only. */
  readonly etcd: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly peerCert: string;
  readonly peerKey: string;
}

/** Returns the paths for the settings of a host. */
export function clusterPaths({ datastoreFile }: Pick<Settings, 'datastoreFile'>): ClusterPaths {
  const folder = join(dirname(datastoreFile), 'cluster');
  const of = (name: string) => join(folder, name);
  return {
    folder,
    file: of('cluster.json'),
    ca: of('ca.crt'),
    caKey: of('ca.key'),
    nodeCert: of('node.crt'),
    nodeKey: of('node.key'),
    adminCert: of('admin.crt'),
    adminKey: of('admin.key'),
    etcd: of('etcd'),
    serverCert: of('etcd/server.crt'),
    serverKey: of('etcd/server.key'),
    peerCert: of('etcd/peer.crt'),
    peerKey: of('etcd/peer.key'),
  };
}

/** An address such as `https://192.0.2.1:2379`. */
const url = z.string().regex(/^https:\/\/[^/\s]+$/);

const clusterFileSchema = z.object({
  /** Identity of the cluster, chosen by `init`. */
  uid: z.string().min(1),
  /** The name of this node when it joined. */
  node: z.string().min(1),
  part: z.enum(['member', 'client']),
  /** Only `joined` decides the datastore of this host; the others are commands that were interrupted or still run. */
  state: z.enum(['initializing', 'joining', 'joined', 'leaving']),
  /** Client URLs of the members. */
  endpoints: z.array(url),
  /**
   * While a host leaves that is not the last one: it has announced that (`announced`, still `joined`); its own datastore
   * is from before the cluster (`left`), and is then put aside (`put aside`). While it leaves without its cluster
   * (`alone`): the file of its own datastore is absent until it is complete, and until then it is one of its cluster.
   */
  step: z.string().optional(),
  /** The backup that is being restored on this host; kept until all hosts have written what is newer. */
  restoring: z.string().optional(),
  /** While joining: the identity of the join, by which the token that it used is its own when it is repeated. */
  join: z.object({ id: z.string(), server: z.string(), fingerprint: z.string() }).optional(),
});

/** The contents of `cluster.json`. */
export type ClusterFile = z.infer<typeof clusterFileSchema>;

/** Returns the cluster file; `undefined` if this host belongs to no cluster. Throws `cluster/bad-file`. */
export function readClusterFile({ file }: Pick<ClusterPaths, 'file'>): ClusterFile | undefined {
  try {
    return clusterFileSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT')) return undefined;
    const why = error instanceof z.ZodError ? z.prettifyError(error) : describe(error);
    throw new CalicoError('cluster/bad-file', { file, why }, { cause: error });
  }
}

/** Returns the file of a host that has joined a cluster; `undefined` on others. Throws `cluster/bad-file`. */
export function joinedClusterFile(paths: Pick<ClusterPaths, 'file'>): ClusterFile | undefined {
  const file = readClusterFile(paths);
  return file?.state === 'joined' ? file : undefined;
}

/**
 * As `joinedClusterFile`, for what needs a cluster. Throws `cluster/none`, and `cluster/interrupted` with the command
 * that has not ended.
 */
export function requireJoined(paths: Pick<ClusterPaths, 'file'>): ClusterFile {
  const file = readClusterFile(paths);
  if (file === undefined) throw new CalicoError('cluster/none', {});
  if (file.state === 'joined') return file;
  throw new CalicoError('cluster/interrupted', { command: commandOf[file.state] });
}

/** The commands that leave such a state behind when they are interrupted. */
export const commandOf = { initializing: 'init', joining: 'join', leaving: 'leave' } as const;

/** Replaces the cluster file atomically. */
export function writeClusterFile({ file }: Pick<ClusterPaths, 'file'>, content: ClusterFile): void {
  replaceFileSync(file, `${JSON.stringify(content, undefined, 2)}\n`, 0o600);
}

/** Removes all that a host stores of its cluster. The cluster file is the last, so that an interrupted command goes on. */
export function removeClusterFiles({ folder, file }: ClusterPaths): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (path !== file) rmSync(path, { recursive: true, force: true });
  }
  rmSync(folder, { recursive: true, force: true });
}

/** Replaces a file with a certificate (0644) or a private key (0600). */
export function writePem(file: string, pem: string): void {
  replaceFileSync(file, pem, pem.includes('PRIVATE KEY') ? 0o600 : 0o644);
}
