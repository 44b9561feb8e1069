import { z } from 'zod';
import { cidrSize } from '../../ip/cidr.ts';
import { cidrSegment, entryType, type EntryType } from '../entry-type.ts';
import { cidr } from '../fields.ts';
import { mapOf } from '../nulls.ts';
import { ipamRoot } from './ipam-config.ts';

/** Source: libcalico-go/lib/backend/model/block.go. */

const uint64 = z.union([z.bigint(), z.int().transform(BigInt)]);

const allocationAttributes = z.looseObject({
  handle_id: z.exactOptional(z.string()),
  secondary: z.exactOptional(mapOf(z.string(), z.string(), '')),
  releasedAt: z.exactOptional(z.string()),
});

/** The allocation of an address: a handle and free key-value pairs. */
export type AllocationAttributes = z.infer<typeof allocationAttributes>;

const blockFields = z.looseObject({
  cidr,
  affinity: z.exactOptional(z.string().nullable()),
  affinity_claim_time: z.exactOptional(z.string()),
  allocations: z.array(z.int().nullable()),
  unallocated: z.exactOptional(z.array(z.int())),
  attributes: z.exactOptional(z.array(allocationAttributes).nullable()),
  sequenceNumber: z.exactOptional(uint64),
  sequenceNumberForAllocation: z.exactOptional(mapOf(z.string(), uint64, 0n)),
  deleted: z.exactOptional(z.boolean()),
  hostAffinity: z.exactOptional(z.string()),
});

export type Block = z.infer<typeof blockFields>;

/**
 * A block of consecutive addresses with at most one affine host. `allocations[ordinal]` is an index into `attributes`
 * or null; `unallocated` is a queue: addresses are allocated from its head and released to its tail. A block whose
 * lists do not match its size is rejected on read.
 */
const block = blockFields.superRefine((value, context) => {
  const size = cidrSize(value.cidr);
  const isInside = (ordinal: number) => ordinal >= 0 && ordinal < size;
  const reject = (field: string, why: string) =>
    context.addIssue({ code: 'custom', path: [field], message: why });
  if (BigInt(value.allocations.length) !== size) {
    reject('allocations', `must have ${size} entries, as ${value.cidr} has addresses`);
  }
  const outside = value.unallocated?.find((ordinal) => !isInside(ordinal));
  if (outside !== undefined) reject('unallocated', `${outside} is no address of ${value.cidr}`);
});

/** The host that the block belongs to; `undefined` if to none, or to a virtual owner. */
export function blockHost({
  affinity,
  hostAffinity,
}: {
  readonly affinity?: string | null | undefined;
  readonly hostAffinity?: string | undefined;
}): string | undefined {
  if (affinity?.startsWith('host:') === true) return affinity.slice('host:'.length);
  return (affinity ?? undefined) === undefined ? hostAffinity : undefined;
}

/** Reports whether the block has no affinity, neither for a host nor a virtual owner. */
export function isNobodys({ affinity, hostAffinity }: Block): boolean {
  return (affinity ?? hostAffinity ?? '') === '';
}

/** Reports whether an address of the block is unallocated, including reserved ones. */
export function hasFree({ unallocated }: Block): boolean {
  return unallocated !== undefined && unallocated.length > 0;
}

/** IDs: the CIDR. The host that can allocate from a block is its group, so a full block has none. */
function blockType(family: 'ipv4' | 'ipv6'): EntryType<Block> {
  return entryType({
    label: 'IPAM block',
    prefix: `${ipamRoot}assignment/${family}/block/`,
    schema: block,
    segment: cidrSegment,
    groups: (_, value) => {
      const host = hasFree(value) ? blockHost(value) : undefined;
      return host === undefined ? [] : [host];
    },
  });
}

export const block4Type = blockType('ipv4');
export const block6Type = blockType('ipv6');
