import { CalicoError, isCalicoError } from '../../errors/error.ts';
import { addressAndPort } from '../../ip/address.ts';
import {
  hostPortKey,
  openHostPort,
  type HostPort,
  type HostPortSocket,
} from './host-port-socket.ts';
import type { RelayTarget } from './loopback-relay.ts';
import type { Libc } from '../netlink/libc.ts';

/** A host port to reserve, and the target to relay clients of `::1` to. */
export interface ReservedPort extends HostPort {
  readonly relayTo?: RelayTarget | undefined;
  /** Reserve nothing if the host does not have the address. */
  readonly isIfThere?: boolean;
}

interface Reservation {
  readonly owner: string;
  /** Missing while it is being bound. */
  socket: HostPortSocket | undefined;
}

/** The host ports that this process reserves for containers, each for one owner. */
export class HostPortReservations {
  readonly #libc: Libc;
  readonly #reservations = new Map<string, Reservation>();

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /**
   * Reserves a port for an owner and returns its number, chosen by the kernel if 0 was requested. Idempotent for the
   * same owner. Throws `port/…`.
   */
  async reserve(owner: string, requested: ReservedPort): Promise<number> {
    if (requested.port === 0) {
      const socket = await this.#open(requested);
      this.#reservations.set(hostPortKey({ ...requested, port: socket.port }), { owner, socket });
      return socket.port;
    }
    const key = hostPortKey(requested);
    const holder = this.#reservations.get(key);
    if (holder?.owner === owner) return requested.port;
    if (holder !== undefined) {
      const where = addressAndPort(requested.address, requested.port);
      throw new CalicoError('port/taken', { where });
    }
    const reservation: Reservation = { owner, socket: undefined };
    this.#reservations.set(key, reservation);
    try {
      reservation.socket = await this.#open(requested);
    } catch (error) {
      if (this.#reservations.get(key) === reservation) this.#reservations.delete(key);
      throw error;
    }
    // Released while it was bound.
    if (this.#reservations.get(key) !== reservation) reservation.socket.close();
    return requested.port;
  }

  /** Releases a port if the owner has reserved it. */
  release(owner: string, port: HostPort): void {
    const key = hostPortKey(port);
    const reservation = this.#reservations.get(key);
    if (reservation?.owner !== owner) return;
    this.#reservations.delete(key);
    reservation.socket?.close();
  }

  /** Returns the owner of a reserved port. */
  ownerOf(port: HostPort): string | undefined {
    return this.#reservations.get(hostPortKey(port))?.owner;
  }

  /** Returns how many datagrams have arrived at a reserved port of the host instead of the container. */
  undeliveredAt(port: HostPort): number {
    return this.#reservations.get(hostPortKey(port))?.socket?.undelivered() ?? 0;
  }

  async #open(requested: ReservedPort): Promise<HostPortSocket> {
    try {
      return await openHostPort(requested, { libc: this.#libc, relayTo: requested.relayTo });
    } catch (error) {
      const isMissing = isCalicoError(error, 'port/address-elsewhere');
      if (!isMissing || requested.isIfThere !== true) throw error;
      return { port: requested.port, undelivered: () => 0, close: () => undefined };
    }
  }
}
