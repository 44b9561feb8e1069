import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import { publishedPorts, withPublishedPorts, type PublishedPort } from './published-port.ts';
import type { WorkloadEndpoint } from './kinds/workload-endpoint.ts';

const endpoint: WorkloadEndpoint = {
  kind: 'WorkloadEndpoint',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'a', annotations: {} },
  spec: {
    orchestrator: 'libnetwork',
    node: 'host-a',
    endpoint: 'a',
    ipNetworks: [parseCidr('10.65.0.1/32')],
    interfaceName: 'calia',
  },
};

const run = fc
  .record({
    protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
    hostIp: fc.constantFrom('0.0.0.0', '::', '192.0.2.1').map(parseAddress),
    hostPort: fc.integer({ min: 1, max: 65_400 }),
    port: fc.integer({ min: 1, max: 65_400 }),
    count: fc.integer({ min: 1, max: 60 }),
  })
  .map(({ count, ...first }): readonly PublishedPort[] => range(first, count));

test('published ports are read back, each once, in any order of requests', () => {
  fc.assert(
    fc.property(
      fc.array(run, { maxLength: 5 }).chain((runs) => {
        const ports = [...new Map(runs.flat().map((one) => [JSON.stringify(one), one])).values()];
        return fc.shuffledSubarray(ports, { minLength: ports.length });
      }),
      fc.boolean(),
      (shuffled, isSorted) => {
        const ports = isSorted ? shuffled.toSorted((a, b) => a.hostPort - b.hostPort) : shuffled;
        const written = withPublishedPorts(endpoint, ports);
        assert.deepEqual(texts(publishedPorts(written)), texts(ports));
        assert.deepEqual(withPublishedPorts(written, []), endpoint);
      },
    ),
  );
});

test('all ports of two families and two protocols are stored in a few lines', () => {
  const ports = (['TCP', 'UDP'] as const).flatMap((protocol) =>
    ['0.0.0.0', '::'].flatMap((host) =>
      range({ protocol, hostIp: parseAddress(host), hostPort: 1, port: 1 }, 65_535),
    ),
  );
  const written = withPublishedPorts(endpoint, ports);
  assert.ok(JSON.stringify(written).length < 1000);
  assert.equal(publishedPorts(written).length, ports.length);
});

test('an invalid range is skipped, the others are not', () => {
  const ranges = 'UDP 0.0.0.0 20-10 1,UDP x 1-2 1,SCTP :: 65530-65540 1,ICMP :: 1-2 1,UDP :: 7-8 9';
  const annotations = { 'docker.projectcalico.org/published-ranges': ranges };
  const stored = { ...endpoint, metadata: { ...endpoint.metadata, annotations } };
  assert.deepEqual(
    publishedPorts(stored),
    range({ protocol: 'UDP', hostIp: parseAddress('::'), hostPort: 7, port: 9 }, 2),
  );
});

function range(first: PublishedPort, count: number): readonly PublishedPort[] {
  return Array.from({ length: count }, (_, index) => ({
    ...first,
    hostPort: first.hostPort + index,
    port: first.port + index,
  }));
}

function texts(ports: readonly PublishedPort[]): readonly string[] {
  return ports.map((one) => Object.values(one).join(' ')).toSorted();
}
