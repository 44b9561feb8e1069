import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import { Work } from '../../async/supervise.ts';
import { looseWork } from '../../async/supervise.fixture.ts';
import { emptyDocker } from '../../driver/docker/docker-api.fixture.ts';
import type { DockerApi } from '../../driver/docker/docker-api.ts';
import { plainEndpoint, plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { indexLocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { isolationProfile, networkProfile } from '../../driver/networks/network-profile.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { allocatedAddresses } from '../../ipam/records/block.ts';
import { createDockerIpam } from '../../ipam/docker/docker-ipam.ts';
import { LastAddresses } from '../../ipam/docker/last-addresses.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { hostInterfaceName } from '../../workload/interfaces.ts';
import { reclaimLeaks } from './reclaim-leaks.ts';
import { endpointEntryId } from '../../model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../../model/namespaces.ts';

const never = AbortSignal.timeout(600_000);
const pool: IpPool = {
  kind: 'IPPool',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'pool' },
  spec: { cidr: parseCidr('10.0.0.0/26'), blockSize: 26 },
};
const [present, gone] = ['a'.repeat(64), 'b'.repeat(64)];

/** How Docker responds. */
interface Engine {
  hangs: boolean;
  /** Every check gets another engine ID, as of a new installation that has no objects. */
  isAlwaysAnother: boolean;
  /** The container's state in Docker; `running` if absent. */
  state?: string;
}

/** Host a with two networks of one endpoint each; host b with the same IDs, which Docker on a never lists. */
async function withHosts(
  engine: Engine,
  use: (lab: {
    readonly left: () => readonly string[];
    /** The allocated addresses, with their hosts. */
    readonly held: () => readonly string[];
    /** Runs that many more checks. */
    readonly looks: (count: number) => Promise<void>;
    readonly work: Work;
  }) => Promise<void>,
): Promise<void> {
  const work = looseWork();
  await using store = await openMirroredStore();
  const { mirror, writer } = store;
  const local = indexLocalEndpoints(mirror, 'a');
  const stop = new AbortController();
  await writer.write((draft) => {
    draft.put('IPPool', 'pool', pool);
    for (const node of ['a', 'b']) {
      for (const id of [present, gone]) {
        const network = plainNetwork(node, id);
        draft.put('DockerNetwork', `${node}/${id}`, network);
        const address = id === present ? '10.0.0.1' : '10.0.0.2';
        draft.put(
          'WorkloadEndpoint',
          endpointEntryId(node, id, defaultNamespace),
          plainEndpoint(network, id, address),
        );
      }
    }
  }, never);

  let asked = 0;
  const answer = async <Value>(value: Value): Promise<Value> => {
    if (engine.hangs) throw new Error('no answer within 5 s');
    return value;
  };
  const docker: DockerApi = {
    ...emptyDocker,
    engine: () => {
      asked++;
      return answer({
        id: engine.isAlwaysAnother ? `engine-${asked}` : 'engine',
        isRootless: false,
        swarm: { isManager: false, isInTouch: false },
      });
    },
    networks: () =>
      answer(
        !engine.isAlwaysAnother
          ? [
              {
                Id: present,
                Name: 'web',
                Driver: 'calico',
                IPAM: { Options: {}, Config: [] },
                Containers: {},
              },
            ]
          : [],
      ),
    containers: () =>
      answer(
        !engine.isAlwaysAnother
          ? [
              {
                Id: 'c1',
                Names: ['/app'],
                State: engine.state ?? 'running',
                Labels: {},
                NetworkSettings: { Networks: { web: { EndpointID: present } } },
              },
            ]
          : [],
      ),
  };
  const remove = (kind: 'DockerNetwork' | 'WorkloadEndpoint', id: string) =>
    writer.write((draft) => draft.remove(kind, id), never).then(() => undefined);
  const silent = () => undefined;
  const collecting = reclaimLeaks(
    {
      node: 'a',
      mirror,
      writer,
      docker,
      local,
      log: { error: silent, warn: silent, info: silent, debug: silent },
      work,
      removeNetwork: (id) => remove('DockerNetwork', `a/${id}`),
      removeEndpoint: (id) =>
        remove('WorkloadEndpoint', endpointEntryId('a', id, defaultNamespace)),
      orphanedVeths: () => [],
      removeVeth: () => undefined,
      intervalMs: 5,
    },
    stop.signal,
  );
  const left = () => [
    ...[...mirror.list('DockerNetwork').values()].map(
      ({ value }) => `${value.node} network ${value.id[0]}`,
    ),
    ...[...mirror.list('WorkloadEndpoint').values()].map(
      ({ value }) => `${value.spec.node} endpoint ${value.spec.endpoint[0]}`,
    ),
  ];
  const held = () =>
    [...mirror.list('Block4').values()].flatMap(({ value }) =>
      [...allocatedAddresses(value)].map(
        ([address, { secondary }]) => `${address} ${secondary?.['node']}`,
      ),
    );
  try {
    const looks = async (count: number) => {
      const until = asked + count;
      // The next check has begun, so the last one is complete.
      const isOver = () => asked > until;
      while (!isOver()) await new Promise((resolve) => setTimeout(resolve, 2));
    };
    await use({ left, held, looks, work });
  } finally {
    stop.abort();
    await collecting;
  }
}

const all = ['a', 'b'].flatMap((node) =>
  ['network', 'endpoint'].flatMap((kind) => ['a', 'b'].map((id) => `${node} ${kind} ${id}`)),
);

test('objects that Docker does not list are reclaimed on this host, and on no other', () =>
  withHosts({ hangs: false, isAlwaysAnother: false }, async ({ left, looks }) => {
    await looks(3);
    assert.deepEqual(
      left().toSorted(),
      all.filter((one) => one !== 'a network b' && one !== 'a endpoint b').toSorted(),
    );
  }));

test('an address that a local endpoint uses but that is free in its block is allocated again', () =>
  withHosts({ hangs: false, isAlwaysAnother: false }, async ({ held, looks }) => {
    assert.deepEqual(held(), []);
    await looks(3);
    assert.deepEqual(held(), ['10.0.0.1 a']);
  }));

test('a container that is paused, restarting or created keeps its endpoint; an exited one does not', async () => {
  for (const state of ['paused', 'restarting', 'created', 'removing']) {
    await withHosts({ hangs: false, isAlwaysAnother: false, state }, async ({ left, looks }) => {
      await looks(3);
      assert.ok(left().includes('a endpoint a'), state);
      assert.ok(!left().includes('a endpoint b'), state);
    });
  }
  // After a crash Docker lists the last endpoints of exited containers.
  for (const state of ['exited', 'dead']) {
    await withHosts({ hangs: false, isAlwaysAnother: false, state }, async ({ left, looks }) => {
      await looks(3);
      assert.ok(!left().includes('a endpoint a'), state);
      assert.ok(left().includes('a network a'), 'the network is another matter');
    });
  }
});

test('an engine that is unavailable, or another engine, proves nothing', () => {
  const engine = { hangs: true, isAlwaysAnother: false };
  return withHosts(engine, async ({ left, looks, work }) => {
    await looks(5);
    assert.deepEqual(left().toSorted(), all.toSorted());
    assert.match(work.report().last?.why ?? '', /no answer within 5 s/);
    engine.isAlwaysAnother = true;
    engine.hangs = false;
    await looks(5);
    assert.deepEqual(left().toSorted(), all.toSorted());
    engine.isAlwaysAnother = false;
    await looks(3);
    assert.equal(left().length, all.length - 2);
    assert.equal(work.report().inARow, 0);
  });
});

test('many leaks are reclaimed in transactions within the limits of etcd', async () => {
  const sizes: number[] = [];
  await using mirrored = await openMirroredStore((store) => ({
    endpoint: store.endpoint,
    read: (keys, signal) => store.read(keys, signal),
    pages: (prefix, signal) => store.pages(prefix, signal),
    commit: (transaction, signal) => {
      sizes.push(transaction.compares.length);
      return store.commit(transaction, signal);
    },
    watch: (prefix, revision, signal) => store.watch(prefix, revision, signal),
    close: () => store.close(),
  }));
  const { mirror, writer } = mirrored;
  const stop = new AbortController();
  await writer.write((draft) => {
    draft.put('IPPool', 'pool', {
      kind: 'IPPool',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'pool' },
      spec: { cidr: parseCidr('10.65.0.0/24'), blockSize: 26, nodeSelector: 'all()' },
    });
  }, never);
  let made = 0;
  const ipam = createDockerIpam({
    node: 'a',
    writer,
    now: () => new Date(),
    nonce: () => `n${made++}`,
    stamp: (pool) => pool,
    usedRanges: () => [],
    last: new LastAddresses(),
  });
  const PoolID = 'calico;v=4;id=x';
  const request = { PoolID, Address: undefined, Options: {} };
  const many = Array.from({ length: 200 }, () => ipam.requestAddress.answer(request, never));
  await Promise.all(many);
  assert.equal(mirror.list('Handle').size, 200);
  const silent = () => undefined;
  const collecting = reclaimLeaks(
    {
      node: 'a',
      mirror,
      writer,
      docker: emptyDocker,
      local: indexLocalEndpoints(mirror, 'a'),
      log: { error: silent, warn: silent, info: silent, debug: silent },
      work: looseWork(),
      removeNetwork: async () => undefined,
      removeEndpoint: async () => undefined,
      orphanedVeths: () => [],
      removeVeth: () => undefined,
      intervalMs: 5,
    },
    stop.signal,
  );
  while (mirror.list('Handle').size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  await collecting;
  assert.ok(Math.max(...sizes) <= 128, `operations at once: ${sizes.join()}`);
});

test('what cannot be reclaimed is reported and does not stop the rest', async () => {
  await using mirrored = await openMirroredStore();
  const { mirror, writer } = mirrored;
  const local = indexLocalEndpoints(mirror, 'a');
  const ids = ['1', '2', '3'].map((digit) => digit.repeat(64));
  await writer.write((draft) => {
    for (const id of ids) {
      const network = plainNetwork('a', id);
      draft.put('DockerNetwork', `a/${id}`, network);
      const endpoint = plainEndpoint(network, id, '10.0.0.1');
      draft.put('WorkloadEndpoint', endpointEntryId('a', id, defaultNamespace), endpoint);
    }
    draft.put('DockerPool', 'a/n0', {
      poolId: 'calico;v=4;id=n0',
      node: 'a',
      family: 4,
      createdAt: new Date().toISOString(),
    });
  }, never);
  const failures: string[] = [];
  const silent = () => undefined;
  const stop = new AbortController();
  const remove = async (kind: 'DockerNetwork' | 'WorkloadEndpoint', id: string): Promise<void> => {
    if (id.includes('2222')) throw new Error('the bad one');
    await writer.write((draft) => draft.remove(kind, id), never);
  };
  const collecting = reclaimLeaks(
    {
      node: 'a',
      mirror,
      writer,
      docker: emptyDocker,
      local,
      log: { error: silent, warn: silent, info: silent, debug: silent },
      work: new Work('leak reclamation', {
        onFailure: ({ error }) => failures.push(String(error)),
      }),
      removeNetwork: (id) => remove('DockerNetwork', `a/${id}`),
      removeEndpoint: (id) =>
        remove('WorkloadEndpoint', endpointEntryId('a', id, defaultNamespace)),
      orphanedVeths: () => [],
      removeVeth: () => undefined,
      intervalMs: 5,
    },
    stop.signal,
  );
  while (failures.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  await collecting;
  assert.deepEqual(
    [...mirror.list('DockerNetwork').keys(), ...mirror.list('WorkloadEndpoint').keys()],
    [`a/${ids[1]}`, endpointEntryId('a', ids[1] ?? '', defaultNamespace)],
  );
  assert.equal(mirror.list('DockerPool').size, 0);
  assert.deepEqual(new Set(failures), new Set(['Error: the bad one']));
});

test('an unused Profile created by the driver is reclaimed; a used, edited or foreign one is not', async () => {
  await using mirrored = await openMirroredStore();
  const { mirror, writer } = mirrored;
  const local = indexLocalEndpoints(mirror, 'a');
  const own = (name: string) => networkProfile(name);
  const foreign = { ...own('foreign'), metadata: { name: 'foreign' } };
  const edited = { ...own('edited'), spec: { ...own('edited').spec, egress: [] } };
  const { annotations } = own('labelled').metadata;
  const labelled = {
    ...own('labelled'),
    metadata: { name: 'labelled', annotations, labels: { team: 'a' } },
  };
  await writer.write((draft) => {
    // Used by a network of another host, by an endpoint of another host, and unused.
    for (const name of ['far', 'endpoint', 'lost']) draft.put('Profile', name, own(name));
    for (const profile of [foreign, edited, labelled]) {
      draft.put('Profile', profile.metadata.name, profile);
    }
    draft.put('Profile', 'xi--lost', isolationProfile('lost'));
    // An interface that is created with its container: its other end is in no container yet.
    const starting = plainEndpoint(plainNetwork('a', present), present, '10.0.0.7');
    draft.put('WorkloadEndpoint', endpointEntryId('a', present, defaultNamespace), starting);
    draft.put('DockerNetwork', `b/${present}`, { ...plainNetwork('b', present), name: 'far' });
    const used = plainEndpoint(plainNetwork('b', gone), gone, '10.0.0.1');
    draft.put('WorkloadEndpoint', endpointEntryId('b', gone, defaultNamespace), {
      ...used,
      spec: { ...used.spec, node: 'b', profiles: ['endpoint'] },
    });
  }, never);
  const stop = new AbortController();
  const silent = () => undefined;
  const removed: string[] = [];
  const collecting = reclaimLeaks(
    {
      node: 'a',
      mirror,
      writer,
      docker: emptyDocker,
      local,
      log: { error: silent, warn: silent, info: silent, debug: silent },
      work: looseWork(),
      removeNetwork: async () => undefined,
      removeEndpoint: async () => undefined,
      orphanedVeths: () => ['cali01234567890', hostInterfaceName(present)],
      removeVeth: (name) => removed.push(name),
      intervalMs: 5,
    },
    stop.signal,
  );
  while (mirror.list('Profile').size > 5 || removed.length < 3) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  stop.abort();
  await collecting;
  assert.deepEqual([...mirror.list('Profile').keys()].toSorted(), [
    'edited',
    'endpoint',
    'far',
    'foreign',
    'labelled',
  ]);
  assert.deepEqual([...new Set(removed)], ['cali01234567890']);
});
