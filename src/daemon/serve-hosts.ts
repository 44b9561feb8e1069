import { statSync } from 'node:fs';
import { pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { memberAccess } from '../cluster/admin-access.ts';
import { putMoveRole, putNodeUser, removeMoveRole } from '../cluster/auth.ts';
import type { ClusterFile, ClusterPaths } from '../cluster/cluster-file.ts';
import { openEtcdPatiently } from '../cluster/etcd-access.ts';
import { joinPort } from '../cluster/joining/protocol.ts';
import { startJoinServer, type ServerIdentity } from '../cluster/joining/join-server.ts';
import { ownAuthority } from '../cluster/joining/member-files.ts';
import { ownCopies } from '../cluster/moving/move-records.ts';
import { otherCollisions } from '../cluster/joining/collisions.ts';
import { readIfPresent } from '../async/replace-file.ts';
import { markGone } from '../cluster/records.ts';
import { CalicoError } from '../errors/error.ts';
import { hasIpv6 } from '../host/networks.ts';
import type { Logger } from '../telemetry/log.ts';

/** The join server of a member, with the administrator's credential. */

export interface ServeHostsOptions {
  readonly paths: ClusterPaths;
  readonly file: ClusterFile;
  readonly log: Logger;
  readonly now: () => Date;
  readonly work: Work;
  /** Reports whether this host is still a member with the same endpoints. */
  readonly isCurrent: () => boolean;
  readonly pollMs: number;
}

/** Serves until the signal is aborted, or this host is no member of the same members any more. */
export async function serveHosts(options: ServeHostsOptions, signal: AbortSignal): Promise<void> {
  const { paths, file, log, now, work, isCurrent, pollMs } = options;
  await using opened = new AsyncDisposableStack();
  const { datastore, admin } = opened.use(await openEtcdPatiently(memberAccess(paths).datastore));
  const authority = () => {
    const own = ownAuthority(paths);
    if (own === undefined)
      throw new CalicoError('cluster/bad-file', {
        file: paths.caKey,
        why: 'it is not the key of ca.crt',
      });
    return own;
  };
  const stop = new AbortController();
  opened.defer(() => stop.abort());
  const server = await startJoinServer(
    {
      uid: file.uid,
      datastore,
      authority,
      endpoints: async () => {
        const members = await admin.members();
        return members.flatMap(({ isLearner, clientUrls }) => (isLearner ? [] : clientUrls));
      },
      users: {
        admit: async (node) => {
          await admin.auth((auth) => putNodeUser(auth, node));
          await admin.auth((auth) => putMoveRole(auth, node));
        },
        moved: (node) => admin.auth((auth) => removeMoveRole(auth, node)),
      },
      now,
      ownCopies: async (node, stopping) =>
        new Set((await ownCopies(datastore, node, stopping)).keys()),
      collisions: (island, stopping) => otherCollisions(datastore, island, stopping),
      leave: async (node) => {
        await markGone(datastore, node, stop.signal);
      },
      onRejected: ({ path, sender, error }) =>
        log.warn('join request rejected', { path, sender, reason: error.message }),
    },
    { identity: identityOf(paths), port: joinPort, host: hasIpv6() ? '::' : '0.0.0.0' },
  );
  opened.defer(() => server.close());
  log.info('join server ready', { port: joinPort });
  work.succeeded();
  let changed = changeOf(paths);
  while (!signal.aborted && isCurrent()) {
    await pause(pollMs, signal);
    if (changeOf(paths) === changed) continue;
    changed = changeOf(paths);
    server.reload(identityOf(paths));
  }
}

function identityOf(paths: ClusterPaths): ServerIdentity {
  const read = (path: string) => {
    const pem = readIfPresent(path);
    if (pem === undefined)
      throw new CalicoError('cluster/bad-file', { file: path, why: 'missing' });
    return pem;
  };
  return {
    certificate: read(paths.serverCert),
    key: read(paths.serverKey),
    authority: read(paths.ca),
  };
}

function changeOf({ serverCert, ca }: ClusterPaths): string {
  return [serverCert, ca]
    .map((file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0)
    .join();
}
