import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isUneditedDriverProfile, isolationProfile, networkProfile } from './network-profile.ts';

test("a network's Profile has its own tag, allows that inbound and everything outbound", () => {
  const { metadata, spec } = networkProfile('web');
  assert.equal(metadata.name, 'web');
  assert.deepEqual(spec, {
    labelsToApply: { web: '' },
    ingress: [{ action: 'Allow', source: { selector: 'has(web)' } }],
    egress: [{ action: 'Allow' }],
  });
});

test('names that differ only in case have different Profiles and tags', () => {
  const [upper, lower] = [networkProfile('Web'), networkProfile('web')];
  assert.notEqual(upper.metadata.name, lower.metadata.name);
  assert.deepEqual(upper.spec.labelsToApply, { Web: '' });
});

test('the isolation of an internal network denies what is not its own, and allows nothing', () => {
  assert.deepEqual(isolationProfile('db').spec, {
    labelsToApply: { 'docker.projectcalico.org/internal': 'true' },
    ingress: [{ action: 'Deny', source: { notSelector: 'has(db)' } }],
    egress: [
      {
        action: 'Deny',
        destination: { notSelector: "has(db) || docker.projectcalico.org/internal == 'true'" },
      },
    ],
  });
});

test('an edit of the rules or tags is detected, a different order of members is not', () => {
  const made = networkProfile('web');
  assert.ok(isUneditedDriverProfile(made));
  const { labelsToApply = {}, ingress = [], egress = [] } = made.spec;
  assert.ok(isUneditedDriverProfile({ ...made, spec: { egress, ingress, labelsToApply } }));
  assert.ok(!isUneditedDriverProfile({ ...made, spec: { ...made.spec, egress: [] } }));
  assert.ok(
    !isUneditedDriverProfile({
      ...made,
      spec: { ...made.spec, labelsToApply: { web: '', x: '' } },
    }),
  );
});

test('a Profile created by a user is not the driver’s', () => {
  const made = networkProfile('web');
  assert.ok(!isUneditedDriverProfile({ ...made, metadata: { name: 'web' } }));
});
