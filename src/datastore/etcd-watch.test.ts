import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { KeyChange } from './datastore.ts';
import { ChangeAssembly } from './etcd-watch.ts';

/** Transactions of one to five keys, as messages that were cut anywhere. */
const messages = fc
  .array(
    fc.record({
      keys: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'), { minLength: 1 }),
      isCutBefore: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
      endsMessage: fc.boolean(),
    }),
    { minLength: 1, maxLength: 20 },
  )
  .map((transactions) => {
    const pieces: { readonly changes: KeyChange[]; isFragment: boolean }[] = [];
    let isNew = true;
    for (const [index, { keys, isCutBefore, endsMessage }] of transactions.entries()) {
      const modRevision = BigInt(index) + 7n;
      for (const [place, key] of keys.entries()) {
        const last = pieces.at(-1);
        if (last === undefined || isNew) pieces.push({ changes: [], isFragment: false });
        else if (isCutBefore[place] === true) {
          last.isFragment = true;
          pieces.push({ changes: [], isFragment: false });
        }
        isNew = false;
        pieces.at(-1)?.changes.push({ key, value: `${index}`, modRevision });
      }
      isNew = endsMessage;
    }
    return pieces;
  });

test('however responses are fragmented, a batch contains all transactions up to its revision', () => {
  fc.assert(
    fc.property(messages, (pieces) => {
      const assembly = new ChangeAssembly();
      const all = pieces.flatMap(({ changes }) => changes);
      let seen = 0n;
      for (const { changes, isFragment } of pieces) {
        const batch = assembly.take(changes, isFragment);
        if (batch === undefined) continue;
        const { revision } = batch;
        const expected = all.filter(
          ({ modRevision }) => modRevision > seen && modRevision <= revision,
        );
        const lastOfEach = new Map(expected.map((change) => [change.key, change]));
        assert.deepEqual(batch.changes, [...lastOfEach.values()]);
        seen = revision;
      }
      assert.equal(seen, all.at(-1)?.modRevision, 'nothing is kept back at the end');
    }),
  );
});

test('a message without changes yields no batch', () => {
  assert.equal(new ChangeAssembly().take([], false), undefined);
});
