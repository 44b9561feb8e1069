import { createHash } from 'node:crypto';
import { isLabelKey, isLabelValue, isResourceName } from './fields.ts';

/**
 * Maps Docker's names to Calico's. Docker allows `Web`, `My_Net.X` and `proj_default`; a Profile's name must be a
 * lower-case DNS name, a tag a label key of at most 63 characters.
 *
 * A legal name stays unchanged, unless it begins with `x--`, or with `x`, a letter and `--` (reserved for the
 * mapping). Any other becomes `x--` and then its lower-case letters and digits unchanged, and each other byte of its
 * UTF-8 text as `-` and two hexadecimal digits: `proj_default` becomes `x--proj-5fdefault`. If the result would be too
 * long, it is `xh--`, the first 24 characters of it, and 32 hexadecimal digits of the SHA-256 of the name. No two
 * names have the same result (for long ones: barring a collision of SHA-256).
 */

const marker = 'x--';
const hashMarker = 'xh--';

/** Returns the Profile (or IP pool) name of a Docker name; at most 200 characters. */
export function resourceNameFor(dockerName: string): string {
  return mapped(dockerName, isResourceName, 200);
}

/** Returns the tag (label key) of a Docker name; `Web` and `web` are different tags. */
export function tagFor(dockerName: string): string {
  return mapped(dockerName, (name) => !name.includes('/') && isLabelKey(name), 63);
}

/** Returns the label value of a Docker name. */
export function labelValueFor(dockerName: string): string {
  return mapped(dockerName, isLabelValue, 63);
}

/** Returns the Docker name of a mapped one; a hashed or unmapped name is returned unchanged. */
export function dockerNameOf(name: string): string {
  if (!name.startsWith(marker)) return name;
  const bytes: number[] = [];
  const pattern = /([a-z0-9])|-([0-9a-f]{2})/gy;
  const encoded = name.slice(marker.length);
  let end = 0;
  for (const match of encoded.matchAll(pattern)) {
    const [whole, plain, hex] = match;
    bytes.push(plain === undefined ? Number.parseInt(hex ?? '', 16) : plain.charCodeAt(0));
    end = match.index + whole.length;
  }
  const decoded = Buffer.from(bytes).toString('utf8');
  return end === encoded.length && escape(decoded) === name ? decoded : name;
}

function mapped(name: string, isLegal: (name: string) => boolean, maxLength: number): string {
  if (!/^x[a-z]?--/.test(name) && isLegal(name) && name.length <= maxLength) return name;
  const escaped = escape(name);
  if (escaped.length <= maxLength) return escaped;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 32);
  const readable = escaped.slice(marker.length, marker.length + 24).replaceAll(/^-+|-+$/g, '');
  return `${hashMarker}${readable}-${digest}`;
}

function escape(name: string): string {
  const bytes = [...Buffer.from(name, 'utf8')];
  const text = bytes.map((byte) => {
    const character = String.fromCharCode(byte);
    return /[a-z0-9]/.test(character) ? character : `-${byte.toString(16).padStart(2, '0')}`;
  });
  return marker + text.join('');
}
