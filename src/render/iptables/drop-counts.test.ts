import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dropReasons } from '../../ruleset/drop-reasons.ts';
import { profilePolicy } from '../../ruleset/policy.ts';
import { DropCounts } from './drop-counts.ts';

test('drops are reported by rule and by reason: no matching rule first, packets counted together last', () => {
  const rule = { policy: profilePolicy('web'), direction: 'ingress', index: 2 } as const;
  const held: Readonly<Record<string, string>> = {
    'cali40d:source': '10.0.0.1/32,cali1',
    'cali40d:rest': '0.0.0.0/1',
    'cali60d:egress': 'fd00::1/128,cali1',
    'cali40d:of-rule': '10.0.0.2/32,cali2',
  };
  const read: string[] = [];
  const drops = new DropCounts(
    [4, 6],
    {
      filled: () => [],
      counters: (set) => {
        read.push(set);
        if (set === 'cali60d:tunnel') throw new Error('too many');
        const member = held[set];
        return member === undefined ? [] : [{ member, packets: 7n, bytes: 700n }];
      },
      removeCounters: () => undefined,
      holds: () => false,
      addMember: () => undefined,
      removeMember: () => undefined,
    },
    () => [{ set: 'cali40d:of-rule', family: 4, rule }],
  );
  const [noMatch, byRule, source, rest, ...others] = drops.counts();
  assert.deepEqual(noMatch, {
    by: { kind: 'reason', reason: dropReasons.noMatchFrom },
    interface: 'cali1',
    packets: 7n,
    bytes: 700n,
  });
  assert.deepEqual([byRule?.by, byRule?.interface], [{ kind: 'rule', rule }, 'cali2']);
  assert.deepEqual(source?.by, { kind: 'reason', reason: dropReasons.source });
  assert.deepEqual([rest?.by.kind, rest?.interface, others], ['rest', undefined, []]);
  for (const family of [4, 6]) {
    for (const { name } of Object.values(dropReasons)) {
      assert.ok(read.includes(`cali${family}0d:${name}`), `IPv${family} ${name}`);
    }
  }
  assert.deepEqual(drops.problems(), [
    {
      what: 'the address set cali60d:tunnel',
      why: 'too many',
      command: 'ipset flush cali60d:tunnel',
    },
  ]);
});

test('the set of a removed rule leaves nothing: no problem in status, and no address that other sets do not count', () => {
  const name = 'cali40d:of-rule';
  let isThere = true;
  let isReadable = true;
  let crowded: readonly string[] = [];
  const drops = new DropCounts(
    [4],
    {
      filled: () => (isThere ? [{ name, family: 4, size: 40 }] : []),
      counters: () => {
        if (!isReadable) throw new Error('too many');
        return Array.from({ length: 40 }, (_, n) => ({
          member: `10.0.0.1/32,cali${n}`,
          packets: 1n,
          bytes: 1n,
        }));
      },
      removeCounters: () => undefined,
      holds: () => false,
      addMember: (_, member) => (crowded = [...crowded, member]),
      removeMember: (_, member) => (crowded = crowded.filter((one) => one !== member)),
    },
    () => [],
  );
  const tend = () => drops.tend({ sweep: true, hasInterface: () => true });
  assert.ok(tend());
  assert.deepEqual(crowded, ['10.0.0.1/32']);
  isReadable = false;
  tend();
  assert.equal(drops.problems().length, 1);
  isThere = false;
  assert.ok(tend());
  assert.deepEqual(drops.problems(), []);
  assert.deepEqual(crowded, []);
});
