import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSelector } from '../../model/selector/parse.ts';
import { anchorKeys, smallestAnchor } from './anchors.ts';

const populations: Readonly<Record<string, number>> = { few: 1, some: 5, same: 5, many: 100 };

function anchorsOf(selector: string): string | undefined {
  const parsed = parseSelector(selector);
  const found = smallestAnchor(parsed, ({ key }) => populations[key] ?? 0);
  return found?.anchors.map(({ key, value }) => `${key}=${value ?? '*'}`).join(' ');
}

for (const [selector, anchors] of [
  ["few == 'x' && many == 'x'", 'few=x'],
  ["many == 'x' && has(few)", 'few=*'],
  ['has(some)', 'some=*'],
  ["some starts with 'x'", 'some=*'],
  ["some in {'x', 'y', 'x'}", 'some=x some=y'],
  // One value is rarer than any value when the label has been indexed for a moment only.
  ["has(some) && same == 'x'", 'same=x'],
  ["same == 'x' && has(some)", 'same=x'],
  ["has(some) && same contains 'x'", 'some=*'],
  ["few == 'x' || has(many)", 'few=x many=*'],
  ["(few == 'x' || has(many)) && has(some)", 'some=*'],
  // No label is required.
  ["few == 'x' || some != 'x'", undefined],
  ['!has(few)', undefined],
  ['all()', undefined],
  ["all() && few == 'x'", 'few=x'],
] as const) {
  test(`endpoints that ${selector} matches are searched at ${anchors ?? 'all'}`, () => {
    assert.equal(anchorsOf(selector), anchors);
  });
}

test('the labels that may be anchors are those that a selector names positively', () => {
  const keys = anchorKeys(
    parseSelector("a == 'x' && (has(b) || c in {'x'}) && !has(d) && e != 'x'"),
  );
  assert.deepEqual(keys, ['a', 'b', 'c']);
});
