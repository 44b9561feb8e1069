import 'reflect-metadata';
import { createPrivateKey, createPublicKey, KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { CalicoError } from '../../errors/error.ts';
import { keyFingerprint } from './certificate.ts';
import { commonNames } from './common-names.ts';

/**
 * The cluster's certificate authority. Keys are P-256, which every TLS library has; a private key never leaves its host,
 * except that of the authority, which all members have. The library is loaded only by what issues certificates.
 */

/** A certificate and its private key (PKCS #8), both in PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** What a certificate is for: `server` for etcd and the join server, `peer` between members, `client` for users of etcd. */
export type Usage = 'server' | 'peer' | 'client';

/** A certificate to be issued. What it says is decided by the issuer; only the key comes from the request. */
export interface Issue {
  readonly usage: Usage;
  /** The user of etcd (client), or one of `commonNames`. */
  readonly commonName: string;
  /** Addresses and DNS names of a server or peer. */
  readonly names?: readonly string[];
}

const dayMs = 86_400_000;
/** In days. A certificate is valid from two days before its issue, for hosts whose clock is a day behind. */
export const validity = { authority: 3650, certificate: 365, backdated: 2 } as const;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
const signing = { name: 'ECDSA', hash: 'SHA-256' };
const { subtle } = webcrypto;

/** Creates a certificate authority. */
export async function createAuthority(now: Date): Promise<KeyPair> {
  const keys = await subtle.generateKey(algorithm, true, ['sign', 'verify']);
  return { certificate: await selfSigned(keys, now), key: exportKey(keys.privateKey) };
}

/**
 * Returns a new certificate (PEM) of an authority, with its key and its name: what it has signed stays valid, for hosts
 * that have the former certificate as for those that have the new one (RFC 5280, 6.1: a trust anchor is a name and a
 * key).
 */
export function renewAuthority({ key }: Pick<KeyPair, 'key'>, now: Date): Promise<string> {
  return selfSigned(importKeys(key), now);
}

async function selfSigned(keys: webcrypto.CryptoKeyPair, now: Date): Promise<string> {
  const certificate = await X509CertificateGenerator.createSelfSigned({
    ...commonFields(commonNames.authority, validity.authority, now),
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pemOf(certificate);
}

/** Creates a private key in PEM (PKCS #8). */
export async function createKey(): Promise<string> {
  const { privateKey } = await subtle.generateKey(algorithm, true, ['sign', 'verify']);
  return exportKey(privateKey);
}

/** Creates a certificate request (PKCS #10) for a private key, both in PEM; it proves possession of the key. */
export async function createRequest(key: string): Promise<string> {
  const keys = importKeys(key);
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: new Name([{ CN: ['calico-cnm'] }]),
    keys,
    signingAlgorithm: signing,
  });
  return `${request.toString('pem')}\n`;
}

/**
 * Issues a certificate (PEM) for the key of a request (PEM). It never outlives the authority. Throws
 * `cluster/bad-certificate` for a request that is invalid or not signed by its key.
 */
export async function issue(
  authority: KeyPair,
  { request, usage, commonName, names = [] }: Issue & { readonly request: string },
  now: Date,
): Promise<string> {
  const issuer = new X509Certificate(authority.certificate);
  const publicKey = await requestedKey(request);
  const fields = commonFields(commonName, validity.certificate, now);
  const { clientAuth, serverAuth } = ExtendedKeyUsage;
  const certificate = await X509CertificateGenerator.create({
    ...fields,
    notAfter: new Date(Math.min(fields.notAfter.getTime(), issuer.notAfter.getTime())),
    subject: fields.name,
    issuer: issuer.subjectName,
    publicKey,
    signingKey: importKeys(authority.key).privateKey,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // etcd's own gateway connects to its server with the server's certificate.
      new ExtendedKeyUsageExtension(usage === 'client' ? [clientAuth] : [serverAuth, clientAuth]),
      ...(names.length === 0
        ? []
        : [
            new SubjectAlternativeNameExtension(
              names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
            ),
          ]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return pemOf(certificate);
}

/**
 * Returns the fingerprint of the key of a request (PEM), whose sender has proved that it has it. Throws
 * `cluster/bad-certificate`.
 */
export async function requestedKeyFingerprint(request: string): Promise<string> {
  return keyFingerprint(KeyObject.from(await requestedKey(request)));
}

function commonFields(commonName: string, days: number, now: Date) {
  return {
    serialNumber: randomSerial(),
    name: new Name([{ CN: [commonName] }]),
    notBefore: new Date(now.getTime() - validity.backdated * dayMs),
    notAfter: new Date(now.getTime() + days * dayMs),
    signingAlgorithm: signing,
  };
}

/** A positive number of 127 random bits; RFC 5280 allows 20 octets. */
function randomSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

async function requestedKey(pem: string): Promise<webcrypto.CryptoKey> {
  try {
    const request = new Pkcs10CertificateRequest(pem);
    if (await request.verify()) {
      const der = Buffer.from(request.publicKey.rawData);
      return createPublicKey({ key: der, format: 'der', type: 'spki' }).toCryptoKey(
        algorithm,
        true,
        ['verify'],
      );
    }
  } catch (cause) {
    throw new CalicoError(
      'cluster/bad-certificate',
      { what: 'the certificate request' },
      { cause },
    );
  }
  throw new CalicoError('cluster/bad-certificate', { what: 'the certificate request' });
}

function importKeys(pem: string): webcrypto.CryptoKeyPair {
  return {
    privateKey: createPrivateKey(pem).toCryptoKey(algorithm, true, ['sign']),
    publicKey: createPublicKey(pem).toCryptoKey(algorithm, true, ['verify']),
  };
}

function exportKey(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

function pemOf(certificate: X509Certificate): string {
  return `${certificate.toString('pem')}\n`;
}
