import type { IpAddress } from '../../ip/address.ts';
import type { DesiredLink, LinkCalls } from './links.ts';
import type { NeighbourCalls } from './neighbours.ts';
import type { Link } from '../netlink/link.ts';
import type { Neighbour } from '../netlink/neighbour.ts';

/** Links with addresses, neighbours and forwarding entries in memory; refuses what `refuses` names. */
export class FakeTunnels implements LinkCalls {
  readonly links = new Map<string, Link>();
  /** Addresses by link index. */
  readonly held = new Map<number, Set<IpAddress>>();
  /** Labels of addresses that have one. */
  readonly labels = new Map<IpAddress, string>();
  readonly entries = new Map<number, Map<string, Neighbour>>();
  /** Writes, in order. */
  readonly journal: string[] = [];
  /** Links, addresses and MAC addresses. */
  readonly refuses = new Set<string>();
  #next = 10;

  /** Adds a link as another program would. */
  add(link: Pick<Link, 'name'> & Partial<Link>): Link {
    const index = this.#next++;
    const made: Link = {
      index,
      mac: '02:00:00:00:00:01',
      mtuBytes: 1500,
      isUp: false,
      hasCarrier: true,
      leadsOut: false,
      ...link,
    };
    this.links.set(made.name, made);
    this.held.set(index, new Set());
    this.entries.set(index, new Map());
    return made;
  }

  list = () => [...this.links.values()];

  addresses = () =>
    [...this.held].flatMap(([linkIndex, addresses]) =>
      [...addresses].map((address) => {
        const label = this.labels.get(address);
        return { linkIndex, address, prefixLength: 32, ...(label === undefined ? {} : { label }) };
      }),
    );

  make = ({ name, is, mac }: DesiredLink) => {
    this.#write(name, `make ${name}`);
    this.add({ name, is, kind: is.kind, ...(mac === undefined ? {} : { mac }) });
  };

  configure = ({ name, mac, mtuBytes }: DesiredLink) => {
    const link = this.links.get(name);
    if (link === undefined) throw new Error(`no link ${name}`);
    this.#write(`mtu ${mtuBytes}`, `configure ${name}`);
    this.links.set(name, { ...link, ...(mac === undefined ? {} : { mac }), mtuBytes, isUp: true });
  };

  remove = (name: string) => {
    this.#write(name, `remove ${name}`);
    const index = this.links.get(name)?.index ?? 0;
    this.links.delete(name);
    this.held.delete(index);
    this.entries.delete(index);
  };

  setDown = (name: string) => {
    this.#write(name, `down ${name}`);
    const link = this.links.get(name);
    if (link !== undefined) this.links.set(name, { ...link, isUp: false });
  };

  addAddress = (linkIndex: number, address: IpAddress, label?: string) => {
    this.#write(address, `add ${address}${label === undefined ? '' : ` as ${label}`}`);
    this.held.get(linkIndex)?.add(address);
    if (label !== undefined) this.labels.set(address, label);
  };

  removeAddress = (linkIndex: number, address: IpAddress) => {
    this.#write(address, `drop ${address}`);
    this.held.get(linkIndex)?.delete(address);
  };

  /** The entries of a link, as text. */
  shown(name: string): readonly string[] {
    const index = this.links.get(name)?.index ?? 0;
    return [...(this.entries.get(index)?.keys() ?? [])].toSorted();
  }

  readonly neighbours: NeighbourCalls = {
    list: (linkIndex) =>
      [...(this.entries.get(linkIndex)?.values() ?? [])].map((neighbour) => ({
        linkIndex,
        isPermanent: true,
        neighbour,
      })),
    set: (linkIndex, neighbour) => {
      this.#write(neighbour.mac, `set ${shownAs(neighbour)}`);
      const entries = this.entries.get(linkIndex);
      // Replaces the entry of the same address, as the kernel does.
      for (const [key, other] of entries ?? [])
        if (isInPlaceOf(neighbour, other)) entries?.delete(key);
      entries?.set(shownAs(neighbour), neighbour);
    },
    remove: (linkIndex, neighbour) => {
      this.#write(neighbour.mac, `unset ${shownAs(neighbour)}`);
      this.entries.get(linkIndex)?.delete(shownAs(neighbour));
    },
  };

  #write(what: string, note: string): void {
    if (this.refuses.has(what)) throw new Error(`refused: ${what}`);
    this.journal.push(note);
  }
}

export function shownAs(neighbour: Neighbour): string {
  return neighbour.kind === 'neighbour'
    ? `${neighbour.address} at ${neighbour.mac}`
    : `${neighbour.mac} to ${neighbour.remote}`;
}

function isInPlaceOf(one: Neighbour, other: Neighbour): boolean {
  if (one.kind === 'neighbour') return other.kind === 'neighbour' && other.address === one.address;
  return other.kind === 'forwarding' && other.mac === one.mac;
}
