import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../cache/mirrored-store.fixture.ts';
import { parseAddress } from '../ip/address.ts';
import { parseCidr, parseNet } from '../ip/cidr.ts';
import { ApplyFailures } from './apply-failures.ts';
import { failureChecks } from './status/failure-checks.ts';

const signal = AbortSignal.timeout(600_000);

test('a rejected item is logged once, and again when it succeeds or fails for another reason', () => {
  const told: string[] = [];
  const log = {
    error: () => 0,
    debug: () => 0,
    warn: (_: string, facts?: unknown) => told.push(`refused ${JSON.stringify(facts)}`),
    info: (_: string, facts?: unknown) => told.push(`mended ${JSON.stringify(facts)}`),
  };
  const failures = new ApplyFailures(log);
  const net = parseNet('10.0.0.1/32');
  const route = { what: 'route', why: 'EINVAL', net };
  failures.finish([route]);
  failures.finish([route]);
  assert.deepEqual(told, ['refused {"what":"route","why":"EINVAL"}']);
  assert.equal(failures.about([net]), 'route: EINVAL');
  assert.equal(failures.about([parseNet('10.0.0.2/32')]), undefined);
  failures.finish([{ ...route, why: 'EPERM' }]);
  failures.attempt('flows', () => {
    throw new Error('busy');
  });
  assert.equal(failures.hasDue, false, 'it was tried a moment ago');
  failures.finish([]);
  assert.deepEqual(failures.all(), [{ what: 'flows', why: 'busy' }]);
  failures.attempt('flows', () => undefined);
  failures.finish([]);
  assert.deepEqual(told.slice(1), [
    'refused {"what":"route","why":"EPERM"}',
    'refused {"what":"flows","why":"busy"}',
    'mended {"what":"route"}',
    'mended {"what":"flows"}',
  ]);
  assert.deepEqual(failures.all(), []);
});

test('status names each thing that is refused with the objects that want it, twenty at most', async () => {
  await using store = await openNodeStore('here');
  const { mirror, writer } = store;
  await writer.write((draft) => {
    for (const [name, cidr] of [
      ['wide', '10.65.0.0/16'],
      ['all', '0.0.0.0/0'],
      ['all6', '::/0'],
    ] as const) {
      draft.put('IPPool', name, {
        kind: 'IPPool',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec: { cidr: parseCidr(cidr), blockSize: cidr.includes(':') ? 122 : 26 },
      });
    }
    for (const [id, more] of [
      ['e1', { workload: 'app', containerID: 'c'.repeat(64) }],
      ['e2', {}],
    ] as const) {
      draft.put('WorkloadEndpoint', `libnetwork/${id}`, {
        kind: 'WorkloadEndpoint',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: id, namespace: 'libnetwork' },
        spec: {
          orchestrator: 'libnetwork',
          node: 'here',
          endpoint: id,
          interfaceName: 'cali1',
          ipNetworks: [parseNet('10.65.0.1/32')],
          ...more,
        },
      });
    }
    draft.put('DockerNetwork', 'here/n', {
      id: 'n'.repeat(64),
      node: 'here',
      ipam: 'docker',
      internal: false,
      ipv4: true,
      ipv6: false,
      subnets: [],
      options: {},
      nextHop4: parseAddress('169.254.7.7'),
    });
  }, signal);
  const details = (...nets: readonly string[]) =>
    failureChecks(
      nets.map((net) => ({ what: 'it', why: 'EINVAL', net: parseNet(net) })),
      mirror,
    ).map(({ detail }) => detail);
  assert.deepEqual(details('10.65.0.0/16', '10.65.0.1/32', '169.254.7.7/32', '10.1.1.1/32'), [
    'it (IP pool wide): EINVAL',
    'it (container app on here, endpoint e2 on here): EINVAL',
    `it (network ${'n'.repeat(12)}): EINVAL`,
    'it: EINVAL',
  ]);
  // A set stores two halves instead of a network of all addresses.
  assert.deepEqual(details('0.0.0.0/1', '8000::/1'), [
    'it (IP pool all): EINVAL',
    'it (IP pool all6): EINVAL',
  ]);
  const many = Array.from({ length: 23 }, () => '10.1.1.1/32');
  const checks = details(...many);
  assert.deepEqual([checks.length, checks.at(-1)], [21, 'and 3 more like these']);
  const [check] = failureChecks([{ what: 'a setting', why: 'EPERM' }], mirror);
  assert.deepEqual(
    [check?.name, check?.ok, check?.detail],
    ['dataplane', false, 'a setting: EPERM'],
  );
});
