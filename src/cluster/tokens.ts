import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { listAll, type Datastore, type KeyValue } from '../datastore/datastore.ts';
import { CalicoError } from '../errors/error.ts';

/**
 * Join tokens: `<id>.<secret>.<fingerprint of the authority>`. A token serves one join, which may be repeated; the
 * datastore has only the hash of the secret. The fingerprint lets the joining host recognize the cluster before it sends
 * the secret.
 */

/** The key prefix of the tokens, which only the administrator can read. */
export const tokenPrefix = '/calico-cnm/cluster/tokens/';

/** Default validity of a token. */
export const tokenTtlMs = 3_600_000;
/** For so long the join that has used a token may be repeated. */
const repeatableMs = 86_400_000;

const record = z.looseObject({
  /** SHA-256 of the secret, base64url. */
  hash: z.string(),
  /** RFC 3339. */
  expires: z.string(),
  /** The join that used it. */
  join: z.exactOptional(z.string()),
});

type TokenRecord = z.infer<typeof record>;

/** A token as its owner types it. */
export interface Token {
  readonly id: string;
  readonly secret: string;
  readonly fingerprint: string;
}

/** Parses a token. Throws `cluster/bad-token`. */
export function parseToken(text: string): Token {
  const [, id, secret, fingerprint] =
    /^([a-z2-7]{8})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})$/.exec(text.trim()) ?? [];
  if (id === undefined || secret === undefined || fingerprint === undefined) {
    throw new CalicoError('cluster/bad-token', {});
  }
  return { id, secret, fingerprint };
}

export function formatToken({ id, secret, fingerprint }: Token): string {
  return `${id}.${secret}.${fingerprint}`;
}

/**
 * Creates a token for a cluster whose authority has this fingerprint, and removes those that have expired. Throws
 * `datastore/…`.
 */
export async function createToken(
  datastore: Datastore,
  request: {
    readonly fingerprint: string;
    readonly now: Date;
    readonly ttlMs?: number;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly token: string; readonly expires: Date }> {
  const { fingerprint, now, ttlMs = tokenTtlMs, signal } = request;
  await removeExpired(datastore, now, signal);
  const token: Token = {
    id: randomId(),
    secret: randomBytes(16).toString('base64url'),
    fingerprint,
  };
  const expires = new Date(now.getTime() + ttlMs);
  const key = tokenPrefix + token.id;
  const value = JSON.stringify({ hash: hashOf(token.secret), expires: expires.toISOString() });
  const { kind } = await datastore.commit(
    { compares: [{ key, modRevision: 0n }], writes: [{ key, value }] },
    signal,
  );
  if (kind === 'conflict') throw new CalicoError('datastore/contended', { what: key, attempts: 1 });
  return { token: formatToken(token), expires };
}

/** A join that presents a token. */
export interface TokenUse {
  readonly id: string;
  readonly secret: string;
  /** The identity of the join, which its host repeats. */
  readonly join: string;
}

/**
 * Throws `cluster/token-rejected` unless the token is valid for this join. Nothing is written. Also throws
 * `datastore/…`.
 */
export async function checkToken(
  datastore: Datastore,
  use: TokenUse,
  { now, signal }: { readonly now: Date; readonly signal: AbortSignal },
): Promise<void> {
  await findToken(datastore, use, { now, signal });
}

/** Binds the token to the join, which alone may use it from then on. Throws as `checkToken`. */
export async function redeemToken(
  datastore: Datastore,
  use: TokenUse,
  { now, signal }: { readonly now: Date; readonly signal: AbortSignal },
): Promise<void> {
  for (;;) {
    const { item, value } = await findToken(datastore, use, { now, signal });
    if (value.join === use.join) return;
    const { kind } = await datastore.commit(
      {
        compares: [{ key: item.key, modRevision: item.modRevision }],
        writes: [{ key: item.key, value: JSON.stringify({ ...value, join: use.join }) }],
      },
      signal,
    );
    // Of two joins at the same time the second finds the token used.
    if (kind === 'committed') return;
  }
}

async function findToken(
  datastore: Datastore,
  { id, secret, join }: TokenUse,
  { now, signal }: { readonly now: Date; readonly signal: AbortSignal },
): Promise<{ readonly item: KeyValue; readonly value: TokenRecord }> {
  const { items } = await datastore.read([tokenPrefix + id], signal);
  const [item] = items;
  const value = item && parse(item);
  if (item === undefined || value === undefined || !isEqual(value.hash, hashOf(secret))) {
    throw new CalicoError('cluster/token-rejected', { why: 'unknown' });
  }
  if (value.join !== undefined && value.join !== join) {
    throw new CalicoError('cluster/token-rejected', { why: 'used' });
  }
  const until = Date.parse(value.expires) + (value.join === undefined ? 0 : repeatableMs);
  if (now.getTime() >= until) throw new CalicoError('cluster/token-rejected', { why: 'expired' });
  return { item, value };
}

async function removeExpired(datastore: Datastore, now: Date, signal: AbortSignal): Promise<void> {
  const { items } = await listAll(datastore, tokenPrefix, signal);
  for (const { key, modRevision, value } of items) {
    const expires = parse({ value })?.expires ?? '';
    if (now.getTime() < Date.parse(expires) + repeatableMs) continue;
    await datastore.commit(
      { compares: [{ key, modRevision }], writes: [{ key, value: undefined }] },
      signal,
    );
  }
}

function parse({ value }: Pick<KeyValue, 'value'>): TokenRecord | undefined {
  try {
    return record.parse(JSON.parse(value));
  } catch {
    return undefined;
  }
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url');
}

function isEqual(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** 40 random bits in the alphabet of base32 (RFC 4648), in lower case. */
function randomId(): string {
  return [...randomBytes(8)].map((byte) => 'abcdefghijklmnopqrstuvwxyz234567'[byte & 31]).join('');
}
