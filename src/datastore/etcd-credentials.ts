import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getCACertificates } from 'node:tls';
import type { IOptions } from 'etcd3';
import { CalicoError, describe } from '../errors/error.ts';

/** How to reach etcd. Files are PEM. */
export interface EtcdOptions {
  readonly endpoints: readonly string[];
  /** Absent: the host's certificate authorities. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly username?: string;
  readonly password?: string;
  readonly role?: EtcdRole;
  /** How long calls wait while all endpoints refuse connections, in milliseconds; default: 0. */
  readonly refusedMs?: number;
}

/** What is known of the rights of the user, for errors. */
export interface EtcdRole {
  readonly mayWrite: (key: string) => boolean;
  /** What to do if a write is denied, as the end of a sentence. */
  readonly remedy: string;
  /** Why etcd denies reading, with the remedy. */
  readonly denied: string;
  /** Why etcd rejects the certificate of the user, with the remedy. */
  readonly rejected: string;
}

/**
 * Reads the TLS files for the client library; `undefined` without TLS. Throws `datastore/bad-file` for a file that
 * cannot be read, has other contents, or does not match the other one.
 */
export async function readCredentials(
  options: EtcdOptions,
): Promise<Pick<IOptions, 'credentials'>> {
  const { endpoints, caFile, certFile, keyFile } = options;
  const usesTls = endpoints.some((one) => one.startsWith('https:'));
  if (!usesTls && caFile === undefined && certFile === undefined) return {};
  const ca = caFile === undefined ? undefined : await readPem(caFile, certificateOf);
  const cert = certFile === undefined ? undefined : await readPem(certFile, certificateOf);
  const key = keyFile === undefined ? undefined : await readPem(keyFile, keyOf);
  if (cert !== undefined && key !== undefined && !cert.parsed.checkPrivateKey(key.parsed)) {
    throw badFile(key.file, `not the key of ${cert.file}`);
  }
  return {
    credentials: {
      rootCertificate: ca?.content ?? Buffer.from(getCACertificates('system').join('\n')),
      ...(cert === undefined ? {} : { certChain: cert.content }),
      ...(key === undefined ? {} : { privateKey: key.content }),
    },
  };
}

interface Pem<Parsed> {
  readonly file: string;
  readonly content: Buffer;
  readonly parsed: Parsed;
}

async function readPem<Parsed>(
  file: string,
  parse: (content: Buffer) => Parsed,
): Promise<Pem<Parsed>> {
  let content: Buffer;
  try {
    content = await readFile(file);
  } catch (error) {
    throw badFile(file, describe(error), error);
  }
  try {
    return { file, content, parsed: parse(content) };
  } catch (error) {
    throw badFile(file, `not a ${parse === keyOf ? 'private key' : 'certificate'}`, error);
  }
}

function certificateOf(content: Buffer): X509Certificate {
  return new X509Certificate(content);
}

function keyOf(content: Buffer): KeyObject {
  return createPrivateKey(content);
}

function badFile(file: string, why: string, cause?: unknown): CalicoError {
  return new CalicoError('datastore/bad-file', { file, why }, { cause });
}

/** Reports whether etcd denied a request because of the role of its user. */
export function isDenied(message: string): boolean {
  return /PERMISSION_DENIED|permission denied/.test(message);
}

/**
 * Returns why etcd rejected the connection although it is reachable, with the remedy; `undefined` for other errors. The
 * library has no codes for these, so they are recognised by the messages of OpenSSL, Node and etcd.
 */
export function refusalOf(message: string, role?: EtcdRole): string | undefined {
  if (role !== undefined && isDenied(message)) return role.denied;
  if (role !== undefined && rejected.test(message)) return role.rejected;
  return refusals.find(([pattern]) => pattern.test(message))?.[1];
}

/** The server has rejected the client's certificate. */
const rejected = /tls alert|ssl alert/i;

const refusals: readonly (readonly [RegExp, string])[] = [
  [
    /authentication failed|user name is empty|user name not found/i,
    'user or password rejected; check ETCD_USERNAME and ETCD_PASSWORD',
  ],
  [
    /PERMISSION_DENIED|permission denied/,
    'permission denied on /calico/; check the role of ETCD_USERNAME',
  ],
  [rejected, 'client certificate rejected; check ETCD_CERT_FILE and ETCD_KEY_FILE'],
  [
    /unable to verify|self-signed certificate|unable to get (local )?issuer/i,
    'server certificate not signed by a trusted CA; check ETCD_CA_CERT_FILE',
  ],
  [/certificate has expired/i, 'server certificate expired'],
  [/does not match certificate's altnames/i, 'server certificate is for another name or address'],
  [
    /wrong version number/i,
    'TLS handshake failed; check whether ETCD_ENDPOINTS needs http instead of https',
  ],
];
