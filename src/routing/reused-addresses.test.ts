import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { BriefBlock } from '../model/briefs.ts';
import { ReusedAddresses } from './reused-addresses.ts';

function block(
  held: bigint,
  borrowed: Readonly<Record<string, string>> = {},
  host = 'there',
): BriefBlock {
  return {
    cidr: parseCidr('10.65.0.0/26'),
    host,
    claimedAt: undefined,
    held,
    hasFree: true,
    isShared: false,
    borrowed: Object.entries(borrowed).map(([address, node]) => ({
      address: parseAddress(address),
      node,
    })),
  };
}

function after(...states: readonly (BriefBlock | 'settled' | undefined)[]): readonly string[] {
  const reused = new ReusedAddresses('here');
  for (const state of states) {
    if (state === 'settled') reused.settle();
    else reused.setBlock('b', state);
  }
  return [...reused.addresses].toSorted();
}

test('an address is reused when it is allocated again after a release', () => {
  assert.deepEqual(after(block(0b11n), block(0b111n)), []);
  assert.deepEqual(after(block(0b11n), block(0b01n)), []);
  assert.deepEqual(after(block(0b11n), block(0b01n), block(0b11n)), ['10.65.0.1']);
  assert.deepEqual(after(block(0b11n), block(0b01n), block(0b101n), block(0b111n)), ['10.65.0.1']);
});

test('a block that is cached in another way, or deleted, reuses nothing by that', () => {
  assert.deepEqual(after(block(0b11n), undefined, block(0b11n), 'settled'), []);
  assert.deepEqual(after(block(0b11n), undefined, 'settled', block(0b100n)), []);
  assert.deepEqual(after(block(0b11n), block(0n), undefined, block(0b1n)), ['10.65.0.0']);
});

test('an address that moves to another node without a release is reused there', () => {
  const mine = { '10.65.0.1': 'here' };
  const other = { '10.65.0.1': 'third' };
  assert.deepEqual(after(block(0b11n), block(0b11n, other)), ['10.65.0.1']);
  assert.deepEqual(after(block(0b11n, mine), block(0b11n)), ['10.65.0.1']);
  assert.deepEqual(after(block(0b11n, other), block(0b11n, other)), []);
});

test('a block that is deleted with its addresses has released them', () => {
  assert.deepEqual(after(block(0b1n), undefined, 'settled', block(0b1n, {}, 'third')), [
    '10.65.0.0',
  ]);
  const borrowed = { '10.65.0.0': 'third' };
  assert.deepEqual(after(block(0b1n, borrowed), undefined, 'settled', block(0b1n, borrowed)), [
    '10.65.0.0',
  ]);
  assert.deepEqual(after(block(0b1n), undefined, block(0b1n, {}, 'third')), ['10.65.0.0']);
  assert.deepEqual(after(block(0b1n), undefined, 'settled', block(0b1n, {}, 'here')), []);
});

test('an address of this node is left to the routes to its containers', () => {
  assert.deepEqual(after(block(1n, {}, 'here'), block(0n, {}, 'here'), block(1n, {}, 'here')), []);
  const mine = { '10.65.0.0': 'here' };
  assert.deepEqual(after(block(1n), block(0n), block(1n, mine)), []);
  assert.deepEqual(after(block(1n), block(1n, mine)), []);
});

test('an address of a deleted block is reused in a block of another size', () => {
  const reused = new ReusedAddresses('here');
  const small = (first: string, held: bigint): BriefBlock => ({
    ...block(held),
    cidr: parseCidr(`${first}/28`),
  });
  reused.setBlock('large', block((1n << 17n) | 0b11n));
  // In one batch of changes, in any order that the keys have.
  reused.setBlock('large', undefined);
  reused.setBlock('second', small('10.65.0.16', 0b11n));
  reused.settle();
  assert.deepEqual([...reused.addresses], ['10.65.0.17']);
  reused.setBlock('first', small('10.65.0.0', 0n));
  reused.setBlock('first', small('10.65.0.0', 0b110n));
  assert.deepEqual([...reused.addresses], ['10.65.0.17', '10.65.0.1']);
});

test('the addresses of small blocks are reused in a large one', () => {
  const reused = new ReusedAddresses('here');
  reused.setBlock('small', { ...block(0b10n), cidr: parseCidr('10.65.0.16/28') });
  reused.setBlock('small', undefined);
  reused.settle();
  reused.setBlock('other', { ...block(0b1n), cidr: parseCidr('10.66.0.0/26') });
  reused.setBlock('large', block(1n << 17n));
  assert.deepEqual([...reused.addresses], ['10.65.0.17']);
});
