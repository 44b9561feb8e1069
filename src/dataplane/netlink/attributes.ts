import { addressFromBytes, addressToBytes, type IpAddress } from '../../ip/address.ts';

/**
 * Netlink attributes: type, length and value, padded to four bytes; some hold attributes again.
 * Numbers are in the host's order, which is little endian on all machines that we build for.
 * Source: RFC 3549 and linux/netlink.h.
 */

const nested = 0x8000;
const networkOrder = 0x4000;
const typeMask = 0x3fff;
const headerBytes = 4;

/** One encoded attribute. */
export function attribute(type: number, value: Uint8Array): Buffer {
  const length = headerBytes + value.length;
  const bytes = Buffer.alloc(align(length));
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, headerBytes);
  return bytes;
}

export function u8(type: number, value: number): Buffer {
  return attribute(type, Buffer.of(value));
}

export function u32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0, 0);
  return attribute(type, bytes);
}

/** As `u32Network`, of two bytes. */
export function u16Network(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value & 0xffff, 0);
  return attribute(type | networkOrder, bytes);
}

/** A number in network order, marked as such, as the netfilter families want it. */
export function u32Network(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0, 0);
  return attribute(type | networkOrder, bytes);
}

/** A text with its final zero byte. */
export function text(type: number, value: string): Buffer {
  return attribute(type, Buffer.from(`${value}\0`));
}

export function address(type: number, value: IpAddress): Buffer {
  return attribute(type, addressToBytes(value));
}

/** Attributes inside an attribute. */
export function nest(type: number, parts: readonly Uint8Array[]): Buffer {
  return attribute(type | nested, Buffer.concat(parts));
}

/**
 * The attributes in some bytes by type; of one type the last. Values share the bytes given. `wanted`: the only types that
 * are read, where the kernel sends many more.
 */
export function readAttributes(
  bytes: Buffer,
  wanted?: ReadonlySet<number>,
): ReadonlyMap<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; ;) {
    const end = endOfAttribute(bytes, at);
    if (end === undefined) return found;
    const type = bytes.readUInt16LE(at + 2) & typeMask;
    if (wanted?.has(type) !== false) found.set(type, bytes.subarray(at + headerBytes, end));
    at = align(end);
  }
}

/** The attributes in some bytes in their order, where one type may come several times. */
export function* attributesOf(bytes: Buffer): Generator<readonly [type: number, value: Buffer]> {
  for (let at = 0; ;) {
    const end = endOfAttribute(bytes, at);
    if (end === undefined) return;
    yield [bytes.readUInt16LE(at + 2) & typeMask, bytes.subarray(at + headerBytes, end)];
    at = align(end);
  }
}

/** Returns where the attribute that begins at a place ends; `undefined` if there is none. */
function endOfAttribute(bytes: Buffer, at: number): number | undefined {
  if (at + headerBytes > bytes.length) return undefined;
  const length = bytes.readUInt16LE(at);
  return length < headerBytes || at + length > bytes.length ? undefined : at + length;
}

/** A text without its final zero byte. */
export function readText(value: Buffer): string {
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end < 0 ? value.length : end);
}

/** An address of 4 or 16 bytes. */
export function readAddress(value: Buffer): IpAddress {
  return addressFromBytes(value);
}

/** A length, rounded up to the next multiple of four. */
export function align(length: number): number {
  return (length + 3) & ~3;
}
