import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isConflictHere, isWrittenHere } from './watch-echo.ts';

/** A mirror at a revision, with the revisions of its keys. */
function mirror(revision: bigint, keys: Readonly<Record<string, bigint>>) {
  return {
    isLive: true,
    revision,
    isCached: (key: string) => key in keys,
    modRevisionOf: (key: string) => keys[key] ?? 0n,
  };
}

const compares = ['a', 'b', 'c'].map((key) => ({ key, modRevision: 1n }));
const writes = ['a', 'b'].map((key) => ({ key, value: '{}' }));

test('a write has arrived with its revision, or when all keys that it changes have changed', () => {
  const arrived = (revision: bigint, keys: Readonly<Record<string, bigint>>, isLive = true) =>
    isWrittenHere({ ...mirror(revision, keys), isLive }, { compares, writes }, 9n)();
  assert.equal(arrived(9n, { a: 1n, b: 1n }), true);
  assert.equal(arrived(8n, { a: 1n, b: 1n, c: 1n }), false);
  assert.equal(arrived(8n, { a: 7n, b: 1n, c: 1n }), false, 'one of two');
  assert.equal(arrived(8n, { a: 7n, b: 8n, c: 1n }), true);
  assert.equal(arrived(8n, { a: 1n, b: 1n, c: 8n }), false, 'a key that is only compared');
  assert.equal(arrived(8n, {}), false, 'none of its keys is cached');
  assert.equal(arrived(9n, { a: 7n, b: 8n }, false), false, 'the datastore has not been listed');
});

test('a conflict has arrived when all cached keys that caused it have changed', () => {
  const found = { a: 5n, b: 6n, c: 1n };
  const current = new Map(
    Object.entries(found).map(([key, modRevision]) => [key, { key, value: '{}', modRevision }]),
  );
  const arrived = (revision: bigint, keys: Readonly<Record<string, bigint>>, newest = 0n) =>
    isConflictHere(
      mirror(revision, keys),
      { compares, writes },
      { kind: 'conflict', revision: 9n, current, newestInRanges: newest },
    )();
  assert.equal(arrived(4n, { a: 1n, b: 1n, c: 1n }), false);
  assert.equal(arrived(5n, { a: 5n, b: 1n, c: 1n }), false, 'one of two');
  assert.equal(arrived(6n, { a: 5n, b: 6n, c: 1n }), true, 'c has not caused it');
  assert.equal(arrived(4n, { c: 1n }), true, 'the others are not cached');
  assert.equal(arrived(6n, { a: 5n, b: 6n }, 7n), false, 'a range has changed later');
});
