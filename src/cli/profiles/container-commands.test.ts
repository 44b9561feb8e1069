import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeEndpoint } from '../../driver/endpoints/endpoint-description.ts';
import { newEndpoint } from '../../driver/endpoints/endpoint-record.ts';
import { endpointPolicy } from '../../driver/endpoints/endpoint-policy.ts';
import { isolationProfile, networkProfile } from '../../driver/networks/network-profile.ts';
import { emptySelection } from '../../driver/endpoints/selection.ts';
import { parseAddress } from '../../ip/address.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';
import { endpointEntryId } from '../../model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../../model/namespaces.ts';

function network(name: string, internal = false): DockerNetwork {
  return {
    id: `id-of-${name}`,
    node: 'host-1',
    name,
    ipam: 'calico',
    internal,
    ipv4: true,
    ipv6: false,
    subnets: [],
    options: {},
  };
}

const web = network('web');
const closed = network('closed', true);
const asIs = <T>(resource: T): T => resource;

/** A container `app` on the networks, joined like the driver does, and several Profiles. */
async function host(...networks: readonly DockerNetwork[]): Promise<CommandLine> {
  const cli = startCommandLine();
  for (const name of ['db', 'log']) await cli.ok(['profile', 'add', name]);
  await cli.write((draft) => {
    for (const one of networks) {
      draft.put('DockerNetwork', `${one.node}/${one.id}`, one);
      const profile = networkProfile(one.name ?? '');
      draft.put('Profile', profile.metadata.name, profile);
      const isolation = isolationProfile(one.name ?? '');
      if (one.internal) draft.put('Profile', isolation.metadata.name, isolation);
      const policy = endpointPolicy(one, emptySelection, { isTaken: () => true });
      const facts = {
        node: 'host-1',
        network: one,
        endpointId: `ep-${one.name}`,
        addresses: [parseAddress('10.65.0.1')],
        mac: 'ca:00:00:00:00:01',
        options: {},
      };
      draft.put('WorkloadEndpoint', idOn(one), newEndpoint(facts, policy));
    }
  });
  for (const one of networks) await describe(cli, one);
  return cli;
}

/** Writes the endpoint like the driver at Join and at each container event of Docker. */
function describe(cli: CommandLine, one: DockerNetwork, name = 'app') {
  return cli.write((draft) =>
    describeEndpoint(draft, {
      id: idOn(one),
      lookup: {
        kind: 'found',
        networkName: one.name ?? '',
        container: { id: 'c1', name, labels: {} },
      },
      sandbox: '/run/docker/netns/1',
      ofSandbox: () => [idOn(web), idOn(closed)],
      stamp: asIs,
      isTaken: () => true,
    }),
  );
}

function idOn(one: DockerNetwork): string {
  return endpointEntryId('host-1', `ep-${one.name}`, defaultNamespace);
}

async function endpoint(cli: CommandLine, one: DockerNetwork) {
  const found = await cli.write((draft) => draft.get('WorkloadEndpoint', idOn(one)));
  assert.ok(found);
  return found;
}

const command = (text: string) => ['container', 'app', 'profile', ...text.split(' ')];

test('Profiles of a running container are appended, set and removed', async () => {
  using cli = await host(web);
  const profiles = async () => (await endpoint(cli, web)).spec.profiles;
  await cli.ok(command('append db log'));
  assert.deepEqual(await profiles(), ['web', 'db', 'log']);
  await cli.ok(command('remove web'));
  assert.deepEqual(await profiles(), ['db', 'log']);
  const shown = await cli.ok(command('set log'));
  assert.deepEqual(await profiles(), ['log']);
  assert.equal(
    shown,
    'CONTAINER   NETWORK   ADDRESS        PROFILES\napp         web       10.65.0.1/32   log\n',
  );
  assert.match(
    await cli.ok(['container', 'app', 'profile', 'set']),
    /none \(all traffic is dropped\)/,
  );
  assert.deepEqual(await profiles(), []);
});

test('changed Profiles are kept when the driver writes the endpoint again', async () => {
  using cli = await host(web);
  await cli.ok(command('set db'));
  await describe(cli, web, 'renamed');
  const { spec } = await endpoint(cli, web);
  assert.deepEqual([spec.workload, spec.profiles], ['renamed', ['db']]);
});

test('unchanged Profiles follow the writes of the driver', async () => {
  using cli = await host(web);
  await cli.write((draft) => {
    const changed = { ...web, options: { profiles: ['log'] } };
    draft.put('DockerNetwork', `host-1/${web.id}`, changed);
  });
  await describe(cli, web);
  assert.deepEqual((await endpoint(cli, web)).spec.profiles, ['log']);
});

test('the isolation Profile of an internal network cannot be removed', async () => {
  using cli = await host(closed);
  await cli.ok(command('set db'));
  assert.deepEqual((await endpoint(cli, closed)).spec.profiles, ['xi--closed', 'db']);
  await cli.ok(command('remove xi--closed'));
  await describe(cli, closed);
  assert.deepEqual((await endpoint(cli, closed)).spec.profiles, ['xi--closed', 'db']);
});

test('tags of Profiles changed on one network are shared on the others', async () => {
  using cli = await host(web, closed);
  await cli.ok(command('set db'));
  for (const one of [web, closed]) {
    const { spec, metadata } = await endpoint(cli, one);
    assert.ok(spec.profiles?.includes('db'));
    assert.equal(metadata.labels?.['db'], '');
  }
});

test('a command without a verb shows the Profiles', async () => {
  using cli = await host(web);
  const shown = await cli.ok(['container', 'app', 'profile', 'show']);
  assert.equal(await cli.ok(['container', 'app', 'profile']), shown);
  assert.equal(await cli.ok(['container', 'app']), shown);
});

for (const [argv, message] of [
  [['container', 'app', 'profile', 'append', 'nothing'], 'Profile nothing does not exist'],
  [['container', 'nobody', 'profile', 'show'], 'no container nobody on a Calico network; '],
  [['container', 'app', 'profile', 'append'], 'container app profile append: invalid command; '],
  [['container', 'app', 'paint'], 'container app paint: invalid command; '],
  [
    ['container', 'app', 'profile', 'show', '--node', 'host-2'],
    'no container app on a Calico network; ',
  ],
] as const) {
  test(`"${argv.join(' ')}" is rejected on one line`, async () => {
    using cli = await host(web);
    const { status, out, error } = await cli.run(argv);
    assert.deepEqual([status, out], [1, '']);
    assert.ok(error.startsWith(`calico-cnm: ${message}`), error);
    assert.equal(error.trimEnd().split('\n').length, 1);
    assert.deepEqual((await endpoint(cli, web)).spec.profiles, ['web']);
  });
}

test('a container in quarantine is rejected: its Profiles are not known yet', async () => {
  using cli = await host(web);
  await cli.write((draft) =>
    describeEndpoint(draft, {
      id: idOn(web),
      lookup: { kind: 'unknown', why: 'Docker did not answer within 2 s' },
      ofSandbox: () => [],
      stamp: asIs,
      isTaken: () => true,
    }),
  );
  const { status, error } = await cli.run(command('append db'));
  assert.equal(status, 1);
  assert.match(error, /container app is in quarantine \(Docker did not answer within 2 s\); /);
});

test('a container name that exists on two hosts needs --node', async () => {
  using cli = await host(web);
  await cli.write((draft) => {
    const here = draft.get('WorkloadEndpoint', idOn(web));
    assert.ok(here);
    const there = { ...here, spec: { ...here.spec, node: 'host-2' } };
    draft.put('WorkloadEndpoint', endpointEntryId('host-2', 'ep-web', defaultNamespace), there);
  });
  const { status, error } = await cli.run(command('append db'));
  assert.equal(status, 1);
  assert.match(error, /exists on several hosts \(host-1, host-2\); select one with --node/);
  await cli.ok([...command('append db'), '--node', 'host-2']);
  assert.deepEqual((await endpoint(cli, web)).spec.profiles, ['web']);
});
