import { refused } from './errno.ts';
import type { Libc } from './libc.ts';
import { readAttributes } from './attributes.ts';
import { readLink, type Link } from './link.ts';
import { ourProtocol, readRoute, type Route } from './route.ts';
import { decodeMessages, NetlinkSocket } from './socket.ts';

/** What the kernel tells of itself. */
export type KernelEvent =
  | { readonly kind: 'link'; readonly link: Link; readonly isGone: boolean }
  /** One of our routes is gone, whoever took it. */
  | { readonly kind: 'routeGone'; readonly route: Route }
  /** The nf_tables rules were changed, by which process. */
  | { readonly kind: 'nftables'; readonly processId: number | undefined }
  /** Events were lost: whoever follows them must read everything anew. */
  | { readonly kind: 'overrun' };

const rtnetlink = 0;
const netfilter = 12;
const solNetlink = 270;
const addMembership = 1;
const groups = { link: 1, route4: 7, route6: 11, nftables: 7 };
const messages = { newLink: 16, deleteLink: 17, deleteRoute: 25 };
const newGeneration = (10 << 8) | 15;
const generationProcess = 2;
const dontWait = 0x40;
const noBuffers = 'ENOBUFS';
const again = 11;
const pollIn = 1;
const bufferBytes = 1 << 16;
const nonBlockingCloseOnExec = 0o2004000;

/**
 * Listens to the kernel's notifications of links, routes and nf_tables in this network namespace and hands
 * them on in batches. It waits on a thread of the pool, so an idle monitor costs nothing.
 */
export class KernelMonitor {
  readonly #libc: Libc;
  readonly #sockets: readonly NetlinkSocket[];
  readonly #wake: number;
  readonly #buffer = Buffer.alloc(bufferBytes);
  readonly #onEvents: (events: readonly KernelEvent[]) => void;
  #isClosing = false;
  #ended: Promise<void> | undefined;

  constructor(libc: Libc, onEvents: (events: readonly KernelEvent[]) => void) {
    this.#libc = libc;
    this.#onEvents = onEvents;
    this.#sockets = [
      subscribe(libc, rtnetlink, [groups.link, groups.route4, groups.route6]),
      subscribe(libc, netfilter, [groups.nftables]),
    ];
    this.#wake = libc.eventfd(0, nonBlockingCloseOnExec);
  }

  /** Begins to listen; what was changed before is not told. */
  start(): void {
    this.#ended ??= this.#run();
  }

  /** Ends when the last batch has been handed on. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#libc.write(this.#wake, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), 8);
    await this.#ended;
    for (const socket of this.#sockets) socket.close();
    this.#libc.close(this.#wake);
  }

  async #run(): Promise<void> {
    const descriptors = [...this.#sockets.map(({ fd }) => fd), this.#wake];
    const polled = Buffer.alloc(descriptors.length * 8);
    while (!this.#isClosing) {
      for (const [index, fd] of descriptors.entries()) {
        polled.writeInt32LE(fd, index * 8);
        polled.writeInt32LE(pollIn, index * 8 + 4);
      }
      await this.#libc.pollElsewhere(polled, descriptors.length, -1);
      const events = this.#sockets.flatMap((socket) => this.#read(socket.fd));
      if (events.length > 0 && !this.#isClosing) this.#onEvents(events);
    }
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
      const error = refused('tell of changes', errno);
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
  for (const { type, payload } of decodeMessages(bytes)) {
    switch (type) {
      case messages.newLink:
      case messages.deleteLink:
        yield { kind: 'link', link: readLink(payload), isGone: type === messages.deleteLink };
        break;
      case messages.deleteRoute: {
        const route = payload[5] === ourProtocol ? readRoute(payload) : undefined;
        if (route !== undefined) yield { kind: 'routeGone', route };
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

function generationPid(payload: Buffer): number | undefined {
  return readAttributes(payload.subarray(4)).get(generationProcess)?.readUInt32BE(0);
}
