import type { View } from '../../cache/view.ts';
import { livenessOf, nodeIps, startOf, type Liveness } from '../../host/node-liveness.ts';
import { configurationsOf } from '../../model/kinds/felix-configuration.ts';
import { poolIsEnabled, type IpPool } from '../../model/kinds/ip-pool.ts';
import type { Node } from '../../model/kinds/node.ts';
import type { PeerReach } from '../../routing/block-routes.ts';
import { peerOf, reachOf, withoutDisabledTunnels, type Peer } from '../../routing/peers.ts';
import type { StatusReport } from '../../telemetry/status-report.ts';
import { encapsulationTexts, tunnelSettings } from '../../routing/tunnels.ts';
import { formatTable } from '../table.ts';

/** The other nodes as `node status` shows them. */

/** A peer with what the commands know of it. */
export interface PeerRow {
  readonly node: Node;
  readonly liveness: Liveness;
  /** By pool. */
  readonly reaches: readonly { readonly pool: string; readonly reach: PeerReach['reach'] }[];
}

/** Formats the table of peers, and below it why a peer is not reached; `seen`: when each was seen last. */
export function formatPeers(rows: readonly PeerRow[], seen: ReadonlyMap<string, string>): string {
  if (rows.length === 0) return 'No other nodes\n';
  const table = formatTable(
    ['node', 'address', 'reachable by', 'since', 'last seen'],
    rows.map(({ node, liveness, reaches }) => [
      node.metadata.name,
      nodeIps(node).join(' '),
      reachText(reaches),
      liveness.state === 'live' ? (startOf(liveness.report)?.toISOString() ?? '') : '',
      seen.get(node.metadata.name) ?? '',
    ]),
  );
  return `${table}${rows.map(notes).join('')}`;
}

/**
 * Returns the other nodes, and how this one reaches the addresses of each pool on them. The daemon knows which it reaches
 * by routes that it did not create.
 */
export function peerRows(
  view: View,
  own: string,
  byBgp: StatusReport['reachedByBgp'],
): readonly PeerRow[] {
  const pools = [...view.list('IPPool').values()].map(({ value }) => value).filter(poolIsEnabled);
  const nodes = view.list('Node');
  view.list('NodeReport');
  const ownNode = nodes.get(own)?.value;
  const ownPeer = ownNode && ownPeerOf(view, ownNode);
  const stored = { get: getter(view) };
  return [...nodes.values()].flatMap(({ value: node }) => {
    if (node.metadata.name === own) return [];
    const peer = peerOf(node);
    const reaches = pools
      .filter((pool) => isOfFamilies(pool, node))
      .map((pool) => {
        const name = pool.metadata.name;
        const isByBgp = byBgp.some((one) => one.node === peer.name && one.pool === name);
        const reach = isByBgp ? ({ by: 'bgp' } as const) : reachOf(pool, ownPeer, peer);
        return { pool: name, reach };
      });
    return [{ node, liveness: livenessOf(stored, node.metadata.name), reaches }];
  });
}

/** Returns this node, with the tunnels that FelixConfiguration allows on it. */
function ownPeerOf(view: View, node: Node): Peer {
  const [ofNode, ofAll] = configurationsOf(node.metadata.name).map(
    (name) => view.get('FelixConfiguration', name)?.value,
  );
  return withoutDisabledTunnels(peerOf(node), tunnelSettings(ofNode, ofAll));
}

function getter(view: View): Parameters<typeof livenessOf>[0]['get'] {
  return (kind, id) => view.get(kind, id)?.value;
}

/** Pools of a family that the peer does not have matter only if it has no address at all. */
function isOfFamilies({ spec }: IpPool, node: Node): boolean {
  const addresses = nodeIps(node);
  const isSix = spec.cidr.includes(':');
  return addresses.length === 0 || addresses.some((address) => address.includes(':') === isSix);
}

/** Pools are named if some of them are reached and others are not. */
function reachText(reaches: PeerRow['reaches']): string {
  const reached = reaches.flatMap(({ reach: { by } }) => (by === 'none' ? [] : [reachedBy[by]]));
  const unreached = reaches.flatMap(({ pool, reach }) => (reach.by === 'none' ? [pool] : []));
  if (reached.length === 0) return unreached.length === 0 ? '' : 'none';
  const missing = unreached.length === 0 ? [] : [`none for ${unreached.join(' ')}`];
  return [...new Set(reached), ...missing].join(', ');
}

const reachedBy: Readonly<Record<Exclude<PeerReach['reach']['by'], 'none'>, string>> = {
  direct: 'route',
  bgp: 'BGP',
  ...encapsulationTexts,
};

function notes({ node, liveness, reaches }: PeerRow): string {
  const { name } = node.metadata;
  const stopped =
    liveness.state === 'gone'
      ? [`${name}: its daemon has stopped or cannot reach the datastore\n`]
      : [];
  const unreachable = new Map(
    reaches.flatMap(({ reach }) =>
      reach.by === 'none' ? [[`${name}: ${reach.why}\n  ${reach.remedy}\n`, true] as const] : [],
    ),
  );
  return [...stopped, ...unreachable.keys()].map((line) => `\n${line}`).join('');
}
