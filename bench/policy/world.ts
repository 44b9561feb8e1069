import { parseAddress } from '../../src/ip/address.ts';
import { hostCidr, type Cidr } from '../../src/ip/cidr.ts';
import type { GlobalNetworkPolicy } from '../../src/model/kinds/global-network-policy.ts';
import type { NetworkSet } from '../../src/model/kinds/network-set.ts';
import type { Profile } from '../../src/model/kinds/profile.ts';
import type { WorkloadEndpoint } from '../../src/model/kinds/workload-endpoint.ts';

/** Endpoints, policies and network sets of the size and shape of Felix's benchmark of the start (felix/calc). */

const apiVersion = 'projectcalico.org/v3';
export const namespaces = 100;
export const tags = 31;

/** Returns the nth address of 10.0.0.0/8. */
export function net(n: number): Cidr {
  return hostCidr(parseAddress(`10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`));
}

/** An endpoint with five labels of few values, one of the tags, and the Profile of its namespace. */
export function endpoint(node: string, n: number): WorkloadEndpoint {
  const labels = Object.fromEntries(
    [10, 11, 20, 30, 40].map((share) => [`one-in-${share}`, `value-${n % share}`]),
  );
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: `${node}-wep-${n}`,
      namespace: 'libnetwork',
      labels: { ...labels, [`calico/tag-${n % tags}`]: 'true' },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: `endpoint${n}`,
      ipNetworks: [net(n)],
      profiles: [`kns.namespace-${n % namespaces}`],
      interfaceName: `cali${String(n).padStart(11, '0')}`,
    },
  };
}

/** The Profile of a namespace: a label, and no rules. */
export function namespaceProfile(n: number): Profile {
  const name = `kns.namespace-${n}`;
  const labelsToApply = { 'pcns.projectcalico.org/name': `namespace-${n}` };
  return { kind: 'Profile', apiVersion, metadata: { name }, spec: { labelsToApply } };
}

/** A policy of the endpoints with one tag, with five rules for those with others. */
export function tagPolicy(n: number): GlobalNetworkPolicy {
  return {
    kind: 'GlobalNetworkPolicy',
    apiVersion,
    metadata: { name: `tag-${n}` },
    spec: {
      selector: `has(calico/tag-${n % tags})`,
      types: ['Ingress'],
      ingress: Array.from({ length: 5 }, (_, rule) => ({
        action: 'Allow' as const,
        source: { selector: `has(calico/tag-${(n + rule) % tags})` },
      })),
    },
  };
}

/** A policy of all endpoints with a rule for one network set. */
export function setPolicy(n: number): GlobalNetworkPolicy {
  return {
    kind: 'GlobalNetworkPolicy',
    apiVersion,
    metadata: { name: `set-${n}` },
    spec: {
      selector: 'all()',
      types: ['Ingress'],
      ingress: [{ action: 'Allow', source: { selector: `network-set-name == 'set-${n}'` } }],
    },
  };
}

const sizes = [1, 1, 1, 1, 2, 3, 4, 5, 100, 1000];

/** Returns network sets of these sizes in turn, with addresses of their own. */
export function networkSets(count: number): readonly NetworkSet[] {
  let next = 1 << 20;
  return Array.from({ length: count }, (_, n) => {
    const nets = Array.from({ length: sizes[n % sizes.length] ?? 1 }, () => net(next++));
    return {
      kind: 'GlobalNetworkSet',
      apiVersion,
      metadata: { name: `set-${n}`, labels: { 'network-set-name': `set-${n}` } },
      spec: { nets },
    };
  });
}
