import { addressBits } from '../ip/address.ts';
import { cidrFamily, offsetIn, parseCidr, splitCidr, type Cidr } from '../ip/cidr.ts';
import { briefBlock, findSharing, heldBits, type BriefBlock } from '../model/briefs.ts';
import { jsonOrUndefined } from '../model/json.ts';
import { block4Type, blockHost, type AllocationAttributes } from '../model/kinds/block.ts';
import {
  areTextsOrAbsent,
  fieldsOf,
  isFields,
  isTextOrAbsent,
  type Fields,
} from './json-fields.ts';

/**
 * Blocks of other hosts as a node caches them. Every allocation on another host rewrites one, so texts of the usual
 * form are checked without the schema; all others are left to it.
 */

/** Returns the brief of a stored text; throws `datastore/corrupt`. */
export function decodeBriefBlock(key: string, text: string): BriefBlock {
  return quick(text) ?? briefBlock(block4Type.decode(key, text));
}

/** Returns `undefined` for a text of unusual form, valid or not. */
function quick(text: string): BriefBlock | undefined {
  const fields = fieldsOf(jsonOrUndefined(text));
  const { affinity, hostAffinity, affinity_claim_time: claimedAt, deleted } = fields;
  const cidr = cidrIn(fields['cidr']);
  const { attributes = [], allocations, unallocated = [] } = fields;
  const isUsual =
    cidr !== undefined &&
    isTextOrAbsent(affinity) &&
    isTextOrAbsent(hostAffinity) &&
    isTextOrAbsent(claimedAt) &&
    (deleted === undefined || typeof deleted === 'boolean') &&
    areAttributes(attributes) &&
    areSequenceNumbers(fields, text);
  if (!isUsual) return undefined;
  const size = sizeOf(cidr);
  if (!areOrdinals(unallocated, size) || !areAllocations(allocations, size)) return undefined;
  const host = blockHost({
    ...(affinity === undefined ? {} : { affinity }),
    ...(hostAffinity === undefined ? {} : { hostAffinity }),
  });
  return {
    cidr,
    host,
    claimedAt,
    held: heldBits(allocations),
    hasFree: unallocated.length > 0,
    ...findSharing({ cidr, allocations, attributes }, host),
  };
}

function cidrIn(value: unknown): Cidr | undefined {
  try {
    return typeof value === 'string' ? parseCidr(value) : undefined;
  } catch {
    return undefined;
  }
}

/** Returns the number of addresses; not exact beyond the size of the largest block. */
function sizeOf(cidr: Cidr): number {
  return 2 ** (addressBits(cidrFamily(cidr)) - splitCidr(cidr).prefixLength);
}

function areOrdinals(value: unknown, size: number): value is readonly number[] {
  return (
    Array.isArray(value) && value.every((one) => Number.isInteger(one) && one >= 0 && one < size)
  );
}

function areAllocations(value: unknown, size: number): value is readonly (number | null)[] {
  return (
    Array.isArray(value) &&
    value.length === size &&
    value.every((one) => one === null || Number.isSafeInteger(one))
  );
}

function areAttributes(value: unknown): value is readonly AllocationAttributes[] {
  return Array.isArray(value) && value.every(isAttributes);
}

function isAttributes(value: unknown): boolean {
  return (
    isFields(value) &&
    isTextOrAbsent(value['handle_id']) &&
    isTextOrAbsent(value['releasedAt']) &&
    areTextsOrAbsent(value['secondary'])
  );
}

/**
 * Most sequence numbers are beyond 2^53, where `JSON.parse` loses precision. The brief has none of them; the text shows
 * whether they are written as integers.
 */
function areSequenceNumbers(fields: Fields, text: string): boolean {
  const { sequenceNumber: last = 0, sequenceNumberForAllocation: each = {} } = fields;
  if (!isFields(each)) return false;
  const all = [last, ...Object.values(each)];
  if (!all.every(Number.isInteger)) return false;
  return all.every(Number.isSafeInteger) || !fraction.test(text);
}

/** A number with a fraction or an exponent, or the same characters in a string. */
const fraction = /[:,[]\s*-?\d+[.eE]/;

/** Returns the text of a block with this brief: it has the allocated addresses without their handles. */
export function encodeBriefBlock(brief: BriefBlock): string {
  const { cidr, host, claimedAt, held, hasFree, isShared, borrowed } = brief;
  const size = sizeOf(cidr);
  const attributes: AllocationAttributes[] = [isShared ? { secondary: { holders: '' } } : {}];
  const allocations = Array.from({ length: size }, (_, ordinal): number | null =>
    ((held >> BigInt(ordinal)) & 1n) === 0n ? null : 0,
  );
  for (const { address, node } of borrowed) {
    allocations[Number(offsetIn(cidr, address))] = attributes.push({ secondary: { node } }) - 1;
  }
  return JSON.stringify({
    cidr,
    ...(host === undefined ? {} : { affinity: `host:${host}` }),
    ...(claimedAt === undefined ? {} : { affinity_claim_time: claimedAt }),
    allocations,
    unallocated: hasFree ? [0] : [],
    attributes,
  });
}
