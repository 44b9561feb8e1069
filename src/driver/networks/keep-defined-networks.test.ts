import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inBackground } from '../../async/background.fixture.ts';
import { looseWork } from '../../async/supervise.fixture.ts';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { emptyDocker } from '../docker/docker-api.fixture.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { NetworkDetails } from '../docker/messages.ts';
import { dockerOf, plainDefinition as web, plainDrivers } from './definition.fixture.ts';
import { removeDefinition } from './definition-plans.ts';
import { DefinedNetworks } from './keep-defined-networks.ts';

const signal = AbortSignal.timeout(600_000);

/** Docker with networks that can be created and removed. */
interface FakeDocker {
  networks: NetworkDetails[];
  /** Docker's message for every creation of a name, or removal of an ID. */
  readonly refusals: Map<string, string>;
  readonly plugins: string[];
  /** Called before a network is created. */
  onCreate: () => void;
  created: number;
}

function apiOf(fake: FakeDocker): DockerApi {
  const checkRefusal = (what: string) => {
    const why = fake.refusals.get(what);
    if (why !== undefined) throw new CalicoError('docker/refused', { what, why });
  };
  return {
    ...emptyDocker,
    networkDetails: async () => [...fake.networks],
    calicoPlugins: async () => fake.plugins,
    createNetwork: async ({ Name, Driver, Labels }) => {
      checkRefusal(Name);
      fake.onCreate();
      const id = `n${fake.created++}`;
      const drivers = { ...plainDrivers, network: Driver, ipam: Driver };
      fake.networks.push({ ...dockerOf({ ...web, name: Name }, drivers, id), Labels });
      return id;
    },
    removeNetwork: async (id) => {
      checkRefusal(id);
      fake.networks = fake.networks.filter(({ Id }) => Id !== id);
    },
  };
}

/** A daemon with a datastore and a Docker; `until` waits for a state of either. */
async function openDaemon(options: { readonly isManaged?: boolean } = {}) {
  const store = await openNodeStore('host-1');
  const fake: FakeDocker = {
    networks: [],
    refusals: new Map(),
    plugins: [],
    onCreate: () => undefined,
    created: 0,
  };
  const ignore = () => undefined;
  const networks = new DefinedNetworks({
    node: 'host-1',
    docker: apiOf(fake),
    mirror: store.mirror,
    writer: store.writer,
    now: () => new Date(),
    log: { error: ignore, warn: ignore, info: ignore, debug: ignore },
    isManaged: options.isManaged ?? false,
  });
  const write = <Result>(plan: (draft: Draft) => Result) =>
    store.writer.write(plan, signal).then(({ result }) => result);
  await write((draft) => {
    draft.put('Node', 'host-1', {
      kind: 'Node',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'host-1' },
      spec: {},
    });
  });
  const running = inBackground((stop) => networks.run(looseWork(), stop));
  return {
    fake,
    networks,
    write,
    define: (...names: readonly string[]) =>
      write((draft) => {
        for (const name of names) draft.put('NetworkDefinition', name, { ...web, name });
      }),
    reportOf: (name: string) =>
      write((draft) => {
        const found = draft.get('NetworkReport', `host-1/${name}`);
        return found && [found.state, found.why];
      }),
    until: async (isTrue: () => Promise<boolean> | boolean) => {
      while (!(await isTrue())) {
        signal.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    [Symbol.asyncDispose]: async () => {
      await running.stop();
      await store[Symbol.asyncDispose]();
    },
  };
}

test('a defined network is created, and again after it was removed by hand', async () => {
  await using daemon = await openDaemon();
  const { fake } = daemon;
  await daemon.define('web');
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'created');
  assert.deepEqual(
    fake.networks.map(({ Name, Driver }) => [Name, Driver]),
    [['web', 'calico']],
  );
  fake.networks = [];
  daemon.networks.changed();
  await daemon.until(() => fake.networks.length === 1);
  assert.equal(fake.created, 2);
});

test('with the managed plugin, networks have its name as driver', async () => {
  await using daemon = await openDaemon({ isManaged: true });
  daemon.fake.plugins.push('registry.example/calico-cnm:2');
  await daemon.define('web');
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'created');
  const [network] = daemon.fake.networks;
  assert.equal(network?.Driver, 'registry.example/calico-cnm:2');
  assert.equal(network.IPAM.Driver, 'registry.example/calico-cnm:2');
});

test('a creation that fails is reported in the words of Docker, retried, and stops no other network', async () => {
  await using daemon = await openDaemon();
  daemon.fake.refusals.set('a', 'subnet overlaps');
  await daemon.define('a', 'b');
  await daemon.until(async () => (await daemon.reportOf('b'))?.[0] === 'created');
  await daemon.until(async () => (await daemon.reportOf('a'))?.[0] === 'failed');
  assert.deepEqual(await daemon.reportOf('a'), ['failed', 'subnet overlaps']);
  daemon.fake.refusals.clear();
  await daemon.until(async () => (await daemon.reportOf('a'))?.[0] === 'created');
});

test('a network that differs from its definition has a check until it is as defined', async () => {
  await using daemon = await openDaemon();
  const { fake, networks } = daemon;
  const other = { ...plainDrivers, network: 'bridge', ipam: 'default' };
  fake.networks.push(dockerOf({ ...web, name: 'web' }, other, 'theirs'));
  await daemon.define('web');
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'differs');
  const [check, ...more] = networks.checks();
  assert.deepEqual([check?.name, check?.ok, more], ['network web', false, []]);
  assert.match(check?.detail ?? '', /^differs from its definition: driver is bridge/);
  fake.networks = [];
  networks.changed();
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'created');
  assert.deepEqual(networks.checks(), []);
  fake.refusals.set('late', 'no such pool');
  await daemon.define('late');
  await daemon.until(() => networks.checks().length === 1);
  assert.match(networks.checks()[0]?.detail ?? '', /no such pool/);
  await daemon.write((draft) => draft.remove('NetworkDefinition', 'late'));
  await daemon.until(() => networks.checks().length === 0);
});

test('of networks of one name created at the same time, the one of the daemon is removed', async () => {
  await using daemon = await openDaemon();
  const { fake } = daemon;
  fake.onCreate = () => {
    fake.onCreate = () => undefined;
    fake.networks.push({ ...dockerOf(web, plainDrivers, 'by hand'), Labels: {} });
  };
  await daemon.define('web');
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'created');
  assert.deepEqual(
    fake.networks.map(({ Id }) => Id),
    ['by hand'],
  );
});

test('a removed definition goes when its network does; a network in use is reported meanwhile', async () => {
  await using daemon = await openDaemon();
  const { fake } = daemon;
  await daemon.define('web');
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'created');
  fake.refusals.set('n0', 'has active endpoints');
  await daemon.write((draft) => removeDefinition(draft, 'web'));
  await daemon.until(async () => (await daemon.reportOf('web'))?.[0] === 'failed');
  assert.equal(fake.networks.length, 1);
  fake.refusals.clear();
  await daemon.until(() =>
    daemon.write((draft) => draft.get('NetworkDefinition', 'web') === undefined),
  );
  assert.deepEqual([fake.networks, await daemon.reportOf('web')], [[], undefined]);
});

test('a host reports before it creates: a removal meanwhile waits for it', async () => {
  await using daemon = await openDaemon();
  let removal: Promise<unknown> | undefined;
  daemon.fake.onCreate = () => {
    removal ??= daemon.write((draft) => removeDefinition(draft, 'web'));
  };
  await daemon.define('web');
  await daemon.until(() => removal !== undefined);
  await removal;
  await daemon.until(() =>
    daemon.write((draft) => draft.get('NetworkDefinition', 'web') === undefined),
  );
  assert.deepEqual(daemon.fake.networks, []);
});
