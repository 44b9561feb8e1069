import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Selector } from './ast.ts';
import { canonicalText, selectorId } from './canonical.ts';
import { matches } from './matches.ts';
import { parseSelector } from './parse.ts';

const key = fc.constantFrom('a', 'b', 'k.x/in', 'has');
const value = fc.constantFrom('', 'x', 'y', 'xy', 'it"s');
const comparison = fc.constantFrom('==', '!=', 'contains', 'starts with', 'ends with');
const values = fc.uniqueArray(value).map((list) => list.toSorted((a, b) => (a < b ? -1 : 1)));

const plain = { noNullPrototype: true } as const;

const selectors = fc.letrec<{ any: Selector }>((tie) => ({
  any: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constant({ kind: 'all' } as const),
    fc.record({ kind: fc.constant('has'), key }, plain),
    fc.record({ kind: comparison, key, value }, plain),
    fc.record({ kind: fc.constantFrom('in', 'not in'), key, values }, plain),
    tie('any')
      .filter(({ kind }) => kind !== 'not')
      .map((operand) => ({ kind: 'not', operand }) as const),
    fc.record(
      {
        kind: fc.constantFrom('and', 'or'),
        operands: fc.array(tie('any'), { minLength: 2, maxLength: 3 }),
      },
      plain,
    ),
  ),
})).any;

test('the canonical text is parsed to the same selector', () => {
  fc.assert(
    fc.property(selectors, (selector) => {
      assert.deepEqual(parseSelector(canonicalText(selector)), selector);
    }),
  );
});

test('IDs are those of Calico', () => {
  const idOf = (text: string) => selectorId(parseSelector(text));
  assert.equal(idOf(''), 's:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug');
  assert.equal(idOf('has(net1)'), 's:dmxNq1uG7U174OAEUuueUSANXLRobCQbpUE-yw');
  assert.equal(idOf("role=='web'"), 's:MR9Dy5iWW0UxNKyRkM6UiRI3iZzQ2k0xiUotow');
  assert.equal(idOf('!(has(b) || !has(a))'), 's:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q');
  assert.equal(idOf('!(a == "b" && !c != "d")'), 's:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w');
});

test('a missing label differs from every value', () => {
  const none = new Map<string, string>();
  const holds = (text: string) => matches(parseSelector(text), none);
  assert.ok(
    holds('k != "x"') && holds('k not in {"x"}') && holds('!has(k)') && holds('k not in {}'),
  );
  assert.ok(!holds('k == ""') && !holds('k contains ""') && !holds('k in {"x",}'));
});

test('&& binds closer than ||, an even number of ! cancels out', () => {
  assert.equal(
    canonicalText(parseSelector('has(a)||has(b)&&!!has(c)')),
    '(has(a) || (has(b) && has(c)))',
  );
  assert.equal(canonicalText(parseSelector('a notin {"b","a","b"}')), 'a not in {"a", "b"}');
});

for (const wrong of [
  'a',
  'a = "b"',
  'a == b',
  '(has(a)',
  'has (a)',
  'a in {"b" "c"}',
  'has(a) has(b)',
  'a$ == "x"',
  '&&',
  'a == "x\'',
]) {
  test(`"${wrong}" is rejected with its position`, () => {
    assert.throws(() => parseSelector(wrong), { code: 'model/bad-selector' });
  });
}
