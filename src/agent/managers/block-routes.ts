import { isDeepStrictEqual } from 'node:util';
import type { BriefChange, EntryChange } from '../../cache/mirror.ts';
import type { ApplyFailure } from '../../dataplane/apply-failure.ts';
import type { Conntrack } from '../../dataplane/conntrack.ts';
import type { HostAddresses } from '../../dataplane/host-addresses.ts';
import { birdProtocol, routeTables } from '../../dataplane/netlink/route.ts';
import type { Routes } from '../../dataplane/routes/routes.ts';
import type { IpAddress, IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrOf, hostCidr, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { briefTypeOf, type BriefBlock } from '../../model/briefs.ts';
import { bgpIsOff, type BgpState } from '../../routing/bgp/bgp-state.ts';
import { BlockRoutes, type BlockRoute, type PeerReach } from '../../routing/block-routes.ts';
import { ReusedAddresses } from '../../routing/reused-addresses.ts';
import { tunnelBy, tunnelSettings } from '../../routing/tunnels.ts';
import { FelixConfigurations } from '../felix-configurations.ts';
import type { HostEvent, Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

type BlockRoutesKind = 'IPPool' | 'Node' | 'Block4' | 'Block6' | 'FelixConfiguration';

interface BlockRoutesDeps extends Pick<ManagerDeps, 'node' | 'families'> {
  readonly kernel: {
    readonly routes: Pick<Routes, 'setDesired' | 'deleteDesired'>;
    readonly addresses: Pick<HostAddresses, 'linkOf'>;
    readonly birdRoutes: () => Iterable<Cidr>;
    readonly conntrack: Pick<Conntrack, 'flush'>;
  };
}

/**
 * Routes to the containers of other hosts. A route through a tunnel waits for the tunnel's interface. A direct route
 * leaves by the interface that has this host's address; without it, there is none.
 *
 * With BGP, the plain direct routes are left to BIRD: each goes when BIRD has a route to its destination, which has a
 * higher metric and so takes over at that moment, and all go when BGP has settled. They come back when BGP is off, and
 * while no session is established.
 */
export class BlockRoutesManager implements Manager<BlockRoutesKind> {
  readonly name = 'routes to other hosts';
  readonly kinds = ['IPPool', 'Node', 'Block4', 'Block6', 'FelixConfiguration'] as const;
  readonly #node: string;
  readonly #families: readonly IpFamily[];
  readonly #kernel: BlockRoutesDeps['kernel'];
  readonly #configurations: FelixConfigurations;
  readonly #plan: BlockRoutes;
  readonly #reused: ReusedAddresses;
  /** The interfaces with this host's addresses. */
  readonly #uplinks = new Map<IpFamily, string>();
  /** Destinations to which BIRD has a route in the kernel. */
  #birds: Set<Cidr> | undefined;
  #bgp = bgpIsOff;
  /** Whether to find the interfaces again. */
  #mustFind = true;

  constructor({ node, families, kernel }: BlockRoutesDeps) {
    this.#node = node;
    this.#families = families;
    this.#kernel = kernel;
    this.#configurations = new FelixConfigurations(node);
    this.#reused = new ReusedAddresses(node);
    this.#plan = new BlockRoutes(node, {
      setDesired: (route) => this.#setDesired(route),
      deleteDesired: (destination) => this.#deleteDesired(destination),
    });
  }

  onChange(change: EntryChange<BlockRoutesKind>): void {
    const { id } = change;
    if (change.kind === 'IPPool') {
      this.#plan.setPool(id, change.now?.value);
    } else if (change.kind === 'Node') {
      this.#plan.setNode(id, change.now?.value);
      if (id === this.#node) this.#mustFind = true;
    } else if (change.kind === 'FelixConfiguration') {
      if (!this.#configurations.take(change)) return;
      this.#plan.setAllowed(tunnelSettings(...this.#configurations.both).isAllowed);
    } else {
      const block = change.now?.value;
      this.#setBlock(id, block && briefTypeOf.Block4.of(block));
    }
  }

  onBrief(change: BriefChange): void {
    if (change.kind !== 'WorkloadEndpoint') this.#setBlock(change.id, change.brief);
  }

  /** Sets what BGP does; returns whether there may be something to write. */
  setBgp(bgp: BgpState): boolean {
    if (isDeepStrictEqual(bgp, this.#bgp)) return false;
    this.#bgp = bgp;
    this.#birds = bgp.isOn ? new Set(this.#kernel.birdRoutes()) : undefined;
    for (const route of this.#plan.routes) if (isPlain(route)) this.#setDesired(route);
    return true;
  }

  onEvent(event: HostEvent): boolean {
    const isOfBird = this.#followBird(event);
    if (!this.#concernsUplinks(event)) return isOfBird;
    this.#mustFind = true;
    return true;
  }

  resync(): void {
    this.#mustFind = true;
    if (this.#birds !== undefined) this.#birds = new Set(this.#kernel.birdRoutes());
  }

  apply(phase: Phase): void {
    if (phase === 'reading' && this.#mustFind) this.#findUplinks();
    // The sets of members, by which packets of the new owners are judged, are written.
    if (phase === 'routes') this.#flushReused();
  }

  /** Reports direct routes that have no interface. */
  failures(): readonly ApplyFailure[] {
    return this.#families.flatMap((family): readonly ApplyFailure[] => {
      const address = this.#ownAddress(family);
      if (address === undefined || this.#uplinks.has(family)) return [];
      const isMissed = this.#plan.routes.some(
        ({ by, destination }) => by === 'direct' && cidrFamily(destination) === family,
      );
      if (!isMissed) return [];
      return [
        {
          what: `IPv${family} routes to other hosts`,
          why: `no interface of this host has ${address}, the address of Node ${this.#node}`,
        },
      ];
    });
  }

  /** Returns how the other hosts are reached, by IP pool. */
  reaches(): readonly PeerReach[] {
    const isReached = this.#reachedByBird();
    return this.#plan.reaches().map((one): PeerReach => {
      const { peer, pool, reach } = one;
      if (reach.by !== 'none' || reach.isRoutable !== true || !this.#bgp.hasRouter) return one;
      const isOfBgp = this.#plan.destinationsOf(peer, pool).every(isReached);
      return isOfBgp ? { peer, pool, reach: { by: 'bgp' } } : one;
    });
  }

  /** Returns a test whether BIRD has a route to a network, other than the default route. */
  #reachedByBird(): (destination: Cidr) => boolean {
    const birds = this.#birds ?? new Set<Cidr>();
    const lengths = new Set([...birds].map((net) => splitCidr(net).prefixLength));
    lengths.delete(0);
    return (destination) => {
      const { address, prefixLength } = splitCidr(destination);
      return [...lengths].some(
        (length) => length <= prefixLength && birds.has(cidrOf(address, length)),
      );
    };
  }

  #setBlock(id: string, block: BriefBlock | undefined): void {
    this.#plan.setBlock(id, block);
    this.#reused.setBlock(id, block);
  }

  /** Flushes the connections of former owners of addresses that other hosts use now. */
  #flushReused(): void {
    this.#reused.settle();
    const reused = this.#reused.addresses;
    if (reused.size === 0) return;
    this.#kernel.conntrack.flush(
      this.#families,
      ({ source, answerer }) => reused.has(source) || reused.has(answerer),
    );
    this.#reused.clear();
  }

  /** The kernel reports an address of the host as a route of the table `local`. */
  #concernsUplinks(event: HostEvent): boolean {
    if (event.kind === 'link') {
      return event.isGone && [...this.#uplinks.values()].includes(event.link.name);
    }
    if (event.kind !== 'routeMade' && event.kind !== 'routeGone') return false;
    const { table, destination } = event.route;
    const own = this.#ownAddress(cidrFamily(destination));
    return table === routeTables.local && own !== undefined && destination === hostCidr(own);
  }

  #findUplinks(): void {
    let isChanged = false;
    for (const family of this.#families) {
      const address = this.#ownAddress(family);
      const name = address === undefined ? undefined : this.#kernel.addresses.linkOf(address)?.name;
      if (name === this.#uplinks.get(family)) continue;
      if (name === undefined) this.#uplinks.delete(family);
      else this.#uplinks.set(family, name);
      isChanged = true;
    }
    if (isChanged) for (const route of this.#plan.routes) this.#setDesired(route);
    this.#mustFind = false;
  }

  /** Follows BIRD's routes in the kernel; returns whether there may be something to write. */
  #followBird(event: HostEvent): boolean {
    if (this.#birds === undefined) return false;
    if (event.kind !== 'routeMade' && event.kind !== 'routeGone') return false;
    const { protocol, table, destination } = event.route;
    if (protocol !== birdProtocol || table !== routeTables.main) return false;
    if (event.kind === 'routeMade') this.#birds.add(destination);
    else this.#birds.delete(destination);
    const route = this.#plan.routeTo(destination);
    if (route === undefined || !isPlain(route)) return false;
    this.#setDesired(route);
    return true;
  }

  #isLeftToBgp(route: BlockRoute): boolean {
    if (!this.#bgp.isOn || !isPlain(route)) return false;
    return this.#bgp.isSettled || this.#birds?.has(route.destination) === true;
  }

  #ownAddress(family: IpFamily): IpAddress | undefined {
    return this.#plan.own?.underlay[family]?.address;
  }

  #setDesired(route: BlockRoute): void {
    const { destination } = route;
    const family = cidrFamily(destination);
    if (!this.#families.includes(family)) return;
    const { routes } = this.#kernel;
    if (route.by === 'blackhole') return routes.setDesired({ kind: 'block', destination });
    if (this.#isLeftToBgp(route)) return this.#deleteDesired(destination);
    const name =
      route.by === 'direct' ? this.#uplinks.get(family) : tunnelBy(route.by, family)?.device;
    if (name === undefined) return this.#deleteDesired(destination);
    const via = { interface: name, gateway: route.gateway };
    routes.setDesired({ kind: 'block', destination, via });
  }

  #deleteDesired(destination: Cidr): void {
    if (!this.#families.includes(cidrFamily(destination))) return;
    this.#kernel.routes.deleteDesired({ kind: 'block', destination });
  }
}

function isPlain(route: BlockRoute): boolean {
  return route.by === 'direct' && route.isPlain;
}
