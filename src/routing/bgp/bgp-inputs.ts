import type { Cidr } from '../../ip/cidr.ts';
import type { PasswordReference } from '../../model/bgp.ts';
import type { BriefBlock } from '../../model/briefs.ts';
import type { BgpConfiguration } from '../../model/kinds/bgp-configuration.ts';
import type { BgpFilter } from '../../model/kinds/bgp-filter.ts';
import type { BgpPeer } from '../../model/kinds/bgp-peer.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import type { Node } from '../../model/kinds/node.ts';

/** Everything that decides what a node's BGP speaker does. Resources are by name. */
export interface BgpInputs {
  /** The name of this node. */
  readonly node: string;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly configurations: ReadonlyMap<string, BgpConfiguration>;
  readonly peers: ReadonlyMap<string, BgpPeer>;
  readonly filters: ReadonlyMap<string, BgpFilter>;
  readonly pools: ReadonlyMap<string, IpPool>;
  /** At least the blocks of this node, and those with addresses that other nodes borrow. */
  readonly blocks: Iterable<BriefBlock>;
  /** The networks of this host's interfaces: BGP never overrides them. */
  readonly connected: readonly Cidr[];
  /** Returns the password of a reference, or why there is none. */
  readonly passwordOf: (reference: PasswordReference) => PasswordFound;
}

export type PasswordFound =
  | { readonly password: string }
  | { readonly password: undefined; readonly why: string };

/** A part of a resource that has no effect, with the reason; the rest of the configuration stands. */
export interface BgpProblem {
  /** `BGPPeer rack-1`. */
  readonly resource: string;
  /** Path of the field, `''` for the whole resource. */
  readonly field: string;
  readonly why: string;
}

/** Returns resources in the order of their names: the datastore's tells nothing, and differs from start to start. */
export function sortedByName<Value>(
  resources: ReadonlyMap<string, Value>,
): readonly (readonly [string, Value])[] {
  return [...resources].toSorted(([a], [b]) => (a < b ? -1 : 1));
}
