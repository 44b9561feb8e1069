import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LiveMirror } from '../../cache/live-mirror.ts';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { emptyDocker } from '../../driver/docker/docker-api.fixture.ts';
import { plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { serviceList } from '../../driver/docker/messages.ts';
import { datastoreCheck } from './datastore-check.ts';
import { dockerChecks, installChecks } from './install-checks.ts';

const signal = AbortSignal.timeout(600_000);

const bridge = {
  Id: 'b',
  Name: 'bridge',
  Driver: 'bridge',
  IPAM: { Options: {}, Config: [] },
  Containers: {},
};

test('the datastore check is ok while in sync and not locked; otherwise status shows the reason', async () => {
  await using store = await openNodeStore('here');
  const { mirror, writer } = store;
  const inSync = datastoreCheck(mirror);
  assert.deepEqual([inSync.name, inSync.ok, inSync.remedy], ['datastore', true, undefined]);
  assert.match(inSync.detail, /, in sync since \d{4}-/);
  await writer.write(
    (draft) =>
      draft.put('ClusterInformation', 'default', {
        kind: 'ClusterInformation',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'default' },
        spec: { datastoreReady: false },
      }),
    signal,
  );
  const locked = datastoreCheck(mirror);
  assert.equal(locked.ok, false);
  assert.match(locked.detail, /locked for maintenance \(datastoreReady: false\)/);
  assert.match(locked.remedy ?? '', /calico-cnm datastore unlock/);
  const away = datastoreCheck(new LiveMirror(mirror.datastore));
  assert.deepEqual([away.ok, away.detail], [false, `${mirror.datastore.endpoint}: not read yet`]);
});

test('a duplicate installation, stranded networks and unreachable virtual addresses are reported', async () => {
  assert.deepEqual(installChecks(undefined), []);
  const [other] = installChecks('a managed plugin serves this host');
  assert.deepEqual(
    [other?.name, other?.ok, other?.detail],
    ['duplicate installation', false, 'a managed plugin serves this host'],
  );
  await using store = await openNodeStore('here');
  const { mirror, writer } = store;
  const id = 'a'.repeat(64);
  await writer.write((draft) => {
    draft.put('DockerNetwork', `here/${id}`, plainNetwork('here', id));
    draft.put('DockerPool', 'here/1', {
      poolId: 'calico;v=4;for=swarm;id=1',
      node: 'here',
      family: 4,
      swarm: { network: 'n1' },
      createdAt: '2026-08-22T10:00:00Z',
    });
  }, signal);
  const docker = {
    ...emptyDocker,
    networks: async () => [
      {
        Id: id,
        Name: 'web',
        Driver: 'other/calico',
        IPAM: { Options: {}, Config: [] },
        Containers: {},
      },
      ...(['local', 'swarm'] as const).map((Scope) => ({
        Id: Scope,
        Name: `unknown-${Scope}`,
        Driver: 'calico',
        Scope,
        IPAM: { Options: {}, Config: [] },
        Containers: {},
      })),
      // Of a driver that is not Calico's.
      { ...bridge, Scope: 'local' },
    ],
    services: async () =>
      serviceList.parse([
        {
          Spec: { Name: 'app' },
          Endpoint: { VirtualIPs: [{ NetworkID: 'n1', Addr: '10.65.0.9/32' }] },
        },
      ]),
  };
  const checks = await dockerChecks({ docker, mirror, node: 'here' }, signal);
  assert.deepEqual(
    checks.map(({ name, ok, detail }) => [name, ok, detail]),
    [
      ['network web', false, 'driver other/calico is not enabled'],
      [
        'network unknown-local',
        false,
        'not in this datastore: its containers have no connectivity',
      ],
      [
        'service app',
        false,
        'virtual address 10.65.0.9 is unreachable: Docker implements service VIPs on overlay networks only',
      ],
    ],
  );
  assert.match(checks[0]?.remedy ?? '', /^Enable other\/calico, or .*--driver calico/);
  assert.match(checks[1]?.remedy ?? '', /docker network rm unknown-local/);
  assert.match(checks[2]?.remedy ?? '', /--endpoint-mode dnsrr, .*tasks\.app/);
});
