import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { GroupWriter } from '../../datastore/group-writer.ts';
import { LiveMirror } from '../../datastore/live-mirror.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import type { AddressPlans } from './address-plans.ts';
import { createNetworkRequest } from '../plugin/messages.ts';
import { createNetworks } from './networks.ts';

const signal = AbortSignal.timeout(60_000);

const addresses: AddressPlans = {
  adoptSubnets: (_draft, { subnets }) => ({
    ipam: 'calico',
    subnets: subnets.map(({ family, cidr }) => ({ family, cidr })),
    nextHop4: undefined,
    nextHop6: undefined,
  }),
  dropSubnets: () => undefined,
  allocateNetwork: () => undefined,
  freeNetwork: () => undefined,
  bindEndpoint: () => undefined,
  releaseEndpoint: () => undefined,
  releaseAdopted: () => undefined,
};

/** What is stored when Docker has made a network with the `-o` options. */
async function created(
  createProfiles: boolean,
  generic: Readonly<Record<string, string>>,
): Promise<{
  readonly profiles: readonly string[];
  readonly chosen: readonly string[] | undefined;
}> {
  const folder = await mkdtemp(join(tmpdir(), 'calico-networks-'));
  const stop = new AbortController();
  const store = await openSqliteStore(join(folder, 'calico.db'));
  const mirror = new LiveMirror(store);
  const running = mirror.run(stop.signal);
  try {
    await mirror.reached(0n, signal);
    const networks = createNetworks({
      node: 'host-1',
      writer: new GroupWriter(mirror),
      addresses,
      stamp: (resource) => resource,
      createProfiles,
    });
    const request = createNetworkRequest.parse({
      NetworkID: 'n1',
      Options: { 'com.docker.network.generic': generic },
      IPv4Data: [{ Pool: '0.0.0.0/0' }],
    });
    await networks.create(request, signal);
    await networks.create(request, signal);
    await networks.learnName('n1', 'web', signal);
    return {
      profiles: [...mirror.list('Profile').keys()],
      chosen: mirror.get('DockerNetwork', 'host-1/n1')?.value.options.profiles,
    };
  } finally {
    stop.abort();
    await running;
    await store.close();
    await rm(folder, { recursive: true });
  }
}

test('a network has the Profile of its name', async () => {
  assert.deepEqual(await created(true, {}), { profiles: ['web'], chosen: undefined });
});

test('where no Profiles are made, it has none but those that its options name', async () => {
  assert.deepEqual(await created(false, {}), { profiles: [], chosen: [] });
  assert.deepEqual(await created(false, { profiles: 'db' }), { profiles: [], chosen: ['db'] });
});
