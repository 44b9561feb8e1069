import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FakeSets } from './address-sets.fixture.ts';
import { AddressSets } from './address-sets.ts';

const networks = [
  '0.0.0.0/0',
  '0.0.0.0/1',
  '128.0.0.0/1',
  '10.0.0.0/8',
  '10.0.0.1/32',
  '10.0.0.2/32',
];
const name = fc.constantFrom('cali40a', 'cali40b');
const member = fc.constantFrom(...networks);
const change = fc.oneof(
  fc.record({
    kind: fc.constantFrom('setDesired', 'deleteDesired', 'lose'),
    name,
    member: fc.constant(''),
  }),
  fc.record({
    kind: fc.constantFrom('add', 'add', 'remove', 'refuse', 'take', 'flush'),
    name,
    member,
  }),
  fc.record({ kind: fc.constantFrom('round', 'recheck', 'resync'), name, member: fc.constant('') }),
);

/** The elements of the kernel's that stand for members. */
function elements(members: ReadonlySet<string>): ReadonlySet<string> {
  const halves = ['0.0.0.0/1', '128.0.0.0/1'];
  return new Set([...members].flatMap((one) => (one === '0.0.0.0/0' ? halves : [one])));
}

test('whatever came before and is refused, the kernel has the rest; and all when nothing is refused any more', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const kernel = new FakeSets();
      const sets = new AddressSets(kernel);
      const desired = new Map<string, Set<string>>();
      /** A member that the kernel has refused once may wait for its retry. */
      const everRefused = new Set<string>();
      const round = () => {
        sets.applyAdditions();
        sets.applyRemovals();
      };
      for (const { kind, name: set, member: one } of changes) {
        const spec = { name: set, type: 'net', family: 4, countsPackets: false } as const;
        if (kind === 'setDesired') {
          sets.setDesired(spec);
          if (!desired.has(set)) desired.set(set, new Set());
        } else if (kind === 'deleteDesired') {
          sets.deleteDesired(set);
          desired.delete(set);
        } else if (kind === 'add' && desired.has(set)) {
          sets.addMember(set, one);
          desired.get(set)?.add(one);
        } else if (kind === 'remove') {
          sets.removeMember(set, one);
          desired.get(set)?.delete(one);
        } else if (kind === 'refuse') {
          kernel.refuses.add(one);
          everRefused.add(one);
        } else if (kind === 'take') kernel.refuses.delete(one);
        else if (kind === 'lose') kernel.sets.delete(set);
        else if (kind === 'flush') kernel.sets.get(set)?.members.delete(one);
        else if (kind === 'recheck') sets.recheck();
        else if (kind === 'resync') sets.resync();
        else round();
      }
      sets.resync();
      round();
      for (const [set, members] of desired) {
        const held = kernel.sets.get(set)?.members ?? assert.fail(`${set} is not there`);
        const those = (all: ReadonlySet<string>) => [...all].filter((one) => !everRefused.has(one));
        assert.deepEqual(those(held).toSorted(), those(elements(members)).toSorted());
        for (const one of members) {
          const has = [...elements(new Set([one]))].every((element) => held.has(element));
          assert.equal(sets.holds(set, one), has, one);
        }
      }
      kernel.refuses.clear();
      // A start finds the kernel as it is, and all that was refused is tried at once.
      const fresh = new AddressSets(kernel);
      for (const [set, members] of desired) {
        fresh.setDesired({ name: set, type: 'net', family: 4, countsPackets: false });
        for (const one of members) fresh.addMember(set, one);
      }
      fresh.resync();
      fresh.applyAdditions();
      fresh.applyRemovals();
      const now = [...kernel.sets].map(
        ([set, { members }]) => [set, [...members].toSorted()] as const,
      );
      const should = [...desired].map(
        ([set, members]) => [set, [...elements(members)].toSorted()] as const,
      );
      assert.deepEqual(new Map(now), new Map(should));
      assert.deepEqual(fresh.failures(), []);
    }),
    { numRuns: 500 },
  );
});

test('a member that is refused costs a few requests, once, and then none until it is tried again', () => {
  const kernel = new FakeSets();
  const sets = new AddressSets(kernel);
  sets.setDesired({ name: 'cali40a', type: 'net', family: 4, countsPackets: false });
  kernel.refuses.add('10.0.77.0/24');
  for (let n = 0; n < 200; n++) sets.addMember('cali40a', `10.0.${n}.0/24`);
  sets.applyAdditions();
  assert.equal(kernel.sets.get('cali40a')?.members.size, 199);
  assert.ok(kernel.requests < 25, `${kernel.requests} requests`);
  const before = kernel.requests;
  for (let round = 0; round < 10; round++) sets.applyAdditions();
  assert.equal(kernel.requests, before);
  assert.equal(sets.failures().length, 1);
  assert.match(sets.faults().get('cali40a')?.lacks ?? '', /10\.0\.77\.0\/24.*INVALID_CIDR/);
});
