import { refused } from './errno.ts';
import type { Libc } from './libc.ts';
import { readAddressMessage, type InterfaceAddress } from './address.ts';
import { readAttributes } from './attributes.ts';
import { readLink, type Link } from './link.ts';
import { readNeighbour, type KernelNeighbour } from './neighbour.ts';
import { readKernelRoute, type KernelRoute } from './route.ts';
import { decodeMessages, NetlinkSocket } from './socket.ts';

/** Position of a new route among those of the same destination, table and metric. */
export type RoutePlace = 'in the place of another' | 'before others' | 'after others';

/** Kernel notifications. */
export type KernelEvent =
  | { readonly kind: 'link'; readonly link: Link; readonly isGone: boolean }
  /** A route was removed, by any program; routes removed with their interface are not reported. */
  | { readonly kind: 'routeGone'; readonly route: KernelRoute }
  /** A route was added, by any program. */
  | { readonly kind: 'routeMade'; readonly route: KernelRoute; readonly place: RoutePlace }
  /** An address of an interface was added, changed or removed. */
  | { readonly kind: 'address'; readonly address: InterfaceAddress; readonly isGone: boolean }
  /** A neighbour or forwarding entry of an interface was added, changed or removed, also by the kernel itself. */
  | { readonly kind: 'neighbour'; readonly entry: KernelNeighbour; readonly isGone: boolean }
  /** The nf_tables rules were changed, by which process. */
  | { readonly kind: 'nftables'; readonly processId: number | undefined }
  /** Events were lost: the receiver must read everything again. */
  | { readonly kind: 'overrun' };

const rtnetlink = 0;
const netfilter = 12;
const solNetlink = 270;
const addMembership = 1;
const groups = {
  link: 1,
  neighbour: 3,
  address4: 5,
  address6: 9,
  route4: 7,
  route6: 11,
  nftables: 7,
};
const messages = {
  newLink: 16,
  deleteLink: 17,
  newAddress: 20,
  deleteAddress: 21,
  newRoute: 24,
  deleteRoute: 25,
  newNeighbour: 28,
  deleteNeighbour: 29,
};
const replaces = 0x100;
const appends = 0x800;
const newGeneration = (10 << 8) | 15;
const generationProcess = 2;
const dontWait = 0x40;
const noBuffers = 'ENOBUFS';
const again = 11;
const pollIn = 1;
const bufferBytes = 1 << 16;
const nonBlockingCloseOnExec = 0o2004000;

/**
 * Waits on a thread of the pool are limited, because they keep the process from exiting. Waking once a second costs
 * some tens of microseconds.
 */
const longestWaitMs = 1000;

/**
 * Listens to the kernel's notifications of links, addresses, neighbours, routes and nf_tables in this network namespace and passes them on in
 * batches. It waits on a thread of the pool.
 */
export class KernelMonitor {
  readonly #libc: Libc;
  readonly #sockets: readonly NetlinkSocket[];
  readonly #wake: number;
  readonly #buffer = Buffer.alloc(bufferBytes);
  readonly #onEvents: (events: readonly KernelEvent[]) => void;
  #hasRun = false;

  constructor(libc: Libc, onEvents: (events: readonly KernelEvent[]) => void) {
    this.#libc = libc;
    this.#onEvents = onEvents;
    this.#sockets = [
      subscribe(libc, rtnetlink, [
        groups.link,
        groups.neighbour,
        groups.address4,
        groups.address6,
        groups.route4,
        groups.route6,
      ]),
      subscribe(libc, netfilter, [groups.nftables]),
    ];
    this.#wake = libc.eventfd(0, nonBlockingCloseOnExec);
  }

  /**
   * Passes on notifications from now on, until the signal is aborted; earlier changes are not reported. May be run
   * again after it threw (`kernel/refused`, or what `onEvents` throws), and then starts with an overrun. `turned` is
   * called at least once a second.
   */
  async run(signal: AbortSignal, turned: () => void = () => undefined): Promise<void> {
    if (this.#hasRun) this.#onEvents([{ kind: 'overrun' }]);
    this.#hasRun = true;
    const wake = () => void this.#libc.write(this.#wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), 8);
    signal.addEventListener('abort', wake, { once: true });
    try {
      const descriptors = [...this.#sockets.map(({ fd }) => fd), this.#wake];
      const polled = Buffer.alloc(descriptors.length * 8);
      while (!signal.aborted) {
        turned();
        for (const [index, fd] of descriptors.entries()) {
          polled.writeInt32LE(fd, index * 8);
          polled.writeInt32LE(pollIn, index * 8 + 4);
        }
        await this.#libc.pollOffThread(polled, descriptors.length, longestWaitMs);
        const events = this.#sockets.flatMap((socket) => this.#read(socket.fd));
        if (events.length > 0 && !signal.aborted) this.#onEvents(events);
      }
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }

  /** To be called when it does not run any more. */
  close(): void {
    for (const socket of this.#sockets) socket.close();
    this.#libc.close(this.#wake);
  }

  #read(fd: number): readonly KernelEvent[] {
    const events: KernelEvent[] = [];
    for (;;) {
      const length = this.#libc.recv(fd, this.#buffer, this.#buffer.length, dontWait);
      if (length >= 0) {
        events.push(...eventsIn(this.#buffer.subarray(0, length)));
        continue;
      }
      const errno = this.#libc.errno();
      if (errno === again) return events;
      const error = refused('receive notifications', errno);
      if (error.detail.errno !== noBuffers) throw error;
      events.push({ kind: 'overrun' });
    }
  }
}

function subscribe(libc: Libc, family: number, wanted: readonly number[]): NetlinkSocket {
  const socket = NetlinkSocket.open(libc, family);
  for (const group of wanted) {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(group, 0);
    if (libc.setsockopt(socket.fd, solNetlink, addMembership, bytes, 4) < 0) {
      throw refused('subscribe to notifications', libc.errno());
    }
  }
  return socket;
}

function* eventsIn(bytes: Buffer): Generator<KernelEvent> {
  for (const { type, flags, payload } of decodeMessages(bytes)) {
    switch (type) {
      case messages.newLink:
      case messages.deleteLink:
        yield { kind: 'link', link: readLink(payload), isGone: type === messages.deleteLink };
        break;
      case messages.newRoute: {
        const route = readKernelRoute(payload);
        if (route !== undefined) yield { kind: 'routeMade', route, place: placeOf(flags) };
        break;
      }
      case messages.deleteRoute: {
        const route = readKernelRoute(payload);
        if (route !== undefined) yield { kind: 'routeGone', route };
        break;
      }
      case messages.newAddress:
      case messages.deleteAddress: {
        const address = readAddressMessage(payload);
        const isGone = type === messages.deleteAddress;
        if (address !== undefined) yield { kind: 'address', address, isGone };
        break;
      }
      case messages.newNeighbour:
      case messages.deleteNeighbour: {
        const isGone = type === messages.deleteNeighbour;
        yield { kind: 'neighbour', entry: readNeighbour(payload), isGone };
        break;
      }
      case newGeneration:
        yield { kind: 'nftables', processId: generationPid(payload) };
        break;
      default:
        break;
    }
  }
}

function placeOf(flags: number): RoutePlace {
  if ((flags & replaces) !== 0) return 'in the place of another';
  return (flags & appends) === 0 ? 'before others' : 'after others';
}

function generationPid(payload: Buffer): number | undefined {
  return readAttributes(payload.subarray(4)).get(generationProcess)?.readUInt32BE(0);
}
