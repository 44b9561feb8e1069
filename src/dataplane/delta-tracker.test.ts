import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DeltaTracker } from './delta-tracker.ts';

const key = fc.constantFrom('a', 'b', 'c', 'd');
const change = fc.oneof(
  fc.record({ kind: fc.constantFrom('desire', 'find'), key, value: fc.nat(3) }),
  fc.record({ kind: fc.constantFrom('undesire', 'lose'), key, value: fc.constant(0) }),
  fc.record({ kind: fc.constant('reread'), key, value: fc.nat(3) }),
);

test('applying the delta makes the actual state the desired one, and leaves no delta', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const tracker = new DeltaTracker<string, number>((a, b) => a === b);
      for (const { kind, key: changed, value } of changes) {
        if (kind === 'desire') tracker.setDesired(changed, value);
        else if (kind === 'undesire') tracker.deleteDesired(changed);
        else if (kind === 'find') tracker.setActual(changed, value);
        else if (kind === 'lose') tracker.deleteActual(changed);
        else tracker.replaceActual([[changed, value]]);
      }
      const desired = new Map(tracker.desired);
      const there = new Map(tracker.actual);
      for (const [changed, value] of tracker.updates()) {
        assert.notEqual(there.get(changed), value, 'nothing that is right is written again');
        there.set(changed, value);
        tracker.setActual(changed, value);
      }
      for (const [changed] of tracker.removals()) {
        assert.ok(there.delete(changed) && !desired.has(changed));
        tracker.deleteActual(changed);
      }
      assert.deepEqual(there, desired);
      assert.ok(tracker.isInSync);
    }),
  );
});
