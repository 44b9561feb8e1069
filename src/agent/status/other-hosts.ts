import { counted } from '../../model/counted.ts';
import type { PeerReach } from '../../routing/block-routes.ts';
import { encapsulationTexts } from '../../routing/tunnels.ts';
import type { Check } from '../../telemetry/status-report.ts';

const maxNamed = 3;

/** Reports how the containers of the other hosts of the datastore are reached, and why those that are not. */
export function otherHostChecks(
  own: string,
  nodes: Iterable<string>,
  reaches: readonly PeerReach[],
): readonly Check[] {
  const others = [...nodes].filter((name) => name !== own).toSorted();
  if (others.length === 0) return [];
  const by = (wanted: PeerReach['reach']['by']) =>
    new Set(reaches.flatMap(({ peer, reach }) => (reach.by === wanted ? [peer] : [])));
  const [direct, bgp, none] = [by('direct'), by('bgp'), by('none')];
  const ways = [
    ...(direct.size === 0 ? [] : [`${named(direct)} by direct routes`]),
    ...(['vxlan', 'ipip'] as const).flatMap((encapsulation) => {
      const peers = by(encapsulation);
      const text = encapsulationTexts[encapsulation];
      return peers.size === 0 ? [] : [`${named(peers)} through ${text}`];
    }),
    ...(bgp.size === 0 ? [] : [`${named(bgp)} by BGP`]),
    ...(none.size === 0 ? [] : [`no route of calico-cnm to ${named(none)}`]),
  ];
  const detail = ways.length === 0 ? `${named(others)}; no IP pool needs routes` : ways.join('; ');
  return [{ name: 'other hosts', ok: true, detail }, ...unreachable(reaches)];
}

/** One check for each remedy, with the first of the hosts that it concerns. */
function unreachable(reaches: readonly PeerReach[]): readonly Check[] {
  interface Reason {
    readonly why: string;
    readonly isRoutable: boolean;
    readonly peers: Set<string>;
  }
  const byRemedy = new Map<string, Reason>();
  for (const { peer, reach } of reaches) {
    if (reach.by !== 'none') continue;
    const { why, remedy, isRoutable = false } = reach;
    const known = byRemedy.get(remedy) ?? { why, isRoutable, peers: new Set<string>() };
    known.peers.add(peer);
    byRemedy.set(remedy, known);
  }
  return [...byRemedy].map(([remedy, { why, peers, isRoutable }]) => {
    const more = peers.size === 1 ? '' : ` (and ${counted(peers.size - 1, 'more host')})`;
    const detail = `${why}${more}`;
    return isRoutable
      ? { name: 'other hosts', ok: true, detail: `${detail}. ${remedy}` }
      : { name: 'other hosts', ok: false, detail, remedy };
  });
}

function named(names: Iterable<string>): string {
  const all = [...names].toSorted();
  const more = all.length > maxNamed ? ` and ${all.length - maxNamed} more` : '';
  return `${all.slice(0, maxNamed).join(', ')}${more}`;
}
