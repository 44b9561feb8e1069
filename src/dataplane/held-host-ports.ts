import { CalicoError, isCalicoError } from '../errors/error.ts';
import { addressAndPort } from '../ip/address.ts';
import {
  hostPortKey,
  openHostPort,
  type HostPort,
  type HostPortSocket,
} from './host-port-socket.ts';
import type { RelayTarget } from './loopback-relay.ts';
import type { Libc } from './netlink/libc.ts';

/** A host port to hold, and where clients of `::1` are passed on to. */
export interface PortToHold extends HostPort {
  readonly relayTo?: RelayTarget | undefined;
  /** Nothing is to be held where the host does not have the address. */
  readonly isIfThere?: boolean;
}

interface Held {
  readonly owner: string;
  /** Missing while it is being bound. */
  socket: HostPortSocket | undefined;
}

/** The ports of the host that this process holds for containers, each for one owner. */
export class HeldHostPorts {
  readonly #libc: Libc;
  readonly #held = new Map<string, Held>();

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /**
   * Holds a port for an owner and answers its number, which the kernel chose if 0 was asked for. One that the
   * owner holds already stays. Throws `port/…`.
   */
  async hold(owner: string, requested: PortToHold): Promise<number> {
    if (requested.port === 0) {
      const socket = await this.#open(requested);
      this.#held.set(hostPortKey({ ...requested, port: socket.port }), { owner, socket });
      return socket.port;
    }
    const key = hostPortKey(requested);
    const holder = this.#held.get(key);
    if (holder?.owner === owner) return requested.port;
    if (holder !== undefined) {
      const where = addressAndPort(requested.address, requested.port);
      throw new CalicoError('port/taken', { where });
    }
    const held: Held = { owner, socket: undefined };
    this.#held.set(key, held);
    try {
      held.socket = await this.#open(requested);
    } catch (error) {
      if (this.#held.get(key) === held) this.#held.delete(key);
      throw error;
    }
    // Released while it was bound.
    if (this.#held.get(key) !== held) held.socket.close();
    return requested.port;
  }

  /** Lets a port go, if the owner holds it. */
  release(owner: string, port: HostPort): void {
    const key = hostPortKey(port);
    const held = this.#held.get(key);
    if (held?.owner !== owner) return;
    this.#held.delete(key);
    held.socket?.close();
  }

  /** Who holds the port. */
  ownerOf(port: HostPort): string | undefined {
    return this.#held.get(hostPortKey(port))?.owner;
  }

  async #open(requested: PortToHold): Promise<HostPortSocket> {
    try {
      return await openHostPort(requested, { libc: this.#libc, relayTo: requested.relayTo });
    } catch (error) {
      const isMissing = isCalicoError(error, 'port/address-elsewhere');
      if (!isMissing || requested.isIfThere !== true) throw error;
      return { port: requested.port, close: () => undefined };
    }
  }
}
