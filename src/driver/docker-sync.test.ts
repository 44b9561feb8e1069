import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pause } from '../async/deadline.ts';
import { openNodeStore } from '../cache/mirrored-store.fixture.ts';
import type { Writer } from '../datastore/writer.ts';
import { looseSupervisor } from '../async/supervise.fixture.ts';
import { CalicoError } from '../errors/error.ts';
import { emptyDocker } from './docker/docker-api.fixture.ts';
import type { DockerApi } from './docker/docker-api.ts';
import type { ContainerInfo, DockerEvent } from './docker/messages.ts';
import { keepInSyncWithDocker } from './docker-sync.ts';
import { plainEndpoint, plainNetwork } from './endpoints/endpoint.fixture.ts';
import { withContainer } from './endpoints/endpoint-record.ts';
import { indexLocalEndpoints } from './endpoints/local-endpoints.ts';
import { endpointEntryId } from '../model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../model/namespaces.ts';

const patience = AbortSignal.timeout(600_000);
const networkId = 'a'.repeat(64);
const endpointId = 'e'.repeat(64);

/** Docker's containers and events, and whether the datastore accepts writes. */
interface World {
  names: readonly string[];
  events: DockerEvent[];
  isDatastoreAway: boolean;
  /** Whether events are read: the comparison at the start is complete. */
  isListening: boolean;
  /** The number of rejected writes. */
  refused: number;
}

function worldWithApp(): World {
  return { names: ['/app'], events: [], isDatastoreAway: false, isListening: false, refused: 0 };
}

/** Keeps a container that was called `app` at Join in sync with Docker until `use` is done. */
async function withContainerInSync(
  world: World,
  use: (nameBecomes: (name: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  await using store = await openNodeStore('host');
  const { mirror, writer } = store;
  const local = indexLocalEndpoints(mirror, 'host');
  const stop = new AbortController();
  await writer.write((draft) => {
    const network = { ...plainNetwork('host', networkId), name: 'web' };
    draft.put('DockerNetwork', `host/${networkId}`, network);
    const endpoint = plainEndpoint(network, endpointId, '10.0.0.1');
    const container = { id: 'c1', name: 'app', labels: {}, hasSeveralNetworks: false };
    draft.put(
      'WorkloadEndpoint',
      endpointEntryId('host', endpointId, defaultNamespace),
      withContainer(endpoint, container),
    );
  }, patience);

  const refusing: Writer = {
    write: async (plan, signal) => {
      if (!world.isDatastoreAway) return writer.write(plan, signal);
      world.refused++;
      throw new CalicoError('datastore/unavailable', { endpoint: 'x', why: 'away' });
    },
  };
  const log = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };
  const syncing = keepInSyncWithDocker(
    {
      node: 'host',
      isTaken: () => true,
      docker: fakeDocker(world),
      mirror,
      writer: refusing,
      networks: {
        create: async () => undefined,
        remove: async () => undefined,
        allocate: async () => undefined,
        free: async () => undefined,
        learnName: async () => undefined,
      },
      addresses: { claimExtra: () => assert.fail(), claimPrefixes: () => assert.fail() },
      local,
      stamp: (resource) => resource,
      log,
      supervisor: looseSupervisor(),
      onNetworksChanged: () => undefined,
      onEngine: () => undefined,
    },
    stop.signal,
  );
  try {
    await use(async (name) => {
      const workload = () =>
        mirror.get('WorkloadEndpoint', endpointEntryId('host', endpointId, defaultNamespace))?.value
          .spec.workload;
      await until(() => workload() === name);
      assert.equal(workload(), name);
    });
  } finally {
    stop.abort();
    await syncing;
  }
}

function fakeDocker(world: World): DockerApi {
  const container = (): ContainerInfo => ({
    Id: 'c1',
    Names: [...world.names],
    State: 'running',
    Labels: {},
  });
  return {
    ...emptyDocker,
    containers: async () => [container()],
    async events(signal) {
      async function* tell(): AsyncGenerator<DockerEvent> {
        world.isListening = true;
        while (!signal.aborted) {
          const next = world.events.shift();
          if (next === undefined) await pause(5, signal);
          else yield next;
        }
      }
      return tell();
    },
  };
}

/** Waits until the condition is met, at most ten seconds. */
async function until(isSo: () => boolean): Promise<void> {
  for (const end = Date.now() + 10_000; !isSo() && Date.now() < end;) await pause(5, patience);
}

function renamed(name: string): DockerEvent {
  return {
    Type: 'container',
    Action: 'rename',
    Actor: { ID: 'c1', Attributes: { name, oldName: '/app' } },
  };
}

test('a rename counts even while Docker still lists the old name before the new one', async () => {
  const world = worldWithApp();
  await withContainerInSync(world, async (nameBecomes) => {
    await until(() => world.isListening);
    world.names = ['/app', '/renamed'];
    world.events.push(renamed('renamed'));
    await nameBecomes('renamed');
  });
});

test('a rename while the datastore is unavailable is written when it is back', async () => {
  const world = worldWithApp();
  await withContainerInSync(world, async (nameBecomes) => {
    await until(() => world.isListening);
    world.isDatastoreAway = true;
    world.names = ['/renamed'];
    world.events.push(renamed('renamed'));
    await until(() => world.refused > 0);
    world.isDatastoreAway = false;
    await nameBecomes('renamed');
  });
});

test("a container's name is its own, not one given by --link", async () => {
  const world = worldWithApp();
  await withContainerInSync(world, async (nameBecomes) => {
    await until(() => world.isListening);
    world.names = ['/blog/db', '/db'];
    world.events.push({
      Type: 'network',
      Action: 'connect',
      Actor: { ID: networkId, Attributes: { container: 'c1' } },
    });
    await nameBecomes('db');
  });
});
