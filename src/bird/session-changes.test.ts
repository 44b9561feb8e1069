import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inputsOf, peer } from '../routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../routing/bgp/bgp-model.ts';
import type { ProtocolState } from './protocol-states.ts';
import { SessionChanges } from './session-changes.ts';

const start = Date.parse('2026-11-30T12:00:00Z');
const model = bgpModel(
  inputsOf({
    peers: [peer('a', { peerIP: '192.0.2.254', asNumber: 65_001 })],
  }),
);
const [first, ...others] = model.sessions.map(({ name }) => name);

/** The first session as said, and all others up, since so many seconds after the start. */
function states(state: string, lastError?: string, seconds = 0): readonly ProtocolState[] {
  const about = { isRestarting: false, isPassive: false, isAtLimit: false, session: undefined };
  const of = (name = '', is: string, error?: string): ProtocolState => ({
    name,
    state: is,
    since: new Date(start + seconds * 1000),
    lastError: error,
    ...about,
    imported: 0,
    filtered: 0,
    exported: 0,
  });
  return [of(first, state, lastError), ...others.map((name) => of(name, 'Established'))];
}

test('routes of BIRD are used once all sessions are up after a change, and relied on 30 s later', () => {
  const changes = new SessionChanges();
  const at = (seconds: number, state: string, error?: string) =>
    changes.stateOf(model, states(state, error), start + seconds * 1000);
  changes.changed(start);
  assert.equal(at(1, 'Connect').isOn, false);
  assert.deepEqual(at(2, 'Established'), { isOn: true, isSettled: false, hasRouter: true });
  // Another host makes the change later.
  assert.equal(at(5, 'Active', 'Received: Peer de-configured').isOn, false);
  assert.equal(at(6, 'Established').isOn, true);
  assert.equal(at(11, 'Established').isOn, true);
  assert.equal(at(12, 'Active', 'Received: Peer de-configured').isOn, true, 'the change is over');
  assert.equal(at(31, 'Established').isSettled, true);
});

test('a session that never comes up delays the use of others for 30 s', () => {
  const changes = new SessionChanges();
  changes.changed(start);
  assert.equal(changes.stateOf(model, states('Active'), start + 29_000).isOn, false);
  assert.equal(changes.stateOf(model, states('Active'), start + 31_000).isOn, true);
});

test('a session whose peer or path died is no reason to leave the routes of others, even during a change', () => {
  for (const error of [
    'Error: BFD session down',
    'Error: Hold timer expired',
    'Socket: No route to host',
    'Socket: Connection timed out',
  ]) {
    const changes = new SessionChanges();
    changes.changed(start);
    assert.equal(changes.stateOf(model, states('Idle', error), start + 3000).isOn, true, error);
  }
});

test('there is a router while a session with an address that is no node is up', () => {
  const changes = new SessionChanges();
  const router = model.sessions.find(({ peerNode }) => peerNode === undefined)?.name;
  assert.ok(router);
  const but = states('Established').map((one) =>
    one.name === router ? { ...one, state: 'Active' } : one,
  );
  assert.equal(changes.stateOf(model, but, start + 60_000).hasRouter, false);
  assert.equal(changes.stateOf(model, states('Established'), start + 60_000).hasRouter, true);
});
