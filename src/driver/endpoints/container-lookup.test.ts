import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyDocker } from '../docker/docker-api.fixture.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import { lookUpContainer } from './container-lookup.ts';
import type { ContainerInfo } from '../docker/messages.ts';

const signal = AbortSignal.timeout(10_000);
const endpoint = { networkId: 'n1', endpointId: 'e1' };
const other: ContainerInfo = { Id: 'c0', Names: ['/other'], State: 'created', Labels: {} };
const app: ContainerInfo = {
  Id: 'c1',
  Names: ['/app'],
  State: 'created',
  Labels: { tier: 'data' },
};
const found = {
  kind: 'found',
  networkName: 'web',
  container: { id: 'c1', name: 'app', labels: { tier: 'data' } },
};

/** A Docker that names the container of the endpoint; every request ends in a later turn of the event loop. */
function dockerWith({ fresh }: { readonly fresh: readonly ContainerInfo[] }) {
  const requests = { sent: 0, inTurn: 0 };
  const later = async <T>(answer: T): Promise<T> => {
    if (requests.sent++ === 0) requests.inTurn++;
    await new Promise(setImmediate);
    requests.sent--;
    return answer;
  };
  const docker: DockerApi = {
    ...emptyDocker,
    network: (Id) =>
      later({
        Id,
        Name: 'web',
        Driver: 'calico',
        IPAM: { Options: {}, Config: [] },
        Containers: { c1: { Name: 'app', EndpointID: 'e1' } },
      }),
    newContainers: () => later([...fresh]),
    containerNamed: (name) => later(name === 'app' ? app : undefined),
  };
  return { docker, requests };
}

test('a new container is found by requests that are sent at once', async () => {
  const { docker, requests } = dockerWith({ fresh: [other, app] });
  assert.deepEqual(await lookUpContainer(docker, endpoint, signal), found);
  assert.equal(requests.inTurn, 1);
});

test('a container that starts again is found by its name', async () => {
  const { docker, requests } = dockerWith({ fresh: [other] });
  assert.deepEqual(await lookUpContainer(docker, endpoint, signal), found);
  assert.equal(requests.inTurn, 2);
});

test('an endpoint that Docker does not list, or whose container it does not list, is unknown', async () => {
  const { docker } = dockerWith({ fresh: [app] });
  const unlisted = await lookUpContainer(docker, { ...endpoint, endpointId: 'e2' }, signal);
  assert.deepEqual(unlisted, { kind: 'unknown', why: 'Docker does not list the endpoint yet' });
  const gone = { ...dockerWith({ fresh: [] }).docker, containerNamed: async () => undefined };
  assert.deepEqual(await lookUpContainer(gone, endpoint, signal), {
    kind: 'unknown',
    why: 'Docker does not list the container app',
  });
});
