import { Refusals, type ApplyFailure } from '../apply-failure.ts';
import { DeltaTracker } from '../delta-tracker.ts';
import {
  describeNeighbour,
  listNeighbours,
  removeNeighbour,
  setNeighbour,
  type KernelNeighbour,
  type Neighbour,
} from '../netlink/neighbour.ts';
import type { NetlinkSocket } from '../netlink/socket.ts';

/** The kernel's calls that the driver needs. Tests replace them. */
export interface NeighbourCalls {
  /** Throws `kernel/refused`, as all calls. */
  list(linkIndex: number): readonly KernelNeighbour[];
  set(linkIndex: number, neighbour: Neighbour): void;
  remove(linkIndex: number, neighbour: Neighbour): void;
}

/** The links whose entries are ours. */
export interface NeighbourLinks {
  readonly names: readonly string[];
  /** Returns the index of one of them; `undefined` while it does not exist. */
  indexOf(name: string): number | undefined;
}

interface Entry {
  readonly interface: string;
  readonly neighbour: Neighbour;
}

/**
 * The permanent neighbours and forwarding entries on our own tunnel interfaces: a permanent entry there that is not
 * desired is removed. Entries of other interfaces are never read or changed. Desired entries of a link that does not
 * exist wait for it.
 */
export class Neighbours {
  readonly #calls: NeighbourCalls;
  readonly #links: NeighbourLinks;
  readonly #delta = new DeltaTracker<string, Entry>(isSameEntry);
  /** The indexes of the links whose entries were read. */
  readonly #read = new Map<string, number>();
  readonly #refused = new Refusals<string>();

  constructor(calls: NeighbourCalls, links: NeighbourLinks) {
    this.#calls = calls;
    this.#links = links;
  }

  setDesired(interfaceName: string, neighbour: Neighbour): void {
    this.#delta.setDesired(keyOf(interfaceName, neighbour), {
      interface: interfaceName,
      neighbour,
    });
  }

  deleteDesired(interfaceName: string, neighbour: Neighbour): void {
    const key = keyOf(interfaceName, neighbour);
    const desired = this.#delta.desired.get(key);
    // Another one may be desired in its place by now.
    if (desired === undefined || !isSameEntry(desired, { interface: interfaceName, neighbour })) {
      return;
    }
    this.#delta.deleteDesired(key);
    this.#refused.delete(key);
  }

  /** Handles the kernel's notification of an entry; returns whether it concerns ours and we did not cause it. */
  changed({ linkIndex, isPermanent, neighbour }: KernelNeighbour, isGone: boolean): boolean {
    const name = this.#links.names.find((one) => this.#read.get(one) === linkIndex);
    if (name === undefined || neighbour === undefined) return false;
    const key = keyOf(name, neighbour);
    const [actual, now] = [this.#delta.actual.get(key), { interface: name, neighbour }];
    if (isGone || !isPermanent) {
      if (actual === undefined) return false;
      this.#delta.deleteActual(key);
      return this.#delta.desired.has(key);
    }
    if (actual !== undefined && isSameEntry(actual, now)) return false;
    this.#delta.setActual(key, now);
    return true;
  }

  /** Reads the entries from the kernel before the next write. */
  resync(): void {
    this.#read.clear();
  }

  /** Writes the delta, except what was refused a moment ago. Throws `kernel/refused` if entries cannot be read. */
  apply(): void {
    this.#readNew();
    const { names } = this.#links;
    const indexes = new Map(names.map((name) => [name, this.#links.indexOf(name)]));
    for (const [key, entry] of this.#delta.updates()) {
      this.#attempt(key, entry, indexes, describeNeighbour(entry.neighbour), (index) => {
        this.#calls.set(index, entry.neighbour);
        this.#delta.setActual(key, entry);
      });
    }
    for (const [key, entry] of this.#delta.removals()) {
      const what = `removal of ${describeNeighbour(entry.neighbour)}`;
      this.#attempt(key, entry, indexes, what, (index) => {
        this.#calls.remove(index, entry.neighbour);
        this.#delta.deleteActual(key);
      });
    }
  }

  failures(): readonly ApplyFailure[] {
    return this.#refused.failures();
  }

  get hasDue(): boolean {
    return this.#refused.hasDue;
  }

  #attempt(
    key: string,
    { interface: name }: Entry,
    indexes: ReadonlyMap<string, number | undefined>,
    what: string,
    change: (linkIndex: number) => void,
  ): void {
    const index = indexes.get(name);
    if (index === undefined || !this.#refused.isDue(key)) return;
    this.#refused.attempt(key, { what: `${what} on ${name}` }, () => change(index));
  }

  /** Reads the entries of links that are new since the last read; a removed link has none. */
  #readNew(): void {
    for (const name of this.#links.names) {
      const index = this.#links.indexOf(name);
      if (this.#read.get(name) === index && index !== undefined) continue;
      for (const [key, entry] of this.#delta.actual) {
        if (entry.interface === name) this.#delta.deleteActual(key);
      }
      this.#read.delete(name);
      if (index === undefined) continue;
      for (const { isPermanent, neighbour } of this.#calls.list(index)) {
        if (!isPermanent || neighbour === undefined) continue;
        this.#delta.setActual(keyOf(name, neighbour), { interface: name, neighbour });
      }
      this.#read.set(name, index);
    }
  }
}

/** Returns the calls for the network namespace of a socket. */
export function neighbourCalls(socket: NetlinkSocket): NeighbourCalls {
  return {
    list: (linkIndex) => listNeighbours(socket, linkIndex),
    set: (linkIndex, neighbour) => setNeighbour(socket, linkIndex, neighbour),
    remove: (linkIndex, neighbour) => removeNeighbour(socket, linkIndex, neighbour),
  };
}

/**
 * An address has one MAC address, and a MAC address one remote host: setting another replaces it. Those of all zeros
 * and of groups, which flood, may have several.
 */
function keyOf(interfaceName: string, neighbour: Neighbour): string {
  if (neighbour.kind === 'neighbour') return `${interfaceName} neighbour ${neighbour.address}`;
  const { mac, remote } = neighbour;
  const floods = /^(.[13579bdf]|00:00:00:00:00:00)/.test(mac);
  return `${interfaceName} forwarding ${mac}${floods ? ` ${remote}` : ''}`;
}

function isSameEntry({ neighbour: a }: Entry, { neighbour: b }: Entry): boolean {
  return (
    a.mac === b.mac && (a.kind === 'neighbour' || (b.kind === a.kind && a.remote === b.remote))
  );
}
