import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Compares a text with the file of that name here, which is there to be read by people.
 * `UPDATE_GOLDEN=1 npm run test:unit` writes the files anew.
 */
export function golden(name: string, actual: string): void {
  const file = join(import.meta.dirname, `${name}.golden`);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, actual);
  assert.equal(actual, readFileSync(file, 'utf8'));
}
