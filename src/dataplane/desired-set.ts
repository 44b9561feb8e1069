import type { IpsetSpec } from '../render/iptables/ipset.ts';
import { halves, parseCidr, type Cidr } from '../ip/cidr.ts';
import { Refusals, withEach, type ApplyFailure } from './apply-failure.ts';
import { DeltaTracker } from './delta-tracker.ts';
import { membersPerMessage, defaultMaxElements, type Ipset } from './netlink/ipset.ts';
import { isRefusal } from './netlink/socket.ts';

/** One desired set, with its desired and actual members. */
export class DesiredSet {
  readonly spec: IpsetSpec;
  /** Members that the kernel refused to add, and to remove. */
  readonly refused = new Refusals<string>();
  readonly kept = new Refusals<string>();
  readonly #members = new DeltaTracker<string, true>(() => true);
  /** Desired members that cover all addresses of the family, or half of them. */
  readonly #wide = new Set<string>();

  constructor(spec: IpsetSpec) {
    this.spec = spec;
  }

  /**
   * Adds or deletes a desired member. A set of networks accepts no prefix of length 0, so that one is stored as its
   * two halves, each of which may also be a desired member of its own.
   */
  setDesired(member: string, isDesired: boolean): void {
    if (!isWide(this.spec, member)) return this.#setDesired(member, isDesired);
    if (isDesired) this.#wide.add(member);
    else this.#wide.delete(member);
    const all = allOf(this.spec);
    for (const half of halves(all)) {
      this.#setDesired(half, this.#wide.has(half) || this.#wide.has(all));
    }
  }

  /** Reports whether a desired member is in the kernel. */
  holds(member: string): boolean {
    const { desired, actual } = this.#members;
    const isAll = isWide(this.spec, member) && member.endsWith('/0');
    const elements: readonly string[] = isAll ? halves(allOf(this.spec)) : [member];
    return elements.every((one) => desired.has(one) && actual.has(one));
  }

  /** Replaces the actual members by those just read in full. */
  replaceActual(members: readonly string[]): void {
    this.#members.replaceActual(members.map((member) => [member, true] as const));
  }

  /** Number of members in the kernel, as last known. */
  get size(): number {
    return this.#members.actual.size;
  }

  /** Returns the desired members. */
  members(): readonly string[] {
    return [...this.#members.desired.keys()];
  }

  get isInTrouble(): boolean {
    return this.refused.size + this.kept.size > 0;
  }

  get hasDue(): boolean {
    return this.refused.hasDue || this.kept.hasDue;
  }

  /** Adds missing members, except those refused a moment ago. Throws `kernel/refused` if the set does not exist. */
  addMissing(ipset: Pick<Ipset, 'add'>): void {
    const { spec, refused } = this;
    const missing = this.#members.updates().map(([member]) => member);
    const due = missing.filter((member) => refused.isDue(member));
    const room = Math.max(0, (spec.maxElements ?? defaultMaxElements) - this.size);
    const add = (some: readonly string[]) => {
      ipset.add(spec, some);
      for (const member of some) {
        this.#members.setActual(member, true);
        refused.delete(member);
      }
    };
    inPortions(due.slice(0, room), (portion) =>
      withEach(portion, add, (member, thrown) => {
        if (isRefusal(thrown, 'ENOENT')) throw thrown;
        refused.add(member, aboutMember(spec, member), thrown);
      }),
    );
    const full = `the set is full: it has ${this.size} members`;
    for (const member of due.slice(room)) refused.add(member, aboutMember(spec, member), full);
  }

  /** Returns actual members that are not desired. */
  surplus(): readonly string[] {
    return this.#members.removals().map(([member]) => member);
  }

  /** Removes members that are not desired, except those whose removal failed a moment ago. */
  remove(ipset: Pick<Ipset, 'remove'>, candidates: readonly string[]): void {
    const { spec, kept } = this;
    const { desired } = this.#members;
    const due = candidates.filter((member) => !desired.has(member) && kept.isDue(member));
    const remove = (some: readonly string[]) => {
      try {
        ipset.remove(spec, some);
      } catch (error) {
        // The set does not exist, so there is nothing to remove; the next poll notices.
        if (!isRefusal(error, 'ENOENT')) throw error;
      }
      for (const member of some) {
        this.#members.deleteActual(member);
        kept.delete(member);
      }
    };
    inPortions(due, (portion) =>
      withEach(portion, remove, (member, thrown) => {
        const { what, ...about } = aboutMember(spec, member);
        kept.add(member, { ...about, what: `removal of ${what}` }, thrown);
      }),
    );
  }

  #setDesired(element: string, isDesired: boolean): void {
    if (isDesired) {
      this.#members.setDesired(element, true);
      this.kept.delete(element);
    } else {
      this.#members.deleteDesired(element);
      this.refused.delete(element);
    }
  }
}

function isWide({ type }: IpsetSpec, member: string): boolean {
  return type === 'net' && (member.endsWith('/0') || member.endsWith('/1'));
}

function allOf({ family }: IpsetSpec): Cidr {
  return parseCidr(family === 4 ? '0.0.0.0/0' : '::/0');
}

function aboutMember({ name }: IpsetSpec, member: string): Omit<ApplyFailure, 'why'> {
  const net = netOf(member);
  return {
    what: `member ${member} of the address set ${name}`,
    ...(net === undefined ? {} : { net }),
  };
}

function netOf(member: string): Cidr | undefined {
  try {
    return parseCidr(member.split(',')[0] ?? '');
  } catch {
    return undefined;
  }
}

/** Splits members into portions of one request each. */
function inPortions(members: readonly string[], act: (portion: readonly string[]) => void): void {
  for (let at = 0; at < members.length; at += membersPerMessage) {
    act(members.slice(at, at + membersPerMessage));
  }
}
