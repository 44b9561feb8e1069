import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { GroupWriter } from '../../cache/group-writer.ts';
import { LiveMirror } from '../../cache/live-mirror.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import type { AddressPlans } from './address-plans.ts';
import { createNetworkRequest } from '../plugin/messages.ts';
import { networkProfile } from './network-profile.ts';
import { createNetworks, type Networks } from './networks.ts';

const signal = AbortSignal.timeout(600_000);

const addresses: AddressPlans = {
  adoptSubnets: (_draft, { subnets }) => ({
    ipam: 'calico',
    subnets: subnets.map(({ family, cidr, gateway }) => ({
      family,
      cidr,
      ...(gateway === undefined ? {} : { gateway }),
    })),
    nextHop4: undefined,
    nextHop6: undefined,
  }),
  dropSubnets: () => 'done',
  allocateNetwork: () => undefined,
  freeNetwork: () => 'done',
  bindEndpoint: () => undefined,
  releaseEndpoint: () => undefined,
  releaseAdopted: () => undefined,
  claimExtra: () => undefined,
  claimPrefixes: () => undefined,
  releasePrefixes: () => undefined,
  releaseExtra: () => undefined,
};

/** Lets a test create networks on a datastore of its own. */
async function withNetworks<Result>(
  createProfiles: boolean,
  use: (networks: Networks, mirror: LiveMirror) => Promise<Result>,
  mayUseNamespace: (namespace: string) => Promise<boolean> = () => Promise.resolve(true),
): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), 'calico-networks-'));
  const stop = new AbortController();
  const store = await openSqliteStore(join(folder, 'calico.db'));
  const mirror = new LiveMirror(store);
  const running = mirror.run(stop.signal);
  try {
    await mirror.reached(0n, signal);
    const networks = createNetworks({
      mayUseNamespace,
      namespaceMs: 300,
      node: 'host-1',
      writer: new GroupWriter(mirror),
      addresses,
      stamp: (resource) => resource,
      createProfiles,
    });
    return await use(networks, mirror);
  } finally {
    stop.abort();
    await running;
    await store.close();
    await rm(folder, { recursive: true });
  }
}

/** Returns the stored network after Docker has created it with the `-o` options. */
function created(
  createProfiles: boolean,
  generic: Readonly<Record<string, string>>,
  existing: readonly string[] = [],
) {
  return withNetworks(createProfiles, async (networks, mirror) => {
    const request = createNetworkRequest.parse({
      NetworkID: 'n1',
      Options: { 'com.docker.network.generic': generic },
      IPv4Data: [{ Pool: '0.0.0.0/0' }],
    });
    await new GroupWriter(mirror).write((draft) => {
      for (const name of existing) draft.put('Profile', name, networkProfile(name));
    }, signal);
    await networks.create(request, signal);
    await networks.create(request, signal);
    await networks.learnName('n1', 'web', signal);
    return {
      profiles: [...mirror.list('Profile').keys()],
      chosen: mirror.get('DockerNetwork', 'host-1/n1')?.value.options.profiles,
    };
  });
}

test('a network that Docker creates again with another pool gets that pool, and keeps its name', () =>
  withNetworks(true, async (networks, mirror) => {
    for (const gateway of ['169.254.1.1', '169.254.2.2']) {
      const IPv4Data = [{ Pool: '0.0.0.0/0', Gateway: `${gateway}/32` }];
      const request = createNetworkRequest.parse({ NetworkID: 'n1', IPv4Data });
      await networks.create(request, signal);
      if (gateway === '169.254.1.1') await networks.learnName('n1', 'web', signal);
      const { subnets, name } = mirror.get('DockerNetwork', 'host-1/n1')?.value ?? assert.fail();
      assert.deepEqual(subnets, [{ family: 4, cidr: '0.0.0.0/0', gateway }]);
      assert.equal(name, 'web');
    }
  }));

test('a network has the Profile of its name', async () => {
  assert.deepEqual(await created(true, {}), { profiles: ['web'], chosen: undefined });
});

test('if no Profiles are created, it has only those that its options name', async () => {
  assert.deepEqual(await created(false, {}), { profiles: [], chosen: [] });
  assert.deepEqual(await created(false, { profiles: 'db' }, ['db']), {
    profiles: ['db'],
    chosen: ['db'],
  });
});

test('a Profile that does not exist is rejected with the command that adds it, and nothing is stored', async () => {
  await withNetworks(true, async (networks, mirror) => {
    const request = createNetworkRequest.parse({
      NetworkID: 'n1',
      Options: { 'com.docker.network.generic': { profiles: 'nosuch' } },
      IPv4Data: [{ Pool: '0.0.0.0/0' }],
    });
    await assert.rejects(networks.create(request, signal), {
      message:
        'network option "profiles": Profile nosuch does not exist; add it first: calico-cnm profile add nosuch',
    });
    assert.equal(mirror.list('DockerNetwork').size, 0);
  });
});

test('a network whose Profile was deleted since can still be recreated, as Swarm does after a restart', async () => {
  await withNetworks(true, async (networks, mirror) => {
    const writer = new GroupWriter(mirror);
    await writer.write((draft) => draft.put('Profile', 'db', networkProfile('db')), signal);
    for (const gateway of ['169.254.1.1', '169.254.2.2']) {
      const request = createNetworkRequest.parse({
        NetworkID: 'n1',
        Options: { 'com.docker.network.generic': { profiles: 'db' } },
        IPv4Data: [{ Pool: '0.0.0.0/0', Gateway: `${gateway}/32` }],
      });
      await networks.create(request, signal);
      await writer.write((draft) => draft.remove('Profile', 'db'), signal);
    }
  });
});

test('a network in a namespace waits until the cluster permits it, and is not created otherwise', async () => {
  let denials = 2;
  const requests: string[] = [];
  await withNetworks(
    true,
    async (networks, mirror) => {
      const request = (namespace: string) =>
        createNetworkRequest.parse({
          NetworkID: namespace,
          Options: { 'com.docker.network.generic': { namespace } },
          IPv4Data: [{ Pool: '0.0.0.0/0' }],
        });
      await networks.create(request('shop'), signal);
      assert.deepEqual(requests, ['shop', 'shop', 'shop']);
      assert.ok(mirror.get('DockerNetwork', 'host-1/shop'));
      denials = Infinity;
      await assert.rejects(networks.create(request('prod'), signal), {
        message:
          'permission denied on the endpoints of host host-1 in namespace prod: no member of the cluster has granted it; check calico-cnm cluster status, or the role of the etcd user',
      });
      assert.equal(mirror.get('DockerNetwork', 'host-1/prod'), undefined);
      assert.equal(mirror.get('Profile', 'kns.prod'), undefined);
    },
    async (namespace) => {
      requests.push(namespace);
      return denials-- <= 0;
    },
  );
});
