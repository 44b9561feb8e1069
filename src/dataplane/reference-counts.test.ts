import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReferenceCounts } from './reference-counts.ts';

const change = fc.record({
  owner: fc.constantFrom('a', 'b', 'c'),
  things: fc.array(fc.constantFrom('x', 'y', 'z'), { maxLength: 4 }),
});

test('a thing is desired while it has owners, whatever they had before, and is reported once', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const desired = new Set<string>();
      const claims = new ReferenceCounts((thing: string) => thing, {
        setDesired: (thing) => {
          assert.ok(!desired.has(thing), 'reported twice');
          desired.add(thing);
        },
        deleteDesired: (thing) => assert.ok(desired.delete(thing)),
      });
      const now = new Map<string, readonly string[]>();
      for (const { owner, things } of changes) {
        claims.set(owner, things);
        now.set(owner, things);
        assert.deepEqual(desired, new Set([...now.values()].flat()));
      }
    }),
  );
});
