import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyDocker } from '../docker/docker-api.fixture.ts';
import type { DockerApi } from '../docker/docker-api.ts';
import type { ContainerInfo } from '../docker/messages.ts';
import { withoutPolicyLabels } from './policy-labels.ts';

const container: ContainerInfo = {
  Id: 'c1',
  Names: ['/app'],
  State: 'running',
  Labels: {
    'org.projectcalico.profile': 'db',
    'org.projectcalico.label.tier': 'data',
    'com.docker.compose.project': 'shop',
  },
};

const engine: DockerApi = {
  ...emptyDocker,
  containers: async () => [container],
  newContainers: async () => [container],
  containerNamed: async (name) => (name === 'app' ? container : undefined),
};

test('labels that select policy are hidden, others are visible', async () => {
  const signal = AbortSignal.timeout(1000);
  const docker = withoutPolicyLabels(engine);
  const seen = { ...container, Labels: { 'com.docker.compose.project': 'shop' } };
  assert.deepEqual(await docker.containers(signal), [seen]);
  assert.deepEqual(await docker.newContainers(signal), [seen]);
  assert.deepEqual(await docker.containerNamed('app', signal), seen);
  assert.equal(await docker.containerNamed('other', signal), undefined);
  assert.deepEqual(await docker.engine(signal), await engine.engine(signal));
});
