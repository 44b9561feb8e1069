import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { plainEndpoint, plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { indexLocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import { compilePolicy } from '../../profiles/compile/compiled-policy.ts';
import type { PolicyId } from '../../ruleset/policy.ts';
import { untrackedPortChecks } from './untracked-ports.ts';

test('a policy without connection tracking that allows a published port is reported, by that port', async () => {
  await using store = await openNodeStore('here');
  const local = indexLocalEndpoints(store.mirror, 'here');
  await store.writer.write((draft) => {
    const endpoint = plainEndpoint(plainNetwork('here', 'net'), 'e-web', '10.65.0.1');
    const ports = [{ name: '', protocol: 'TCP', port: 80, hostPort: 8080 }];
    const spec = { ...endpoint.spec, workload: 'web', containerID: 'c-web', ports };
    draft.put('WorkloadEndpoint', 'libnetwork/web', { ...endpoint, spec });
  }, AbortSignal.timeout(60_000));
  const id: PolicyId = {
    tier: 'default',
    kind: 'GlobalNetworkPolicy',
    name: 'fast',
    stage: 'untracked',
  };
  const detailsOf = (rule: PolicyRule) =>
    untrackedPortChecks(
      { mirror: store.mirror, local, families: [4] },
      {
        hostEndpoints: () => ['all', 'other'],
        hostTiersOf: () => ({
          untracked: [
            {
              name: 'default',
              ingress: [id],
              egress: [],
              defaultAction: 'Pass',
              passLeaves: 'tier',
            },
          ],
          preDnat: [],
          local: [],
          forwarded: [],
        }),
        compiled: () => compilePolicy(id, { ingress: [rule] }),
      },
    ).map(({ name, detail }) => `${name}: ${detail}`);
  const destination = { ports: ['8000:9000'] };
  const reported = [
    'GlobalNetworkPolicy fast: it allows connections to published port 8080 of web without connection tracking, so that they do not reach the container',
  ];
  assert.deepEqual(detailsOf({ action: 'Allow' }), reported);
  assert.deepEqual(detailsOf({ action: 'Allow', protocol: 'TCP', destination }), reported);
  assert.deepEqual(detailsOf({ action: 'Allow', protocol: 'UDP', destination }), []);
  assert.deepEqual(
    detailsOf({ action: 'Allow', protocol: 'TCP', destination: { ports: [80] } }),
    [],
  );
  assert.deepEqual(detailsOf({ action: 'Deny' }), []);
});
