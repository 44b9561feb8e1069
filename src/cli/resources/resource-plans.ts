import type { Progress } from '../../datastore/steps.ts';
import type { Draft } from '../../datastore/writer.ts';
import { profileUsers } from '../../driver/networks/profile-users.ts';
import { CalicoError } from '../../errors/error.ts';
import { cidrCovers } from '../../ip/cidr.ts';
import { removePool } from '../../ipam/pools/remove-pool.ts';
import { isTunnelAddress } from '../../ipam/records/allocation.ts';
import { allocatedAddresses } from '../../ipam/records/block.ts';
import { blockKind } from '../../ipam/records/records.ts';
import {
  resourceTypeOf,
  type EntryValue,
  type Resource,
  type ResourceKind,
} from '../../model/kinds/index.ts';
import { poolFamily, type IpPool } from '../../model/kinds/ip-pool.ts';
import { profileProblem, type Profile } from '../../model/kinds/profile.ts';
import type { Tier } from '../../model/kinds/tier.ts';
import { dockerNameOf } from '../../model/names.ts';
import { idsStored, resourceId } from '../../model/resource-type.ts';
import type { Stamp } from '../../model/stamp.ts';
import { enforcedKinds, stagedKinds } from '../../ruleset/policy.ts';

/** Plans of `apply` and `delete`: a write with the checks and defaults of Calico's own client. */

export type Applied = 'created' | 'changed' | 'unchanged';

/** Returns the ids under which an object is stored, including unreadable values. */
export function idsInDraft<K extends ResourceKind>(
  draft: Pick<Draft, 'get' | 'unreadable'>,
  kind: K,
  id: string,
): readonly string[] {
  const found = idsStored(resourceTypeOf[kind], id, (one) => draft.get(kind, one));
  return found.length === 0 && draft.unreadable(kind).has(id) ? [id] : found;
}

/** The inputs of `apply` in addition to the draft. */
export interface ApplyContext {
  readonly stamp: Stamp;
  /** Returns the `resourceVersion` of the stored resource. */
  readonly versionOf: (kind: ResourceKind, id: string) => string | undefined;
}

/**
 * Creates or replaces a resource; identity and creation time stay. A resource with a `resourceVersion` replaces only
 * that version. Throws `datastore/conflict` if the stored one is newer, and `model/invalid`.
 */
export function applyResource(
  draft: Draft,
  resource: Resource,
  { stamp, versionOf }: ApplyContext,
): Applied {
  const [id] = idsInDraft(draft, resource.kind, resourceId(resource));
  const stored = id === undefined ? undefined : versionOf(resource.kind, id);
  const { resourceVersion } = resource.metadata;
  if (stored !== undefined && (resourceVersion ?? stored) !== stored) {
    const { kind } = resource;
    throw new CalicoError('datastore/conflict', { kind, name: resourceId(resource) });
  }
  return applyKind(draft, resource.kind, { resource, stamp });
}

function applyKind<K extends ResourceKind>(
  draft: Draft,
  kind: K,
  { resource, stamp }: { readonly resource: EntryValue<K>; readonly stamp: Stamp },
): Applied {
  const { implicit, protection, isNamespaced, schema, withDefaults, validate } =
    resourceTypeOf[kind];
  if (implicit.some((one) => isSame(bareOf(one), bareOf(resource)))) return 'unchanged';
  if (protection(resourceId(resource)) === 'fixed') {
    throw invalid(resource, '', 'is built in and cannot be changed');
  }
  if (!isNamespaced && resource.metadata.namespace !== undefined) {
    throw invalid(resource, 'metadata.namespace', `must be empty: ${kind} is not namespaced`);
  }
  // Parsing restores Calico's order of fields, because defaults are appended at the end.
  const complete = schema.parse(withDefaults(resource));
  const problem = validate(complete, draft);
  if (problem !== undefined) throw invalid(resource, problem.field, problem.why);
  return put(draft, kind, { resource: complete, id: storedId(draft, kind, resource), stamp });
}

/**
 * Deletes a resource, or part of it (see `removePool`). Throws `datastore/not-found`, `model/invalid` if it cannot be
 * deleted, and `cli/profile-in-use`.
 */
export function deleteResource<K extends ResourceKind>(
  draft: Draft,
  kind: K,
  id: string,
): Progress {
  if (resourceTypeOf[kind].protection(id) !== undefined) {
    throw new CalicoError('model/invalid', {
      kind,
      name: id,
      field: '',
      why: 'is built in and cannot be deleted',
    });
  }
  const ids = idsInDraft(draft, kind, id);
  if (ids.length === 0) throw new CalicoError('datastore/not-found', { kind, name: id });
  const progress = ids.map((one) => removeStored(draft, kind, one));
  return progress.includes('more') ? 'more' : 'done';
}

function removeStored<K extends ResourceKind>(draft: Draft, kind: K, id: string): Progress {
  const present = draft.get(kind, id);
  const remove = guards[kind]?.remove;
  if (present === undefined) draft.discardUnreadable(kind, id);
  else if (remove !== undefined) return remove(draft, present);
  else draft.remove(kind, id);
  return 'done';
}

/** Rules of a kind that the model does not know. */
interface Guard<Value> {
  /** Deletes the resource, or throws the reason why it cannot be deleted. */
  readonly remove: (draft: Draft, resource: Value) => Progress;
}

const guards: { readonly [K in ResourceKind]?: Guard<EntryValue<K>> } = {
  IPPool: { remove: removeUnusedPool },
  Profile: { remove: removeUnusedProfile },
  Tier: { remove: removeEmptyTier },
};

/** Kinds whose resources belong to a tier. */
const kindsInTiers = [...enforcedKinds, ...stagedKinds] as const;

/** Deletes a tier without policies. The transaction fails if another client creates a policy meanwhile. */
function removeEmptyTier(draft: Draft, tier: Tier): Progress {
  const { name } = tier.metadata;
  for (const kind of kindsInTiers) {
    for (const [id, { spec }] of draft.entries(kind)) {
      if (spec.tier !== name) continue;
      throw invalid(tier, '', `has policies, such as ${kind} ${id}; delete these first`);
    }
    draft.expectNoNew(kind, '');
  }
  draft.remove('Tier', name);
  return 'done';
}

function removeUnusedPool(draft: Draft, pool: IpPool): Progress {
  const used = addressesInUse(draft, pool);
  if (used > 0) {
    throw invalid(
      pool,
      '',
      `${used} of its addresses ${used === 1 ? 'is' : 'are'} in use; remove containers and networks first (calico-cnm ipam show --ip ADDRESS shows the user of an address)`,
    );
  }
  return removePool(draft, pool);
}

function removeUnusedProfile(draft: Draft, { metadata: { name } }: Profile): Progress {
  rejectIfUsed(
    draft,
    name,
    'or use profile remove --no-check: all traffic of its containers is then dropped',
  );
  draft.remove('Profile', name);
  return 'done';
}

/** Throws `model/invalid` if the Profile is invalid. */
export function checkProfile(profile: Profile): void {
  const problem = profileProblem(profile);
  if (problem !== undefined) throw invalid(profile, problem.field, problem.why);
}

/** Throws `cli/profile-in-use` if a container or a network uses the Profile. */
export function rejectIfUsed(draft: Draft, name: string, advice: string): void {
  const users = profileUsers(draft, name);
  if (users.length === 0) return;
  const shown = users.length > 3 ? `${users.slice(0, 3).join(', ')}, …` : users.join(', ');
  throw new CalicoError('cli/profile-in-use', {
    profile: dockerNameOf(name),
    users: shown,
    advice,
  });
}

/** Returns the id of the stored object, or of a new one, for a resource from user input. */
function storedId(draft: Draft, kind: ResourceKind, resource: Resource): string {
  const given = resourceId(resource);
  const possible = resourceTypeOf[kind].storedIds(given);
  const id = idsInDraft(draft, kind, given)[0] ?? possible[0];
  // The transaction fails if another client stores the same object under another id meanwhile.
  for (const other of possible) {
    if (other !== id && !draft.isUnreadable(kind, other)) draft.expect(kind, other);
  }
  return id;
}

function put<K extends ResourceKind>(
  draft: Draft,
  kind: K,
  {
    resource,
    id,
    stamp,
  }: { readonly resource: EntryValue<K>; readonly id: string; readonly stamp: Stamp },
): Applied {
  const existing = draft.get(kind, id);
  const { resourceVersion: _, ...given } = resource.metadata;
  // The stored name is the last part of the key.
  const metadata = { ...given, name: id.slice(id.lastIndexOf('/') + 1) };
  const bare = { ...resource, metadata };
  if (existing === undefined) {
    const isUnreadable = draft.isUnreadable(kind, id);
    if (isUnreadable) draft.discardUnreadable(kind, id);
    draft.put(kind, id, stamp(bare));
    return isUnreadable ? 'changed' : 'created';
  }
  const { uid, creationTimestamp } = existing.metadata;
  const kept = {
    ...bare,
    metadata: {
      ...metadata,
      ...(uid === undefined ? {} : { uid }),
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    },
  };
  if (isSame(kept, existing)) return 'unchanged';
  draft.put(kind, id, kept);
  return 'changed';
}

/** Counts addresses in use but for those of tunnels, which nodes replace by one of another pool. */
function addressesInUse(draft: Draft, pool: IpPool): number {
  let used = 0;
  for (const [, block] of draft.entries(blockKind(poolFamily(pool)))) {
    if (!cidrCovers(pool.spec.cidr, block.cidr)) continue;
    for (const [, { secondary }] of allocatedAddresses(block)) {
      if (!isTunnelAddress(secondary)) used++;
    }
  }
  return used;
}

function invalid({ kind, metadata }: Resource, field: string, why: string): CalicoError {
  return new CalicoError('model/invalid', { kind, name: metadata.name, field, why });
}

function isSame(a: object, b: object): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

/** Returns a resource without its `resourceVersion`, which is added when it is read. */
function bareOf({ metadata: { resourceVersion: _, ...metadata }, ...others }: Resource): object {
  return { ...others, metadata };
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, sorted(member)]));
}
