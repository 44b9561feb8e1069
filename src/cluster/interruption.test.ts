import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClusterFile } from './cluster-file.ts';
import { interruptionOf } from './interruption.ts';

const joined: ClusterFile = {
  uid: 'u',
  node: 'host-1',
  part: 'member',
  state: 'joined',
  endpoints: [],
};

/** What is said of a host whose cluster file differs from that of a host that has joined. */
const said = (
  changes: Partial<ClusterFile>,
  { isMoved = false, hasOwnDatastore = true } = {},
): string => {
  const file = { ...joined, ...changes };
  const found = interruptionOf({ file, isMoved, hasOwnDatastore });
  return found === undefined ? '' : `${found.command}: ${found.reached}; ${found.remedy}`;
};

test('of a host whose commands have ended nothing is said', () => {
  assert.equal(said({}), '');
});

test('an init or join is finished by running it again, and undone by leave until the data has moved', () => {
  for (const [state, command] of [
    ['initializing', 'init'],
    ['joining', 'join'],
  ] as const) {
    assert.match(
      said({ state }),
      new RegExp(
        `^cluster ${command}: no data was moved; run it again .* cluster ${command}.*undo.*leave$`,
      ),
    );
    const moved = said({ state }, { isMoved: true });
    assert.match(moved, /: the data of this host is in the cluster; run it again/);
    assert.match(moved, /lost for good: calico-cnm cluster leave --force$/);
  }
});

test('a leave is finished by running it again, with the option that it had', () => {
  assert.match(said({ step: 'announced' }), /^cluster leave: the members know.*cluster leave$/);
  assert.match(said({ state: 'leaving' }), /^cluster leave: .*cluster leave$/);
  assert.match(said({ state: 'leaving', step: 'alone' }), /no longer.*cluster leave$/);
  assert.match(
    said({ state: 'leaving', step: 'alone' }, { hasOwnDatastore: false }),
    /still one of its cluster.*cluster leave --force$/,
  );
});

test('a restore is named with its file', () => {
  assert.match(
    said({ restoring: '/var/backups/calico.db' }),
    /^cluster restore: .*calico-cnm cluster restore \/var\/backups\/calico\.db$/,
  );
});
