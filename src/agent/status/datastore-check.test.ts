import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import { bootstrap } from '../../datastore/bootstrap.ts';
import {
  withMoveMark,
  type ClusterInformation,
  type MoveMark,
} from '../../model/kinds/cluster-information.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import { createStamp } from '../../model/stamp.ts';
import { datastoreCheck } from './datastore-check.ts';

const signal = AbortSignal.timeout(600_000);
const stamp = createStamp({ now: () => new Date(), uuid: randomUUID });
const mark = { id: 'm', node: 'host-1', from: '/f.db', to: 'https://e', since: '2026-01-01' };

test('a datastore that is locked by a command names the command, and what to type', async () => {
  await using store = await openMirroredStore();
  const { mirror, writer } = store;
  await writer.write((draft) => bootstrap(draft, { nodeName: 'host-1', stamp }), signal);
  assert.equal(datastoreCheck(mirror).ok, true);
  const change = (to: (present: ClusterInformation) => ClusterInformation) =>
    store.datastore.commit(
      {
        compares: [],
        writes: [encoded(to(mirror.get('ClusterInformation', 'default')?.value ?? assert.fail()))],
      },
      signal,
    );
  const shown = async (state: MoveMark['state']) => {
    const { revision } = await change((present) => withMoveMark(present, { ...mark, state }));
    await mirror.reached(revision, signal);
    return datastoreCheck(mirror);
  };
  const moving = await shown('copying');
  assert.equal(moving.ok, false);
  assert.match(
    moving.detail,
    /\/f\.db is being moved to https:\/\/e by .* host-1 .*datastore unlock$/,
  );
  assert.match((await shown('restored')).detail, /was restored from \/f\.db .*datastore unlock$/);
  const { revision } = await change((present) => withMoveMark(present, undefined));
  await mirror.reached(revision, signal);
  assert.equal(datastoreCheck(mirror).ok, true);
});

function encoded(value: ClusterInformation): { readonly key: string; readonly value: string } {
  const { key, encode } = entryTypeOf.ClusterInformation;
  return { key: key('default'), value: encode(value) };
}
