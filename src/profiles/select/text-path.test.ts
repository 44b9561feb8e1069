import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TextPath } from './text-path.ts';

/** Few texts, so that sequences begin and end alike. */
const sequence = fc.array(fc.constantFrom('a', 'b', 'ab', ''), { maxLength: 4 });

test('a sequence of texts has the value that it was given last, whatever became of others', () => {
  const change = fc.record({ texts: sequence, value: fc.option(fc.nat(3), { nil: undefined }) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const root = new TextPath<number>();
      const at = (texts: readonly string[]) => texts.reduce((path, text) => path.to(text), root);
      const expected = new Map<string, readonly [texts: readonly string[], value: number]>();
      for (const { texts, value } of changes) {
        if (value === undefined) at(texts).clear();
        else at(texts).value = value;
        if (value === undefined) expected.delete(JSON.stringify(texts));
        else expected.set(JSON.stringify(texts), [texts, value]);
      }
      for (const [texts, value] of expected.values()) assert.equal(at(texts).value, value);
      for (const [texts] of expected.values()) at(texts).clear();
      assert.equal(root.isEmpty, true);
    }),
  );
});
