import type { IpFamily } from '../ip/address.ts';
import type {
  DaemonStatus,
  NodeStatus,
  RouteStatus,
  StatusClass,
} from '../model/kinds/calico-node-status.ts';
import type { BgpSession } from '../routing/bgp/bgp-sessions.ts';
import type { ProtocolState } from './protocol-states.ts';

/** What is known of BGP on this node. One BIRD speaks both families. */
export interface BirdFacts {
  readonly daemon: DaemonStatus;
  readonly sessions: readonly BgpSession[];
  readonly states: readonly ProtocolState[];
  readonly routes: Readonly<Record<IpFamily, readonly RouteStatus[]>>;
}

type PeerStatus = NonNullable<NonNullable<NodeStatus['bgp']>['peersV4']>[number];

const peerTypes = { mesh: 'NodeMesh', global: 'GlobalPeer', node: 'NodePeer' } as const;

/** Returns the status that a CalicoNodeStatus of these classes asks for. */
export function nodeStatus(
  { daemon, sessions, states, routes }: BirdFacts,
  classes: readonly StatusClass[],
  now: Date,
): NodeStatus {
  const [v4, v6] = ([4, 6] as const).map((family) => peersOf(sessions, states, family));
  const established = (peers: readonly PeerStatus[] = []) =>
    peers.filter(({ state }) => state === 'Established').length;
  const [upV4, upV6] = [established(v4), established(v6)];
  return {
    lastUpdated: now.toISOString().replace(/\.\d+Z$/, 'Z'),
    ...(classes.includes('Agent') ? { agent: { birdV4: daemon, birdV6: daemon } } : {}),
    ...(classes.includes('BGP')
      ? {
          bgp: {
            numberEstablishedV4: upV4,
            numberNotEstablishedV4: (v4?.length ?? 0) - upV4,
            numberEstablishedV6: upV6,
            numberNotEstablishedV6: (v6?.length ?? 0) - upV6,
            peersV4: v4 ?? [],
            peersV6: v6 ?? [],
          },
        }
      : {}),
    ...(classes.includes('Routes')
      ? { routes: { routesV4: [...routes[4]], routesV6: [...routes[6]] } }
      : {}),
  };
}

function peersOf(
  sessions: readonly BgpSession[],
  states: readonly ProtocolState[],
  family: IpFamily,
): PeerStatus[] {
  const byName = new Map(states.map((state) => [state.name, state]));
  return sessions
    .filter((session) => session.family === family)
    .map(({ name, peer, kind }) => {
      const found = byName.get(name);
      const isKnown = found !== undefined && !Number.isNaN(found.since.getTime());
      return {
        peerIP: peer,
        type: peerTypes[kind],
        // Calico has no word for a session that is not tried.
        state: found === undefined || found.state === 'Down' ? 'Idle' : found.state,
        ...(isKnown ? { since: found.since.toISOString() } : {}),
      };
    });
}
