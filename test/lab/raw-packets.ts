import {
  addressFamilies,
  datagramSocket,
  socketName,
} from '../../src/dataplane/netlink/ip-socket.ts';
import type { Libc } from '../../src/dataplane/netlink/libc.ts';
import { addressToBytes, familyOf, type IpAddress, type IpFamily } from '../../src/ip/address.ts';
import { checksum } from './checksum.ts';

/** Forged packets, sent on raw sockets. */

const [sockRaw, protocolRaw] = [3, 255];
const protocols = { udp: 17, icmp: 1, icmp6: 58, destinationOptions: 60 } as const;

/** One end of a flow of datagrams. */
export interface End {
  readonly address: IpAddress;
  readonly port: number;
}

/** Opens a socket of datagrams at an address and port; to be closed by `libc.close`. */
export function openDatagrams(libc: Libc, { address, port }: End): number {
  const fd = libc.socket(addressFamilies[familyOf(address)], datagramSocket, 0);
  const name = socketName(address, port);
  if (fd < 0 || libc.bind(fd, name, name.length) < 0) throw new Error(`cannot bind ${address}`);
  return fd;
}

/** Returns whether the kernel accepted it. */
export function sendDatagram(
  libc: Libc,
  fd: number,
  to: End,
  data: Buffer = Buffer.alloc(100),
): boolean {
  const name = socketName(to.address, to.port);
  return libc.sendto(fd, data, data.length, 0, name, name.length) >= 0;
}

/** Sends a packet with its own IP header. */
export function sendRaw(libc: Libc, packet: Buffer, to: IpAddress): void {
  const fd = libc.socket(addressFamilies[familyOf(to)], sockRaw, protocolRaw);
  const name = socketName(to, 0);
  const sent = libc.sendto(fd, packet, packet.length, 0, name, name.length);
  libc.close(fd);
  if (sent < 0) throw new Error(`raw packet not sent: ${libc.errno()}`);
}

export interface TooBig {
  readonly from: IpAddress;
  readonly to: IpAddress;
  /** The flow whose packet was too big, as its sender sees it. */
  readonly flow: { readonly source: End; readonly destination: End };
  readonly mtu: number;
  /** IPv6: an extension header before the error, in which an address stands where the quoted one usually does. */
  readonly decoy?: IpAddress;
}

/** "Fragmentation needed" (IPv4, RFC 792 and 1191) or "packet too big" (IPv6, RFC 4443). */
export function tooBig({ from, to, flow, mtu, decoy }: TooBig): Buffer {
  const family = familyOf(from);
  const datagram = Buffer.alloc(8);
  datagram.writeUInt16BE(flow.source.port, 0);
  datagram.writeUInt16BE(flow.destination.port, 2);
  datagram.writeUInt16BE(1400, 4);
  const { source, destination } = flow;
  const quoted = Buffer.concat([
    header({
      family,
      from: source.address,
      to: destination.address,
      next: protocols.udp,
      bytes: 1400,
    }),
    datagram,
  ]);
  const error = Buffer.concat([Buffer.alloc(8), quoted]);
  error.writeUInt8(family === 4 ? 3 : 2, 0);
  error.writeUInt8(family === 4 ? 4 : 0, 1);
  error.writeUInt32BE(mtu, 4);
  const pseudo =
    family === 4
      ? Buffer.alloc(0)
      : Buffer.concat([
          addressToBytes(from),
          addressToBytes(to),
          word(error.length),
          word(protocols.icmp6),
        ]);
  error.writeUInt16BE(checksum(Buffer.concat([pseudo, error])), 2);
  const next = family === 4 ? protocols.icmp : protocols.icmp6;
  if (decoy === undefined) {
    return Buffer.concat([header({ family, from, to, next, bytes: error.length }), error]);
  }
  // Padding option of 46 bytes; what the quoted destination's place holds is 32 bytes behind the IPv6 header.
  const options = Buffer.alloc(48);
  options.writeUInt8(next, 0);
  options.writeUInt8(options.length / 8 - 1, 1);
  options.writeUInt8(1, 2);
  options.writeUInt8(options.length - 4, 3);
  options.set(addressToBytes(decoy), 32);
  const bytes = options.length + error.length;
  return Buffer.concat([
    header({ family, from, to, next: protocols.destinationOptions, bytes }),
    options,
    error,
  ]);
}

function header(options: {
  readonly family: IpFamily;
  readonly from: IpAddress;
  readonly to: IpAddress;
  readonly next: number;
  readonly bytes: number;
}): Buffer {
  const { family, from, to, next, bytes } = options;
  const ends = Buffer.concat([addressToBytes(from), addressToBytes(to)]);
  if (family === 6) {
    const start = Buffer.from([0x60, 0, 0, 0, 0, 0, next, 64]);
    start.writeUInt16BE(bytes, 4);
    return Buffer.concat([start, ends]);
  }
  // Don't fragment; the checksum is needed in what is quoted only.
  const start = Buffer.from([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, next, 0, 0]);
  start.writeUInt16BE(20 + bytes, 2);
  const whole = Buffer.concat([start, ends]);
  whole.writeUInt16BE(checksum(whole), 10);
  return whole;
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** The first packet of a flow, and a number by which its receiver recognizes it. */
export interface Probe {
  readonly id: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** ICMP, TCP (SYN) or UDP. */
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmpType?: number | undefined;
}

const [icmp, tcp] = [1, 6];

/** A packet of IPv4 with its header (RFC 791, 792, 768, 9293). */
export function probePacket(probe: Probe): Buffer {
  const { id, source, destination, protocol } = probe;
  const segment = Buffer.alloc(protocol === icmp ? 20 : protocol === tcp ? 20 : 12);
  if (protocol === icmp) {
    segment.writeUInt8(probe.icmpType ?? 8, 0);
    segment.writeUInt16BE(id & 0xffff, 4);
    segment.writeUInt32BE(id, 8);
  } else {
    segment.writeUInt16BE(probe.sourcePort, 0);
    segment.writeUInt16BE(probe.destinationPort, 2);
    if (protocol === tcp) {
      segment.writeUInt32BE(id, 4);
      segment.writeUInt16BE(0x5002, 12);
      segment.writeUInt16BE(1000, 14);
    } else {
      segment.writeUInt16BE(segment.length, 4);
      segment.writeUInt32BE(id, 8);
    }
  }
  const pseudo = Buffer.concat([
    addressToBytes(source),
    addressToBytes(destination),
    Buffer.from([0, protocol, 0, segment.length]),
  ]);
  const summed = protocol === icmp ? segment : Buffer.concat([pseudo, segment]);
  segment.writeUInt16BE(checksum(summed), protocol === icmp ? 2 : protocol === tcp ? 16 : 6);
  const bytes = segment.length;
  return Buffer.concat([
    header({ family: 4, from: source, to: destination, next: protocol, bytes }),
    segment,
  ]);
}

/** Receives the probes that arrive in the network namespace where it was made. */
export class ProbeReceiver implements Disposable {
  readonly #libc: Libc;
  readonly #sockets: readonly number[];
  readonly #arrived = new Set<number>();

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#sockets = [icmp, tcp, protocols.udp].map((protocol) =>
      libc.socket(addressFamilies[4], sockRaw, protocol),
    );
  }

  /** The numbers of all probes that have arrived so far. */
  arrived(): ReadonlySet<number> {
    const dontWait = 0x40;
    const data = Buffer.alloc(2048);
    for (const fd of this.#sockets) {
      while (this.#libc.recv(fd, data, data.length, dontWait) > 0) {
        const segment = data.subarray((data.readUInt8(0) & 15) * 4);
        const protocol = data.readUInt8(9);
        // Replies and errors quote the number elsewhere, or are of other types.
        const isReply = protocol === icmp && ![8, 13].includes(segment.readUInt8(0));
        if (!isReply) this.#arrived.add(segment.readUInt32BE(protocol === tcp ? 4 : 8));
      }
    }
    return this.#arrived;
  }

  /** Forgets what has arrived so far. */
  forget(): void {
    this.arrived();
    this.#arrived.clear();
  }

  [Symbol.dispose](): void {
    for (const fd of this.#sockets) this.#libc.close(fd);
  }
}
