import { describe } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import type {
  CounterProblem,
  DropCount,
  DropCounters,
  DroppedBy,
} from '../../ruleset/drop-counters.ts';
import { dropReasons } from '../../ruleset/drop-reasons.ts';
import { countersPerAddress } from './drop-chains.ts';
import { crowdedSet, reasonSet, restSet } from './names.ts';
import type { RuleCounter } from './policy-chains.ts';

/** One member of a counting set, `<cidr>,<interface>`. */
interface Counter {
  readonly member: string;
  readonly packets: bigint;
  readonly bytes: bigint;
}

type Count = Pick<Counter, 'packets' | 'bytes'>;

/** The actual sets that rules fill. */
export interface CountingSets {
  /** `size` is the number of members. */
  filled(): Iterable<{ readonly name: string; readonly family: IpFamily; readonly size: number }>;
  counters(name: string): readonly Counter[];
  removeCounters(name: string, members: readonly string[]): void;
  holds(name: string, member: string): boolean;
  addMember(name: string, member: string): void;
  removeMember(name: string, member: string): void;
}

/**
 * The counters of dropped packets: members of sets, one for each address and interface. Rules add them, and this class
 * maintains them: a counter is removed with its interface; and a set keeps a limited number for one address, the
 * others are counted together.
 */
export class DropCounts implements DropCounters {
  readonly #families: readonly IpFamily[];
  readonly #sets: CountingSets;
  readonly #rules: () => readonly RuleCounter[];
  /** Members of each set at the last read. */
  readonly #sizes = new Map<string, number>();
  /** Addresses with the maximum of counters, by set. */
  readonly #crowded = new Map<
    string,
    { readonly family: IpFamily; readonly addresses: ReadonlySet<string> }
  >();
  /** Counts of removed counters, added to the common one. */
  readonly #folded = new Map<IpFamily, Count>();
  readonly #problems = new Map<string, string>();

  constructor(
    families: readonly IpFamily[],
    sets: CountingSets,
    rules: () => readonly RuleCounter[],
  ) {
    this.#families = families;
    this.#sets = sets;
    this.#rules = rules;
  }

  counts(): readonly DropCount[] {
    return this.#countingSets().flatMap(({ set, by }) =>
      [...(this.#read(set) ?? []), ...this.#foldedInto(set)].map(({ member, packets, bytes }) => ({
        by,
        interface: member.split(',')[1],
        packets,
        bytes,
      })),
    );
  }

  tend({ sweep, hasInterface }: Parameters<DropCounters['tend']>[0]): boolean {
    const filled = [...this.#sets.filled()];
    let hasChanged = this.#forgetAllBut(new Set(filled.map(({ name }) => name)));
    for (const { name, family, size } of filled) {
      const isAsBefore = size === (this.#sizes.get(name) ?? 0);
      if (isAsBefore && (size === 0 || !sweep) && !this.#problems.has(name)) continue;
      this.#sizes.set(name, size);
      const members = this.#read(name);
      if (members === undefined) continue;
      hasChanged = this.#tend({ name, family }, members, hasInterface) || hasChanged;
    }
    return hasChanged;
  }

  problems(): readonly CounterProblem[] {
    return [...this.#problems].map(([set, why]) => ({
      what: `the address set ${set}`,
      why,
      command: `ipset flush ${set}`,
    }));
  }

  /** Forgets the sets of policies that are gone; reports whether there is something to write. */
  #forgetAllBut(names: ReadonlySet<string>): boolean {
    for (const map of [this.#sizes, this.#problems]) {
      for (const name of map.keys()) if (!names.has(name)) map.delete(name);
    }
    let hasChanged = false;
    for (const [name, { family }] of this.#crowded) {
      if (names.has(name)) continue;
      hasChanged = this.#setCrowded(name, family, new Set()) || hasChanged;
    }
    return hasChanged;
  }

  /** Drops without a matching rule first, then drops by rules. */
  #countingSets(): readonly { readonly set: string; readonly by: DroppedBy }[] {
    const reasons = (family: IpFamily, isOfStack: boolean) =>
      Object.values(dropReasons)
        .filter(({ at }) => (at === 'stack') === isOfStack)
        .map((reason) => ({
          set: reasonSet(family, reason),
          by: { kind: 'reason', reason } as const,
        }));
    return [
      ...this.#families.flatMap((family) => reasons(family, true)),
      ...this.#rules().map(({ set, rule }) => ({ set, by: { kind: 'rule', rule } as const })),
      ...this.#families.flatMap((family) => [
        ...reasons(family, false),
        { set: restSet(family), by: { kind: 'rest', text: restText } as const },
      ]),
    ];
  }

  /** Returns the counters of a set; `undefined` if it cannot be read, which is reported as a problem. */
  #read(set: string): readonly Counter[] | undefined {
    try {
      const counters = this.#sets.counters(set);
      this.#problems.delete(set);
      return counters;
    } catch (error) {
      this.#problems.set(set, describe(error));
      return undefined;
    }
  }

  /** Returns the counts to add to the common counter, because the kernel has removed them. */
  #foldedInto(set: string): readonly Counter[] {
    return [...this.#folded]
      .filter(([family]) => restSet(family) === set)
      .map(([, count]) => ({ member: '', ...count }));
  }

  #tend(
    { name, family }: { readonly name: string; readonly family: IpFamily },
    members: readonly Counter[],
    hasInterface: (name: string) => boolean,
  ): boolean {
    const isStale = ({ member }: Counter) => !hasInterface(member.split(',')[1] ?? '');
    const removed = members.filter(isStale);
    const crowded = new Set<string>();
    for (const [address, counters] of byAddress(members.filter((one) => !isStale(one)))) {
      if (counters.length < countersPerAddress) continue;
      crowded.add(address);
      if (!this.#sets.holds(crowdedSet(family), address)) {
        // Rules would recreate a counter removed now: the next poll removes it.
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

  /** An address is crowded while it is in one of the sets. */
  #setCrowded(name: string, family: IpFamily, now: ReadonlySet<string>): boolean {
    const before = this.#crowded.get(name)?.addresses ?? new Set<string>();
    if (now.size === 0) this.#crowded.delete(name);
    else this.#crowded.set(name, { family, addresses: now });
    const isElsewhere = (address: string) =>
      [...this.#crowded.values()].some(({ addresses }) => addresses.has(address));
    const added = [...now].filter((address) => !before.has(address));
    const gone = [...before].filter((address) => !isElsewhere(address));
    for (const address of added) this.#sets.addMember(crowdedSet(family), address);
    for (const address of gone) this.#sets.removeMember(crowdedSet(family), address);
    return added.length + gone.length > 0;
  }
}

function byAddress(members: readonly Counter[]): ReadonlyMap<string, readonly Counter[]> {
  return Map.groupBy(members, ({ member }) => member.split(',')[0] ?? '');
}

const restText = 'other addresses';
