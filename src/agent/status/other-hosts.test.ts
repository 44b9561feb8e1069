import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import type { PeerReach } from '../../routing/block-routes.ts';
import { otherHostChecks } from './other-hosts.ts';

const gateway = parseAddress('172.16.0.2');
const direct = (peer: string): PeerReach => ({ peer, pool: 'p', reach: { by: 'direct', gateway } });
const vxlan = (peer: string): PeerReach => ({ peer, pool: 'p', reach: { by: 'vxlan', gateway } });
const ipip = (peer: string): PeerReach => ({ peer, pool: 'p', reach: { by: 'ipip', gateway } });
const bgp = (peer: string): PeerReach => ({ peer, pool: 'p', reach: { by: 'bgp' } });
const none = (peer: string, isRoutable?: true): PeerReach => ({
  peer,
  pool: 'p',
  reach: {
    by: 'none',
    why: `node ${peer} is far`,
    remedy: 'Move it.',
    ...(isRoutable === undefined ? {} : { isRoutable }),
  },
});
const textOf = (nodes: readonly string[], ...reaches: readonly PeerReach[]) =>
  otherHostChecks('own', ['own', ...nodes], reaches).map(
    ({ ok, detail, remedy }) => `${ok} ${detail}${remedy === undefined ? '' : ` | ${remedy}`}`,
  );

test('the check says how the other hosts are reached, and names at most three of each way', () => {
  assert.deepEqual(textOf([]), []);
  assert.deepEqual(textOf(['a']), ['true a; no IP pool needs routes']);
  const names = ['e', 'd', 'c', 'b', 'a'];
  assert.deepEqual(
    textOf([...names, 'v'], ...names.map(direct), vxlan('v'), vxlan('a'), ipip('v')),
    ['true a, b, c and 2 more by direct routes; a, v through VXLAN; v through IPIP'],
  );
  assert.deepEqual(textOf(['a', 'b'], direct('a'), bgp('b')), [
    'true a by direct routes; b by BGP',
  ]);
});

test('a host without a route is a problem with its reason, except behind routers that may know the pool', () => {
  assert.deepEqual(textOf(['a', 'b', 'c'], direct('a'), none('b'), none('c')), [
    'true a by direct routes; no route of calico-cnm to b, c',
    'false node b is far (and 1 more host) | Move it.',
  ]);
  assert.deepEqual(textOf(['b'], none('b', true)), [
    'true no route of calico-cnm to b',
    'true node b is far. Move it.',
  ]);
});
