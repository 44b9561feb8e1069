import { createPrivateKey } from 'node:crypto';
import { isIP } from 'node:net';
import { readIfPresent } from '../../async/replace-file.ts';
import { parseAddress } from '../../ip/address.ts';
import { type ClusterPaths, writePem } from '../cluster-file.ts';
import { isDueForRenewal, isPair, isSignedBy, readCertificate } from './certificate.ts';
import type { Issue, KeyPair } from './authority.ts';
import { commonNames } from './common-names.ts';

/** The certificates of a host, as files: which it should have, and which of them must be issued again. */

/** A certificate that a host should have; the key is kept when it is renewed. */
export interface OwnCertificate extends Issue {
  readonly certFile: string;
  readonly keyFile: string;
}

/**
 * Returns the certificates of a member. `names`: addresses and DNS names of the host, by which others reach it; etcd
 * compares those of a peer with the address that it connects from.
 */
export function memberCertificates(
  paths: ClusterPaths,
  { user, names }: { readonly user: string; readonly names: readonly string[] },
): readonly OwnCertificate[] {
  const servers = [...new Set([...names, 'localhost', '127.0.0.1', '::1'])];
  return [
    {
      certFile: paths.serverCert,
      keyFile: paths.serverKey,
      usage: 'server',
      commonName: commonNames.server,
      names: servers,
    },
    {
      certFile: paths.peerCert,
      keyFile: paths.peerKey,
      usage: 'peer',
      commonName: commonNames.peer,
      names,
    },
    {
      certFile: paths.adminCert,
      keyFile: paths.adminKey,
      usage: 'client',
      commonName: commonNames.admin,
    },
    { certFile: paths.nodeCert, keyFile: paths.nodeKey, usage: 'client', commonName: user },
  ];
}

/** Why a certificate must be issued. */
export type Reason = 'missing' | 'other authority' | 'other names' | 'due for renewal';

/**
 * Returns why a certificate on this host must be issued again, by the certificate of the authority; `undefined` if it
 * need not. Files that cannot be parsed, or do not belong to each other, count as missing.
 */
export function reasonToIssue(
  wanted: OwnCertificate,
  authorityCertificate: string,
  now: Date,
): Reason | undefined {
  const pem = readIfPresent(wanted.certFile);
  const key = readIfPresent(wanted.keyFile);
  if (pem === undefined || key === undefined || !isPair(pem, key)) return 'missing';
  if (!isSignedBy(pem, authorityCertificate)) return 'other authority';
  const facts = readCertificate(pem);
  const names = (all: readonly string[]) => new Set(all.map(canonical));
  const hasNames = names(facts.names).symmetricDifference(names(wanted.names ?? [])).size === 0;
  if (facts.commonName !== wanted.commonName || !hasNames) return 'other names';
  return isDueForRenewal(facts, now) ? 'due for renewal' : undefined;
}

/**
 * Issues those of the certificates that are missing, due for renewal or have other names, and returns them with the
 * reason. Idempotent. Throws `cluster/bad-certificate`, and the errors of the file system.
 */
export async function issueOwnCertificates(
  authority: KeyPair,
  wanted: readonly OwnCertificate[],
  now: Date,
): Promise<readonly { readonly certificate: OwnCertificate; readonly reason: Reason }[]> {
  const issued = [];
  for (const certificate of wanted) {
    const reason = reasonToIssue(certificate, authority.certificate, now);
    if (reason === undefined) continue;
    const { createRequest, issue } = await import('./authority.ts');
    const request = await createRequest(await keyIn(certificate.keyFile));
    writePem(certificate.certFile, await issue(authority, { ...certificate, request }, now));
    issued.push({ certificate, reason });
  }
  return issued;
}

/** Returns the private key in a file; creates it if the file is missing or has no key. */
export async function keyIn(file: string): Promise<string> {
  const present = readIfPresent(file);
  if (present !== undefined && isKey(present)) return present;
  const { createKey } = await import('./authority.ts');
  const key = await createKey();
  writePem(file, key);
  return key;
}

function isKey(pem: string): boolean {
  try {
    createPrivateKey(pem);
    return true;
  } catch {
    return false;
  }
}

/** OpenSSL prints IPv6 addresses in full, and in upper case. */
function canonical(name: string): string {
  return isIP(name) === 0 ? name : parseAddress(name);
}
