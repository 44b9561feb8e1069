import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { plainEndpoint, plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { indexLocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { denyAll } from '../../profiles/compile/compiled-policy.ts';
import { stackOf } from '../../profiles/compile/stack.ts';
import { policyKey, type PolicyId } from '../../ruleset/policy.ts';
import { policyChecks } from './policy-checks.ts';

test('policies that cannot be enforced are reported with the containers that they select', async () => {
  await using store = await openNodeStore('here');
  const local = indexLocalEndpoints(store.mirror, 'here');
  await store.writer.write((draft) => {
    for (const [n, name] of ['web', 'db'].entries()) {
      const endpoint = plainEndpoint(plainNetwork('here', 'net'), `e-${name}`, `10.65.0.${n + 1}`);
      const spec = {
        ...endpoint.spec,
        workload: name,
        containerID: `c-${name}`,
        profiles: ['web'],
      };
      draft.put('WorkloadEndpoint', `libnetwork/${name}`, { ...endpoint, spec });
    }
  }, AbortSignal.timeout(60_000));
  const place = { tier: 'default', kind: 'NetworkPolicy', namespace: 'libnetwork' } as const;
  const broken: PolicyId = { ...place, name: 'broken' };
  const unused: PolicyId = { ...place, name: 'unused' };
  const atHost: PolicyId = { ...broken, stage: 'preDnat' };
  const problems = new Map(
    [broken, unused, atHost].map((id) => [
      policyKey(id),
      denyAll(id, `NetworkPolicy libnetwork/${id.name}: why`),
    ]),
  );
  const tier = { name: 'default', defaultAction: 'Deny', passLeaves: 'tier' } as const;
  const checks = policyChecks(
    { mirror: store.mirror, local },
    {
      problems: () => problems,
      hostEndpoints: () => ['all'],
      hostTiersOf: () => ({
        untracked: [],
        preDnat: [{ ...tier, ingress: [atHost], egress: [] }],
        local: [],
        forwarded: [],
      }),
      stackOf: ({ spec }) =>
        stackOf(spec.workload === 'web' ? [{ ...tier, ingress: [broken], egress: [broken] }] : [], [
          'web',
        ]),
    },
  );
  assert.deepEqual(
    checks.map(({ name, ok, detail }) => `${name} ${ok}: ${detail}`),
    [
      'NetworkPolicy libnetwork/broken false: why; it denies all traffic that it applies to of container web and host endpoint all',
    ],
  );
});
