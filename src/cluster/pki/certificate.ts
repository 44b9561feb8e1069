import { createHash, createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { CalicoError } from '../../errors/error.ts';

/** Reads certificates; `authority.ts`, which loads a library, issues them. */

/** What the program reads of a certificate. */
export interface CertificateFacts {
  /** The user of etcd whose certificate it is. */
  readonly commonName: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Addresses and DNS names of a server. */
  readonly names: readonly string[];
}

const dayMs = 86_400_000;

/** Parses a certificate in PEM. Throws `cluster/bad-certificate`. */
export function readCertificate(pem: string): CertificateFacts {
  const parsed = parse(pem);
  const [, commonName = ''] = /^CN=(.*)$/m.exec(parsed.subject) ?? [];
  const names = [
    ...(parsed.subjectAltName ?? '').matchAll(/(?:DNS|IP Address):([^,]+)(?:, |$)/g),
  ].map(([, name = '']) => name);
  return {
    // OpenSSL escapes the characters that separate names (RFC 2253).
    commonName: commonName.replaceAll(/\\(.)/g, '$1'),
    notBefore: new Date(parsed.validFrom),
    notAfter: new Date(parsed.validTo),
    names,
  };
}

/**
 * Returns the fingerprint of the key in a certificate in PEM, as `keyFingerprint`: that of an authority outlives the
 * renewal of its certificate. Throws `cluster/bad-certificate`.
 */
export function fingerprint(pem: string): string {
  return keyFingerprint(parse(pem).publicKey);
}

/** Returns the SHA-256 fingerprint of a public key (its SubjectPublicKeyInfo), as base64url (RFC 4648). */
export function keyFingerprint(key: KeyObject): string {
  const der = key.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('base64url');
}

/** Returns the full days for which a certificate is still valid; negative after its last day. */
export function daysLeft({ notAfter }: Pick<CertificateFacts, 'notAfter'>, now: Date): number {
  return Math.floor((notAfter.getTime() - now.getTime()) / dayMs);
}

/**
 * Reports whether a certificate should be renewed: in the last third of its validity, as Kubernetes' kubelet and
 * cert-manager do, so that months remain for failing attempts.
 */
export function isDueForRenewal(
  { notBefore, notAfter }: Pick<CertificateFacts, 'notBefore' | 'notAfter'>,
  now: Date,
): boolean {
  const [from, to] = [notBefore.getTime(), notAfter.getTime()];
  return now.getTime() >= from + ((to - from) * 2) / 3;
}

/** Reports whether the authority has signed a certificate (both in PEM); validity in time is not checked. */
export function isSignedBy(pem: string, authorityPem: string): boolean {
  const authority = parse(authorityPem);
  const certificate = parse(pem);
  return certificate.checkIssued(authority) && certificate.verify(authority.publicKey);
}

function parse(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new CalicoError('cluster/bad-certificate', { what: 'the certificate' }, { cause });
  }
}

/** Reports whether a private key belongs to a certificate, both in PEM; false if either cannot be parsed. */
export function isPair(certificate: string, key: string): boolean {
  try {
    return new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}
