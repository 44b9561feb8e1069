import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDocument } from 'yaml';
import { conflictLines } from './conflict-lines.ts';

test('conflicts of addresses come with the pools to renumber to, which can be applied as they are', () => {
  const lines = conflictLines({
    conflicts: [{ text: 'first; do this' }, { text: 'second; do that' }],
    freeRanges: ['10.66.0.0/16', 'fdca:11c0:0::/48'],
  });
  assert.deepEqual(lines.slice(0, 3), [
    '- first; do this',
    '- second; do that',
    'To renumber containers, on this host:',
  ]);
  const pools = lines.filter((line) => line.includes('kind: IPPool'));
  assert.deepEqual(
    pools.map((line) => {
      const parsed = parseDocument(line.trim());
      return [parsed.getIn(['spec', 'cidr']), parsed.getIn(['spec', 'natOutgoing'])];
    }),
    [
      ['10.66.0.0/16', true],
      ['fdca:11c0:0::/48', false],
    ],
  );
});

test('other conflicts need no range', () => {
  assert.deepEqual(conflictLines({ conflicts: [{ text: 'a; b' }], freeRanges: [] }), ['- a; b']);
});
