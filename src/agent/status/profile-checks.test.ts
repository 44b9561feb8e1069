import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import type { Draft } from '../../datastore/writer.ts';
import { plainEndpoint, plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { indexLocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { networkProfile } from '../../driver/networks/network-profile.ts';
import { denyAll, type CompiledPolicy } from '../../profiles/compile/compiled-policy.ts';
import { profilePolicy } from '../../ruleset/policy.ts';
import { profileChecks } from './profile-checks.ts';

const signal = AbortSignal.timeout(60_000);

/** Returns the checks of a host after a plan wrote to the datastore. */
async function checksOf(
  plan: (draft: Draft) => void,
  problems: ReadonlyMap<string, CompiledPolicy> = new Map(),
): Promise<readonly string[]> {
  await using store = await openNodeStore('here');
  const local = indexLocalEndpoints(store.mirror, 'here');
  await store.writer.write(plan, signal);
  const checks = profileChecks({ mirror: store.mirror, node: 'here', local }, problems);
  return checks.map(({ name, detail, remedy }) => `${name} ${detail}. ${remedy}`);
}

function addNetwork(draft: Draft, node: string, name: string, more: object = {}): void {
  const network = { ...plainNetwork(node, `id-of-${name}`), name, ...more };
  draft.put('DockerNetwork', `${node}/${network.id}`, network);
}

function addContainer(draft: Draft, name: string, network: string, profiles: string[]): void {
  const of = plainNetwork('here', `id-of-${network}`);
  const endpoint = plainEndpoint(of, `e-${name}`, '10.65.0.1');
  const named = { ...endpoint.spec, workload: name, containerID: `c-${name}`, profiles };
  draft.put('WorkloadEndpoint', `libnetwork/${name}`, { ...endpoint, spec: named });
}

test('a missing Profile is reported with its containers and networks, and the command that adds it', async () => {
  assert.deepEqual(
    await checksOf((draft) => {
      addNetwork(draft, 'here', 'web', { options: { profiles: ['My_App'] } });
      addNetwork(draft, 'here', 'other', { options: { profiles: ['My_App'] } });
      addContainer(draft, 'app', 'web', ['x---4dy-5f-41pp']);
    }),
    [
      'Profile My_App does not exist; all traffic of container app (network web), and of every container of networks other, web is denied. Add it: calico-cnm profile add My_App',
    ],
  );
});

test('at most five containers are named', async () => {
  const [check = ''] = await checksOf((draft) => {
    addNetwork(draft, 'here', 'web', { options: { profiles: [] } });
    for (let number = 1; number <= 7; number++) addContainer(draft, `c${number}`, 'web', ['gone']);
  });
  assert.match(check, /containers c1 \(network web\), .* c5 \(network web\) and 2 more is denied/);
});

test('the remedy for an internal network without its isolation Profile is to recreate it', async () => {
  const [check = ''] = await checksOf((draft) => {
    addNetwork(draft, 'here', 'inner', { internal: true });
    draft.put('Profile', 'inner', networkProfile('inner'));
  });
  assert.match(check, /^Profile xi--inner does not exist.*recreate that network/);
});

test('existing Profiles, and those of other hosts, are not reported', async () => {
  assert.deepEqual(
    await checksOf((draft) => {
      addNetwork(draft, 'here', 'web');
      addNetwork(draft, 'there', 'far');
      addContainer(draft, 'app', 'web', ['web']);
      draft.put('Profile', 'web', networkProfile('web'));
    }),
    [],
  );
});

test('a Profile that cannot be enforced is reported with the reason if a container has it', async () => {
  const problems = new Map([
    ['pro/web', denyAll(profilePolicy('web'), 'Profile web: ingress rule 1: why')],
  ]);
  const withWeb = (draft: Draft) => {
    addNetwork(draft, 'here', 'web');
    draft.put('Profile', 'web', networkProfile('web'));
  };
  assert.deepEqual(await checksOf(withWeb, problems), []);
  assert.deepEqual(
    await checksOf((draft) => {
      withWeb(draft);
      addContainer(draft, 'app', 'web', ['web']);
    }, problems),
    [
      'Profile web ingress rule 1: why; all traffic of container app (network web) is denied. Fix the Profile: calico-cnm apply.',
    ],
  );
});

test('a container on a network that is not stored is named without the network', async () => {
  assert.deepEqual(await checksOf((draft) => addContainer(draft, 'app', 'web', ['gone'])), [
    'Profile gone does not exist; all traffic of container app is denied. Add it: calico-cnm profile add gone',
  ]);
});
