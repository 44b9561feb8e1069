import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isResourceName } from '../../model/fields.ts';
import { containerName, isEndpointNamed } from '../../model/kinds/workload-endpoint.ts';
import { plainEndpoint, plainNetwork } from './endpoint.fixture.ts';
import { withChosenProfiles, withContainer } from './endpoint-record.ts';

const named = (docker: string) =>
  withContainer(plainEndpoint(plainNetwork('host-a', 'n1'), 'e1', '10.65.0.1'), {
    id: 'c'.repeat(64),
    name: docker,
    labels: {},
  });

/** Docker's rule for names of containers. */
const name = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,60}$/);

test("any container name is stored in a form that Calico's tools accept, and found by Docker's own name", () => {
  fc.assert(
    fc.property(name, (docker) => {
      const endpoint = named(docker);
      assert.ok(isResourceName(endpoint.spec.workload ?? ''), endpoint.spec.workload);
      assert.equal(containerName(endpoint), docker);
      assert.ok(isEndpointNamed(endpoint, docker));
    }),
  );
});

test('a name that Calico accepts stays unchanged, and one stored before is read', () => {
  assert.equal(named('app-1').spec.workload, 'app-1');
  const before = named('app');
  const old = { ...before, spec: { ...before.spec, workload: 'My_App' } };
  assert.equal(containerName(old), 'My_App');
});

test('Profiles that a user chooses leave the isolation of the network first and its namespace last', () => {
  const endpoint = plainEndpoint(plainNetwork('host-a', 'n1'), 'e1', '10.65.0.1');
  const of = (profiles: string[], chosen: readonly string[]) =>
    withChosenProfiles({ ...endpoint, spec: { ...endpoint.spec, profiles } }, chosen).spec.profiles;
  assert.deepEqual(of(['xi--web', 'web', 'kns.shop'], ['db']), ['xi--web', 'db', 'kns.shop']);
  assert.deepEqual(of(['web', 'kns.shop'], ['web', 'kns.shop', 'db']), ['web', 'db', 'kns.shop']);
  assert.deepEqual(of(['web', 'kns.shop'], []), ['kns.shop']);
});
