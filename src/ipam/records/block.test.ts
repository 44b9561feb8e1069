import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressAt, parseCidr } from '../../ip/cidr.ts';
import {
  allocatedAddresses,
  allocationOf,
  isEmptyBlock,
  newBlock,
  nextFree,
  withChangedAllocation,
  withAllocation,
  withoutAllocation,
} from './block.ts';

const cidr = parseCidr('10.65.0.0/29');
const now = new Date('2026-08-22T10:00:00Z');

test('after any sequence of allocations and releases, free and allocated addresses make up the whole block', () => {
  const step = fc.record({ take: fc.boolean(), ordinal: fc.nat(7), owner: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let block = newBlock(cidr, 'host-a', now);
      const model = new Map<string, string>();
      for (const { take, ordinal, owner } of steps) {
        const address = take ? nextFree(block, () => true) : addressAt(cidr, BigInt(ordinal));
        if (address === undefined) {
          assert.equal(model.size, 8);
        } else if (take) {
          assert.ok(!model.has(address), 'an address is allocated once');
          block = withAllocation(block, address, { handle_id: `h${owner}` });
          model.set(address, `h${owner}`);
        } else if (model.delete(address)) {
          block = withoutAllocation(block, address);
          assert.equal(block.unallocated?.at(-1), ordinal, 'a released address is allocated last');
        }
        const held = [...allocatedAddresses(block)].map(([of, { handle_id }]) => [of, handle_id]);
        assert.deepEqual(new Map(held.map(([of, handle]) => [of, handle])), model);
        assert.equal(new Set(block.unallocated).size + model.size, 8);
        assert.equal(block.attributes?.length, new Set(model.values()).size);
      }
      assert.equal(isEmptyBlock(block), model.size === 0);
    }),
  );
});

test('sequence numbers record when an address was allocated, also after its attributes are rewritten', () => {
  const first = addressAt(cidr, 0n);
  const claimed = newBlock(cidr, 'host-a', now);
  assert.equal(claimed.sequenceNumber, 1_787_392_800_000_000_000n);
  const given = withAllocation(claimed, first, { handle_id: 'h' });
  const described = withChangedAllocation(given, first, {
    handle_id: 'h',
    secondary: { node: 'a' },
  });
  assert.equal(described.sequenceNumberForAllocation?.['0'], claimed.sequenceNumber);
  assert.deepEqual(allocationOf(described, first), { handle_id: 'h', secondary: { node: 'a' } });
  assert.equal(allocationOf(withoutAllocation(described, first), first), undefined);
});
