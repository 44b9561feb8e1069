import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { mirroredEndpoint } from '../../cache/endpoint-lookup.ts';
import type { GroupWriter } from '../../cache/group-writer.ts';
import { isCalicoError } from '../../errors/error.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { networkProfile } from '../networks/network-profile.ts';
import { emptyDocker } from '../docker/docker-api.fixture.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import { plainNetwork } from './endpoint.fixture.ts';
import { createEndpoints, type Endpoints } from './endpoints.ts';
import { indexLocalEndpoints } from './local-endpoints.ts';
import {
  annotation,
  endpointEntryId,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { defaultNamespace } from '../../model/namespaces.ts';

const patience = AbortSignal.timeout(600_000);
const node = 'host';
const networkId = 'a'.repeat(64);
const sandbox = '/var/run/docker/netns/1';
const ids = { first: 'e'.repeat(64), second: 'f'.repeat(64) };

interface Lab {
  readonly endpoints: Endpoints;
  readonly writer: GroupWriter;
  /** The effects outside of the datastore, in order. */
  readonly done: string[];
  readonly create: (endpointId?: string, address?: string) => Promise<unknown>;
  readonly join: (endpointId?: string) => Promise<unknown>;
  readonly whole: () => WorkloadEndpoint | undefined;
  readonly stored: (endpointId?: string) =>
    | {
        readonly workload: string;
        readonly profiles: readonly string[];
        readonly labels: readonly string[];
        readonly revision: bigint;
      }
    | undefined;
}

/** Endpoints on one network `web`, on a store in memory and a kernel that only records calls. */
async function withEndpoints(
  parts: {
    readonly docker?: DockerApi;
    readonly programmed?: (endpointId: string, revision: bigint) => Promise<void>;
    readonly network?: Partial<DockerNetwork>;
  },
  use: (lab: Lab) => Promise<void>,
): Promise<void> {
  await using store = await openNodeStore(node);
  const { mirror, writer } = store;
  await writer.write((draft) => {
    draft.put('DockerNetwork', `${node}/${networkId}`, {
      ...plainNetwork(node, networkId),
      name: 'web',
      ...parts.network,
    });
    draft.put('Profile', 'web', networkProfile('web'));
  }, patience);
  const done: string[] = [];
  const silent = () => undefined;
  const endpoints = createEndpoints({
    node,
    mirror,
    writer,
    isTaken: () => true,
    docker: parts.docker ?? emptyDocker,
    local: indexLocalEndpoints(mirror, node),
    links: {
      createVeth: async ({ hostName, peerName, mtuBytes, hasIpv6 }) => {
        done.push(`veth ${hostName} ${peerName} ${mtuBytes}${hasIpv6 ? ' IPv6' : ''}`);
      },
      removeVeth: (name) => done.push(`no ${name}`),
    },
    addresses: {
      adoptSubnets: () => assert.fail(),
      dropSubnets: () => assert.fail(),
      allocateNetwork: () => assert.fail(),
      freeNetwork: () => assert.fail(),
      bindEndpoint: (_, { addresses }) => void done.push(`bind ${addresses.join()}`),
      releaseEndpoint: (_, { addresses }) => void done.push(`release ${addresses.join()}`),
      releaseAdopted: () => assert.fail(),
      claimExtra: (_, { addresses }) => void done.push(`claim ${addresses.join()}`),
      claimPrefixes: () => undefined,
      releasePrefixes: () => undefined,
      releaseExtra: (_, { addresses }) => {
        if (addresses.length > 0) done.push(`release extra ${addresses.join()}`);
      },
    },
    stamp: (resource) => resource,
    log: { error: silent, warn: silent, info: silent, debug: silent },
    defaultMtuBytes: () => 1400,
    interfacePrefix: 'cali',
    programmed: async (endpointId, revision) => {
      await parts.programmed?.(endpointId, revision);
      done.push('programmed');
    },
  });
  await use({
    endpoints,
    writer,
    done,
    create: (endpointId = ids.first, address = '10.0.0.1/32') =>
      endpoints.create(
        {
          NetworkID: networkId,
          EndpointID: endpointId,
          Interface: { Address: address, AddressIPv6: undefined, MacAddress: undefined },
          Options: {},
        },
        patience,
      ),
    join: (endpointId = ids.first) =>
      endpoints.join(
        { NetworkID: networkId, EndpointID: endpointId, SandboxKey: sandbox, Options: {} },
        patience,
      ),
    whole: () => mirroredEndpoint(mirror, node, ids.first),
    stored: (endpointId = ids.first) => {
      const found = mirror.get(
        'WorkloadEndpoint',
        endpointEntryId(node, endpointId, parts.network?.options?.namespace ?? defaultNamespace),
      );
      return (
        found && {
          workload: found.value.spec.workload ?? '',
          profiles: found.value.spec.profiles ?? [],
          labels: Object.keys(found.value.metadata.labels ?? {}),
          revision: found.modRevision,
        }
      );
    },
  });
}

/** A Docker that lists the endpoints as those of one container. */
const knowing: DockerApi = {
  ...emptyDocker,
  network: async (Id) => ({
    Id,
    Name: 'web',
    Driver: 'calico',
    IPAM: { Options: {}, Config: [] },
    Containers: Object.fromEntries(
      Object.values(ids).map((EndpointID) => [EndpointID, { Name: 'app', EndpointID }]),
    ),
  }),
  containerNamed: async () => ({
    Id: 'c1',
    Names: ['/app'],
    State: 'created',
    Labels: { 'org.projectcalico.profile': 'own' },
    NetworkSettings: { Networks: {} },
  }),
};

test('Join creates the veth, writes the container of the endpoint, and returns when exactly that is programmed', async () => {
  const kernel = Promise.withResolvers<void>();
  const told: bigint[] = [];
  const programmed = async (_: string, revision: bigint) => {
    told.push(revision);
    await kernel.promise;
  };
  await withEndpoints({ docker: knowing, programmed }, async (lab) => {
    await lab.create();
    let isAnswered = false;
    const joining = lab.join().then((answer) => {
      isAnswered = true;
      return answer;
    });
    while (told.length === 0) await new Promise(setImmediate);
    const { workload, profiles, revision } = lab.stored() ?? assert.fail();
    assert.deepEqual({ workload, profiles }, { workload: 'app', profiles: ['own', 'web'] });
    assert.ok(
      told.every((one) => one >= revision),
      'the kernel is waited for at its own write',
    );
    await new Promise(setImmediate);
    assert.equal(isAnswered, false, 'nothing is answered before the kernel has it');
    kernel.resolve();
    await joining;
    assert.deepEqual(lab.done, [
      'bind 10.0.0.1',
      'veth calieeeeeeeeeee tempeeeeeeeeeee 1400',
      'programmed',
    ]);
  });
});

test('an endpoint whose container Docker cannot name joins without Profiles', async () => {
  await withEndpoints({}, async (lab) => {
    await lab.create();
    assert.deepEqual(lab.stored()?.profiles, ['web'], 'as its network says, until it joins');
    await lab.join();
    assert.deepEqual(lab.stored()?.profiles, []);
    assert.ok(lab.done.includes('programmed'), 'the kernel knows that all of it is dropped');
  });
});

test('Join of an unknown endpoint is rejected, and creates nothing', async () => {
  await withEndpoints({}, async (lab) => {
    await assert.rejects(lab.join(), (error) => isCalicoError(error, 'driver/unknown-endpoint'));
    assert.deepEqual(lab.done, []);
  });
});

test('CreateEndpoint may be repeated, but not with another address', async () => {
  await withEndpoints({}, async (lab) => {
    await lab.create();
    await lab.create();
    const other = lab.create(ids.first, '10.0.0.2/32');
    await assert.rejects(other, (error) => isCalicoError(error, 'driver/endpoint-exists'));
    assert.deepEqual(lab.done, ['bind 10.0.0.1']);
  });
});

test('removing an endpoint removes its veth and address, and the tags that only it gave its container', async () => {
  await withEndpoints({ docker: knowing }, async (lab) => {
    await lab.create();
    await lab.join();
    await lab.create(ids.second, '10.0.0.2/32');
    await lab.join(ids.second);
    assert.ok(lab.stored()?.labels.includes('web'), 'each has the tags of the other');
    lab.done.length = 0;
    const removed = { NetworkID: networkId, EndpointID: ids.second };
    lab.endpoints.leave(removed);
    await lab.endpoints.remove(removed, patience);
    await lab.endpoints.remove(removed, patience);
    assert.equal(lab.stored(ids.second), undefined);
    assert.equal(lab.stored()?.labels.includes('web'), false);
    const veth = 'no califffffffffff';
    assert.deepEqual(lab.done.toSorted(), [veth, veth, veth, 'release 10.0.0.2']);
  });
});

test('an endpoint whose address Docker releases next is deleted with it, in one transaction', async () => {
  const addressesOf = { ipam: 'calico' } as const;
  await withEndpoints({ network: addressesOf }, async (lab) => {
    await lab.create();
    const before = lab.writer.transactions;
    await lab.endpoints.delete({ NetworkID: networkId, EndpointID: ids.first }, patience);
    assert.ok(lab.stored() !== undefined, 'Docker has its answer already');
    await lab.writer.write((draft) => draft.put('Handle', 'given-back', {}), patience);
    assert.equal(lab.writer.transactions, before + 1);
    assert.equal(lab.stored(), undefined);
  });
});

test("an endpoint with an address of Docker's own IPAM is deleted before Docker gets its response", async () => {
  await withEndpoints({}, async (lab) => {
    await lab.create();
    await lab.endpoints.delete({ NetworkID: networkId, EndpointID: ids.first }, patience);
    assert.equal(lab.stored(), undefined);
  });
});

test('an endpoint is in the namespace of its network, whatever its container says, and has its labels', async () => {
  const network = { options: { namespace: 'shop' } };
  const posing: DockerApi = {
    ...knowing,
    containerNamed: async () => ({
      Id: 'c1',
      Names: ['/app'],
      State: 'created',
      Labels: {
        'org.projectcalico.profile': 'kns.prod',
        'org.projectcalico.label.projectcalico.org/namespace': 'prod',
        'org.projectcalico.label.pcns.team': 'prod',
        'pcns.team': 'prod',
      },
      NetworkSettings: { Networks: {} },
    }),
  };
  await withEndpoints({ docker: posing, network }, async (lab) => {
    await lab.create();
    await lab.join();
    const { metadata, spec } = lab.whole() ?? assert.fail();
    assert.equal(metadata.namespace, 'shop');
    assert.deepEqual(spec.profiles, ['web', 'kns.shop']);
    assert.deepEqual(metadata.labels, {
      'com.docker.container.name': 'app',
      'com.docker.network.name': 'web',
      'projectcalico.org/namespace': 'shop',
      'projectcalico.org/orchestrator': 'libnetwork',
    });
    assert.equal(
      annotation(lab.whole() ?? assert.fail(), 'ignoredLabels'),
      [
        'label "org.projectcalico.profile=kns.prod": "kns.prod" is reserved by Calico',
        'label "org.projectcalico.label.projectcalico.org/namespace=prod": "projectcalico.org/namespace" is reserved by Calico',
        'label "org.projectcalico.label.pcns.team=prod": "pcns.team" is reserved by Calico',
        'reserved by Calico: "pcns.team"',
      ].join('; '),
    );
    const removed = { NetworkID: networkId, EndpointID: ids.first };
    await lab.writer.write(
      (draft) => draft.remove('DockerNetwork', `${node}/${networkId}`),
      patience,
    );
    await lab.endpoints.remove(removed, patience);
    assert.equal(lab.whole(), undefined, 'it is found without its network');
  });
});
