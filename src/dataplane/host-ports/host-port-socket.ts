import { createSocket } from 'node:dgram';
import { createServer, type AddressInfo } from 'node:net';
import { CalicoError, describe } from '../../errors/error.ts';
import { addressAndPort, familyOf, type IpAddress } from '../../ip/address.ts';
import { protocolNumbers, type PortProtocol } from '../../ip/port-protocol.ts';
import { relayConnection, relayDatagrams, type RelayTarget } from './loopback-relay.ts';
import { errnoName } from '../netlink/errno.ts';
import {
  addressFamilies,
  boundPort,
  closeOnExec,
  datagramSocket,
  socketLevel,
  socketName,
  streamSocket,
} from '../netlink/ip-socket.ts';
import type { Libc } from '../netlink/libc.ts';

/** A port of the host at one address, or at all of a family. */
export interface HostPort {
  readonly protocol: PortProtocol;
  readonly address: IpAddress;
  readonly port: number;
}

/** Identity of a host port. */
export function hostPortKey({ protocol, address, port }: HostPort): string {
  return `${protocol} ${address} ${port}`;
}

/** A bound socket: nobody else on this host gets the port while it is open. */
export interface HostPortSocket {
  readonly port: number;
  /** Returns how many datagrams have arrived here and not at the container: broadcasts, which DNAT does not apply to. */
  undelivered(): number;
  /** Closes it; the port is free when this returns. */
  close(): void;
}

export interface ReserveOptions {
  readonly libc: Libc;
  /** Target that clients of `::1` are relayed to. */
  readonly relayTo?: RelayTarget | undefined;
}

/**
 * Binds a socket to a port of the host; port 0 lets the kernel choose. Other programs then get EADDRINUSE: a TCP port
 * is listened on (only a listener excludes sockets with SO_REUSEADDR; without that option a port in use a minute ago
 * could not be bound), and a UDP or SCTP port is bound exclusively. Throws `port/…`.
 */
export async function openHostPort(
  requested: HostPort,
  options: ReserveOptions,
): Promise<HostPortSocket> {
  try {
    return await openers[requested.protocol](requested, options);
  } catch (error) {
    throw bindFailure(requested, error);
  }
}

type Opener = (requested: HostPort, options: ReserveOptions) => Promise<HostPortSocket>;

const openers: Readonly<Record<PortProtocol, Opener>> = {
  TCP: (requested, { relayTo }) => listen(requested, relayTo),
  UDP: async (requested, { libc, relayTo }) =>
    relayTo === undefined
      ? bindOnly(requested, libc, datagramSocket)
      : bindDatagrams(requested, relayTo),
  SCTP: async (requested, { libc }) => bindOnly(requested, libc, streamSocket),
};

function listen(requested: HostPort, relayTo: RelayTarget | undefined): Promise<HostPortSocket> {
  const { address, port } = requested;
  const server = createServer({ allowHalfOpen: true }, (client) =>
    relayConnection(client, relayTo),
  );
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: address, port, ipv6Only: true, exclusive: true }, () => {
      const bound = server.address();
      // A connection that cannot be accepted (no descriptor left) affects only its client.
      server.on('error', () => undefined);
      resolve({
        port: portOf(bound),
        undelivered: () => 0,
        close: () => void server.close(),
      });
    });
  });
}

function bindDatagrams(requested: HostPort, relayTo: RelayTarget): Promise<HostPortSocket> {
  const { address, port } = requested;
  const type = familyOf(address) === 4 ? 'udp4' : 'udp6';
  const socket = createSocket({ type, ipv6Only: type === 'udp6' });
  socket.unref();
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address, port, exclusive: true }, () => {
      relayDatagrams(socket, relayTo);
      socket.on('error', () => undefined);
      resolve({
        port: socket.address().port,
        undelivered: () => 0,
        close: () => void socket.close(),
      });
    });
  });
}

const ipv6Level = 41;
const ipv6Only = 26;
const receiveBuffer = 8;
const dontWait = 0x40;

/**
 * Binds a port without serving it, directly by system calls: cheap for ten thousand ports, and possible for SCTP,
 * which Node lacks. Packets that bypass the NAT rules fill the smallest buffer that the kernel allows, and are only
 * counted.
 */
function bindOnly({ protocol, address, port }: HostPort, libc: Libc, type: number): HostPortSocket {
  const family = familyOf(address);
  const fd = libc.socket(addressFamilies[family], type | closeOnExec, protocolNumbers[protocol]);
  if (fd < 0) throw new SystemError(libc.errno());
  const one = Buffer.of(1, 0, 0, 0);
  if (family === 6) libc.setsockopt(fd, ipv6Level, ipv6Only, one, one.length);
  libc.setsockopt(fd, socketLevel, receiveBuffer, one, one.length);
  const name = socketName(address, port);
  if (libc.bind(fd, name, name.length) < 0) {
    const error = new SystemError(libc.errno());
    libc.close(fd);
    throw error;
  }
  let taken = 0;
  return {
    port: boundPort(libc, fd),
    undelivered: () => {
      if (type !== datagramSocket) return 0;
      while (libc.recv(fd, one, one.length, dontWait) >= 0) taken++;
      return taken + dropsOf(fd, libc);
    },
    close: () => void libc.close(fd),
  };
}

const memoryInfo = 55;
const memoryInfoDrops = 8;

/** Returns how many packets a socket had no room for: `SK_MEMINFO_DROPS` of `SO_MEMINFO` (Linux 4.12). */
function dropsOf(fd: number, libc: Libc): number {
  const counts = Buffer.alloc(9 * 4);
  const length = Buffer.of(counts.length, 0, 0, 0);
  const status = libc.getsockopt(fd, socketLevel, memoryInfo, counts, length);
  return status < 0 ? 0 : counts.readUInt32LE(memoryInfoDrops * 4);
}

class SystemError extends Error {
  readonly code: string;

  constructor(errno: number) {
    super(errnoName(errno));
    this.code = this.message;
  }
}

function bindFailure({ address, port }: HostPort, error: unknown): CalicoError {
  const where = addressAndPort(address, port);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const cause = { cause: error };
  switch (code) {
    case 'EADDRINUSE':
      return new CalicoError('port/taken', { where }, cause);
    case 'EADDRNOTAVAIL':
      return new CalicoError('port/address-elsewhere', { where }, cause);
    case 'EPROTONOSUPPORT':
    case 'ESOCKTNOSUPPORT':
      return new CalicoError('port/no-sctp', { where }, cause);
    case 'EMFILE':
      return new CalicoError('port/too-many-files', { where }, cause);
    default:
      return new CalicoError('port/cannot-bind', { where, why: describe(error) }, cause);
  }
}

function portOf(bound: AddressInfo | string | null): number {
  return typeof bound === 'object' && bound !== null ? bound.port : 0;
}
