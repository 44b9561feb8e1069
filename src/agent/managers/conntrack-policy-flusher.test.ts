import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Flow } from '../../dataplane/conntrack.ts';
import { parseAddress } from '../../ip/address.ts';
import { hostCidr } from '../../ip/cidr.ts';
import type { PolicyRule } from '../../model/policy-rule.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { compileProfile } from '../../profiles/compile/compiled-policy.ts';
import { stackOf } from '../../profiles/compile/stack.ts';
import { ConntrackPolicyFlusher } from './conntrack-policy-flusher.ts';

const publishedMark = 0x20;
const host = parseAddress('192.0.2.1');
const container = parseAddress('10.65.0.1');
const client = parseAddress('203.0.113.9');

function endpoint(profiles: readonly string[]): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'here-libnetwork-libnetwork-e1', namespace: 'libnetwork' },
    spec: {
      orchestrator: 'libnetwork',
      node: 'here',
      endpoint: 'e1',
      ipNetworks: [hostCidr(container)],
      profiles: [...profiles],
      interfaceName: 'calie1',
    },
  };
}

/** From a client to port 8080 of the host, which is published for port 80 of the container. */
const published: Flow = {
  family: 4,
  source: client,
  destination: host,
  answerer: container,
  protocol: 6,
  sourcePort: 40_000,
  destinationPort: 8080,
  answeringPort: 80,
  mark: publishedMark,
  tuple: Buffer.of(),
};
/** A network on which rules alone decide about published ports. */
const strict: Flow = { ...published, mark: 0 };
const direct: Flow = { ...published, destination: container, destinationPort: 80, mark: 0 };
const ofHost: Flow = { ...published, source: host, mark: 0 };
const ofLoopback: Flow = { ...ofHost, source: parseAddress('127.0.0.1') };
const all: Readonly<Record<string, Flow>> = { published, strict, direct, ofHost, ofLoopback };

/**
 * Returns the flows that are flushed if the container's only Profile has these rules; `undefined`: no such Profile.
 */
function ended(ingress: readonly PolicyRule[] | undefined, profiles = ['web']) {
  let found: readonly string[] = [];
  const ender = new ConntrackPolicyFlusher(
    {
      node: 'here',
      families: [4],
      endsForbiddenFlows: true,
      kernel: {
        conntrack: {
          flush: (_, isToEnd) => {
            found = Object.keys(all).filter((name) => isToEnd(all[name] ?? direct));
            return found.length;
          },
        },
        rules: { cameByPublishedPort: (mark) => mark === publishedMark },
        addresses: { ofInterfaces: () => new Set([host]) },
        losses: () => 0,
      },
      domains: { formerSetsOf: () => [] },
    },
    {
      stackOf: ({ spec }) => stackOf([], spec.profiles ?? []),
      compiled: (_, { name }) =>
        compileProfile(
          name,
          ingress && {
            kind: 'Profile',
            apiVersion: 'projectcalico.org/v3',
            metadata: { name },
            spec: { ingress: [...ingress] },
          },
        ),
      selectorContains: () => false,
      selectsDomains: () => false,
      hasNamedPort: () => false,
    },
  );
  const now = endpoint(profiles);
  ender.setEndpoint(endpoint(['before']), now);
  ender.apply('routes');
  return found;
}

test('a connection by a published port is evaluated at the port of its container', () => {
  const port = (number: number): PolicyRule => ({
    action: 'Deny',
    protocol: 'TCP',
    destination: { ports: [number] },
  });
  const others: PolicyRule = { action: 'Allow' };
  assert.deepEqual(ended([others]), []);
  assert.deepEqual(ended([port(80), others]), ['published', 'strict', 'direct']);
  assert.deepEqual(ended([port(8080), others]), []);
});

test('without a matching rule a published port stays open, and the host always reaches its containers', () => {
  assert.deepEqual(ended([]), ['strict', 'direct']);
  assert.deepEqual(ended([{ action: 'Deny' }]), ['published', 'strict', 'direct']);
  assert.deepEqual(ended(undefined), ['published', 'strict', 'direct'], 'no such Profile');
  assert.deepEqual(ended([], []), ['published', 'strict', 'direct'], 'quarantine');
});
