import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import { emptyDocker } from '../docker/docker-api.fixture.ts';
import { serviceList } from '../docker/messages.ts';
import { virtualAddresses } from './swarm-services.ts';

const signal = AbortSignal.timeout(600_000);

test('services with a virtual address on a network of ours are named, others are not', async () => {
  await using store = await openNodeStore('here');
  const { mirror, writer } = store;
  const named = serviceList.parse([
    {
      Spec: { Name: 'ours' },
      Endpoint: { VirtualIPs: [{ NetworkID: 'n1', Addr: '10.65.0.9/32' }] },
    },
    {
      Spec: { Name: 'overlay' },
      Endpoint: { VirtualIPs: [{ NetworkID: 'n2', Addr: '10.0.1.2/24' }] },
    },
    { Spec: { Name: 'dnsrr' }, Endpoint: { VirtualIPs: null } },
    { Spec: { Name: 'new' } },
  ]);
  let asked = 0;
  const docker = {
    ...emptyDocker,
    services: async () => {
      asked++;
      return named;
    },
  };
  assert.deepEqual(await virtualAddresses({ docker, mirror }, signal), []);
  assert.equal(asked, 0, 'without a network of Swarm nobody is asked');
  await writer.write((draft) => {
    draft.put('DockerPool', 'a/1', {
      poolId: 'calico;v=4;for=swarm;id=1',
      node: 'a',
      family: 4,
      swarm: { network: 'n1' },
      createdAt: '2026-01-01T00:00:00.000Z',
    });
  }, signal);
  assert.deepEqual(await virtualAddresses({ docker, mirror }, signal), [
    { service: 'ours', address: '10.65.0.9' },
  ]);
  const worker = { ...emptyDocker, services: () => Promise.reject(new Error('no manager')) };
  assert.deepEqual(await virtualAddresses({ docker: worker, mirror }, signal), []);
});
