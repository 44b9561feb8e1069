import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { forwards } from '../../dataplane/host-settings.ts';
import { GuardedIpv6Forwarding } from './ipv6-forwarding.ts';

const skip = forwards(6) ? 'this host forwards IPv6 already' : false;

test(
  'forwarding that could not be enabled is reported, and retried until it is',
  { skip },
  async () => {
    const guards: boolean[] = [];
    const logged: string[] = [];
    const note = (text: string) => void logged.push(text);
    let tried = 0;
    let problem: string | undefined = 'the host does not let us';
    const forwarding = new GuardedIpv6Forwarding({
      hostRules: {
        change: (_, { guardsForwarding }) => void guards.push(guardsForwarding === true),
      },
      ipv6Forwarding: {
        isOwn: false,
        switchOn: () => {
          tried++;
          return problem;
        },
        keepAdvertisements: () => undefined,
      },
      families: [4, 6],
      log: { error: note, warn: note, info: note, debug: note },
    });
    forwarding.start();
    forwarding.apply('tables');
    assert.equal(tried, 0, 'no container has an IPv6 address');
    forwarding.onEvent({ kind: 'linkMade', name: 'cali1', hasIpv6: false });
    forwarding.apply('tables');
    assert.deepEqual([tried, guards.length], [0, 0]);
    forwarding.onEvent({ kind: 'linkMade', name: 'cali2', hasIpv6: true });
    assert.ok(guards.length > 0, 'the guard comes first');
    forwarding.apply('additions');
    assert.equal(tried, 0, 'the guard is not in force yet');
    forwarding.apply('tables');
    forwarding.apply('tables');
    assert.equal(tried, 1, 'not again at once');
    assert.deepEqual(forwarding.failures(), [{ what: 'IPv6 forwarding', why: problem }]);
    assert.deepEqual(logged, [problem]);
    problem = undefined;
    while (!forwarding.poll()) await pause(20);
    forwarding.apply('tables');
    assert.deepEqual(forwarding.failures(), []);
    assert.equal(logged.at(-1), 'IPv6 forwarding enabled for containers');
    forwarding.apply('tables');
    assert.equal(tried, 2, 'done once');
  },
);
