import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { matches } from '../../model/selector/matches.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { noWork } from '../work-count.ts';
import type { Labels } from './inherited-labels.ts';
import { LabelIndex } from './label-index.ts';
import { smallestAnchor } from './anchors.ts';

function newIndex() {
  const work = noWork();
  const pairs = new Set<string>();
  const index = new LabelIndex(
    {
      onMatch: (selector, item) => {
        assert.ok(!pairs.has(`${selector}|${item}`), 'told twice');
        pairs.add(`${selector}|${item}`);
      },
      onMismatch: (selector, item) => {
        assert.ok(pairs.delete(`${selector}|${item}`), 'told of what was not');
      },
    },
    work,
  );
  return { index, work, pairs };
}

const groups = 200;
const items = 5000;
const each = items / groups;

/**
 * Labels and selectors of two kinds: a rare value next to a more common label, and a value that all have next to a
 * rare label.
 */
const kinds = [
  {
    name: 'the value is the smaller one',
    labelsOf: (n: number): Labels => ({
      tier: `t${n % groups}`,
      ...(n % 2 === 0 ? { net: '' } : {}),
    }),
    selectorOf: (n: number) => parseSelector(`tier == 't${n}' && has(net)`),
    matching: items / 2,
  },
  {
    name: 'the value is that of all',
    labelsOf: (n: number): Labels => ({ tier: 't', [`net${n % groups}`]: '' }),
    selectorOf: (n: number) => parseSelector(`tier == 't' && has(net${n})`),
    matching: items,
  },
] as const;

/** The work done: visited pairs of item and selector, and moves. */
const looked = ({ selectorsEvaluated, selectorsMoved }: ReturnType<typeof noWork>) =>
  selectorsEvaluated + selectorsMoved;

for (const { name, labelsOf, selectorOf, matching } of kinds) {
  for (const order of ['items first', 'selectors first', 'mixed'] as const) {
    test(`no more is looked at than twice the smallest lists of items: ${name}, ${order}`, () => {
      const { index, work, pairs } = newIndex();
      const addItem = (n: number) =>
        index.setItem(`i${n}`, {
          labels: { ...labelsOf(n), name: `container-${n}` },
          profiles: [],
        });
      if (order === 'items first') for (let n = 0; n < items; n++) addItem(n);
      for (let n = 0; n < groups; n++) {
        if (order === 'mixed') for (let m = 0; m < each; m++) addItem(n * each + m);
        index.addSelector(`s${n}`, selectorOf(n));
      }
      if (order === 'selectors first') for (let n = 0; n < items; n++) addItem(n);
      assert.equal(pairs.size, matching);
      // The smallest lists together hold each item once.
      assert.ok(looked(work) <= 2 * items, `${looked(work)} for ${items}`);
      // Each item when it comes, and once for each of its two labels when a selector is the first to ask for it.
      assert.ok(work.endpointsVisited <= 3 * items, `${work.endpointsVisited} items`);
    });
  }
}

test('a selector moves when a common label becomes rare, and the other way round', () => {
  const { index, work, pairs } = newIndex();
  for (let n = 0; n < groups; n++) {
    index.addSelector(`s${n}`, parseSelector("tier == 't' && has(net)"));
  }
  const cost = (make: () => void) => {
    const before = looked(work);
    make();
    return looked(work) - before;
  };
  const set = (id: string, count: number, labels: Labels) => {
    for (let n = 0; n < count; n++) index.setItem(`${id}${n}`, { labels, profiles: [] });
  };
  // Only tiers: nobody has a network, so the selectors leave the tier with the first one.
  assert.ok(cost(() => set('i', 1000, { tier: 't' })) <= 4 * groups);
  // The first networks, as many as there are tiers, cost the same; further ones cost nothing.
  assert.ok(cost(() => set('j', 3000, { net: '' })) <= groups * (1000 + 4));
  for (let n = 0; n < 1000; n++) index.removeItem(`i${n}`);
  assert.ok(cost(() => set('k', 1000, { net: '' })) <= 4 * groups, 'nobody has the tier any more');
  assert.equal(pairs.size, 0);
  index.setItem('both', { labels: { tier: 't', net: '' }, profiles: [] });
  assert.equal(pairs.size, groups);
  for (let n = 0; n < 3000; n++) index.removeItem(`j${n}`);
  for (let n = 0; n < 1000; n++) index.removeItem(`k${n}`);
  assert.ok(cost(() => set('i', 1000, { tier: 't' })) <= 4 * groups, 'one has a network');
});

test('setting an unchanged item visits it once, and evaluates no selector', () => {
  const { index, work } = newIndex();
  index.addSelector('s', parseSelector('has(a)'));
  index.setItem('i', { labels: { a: '' }, profiles: ['p'] });
  const before = looked(work);
  index.setItem('i', { labels: { a: '' }, profiles: ['p'] });
  index.setParent('p', { a: 'other', b: 'x' });
  index.setParent('p', { a: 'third', b: 'x' });
  assert.equal(looked(work) - before, 1, 'the label b is new');
});

test('a label that no selector has used costs a visit to the items that have it, own or inherited', () => {
  const { index, work, pairs } = newIndex();
  index.setParent('p', { tag: '' });
  for (let n = 0; n < 1000; n++)
    index.setItem(`i${n}`, { labels: { name: `${n}` }, profiles: n < 10 ? ['p'] : [] });
  for (let n = 0; n < 5; n++)
    index.setItem(`own${n}`, { labels: { name: `${n}`, tag: 'x' }, profiles: ['p'] });
  const before = work.endpointsVisited;
  index.addSelector('s', parseSelector('has(tag)'));
  assert.equal(work.endpointsVisited - before, 15);
  assert.equal(pairs.size, 15);
  index.removeSelector('s');
  for (let n = 0; n < 5; n++) index.removeItem(`own${n}`);
  index.setParent('p', { other: '' });
  index.addSelector('s', parseSelector('has(tag)'));
  assert.equal(
    work.endpointsVisited - before,
    15 + 10,
    'those who inherited are told that it is gone',
  );
  assert.equal(pairs.size, 0);
});

test('an own label that hides that of a Profile counts once, however often its items come and go', () => {
  const { index, work } = newIndex();
  index.setParent('p', { a: 'x' });
  index.addSelector('uses both', parseSelector('has(a) || has(b)'));
  const hiding = { labels: { a: 'x' }, profiles: ['p'] };
  /** Returns how many items are looked at for both labels, of which the one with fewer items counts. */
  const looksAt = (withA: number, withB: number) => {
    for (let n = 0; n < withA; n++) index.setItem(`a${n}`, hiding);
    for (let n = 0; n < withB; n++) index.setItem(`b${n}`, { labels: { b: 'y' }, profiles: [] });
    const before = work.selectorsEvaluated;
    index.addSelector('s', parseSelector('has(a) && has(b)'));
    const evaluated = work.selectorsEvaluated - before;
    index.removeSelector('s');
    // Half of them lose the label before they go.
    for (let n = 0; n < withA; n += 2) index.setItem(`a${n}`, { labels: {}, profiles: [] });
    for (let n = 0; n < withA; n++) index.removeItem(`a${n}`);
    for (let n = 0; n < withB; n++) index.removeItem(`b${n}`);
    return evaluated;
  };
  assert.deepEqual([looksAt(3, 4), looksAt(5, 4), looksAt(3, 4)], [3, 4, 3]);
});

test('alternatives are searched at all of their labels, and nowhere else', () => {
  const { index, work, pairs } = newIndex();
  for (let n = 0; n < 1000; n++)
    index.setItem(`i${n}`, { labels: { role: `r${n % 100}`, own: `${n}` }, profiles: [] });
  index.addSelector(
    's',
    parseSelector("role == 'r1' || own in {'5', '6'} || role starts with 'x'"),
  );
  assert.equal(pairs.size, 12);
  assert.ok(looked(work) <= 1000 + 12, 'a beginning may be that of any role');
  const before = looked(work);
  index.addSelector('t', parseSelector("role == 'r1' || own in {'5', '6'}"));
  assert.equal(looked(work) - before, 12);
});

const key = fc.constantFrom('a', 'b', 'c');
const value = fc.constantFrom('x', 'y', '');
const labels = fc.dictionary(key, value, { noNullPrototype: true, maxKeys: 3 });
const leaf = fc.oneof(
  key.map((name) => `has(${name})`),
  fc
    .tuple(key, fc.constantFrom('==', '!=', 'starts with'), value)
    .map(([k, op, v]) => `${k} ${op} '${v}'`),
  fc.tuple(key, fc.constantFrom('in', 'not in')).map(([k, op]) => `${k} ${op} {'x', 'y'}`),
  fc.constant('all()'),
);
const selector = fc
  .letrec<{ node: string }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      leaf,
      fc
        .tuple(tie('node'), fc.constantFrom('&&', '||'), tie('node'))
        .map(([a, op, b]) => `(${a} ${op} ${b})`),
      tie('node').map((a) => `!(${a})`),
    ),
  }))
  .node.map((text) => parseSelector(text));

test('the items that a selector matches are at its anchors, whatever the populations', () => {
  fc.assert(
    fc.property(selector, labels, fc.array(fc.nat(5), { minLength: 1 }), (one, of, sizes) => {
      const population = ({ key: name, value: of }: { key: string; value: string | undefined }) =>
        sizes[(name.length + name.charCodeAt(0) + (of?.length ?? 7)) % sizes.length] ?? 0;
      const candidate = smallestAnchor(one, population);
      const has = new Map(Object.entries(of));
      const isThere = candidate?.anchors.some(
        (anchor) =>
          has.has(anchor.key) && (anchor.value ?? has.get(anchor.key)) === has.get(anchor.key),
      );
      if (isThere === false) assert.equal(matches(one, has), false);
    }),
  );
});

const parents = ['p', 'q'] as const;
const change = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      item: fc.constantFrom('i', 'j', 'k', 'l'),
      own: fc.option(labels, { nil: undefined }),
      of: fc.subarray([...parents]),
    }),
  },
  fc.record({ parent: fc.constantFrom(...parents), gives: fc.option(labels, { nil: undefined }) }),
  fc.record({
    selectorId: fc.constantFrom('s', 't', 'u'),
    is: fc.option(selector, { nil: undefined }),
  }),
);

test('matches depend on the present items, parents and selectors alone', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const { index, pairs } = newIndex();
      const now = {
        items: new Map<string, { own: Labels; of: readonly string[] }>(),
        parents: new Map<string, Labels>(),
        selectors: new Map<string, ReturnType<typeof parseSelector>>(),
      };
      for (const one of changes) {
        if ('item' in one) {
          if (one.own === undefined) now.items.delete(one.item);
          else now.items.set(one.item, { own: one.own, of: one.of });
          if (one.own === undefined) index.removeItem(one.item);
          else index.setItem(one.item, { labels: one.own, profiles: one.of });
        } else if ('parent' in one) {
          if (one.gives === undefined) now.parents.delete(one.parent);
          else now.parents.set(one.parent, one.gives);
          index.setParent(one.parent, one.gives);
        } else {
          index.removeSelector(one.selectorId);
          now.selectors.delete(one.selectorId);
          if (one.is === undefined) continue;
          now.selectors.set(one.selectorId, one.is);
          index.addSelector(one.selectorId, one.is);
        }
      }
      const expected = [...now.selectors].flatMap(([id, is]) =>
        [...now.items].flatMap(([item, { own, of }]) => {
          const given = of.toReversed().map((parent) => now.parents.get(parent) ?? {});
          const effective = new Map([...given, own].flatMap((labels) => Object.entries(labels)));
          return matches(is, effective) ? [`${id}|${item}`] : [];
        }),
      );
      assert.deepEqual([...pairs].toSorted(), expected.toSorted());
    }),
    { numRuns: 400 },
  );
});
