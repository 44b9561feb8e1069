import { z } from 'zod';
import { entryType, plainSegment, type EntryType } from '../entry-type.ts';
import { resourceRoot } from '../resource-type.ts';

/**
 * Calico kinds without a file here and without effect, by their name in keys. Source:
 * libcalico-go/lib/backend/model/resource.go.
 */
const kinds: Readonly<Record<string, string>> = {
  stagedkubernetesnetworkpolicies: 'StagedKubernetesNetworkPolicy',
  ipamconfigurations: 'IPAMConfiguration',
  kubecontrollersconfigurations: 'KubeControllersConfiguration',
};

const otherResource = z.looseObject({});

/** A resource of a kind without a file here. */
export type OtherResource = z.infer<typeof otherResource>;

/** IDs: the kind's name in keys, `/`, namespace and name. `isKnown` reports whether a name belongs to another kind. */
export function otherResourceType(isKnown: (plural: string) => boolean): EntryType<OtherResource> {
  return entryType({
    label: 'resource',
    prefix: resourceRoot,
    schema: otherResource,
    segment: plainSegment(
      (text) => /^[^/]+(\/[^/]+){1,2}$/.test(text) && !isKnown(text.slice(0, text.indexOf('/'))),
    ),
  });
}

/** Returns the kind and name of a resource by its ID; an unknown kind is shown by its name in keys. */
export function describeOther(id: string): { readonly kind: string; readonly name: string } {
  const slash = id.indexOf('/');
  const word = id.slice(0, slash);
  return { kind: kinds[word] ?? word, name: id.slice(slash + 1) };
}

/**
 * Returns the kind of a name such as `IPAMConfiguration` or `ipamconfigurations`; `undefined` if it is none of these.
 */
export function otherKind(word: string): string | undefined {
  const wanted = word.toLowerCase();
  return Object.entries(kinds).find(
    ([plural, kind]) => plural === wanted || kind.toLowerCase() === wanted,
  )?.[1];
}
