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
/** The sentences themselves, as they are written. */
const sentences = files.filter(isErrorFile).map((file) => readFileSync(join(root, file), 'utf8'));

for (const code of Object.keys(catalogue)) {
  test(`${code} is thrown somewhere`, () => {
    assert.match(code, /^[a-z]+\/[a-z][a-z0-9-]*$/);
    assert.ok(sources.includes(`'${code}'`), `nobody throws ${code}`);
  });
}

test('no sentence breaks its line, ends in a full stop, or begins with a capital that is no name', () => {
  for (const text of sentences) {
    for (const [, sentence = ''] of text.matchAll(/=>\s*(?:`([^`]*)`|'([^']*)')/g)) {
      assert.doesNotMatch(sentence, /\n|\\n|\.$|!$/);
      assert.doesNotMatch(sentence, /^(?!Docker|IPv|Profile|Bind)[A-Z][a-z]/, sentence);
    }
  }
});

/**
 * A state that somebody must change, and a part that does not answer, need a word on what to do about it: a
 * clause after a semicolon. Those here say it in another way, or leave nothing to do.
 */
const withoutAdvice: ReadonlySet<string> = new Set([
  // Told by whoever asks again by himself.
  'datastore/outcome-unknown',
  'datastore/contended',
  'docker/unavailable',
  // What is said is what has to change.
  'datastore/exists',
  'datastore/not-found',
  // The reason that is given brings the advice, or names what is wrong with the file.
  'datastore/refused',
  'datastore/bad-file',
  // Docker's own words, which people and programs know.
  'port/taken',
  'port/range-taken',
]);

test('every state that stands in the way comes with what to do about it', () => {
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
