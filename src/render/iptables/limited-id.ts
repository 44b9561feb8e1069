import { createHash } from 'node:crypto';

/**
 * A name of at most `maxLength` characters: prefix and suffix if they fit, else the prefix, `_` and as much of
 * the suffix's SHA-256 (base64url) as fits. A suffix that begins with `_` and would fill the name is hashed as
 * well, so that no suffix can pose as a hashed one. Source: Calico, `GetLengthLimitedID`. Unlike there, a suffix
 * that iptables-restore could read as more than one name, or as none, is hashed too.
 */
export function limitedId(prefix: string, suffix: string, maxLength: number): string {
  const readable = suffix === '' ? '_' : suffix;
  const length = prefix.length + readable.length;
  const fits = length < maxLength || (length === maxLength && !readable.startsWith('_'));
  if (fits && plain.test(readable)) return prefix + readable;
  const digest = createHash('sha256').update(readable).digest('base64url');
  return `${prefix}_${digest.slice(0, maxLength - 1 - prefix.length)}`;
}

const plain = /^[A-Za-z0-9_.,:@/-]+$/;

/** The longest name of an iptables chain that works in every version. */
export const longestChainName = 28;
