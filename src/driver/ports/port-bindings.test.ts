import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { portBindings } from './port-bindings.ts';
import {
  publishedPorts,
  withPublishedPorts,
  type PublishedPort,
} from '../../model/published-port.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';

const endpoint: WorkloadEndpoint = {
  kind: 'WorkloadEndpoint',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'a' },
  spec: {
    orchestrator: 'libnetwork',
    node: 'host-a',
    endpoint: 'a',
    ipNetworks: [parseCidr('10.65.0.1/32')],
    interfaceName: 'calia',
  },
};

const port = (hostIp: string, hostPort: number): PublishedPort => ({
  protocol: 'TCP',
  hostIp: parseAddress(hostIp),
  hostPort,
  port: 80,
});

test("published ports are stored in Calico's form, and read back", () => {
  const ports = [port('0.0.0.0', 8080), port('::1', 8081)];
  const written = withPublishedPorts(endpoint, ports);
  assert.deepEqual(written.spec.ports?.[0], {
    name: 'tcp-8080',
    protocol: 'TCP',
    port: 80,
    hostPort: 8080,
    hostIP: '0.0.0.0',
  });
  assert.deepEqual(publishedPorts(written), ports);
  assert.deepEqual(withPublishedPorts(written, []), endpoint);
});

test('named ports written by others stay', () => {
  const named = { name: 'http', protocol: 'TCP', port: 80 };
  const before = { ...endpoint, spec: { ...endpoint.spec, ports: [named] } };
  const written = withPublishedPorts(before, [port('0.0.0.0', 8080)]);
  assert.deepEqual(publishedPorts(written), [port('0.0.0.0', 8080)]);
  assert.deepEqual(withPublishedPorts(written, []), before);
});

test('a port on all IPv4 addresses is also served on ::1, one on a single address is not', () => {
  const held = (ports: readonly PublishedPort[], families: readonly (4 | 6)[]) =>
    portBindings(endpoint, ports, families).map(({ address, relayTo }) => [
      address,
      relayTo?.address,
    ]);
  assert.deepEqual(held([port('0.0.0.0', 8080)], [4, 6]), [
    ['0.0.0.0', undefined],
    ['::1', '10.65.0.1'],
  ]);
  assert.deepEqual(held([port('0.0.0.0', 8080)], [4]), [['0.0.0.0', undefined]]);
  assert.deepEqual(held([port('127.0.0.1', 8080)], [4, 6]), [['127.0.0.1', undefined]]);
  assert.deepEqual(held([port('::1', 8080)], [4, 6]), [['::1', '10.65.0.1']]);
});

test('with very many ports none is relayed, so that each takes one socket', () => {
  const relays = (count: number) => {
    const ports = Array.from({ length: count }, (_, index) => port('0.0.0.0', 1 + index));
    const bindings = portBindings(endpoint, ports, [4, 6]);
    return [bindings.length, bindings.filter(({ relayTo }) => relayTo !== undefined).length];
  };
  assert.deepEqual(relays(1000), [2000, 1000]);
  assert.deepEqual(relays(1001), [1001, 0]);
});
