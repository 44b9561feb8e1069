import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { catalogue } from './catalogue.ts';

const root = join(import.meta.dirname, '../..');
const isErrorFile = (file: string) => file.startsWith('src/errors/') && !file.endsWith('error.ts');
const files = globSync('src/**/*.ts', { cwd: root }).filter((file) => !file.endsWith('.test.ts'));
const sources = files
  .filter((file) => !isErrorFile(file))
  .map((file) => readFileSync(join(root, file), 'utf8'))
  .join('\n');
/** Source text of the sentences. */
const sentences = files.filter(isErrorFile).map((file) => readFileSync(join(root, file), 'utf8'));

for (const code of Object.keys(catalogue)) {
  test(`${code} is thrown somewhere`, () => {
    assert.match(code, /^[a-z]+\/[a-z][a-z0-9-]*$/);
    assert.ok(sources.includes(`'${code}'`), `${code} is not thrown`);
  });
}

test('a sentence is one line, without full stop, and begins in lower case unless with a name', () => {
  for (const text of sentences) {
    for (const [, sentence = ''] of text.matchAll(/=>\s*(?:`([^`]*)`|'([^']*)')/g)) {
      assert.doesNotMatch(sentence, /\n|\\n|\.$|!$/);
      assert.doesNotMatch(sentence, /^(?!Docker|IPv|Profile|Bind)[A-Z][a-z]/, sentence);
    }
  }
});

/**
 * Errors of fault `state` and `unavailable` need a remedy: a clause after a semicolon. Exceptions: errors whose remedy is
 * expressed in another way, or that need none.
 */
const withoutAdvice: ReadonlySet<string> = new Set([
  // The caller retries automatically.
  'datastore/outcome-unknown',
  'datastore/contended',
  'docker/unavailable',
  // The state itself is the instruction.
  'datastore/exists',
  'datastore/not-found',
  // The reason includes the remedy, or describes the problem of the file.
  'datastore/refused',
  'datastore/bad-file',
  'datastore/not-moved',
  'datastore/move-failed',
  'docker/refused',
  // Docker's wording, which people and programs know.
  'port/taken',
  'port/range-taken',
]);

test('errors of fault state and unavailable include a remedy', () => {
  const lacking = Object.entries(catalogue).filter(
    ([code, { fault }]) =>
      (fault === 'state' || fault === 'unavailable') &&
      !withoutAdvice.has(code) &&
      !sentenceOf(code).includes(';'),
  );
  assert.deepEqual(
    lacking.map(([code]) => code),
    [],
  );
});

function sentenceOf(code: string): string {
  const text = sentences.join('\n');
  const start = text.indexOf(`'${code}'`);
  assert.ok(start >= 0, code);
  const entry = text.slice(start, text.indexOf('),\n', start));
  return entry.slice(entry.indexOf('=>'));
}
