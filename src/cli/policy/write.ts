import { stringify } from 'yaml';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { resourceTypeOf, type EntryValue, type Resource } from '../../model/kinds/index.ts';
import { tierOf } from '../../model/policy.ts';
import { resourceId } from '../../model/resource-type.ts';
import type { Stamp } from '../../model/stamp.ts';
import { ordered, parseResources } from '../../model/user-input.ts';
import { stagedKinds } from '../../ruleset/policy.ts';
import { applyResource, deleteResource, idsInDraft } from '../resources/resource-plans.ts';
import { createdBy } from './created-by.ts';
import { policiesInOrder, policyNamed } from './stored.ts';

/** Plans that write and delete the resources of `calico-cnm policy`. */

/** A resource of a kind that the commands write. */
export type Written = EntryValue<'Tier' | 'GlobalNetworkSet' | 'GlobalNetworkPolicy'>;

interface WriteOptions {
  readonly stamp: Stamp;
  /** Reports whether a resource that another command created may be replaced. */
  readonly mayReplace: (command: string) => boolean;
}

/**
 * Creates or changes the resources in one transaction; returns those that are written, each with the result. Throws
 * `cli/not-created-by-policy` and `cli/created-by-another`. A tier created by its user is used as it is if it passes on
 * what its policies do not decide.
 */
export function writeResources<Item extends { readonly resource: Written }>(
  draft: Draft,
  items: readonly Item[],
  options: WriteOptions,
): readonly (Item & { readonly done: string })[] {
  return items.flatMap((item) => {
    const { resource } = item;
    if (!isReplaceable(draft, resource, options)) return [];
    // The resources have no resourceVersion, so that of the stored one does not matter.
    const done = applyResource(draft, resource, {
      stamp: options.stamp,
      versionOf: () => undefined,
    });
    return [{ ...item, done }];
  });
}

/** Returns a resource as a YAML document that `calico-cnm apply` accepts. */
export function yamlOf(resource: object): string {
  return stringify(ordered(resource), { lineWidth: 0 });
}

/** Parses one document with the checks of `apply`; throws its errors. */
export function parseWritten(text: string): Written {
  const [resource] = parseResources(text);
  if (resource !== undefined && isWritten(resource)) return resource;
  throw new Error(`a command of policy must not write this: ${text}`);
}

function isWritten(resource: Resource): resource is Written {
  return ['Tier', 'GlobalNetworkSet', 'GlobalNetworkPolicy'].includes(resource.kind);
}

/**
 * Deletes policies by name, and everything else that the command that created them wrote: further policies, network
 * sets, and with its last policy the tier. Returns one sentence for each. Throws
 * `datastore/not-found`.
 */
export function removePolicies(draft: Draft, names: readonly string[]): string {
  const targets = new Map<string, Target>();
  const tiers = new Set<string>();
  for (const { resource: policy } of names.map((name) => policyNamed(draft, name))) {
    const command = policy.metadata.annotations?.[createdBy];
    for (const one of [policy, ...siblings(draft, command)]) {
      targets.set(`${one.kind} ${resourceId(one)}`, one);
    }
    if (command !== undefined) tiers.add(tierOf(policy));
  }
  for (const target of targets.values()) deleteResource(draft, target.kind, resourceId(target));
  for (const name of tiers) {
    const tier = unusedTier(draft, name);
    if (tier === undefined) continue;
    deleteResource(draft, 'Tier', name);
    targets.set(`Tier ${name}`, tier);
  }
  return [...targets.keys()].map((title) => `${title} deleted\n`).join('');
}

type Target = Written | EntryValue<'NetworkPolicy'>;

/** Returns the resources that a command has created. */
function siblings(draft: Draft, command: string | undefined): readonly Written[] {
  if (command === undefined) return [];
  return (['GlobalNetworkPolicy', 'GlobalNetworkSet'] as const).flatMap((kind) =>
    [...draft.entries(kind)]
      .filter(([, { metadata }]) => metadata.annotations?.[createdBy] === command)
      .map(([, one]) =>
        one.kind === 'GlobalNetworkPolicy' ? resourceTypeOf.GlobalNetworkPolicy.shown(one) : one,
      ),
  );
}

/** Returns a tier that the commands created, unless a policy is in it. */
function unusedTier(draft: Draft, name: string): EntryValue<'Tier'> | undefined {
  const tier = draft.get('Tier', name);
  if (tier?.metadata.annotations?.[createdBy] === undefined) return undefined;
  const staged = stagedKinds.flatMap((kind) =>
    [...draft.entries(kind)].map(([, policy]) => policy),
  );
  const enforced = policiesInOrder(draft).map(({ resource }) => resource);
  const isUsed = [...enforced, ...staged].some((policy) => tierOf(policy) === name);
  return isUsed ? undefined : tier;
}

/** Reports whether a resource is to be written; throws if it must not be replaced. */
function isReplaceable(draft: Draft, resource: Written, { mayReplace }: WriteOptions): boolean {
  const { kind } = resource;
  const name = resourceId(resource);
  const [id] = idsInDraft(draft, kind, name);
  if (id === undefined) return true;
  const stored = draft.get(kind, id);
  const command = stored?.metadata.annotations?.[createdBy];
  const title = `${kind} ${name}`;
  if (command === undefined) {
    if (stored?.kind === 'Tier' && stored.spec.defaultAction === 'Pass') return false;
    const [word = kind.toLowerCase()] = resourceTypeOf[kind].aliases;
    throw new CalicoError('cli/not-created-by-policy', { resource: title, word, id: name });
  }
  if (command === resource.metadata.annotations?.[createdBy] || mayReplace(command)) return true;
  const shown = `calico-cnm ${command}`;
  throw new CalicoError('cli/created-by-another', { resource: title, command: shown });
}
