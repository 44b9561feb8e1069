import type { EntryChange } from '../../cache/mirror.ts';
import type { KernelMember } from '../../dataplane/netlink/ipset.ts';
import { describe } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import { countersPerAddress } from '../../render/iptables/drop-chains.ts';
import { crowdedSet, restSet } from '../../render/iptables/names.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { Kernel } from '../kernel.ts';
import type { HostEvent, Manager } from '../manager.ts';
import type { ContainerPaths } from './container-paths.ts';
import { ownEndpoint } from './own-endpoint.ts';

interface CounterKernel {
  readonly sets: Pick<
    Kernel['sets'],
    'filled' | 'counters' | 'removeCounters' | 'holds' | 'addMember' | 'removeMember'
  >;
  readonly routes: Pick<Kernel['routes'], 'link'>;
}

interface Count {
  readonly packets: bigint;
  readonly bytes: bigint;
}

/**
 * The counters of what is dropped. Rules make them, one for each address and interface, so that this looks after
 * them: a counter goes with its interface; and of one address a set keeps so many, the others become one number.
 */
export class DropCounters implements Manager<'WorkloadEndpoint'> {
  readonly name = 'drop counters';
  readonly kinds = ['WorkloadEndpoint'] as const;
  readonly #node: string;
  readonly #sets: CounterKernel['sets'];
  readonly #hasInterface: (name: string) => boolean;
  /** Members of each set when it was read last. */
  readonly #sizes = new Map<string, number>();
  /** Addresses that have as many counters as they may have, by set. */
  readonly #crowded = new Map<string, ReadonlySet<string>>();
  /** What counters had counted that were given up for the one number. */
  readonly #folded = new Map<IpFamily, Count>();
  readonly #problems = new Map<string, string>();
  #mustSweep = true;

  constructor(
    { node, kernel }: { readonly node: string; readonly kernel: CounterKernel },
    endpoints: Pick<ContainerPaths, 'hasInterface'>,
  ) {
    this.#node = node;
    this.#sets = kernel.sets;
    this.#hasInterface = (name) =>
      endpoints.hasInterface(name) || kernel.routes.link(name) !== undefined;
  }

  onChange(change: EntryChange<'WorkloadEndpoint'>): void {
    if (ownEndpoint(this.#node, change) === undefined) this.#mustSweep = true;
  }

  /** An interface has gone: the next look takes its counters away. */
  onEvent(event: HostEvent): boolean {
    if (event.kind === 'link' && event.isGone) this.#mustSweep = true;
    return false;
  }

  /** Looks after the sets that have changed since the last time; answers whether addresses became crowded, or are no more. */
  look({ isInSync }: { readonly isInSync: boolean }): boolean {
    // Which interfaces there are is not known before.
    if (!isInSync) return false;
    const mustSweep = this.#mustSweep;
    this.#mustSweep = false;
    let hasChanged = false;
    for (const { name, family, size } of this.#sets.filled()) {
      const isAsBefore = size === (this.#sizes.get(name) ?? 0);
      if (isAsBefore && (size === 0 || !mustSweep) && !this.#problems.has(name)) continue;
      this.#sizes.set(name, size);
      const members = this.read(name);
      if (members === undefined) continue;
      hasChanged = this.#tend(name, family, members) || hasChanged;
    }
    return hasChanged;
  }

  /** The counters of a set; `undefined` if it cannot be read, which `checks` tell. */
  read(name: string): readonly KernelMember[] | undefined {
    try {
      const members = this.#sets.counters(name);
      this.#problems.delete(name);
      return members;
    } catch (error) {
      this.#problems.set(name, describe(error));
      return undefined;
    }
  }

  /** What the one number has to have added to it, as the kernel has forgotten it. */
  foldedInto(name: string): Count | undefined {
    return ([4, 6] as const)
      .filter((family) => restSet(family) === name)
      .map((family) => this.#folded.get(family))[0];
  }

  checks(): readonly Check[] {
    return [...this.#problems].map(([set, why]) => ({
      name: 'drop counters',
      ok: false,
      detail: `those of the address set ${set} cannot be read: ${why}`,
      remedy: `Packets are dropped all the same; begin again with: ipset flush ${set}`,
    }));
  }

  #tend(name: string, family: IpFamily, members: readonly KernelMember[]): boolean {
    const isStale = ({ member }: KernelMember) => !this.#hasInterface(member.split(',')[1] ?? '');
    const removed = members.filter(isStale);
    const crowded = new Set<string>();
    for (const [address, counters] of byAddress(members.filter((one) => !isStale(one)))) {
      if (counters.length < countersPerAddress) continue;
      crowded.add(address);
      if (!this.#sets.holds(crowdedSet(family), address)) {
        // Rules would make anew what is given up now: the next look does it.
        this.#sizes.delete(name);
        continue;
      }
      const most = counters.toSorted((a, b) => Number(b.packets - a.packets));
      const surplus = most.slice(countersPerAddress);
      this.#fold(family, surplus);
      removed.push(...surplus);
    }
    if (removed.length > 0) {
      try {
        this.#sets.removeCounters(
          name,
          removed.map(({ member }) => member),
        );
        this.#sizes.set(name, members.length - removed.length);
      } catch (error) {
        this.#problems.set(name, describe(error));
      }
    }
    return this.#setCrowded(name, family, crowded);
  }

  #fold(family: IpFamily, counters: readonly Count[]): void {
    const sum = this.#folded.get(family) ?? { packets: 0n, bytes: 0n };
    this.#folded.set(
      family,
      counters.reduce(
        ({ packets, bytes }, one) => ({ packets: packets + one.packets, bytes: bytes + one.bytes }),
        sum,
      ),
    );
  }

  /** An address is crowded as long as it is in one of the sets. */
  #setCrowded(name: string, family: IpFamily, now: ReadonlySet<string>): boolean {
    const before = this.#crowded.get(name) ?? new Set<string>();
    this.#crowded.set(name, now);
    const isElsewhere = (address: string) =>
      [...this.#crowded.values()].some((addresses) => addresses.has(address));
    const added = [...now].filter((address) => !before.has(address));
    const gone = [...before].filter((address) => !isElsewhere(address));
    for (const address of added) this.#sets.addMember(crowdedSet(family), address);
    for (const address of gone) this.#sets.removeMember(crowdedSet(family), address);
    return added.length + gone.length > 0;
  }
}

function byAddress(members: readonly KernelMember[]): ReadonlyMap<string, readonly KernelMember[]> {
  return Map.groupBy(members, ({ member }) => member.split(',')[0] ?? '');
}
