import type { IpFamily } from '../ip/address.ts';
import type { IpsetSpec } from '../render/iptables/ipset.ts';
import type { SetFault } from '../ruleset/address-set.ts';
import { Refusals, type ApplyFailure } from './apply-failure.ts';
import { kernelTypeName, type Ipset, type KernelMember, type KernelSet } from './netlink/ipset.ts';
import { isRefusal } from './netlink/socket.ts';
import { DesiredSet } from './desired-set.ts';

/** Names of sets that are ours: Calico's prefix, the family, and `t` for what is there for a moment. */
const ours = /^cali[46][0t]/;

/** What of the kernel's set operations is used. */
export type SetOperations = Pick<
  Ipset,
  'create' | 'destroy' | 'swap' | 'add' | 'remove' | 'list' | 'members'
>;

/** A set that rules fill. */
export interface FilledSet {
  readonly name: string;
  readonly family: IpFamily;
  readonly size: number;
}

/**
 * The address sets of the kernel as they should be. Additions and removals are separate steps, as rules are
 * changed between them: a set exists before a rule that names it, and goes after. What the kernel refuses is
 * told by `failures` and tried again later; it holds up nothing else.
 */
export class AddressSets {
  readonly #ipset: SetOperations;
  readonly #sets = new Map<string, DesiredSet>();
  /** Sets in the kernel by name, with what they are there. */
  readonly #present = new Map<string, string>();
  readonly #changed = new Set<string>();
  readonly #undesired = new Set<string>();
  /** Sets that cannot be made, read or removed. */
  readonly #unmade = new Refusals<string>();
  readonly #unread = new Refusals<string>();
  readonly #unremoved = new Refusals<string>();
  /** Sets that rules still named: those of others, or ours that nf_tables has not let go yet. */
  readonly #busy = new Refusals<string>();
  /** Sets of which members are refused or kept, or were. */
  readonly #troubled = new Set<string>();
  /** What could be removed when additions were made, since the last removals. */
  readonly #removable: (() => void)[] = [];
  #goingSets: ReadonlySet<string> = new Set();
  #filled: FilledSet[] = [];
  /** How many sets could be made that could not be made before: rules that name them were refused meanwhile. */
  recovered = 0;

  constructor(ipset: SetOperations) {
    this.#ipset = ipset;
  }

  /** From now on the set is wanted, empty at first; repeating it keeps the members. */
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

  /** Whether the kernel has a member that is wanted. */
  holds(name: string, member: string): boolean {
    return this.#sets.get(name)?.holds(member) === true;
  }

  /** What the kernel does not hold as wanted, as it was when it was tried last. */
  failures(): readonly ApplyFailure[] {
    return [
      ...[this.#unmade, this.#unread, this.#unremoved].flatMap((refusals) => refusals.failures()),
      ...this.#inTrouble().flatMap(({ refused, kept }) => [
        ...refused.failures(),
        ...kept.failures(),
      ]),
    ];
  }

  /** The sets that are not as wanted, by name: rules that use them may decide otherwise than they say. */
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

  /** Whether something that was refused is to be tried again now. */
  get hasDue(): boolean {
    return (
      [this.#unmade, this.#unread, this.#unremoved, this.#busy].some(({ hasDue }) => hasDue) ||
      this.#inTrouble().some((set) => set.hasDue)
    );
  }

  /** Reads what the kernel has; the next steps mend what differs. Throws `kernel/refused`. */
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
   * Looks whether sets have the sizes that we left them with, as the kernel tells nobody of changes, and reads
   * those again that have not; answers whether there were any. It costs some microseconds for each set.
   * Throws `kernel/refused`.
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

  /** Makes sets and adds members, and notes which members and sets can go once the rules have changed. */
  applyAdditions(): void {
    this.#retryDue();
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
    this.#goingSets = new Set(this.#undesired);
  }

  /**
   * Removes members and sets that were wanted no more when `applyAdditions` was called last. A set that a rule
   * still names stays for another time.
   */
  applyRemovals(): void {
    for (const remove of this.#removable.splice(0)) remove();
    for (const name of this.#goingSets) this.#destroy(name);
  }

  /** The members of a set with their counters, as the kernel has them now. Throws `kernel/refused`. */
  counters(name: string): readonly KernelMember[] {
    const spec = this.#sets.get(name)?.spec;
    return spec === undefined ? [] : this.#ipset.members(name, spec.family);
  }

  /** The sets that rules fill, with the sizes that `recheck` has found. */
  filled(): readonly FilledSet[] {
    return this.#filled;
  }

  /** Takes members that rules have made out of a set. Throws `kernel/refused`. */
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

  /** Whether the set is there, made now if need be. */
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

  /** Answers `false` if somebody has made one of that name meanwhile, of which we know now. */
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

  /** Puts a set in the place of one of another form. Rules may name it, which cannot be removed then. */
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
      // Somebody has removed the set. If that happens again, the next round makes it.
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

  /** What rules fill is only looked at, never corrected. What cannot be read is taken to be as we left it. */
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

/** What of a set cannot be changed once it is made. */
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
