import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../ip/address.ts';
import { hostCoverage, interfacesOf } from './host-coverage.ts';
import type { HostEndpoint } from '../model/kinds/host-endpoint.ts';

const interfaces = [
  { name: 'lo', addresses: [parseAddress('127.0.0.1')] },
  { name: 'eth0', addresses: [parseAddress('192.0.2.1'), parseAddress('2001:db8::1')] },
  { name: 'docker0', addresses: [parseAddress('172.17.0.1')] },
  { name: 'cali123', addresses: [parseAddress('192.0.2.1')] },
];

function covered(specs: Readonly<Record<string, HostEndpoint['spec']>>): string {
  const endpoints = new Map(
    Object.entries(specs).map(([name, spec]) => [
      name,
      {
        kind: 'HostEndpoint' as const,
        apiVersion: 'projectcalico.org/v3' as const,
        metadata: { name },
        spec: { node: 'here', ...spec },
      },
    ]),
  );
  const coverage = hostCoverage(endpoints, interfaces);
  const present = Object.keys(specs).map(
    (name) => `${name}: ${interfacesOf(name, coverage, interfaces).join(' ')}`,
  );
  return present.join('; ');
}

test('a host endpoint covers interfaces by name, by address, or all others; never lo and those of containers', () => {
  assert.equal(covered({ all: { interfaceName: '*' } }), 'all: docker0 eth0');
  assert.equal(
    covered({ all: { interfaceName: '*' }, uplink: { interfaceName: 'eth0' } }),
    'all: docker0; uplink: eth0',
  );
  assert.equal(covered({ v6: { expectedIPs: ['2001:db8:0::1'] } }), 'v6: eth0');
  assert.equal(covered({ none: { expectedIPs: ['127.0.0.1', '198.51.100.1'] } }), 'none: ');
  assert.equal(covered({ lo: { interfaceName: 'lo' } }), 'lo: ');
  assert.equal(covered({ container: { interfaceName: 'cali123' } }), 'container: ');
});

test('of several host endpoints of an interface the first by name counts', () => {
  const byName = { interfaceName: 'eth0' };
  const byAddress = { expectedIPs: ['192.0.2.1'] };
  assert.equal(covered({ a: byName, b: byAddress }), 'a: eth0; b: ');
  assert.equal(covered({ b: byName, a: byAddress }), 'b: ; a: eth0');
  assert.equal(
    covered({ y: { interfaceName: '*' }, x: { interfaceName: '*' } }),
    'y: ; x: docker0 eth0',
  );
  // A name excludes addresses.
  assert.equal(covered({ a: { interfaceName: 'eth9', ...byAddress } }), 'a: ');
});
