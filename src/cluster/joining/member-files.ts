import { rmSync } from 'node:fs';
import { readIfPresent } from '../../async/replace-file.ts';
import { CalicoError } from '../../errors/error.ts';
import { readClusterFile, writePem, type ClusterPaths } from '../cluster-file.ts';
import { addressIn } from '../etcd/configuration.ts';
import type { KeyPair } from '../pki/authority.ts';
import {
  fingerprint,
  isDueForRenewal,
  isPair,
  isSignedBy,
  readCertificate,
} from '../pki/certificate.ts';
import { issueOwnCertificates, keyIn, memberCertificates } from '../pki/own-certificates.ts';
import { etcdUserOf } from '../roles.ts';
import { send, type Proof } from './connection.ts';
import { joinPort, memberResponse, paths as requests, renewResponse } from './protocol.ts';

/** The certificates of a host of a cluster: brought from the members, or issued on a member itself. */

export interface HostFiles {
  readonly paths: ClusterPaths;
  readonly node: string;
  /** Addresses and DNS names by which other hosts reach this one. */
  readonly names: readonly string[];
  readonly now: Date;
  /** The port of the join servers, unless it is the usual one. */
  readonly port?: number;
}

/** Returns the authority of the cluster with its private key; `undefined` on a host that is no member. */
export function ownAuthority(paths: ClusterPaths): KeyPair | undefined {
  const certificate = readIfPresent(paths.ca);
  const key = readIfPresent(paths.caKey);
  return certificate !== undefined && key !== undefined && isPair(certificate, key)
    ? { certificate, key }
    : undefined;
}

/**
 * Brings the key of the authority from a member, unless this host has it, and issues those of a member's certificates
 * that are missing or due. Returns their files. Repeatable. Throws `cluster/…` of the last member that was asked.
 */
export async function bringMemberFiles(files: HostFiles): Promise<readonly string[]> {
  const { paths, node, names, now } = files;
  if (ownAuthority(paths) === undefined) {
    const { caKey } = await askMembers(files, {
      path: requests.member,
      body: { node },
      response: memberResponse,
    });
    writePem(paths.caKey, caKey);
  }
  const authority = ownAuthority(paths);
  if (authority === undefined) {
    throw new CalicoError('cluster/bad-certificate', { what: 'the key of the authority' });
  }
  const wanted = memberCertificates(paths, { user: etcdUserOf(node), names });
  const issued = await issueOwnCertificates(authority, wanted, now);
  return issued.map(({ certificate }) => certificate.certFile);
}

/** Removes what only members have. Repeatable. */
export function removeMemberFiles(paths: ClusterPaths): void {
  const { caKey, adminKey, adminCert, serverKey, serverCert, peerKey, peerCert } = paths;
  for (const file of [caKey, adminKey, adminCert, serverKey, serverCert, peerKey, peerCert]) {
    rmSync(file, { force: true });
  }
}

/**
 * Renews the certificates of this host that are due, or whose addresses have changed; a client asks the members.
 * Returns the files that were written.
 */
export async function renewCertificates(files: HostFiles): Promise<readonly string[]> {
  const { paths, node, now } = files;
  if (readIfPresent(paths.adminKey) !== undefined) {
    const renewed = await renewOwnAuthority(files);
    return [...renewed, ...(await bringMemberFiles(files))];
  }
  const present = readIfPresent(paths.nodeCert);
  if (present === undefined || !isDueForRenewal(readCertificate(present), now)) return [];
  const { createRequest } = await import('../pki/authority.ts');
  const request = await createRequest(await keyIn(paths.nodeKey));
  const { certificate, ca } = await askMembers(files, {
    path: requests.renew,
    body: { node, request },
    response: renewResponse,
  });
  if (!isSignedBy(certificate, ca)) {
    throw new CalicoError('cluster/bad-certificate', { what: 'the renewed certificate' });
  }
  writePem(paths.nodeCert, certificate);
  const known = readIfPresent(paths.ca);
  const isSame = known === undefined || fingerprint(known) === fingerprint(ca);
  if (isSame && known !== ca) writePem(paths.ca, ca);
  return [paths.nodeCert];
}

/** Each member renews the certificate of the authority itself: all of them have its key, and none waits for another. */
async function renewOwnAuthority({ paths, now }: HostFiles): Promise<readonly string[]> {
  const own = ownAuthority(paths);
  if (own === undefined || !isDueForRenewal(readCertificate(own.certificate), now)) return [];
  const { renewAuthority } = await import('../pki/authority.ts');
  writePem(paths.ca, await renewAuthority(own, now));
  return [paths.ca];
}

/** Sends a request to one member after the other, until one responds. */
export async function askMembers<Response>(
  { paths, port = joinPort }: Pick<HostFiles, 'paths' | 'port'>,
  request: Pick<Parameters<typeof send<Response>>[1], 'path' | 'body' | 'response'>,
): Promise<Response> {
  const file = readClusterFile(paths);
  const authority = readIfPresent(paths.ca);
  const certificate = readIfPresent(paths.nodeCert);
  if (file === undefined || authority === undefined || certificate === undefined) {
    throw new CalicoError('cluster/none', {});
  }
  const proof: Proof = { certificate, key: await keyIn(paths.nodeKey) };
  let last: unknown = new CalicoError('cluster/none', {});
  for (const endpoint of file.endpoints) {
    const host = addressIn(endpoint);
    try {
      return await send({ host, port }, { authority, proof, ...request });
    } catch (error) {
      last = error;
    }
  }
  throw last;
}
