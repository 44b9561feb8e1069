import { z } from 'zod';
import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrsOverlap, splitCidr } from '../../ip/cidr.ts';
import { describe } from '../../errors/error.ts';
import { describeRange, unusableRange } from '../../ip/special-ranges.ts';
import { cidr, resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';
import { parseSelector } from '../selector/parse.ts';
import type { StoredEntries } from '../stored-entries.ts';

const encapsulationMode = z.enum(['Never', 'Always', 'CrossSubnet']);
const allowedUse = z.enum(['Workload', 'Tunnel', 'LoadBalancer']);

const fields = resource(
  'IPPool',
  z.looseObject({
    cidr,
    vxlanMode: z.exactOptional(z.union([encapsulationMode, z.literal('')])),
    ipipMode: z.exactOptional(z.union([encapsulationMode, z.literal('')])),
    natOutgoing: z.exactOptional(z.boolean()),
    disabled: z.exactOptional(z.boolean()),
    disableBGPExport: z.exactOptional(z.boolean()),
    blockSize: z.exactOptional(z.int()),
    nodeSelector: z.exactOptional(z.string().max(1024)),
    namespaceSelector: z.exactOptional(z.string().max(1024)),
    allowedUses: z.exactOptional(z.array(allowedUse)),
    assignmentMode: z.exactOptional(z.enum(['Automatic', 'Manual'])),
  }),
);

/**
 * A range of addresses for workloads, divided into blocks. Defaults: the functions below. A pool that contradicts
 * itself is rejected on read: no block can be allocated from it, and every allocation reads all pools.
 */
export type IpPool = z.infer<typeof fields>;

const ipPool = fields.superRefine((pool, context) => {
  for (const { field, why } of poolProblems(pool)) {
    context.addIssue({ code: 'custom', path: field.split('.'), message: why });
  }
});

export const ipPoolType: ResourceType<IpPool> = resourceType({
  kind: 'IPPool',
  plural: 'ippools',
  meaning: 'addresses for containers',
  schema: ipPool,
  isObserved: true,
  columns: [
    nameColumn,
    { header: 'cidr', cell: ({ spec }) => spec.cidr },
    { header: 'nat', cell: ({ spec }) => String(spec.natOutgoing ?? false) },
    { header: 'ipip', cell: ({ spec }) => spec.ipipMode ?? 'Never' },
    { header: 'vxlan', cell: ({ spec }) => spec.vxlanMode ?? 'Never' },
    { header: 'enabled', cell: (pool) => String(poolIsEnabled(pool)) },
    { header: 'selector', cell: ({ spec }) => spec.nodeSelector ?? 'all()' },
  ],
  withDefaults: (pool) => ({
    ...pool,
    spec: {
      ipipMode: 'Never',
      vxlanMode: 'Never',
      nodeSelector: 'all()',
      allowedUses: ['Workload', 'Tunnel'],
      blockSize: poolFamily(pool) === 4 ? 26 : 122,
      ...pool.spec,
    },
  }),
  validate: problemOfNew,
});

export function poolFamily(pool: IpPool): IpFamily {
  return cidrFamily(pool.spec.cidr);
}

/** Returns the prefix length of the pool's blocks; by default 26 and 122. */
export function poolBlockSize(pool: IpPool): number {
  const stored = pool.spec.blockSize ?? 0;
  if (stored !== 0) return stored;
  return poolFamily(pool) === 4 ? 26 : 122;
}

/** Returns the selector over the labels of Nodes that may claim blocks of the pool. */
export function poolNodeSelector(pool: IpPool): string {
  return pool.spec.nodeSelector ?? '';
}

/** Reports whether addresses of the pool may be allocated to workloads. */
export function poolServesWorkloads(pool: IpPool): boolean {
  const uses = pool.spec.allowedUses ?? [];
  return uses.length === 0 || uses.includes('Workload');
}

/** Reports whether addresses of the pool may be allocated to tunnel interfaces. */
export function poolServesTunnels(pool: IpPool): boolean {
  const uses = pool.spec.allowedUses ?? [];
  return uses.length === 0 || uses.includes('Tunnel');
}

/** Reports whether the pool is only for requests that name it. */
export function poolIsManual(pool: IpPool): boolean {
  return pool.spec.assignmentMode === 'Manual';
}

/**
 * Reports whether IPAM may allocate from the pool: not disabled, not being deleted, and no condition
 * `Allocatable=False`. Source: libcalico-go's notion of enabled pools.
 */
export function poolIsEnabled(pool: IpPool): boolean {
  if (pool.spec.disabled === true) return false;
  if (pool.metadata['deletionTimestamp'] !== undefined) return false;
  const status = poolStatus.safeParse(pool['status']);
  const conditions = status.success ? (status.data.conditions ?? []) : [];
  return !conditions.some(({ type, status: value }) => type === 'Allocatable' && value === 'False');
}

const poolStatus = z.looseObject({
  conditions: z.exactOptional(z.array(z.looseObject({ type: z.string(), status: z.string() }))),
});

/** Returns why a well-formed pool is rejected; a stored one, created by another tool, is still read. */
function problemOfNew(pool: IpPool, stored: StoredEntries): Problem | undefined {
  const { metadata, spec } = pool;
  const why = newPoolProblem(pool);
  if (why !== undefined) return { field: 'spec.cidr', why };
  const existing = stored.get('IPPool', metadata.name);
  for (const field of ['cidr', 'blockSize'] as const) {
    if (existing !== undefined && existing.spec[field] !== spec[field]) {
      const before = existing.spec[field] ?? 'its default';
      return { field: `spec.${field}`, why: `cannot be changed from ${before}` };
    }
  }
  for (const [name, other] of stored.entries('IPPool')) {
    if (name !== metadata.name && cidrsOverlap(other.spec.cidr, spec.cidr)) {
      return { field: 'spec.cidr', why: `overlaps IPPool ${name} (${other.spec.cidr})` };
    }
  }
  return undefined;
}

/** Returns why containers cannot have addresses of a new pool. */
export function newPoolProblem({ spec }: IpPool): string | undefined {
  const special = spec.disabled === true ? undefined : unusableRange(spec.cidr);
  return special === undefined ? undefined : `not usable for containers: ${describeRange(special)}`;
}

/** Returns a contradiction inside one pool, as `field` and sentence; `undefined` if none. */
function poolProblems(pool: IpPool): readonly Problem[] {
  const problems: Problem[] = [];
  const family = poolFamily(pool);
  const blockSize = poolBlockSize(pool);
  const [least, most] = family === 4 ? [20, 32] : [116, 128];
  if (blockSize < least || blockSize > most) {
    problems.push({ field: 'spec.blockSize', why: `must be from ${least} to ${most}` });
  }
  if (splitCidr(pool.spec.cidr).prefixLength > blockSize && pool.spec.disabled !== true) {
    problems.push({ field: 'spec.cidr', why: `must hold at least one block of /${blockSize}` });
  }
  const ipip = (pool.spec.ipipMode ?? 'Never') || 'Never';
  const vxlan = (pool.spec.vxlanMode ?? 'Never') || 'Never';
  if (ipip !== 'Never' && family === 6) {
    problems.push({ field: 'spec.ipipMode', why: 'IP-in-IP carries IPv4 only' });
  }
  if (ipip !== 'Never' && vxlan !== 'Never') {
    problems.push({ field: 'spec.vxlanMode', why: 'cannot be combined with ipipMode' });
  }
  try {
    parseSelector(poolNodeSelector(pool));
  } catch (error) {
    problems.push({ field: 'spec.nodeSelector', why: describe(error) });
  }
  return problems;
}
