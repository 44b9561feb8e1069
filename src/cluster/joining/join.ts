import { readIfPresent } from '../../async/replace-file.ts';
import { randomBytes } from 'node:crypto';
import type { DatastoreOptions } from '../../datastore/open-datastore.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import {
  readClusterFile,
  writeClusterFile,
  writePem,
  type ClusterFile,
  type ClusterPaths,
} from '../cluster-file.ts';
import { fingerprint } from '../pki/certificate.ts';
import { keyIn } from '../pki/own-certificates.ts';
import type { Token } from '../tokens.ts';
import {
  fetchAuthority,
  formatServer,
  send,
  sendPatiently,
  type JoinServer,
  type Proof,
} from './connection.ts';
import {
  checkResponse,
  emptyResponse,
  joinResponse,
  paths as requests,
  renewResponse,
  tokenResponse,
  type CheckResponse,
  type IslandRequest,
  type JoinResponse,
} from './protocol.ts';

/**
 * The steps of `cluster join` on the host that joins. Each one may be repeated, and running the command again after an
 * interruption continues it: until the data has moved, the host works from its own datastore.
 */

export interface JoinOptions {
  readonly node: string;
  readonly server: JoinServer;
  readonly token: Token;
  /** Never a member of etcd. */
  readonly isClientOnly: boolean;
}

/** What the steps need of this host. */
export interface JoinDeps {
  readonly paths: ClusterPaths;
  /** Reads the data of this host. */
  readonly island: () => Promise<IslandRequest & { readonly address: string }>;
  /** Reports whether the data has moved to the cluster already, by an earlier run. */
  readonly isMoved: () => Promise<boolean>;
  /** Prepares this host for being a member of etcd, if it may become one. */
  readonly prepare: (cluster: ClusterSize) => Promise<void>;
  /** Moves the data of this host to the datastore of the cluster, and its daemon with it. */
  readonly move: (to: DatastoreOptions) => Promise<void>;
  readonly progress: (line: string) => void;
}

export type ClusterSize = Pick<CheckResponse, 'hosts' | 'members'>;

export type JoinOutcome =
  | { readonly kind: 'joined' | 'already joined' }
  | {
      readonly kind: 'conflicts';
      readonly conflicts: CheckResponse['conflicts'];
      readonly freeRanges: readonly string[];
    };

/**
 * Joins a cluster. Conflicts are returned before anything changes. Throws `cluster/…` and the errors of the move; running
 * it again continues.
 */
export async function joinCluster(options: JoinOptions, deps: JoinDeps): Promise<JoinOutcome> {
  const { node, server, token } = options;
  const { paths, progress } = deps;
  const present = readClusterFile(paths);
  const isRejoining = present !== undefined && isJoined(present, token, paths);
  if (isRejoining && (await isAccepted(options, paths))) {
    // An interrupted join may have left it.
    await reportMoved(options, paths);
    return { kind: 'already joined' };
  }
  const isMoved =
    present?.state === 'joining' && present.endpoints.length > 0 && (await deps.isMoved());
  // Its data is in the cluster that it has begun to join.
  if (isMoved && present.join?.fingerprint !== token.fingerprint) {
    throw new CalicoError('cluster/interrupted', { command: 'join' });
  }
  const name = formatServer(server);
  progress(`connecting to ${name}`);
  const authority = await fetchAuthority(server, token.fingerprint);
  const join = idOf(present, token);
  const proof: Proof = { token, join };
  const ask = { authority, proof };
  const { uid } = await sendPatiently(server, {
    ...ask,
    path: requests.token,
    body: {},
    response: tokenResponse,
  });
  if (present === undefined || !isMoved) {
    progress('comparing the data of this host with that of the cluster');
    const island = await deps.island();
    // The datastore of this host is that of the cluster; its own has what it had when it joined.
    if (isRejoining) island.items = [];
    const checked = await sendPatiently(server, {
      ...ask,
      path: requests.check,
      body: island,
      response: checkResponse,
    });
    if (checked.conflicts.length > 0) return conflictsOf(checked);
    // From here on this host changes.
    await deps.prepare(checked);
    const file: ClusterFile = isRejoining ? present : fileOf({ uid, node, join, name, token });
    writeClusterFile(paths, file);
    progress('requesting certificates');
    const { createRequest } = await import('../pki/authority.ts');
    const request = await createRequest(await keyIn(paths.nodeKey));
    const admitted = await sendPatiently(server, {
      ...ask,
      path: requests.join,
      body: { ...island, request, isClientOnly: options.isClientOnly },
      response: joinResponse,
    });
    if (admitted.kind === 'checked') return conflictsOf(admitted);
    store(admitted, file, paths);
  }
  return goOver(options, deps);
}

/** Moves the data, and ends the join. */
async function goOver(
  options: JoinOptions,
  { paths, move, progress }: JoinDeps,
): Promise<JoinOutcome> {
  const file = readClusterFile(paths);
  if (file === undefined) throw new CalicoError('cluster/interrupted', { command: 'join' });
  progress('moving the data of this host to the cluster');
  await move({
    kind: 'etcd',
    endpoints: file.endpoints,
    caFile: paths.ca,
    certFile: paths.nodeCert,
    keyFile: paths.nodeKey,
  });
  await reportMoved(options, paths);
  const { join: _, step: _step, ...rest } = file;
  writeClusterFile(paths, { ...rest, state: 'joined' });
  return { kind: 'joined' };
}

/** Lets the member take away the rights that only the move needs. */
async function reportMoved({ server, node }: JoinOptions, paths: ClusterPaths): Promise<void> {
  const [authority, certificate] = [readIfPresent(paths.ca), readIfPresent(paths.nodeCert)];
  if (authority === undefined || certificate === undefined) {
    throw new CalicoError('cluster/interrupted', { command: 'join' });
  }
  await sendPatiently(server, {
    authority,
    proof: { certificate, key: await keyIn(paths.nodeKey) },
    path: requests.moved,
    body: { node },
    response: emptyResponse,
  });
}

/**
 * Reports whether a host that has joined is still one of the cluster: not after it was removed, or was off until its
 * certificate had expired. Throws `cluster/unreachable`.
 */
async function isAccepted({ server, node }: JoinOptions, paths: ClusterPaths): Promise<boolean> {
  const [authority, certificate] = [readIfPresent(paths.ca), readIfPresent(paths.nodeCert)];
  if (authority === undefined || certificate === undefined) return false;
  const { createRequest } = await import('../pki/authority.ts');
  const key = await keyIn(paths.nodeKey);
  try {
    const renewed = await send(server, {
      authority,
      proof: { certificate, key },
      path: requests.renew,
      body: { node, request: await createRequest(key) },
      response: renewResponse,
    });
    writePem(paths.nodeCert, renewed.certificate);
    writePem(paths.ca, renewed.ca);
    // A host finds members that have moved by the address that is given with the command.
    const file = readClusterFile(paths);
    const { endpoints } = renewed;
    if (file?.state === 'joined' && endpoints.length > 0)
      writeClusterFile(paths, { ...file, endpoints });
    return true;
  } catch (error) {
    if (isCalicoError(error, 'cluster/rejected')) return false;
    throw error;
  }
}

/** Throws if the host belongs to another cluster, or another command was interrupted. */
function isJoined(present: ClusterFile, token: Token, paths: ClusterPaths): boolean {
  if (present.state === 'initializing') {
    throw new CalicoError('cluster/interrupted', { command: 'init' });
  }
  if (present.state === 'leaving')
    throw new CalicoError('cluster/interrupted', { command: 'leave' });
  if (present.state === 'joining') return false;
  const authority = readIfPresent(paths.ca);
  if (authority !== undefined && fingerprint(authority) === token.fingerprint) return true;
  throw new CalicoError('cluster/other-cluster', { node: present.node });
}

/** The token is bound to this identity, so it is kept while the same cluster is joined. */
function idOf(present: ClusterFile | undefined, token: Token): string {
  const isSame = present?.join?.fingerprint === token.fingerprint;
  return (isSame ? present?.join?.id : undefined) ?? randomBytes(16).toString('hex');
}

function fileOf(facts: {
  readonly uid: string;
  readonly node: string;
  readonly join: string;
  readonly name: string;
  readonly token: Token;
}): ClusterFile {
  const { uid, node, join: id, name, token } = facts;
  return {
    uid,
    node,
    part: 'client',
    state: 'joining',
    endpoints: [],
    join: { id, server: name, fingerprint: token.fingerprint },
  };
}

function store(
  admitted: Extract<JoinResponse, { kind: 'admitted' }>,
  file: ClusterFile,
  paths: ClusterPaths,
): void {
  writePem(paths.ca, admitted.ca);
  writePem(paths.nodeCert, admitted.certificate);
  // Only now all files exist that the endpoints need.
  writeClusterFile(paths, { ...file, endpoints: admitted.endpoints });
}

function conflictsOf({ conflicts, freeRanges }: CheckResponse): JoinOutcome {
  return { kind: 'conflicts', conflicts, freeRanges };
}
