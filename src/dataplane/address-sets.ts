import type { IpFamily } from '../ip/address.ts';
import type { IpsetSpec } from '../render/iptables/ipset.ts';
import type { SetFault } from '../ruleset/address-set.ts';
import { Refusals, type ApplyFailure } from './apply-failure.ts';
import { kernelTypeName, type Ipset, type KernelMember, type KernelSet } from './netlink/ipset.ts';
import { isRefusal } from './netlink/socket.ts';
import { DesiredSet } from './desired-set.ts';

/** Names of our sets: Calico's prefix, the family, and `0`, or `t` for a temporary set. */
const ours = /^cali[46][0t]/;

/** The set operations that this module uses. */
export type SetOperations = Pick<
  Ipset,
  'create' | 'destroy' | 'swap' | 'add' | 'remove' | 'list' | 'members'
>;

/** A set with its members. */
export interface SetContent {
  readonly spec: IpsetSpec;
  readonly members: readonly string[];
}

/** A set that rules fill. */
export interface FilledSet {
  readonly name: string;
  readonly family: IpFamily;
  readonly size: number;
}

/**
 * Desired and actual address sets of the kernel. Additions and removals are separate steps, because rules change
 * between them: a set is created before a rule that names it, and removed after it. What the kernel refuses is
 * reported by `failures` and retried later; it blocks nothing else.
 */
export class AddressSets {
  readonly #ipset: SetOperations;
  readonly #sets = new Map<string, DesiredSet>();
  /** Sets in the kernel by name, with their type and family. */
  readonly #present = new Map<string, string>();
  readonly #changed = new Set<string>();
  readonly #undesired = new Set<string>();
  /** Sets that cannot be created, read or removed. */
  readonly #unmade = new Refusals<string>();
  readonly #unread = new Refusals<string>();
  readonly #unremoved = new Refusals<string>();
  /** Sets that rules still refer to: rules of others, or ours that nf_tables has not released yet. */
  readonly #busy = new Refusals<string>();
  /** Sets that have, or had, members whose addition or removal failed. */
  readonly #troubled = new Set<string>();
  /** Removals found by `applyAdditions` since the last `applyRemovals`. */
  readonly #removable: (() => void)[] = [];
  #goingSets: ReadonlySet<string> = new Set();
  #filled: FilledSet[] = [];
  /** Number of sets created after earlier failures: rules that name them were refused meanwhile. */
  recovered = 0;

  constructor(ipset: SetOperations) {
    this.#ipset = ipset;
  }

  /** Adds a desired set, empty at first. Idempotent: the members of an existing one stay. */
  setDesired(spec: IpsetSpec): void {
    if (this.#sets.has(spec.name)) return;
    const desired = new DesiredSet(spec);
    this.#sets.set(spec.name, desired);
    if (this.#present.has(spec.name)) this.#readMembers(desired);
    this.#undesired.delete(spec.name);
    for (const refusals of [this.#unremoved, this.#busy]) refusals.delete(spec.name);
    this.#changed.add(spec.name);
  }

  deleteDesired(name: string): void {
    if (!this.#sets.delete(name)) return;
    this.#changed.delete(name);
    this.#unmade.delete(name);
    this.#unread.delete(name);
    if (this.#present.has(name)) this.#undesired.add(name);
  }

  addMember(name: string, member: string): void {
    this.#sets.get(name)?.setDesired(member, true);
    this.#changed.add(name);
  }

  removeMember(name: string, member: string): void {
    this.#sets.get(name)?.setDesired(member, false);
    this.#changed.add(name);
  }

  /** Reports whether a desired member is in the kernel. */
  holds(name: string, member: string): boolean {
    return this.#sets.get(name)?.holds(member) === true;
  }

  /** Returns a desired set with its desired members; `undefined` if there is none of that name. */
  content(name: string): SetContent | undefined {
    const desired = this.#sets.get(name);
    return desired && { spec: desired.spec, members: desired.members() };
  }

  /** Returns the failures of the last attempts. */
  failures(): readonly ApplyFailure[] {
    return [
      ...[this.#unmade, this.#unread, this.#unremoved].flatMap((refusals) => refusals.failures()),
      ...this.#inTrouble().flatMap(({ refused, kept }) => [
        ...refused.failures(),
        ...kept.failures(),
      ]),
    ];
  }

  /** Returns the sets that are out of sync, by name: rules that use them may match other packets than intended. */
  faults(): ReadonlyMap<string, SetFault> {
    const names = new Set([
      ...this.#unmade.keys(),
      ...this.#unread.keys(),
      ...this.#inTrouble().map(({ spec }) => spec.name),
    ]);
    return new Map(
      [...names].map((name) => {
        const desired = this.#sets.get(name);
        return [
          name,
          {
            absent: sentence(this.#unmade.get(name)),
            lacks: sentence(desired?.refused.first()),
            exceeds: sentence(this.#unread.get(name) ?? desired?.kept.first()),
          },
        ];
      }),
    );
  }

  /** Reports whether a failed change is due for a retry. */
  get hasDue(): boolean {
    return (
      [this.#unmade, this.#unread, this.#unremoved, this.#busy].some(({ hasDue }) => hasDue) ||
      this.#inTrouble().some((set) => set.hasDue)
    );
  }

  /** Reads the actual state; the next steps apply the delta. Throws `kernel/refused`. */
  resync(): void {
    const prefixed = this.#ipset.list().filter(({ name }) => ours.test(name));
    this.#present.clear();
    for (const set of prefixed) this.#present.set(set.name, formOf(set));
    this.#undesired.clear();
    for (const refusals of [this.#unremoved, this.#busy]) refusals.clear();
    for (const name of this.#present.keys()) {
      if (!this.#sets.has(name)) this.#undesired.add(name);
    }
    for (const [name, desired] of this.#sets) {
      if (this.#present.has(name)) this.#readMembers(desired);
      else desired.replaceActual([]);
      this.#changed.add(name);
    }
  }

  /**
   * Compares the sizes of sets with the expected ones, because the kernel does not notify of changes to sets, and
   * reads those that differ. Returns whether any differed. Costs some microseconds for each set. Throws
   * `kernel/refused`.
   */
  recheck(): boolean {
    const sizes = new Map(this.#ipset.list().map(({ name, size }) => [name, size]));
    this.#filled = [];
    let differs = false;
    for (const [name, desired] of this.#sets) {
      const { spec } = desired;
      if (!this.#present.has(name)) continue;
      const size = sizes.get(name);
      if (size === undefined) this.#present.delete(name);
      else if (spec.isFilledByRules === true)
        this.#filled.push({ name, family: spec.family, size });
      if (size !== undefined && (spec.isFilledByRules === true || size === desired.size)) continue;
      if (size === undefined) desired.replaceActual([]);
      else if (!this.#unread.isDue(name)) continue;
      else this.#readMembers(desired);
      this.#changed.add(name);
      differs = true;
    }
    return differs;
  }

  /** Creates sets, adds members, and records which members and sets to remove after the rules have changed. */
  applyAdditions(): void {
    this.#retryDue();
    this.#applyChanged();
    this.#goingSets = new Set(this.#undesired);
  }

  /** Applies a change as `applyAdditions` does; earlier changes of other sets wait for that. */
  applyAlone(change: () => void): void {
    const waiting = [...this.#changed];
    this.#changed.clear();
    change();
    this.#applyChanged();
    for (const name of waiting) this.#changed.add(name);
  }

  #applyChanged(): void {
    for (const name of this.#changed) {
      const desired = this.#sets.get(name);
      if (desired !== undefined && this.#isMade(desired)) this.#fill(desired);
    }
    for (const name of this.#changed) {
      const desired = this.#sets.get(name);
      const surplus = desired?.surplus() ?? [];
      if (desired === undefined || surplus.length === 0) continue;
      this.#removable.push(() => this.#removeMembers(desired, surplus));
    }
    this.#changed.clear();
  }

  /**
   * Removes members and sets that were not desired at the last `applyAdditions`. A set that a rule still names is
   * removed later.
   */
  applyRemovals(): void {
    for (const remove of this.#removable.splice(0)) remove();
    for (const name of this.#goingSets) this.#destroy(name);
  }

  /** Returns the members of a set with their counters, as read from the kernel. Throws `kernel/refused`. */
  counters(name: string): readonly KernelMember[] {
    const spec = this.#sets.get(name)?.spec;
    return spec === undefined ? [] : this.#ipset.members(name, spec.family);
  }

  /** The sets that rules fill, with the sizes that `recheck` has found. */
  filled(): readonly FilledSet[] {
    return this.#filled;
  }

  /** Removes members that rules have added to a set. Throws `kernel/refused`. */
  removeCounters(name: string, members: readonly string[]): void {
    const spec = this.#sets.get(name)?.spec;
    if (spec !== undefined) this.#ipset.remove(spec, members);
  }

  #inTrouble(): readonly DesiredSet[] {
    const desired: DesiredSet[] = [];
    for (const name of this.#troubled) {
      const set = this.#sets.get(name);
      if (set?.isInTrouble === true) desired.push(set);
      else this.#troubled.delete(name);
    }
    return desired;
  }

  #retryDue(): void {
    for (const { spec, hasDue } of this.#inTrouble()) {
      if (hasDue) this.#changed.add(spec.name);
    }
    for (const name of this.#unmade.keys()) this.#changed.add(name);
    for (const name of this.#unread.keys()) {
      const desired = this.#sets.get(name);
      if (desired === undefined || !this.#unread.isDue(name)) continue;
      this.#readMembers(desired);
      this.#changed.add(name);
    }
  }

  /** Creates the set if it is missing; returns whether it exists. */
  #isMade(desired: DesiredSet): boolean {
    const { spec } = desired;
    const { name } = spec;
    const form = formOf({ ...spec, typeName: kernelTypeName(spec.type) });
    const present = this.#present.get(name);
    if (present === form) return true;
    if (!this.#unmade.isDue(name)) return false;
    try {
      if (present !== undefined) this.#replace(spec);
      else if (!this.#isCreated(spec)) return this.#isMade(desired);
    } catch (error) {
      this.#unmade.add(name, { what: `address set ${name}` }, error);
      return false;
    }
    if (this.#unmade.get(name) !== undefined) this.recovered++;
    this.#unmade.delete(name);
    desired.replaceActual([]);
    this.#present.set(name, form);
    return true;
  }

  /** Returns `false` if another program has created a set of that name meanwhile; it is recorded as present. */
  #isCreated(spec: IpsetSpec): boolean {
    try {
      this.#ipset.create(spec);
      return true;
    } catch (error) {
      const found = this.#ipset.list().find(({ name }) => name === spec.name);
      if (found === undefined) throw error;
      this.#present.set(spec.name, formOf(found));
      const desired = this.#sets.get(spec.name);
      if (desired !== undefined) this.#readMembers(desired);
      return false;
    }
  }

  /** Replaces a set of another type. If rules name it, it cannot be removed, and is swapped instead. */
  #replace(spec: IpsetSpec): void {
    try {
      this.#ipset.destroy(spec.name);
      this.#ipset.create(spec);
    } catch (error) {
      if (!isBusy(error)) throw error;
      const name = spec.name.replace(/^(cali[46])./, '$1t');
      this.#ipset.destroy(name);
      this.#ipset.create({ ...spec, name });
      try {
        this.#ipset.swap(spec.name, name);
      } finally {
        this.#ipset.destroy(name);
      }
    }
  }

  #fill(desired: DesiredSet): void {
    const { name } = desired.spec;
    try {
      desired.addMissing(this.#ipset);
    } catch {
      // Another program has removed the set. If that happens again, the next round creates it.
      this.#present.delete(name);
      try {
        if (this.#isMade(desired)) desired.addMissing(this.#ipset);
      } catch (error) {
        this.#present.delete(name);
        this.#unmade.add(name, { what: `address set ${name}` }, error);
      }
    }
    if (desired.isInTrouble) this.#troubled.add(name);
  }

  #removeMembers(desired: DesiredSet, candidates: readonly string[]): void {
    if (!this.#present.has(desired.spec.name)) return;
    desired.remove(this.#ipset, candidates);
    if (desired.isInTrouble) this.#troubled.add(desired.spec.name);
  }

  /** Sets that rules fill are never corrected. A set that cannot be read is assumed unchanged. */
  #readMembers(desired: DesiredSet): void {
    const { spec } = desired;
    if (spec.isFilledByRules === true) return;
    try {
      const actual = this.#ipset.members(spec.name, spec.family);
      desired.replaceActual(actual.map(({ member }) => member));
      this.#unread.delete(spec.name);
    } catch (error) {
      this.#unread.add(spec.name, { what: `reading of the address set ${spec.name}` }, error);
    }
  }

  #destroy(name: string): void {
    const isDue = this.#unremoved.isDue(name) && this.#busy.isDue(name);
    if (!this.#undesired.has(name) || !isDue) return;
    try {
      this.#ipset.destroy(name);
    } catch (error) {
      const refusals = isBusy(error) ? this.#busy : this.#unremoved;
      refusals.add(name, { what: `removal of the address set ${name}` }, error);
      return;
    }
    for (const refusals of [this.#unremoved, this.#busy]) refusals.delete(name);
    this.#present.delete(name);
    this.#undesired.delete(name);
  }
}

/** Returns the properties of a set that are fixed at creation. */
function formOf({
  typeName,
  family,
  countsPackets,
}: Pick<KernelSet, 'typeName' | 'family'> & Pick<IpsetSpec, 'countsPackets'>): string {
  return `${typeName} ${family}${countsPackets === true ? ' counters' : ''}`;
}

function sentence(failure: ApplyFailure | undefined): string | undefined {
  return failure === undefined ? undefined : `${failure.what}: ${failure.why}`;
}

function isBusy(error: unknown): boolean {
  return isRefusal(error, 'IPSET_ERR_BUSY', 'EBUSY', 'IPSET_ERR_REFERENCED');
}
