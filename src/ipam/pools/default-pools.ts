import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { addressFromBytes, type IpFamily } from '../../ip/address.ts';
import { cidrOf, cidrsOverlap, parseCidr, type Cidr } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { poolOverlapping, rejectSpecialSubnet } from './pools.ts';

/** Specification of a default pool; without a CIDR a free range is chosen. */
export interface DefaultPool {
  readonly family: IpFamily;
  readonly cidr: Cidr | undefined;
  readonly blockSize: number;
  readonly natOutgoing: boolean;
  readonly nodeSelector: string;
}

/** A range in use on the host; `what` names its user in messages. */
export interface UsedRange {
  readonly cidr: Cidr;
  readonly what: string;
}

/** The ranges that Docker allocates from by default (without `default-address-pools`). */
export const dockerDefaultRanges: readonly UsedRange[] = [
  ...Array.from({ length: 15 }, (_, index) => `172.${17 + index}.0.0/16`),
  '192.168.0.0/16',
].map((cidr) => ({ cidr: parseCidr(cidr), what: "Docker's own address pools" }));

/** Tried in this order; almost every host gets the first. */
const candidates: readonly Cidr[] = [
  ...Array.from({ length: 191 }, (_, index) => parseCidr(`10.${65 + index}.0.0/16`)),
  ...Array.from({ length: 64 }, (_, index) => parseCidr(`100.${64 + index}.0.0/16`)),
];

/**
 * A plan that creates the default pool of a family. A requested range is rejected if it overlaps
 * something; else the first free candidate is used, for IPv6 a unique local /48 from the given random bytes
 * (RFC 4193). Throws `ipam/default-pool-overlaps`, `ipam/special-subnet` or `ipam/no-default-range`.
 */
export function createDefaultPool(
  draft: Draft,
  request: {
    readonly pool: DefaultPool;
    readonly used: readonly UsedRange[];
    /** Five bytes. */
    readonly random: Uint8Array;
    readonly stamp: (pool: IpPool) => IpPool;
  },
): IpPool {
  const { pool, used, stamp } = request;
  const cidr = pool.cidr ?? freeRange(draft, request);
  rejectSpecialSubnet(cidr);
  const overlap = overlapOf(draft, cidr, pool.cidr === undefined ? [] : used);
  if (overlap !== undefined) {
    throw new CalicoError('ipam/default-pool-overlaps', { cidr, with: overlap });
  }
  const made = stamp({
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: `default-ipv${pool.family}-ippool` },
    spec: {
      cidr,
      blockSize: pool.blockSize,
      ipipMode: 'Never',
      vxlanMode: 'Never',
      natOutgoing: pool.natOutgoing,
      nodeSelector: pool.nodeSelector,
      allowedUses: ['Workload', 'Tunnel'],
    },
  });
  draft.put('IPPool', made.metadata.name, made);
  return made;
}

function freeRange(
  draft: Draft,
  request: {
    readonly pool: DefaultPool;
    readonly used: readonly UsedRange[];
    readonly random: Uint8Array;
  },
): Cidr {
  if (request.pool.family === 6) return uniqueLocal(request.random);
  const free = candidates.find((one) => overlapOf(draft, one, request.used) === undefined);
  if (free === undefined) throw new CalicoError('ipam/no-default-range', {});
  return free;
}

function overlapOf(draft: Draft, cidr: Cidr, used: readonly UsedRange[]): string | undefined {
  const pool = poolOverlapping(draft, cidr);
  if (pool !== undefined) return `IP pool ${pool.metadata.name} (${pool.spec.cidr})`;
  const range = used.find((one) => cidrsOverlap(one.cidr, cidr));
  return range === undefined ? undefined : `${range.what} (${range.cidr})`;
}

function uniqueLocal(random: Uint8Array): Cidr {
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  bytes.set(random.subarray(0, 5), 1);
  return cidrOf(addressFromBytes(bytes), 48);
}
