import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { comes, endpoint, fromWeb, profile, until, withAgent } from './agent-lab.fixture.ts';

test('who waits for the next round gets one that began later, and that succeeded', () =>
  withAgent(async (lab) => {
    await lab.told(1n);
    const { rounds } = lab.agent.health;
    await lab.agent.nextRound(lab.stop.signal);
    assert.equal(lab.agent.health.rounds, rounds + 1);
    lab.kernel.refuses.add('phase tables');
    let isAnswered = false;
    const answer = lab.agent.nextRound(lab.stop.signal).then(() => (isAnswered = true));
    await until(() => lab.agent.health.lastError !== undefined);
    assert.deepEqual([isAnswered, lab.agent.health.inSyncSince], [false, undefined]);
    lab.kernel.refuses.clear();
    await answer;
    assert.notEqual(lab.agent.health.inSyncSince, undefined);
    lab.mirror.inSync = false;
    await assert.rejects(lab.agent.nextRound(AbortSignal.abort(new Error('it stops'))));
  }));

test('what BGP does is programmed at once, and a repetition of it is not', () =>
  withAgent(async (lab) => {
    await lab.told(1n);
    const isGuarded = () => [...lab.kernel.chains.values()].some((rules) => rules.includes('179'));
    assert.ok(!isGuarded());
    await lab.written(() => lab.agent.setBgpListener({ port: 179, peers: [] }));
    assert.ok(isGuarded());
    const { rounds } = lab.agent.health;
    lab.agent.setBgp({ isOn: true, isSettled: true, hasRouter: false });
    await until(() => lab.agent.health.rounds > rounds);
    lab.agent.setBgp({ isOn: true, isSettled: true, hasRouter: false });
    await pause(5);
    assert.equal(lab.agent.health.rounds, rounds + 1);
  }));

test('an interface that was made is taken at once; so are tables that another program changed during a round', () =>
  withAgent(async (lab) => {
    await lab.told(1n);
    const made = lab.kernel.events.length;
    await lab.written(() => lab.agent.linkMade('cali1', { hasIpv6: true }));
    assert.deepEqual(lab.kernel.events[made], { kind: 'linkMade', name: 'cali1', hasIpv6: true });
    await pause(5);
    lab.kernel.events.length = 0;
    const { rounds } = lab.kernel;
    lab.tell(2n);
    lab.agent.onKernelEvents([{ kind: 'nftables', processId: 7 }]);
    assert.deepEqual(lab.kernel.events, [], 'our own writes are reported, too');
    lab.kernel.tablesWereChanged = true;
    await until(() => lab.kernel.rounds === rounds + 2);
    assert.deepEqual(lab.kernel.events, [
      { kind: 'nftables', processId: undefined },
      { kind: 'nftables', processId: undefined },
    ]);
    await pause(5);
    assert.equal(lab.kernel.rounds, rounds + 2);
    lab.kernel.tablesWereChanged = true;
    await lab.written(() => lab.agent.onKernelEvents([{ kind: 'nftables', processId: 7 }]));
    lab.kernel.nextEventFails = true;
    const from = lab.kernel.journal.length;
    await lab.told(3n);
    await until(() => lab.kernel.journal.slice(from).includes('resync'));
  }));

test('a failed poll is reported, and repaired by a full resync', () =>
  withAgent(async (lab) => {
    await lab.told(1n);
    await until(() => lab.kernel.polls.length > 0);
    assert.equal(lab.kernel.polls[0], true);
    lab.kernel.refuses.add('poll');
    await until(() => lab.agent.health.lastError !== undefined);
    assert.match(lab.agent.health.lastError?.what ?? '', /poll failed/);
    lab.kernel.refuses.clear();
    await until(() => lab.agent.health.inSyncSince !== undefined);
    assert.ok(lab.kernel.journal.filter((what) => what === 'resync').length > 1);
  }));

test('everything is read again, and what the kernel rejected is tried again, every ten minutes', async () => {
  mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
  try {
    await withAgent(async (lab) => {
      await lab.told(1n);
      const polled = async () => {
        const { length } = lab.kernel.polls;
        await until(() => lab.kernel.polls.length > length);
      };
      const count = (what: string) => lab.kernel.journal.filter((one) => one === what).length;
      await polled();
      mock.timers.setTime(1_600_000);
      await polled();
      assert.deepEqual([count('resync'), count('retry refused chains')], [1, 0]);
      mock.timers.setTime(1_600_001);
      await until(() => count('resync') === 2);
      await polled();
      assert.deepEqual([count('resync'), count('retry refused chains')], [2, 1]);
    });
  } finally {
    mock.timers.reset();
  }
});

test('an agent that is stopped takes no more changes, and ends what must not outlast it', () =>
  withAgent(async (lab) => {
    const { kernel } = lab;
    await lab.told(1n);
    lab.stop.abort();
    const { rounds } = kernel;
    lab.tell(2n, comes(endpoint('e1')));
    lab.agent.linkMade('cali1', { hasIpv6: false });
    lab.agent.onKernelEvents([{ kind: 'overrun' }]);
    await pause(5);
    assert.deepEqual([kernel.rounds, lab.isFollowed], [rounds, false]);
    assert.equal(lab.agent.isProgrammed(endpoint('e1')), false);
  }));

test('a failed apply round is repeated from the actual kernel state', () =>
  withAgent(async (lab) => {
    await lab.told(1n, fromWeb);
    lab.kernel.refuses.add('phase tables');
    lab.tell(2n, comes(endpoint('e1')));
    await until(() => lab.agent.health.inSyncSince === undefined);
    assert.match(lab.agent.health.lastError?.what ?? '', /tables failed/);
    assert.equal(lab.kernel.routes.size, 0, 'no packets come where policy is not in force');
    const from = lab.kernel.journal.length;
    lab.kernel.refuses.clear();
    await until(() => lab.agent.health.inSyncSince !== undefined);
    assert.ok(lab.kernel.journal.slice(from).includes('resync'));
    assert.ok(lab.agent.isProgrammed(endpoint('e1')));
  }));

test('the failure of one manager does not stop the others, and is reported', () =>
  withAgent(async (lab) => {
    lab.kernel.refuses.add('flows');
    await lab.told(1n, fromWeb, comes(endpoint('e1')));
    assert.ok(lab.agent.isProgrammed(endpoint('e1')));
    assert.deepEqual(lab.agent.health.failures, [
      { what: 'end of flows that no rule allows', why: 'flows cannot be listed' },
    ]);
    assert.notEqual(lab.agent.health.inSyncSince, undefined);
    lab.kernel.refuses.clear();
    await until(() => lab.agent.health.failures.length === 0);
  }));

test('a lost event, or one that a handler failed on, causes a full resync', () =>
  withAgent(async (lab) => {
    assert.ok(
      (await lab.told(1n, fromWeb, comes(endpoint('e1')))).includes('resync'),
      'the first round reads all',
    );
    assert.ok(
      !(await lab.told(2n, comes(endpoint('e2', '10.0.0.2/32')))).includes('resync'),
      'the next ones do not',
    );
    const overrun = () => lab.agent.onKernelEvents([{ kind: 'overrun' }]);
    assert.ok((await lab.written(overrun)).includes('resync'));
    lab.kernel.nextEventFails = true;
    const before = lab.kernel.events.length;
    const event = { kind: 'nftables' as const, processId: 1 };
    const two = () => lab.agent.onKernelEvents([event, event]);
    assert.ok((await lab.written(two)).includes('resync'));
    assert.ok(lab.kernel.events.length > before, 'the other event was taken');
  }));

test('changes that the kernel does not report are found by polling and repaired', () =>
  withAgent(async (lab) => {
    await lab.told(1n, fromWeb, comes(endpoint('e1')));
    const [name, set] =
      [...lab.kernel.ipset.sets].find(([, { members }]) => members.has('10.0.0.1/32')) ??
      assert.fail();
    set.members.clear();
    await until(() => lab.kernel.members(name).length > 0);
    assert.deepEqual(lab.kernel.members(name), ['10.0.0.1/32']);
    // The kernel rejected chains that named a set which could not be created.
    const { create } = lab.kernel.ipset;
    lab.kernel.ipset.create = () => {
      throw new Error('no memory');
    };
    await lab.told(2n, profile([{ action: 'Allow', source: { selector: 'has(other)' } }]));
    assert.equal(lab.agent.health.failures.length > 0, true);
    lab.kernel.ipset.create = create;
    await until(() => lab.kernel.journal.includes('retry refused chains'));
    await until(() => lab.agent.health.failures.length === 0);
  }));
