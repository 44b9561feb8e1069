import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isLabelKey, isLabelValue, isResourceName } from './fields.ts';
import { dockerNameOf, labelValueFor, resourceNameFor, tagFor } from './names.ts';

/** Every name that Docker allows, including names close to the mapping's prefixes, and long ones. */
const character = fc.constantFrom(...'abxhi019ABXH_.-'.split(''));
const dockerName = fc
  .tuple(
    fc.constantFrom('', 'x--', 'xh--', 'xi--', 'x', 'X--', 'proj_'),
    fc.constantFrom('a', 'x', '0', 'A', 'X', '9'),
    fc.oneof(
      fc.string({ unit: character, maxLength: 12 }),
      fc.string({ unit: character, minLength: 40, maxLength: 260 }),
      fc.string({ unit: fc.constantFrom('a', '_'), minLength: 20, maxLength: 120 }),
    ),
  )
  .map(([head, first, rest]) => head + first + rest);

const maps: readonly (readonly [
  what: string,
  map: (name: string) => string,
  isLegal: (text: string) => boolean,
  longest: number,
])[] = [
  ['resource name', resourceNameFor, isResourceName, 200],
  ['tag', tagFor, (text) => isLabelKey(text) && !text.includes('/'), 63],
  ['label value', labelValueFor, isLabelValue, 63],
];

for (const [what, map, isLegal, longest] of maps) {
  test(`a ${what} is legal for Calico and not too long`, () => {
    fc.assert(
      fc.property(dockerName, (name) => {
        const mapped = map(name);
        assert.match(name, /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/);
        assert.ok(isLegal(mapped), mapped);
        assert.ok(mapped.length <= longest, mapped);
      }),
      { numRuns: 500 },
    );
  });

  test(`different Docker names have different ${what}s`, () => {
    fc.assert(
      fc.property(fc.uniqueArray(dockerName, { minLength: 30, maxLength: 60 }), (names) => {
        assert.equal(new Set(names.map(map)).size, names.length);
      }),
    );
  });

  test(`a mapped name is no other name's ${what}`, () => {
    fc.assert(
      fc.property(dockerName, (name) => {
        // A network named like a mapped name is mapped a second time, so the two stay distinct.
        const mapped = map(name);
        if (mapped !== name) assert.notEqual(map(mapped), mapped);
      }),
    );
  });

  test(`a legal name that does not look like ours stays as it is as a ${what}`, () => {
    fc.assert(
      fc.property(dockerName, (name) => {
        const looksLikeOurs = /^x[a-z]?--/.test(name);
        if (!looksLikeOurs && isLegal(name) && name.length <= longest)
          assert.equal(map(name), name);
      }),
    );
  });

  test(`the Docker name behind a ${what} is found, unless it was hashed`, () => {
    fc.assert(
      fc.property(dockerName, (name) => {
        const mapped = map(name);
        if (!mapped.startsWith('xh--')) assert.equal(dockerNameOf(mapped), name);
        else assert.equal(dockerNameOf(mapped), mapped);
      }),
    );
  });
}

for (const [name, resource, tag] of [
  ['web', 'web', 'web'],
  ['Web', 'x---57eb', 'Web'],
  ['proj_default', 'x--proj-5fdefault', 'proj_default'],
  ['My_Net.X', 'x---4dy-5f-4eet-2e-58', 'My_Net.X'],
  ['x--web', 'x--x-2d-2dweb', 'x--x-2d-2dweb'],
  ['xi--web', 'x--xi-2d-2dweb', 'x--xi-2d-2dweb'],
  ['web-', 'x--web-2d', 'x--web-2d'],
  ['a..b', 'x--a-2e-2eb', 'a..b'],
] as const) {
  test(`${name} is the Profile ${resource} and the tag ${tag}`, () => {
    assert.equal(resourceNameFor(name), resource);
    assert.equal(tagFor(name), tag);
  });
}

test('a name that would be too long is hashed, and its beginning stays readable', () => {
  const name = `proj_${'_'.repeat(60)}`;
  assert.equal(resourceNameFor(name), `x--proj${'-5f'.repeat(61)}`);
  assert.match(tagFor(name), /^xh--proj-5f-5f-5f-5f-5f-5f-5-[0-9a-f]{32}$/);
});

test('the isolation of a network has a name that no Docker name is mapped to', () => {
  fc.assert(
    fc.property(dockerName, (name) => assert.ok(!resourceNameFor(name).startsWith('xi--'))),
  );
});
