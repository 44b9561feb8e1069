import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Compares a text with the golden file of that name, which people can read.
 * `UPDATE_GOLDEN=1 npm run test:unit` updates the files.
 */
export function golden(name: string, actual: string): void {
  const file = join(import.meta.dirname, `${name}.golden`);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, actual);
  assert.equal(actual, readFileSync(file, 'utf8'));
}
