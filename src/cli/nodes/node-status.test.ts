import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import type { Node } from '../../model/kinds/node.ts';
import type { PeerReach } from '../../routing/block-routes.ts';
import { formatPeers } from './node-status.ts';

const node: Node = {
  kind: 'Node',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'host-2' },
  spec: {},
};
const gateway = parseAddress('172.16.0.12');
const [direct, vxlan, none, ipip, bgp]: readonly PeerReach['reach'][] = [
  { by: 'direct', gateway },
  { by: 'vxlan', gateway },
  { by: 'none', why: 'IP pool far has no encapsulation', remedy: 'Set its vxlanMode.' },
  { by: 'ipip', gateway },
  { by: 'bgp' },
];

/** Returns the column REACHABLE BY for a peer whose pools are reached so. */
function reachableBy(
  reaches: Readonly<Record<string, PeerReach['reach'] | undefined>>,
): string | undefined {
  const text = formatPeers(
    [
      {
        node,
        liveness: { state: 'unknown' },
        reaches: Object.entries(reaches).flatMap(([pool, reach]) =>
          reach === undefined ? [] : [{ pool, reach }],
        ),
      },
    ],
    new Map([['host-2', 'never']]),
  );
  return /^host-2 +(\S.*?) +never$/m.exec(text)?.[1];
}

test('a peer is shown as reached in each way once, and pools are named if only some are reached', () => {
  assert.equal(reachableBy({ one: vxlan, two: vxlan }), 'VXLAN');
  assert.equal(reachableBy({ one: direct, two: vxlan }), 'route, VXLAN');
  assert.equal(reachableBy({ one: vxlan, two: ipip }), 'VXLAN, IPIP');
  assert.equal(reachableBy({ far: none, two: vxlan }), 'VXLAN, none for far');
  assert.equal(reachableBy({ far: none, farther: none }), 'none');
  assert.equal(reachableBy({ far: bgp, two: vxlan }), 'BGP, VXLAN');
});
