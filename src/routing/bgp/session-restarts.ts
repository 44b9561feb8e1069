import { isDeepStrictEqual } from 'node:util';
import { parseCidr } from '../../ip/cidr.ts';
import type { BgpConfiguration } from '../../model/kinds/bgp-configuration.ts';
import type { BgpFilter } from '../../model/kinds/bgp-filter.ts';
import type { BgpPeer } from '../../model/kinds/bgp-peer.ts';
import type { Node } from '../../model/kinds/node.ts';
import { bgpModel, endedSessions, type BgpModel } from './bgp-model.ts';

/** The stored resources that sessions depend on, by name. */
export interface BgpResources {
  readonly nodes: ReadonlyMap<string, Node>;
  readonly configurations: ReadonlyMap<string, BgpConfiguration>;
  readonly peers: ReadonlyMap<string, BgpPeer>;
  readonly filters: ReadonlyMap<string, BgpFilter>;
}

export interface SessionRestarts {
  /** `host-1 with host-2`, each session once. */
  readonly sessions: readonly string[];
  /** Whether there are more, of nodes that were not looked at. */
  readonly isPart: boolean;
}

/** Sessions of a mesh are quadratic in the number of nodes. */
const maxNodes = 50;

/**
 * Returns the sessions that a change of resources ends and starts again; not those that it ends for good. What only hosts
 * know, their networks and passwords, is taken as unchanged.
 */
export function sessionRestarts(before: BgpResources, after: BgpResources): SessionRestarts {
  const both = [...before.nodes.keys()].filter((name) => after.nodes.has(name));
  const isChanged = (name: string) =>
    !isDeepStrictEqual(before.nodes.get(name), after.nodes.get(name)) ||
    !isDeepStrictEqual(
      before.configurations.get(`node.${name}`),
      after.configurations.get(`node.${name}`),
    );
  const first = both.filter(isChanged);
  const others = both.filter((name) => !isChanged(name));
  const looked = [...first, ...others].slice(0, maxNodes);
  const found = looked.flatMap((name) => restartsOf(modelOf(name, before), modelOf(name, after)));
  return { sessions: [...new Set(found)], isPart: both.length > maxNodes };
}

function restartsOf(before: BgpModel, after: BgpModel): readonly string[] {
  const goesOn = new Set(after.sessions.map(({ peer, port }) => `${peer} ${port}`));
  return endedSessions(before, after)
    .filter(({ peer, port }) => goesOn.has(`${peer} ${port}`))
    .map(({ peer, peerNode }) =>
      peerNode === undefined
        ? `${before.node} with ${peer}`
        : [before.node, peerNode].toSorted().join(' with '),
    );
}

const everywhere = [parseCidr('0.0.0.0/0'), parseCidr('::/0')];

function modelOf(node: string, resources: BgpResources): BgpModel {
  return bgpModel({
    ...resources,
    node,
    pools: new Map(),
    blocks: [],
    connected: everywhere,
    passwordOf: ({ name, key }) => ({ password: `${name}/${key}` }),
  });
}
