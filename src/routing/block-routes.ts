import { isDeepStrictEqual } from 'node:util';
import type { IpAddress } from '../ip/address.ts';
import { hostCidr, type Cidr } from '../ip/cidr.ts';
import { NetworkIndex } from '../ip/network-index.ts';
import type { BriefBlock } from '../model/briefs.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import { poolIsEnabled, type IpPool } from '../model/kinds/ip-pool.ts';
import type { Node } from '../model/kinds/node.ts';
import { peerOf, reachOf, withoutDisabledTunnels, type Peer, type Reach } from './peers.ts';
import { encapsulationOf, type Encapsulation, type TunnelSettings } from './tunnels.ts';

/** A route to a block, or to one address that another node than its block's uses. */
export type BlockRoute =
  | {
      readonly by: 'direct' | Encapsulation;
      readonly destination: Cidr;
      readonly gateway: IpAddress;
      /** Whether its pool never uses a tunnel, so that BGP may have a route instead. */
      readonly isPlain: boolean;
    }
  /** This node's own addresses: without a container, packets to them go nowhere. */
  | { readonly by: 'blackhole'; readonly destination: Cidr };

/** Where the routes go. */
export interface BlockRouteOutput {
  readonly setDesired: (route: BlockRoute) => void;
  readonly deleteDesired: (destination: Cidr) => void;
}

/** How this node reaches addresses of a pool on another one. */
export interface PeerReach {
  readonly peer: string;
  readonly pool: string;
  /** `bgp`: by routes that routers announce. */
  readonly reach: Reach | { readonly by: 'bgp' };
}

/**
 * The routes that a node needs for the blocks of all nodes: to the blocks of others, to addresses that one node uses
 * from the block of another, and blackholes for its own. The routes depend only on the current pools, nodes and
 * blocks. A change costs what it affects, whatever else there is: a block its own destinations, a node those that it
 * has, a pool those inside it; only this node's own address concerns all.
 */
export class BlockRoutes {
  readonly #node: string;
  readonly #output: BlockRouteOutput;
  readonly #pools = new Map<string, IpPool>();
  /** The names of the pools of a network. */
  readonly #poolNames = new IdsByKey();
  readonly #peers = new Map<string, Peer>();
  /** By ID of the block, the nodes that have its destinations. */
  readonly #blocks = new Map<string, ReadonlyMap<Cidr, string>>();
  /** By destination, and ID of the block. */
  readonly #claims = new Map<Cidr, Map<string, string>>();
  readonly #ofNode = new Map<string, Set<Cidr>>();
  readonly #destinations = new NetworkIndex();
  readonly #routes = new Map<Cidr, BlockRoute>();
  #allowed: TunnelSettings['isAllowed'] = { vxlan: true, ipip: true };
  #evaluated = 0;

  constructor(node: string, output: BlockRouteOutput) {
    this.#node = node;
    this.#output = output;
  }

  /** Destinations evaluated since the start. */
  get evaluated(): number {
    return this.#evaluated;
  }

  /** Sets the current state of a pool; `undefined`: deleted. A disabled pool still has blocks in use. */
  setPool(name: string, pool: IpPool | undefined): void {
    const before = this.#pools.get(name);
    if (before !== undefined) this.#poolNames.remove(before.spec.cidr, name);
    if (pool === undefined) this.#pools.delete(name);
    else this.#pools.set(name, pool);
    if (pool !== undefined) this.#poolNames.add(pool.spec.cidr, name);
    for (const cidr of new Set([before?.spec.cidr, pool?.spec.cidr])) {
      if (cidr === undefined) continue;
      for (const destination of this.#destinations.inside(cidr)) this.#evaluate(destination);
    }
  }

  /** Sets the current state of a node; `undefined`: deleted. */
  setNode(name: string, node: Node | undefined): void {
    const before = this.#peers.get(name);
    const peer = node && peerOf(node);
    if (peer === undefined) this.#peers.delete(name);
    else this.#peers.set(name, peer);
    if (isDeepStrictEqual(before, peer)) return;
    const affected = name === this.#node ? this.#claims.keys() : this.#ofNode.get(name);
    for (const destination of affected ?? []) this.#evaluate(destination);
  }

  /** Sets which tunnels FelixConfiguration allows on this node; at first all. */
  setAllowed(allowed: TunnelSettings['isAllowed']): void {
    if (isDeepStrictEqual(allowed, this.#allowed)) return;
    this.#allowed = allowed;
    for (const destination of this.#claims.keys()) this.#evaluate(destination);
  }

  /** Sets the current state of a block; `undefined`: deleted. */
  setBlock(id: string, block: BriefBlock | undefined): void {
    const before = this.#blocks.get(id) ?? nothing;
    const now = block === undefined ? nothing : destinationsOf(block);
    if (now.size === 0) this.#blocks.delete(id);
    else this.#blocks.set(id, now);
    for (const [destination] of before) {
      if (!now.has(destination)) this.#claim(destination, id, undefined);
    }
    for (const [destination, node] of now) {
      if (before.get(destination) !== node) this.#claim(destination, id, node);
    }
  }

  /** The present routes, in no order. */
  get routes(): readonly BlockRoute[] {
    return [...this.#routes.values()];
  }

  /** Returns the present route to a destination. */
  routeTo(destination: Cidr): BlockRoute | undefined {
    return this.#routes.get(destination);
  }

  /** Returns this node's addresses; `undefined` without a Node. */
  get own(): Peer | undefined {
    const peer = this.#peers.get(this.#node);
    return peer && withoutDisabledTunnels(peer, { isAllowed: this.#allowed });
  }

  /** Returns how each other node is reached, by enabled pool. */
  reaches(): readonly PeerReach[] {
    const pools = [...this.#pools.values()].filter(poolIsEnabled);
    return [...this.#peers.values()]
      .filter(({ name }) => name !== this.#node)
      .flatMap((peer) =>
        pools.map((pool) => ({
          peer: peer.name,
          pool: pool.metadata.name,
          reach: reachOf(pool, this.own, peer),
        })),
      );
  }

  /** Returns the destinations of a pool that another node has. */
  destinationsOf(node: string, pool: string): readonly Cidr[] {
    const all = [...(this.#ofNode.get(node) ?? [])];
    return all.filter((destination) => this.#poolOf(destination)?.metadata.name === pool);
  }

  #claim(destination: Cidr, block: string, node: string | undefined): void {
    const claims = this.#claims.get(destination) ?? new Map<string, string>();
    const before = holderOf(claims);
    if (node === undefined) claims.delete(block);
    else claims.set(block, node);
    const now = holderOf(claims);
    if (before === now) return;
    if (now === undefined) {
      this.#claims.delete(destination);
      this.#destinations.delete(destination);
    } else if (before === undefined) {
      this.#claims.set(destination, claims);
      this.#destinations.add(destination);
    }
    const [left, taken] = [this.#ofNode.get(before ?? ''), this.#ofNode.get(now ?? '')];
    left?.delete(destination);
    if (before !== undefined && left?.size === 0) this.#ofNode.delete(before);
    if (now !== undefined) this.#ofNode.set(now, (taken ?? new Set()).add(destination));
    this.#evaluate(destination);
  }

  #evaluate(destination: Cidr): void {
    this.#evaluated++;
    const before = this.#routes.get(destination);
    const now = this.#routeTo(destination);
    if (isDeepStrictEqual(before, now)) return;
    if (now === undefined) {
      this.#routes.delete(destination);
      this.#output.deleteDesired(destination);
    } else {
      this.#routes.set(destination, now);
      this.#output.setDesired(now);
    }
  }

  #routeTo(destination: Cidr): BlockRoute | undefined {
    const node = holderOf(this.#claims.get(destination));
    const pool = this.#poolOf(destination);
    if (node === undefined || pool === undefined) return undefined;
    if (node === this.#node) return { by: 'blackhole', destination };
    const peer = this.#peers.get(node);
    if (peer === undefined) return undefined;
    const reach = reachOf(pool, this.own, peer);
    if (reach.by === 'none') return undefined;
    const isPlain = encapsulationOf(pool).mode === 'Never';
    return { by: reach.by, destination, gateway: reach.gateway, isPlain };
  }

  /** Returns the smallest pool that contains a network. */
  #poolOf(destination: Cidr): IpPool | undefined {
    for (const cidr of this.#destinations.around(destination)) {
      const [name] = [...this.#poolNames.ids(cidr)].toSorted();
      if (name !== undefined) return this.#pools.get(name);
    }
    return undefined;
  }
}

const nothing: ReadonlyMap<Cidr, string> = new Map();

/** Returns the networks that packets for a block's addresses go to, with their nodes. */
function destinationsOf({ cidr, host, borrowed }: BriefBlock): ReadonlyMap<Cidr, string> {
  return new Map([
    ...(host === undefined ? [] : [[cidr, host] as const]),
    ...borrowed.map(({ address, node }) => [hostCidr(address), node] as const),
  ]);
}

/** Returns the node of a destination; of several blocks with it, the first one's. */
function holderOf(claims: ReadonlyMap<string, string> | undefined): string | undefined {
  if (claims === undefined || claims.size < 2) return claims?.values().next().value;
  const [first = ''] = [...claims.keys()].toSorted();
  return claims.get(first);
}
