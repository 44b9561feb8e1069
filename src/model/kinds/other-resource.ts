import { z } from 'zod';
import { entryType, plainSegment, type EntryType } from '../entry-type.ts';
import { resourceRoot } from '../resource-type.ts';

/**
 * Kinds of Calico's that we store nothing of and do not enforce, by the word in their keys. Those of policy decide
 * traffic where Felix runs; who relies on them must be told that here they do not.
 * Source: libcalico-go/lib/backend/model/resource.go.
 */
const kinds: Readonly<Record<string, { readonly kind: string; readonly isPolicy: boolean }>> = {
  networkpolicies: { kind: 'NetworkPolicy', isPolicy: true },
  globalnetworkpolicies: { kind: 'GlobalNetworkPolicy', isPolicy: true },
  hostendpoints: { kind: 'HostEndpoint', isPolicy: true },
  // Felix enforces what is staged no more than we do.
  stagednetworkpolicies: { kind: 'StagedNetworkPolicy', isPolicy: false },
  stagedglobalnetworkpolicies: { kind: 'StagedGlobalNetworkPolicy', isPolicy: false },
  stagedkubernetesnetworkpolicies: { kind: 'StagedKubernetesNetworkPolicy', isPolicy: false },
  bgpconfigurations: { kind: 'BGPConfiguration', isPolicy: false },
  bgpfilters: { kind: 'BGPFilter', isPolicy: false },
  bgppeers: { kind: 'BGPPeer', isPolicy: false },
  caliconodestatuses: { kind: 'CalicoNodeStatus', isPolicy: false },
  felixconfigurations: { kind: 'FelixConfiguration', isPolicy: false },
  ipamconfigs: { kind: 'IPAMConfiguration', isPolicy: false },
  kubecontrollersconfigurations: { kind: 'KubeControllersConfiguration', isPolicy: false },
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
export function describeOther(id: string): {
  readonly kind: string;
  readonly name: string;
  readonly isPolicy: boolean;
} {
  const slash = id.indexOf('/');
  const word = id.slice(0, slash);
  return { ...(kinds[word] ?? { kind: word, isPolicy: false }), name: id.slice(slash + 1) };
}

/** As in calicoctl. */
const shortWords: ReadonlyMap<string, string> = new Map([
  ['gnp', 'globalnetworkpolicies'],
  ['policies', 'networkpolicies'],
  ['policy', 'networkpolicies'],
  ['np', 'networkpolicies'],
  ['hep', 'hostendpoints'],
  ['heps', 'hostendpoints'],
]);

/** The kind that a word such as `gnp`, `HostEndpoint` or `networkpolicies` names; `undefined` if it is none of these. */
export function otherKind(word: string): string | undefined {
  const given = word.toLowerCase();
  const wanted = shortWords.get(given) ?? given;
  return Object.entries(kinds).find(
    ([plural, { kind }]) => plural === wanted || kind.toLowerCase() === wanted,
  )?.[1].kind;
}
