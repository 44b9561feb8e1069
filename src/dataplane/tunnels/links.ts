import { isDeepStrictEqual } from 'node:util';
import type { IpAddress } from '../../ip/address.ts';
import { Refusals, type ApplyFailure } from '../apply-failure.ts';
import { isChecksumOffloadBroken, stopChecksumOffload } from './checksum-offload.ts';
import { DeltaTracker } from '../delta-tracker.ts';
import {
  addHostAddress,
  listAddresses,
  removeHostAddress,
  type InterfaceAddress,
} from '../netlink/address.ts';
import {
  configureTunnel,
  deleteLink,
  listLinks,
  makeLink,
  setDown,
  type Link,
} from '../netlink/link.ts';
import type { Libc } from '../netlink/libc.ts';
import type { ToldKind } from '../netlink/link-kinds.ts';
import { isRefusal, type NetlinkSocket } from '../netlink/socket.ts';

/** Kinds of links that this driver creates. */
type TunnelKind = Exclude<ToldKind, { readonly kind: 'veth' }>;

/** A virtual link of the host, which is up. */
export interface DesiredLink {
  readonly name: string;
  readonly is: TunnelKind;
  readonly mac?: string;
  readonly mtuBytes: number;
  /** Its addresses, each a network of its own; those of the link itself (fe80::/10) do not count. */
  readonly addresses: readonly IpAddress[];
}

/** The kernel's calls that the driver needs. Tests replace them. */
export interface LinkCalls {
  /** Throws `kernel/refused`, as all calls. */
  list(): readonly Link[];
  addresses(): readonly InterfaceAddress[];
  make(link: DesiredLink): void;
  /** Sets MAC address and MTU, and brings it up. */
  configure(link: DesiredLink): void;
  remove(name: string): void;
  /** Sets it down. */
  setDown(name: string): void;
  addAddress(linkIndex: number, address: IpAddress, label?: string): void;
  removeAddress(linkIndex: number, address: IpAddress): void;
}

/** Names of the links that belong to us, with their kinds: only these are created, changed or removed. */
export type OwnLinks = ReadonlyMap<string, TunnelKind['kind']>;

/**
 * Whether a link is the kernel's own, `tunl0` of the module ipip: it exists before us, cannot be deleted, and others may
 * use it as well. On it only addresses with our label belong to us.
 */
function isShared(kind: TunnelKind['kind'] | undefined): boolean {
  return kind === 'ipip';
}

/** The label of our addresses on a shared link; the kernel requires that it begins with the name of the interface. */
function labelOn(name: string): string {
  return `${name}:calico`;
}

interface ActualLink {
  readonly index: number;
  /** Absent if it has settings that we never give, so that it must be created again. */
  readonly is?: ToldKind | undefined;
  readonly mac: string;
  readonly mtuBytes: number;
  readonly isUp: boolean;
  /** On a shared link, ours only. */
  readonly addresses: readonly IpAddress[];
}

/**
 * The tunnel interfaces of this host: a link belongs to us by its name and kind. MAC address, MTU, addresses and state
 * are changed in place; another setting means that the link is removed and created again. A link of our name and of
 * another kind stays, and is reported. A shared link is used as it is, with the addresses of others.
 */
export class Links {
  readonly #calls: LinkCalls;
  readonly #own: OwnLinks;
  readonly #delta = new DeltaTracker<string, DesiredLink | ActualLink>(isSameLink);
  readonly #actual = new Map<string, ActualLink>();
  /** Links of our names that are not ours, with their kinds. */
  readonly #others = new Map<string, string>();
  readonly #refused = new Refusals<string>();
  #mustRead = true;

  constructor(calls: LinkCalls, own: OwnLinks) {
    this.#calls = calls;
    this.#own = own;
  }

  setDesired(link: DesiredLink): void {
    const before = this.#delta.desired.get(link.name);
    // A new attempt may succeed at once.
    if (!isDeepStrictEqual(before, link)) this.#refused.delete(link.name);
    // A shared link of others was not looked at.
    if (isShared(link.is.kind) && !this.#actual.has(link.name)) this.#mustRead = true;
    this.#delta.setDesired(link.name, link);
  }

  deleteDesired(name: string): void {
    if (this.#delta.desired.has(name)) this.#refused.delete(name);
    this.#delta.deleteDesired(name);
  }

  /** Returns the index of a link of ours; `undefined` while it does not exist. */
  indexOf(name: string): number | undefined {
    return this.#actual.get(name)?.index;
  }

  /** Handles the kernel's notification of a link; returns whether it concerns ours and we did not cause it. */
  linkChanged(link: Link, isGone: boolean): boolean {
    const { name } = link;
    if (!this.#own.has(name)) return false;
    const actual = this.#actual.get(name);
    const isOfOthers = isShared(this.#own.get(name)) && actual === undefined;
    if (isOfOthers && !this.#delta.desired.has(name)) return false;
    const isKnown = isGone
      ? actual?.index !== link.index
      : actual !== undefined &&
        isDeepStrictEqual(actual, { ...actualOf(link), addresses: actual.addresses });
    if (isKnown) return false;
    // It may be possible now: the module of a shared link was loaded.
    this.#refused.delete(name);
    this.#mustRead = true;
    return true;
  }

  /** Handles the kernel's notification of an address; returns whether it concerns ours and we did not cause it. */
  addressChanged({ linkIndex, address }: InterfaceAddress, isGone: boolean): boolean {
    const link = [...this.#actual.values()].find(({ index }) => index === linkIndex);
    if (link === undefined || isOfLink(address)) return false;
    if (link.addresses.includes(address) !== isGone) return false;
    this.#mustRead = true;
    return true;
  }

  /** Reads our links from the kernel before the next write. */
  resync(): void {
    this.#mustRead = true;
  }

  /** Writes the delta, except what was refused a moment ago. Throws `kernel/refused` if the links cannot be read. */
  apply(): void {
    if (this.#mustRead) this.#read();
    for (const [name] of this.#delta.removals()) {
      this.#attempt(name, `removal of the interface ${name}`, () => this.#remove(name));
    }
    for (const [name, desired] of this.#delta.updates()) {
      if (!('name' in desired)) continue;
      this.#attempt(name, `interface ${name}`, () => this.#write(desired));
    }
  }

  failures(): readonly ApplyFailure[] {
    return this.#refused.failures();
  }

  get hasDue(): boolean {
    return this.#refused.hasDue;
  }

  #attempt(name: string, what: string, change: () => void): void {
    if (!this.#refused.isDue(name)) return;
    const isDone = this.#refused.attempt(name, { what }, change);
    // What a failed change has left is not known.
    if (!isDone) this.#mustRead = true;
  }

  #write(desired: DesiredLink): void {
    const { name, addresses } = desired;
    const other = this.#others.get(name);
    if (other !== undefined) {
      throw new Error(
        `this host has another interface of this name, of kind ${other}; rename or delete it`,
      );
    }
    const before = this.#actual.get(name);
    if (before !== undefined && !isDeepStrictEqual(before.is, desired.is)) {
      if (isShared(desired.is.kind)) {
        throw new Error(
          `this host has a tunnel of its own with this name (ip -d link show ${name}); rename or delete it`,
        );
      }
      this.#remove(name);
    }
    if (!this.#actual.has(name)) {
      this.#calls.make(desired);
    }
    this.#calls.configure(desired);
    const found = this.#calls.list().find((link) => link.name === name);
    if (found === undefined) throw new Error('it was removed at once');
    const { index } = found;
    const present = this.#actual.get(name)?.addresses ?? [];
    for (const address of addresses) {
      if (present.includes(address)) continue;
      if (isShared(desired.is.kind)) this.#calls.addAddress(index, address, labelOn(name));
      else this.#calls.addAddress(index, address);
    }
    for (const address of present) {
      if (!addresses.includes(address)) this.#calls.removeAddress(index, address);
    }
    this.#setActual(name, { ...actualOf(found), addresses: addresses.toSorted() });
  }

  #remove(name: string): void {
    if (isShared(this.#own.get(name))) this.#release(name);
    else this.#calls.remove(name);
    this.#actual.delete(name);
    this.#delta.deleteActual(name);
  }

  /** Removes our addresses from a shared link, and sets it down unless others have addresses there. */
  #release(name: string): void {
    const { index, addresses } = this.#actual.get(name) ?? { index: 0, addresses: [] };
    for (const address of addresses) this.#calls.removeAddress(index, address);
    const isOfOthers = ({ linkIndex, address }: InterfaceAddress) =>
      linkIndex === index && !isOfLink(address);
    if (!this.#calls.addresses().some(isOfOthers)) this.#calls.setDown(name);
  }

  #setActual(name: string, actual: ActualLink): void {
    this.#actual.set(name, actual);
    this.#delta.setActual(name, actual);
  }

  #read(): void {
    const [links, addresses] = [this.#calls.list(), this.#calls.addresses()];
    this.#actual.clear();
    this.#others.clear();
    for (const link of links) {
      const { name, index, kind = 'physical' } = link;
      const own = this.#own.get(name);
      if (own === undefined) continue;
      if (own !== kind) {
        this.#others.set(name, kind);
        continue;
      }
      const desired = this.#delta.desired.get(name);
      const its = addresses
        .filter((one) => one.linkIndex === index && !isOfLink(one.address))
        .filter(
          ({ address, label }) =>
            !isShared(own) || label === labelOn(name) || desired?.addresses.includes(address),
        );
      if (isShared(own) && desired === undefined && its.length === 0) continue;
      const sorted = its.map(({ address }) => address).toSorted();
      this.#actual.set(name, { ...actualOf(link), addresses: sorted });
    }
    this.#delta.replaceActual(this.#actual);
    this.#mustRead = false;
  }
}

/** Returns the calls for the network namespace of a socket and of the process. */
export function linkCalls(
  socket: NetlinkSocket,
  libc: Libc,
  isOffloadBroken = isChecksumOffloadBroken(),
): LinkCalls {
  return {
    list: () => listLinks(socket),
    addresses: () => listAddresses(socket),
    make: ({ name, is, mac }) => {
      try {
        makeLink(socket, { name, is, ...(mac === undefined ? {} : { mac }) });
      } catch (error) {
        if (is.kind === 'ipip' && isRefusal(error, 'EOPNOTSUPP')) {
          throw new Error(noIpip, { cause: error });
        }
        // The kernel has loaded the module, which brings its own.
        if (is.kind !== 'ipip' || !isRefusal(error, 'EEXIST')) throw error;
      }
    },
    configure: (link) => {
      configureTunnel(socket, link);
      if (isOffloadBroken && link.is.kind === 'vxlan') stopChecksumOffload(libc, link.name);
    },
    remove: (name) => deleteLink(socket, name),
    setDown: (name) => setDown(socket, name),
    addAddress: (linkIndex, address, label) =>
      addHostAddress(socket, { linkIndex, address, ...(label === undefined ? {} : { label }) }),
    removeAddress: (linkIndex, address) => removeHostAddress(socket, { linkIndex, address }),
  };
}

const noIpip =
  'this kernel has no IP-in-IP; load its module (modprobe ipip), or use vxlanMode instead of ipipMode in the IP pools';

function actualOf({ index, is, mac, mtuBytes, isUp }: Link): Omit<ActualLink, 'addresses'> {
  return { index, is, mac, mtuBytes, isUp };
}

function isSameLink(a: DesiredLink | ActualLink, b: DesiredLink | ActualLink): boolean {
  const isUp = (link: DesiredLink | ActualLink) => 'name' in link || link.isUp;
  const addresses = (link: DesiredLink | ActualLink) => link.addresses.toSorted();
  return (
    isDeepStrictEqual(a.is, b.is) &&
    (a.mac === undefined || b.mac === undefined || a.mac === b.mac) &&
    a.mtuBytes === b.mtuBytes &&
    isUp(a) === isUp(b) &&
    isDeepStrictEqual(addresses(a), addresses(b))
  );
}

/** The kernel gives a link its own address of IPv6. */
function isOfLink(address: IpAddress): boolean {
  return /^fe[89ab]/.test(address);
}
