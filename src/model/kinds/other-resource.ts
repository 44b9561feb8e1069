import { z } from 'zod';
import { entryType, plainSegment, type EntryType } from '../entry-type.ts';
import { resourceRoot } from '../resource-type.ts';

/**
 * Kinds of Calico's that have no file here and no effect, by the word in their keys.
 * Source: libcalico-go/lib/backend/model/resource.go.
 */
const kinds: Readonly<Record<string, string>> = {
  stagedkubernetesnetworkpolicies: 'StagedKubernetesNetworkPolicy',
  caliconodestatuses: 'CalicoNodeStatus',
  ipamconfigurations: 'IPAMConfiguration',
  kubecontrollersconfigurations: 'KubeControllersConfiguration',
};

const otherResource = z.looseObject({});

/** A resource of a kind that has no file here. */
export type OtherResource = z.infer<typeof otherResource>;

/** Ids: the kind's word in keys, `/`, namespace and name. `isKnown` says of a word whether it is another kind's. */
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

/** What a resource is by its id; a kind that we have never heard of goes by its word. */
export function describeOther(id: string): { readonly kind: string; readonly name: string } {
  const slash = id.indexOf('/');
  const word = id.slice(0, slash);
  return { kind: kinds[word] ?? word, name: id.slice(slash + 1) };
}

/** The kind that a word such as `IPAMConfiguration` or `caliconodestatuses` names; `undefined` if it is none of these. */
export function otherKind(word: string): string | undefined {
  const wanted = word.toLowerCase();
  return Object.entries(kinds).find(
    ([plural, kind]) => plural === wanted || kind.toLowerCase() === wanted,
  )?.[1];
}
