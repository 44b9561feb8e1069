import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openWriters } from '../../cache/writers.fixture.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import type { Draft } from '../../datastore/writer.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { endpointName, orchestrator } from '../../model/kinds/workload-endpoint.ts';
import { withIpam, labNamespace } from '../ipam-lab.fixture.ts';
import { prefixReservation } from '../../model/kinds/ip-reservation.ts';
import { claimPrefixes, releasePrefixes } from './prefixes.ts';

const used = [{ cidr: parseCidr('203.0.113.0/24'), what: 'the network of interface eth0' }];
const signal = AbortSignal.timeout(600_000);

function idOf(node: string, endpoint: string): string {
  return `${labNamespace}/${endpointName(node, endpoint)}`;
}

/** Claims a prefix as CreateEndpoint does. */
function claim(draft: Draft, node: string, endpoint: string, prefix: string): void {
  const prefixes = [parseCidr(prefix)];
  claimPrefixes(draft, {
    node,
    network: { ipam: 'calico' },
    endpointId: endpoint,
    prefixes,
    used,
    stamp: (resource) => resource,
  });
  putEndpoint(draft, { node, endpoint, prefix, by: orchestrator });
}

function putEndpoint(
  draft: Draft,
  of: {
    readonly node: string;
    readonly endpoint: string;
    readonly prefix: string;
    readonly by: string;
  },
): void {
  const { node, endpoint } = of;
  draft.put('WorkloadEndpoint', idOf(node, endpoint), {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: endpointName(node, endpoint), namespace: labNamespace },
    spec: {
      node,
      endpoint,
      interfaceName: 'cali0',
      orchestrator: of.by,
      allowSpoofedSourcePrefixes: [parseCidr(of.prefix)],
    },
  });
}

test('a prefix that overlaps a pool, a network of the host or another prefix is rejected', () =>
  withIpam(async (lab) => {
    const check = (prefix: string) =>
      lab.plan((draft) => {
        claim(draft, 'host-a', 'new', prefix);
        draft.remove('WorkloadEndpoint', idOf('host-a', 'new'));
      });
    await lab.plan((draft) => {
      claim(draft, 'host-b', 'gateway', '10.9.0.0/24');
      putEndpoint(draft, { node: 'host-b', endpoint: 'pod', prefix: '0.0.0.0/0', by: 'k8s' });
    });
    await check('10.9.1.0/24');
    await lab.plan((draft) => claim(draft, 'host-b', 'gateway', '10.9.0.0/24'));
    for (const [prefix, what] of [
      ['10.9.0.0/16', /prefix 10\.9\.0\.0\/24 behind container endpoint gateway/],
      ['10.9.0.7/32', /prefix 10\.9\.0\.0\/24 behind/],
      ['10.65.0.0/28', /IP pool default-ipv4-ippool \(10\.65\.0\.0\/26\)/],
      ['10.0.0.0/8', /IP pool default-ipv4-ippool/],
      ['203.0.113.0/28', /the network of interface eth0 \(203\.0\.113\.0\/24\)/],
      ['127.0.0.0/24', /loopback/],
      ['0.0.0.0/0', /0\.0\.0\.0\/0/],
    ] as const)
      await assert.rejects(check(prefix), what, prefix);
    await assert.rejects(lab.pool('host-a', '10.9.0.0/25'), /prefix behind container/);
  }));

test('prefixes are reserved until their endpoint is removed', () =>
  withIpam(async (lab) => {
    const reserved = () =>
      lab.plan((draft) => draft.get('IPReservation', prefixReservation)?.spec.reservedCIDRs);
    await lab.plan((draft) => claim(draft, 'host-a', 'one', '10.9.0.0/24'));
    await lab.plan((draft) => claim(draft, 'host-b', 'two', 'fd00:9::/64'));
    assert.deepEqual(await reserved(), ['10.9.0.0/24', 'fd00:9::/64']);
    for (const [node, endpoint, prefix, left] of [
      ['host-a', 'one', '10.9.0.0/24', ['fd00:9::/64']],
      ['host-b', 'two', 'fd00:9::/64', undefined],
    ] as const) {
      await lab.plan((draft) => {
        draft.remove('WorkloadEndpoint', idOf(node, endpoint));
        releasePrefixes(draft, [parseCidr(prefix)]);
      });
      assert.deepEqual(await reserved(), left);
    }
  }));

test('one of two overlapping prefixes claimed concurrently by two hosts is rejected', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'calico-prefixes-'));
  after(() => rm(folder, { recursive: true }));
  const open = () => openSqliteStore(join(folder, 'calico.db'));
  await using crowd = await openWriters(['host-0', 'host-1'], open);
  for (let third = 0; third < 20; third++) {
    const results = await Promise.allSettled(
      crowd.writers.map((writer, index) =>
        writer.write(
          (draft) =>
            claim(
              draft,
              `host-${index}`,
              `e${third}-${index}`,
              `10.${third}.0.0/${index === 0 ? 16 : 24}`,
            ),
          signal,
        ),
      ),
    );
    const claimed = results.filter(({ status }) => status === 'fulfilled');
    assert.equal(claimed.length, 1, `${third}: ${results.map(({ status }) => status).join()}`);
  }
});
