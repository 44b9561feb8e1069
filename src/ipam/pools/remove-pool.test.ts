import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { withIpam } from '../ipam-lab.fixture.ts';
import { findAllocation } from '../records/allocation.ts';
import { assignInBlock, claimBlock } from '../records/records.ts';
import { removePool } from './remove-pool.ts';

function poolOf(name: string, cidr: string): IpPool {
  return {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { cidr: parseCidr(cidr), blockSize: 28 },
  };
}

test('blocks of a deleted pool that are inside another pool stay, with their addresses', () =>
  withIpam(async (lab) => {
    const small = poolOf('small', '10.99.0.0/24');
    const [kept, gone] = [parseAddress('10.99.0.5'), parseAddress('10.99.0.200')];
    await lab.plan((draft) => {
      draft.put('IPPool', 'small', small);
      // Another tool created it: it overlaps.
      draft.put('IPPool', 'other', poolOf('other', '10.99.0.0/25'));
      for (const [address, cidr] of [
        [kept, '10.99.0.0/28'],
        [gone, '10.99.0.192/28'],
      ] as const) {
        const block = claimBlock(draft, { cidr: parseCidr(cidr), host: 'host-a', now: new Date() });
        assignInBlock(draft, block, { address, holder: { handle_id: address, secondary: {} } });
      }
    });
    assert.equal(await lab.plan((draft) => removePool(draft, small)), 'done');
    const isHeld = (address: typeof kept) =>
      lab.plan((draft) => findAllocation(draft, address) !== undefined);
    assert.deepEqual([await isHeld(kept), await isHeld(gone)], [true, false]);
    assert.equal(lab.mirror.get('IPPool', 'small'), undefined);
  }));
