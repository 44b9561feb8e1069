import type { Progress } from '../datastore/steps.ts';
import type { Draft } from '../datastore/writer.ts';
import { profileUsers } from '../driver/networks/profile-users.ts';
import { CalicoError } from '../errors/error.ts';
import { cidrCovers, cidrsOverlap } from '../ip/cidr.ts';
import { removePool } from '../ipam/docker/docker-pools.ts';
import { heldAddresses } from '../ipam/records/block.ts';
import { blockKind } from '../ipam/records/records.ts';
import type { EntryValue } from '../model/kinds/index.ts';
import { badNetworks, type NetworkSet } from '../model/kinds/network-set.ts';
import { newPoolProblem, poolFamily, type IpPool } from '../model/kinds/ip-pool.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { dockerNameOf } from '../model/names.ts';
import type { Resource, ResourceKind } from '../model/user-input.ts';
import { compileProfile } from '../profiles/profile-chains.ts';

/** Plans of `apply` and `delete`: what Calico's own client does, and checks, around a plain write. */

/** Gives a new resource uid and creation time. */
export type Stamp = <R extends Resource>(resource: R) => R;

export type Applied = 'created' | 'changed' | 'unchanged';

/** The datastore id of a resource. */
export function resourceId({ metadata }: Resource): string {
  const { name, namespace } = metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** What `apply` needs besides the draft. */
export interface ApplyContext {
  readonly stamp: Stamp;
  /** The `resourceVersion` of what is stored now. */
  readonly versionOf: (kind: ResourceKind, id: string) => string | undefined;
}

/**
 * Creates or replaces a resource; identity and creation time stay. One that carries a `resourceVersion`
 * replaces only what it was made from: throws `datastore/conflict`, or what is wrong with it.
 */
export function applyResource(
  draft: Draft,
  resource: Resource,
  { stamp, versionOf }: ApplyContext,
): Applied {
  const stored = versionOf(resource.kind, resourceId(resource));
  const { resourceVersion } = resource.metadata;
  if (stored !== undefined && (resourceVersion ?? stored) !== stored) {
    const { kind } = resource;
    throw new CalicoError('datastore/conflict', { kind, name: resourceId(resource) });
  }
  switch (resource.kind) {
    case 'IPPool':
      return put(draft, 'IPPool', checkedPool(draft, resource), stamp);
    case 'Profile': {
      checkRules(resource);
      return put(draft, 'Profile', resource, stamp);
    }
    case 'IPReservation':
      return put(draft, 'IPReservation', resource, stamp);
    case 'NetworkSet':
    case 'GlobalNetworkSet':
      return applyNetworkSet(draft, resource, stamp);
    case 'Node':
      return put(draft, 'Node', resource, stamp);
    case 'WorkloadEndpoint':
      return put(draft, 'WorkloadEndpoint', resource, stamp);
    default:
      throw invalid(resource, '', 'is kept by calico-cnm itself and cannot be applied');
  }
}

/** Removes a resource, or part of it, as `removePool` does; throws `datastore/not-found`, or why it must stay. */
export function deleteResource(draft: Draft, kind: ResourceKind, id: string): Progress {
  if (kind === 'Tier' || kind === 'ClusterInformation') {
    throw new CalicoError('model/invalid', {
      kind,
      name: id,
      field: '',
      why: 'belongs to every datastore and cannot be deleted',
    });
  }
  if (draft.get(kind, id) === undefined) {
    if (!draft.unreadable(kind).has(id)) {
      throw new CalicoError('datastore/not-found', { kind, name: id });
    }
    draft.discardUnreadable(kind, id);
    return 'done';
  }
  if (kind === 'Profile') {
    refuseIfUsed(draft, id, 'or use profile remove --no-check, and its containers get no traffic');
  }
  const pool = kind === 'IPPool' ? draft.get(kind, id) : undefined;
  if (pool === undefined) {
    draft.remove(kind, id);
    return 'done';
  }
  const used = addressesInUse(draft, pool);
  if (used > 0) {
    throw invalid(
      pool,
      '',
      `${used} of its addresses ${used === 1 ? 'is' : 'are'} in use; remove containers and networks first (calico-cnm ipam show --ip says whose an address is)`,
    );
  }
  return removePool(draft, pool);
}

/** Throws `model/invalid` for rules that cannot be enforced. */
export function checkRules(profile: Profile): void {
  const problem = problemOfRules(profile);
  if (problem !== undefined) throw invalid(profile, 'spec', problem);
}

/** Why rules cannot be enforced: `ingress rule 2: …`. */
export function problemOfRules(profile: Profile): string | undefined {
  return compileProfile(profile.metadata.name, profile).problem?.replace(/^Profile \S+: /, '');
}

/** Throws `cli/profile-in-use` if somebody goes by the Profile. */
export function refuseIfUsed(draft: Draft, name: string, advice: string): void {
  const users = profileUsers(draft, name);
  if (users.length === 0) return;
  const shown = users.length > 3 ? `${users.slice(0, 3).join(', ')}, …` : users.join(', ');
  throw new CalicoError('cli/profile-in-use', {
    profile: dockerNameOf(name),
    users: shown,
    advice,
  });
}

function applyNetworkSet(draft: Draft, set: NetworkSet, stamp: Stamp): Applied {
  const [bad] = badNetworks(set);
  if (bad !== undefined) throw invalid(set, 'spec.nets', `"${bad}" is no network and no address`);
  if (set.metadata.labels?.['projectcalico.org/namespace'] !== undefined)
    throw invalid(set, 'metadata.labels', 'projectcalico.org/namespace is given by the namespace');
  if (set.kind === 'NetworkSet') return put(draft, 'NetworkSet', set, stamp);
  if (set.metadata.namespace !== undefined)
    throw invalid(set, 'metadata.namespace', 'a GlobalNetworkSet is of no namespace');
  return put(draft, 'GlobalNetworkSet', set, stamp);
}

function put<
  K extends
    | 'IPPool'
    | 'Profile'
    | 'IPReservation'
    | 'NetworkSet'
    | 'GlobalNetworkSet'
    | 'Node'
    | 'WorkloadEndpoint',
>(draft: Draft, kind: K, resource: EntryValue<K> & Resource, stamp: Stamp): Applied {
  const id = resourceId(resource);
  const existing = draft.get(kind, id);
  const { resourceVersion: _, ...metadata } = resource.metadata;
  const bare = { ...resource, metadata };
  if (existing === undefined) {
    const isThere = draft.unreadable(kind).has(id);
    if (isThere) draft.discardUnreadable(kind, id);
    draft.put(kind, id, stamp(bare));
    return isThere ? 'changed' : 'created';
  }
  const { uid, creationTimestamp } = existing.metadata;
  const kept = {
    ...bare,
    metadata: {
      ...bare.metadata,
      ...(uid === undefined ? {} : { uid }),
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    },
  };
  if (JSON.stringify(sorted(kept)) === JSON.stringify(sorted(existing))) return 'unchanged';
  draft.put(kind, id, kept);
  return 'changed';
}

function checkedPool(draft: Draft, given: IpPool): IpPool {
  const pool: IpPool = {
    ...given,
    spec: {
      ipipMode: 'Never',
      vxlanMode: 'Never',
      nodeSelector: 'all()',
      allowedUses: ['Workload', 'Tunnel'],
      blockSize: poolFamily(given) === 4 ? 26 : 122,
      ...given.spec,
    },
  };
  const problem = newPoolProblem(pool);
  if (problem !== undefined) throw invalid(pool, 'spec.cidr', problem);
  const existing = draft.get('IPPool', pool.metadata.name);
  for (const field of ['cidr', 'blockSize'] as const) {
    if (existing !== undefined && existing.spec[field] !== pool.spec[field]) {
      throw invalid(
        pool,
        `spec.${field}`,
        `cannot be changed from ${existing.spec[field] ?? 'its default'}`,
      );
    }
  }
  for (const [name, other] of draft.entries('IPPool')) {
    if (name !== pool.metadata.name && cidrsOverlap(other.spec.cidr, pool.spec.cidr)) {
      throw invalid(pool, 'spec.cidr', `overlaps IPPool ${name} (${other.spec.cidr})`);
    }
  }
  return pool;
}

function addressesInUse(draft: Draft, pool: IpPool): number {
  let used = 0;
  for (const [, block] of draft.entries(blockKind(poolFamily(pool)))) {
    if (cidrCovers(pool.spec.cidr, block.cidr)) used += [...heldAddresses(block)].length;
  }
  return used;
}

function invalid({ kind, metadata }: Resource, field: string, why: string): CalicoError {
  return new CalicoError('model/invalid', { kind, name: metadata.name, field, why });
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, sorted(member)]));
}
