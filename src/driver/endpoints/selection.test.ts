import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeSelections, selectionFromLabels, selectionFromOptions } from './selection.ts';

test("a connection selects Profiles and labels; Docker's own keys are ignored", () => {
  assert.deepEqual(
    selectionFromOptions({
      'org.projectcalico.profile': 'a,b',
      'org.projectcalico.label.tier': 'db',
      'com.docker.network.endpoint.exposedports': null,
    }),
    { profiles: ['a', 'b'], labels: { tier: 'db' } },
  );
});

test('an unknown option of a connection is rejected with the list of known ones', () => {
  assert.throws(() => selectionFromOptions({ 'org.projectcalico.profil': 'a' }), {
    message:
      'unknown endpoint option "org.projectcalico.profil"; known: org.projectcalico.profile, org.projectcalico.label.KEY, org.projectcalico.addresses, org.projectcalico.prefixes',
  });
});

test('an invalid label of a connection is rejected, and one that Calico reserves', () => {
  for (const [key, value] of [
    ['a', '_'],
    ['projectcalico.org/namespace', 'shop'],
    ['pcns.team', 'a'],
  ] as const) {
    assert.throws(() => selectionFromOptions({ [`org.projectcalico.label.${key}`]: value }), {
      code: 'driver/bad-endpoint-option',
    });
  }
});

test('an invalid container label is skipped and reported, the others apply', () => {
  const { selection, problems } = selectionFromLabels(
    {
      'org.projectcalico.label.good': 'yes',
      'org.projectcalico.label.bad': 'no good',
      maintainer: 'somebody else',
      'org.projectcalico.label.not-taken': 'yes',
    },
    (key) => !key.endsWith('.not-taken'),
  );
  assert.deepEqual(selection, { profiles: [], labels: { good: 'yes' } });
  assert.deepEqual(problems, [
    'label "org.projectcalico.label.bad=no good": "no good" is not a legal label value',
  ]);
});

test('of two selections the first has its Profiles first and its labels win', () => {
  assert.deepEqual(
    mergeSelections(
      { profiles: ['b', 'a'], labels: { x: '1' } },
      { profiles: ['a', 'c'], labels: { x: '2', y: '3' } },
    ),
    { profiles: ['b', 'a', 'c'], labels: { x: '1', y: '3' } },
  );
});
