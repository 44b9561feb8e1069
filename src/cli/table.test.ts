import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { counted } from '../model/counted.ts';
import { formatCount, formatTable } from './table.ts';

test('columns are as wide as their longest cell; numbers are aligned right', () => {
  assert.equal(
    formatTable(
      ['name', 'in use', 'note'],
      [
        ['a', '5', 'x'],
        ['longer', '1234567', ''],
      ],
    ),
    'NAME      IN USE   NOTE\na              5   x\nlonger   1234567\n',
  );
});

test('a column with a non-numeric cell is aligned left', () => {
  assert.equal(formatTable(['n'], [['10'], ['none']]), 'N\n10\nnone\n');
});

test('a table without rows has only the header', () => {
  assert.equal(formatTable(['name', 'cidr'], []), 'NAME   CIDR\n');
});

test('every row is one line with its cells in order and without trailing spaces', () => {
  const cell = fc.string({ unit: fc.constantFrom('a', '1', '.', '-'), minLength: 1, maxLength: 9 });
  const rows = fc.array(fc.array(cell, { minLength: 3, maxLength: 3 }), { maxLength: 8 });
  fc.assert(
    fc.property(rows, (cells) => {
      const [header, ...lines] = formatTable(['a', 'b', 'c'], cells).split('\n');
      assert.equal(lines.pop(), '');
      assert.deepEqual(header?.trim().split(/ {3,}/), ['A', 'B', 'C']);
      assert.deepEqual(
        lines.map((line) => line.trim().split(/ {3,}/)),
        cells,
      );
      for (const line of lines) assert.equal(line, line.trimEnd());
    }),
  );
});

test('large counts are written as a power of two minus the rest', () => {
  assert.equal(formatCount(65_533n, 65_536n), '65533');
  assert.equal(formatCount(2n ** 80n, 2n ** 80n), '2^80');
  assert.equal(formatCount(2n ** 80n - 3n, 2n ** 80n), '2^80-3');
  assert.equal(formatCount(17n, 2n ** 80n), '17');
  assert.equal(formatCount(3n * 10n ** 12n, 3n * 10n ** 12n), '3000000000000');
});

test('nouns are counted', () => {
  assert.deepEqual(
    [counted(0, 'rule'), counted(1, 'rule'), counted(2, 'rule')],
    ['0 rules', '1 rule', '2 rules'],
  );
});
