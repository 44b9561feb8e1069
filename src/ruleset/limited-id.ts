import { createHash } from 'node:crypto';

/**
 * A name of at most `maxLength` characters: prefix and suffix if they fit, else the prefix, `_` and as much of
 * the suffix's SHA-256 (base64url) as fits. A suffix that begins with `_` and would fill the name is hashed as
 * well, so that no suffix can pose as a hashed one. Source: Calico, `GetLengthLimitedID`.
 */
export function limitedId(prefix: string, suffix: string, maxLength: number): string {
  const readable = suffix === '' ? '_' : suffix;
  const length = prefix.length + readable.length;
  if (length < maxLength || (length === maxLength && !readable.startsWith('_'))) {
    return prefix + readable;
  }
  const digest = createHash('sha256').update(readable).digest('base64url');
  return `${prefix}_${digest.slice(0, maxLength - 1 - prefix.length)}`;
}

/** The longest name of an iptables chain that works in every version. */
export const longestChainName = 28;
