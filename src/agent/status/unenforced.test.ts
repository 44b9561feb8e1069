import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNodeStore } from '../../cache/mirrored-store.fixture.ts';
import type { Draft } from '../../datastore/writer.ts';
import { createLogger } from '../../telemetry/log.ts';
import { logUnenforced, unenforcedChecks } from './unenforced.ts';

test('stored resources that have no effect are shown by status and logged once', async () => {
  await using store = await openNodeStore('here');
  const lines: string[] = [];
  const write = (line: string) => lines.push(line);
  logUnenforced(store.mirror, createLogger({ level: 'info', write, now: () => new Date() }));
  const put = (plan: (draft: Draft) => void) => store.writer.write(plan, AbortSignal.timeout(9000));
  const place = { tier: 'default', kind: 'StagedNetworkPolicy', namespace: 'shop' } as const;
  const engine = { stagedHere: () => [{ ...place, name: 'default.p1' }] };
  const checksOf = () =>
    unenforcedChecks(store.mirror, engine).map(
      ({ name, ok, detail }) => `${name} ${ok}: ${detail}`,
    );
  assert.deepEqual(checksOf(), []);
  await put((draft) => {
    for (let n = 1; n <= 7; n++) {
      draft.put('StagedNetworkPolicy', `shop/default.p${n}`, {
        kind: 'StagedNetworkPolicy',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: `default.p${n}`, namespace: 'shop' },
        spec: {},
      });
    }
    draft.put('OtherResource', 'newkinds/a', {});
  });
  assert.deepEqual(checksOf(), [
    'StagedNetworkPolicy true: 7 stored (shop/p1, shop/p2, shop/p3, shop/p4, shop/p5, …), not enforced; 1 of them select containers or interfaces here',
    'newkinds true: 1 stored (a), no effect on this host',
  ]);
  const logged = () => lines.filter((line) => line.includes('has no effect on this host'));
  assert.equal(logged().length, 8);
  assert.match(logged().join('\n'), /kind=newkinds name=a/);
  await put((draft) => draft.put('OtherResource', 'newkinds/a', { b: 1 }));
  await put((draft) => draft.remove('OtherResource', 'newkinds/a'));
  assert.equal(logged().length, 8);
  assert.ok(!checksOf().some((one) => one.startsWith('newkinds')));
});
