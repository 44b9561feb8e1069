import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  hasQuorum,
  nextStep,
  wantedVoters,
  type HostState,
  type MemberState,
  type MembershipState,
  type Step,
} from './next-step.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Hosts and members that react to steps as real ones do. */
interface World {
  readonly size: MembershipState['size'];
  hosts: Mutable<HostState>[];
  members: Mutable<MemberState>[];
}

const host = (flags: Partial<HostState> & { readonly name: string }): Mutable<HostState> => ({
  order: Number(flags.name.slice(1)),
  wanted: 'client',
  prepared: false,
  live: true,
  capable: true,
  moved: false,
  ...flags,
});
const voter = (of: string, flags: Partial<MemberState> = {}): Mutable<MemberState> => ({
  id: `id-${of}`,
  host: of,
  isLearner: false,
  healthy: true,
  settled: true,
  isLeader: false,
  announced: true,
  late: false,
  ...flags,
});

/** Applies a step of the keeper. */
function apply(world: World, step: Step): void {
  const hostOf = (name: string | undefined) => world.hosts.find((one) => one.name === name);
  switch (step.kind) {
    case 'want': {
      const found = hostOf(step.host) ?? assert.fail();
      found.wanted = step.part;
      if (step.part === 'client') found.prepared = false;
      return;
    }
    case 'add':
      world.members.push(
        voter(step.host, { isLearner: true, healthy: false, settled: false, announced: false }),
      );
      return;
    case 'announce':
    case 'promote': {
      const member = world.members.find(({ id }) => id === step.id) ?? assert.fail();
      if (step.kind === 'announce') member.announced = true;
      else member.isLearner = false;
      return;
    }
    case 'remove': {
      world.members = world.members.filter(({ id }) => id !== step.id);
      const found = hostOf(step.host);
      if (step.failed && found !== undefined) found.prepared = false;
      return;
    }
    case 'readdress': {
      const voters = world.members.filter((one) => !one.isLearner);
      const others = voters.filter((one) => one.host !== step.host);
      const isSafe = others.filter((one) => one.healthy).length > voters.length / 2;
      assert.ok(isSafe || others.length === 0 || others.length === voters.length);
      (hostOf(step.host) ?? assert.fail()).moved = false;
      return;
    }
    case 'forget':
      assert.ok(!world.members.some((one) => one.host === step.host));
      world.hosts = world.hosts.filter(({ name }) => name !== step.host);
      return;
    case 'move-leader':
      for (const member of world.members) member.isLeader = member.id === step.to;
      return;
    case 'wait':
    case 'done':
  }
}

/** What happens while the keeper waits; returns whether anything did. */
function pass(world: World): boolean {
  for (const one of world.hosts) {
    if (one.wanted === 'member' && one.live && one.capable && !one.prepared) {
      one.prepared = true;
      return true;
    }
  }
  for (const member of world.members.filter((one) => one.isLearner && !one.healthy)) {
    const own = world.hosts.find(({ name }) => name === member.host);
    if (own?.live === true) member.healthy = true;
    else if (!member.late) member.late = true;
    else continue;
    return true;
  }
  const fresh = world.members.find((one) => one.healthy && !one.settled);
  if (fresh === undefined) return false;
  fresh.settled = true;
  return true;
}

/** The rules that no step may break. */
function check(world: World, step: Step): void {
  const voters = world.members.filter((member) => !member.isLearner);
  const targets = wantedVoters(world);
  const missing = world.hosts.filter(
    ({ name }) => targets.has(name) && !voters.some((one) => one.host === name),
  );
  if (step.kind === 'add') {
    assert.ok(!world.members.some((one) => one.isLearner), 'one learner at a time');
    assert.ok(
      missing.every(({ prepared, live }) => prepared && live),
      'all prepared',
    );
  }
  if (step.kind === 'promote' && voters.length === 1) {
    assert.ok(world.members.find(({ id }) => id === step.id)?.settled);
    const rest = missing.filter(({ name }) => name !== step.host);
    const isReplaced = voters.some((one) => one.host === undefined || !targets.has(one.host));
    assert.ok(
      isReplaced || rest.some(({ prepared, live }) => prepared && live),
      'two voters only if the third can follow',
    );
  }
  if (step.kind === 'remove') assert.ok(voters.length > 1 || voters[0]?.id !== step.id);
  apply(world, step);
  const after = world.members.filter((member) => !member.isLearner);
  assert.ok(hasQuorum(after), `no quorum after ${JSON.stringify(step)}`);
}

/** Runs until nothing changes any more; returns the last step. */
function settle(world: World): Step {
  let step: Step = { kind: 'done' };
  for (let count = 0; count < 200; count++) {
    step = nextStep(world);
    if (step.kind === 'wait' || step.kind === 'done') {
      if (!pass(world)) return step;
    } else check(world, step);
  }
  return assert.fail(`it does not end: ${JSON.stringify({ step, ...world })}`);
}

const worlds = (isCalm: boolean) =>
  fc
    .record({
      size: fc.constantFrom(1 as const, 3 as const, 5 as const),
      hosts: fc.array(
        fc.record({
          wanted: fc.constantFrom('member' as const, 'client' as const, 'gone' as const),
          prepared: fc.boolean(),
          live: isCalm ? fc.constant(true) : fc.boolean(),
          capable: fc.boolean(),
          moved: fc.boolean(),
          part: fc.constantFrom('voter', 'voter', 'learner', 'none'),
          healthy: isCalm ? fc.constant(true) : fc.boolean(),
          announced: fc.boolean(),
        }),
        { minLength: 1, maxLength: 6 },
      ),
      isForeign: fc.boolean(),
    })
    .map(({ size, hosts, isForeign }): World => {
      const named = hosts.map((one, index) => ({ ...one, name: `h${index}` }));
      const learner = named.find(({ part }) => part === 'learner');
      const members = [
        ...named
          .filter(({ part }) => part === 'voter')
          .map(({ name, healthy }) => voter(name, { healthy })),
        ...(learner === undefined
          ? []
          : [
              voter(learner.name, {
                isLearner: true,
                healthy: false,
                settled: false,
                announced: learner.announced,
              }),
            ]),
        ...(isForeign ? [voter('h9', { host: undefined })] : []),
      ];
      const first = members.find((one) => !one.isLearner && one.healthy);
      if (first !== undefined) first.isLeader = true;
      return { size, hosts: named.map((one) => host(one)), members };
    })
    .filter(({ members }) => hasQuorum(members.filter((one) => !one.isLearner)));

test('from any state the members become the wanted ones, by steps that each keep the quorum', () => {
  fc.assert(
    fc.property(worlds(true), (world) => {
      const last = settle(world);
      const targets = wantedVoters(world);
      if (targets.size === 0) {
        assert.equal(last.kind, 'wait');
        return;
      }
      assert.deepEqual(last, { kind: 'done' });
      assert.deepEqual(
        new Set(world.members.map((one) => (one.isLearner ? 'learner' : one.host))),
        targets,
      );
      assert.equal(targets.size % 2, 1);
    }),
    { numRuns: 2000 },
  );
});

test('with hosts that are down every step keeps the quorum, and they keep nobody in between', () => {
  fc.assert(
    fc.property(worlds(false), (world) => {
      settle(world);
      const voters = world.members.filter((one) => !one.isLearner);
      const targets = wantedVoters(world);
      const leaving = voters.filter((one) => one.host === undefined || !targets.has(one.host));
      if (voters.length === 2 && targets.size > 0) {
        // Only a member that is down, and is to stay, keeps two.
        assert.ok(leaving.length > 0 && !hasQuorum(voters.filter((one) => one !== leaving[0])));
      }
    }),
    { numRuns: 2000 },
  );
});

const stepsOf = (world: World): readonly string[] => {
  const steps: string[] = [];
  for (let step = nextStep(world); steps.length < 50; step = nextStep(world)) {
    if (step.kind === 'wait' || step.kind === 'done') {
      if (!pass(world)) return steps;
      continue;
    }
    check(world, step);
    const of = 'host' in step ? step.host : step.to;
    steps.push(`${step.kind} ${of}`);
  }
  return assert.fail(steps.join());
};

test('of two hosts the first is the only member; the third host makes all three members', () => {
  const first = host({ name: 'h1', wanted: 'member', prepared: true });
  const members = [voter('h1', { isLeader: true })];
  assert.deepEqual(stepsOf({ size: 3, hosts: [first, host({ name: 'h2' })], members }), []);
  const hosts = [first, host({ name: 'h2' }), host({ name: 'h3' })];
  assert.deepEqual(stepsOf({ size: 3, hosts, members }), [
    'want h2',
    'want h3',
    'add h2',
    'announce h2',
    'promote h2',
    'add h3',
    'announce h3',
    'promote h3',
  ]);
});

test('a third host that does not start takes the second vote back', () => {
  const hosts = ['h1', 'h2', 'h3'].map((name) => host({ name, wanted: 'member', prepared: true }));
  const members = [
    voter('h1', { isLeader: true }),
    voter('h2'),
    voter('h3', { isLearner: true, healthy: false, late: true }),
  ];
  const world: World = { size: 3, hosts, members };
  const steps = Array.from({ length: 2 }, () => {
    const step = nextStep(world);
    check(world, step);
    return step.kind === 'remove' ? step.host : step.kind;
  });
  assert.deepEqual(steps, ['h3', 'h2']);
});

test('of three members one leaves, and one remains; the one that leads hands over first', () => {
  const hosts = ['h1', 'h2', 'h3'].map((name) =>
    host({ name, wanted: name === 'h1' ? 'gone' : 'member', prepared: true }),
  );
  const members = [voter('h1', { isLeader: true }), voter('h2'), voter('h3')];
  assert.deepEqual(stepsOf({ size: 3, hosts, members }), [
    'remove h3',
    'move-leader id-h2',
    'remove h1',
    'want h3',
  ]);
});

test('a dead member that is removed is replaced first, if a host can take its place', () => {
  const hosts = ['h1', 'h2', 'h3', 'h4'].map((name) =>
    host({ name, wanted: name === 'h3' ? 'gone' : 'client', live: name !== 'h3' }),
  );
  const members = [voter('h1'), voter('h2', { isLeader: true }), voter('h3', { healthy: false })];
  const steps = stepsOf({ size: 3, hosts, members });
  assert.deepEqual(steps.slice(3), [
    'add h4',
    'announce h4',
    'promote h4',
    'remove h3',
    'forget h3',
  ]);
});

test('what must be waited for', () => {
  const hosts = ['h1', 'h2', 'h3'].map((name) => host({ name, wanted: 'member', prepared: true }));
  const [first, second, third = host({ name: 'h3' })] = hosts;
  assert.ok(first && second);
  const alone = voter('h1', { isLeader: true });
  const learner = voter('h2', { isLearner: true });
  const waits = (world: Omit<World, 'size'>, why: RegExp) => {
    const step = nextStep({ size: 3, ...world });
    assert.ok(step.kind === 'wait', JSON.stringify(step));
    assert.match(step.why, why);
  };
  const down = { healthy: false };
  // Whatever is wanted meanwhile.
  const gone = { ...third, wanted: 'gone' as const, live: false };
  const members = [alone, voter('h2', down), voter('h3', down)];
  waits({ hosts: [first, second, gone], members }, /a majority of the members does not respond/);
  const fresh = { ...learner, settled: false };
  waits({ hosts, members: [alone, fresh] }, /etcd on h2 has just started/);
  const unready = { ...third, prepared: false };
  waits({ hosts: [first, second, unready], members: [alone, learner] }, /h3 prepares/);
  assert.deepEqual(nextStep({ size: 3, hosts, members: [alone, learner] }), {
    kind: 'promote',
    id: 'id-h2',
    host: 'h2',
  });
});

test('of two learners, which another tool has added, one is removed', () => {
  const hosts = ['h1', 'h2', 'h3'].map((name) => host({ name, wanted: 'member', prepared: true }));
  const learners = ['h2', 'h3'].map((name) => voter(name, { isLearner: true }));
  const members = [voter('h1', { isLeader: true }), ...learners];
  const step = nextStep({ size: 3, hosts, members });
  assert.deepEqual(step, { kind: 'remove', id: 'id-h3', host: 'h3', failed: false });
});
