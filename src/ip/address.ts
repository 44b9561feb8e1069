import { isIPv4, isIPv6 } from 'node:net';
import { CalicoError } from '../errors/error.ts';

declare const brand: unique symbol;

/**
 * An IP address as canonical text: dotted quad, or RFC 5952 for IPv6. Only `parseAddress` and the functions
 * of this folder make one, so two equal addresses are equal strings and can be map keys.
 */
export type IpAddress = string & { readonly [brand]: 'IpAddress' };

/** Address family as users write it. */
export type IpFamily = 4 | 6;

const mappedIpv4Prefix = 0xffff_0000_0000n;

/** Parses and canonicalises an address; throws `model/bad-address`. Zone suffixes (`%eth0`) are rejected. */
export function parseAddress(text: string): IpAddress {
  const address = tryParseAddress(text);
  if (address === undefined) throw new CalicoError('model/bad-address', { text });
  return address;
}

/** Like `parseAddress`, but returns `undefined` if the text is not an address. */
export function tryParseAddress(text: string): IpAddress | undefined {
  if (isIPv4(text)) return brandAddress(text);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return addressFromNumber(ipv6ToNumber(text), 6);
}

/** 4 or 6. */
export function familyOf(address: IpAddress): IpFamily {
  return address.includes(':') ? 6 : 4;
}

/** The unspecified address of each family: no address at all, or any (RFC 1122, RFC 4291). */
export const anyAddress4 = brandAddress('0.0.0.0');
export const anyAddress6 = brandAddress('::');

export function isUnspecified(address: IpAddress): boolean {
  return address === anyAddress4 || address === anyAddress6;
}

/** Reports whether an address is loopback. */
export function isLoopback(address: IpAddress): boolean {
  return address === '::1' || address.startsWith('127.');
}

/** `0.0.0.0:8080`, `[::]:8080` (RFC 3986). */
export function addressAndPort(address: IpAddress, port: number | string): string {
  return `${familyOf(address) === 6 ? `[${address}]` : address}:${port}`;
}

/** Number of bits of an address of the family: 32 or 128. */
export function addressBits(family: IpFamily): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** Returns the address as an unsigned number, most significant bit first. */
export function addressToNumber(address: IpAddress): bigint {
  return familyOf(address) === 6 ? ipv6ToNumber(address) : BigInt(ipv4ToNumber(address));
}

/** The inverse of `addressToNumber`; the number must fit the family. */
export function addressFromNumber(number: bigint, family: IpFamily): IpAddress {
  return brandAddress(family === 4 ? formatIpv4(Number(number)) : formatIpv6(number));
}

/** Returns the 4 or 16 bytes of the address in network order. */
export function addressToBytes(address: IpAddress): Uint8Array {
  const family = familyOf(address);
  const bytes = new Uint8Array(addressBits(family) / 8);
  let rest = addressToNumber(address);
  for (let index = bytes.length - 1; index >= 0; index--) {
    bytes[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/** Returns the address of 4 or 16 bytes in network order; any other length is a bug of the caller. */
export function addressFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return brandAddress(bytes.join('.'));
  let number = 0n;
  for (const byte of bytes) number = (number << 8n) | BigInt(byte);
  return addressFromNumber(number, 6);
}

function brandAddress(text: string): IpAddress {
  // The one place where text becomes a branded address.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return text as IpAddress;
}

const dot = '.'.charCodeAt(0);
const digitZero = '0'.charCodeAt(0);

function ipv4ToNumber(text: string): number {
  let number = 0;
  let part = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code !== dot) {
      part = part * 10 + code - digitZero;
      continue;
    }
    number = number * 256 + part;
    part = 0;
  }
  return number * 256 + part;
}

function formatIpv4(number: number): string {
  return `${number >>> 24}.${(number >>> 16) & 0xff}.${(number >>> 8) & 0xff}.${number & 0xff}`;
}

function ipv6ToNumber(text: string): bigint {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const [, head = '', quad = ''] = dotted ?? [];
  const hex =
    dotted === null ? text : `${head}${groupsOf(BigInt(ipv4ToNumber(quad)), 2).join(':')}`;
  const [left = '', right] = hex.split('::');
  const leftGroups = splitGroups(left);
  const rightGroups = right === undefined ? [] : splitGroups(right);
  const zeros = Array.from({ length: 8 - leftGroups.length - rightGroups.length }, () => '0');
  return [...leftGroups, ...zeros, ...rightGroups].reduce(
    (sum, group) => (sum << 16n) | BigInt(Number.parseInt(group, 16)),
    0n,
  );
}

function splitGroups(text: string): readonly string[] {
  return text === '' ? [] : text.split(':');
}

function groupsOf(number: bigint, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) =>
    ((number >> BigInt(16 * (count - 1 - index))) & 0xffffn).toString(16),
  );
}

/** RFC 5952: lower case, the longest run of two or more zero groups compressed, the first of equal ones. */
function formatIpv6(number: bigint): string {
  if (number >> 32n === mappedIpv4Prefix >> 32n) {
    return `::ffff:${formatIpv4(Number(number & 0xffff_ffffn))}`;
  }
  const groups = groupsOf(number, 8);
  const run = longestZeroRun(groups);
  if (run.length < 2) return groups.join(':');
  const head = groups.slice(0, run.start).join(':');
  const tail = groups.slice(run.start + run.length).join(':');
  return `${head}::${tail}`;
}

function longestZeroRun(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== '0') start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  }
  return best;
}
