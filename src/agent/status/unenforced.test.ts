import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { HostEndpoint } from '../../model/kinds/host-endpoint.ts';
import { createLogger } from '../../telemetry/log.ts';
import { logUnenforced, unenforcedChecks } from './unenforced.ts';

const hostEndpoint: HostEndpoint = {
  kind: 'HostEndpoint',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'eth0' },
  spec: {},
};

test('stored resources that are not enforced are shown by status and logged once', async () => {
  await using store = await openNodeStore('here');
  const lines: string[] = [];
  const write = (line: string) => lines.push(line);
  logUnenforced(store.mirror, createLogger({ level: 'info', write, now: () => new Date() }));
  const put = (plan: (draft: Draft) => void) => store.writer.write(plan, AbortSignal.timeout(9000));
  const checksOf = () =>
    unenforcedChecks(store.mirror).map(({ name, ok, detail }) => `${name} ${ok}: ${detail}`);
  assert.deepEqual(checksOf(), []);
  await put((draft) => {
    for (let n = 1; n <= 7; n++) {
      draft.put('NetworkPolicy', `shop/default.p${n}`, {
        kind: 'NetworkPolicy',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: `default.p${n}`, namespace: 'shop' },
        spec: {},
      });
    }
    draft.put('HostEndpoint', 'eth0', hostEndpoint);
    draft.put('BGPConfiguration', 'default', {
      kind: 'BGPConfiguration',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'default' },
      spec: {},
    });
    draft.put('OtherResource', 'newkinds/a', {});
    for (const name of ['default', 'first']) {
      draft.put('Tier', name, {
        kind: 'Tier',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec: {},
      });
    }
  });
  const notEnforced = 'not enforced: only Profiles apply to containers';
  assert.deepEqual(checksOf(), [
    'BGPConfiguration true: 1 stored (default), no effect on this host',
    `HostEndpoint false: 1 stored (eth0), ${notEnforced}`,
    `NetworkPolicy false: 7 stored (shop/p1, shop/p2, shop/p3, shop/p4, shop/p5, …), ${notEnforced}`,
    `Tier false: 1 stored (first), ${notEnforced}`,
    'newkinds true: 1 stored (a), no effect on this host',
  ]);
  const warned = () => lines.filter((line) => line.includes('warn policy not enforced'));
  assert.equal(warned().length, 9);
  assert.match(warned().join('\n'), /kind=HostEndpoint name=eth0/);
  await put((draft) => draft.put('HostEndpoint', 'eth0', { ...hostEndpoint, spec: { node: 'a' } }));
  await put((draft) => draft.remove('HostEndpoint', 'eth0'));
  assert.equal(warned().length, 9);
  assert.ok(!checksOf().some((one) => one.startsWith('HostEndpoint')));
});
