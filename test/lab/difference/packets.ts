import {
  addressToBytes,
  familyOf,
  type IpAddress,
  type IpFamily,
} from '../../../src/ip/address.ts';
import { checksum } from '../checksum.ts';

/** Packets with a number by which their receiver recognizes them, as bytes (RFC 791, 8200, 792, 4443, 768, 9293, 9260). */

/** What is between the IP header and the segment: nothing, or it comes in two parts, or (IPv6) extension headers. */
export type Shape = 'plain' | 'fragments' | 'options' | 'atomic fragment';

export interface Packet {
  readonly id: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmpType: number;
  readonly icmpCode: number;
  readonly shape: Shape;
  /** Its place in a connection: the first packet, the answer to it, or a later one. */
  readonly part: 'first' | 'reply' | 'again';
  /** The number of the first packet of its connection. */
  readonly flow: number;
  /** The number of the packet of the other end before it; 0 if there is none. */
  readonly acknowledges: number;
  /** Of an ICMP error: the packet that it quotes. */
  readonly quoted?: Packet;
}

export const [icmp, tcp, udp, icmpv6, sctp] = [1, 6, 17, 58, 132];
/** A protocol without ports of which the kernel knows nothing. */
export const otherProtocol = 99;
export const protocols = [icmp, tcp, udp, icmpv6, sctp, otherProtocol];

export function hasPorts(protocol: number): boolean {
  return [tcp, udp, sctp].includes(protocol);
}

/** Returns the packet, in one part or more. */
export function bytesOf(packet: Packet): readonly Buffer[] {
  const family = familyOf(packet.source);
  const segment = checked(packet, segmentOf(packet), family);
  if (packet.shape === 'plain') return [ipPacket(packet, family, { segment })];
  if (family === 4) {
    if (packet.shape !== 'fragments') return [ipPacket(packet, family, { segment })];
    return [0, 24].map((at) => {
      const part = at === 0 ? segment.subarray(0, 24) : segment.subarray(24);
      return ipPacket(packet, family, { segment: part, offset: at, hasMore: at === 0 });
    });
  }
  if (packet.shape === 'options') {
    // Destination options with padding (PadN).
    const options = Buffer.from([packet.protocol, 0, 1, 4, 0, 0, 0, 0]);
    return [ipPacket(packet, family, { segment: Buffer.concat([options, segment]), next: 60 })];
  }
  const isWhole = packet.shape === 'atomic fragment';
  const parts = isWhole ? [segment] : [segment.subarray(0, 24), segment.subarray(24)];
  return parts.map((part, index) => {
    const header = Buffer.alloc(8);
    header.writeUInt8(packet.protocol, 0);
    header.writeUInt16BE(index * 24 + Number(index < parts.length - 1), 2);
    header.writeUInt32BE(packet.id, 4);
    return ipPacket(packet, family, { segment: Buffer.concat([header, part]), next: 44 });
  });
}

/** Returns the number of a packet that a raw socket has received; 0 if it has none. */
export function numberOf(protocol: number, family: IpFamily, received: Buffer): number {
  const segment = family === 4 ? received.subarray((received.readUInt8(0) & 15) * 4) : received;
  if (segment.length < 20) return 0;
  switch (protocol) {
    case tcp: {
      const isSyn = (segment.readUInt8(13) & 2) !== 0;
      return segment.length < 32 ? 0 : segment.readUInt32BE(isSyn ? 4 : 20);
    }
    case sctp:
      return segment.readUInt32BE(16);
    case icmp:
    case icmpv6: {
      const isError = segment.readUInt8(0) === (protocol === icmp ? 3 : 1);
      return segment.readUInt32BE(isError ? 4 : 8);
    }
    default:
      return segment.readUInt32BE(8);
  }
}

function segmentOf(packet: Packet): Buffer {
  const { id, protocol, part, flow } = packet;
  const segment = Buffer.alloc(32);
  switch (protocol) {
    case icmp:
    case icmpv6: {
      segment.writeUInt8(packet.icmpType, 0);
      segment.writeUInt8(packet.icmpCode, 1);
      if (packet.quoted !== undefined) {
        segment.writeUInt32BE(id, 4);
        const [quoted = Buffer.alloc(0)] = bytesOf({ ...packet.quoted, shape: 'plain' });
        return Buffer.concat([segment.subarray(0, 8), quoted]);
      }
      segment.writeUInt16BE(flow & 0xffff, 4);
      segment.writeUInt32BE(id, 8);
      return segment;
    }
    case tcp: {
      const [syn, synAck, ack] = [0x02, 0x12, 0x10];
      segment.writeUInt16BE(packet.sourcePort, 0);
      segment.writeUInt16BE(packet.destinationPort, 2);
      segment.writeUInt32BE(part === 'again' ? flow + 1 : id, 4);
      if (part !== 'first') segment.writeUInt32BE(packet.acknowledges + 1, 8);
      segment.writeUInt8(5 << 4, 12);
      segment.writeUInt8(part === 'first' ? syn : part === 'reply' ? synAck : ack, 13);
      segment.writeUInt16BE(1000, 14);
      segment.writeUInt32BE(id, 20);
      return segment;
    }
    case udp:
      segment.writeUInt16BE(packet.sourcePort, 0);
      segment.writeUInt16BE(packet.destinationPort, 2);
      segment.writeUInt16BE(segment.length, 4);
      segment.writeUInt32BE(id, 8);
      return segment;
    case sctp: {
      // A chunk INIT or INIT ACK; the tag of the other end is that of its own INIT.
      segment.writeUInt16BE(packet.sourcePort, 0);
      segment.writeUInt16BE(packet.destinationPort, 2);
      if (part === 'reply') segment.writeUInt32BE(flow, 4);
      segment.writeUInt8(part === 'reply' ? 2 : 1, 12);
      segment.writeUInt16BE(20, 14);
      segment.writeUInt32BE(id, 16);
      segment.writeUInt32BE(10_000, 20);
      segment.writeUInt16BE(1, 24);
      segment.writeUInt16BE(1, 26);
      return segment;
    }
    default:
      segment.writeUInt32BE(id, 8);
      return segment;
  }
}

/** Writes the checksum into a segment. */
function checked({ source, destination, protocol }: Packet, segment: Buffer, family: IpFamily) {
  if (protocol === otherProtocol) return segment;
  if (protocol === sctp) {
    segment.writeUInt32LE(crc32c(segment), 8);
    return segment;
  }
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(segment.length, 0);
  pseudo.writeUInt32BE(protocol, 4);
  const ends = [addressToBytes(source), addressToBytes(destination), pseudo];
  const isAlone = protocol === icmp && family === 4;
  const at = protocol === tcp ? 16 : protocol === udp ? 6 : 2;
  segment.writeUInt16BE(checksum(Buffer.concat([...(isAlone ? [] : ends), segment])), at);
  return segment;
}

function ipPacket(
  { id, source, destination, protocol }: Packet,
  family: IpFamily,
  part: {
    readonly segment: Buffer;
    readonly next?: number;
    readonly offset?: number;
    readonly hasMore?: boolean;
  },
): Buffer {
  const { segment, next = protocol, offset = 0, hasMore = false } = part;
  const ends = [addressToBytes(source), addressToBytes(destination)];
  if (family === 6) {
    const start = Buffer.from([0x60, 0, 0, 0, 0, 0, next, 64]);
    start.writeUInt16BE(segment.length, 4);
    return Buffer.concat([start, ...ends, segment]);
  }
  const start = Buffer.from([0x45, 0, 0, 0, 0, 0, 0, 0, 64, next, 0, 0]);
  start.writeUInt16BE(20 + segment.length, 2);
  start.writeUInt16BE(id & 0xffff || 1, 4);
  start.writeUInt16BE((hasMore ? 0x2000 : 0) | (offset / 8), 6);
  const header = Buffer.concat([start, ...ends]);
  // What is quoted needs it; of others the kernel writes it.
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, segment]);
}

function crc32c(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
