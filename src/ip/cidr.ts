import { isIPv4 } from 'node:net';
import { CalicoError } from '../errors/error.ts';
import {
  addressBits,
  addressFromNumber,
  addressToNumber,
  familyOf,
  tryParseAddress,
  type IpAddress,
  type IpFamily,
} from './address.ts';

declare const brand: unique symbol;

/** A network as canonical text with zero host bits: `10.65.0.0/16`, `fd00::/48`. Only this file creates one. */
export type Cidr = string & { readonly [brand]: 'Cidr' };

interface CidrParts {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** Parses a network; throws `model/bad-cidr`, or `model/cidr-host-bits` where host bits are set. */
export function parseCidr(text: string): Cidr {
  // Most networks are addresses of endpoints, of which there may be hundreds of thousands.
  if (text.endsWith('/32') && isIPv4(text.slice(0, -3))) return brandCidr(text);
  const { address, prefixLength } = parseInterfaceAddress(text);
  const cidr = cidrOf(address, prefixLength);
  // Usually it is canonical already; one that was put together takes three times the memory.
  if (cidr === text) return brandCidr(text);
  if (splitCidr(cidr).address !== address) {
    throw new CalicoError('model/cidr-host-bits', { text, masked: cidr });
  }
  return cidr;
}

/** Parses `address/length` and keeps the host bits, as Docker writes interface addresses; throws `model/bad-cidr`. */
export function parseInterfaceAddress(text: string): CidrParts {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const address = tryParseAddress(match?.[1] ?? '');
  const prefixLength = Number(match?.[2]);
  if (address === undefined || prefixLength > addressBits(familyOf(address))) {
    throw new CalicoError('model/bad-cidr', { text });
  }
  return { address, prefixLength };
}

/** Parses a network or a single address, which becomes its /32 or /128; throws `model/bad-cidr`. */
export function parseNet(text: string): Cidr {
  if (text.includes('/')) return parseCidr(text);
  const address = tryParseAddress(text);
  return address === undefined ? parseCidr(text) : hostCidr(address);
}

/** As `parseNet`, but returns `undefined` for what is neither. */
export function tryParseNet(text: string): Cidr | undefined {
  try {
    return parseNet(text);
  } catch {
    return undefined;
  }
}

/** Returns the network of the given length that contains the address; host bits are cleared. */
export function cidrOf(address: IpAddress, prefixLength: number): Cidr {
  const family = familyOf(address);
  if (prefixLength === addressBits(family)) return hostCidr(address);
  const hostBits = BigInt(addressBits(family) - prefixLength);
  const first = (addressToNumber(address) >> hostBits) << hostBits;
  return brandCidr(`${addressFromNumber(first, family)}/${prefixLength}`);
}

/** Yields the networks that contain the address, from the longest prefix length to the shortest, both included. */
export function* networksOf(
  address: IpAddress,
  { longest, shortest }: { readonly longest: number; readonly shortest: number },
): Generator<Cidr> {
  const family = familyOf(address);
  const number = addressToNumber(address);
  for (let length = longest; length >= shortest; length--) {
    const hostBits = BigInt(addressBits(family) - length);
    yield brandCidr(`${addressFromNumber((number >> hostBits) << hostBits, family)}/${length}`);
  }
}

/** Returns the /32 or /128 of the address. */
export function hostCidr(address: IpAddress): Cidr {
  return brandCidr(`${address}/${addressBits(familyOf(address))}`);
}

/** Reports whether it is a single address. */
export function isHostCidr(cidr: Cidr): boolean {
  return cidr.endsWith(cidrFamily(cidr) === 4 ? '/32' : '/128');
}

/** First address and prefix length. */
export function splitCidr(cidr: Cidr): CidrParts {
  const slash = cidr.lastIndexOf('/');
  const address = tryParseAddress(cidr.slice(0, slash));
  if (address === undefined) throw new CalicoError('model/bad-cidr', { text: cidr });
  return { address, prefixLength: Number(cidr.slice(slash + 1)) };
}

/** 4 or 6. */
export function cidrFamily(cidr: Cidr): IpFamily {
  return cidr.includes(':') ? 6 : 4;
}

/** Returns the number of addresses in the network. */
export function cidrSize(cidr: Cidr): bigint {
  return 1n << BigInt(addressBits(cidrFamily(cidr)) - splitCidr(cidr).prefixLength);
}

/** Reports whether the network contains the address. */
export function cidrContains(cidr: Cidr, address: IpAddress): boolean {
  const { address: first, prefixLength } = splitCidr(cidr);
  const family = familyOf(address);
  if (family !== cidrFamily(cidr)) return false;
  const hostBits = BigInt(addressBits(family) - prefixLength);
  return addressToNumber(address) >> hostBits === addressToNumber(first) >> hostBits;
}

/** Reports whether the first network covers the second. */
export function cidrCovers(outer: Cidr, inner: Cidr): boolean {
  const { address, prefixLength } = splitCidr(inner);
  return splitCidr(outer).prefixLength <= prefixLength && cidrContains(outer, address);
}

/** Reports whether the two share an address. */
export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  return cidrCovers(a, b) || cidrCovers(b, a);
}

/** Returns the address at an offset from the first one; the offset must be inside the network. */
export function addressAt(cidr: Cidr, offset: bigint): IpAddress {
  return addressFromNumber(addressToNumber(splitCidr(cidr).address) + offset, cidrFamily(cidr));
}

/** Returns the offset of an address from the first one of its network. */
export function offsetIn(cidr: Cidr, address: IpAddress): bigint {
  return addressToNumber(address) - addressToNumber(splitCidr(cidr).address);
}

/** Divides a network into `2^(prefixLength − its own)` equal subnets and returns number `index`, counted from 0. */
export function subnetAt(cidr: Cidr, prefixLength: number, index: bigint): Cidr {
  const hostBits = BigInt(addressBits(cidrFamily(cidr)) - prefixLength);
  return cidrOf(addressAt(cidr, index << hostBits), prefixLength);
}

/** Returns the two halves of a network of at least two addresses. */
export function halves(cidr: Cidr): readonly [Cidr, Cidr] {
  const longer = splitCidr(cidr).prefixLength + 1;
  return [subnetAt(cidr, longer, 0n), subnetAt(cidr, longer, 1n)];
}

function brandCidr(text: string): Cidr {
  // The one place where text becomes a branded network.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return text as Cidr;
}
