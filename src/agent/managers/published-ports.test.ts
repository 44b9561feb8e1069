import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { hostCidr, parseCidr } from '../../ip/cidr.ts';
import { withPublishedPorts } from '../../model/published-port.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { PublishedPorts } from './published-ports.ts';

const endpoint: WorkloadEndpoint = {
  kind: 'WorkloadEndpoint',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'e1', namespace: 'libnetwork' },
  spec: {
    orchestrator: 'libnetwork',
    node: 'here',
    endpoint: 'e1',
    interfaceName: 'calie1',
    ipNetworks: [hostCidr(parseAddress('10.65.0.1'))],
  },
};

test('a port that is held on an address which the host has no more is told; on all, and on loopback, not', () => {
  const log = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };
  const ports = new PublishedPorts({
    node: 'here',
    kernel: {
      tables: new Map([[4, { setChain: () => undefined, removeChain: () => undefined }]]),
      links: { setRouteLocalnet: () => undefined },
      addresses: {
        ofInterfaces: () => new Set(),
        answeredFor: () => [parseCidr('127.0.0.0/8'), parseCidr('192.0.2.1/32')],
      },
      conntrack: { end: () => 0 },
    },
    // As a socket that was bound while the host had the address.
    heldPorts: { hold: async () => 0, release: () => undefined },
    log,
  });
  ports.start();
  const publish = (...addresses: readonly string[]) =>
    ports.setEndpoint(
      'e1',
      withPublishedPorts(
        endpoint,
        addresses.map((address, index) => {
          const hostIp = parseAddress(address);
          return { protocol: 'TCP', hostIp, hostPort: 8080 + index, port: 80 };
        }),
      ),
    );
  publish('0.0.0.0', '127.0.0.1', '127.0.0.53');
  assert.deepEqual(ports.problems(), []);
  publish('0.0.0.0', '192.0.2.77');
  assert.deepEqual(ports.problems(), [
    'port 192.0.2.77:8081 is published, but this host has that address no more; give it to an interface again (ip address add), or publish the port on another address',
  ]);
  ports.setEndpoint('e1', undefined);
  assert.deepEqual(ports.problems(), []);
});
