import type { IpsetSpec } from '../render/iptables/ipset.ts';
import { halves, parseCidr, type Cidr } from '../ip/cidr.ts';
import { Refusals, withEach, type ApplyFailure } from './apply-failure.ts';
import { DeltaTracker } from './delta-tracker.ts';
import { membersPerMessage, defaultMaxElements, type Ipset } from './netlink/ipset.ts';
import { isRefusal } from './netlink/socket.ts';

/** One set that is wanted, with the members that it should have and has. */
export class DesiredSet {
  readonly spec: IpsetSpec;
  /** What the kernel did not take, and what it did not give up. */
  readonly refused = new Refusals<string>();
  readonly kept = new Refusals<string>();
  readonly #members = new DeltaTracker<string, true>(() => true);
  /** Those wanted members that are all addresses of the family, or half of them. */
  readonly #wide = new Set<string>();

  constructor(spec: IpsetSpec) {
    this.spec = spec;
  }

  /**
   * A member is wanted from now on, or no more. A set of networks takes no network of length 0, but two halves of
   * it, each of which may be wanted for itself as well.
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

  /** Whether the kernel has a member that is wanted. */
  holds(member: string): boolean {
    const { desired, actual } = this.#members;
    const isAll = isWide(this.spec, member) && member.endsWith('/0');
    const elements: readonly string[] = isAll ? halves(allOf(this.spec)) : [member];
    return elements.every((one) => desired.has(one) && actual.has(one));
  }

  /** What the kernel has, as it was just read in full. */
  replaceActual(members: readonly string[]): void {
    this.#members.replaceActual(members.map((member) => [member, true] as const));
  }

  /** How many members the kernel has as far as we know. */
  get size(): number {
    return this.#members.actual.size;
  }

  get isInTrouble(): boolean {
    return this.refused.size + this.kept.size > 0;
  }

  get hasDue(): boolean {
    return this.refused.hasDue || this.kept.hasDue;
  }

  /** Adds what is missing, but for what was refused a moment ago. Throws `kernel/refused` if the set is gone. */
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

  /** What the kernel has and should not have. */
  surplus(): readonly string[] {
    return this.#members.removals().map(([member]) => member);
  }

  /** Removes members that are wanted no more, but for those that could not be removed a moment ago. */
  remove(ipset: Pick<Ipset, 'remove'>, candidates: readonly string[]): void {
    const { spec, kept } = this;
    const { desired } = this.#members;
    const due = candidates.filter((member) => !desired.has(member) && kept.isDue(member));
    const remove = (some: readonly string[]) => {
      try {
        ipset.remove(spec, some);
      } catch (error) {
        // Of a set that is gone there is nothing to remove; the next look finds that it is.
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

/** As many at a time as one request carries. */
function inPortions(members: readonly string[], act: (portion: readonly string[]) => void): void {
  for (let at = 0; at < members.length; at += membersPerMessage) {
    act(members.slice(at, at + membersPerMessage));
  }
}
