import { describe } from '../errors/error.ts';
import type { AddressSetSpec } from '../ruleset/address-set.ts';
import { DeltaTracker } from './delta-tracker.ts';
import { kernelTypeName, type Ipset, type KernelMember } from './netlink/ipset.ts';
import { isRefusal } from './netlink/socket.ts';

/** Names of sets that are ours: Calico's prefix and the family. */
const ours = /^cali[46][0t]/;

interface Wanted {
  readonly spec: AddressSetSpec;
  readonly members: DeltaTracker<string, true>;
}

/**
 * The address sets of the kernel as they should be. Additions and removals are separate steps, as rules are
 * changed between them: a set exists before a rule that names it, and goes after.
 */
export class AddressSets {
  readonly #ipset: Ipset;
  readonly #sets = new Map<string, Wanted>();
  /** Sets in the kernel by name, with their type there. */
  readonly #present = new Map<string, string>();
  readonly #changed = new Set<string>();
  readonly #unwanted = new Set<string>();
  /** What could be removed when the last additions were made. */
  #removable: (() => void)[] = [];
  #goingSets: ReadonlySet<string> = new Set();

  constructor(ipset: Ipset) {
    this.#ipset = ipset;
  }

  /** From now on the set is wanted, empty at first; repeating it keeps the members. */
  want(spec: AddressSetSpec): void {
    if (this.#sets.has(spec.name)) return;
    const members = new DeltaTracker<string, true>(() => true);
    this.#sets.set(spec.name, { spec, members });
    if (this.#present.has(spec.name)) this.#readMembers(spec, members);
    this.#unwanted.delete(spec.name);
    this.#changed.add(spec.name);
  }

  unwant(name: string): void {
    if (!this.#sets.delete(name)) return;
    this.#changed.delete(name);
    if (this.#present.has(name)) this.#unwanted.add(name);
  }

  addMember(name: string, member: string): void {
    this.#sets.get(name)?.members.setDesired(member, true);
    this.#changed.add(name);
  }

  removeMember(name: string, member: string): void {
    this.#sets.get(name)?.members.deleteDesired(member);
    this.#changed.add(name);
  }

  /** Reads what the kernel has; the next steps mend what differs. */
  resync(): void {
    const prefixed = this.#ipset.list().filter(({ name }) => ours.test(name));
    this.#present.clear();
    for (const { name, typeName } of prefixed) this.#present.set(name, typeName);
    this.#unwanted.clear();
    for (const name of this.#present.keys()) {
      if (!this.#sets.has(name)) this.#unwanted.add(name);
    }
    for (const [name, { spec, members }] of this.#sets) {
      if (this.#present.has(name)) this.#readMembers(spec, members);
      else members.replaceActual([]);
      this.#changed.add(name);
    }
  }

  /**
   * Looks whether sets have the sizes that we left them with, as the kernel tells nobody of changes, and reads
   * those again that have not; answers whether there were any. It costs some microseconds for each set.
   */
  recheck(): boolean {
    const sizes = new Map(this.#ipset.list().map(({ name, size }) => [name, size]));
    let differs = false;
    for (const [name, { spec, members }] of this.#sets) {
      if (!this.#present.has(name)) continue;
      const size = sizes.get(name);
      if (size === undefined) this.#present.delete(name);
      else if (spec.isFilledByRules === true || size === members.actual.size) continue;
      if (size === undefined) members.replaceActual([]);
      else this.#readMembers(spec, members);
      this.#changed.add(name);
      differs = true;
    }
    return differs;
  }

  /**
   * Makes sets and adds members, and notes which members and sets can go once the rules have changed.
   * Throws `kernel/refused`.
   */
  applyAdditions(): void {
    for (const name of this.#changed) {
      const wanted = this.#sets.get(name);
      if (wanted === undefined) continue;
      this.#ensure(wanted);
      const added = wanted.members.updates().map(([member]) => member);
      if (added.length === 0) continue;
      this.#ipset.add(wanted.spec, added);
      for (const member of added) wanted.members.setActual(member, true);
    }
    this.#removable = [...this.#changed].flatMap((name) => {
      const wanted = this.#sets.get(name);
      const members = wanted?.members.removals().map(([member]) => member) ?? [];
      return wanted === undefined || members.length === 0
        ? []
        : [() => this.#removeMembers(wanted, members)];
    });
    this.#changed.clear();
    this.#goingSets = new Set(this.#unwanted);
  }

  /**
   * Removes members and sets that were wanted no more when `applyAdditions` was called last. A set that a rule
   * still names stays for the next time; answers those, as sentences.
   */
  applyRemovals(): readonly string[] {
    for (const remove of this.#removable.splice(0)) remove();
    return [...this.#goingSets].flatMap((name) => this.#destroy(name));
  }

  /** The members of a set with their counters, as the kernel has them now. */
  counters(name: string): readonly KernelMember[] {
    const spec = this.#sets.get(name)?.spec;
    return spec === undefined ? [] : this.#ipset.members(name, spec.family);
  }

  /** Those that are wanted again meanwhile stay. */
  #removeMembers({ spec, members }: Wanted, candidates: readonly string[]): void {
    if (!this.#present.has(spec.name)) return;
    const gone = candidates.filter((member) => !members.desired.has(member));
    if (gone.length > 0) this.#ipset.remove(spec, gone);
    for (const member of gone) members.deleteActual(member);
  }

  #ensure({ spec, members }: Wanted): void {
    const present = this.#present.get(spec.name);
    if (present !== undefined) {
      if (present === kernelTypeName(spec.type)) return;
      // A set of that name, but of another type: it cannot be ours any more, and no rule of ours names it.
      this.#ipset.destroy(spec.name);
      members.replaceActual([]);
    }
    this.#ipset.create(spec);
    this.#present.set(spec.name, kernelTypeName(spec.type));
  }

  /** What rules fill is only looked at, never corrected. */
  #readMembers(spec: AddressSetSpec, members: DeltaTracker<string, true>): void {
    if (spec.isFilledByRules === true) return;
    const actual = this.#ipset.members(spec.name, spec.family);
    members.replaceActual(actual.map(({ member }) => [member, true] as const));
  }

  #destroy(name: string): readonly string[] {
    if (!this.#unwanted.has(name)) return [];
    try {
      this.#ipset.destroy(name);
    } catch (error) {
      if (isRefusal(error, 'IPSET_ERR_BUSY', 'EBUSY', 'IPSET_ERR_REFERENCED')) {
        return [describe(error)];
      }
      throw error;
    }
    this.#present.delete(name);
    this.#unwanted.delete(name);
    return [];
  }
}
