import { readIfPresent } from '../async/replace-file.ts';
import { randomUUID } from 'node:crypto';
import { CalicoError } from '../errors/error.ts';
import { enableAuth, putNodeUser } from './auth.ts';
import {
  readClusterFile,
  writeClusterFile,
  writePem,
  type ClusterFile,
  type ClusterPaths,
} from './cluster-file.ts';
import { clientPort, etcdUrl, peerPort } from './etcd/configuration.ts';
import { adminOptions, openEtcd, openEtcdPatiently } from './etcd-access.ts';
import { storeOwnId } from './etcd/host-member.ts';
import { startMember, waitUntilReady } from './etcd/local-member.ts';
import type { UnitManager } from './etcd/units.ts';
import { issueOwnCertificates, memberCertificates } from './pki/own-certificates.ts';
import type { KeyPair } from './pki/authority.ts';
import { fingerprint } from './pki/certificate.ts';
import { updateHost, updateSettings, type ClusterSettings } from './records.ts';
import { etcdUserOf } from './roles.ts';

/** The first member of a cluster, as steps of which each may be repeated after a crash at any point. */

const readyMs = 30_000;

/** The host that becomes the first member. */
export interface FirstMember {
  readonly node: string;
  /** Its address for other hosts. */
  readonly address: string;
  /** All addresses and names by which other hosts may reach it. */
  readonly names: readonly string[];
  readonly paths: ClusterPaths;
  readonly units: UnitManager;
}

/**
 * Returns the cluster file of an `init` that begins, or of the one that was interrupted. Throws
 * `cluster/already-in-cluster`.
 */
export function beginCluster({ node, address, paths }: FirstMember): ClusterFile {
  const present = readClusterFile(paths);
  if (present !== undefined && present.state !== 'initializing') {
    throw new CalicoError('cluster/already-in-cluster', {
      part: present.part,
      state: present.state,
    });
  }
  const endpoints = [etcdUrl(address, clientPort)];
  const file: ClusterFile = {
    uid: present?.uid ?? randomUUID(),
    node,
    part: 'member',
    state: 'initializing',
    endpoints,
  };
  writeClusterFile(paths, file);
  return file;
}

/** Creates the authority and the certificates of this host, those that are missing. */
export async function createCertificates(
  { node, names, paths }: FirstMember,
  now: Date,
): Promise<void> {
  const authority = await authorityIn(paths, now);
  const user = etcdUserOf(node);
  const wanted = memberCertificates(paths, { user, names });
  await issueOwnCertificates(authority, wanted, now);
}

/** The key is written last: with it the authority is complete. */
async function authorityIn(paths: ClusterPaths, now: Date): Promise<KeyPair> {
  const [certificate, key] = [readIfPresent(paths.ca), readIfPresent(paths.caKey)];
  if (certificate !== undefined && key !== undefined) return { certificate, key };
  const { createAuthority } = await import('./pki/authority.ts');
  const created = await createAuthority(now);
  writePem(paths.ca, created.certificate);
  writePem(paths.caKey, created.key);
  return created;
}

/** Starts etcd with this host as its only member, and waits until it responds. Throws `cluster/etcd-not-ready`. */
export async function startFirstMember(
  { node, address, paths, units }: FirstMember,
  cluster: string,
): Promise<void> {
  const members = [{ name: node, peerUrl: etcdUrl(address, peerPort) }];
  await startMember({ name: node, address, cluster, members, state: 'new' }, { paths, units });
  const url = etcdUrl(address, clientPort);
  await using opened = await openEtcd(adminOptions(paths, [url]));
  await waitUntilReady(opened.admin, url, readyMs);
}

/** Turns authentication on, creates the user of this node, and writes the records of the cluster. */
export async function writeFirstRecords(
  { node, address, paths }: FirstMember,
  options: { readonly settings: ClusterSettings; readonly now: Date; readonly signal: AbortSignal },
): Promise<void> {
  const { settings, now, signal } = options;
  const endpoints = [etcdUrl(address, clientPort)];
  await using opened = await openEtcdPatiently(adminOptions(paths, endpoints));
  const { admin, datastore } = opened;
  await admin.auth((auth) => putNodeUser(auth, node));
  await admin.auth(enableAuth);
  const [own] = await admin.members();
  if (own === undefined) throw new Error('etcd has no member');
  storeOwnId(paths, own.id);
  const certificate = readIfPresent(paths.nodeCert);
  const key = certificate && fingerprint(certificate);
  await updateSettings(datastore, (present) => present ?? settings, signal);
  await updateHost(
    datastore,
    node,
    (present) =>
      present ?? {
        address,
        joined: now.toISOString(),
        wanted: 'member',
        attempt: 0,
        ...(key === undefined ? {} : { key }),
        member: { id: own.id, peers: [{ name: node, peerUrl: etcdUrl(address, peerPort) }] },
      },
    signal,
  );
}
