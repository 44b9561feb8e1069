import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrorCode } from '../errors/error.ts';
import type { PasswordReference } from '../model/bgp.ts';
import type { PasswordFound } from '../routing/bgp/bgp-inputs.ts';

/** RFC 2385 passwords are at most 80 bytes on Linux. */
const maxBytes = 80;

/**
 * Returns the password of a reference: the text of the file `<folder>/<name>/<key>`, which must be readable for its owner
 * only. The datastore holds the reference, and no password; neither do the log or the reports.
 */
export function readPassword(folder: string, { name, key }: PasswordReference): PasswordFound {
  const file = join(folder, name, key);
  const none = (why: string) => ({ password: undefined, why: `password file ${file} ${why}` });
  try {
    if ((statSync(file).mode & 0o077) !== 0)
      return none(`is readable by others; chmod 600 ${file}`);
    const password = readFileSync(file, 'utf8').replace(/\r?\n$/, '');
    if (password === '') return none('is empty');
    if (Buffer.byteLength(password) > maxBytes) return none(`has more than ${maxBytes} bytes`);
    // BIRD's texts have no way to write these.
    if (/["\n\r\0]/.test(password)) return none('has a quotation mark or a line break');
    return { password };
  } catch (error) {
    return none(hasErrorCode(error, 'ENOENT') ? 'does not exist' : 'cannot be read');
  }
}
