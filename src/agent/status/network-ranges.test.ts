import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../ip/cidr.ts';
import { formatPoolId } from '../../ipam/docker/pool-id.ts';
import { rangeText } from './network-ranges.ts';

const nonce = '1f2e3d4c';
const any4 = parseCidr('0.0.0.0/0');
const subnet = parseCidr('10.99.0.0/16');

for (const [facts, cidr, text] of [
  [{ family: 4 }, any4, 'any pool'],
  [{ family: 6 }, parseCidr('fd1c:d0f0:8f0f::/48'), 'any IPv6 pool'],
  [{ family: 4, ipPools: ['a'] }, any4, 'pool a'],
  [{ family: 4, ipPools: ['a', 'b'] }, any4, 'pools a,b'],
  [{ family: 4, subnet }, subnet, '10.99.0.0/16'],
] as const) {
  test(`a network of ${JSON.stringify(facts)} has addresses from ${text}`, () => {
    const poolId = formatPoolId({ ...facts, nonce });
    assert.equal(rangeText({ family: facts.family, cidr, poolId }), text);
  });
}

test("a subnet of Docker's IPAM or of libnetwork-plugin is shown unchanged", () => {
  assert.equal(rangeText({ family: 4, cidr: subnet }), '10.99.0.0/16');
  assert.equal(rangeText({ family: 4, cidr: any4, poolId: 'CalicoPoolIPv4' }), '0.0.0.0/0');
});
