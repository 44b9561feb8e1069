import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inBackground } from '../async/background.fixture.ts';
import { looseWork } from '../async/supervise.fixture.ts';
import { openMirroredStore } from '../cache/mirrored-store.fixture.ts';
import type { CalicoNodeStatus } from '../model/kinds/calico-node-status.ts';
import { keepNodeStatuses } from './node-statuses.ts';

const signal = AbortSignal.timeout(600_000);

function request(name: string, spec: CalicoNodeStatus['spec']): CalicoNodeStatus {
  return {
    kind: 'CalicoNodeStatus',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec,
  };
}

test('a node answers the requests that name it, in their period, and reads routes only if asked for', async () => {
  await using store = await openMirroredStore();
  const { mirror, writer } = store;
  let now = new Date('2026-11-30T05:00:00Z');
  const asked: boolean[] = [];
  const requests = [
    request('mine', { node: 'a', classes: ['Agent'], updatePeriodSeconds: 10 }),
    request('never', { node: 'a', classes: ['Agent', 'Routes'], updatePeriodSeconds: 0 }),
    request('other', { node: 'b', classes: ['Agent', 'Routes'], updatePeriodSeconds: 1 }),
  ];
  const { revision } = await writer.write((draft) => {
    for (const one of requests) draft.put('CalicoNodeStatus', one.metadata.name, one);
  }, signal);
  await mirror.reached(revision, signal);
  const facts = (withRoutes: boolean) => {
    asked.push(withRoutes);
    const daemon = { state: 'Ready' } as const;
    return Promise.resolve({ daemon, sessions: [], states: [], routes: { 4: [], 6: [] } });
  };
  const stored = (name: string) => mirror.get('CalicoNodeStatus', name)?.value.status;
  const becomes = async (isSo: () => boolean) => {
    while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const running = inBackground((stop) =>
    keepNodeStatuses({ node: 'a', mirror, writer, facts, now: () => now }, looseWork(), stop),
  );
  try {
    await becomes(() => stored('mine')?.lastUpdated === '2026-11-30T05:00:00Z');
    assert.deepEqual(stored('mine')?.agent?.birdV4, { state: 'Ready' });
    now = new Date('2026-11-30T05:00:12Z');
    await becomes(() => stored('mine')?.lastUpdated === '2026-11-30T05:00:12Z');
    // A clock that was in the future must not end the updates.
    now = new Date('2026-11-30T04:00:00Z');
    await becomes(() => stored('mine')?.lastUpdated === '2026-11-30T04:00:00Z');
    assert.equal(stored('never'), undefined);
    assert.equal(stored('other'), undefined);
    assert.deepEqual(asked, [false, false, false]);
  } finally {
    await running.stop();
  }
});
