import assert from 'node:assert/strict';
import { hostCidr } from '../ip/cidr.ts';
import type { NetworkSet } from '../model/kinds/network-set.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { Surroundings } from './evaluate/evaluate.ts';
import type { PolicyEngine } from './policy-engine.ts';
import type { ReferenceEndpoint, World } from './reference.fixture.ts';

const apiVersion = 'projectcalico.org/v3';

/** Returns what an engine knows of addresses. */
export function surroundingsOf(engine: PolicyEngine): Surroundings {
  return {
    isMember: ({ id }, address) => engine.selectorContains(id, hostCidr(address)),
    hasNamedPort: (name, address, port) => engine.hasNamedPort(name, hostCidr(address), port),
  };
}

/** Returns an endpoint of a world as it is stored. */
export function endpoint(
  name: string,
  { namespace, addresses, labels, profiles }: ReferenceEndpoint,
  node = 'here',
): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name,
      namespace,
      labels: { ...labels, 'projectcalico.org/namespace': namespace },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: name,
      ipNetworks: addresses.map(hostCidr),
      profiles: [...profiles],
      interfaceName: `cali${name}`,
    },
  };
}

/** Sets all resources of a world; the first endpoint is on this host. */
export function setUp(engine: PolicyEngine, of: World): WorkloadEndpoint {
  const [local, ...others] = of.endpoints.map((one, index) =>
    endpoint(`e${index}`, one, index === 0 ? 'here' : 'there'),
  );
  assert.ok(local !== undefined);
  for (const one of [local, ...others]) {
    engine.setEndpoint(`${one.metadata.namespace ?? ''}/${one.metadata.name}`, one);
  }
  for (const [index, { namespace, nets, domains, labels }] of of.sets.entries()) {
    const metadata = {
      name: `s${index}`,
      labels,
      ...(namespace === undefined ? {} : { namespace }),
    };
    const spec = { nets: [...nets] };
    const set: NetworkSet =
      namespace === undefined
        ? { kind: 'GlobalNetworkSet', apiVersion, metadata, spec }
        : { kind: 'NetworkSet', apiVersion, metadata, spec };
    engine.setNetworkSet(`set ${index}`, set);
    engine.setDomains(`set ${index}`, domains && { set, addresses: domains });
  }
  for (const { kind, namespace, name, spec } of of.policies) {
    const { types, ingress = [], egress = [], ...others_ } = spec;
    engine.setPolicy(kind, namespace === undefined ? name : `${namespace}/${name}`, {
      metadata: { name },
      spec: {
        ...others_,
        ...(types === undefined ? {} : { types: [...types] }),
        ingress: [...ingress],
        egress: [...egress],
      },
    });
  }
  for (const [name, { ingress = [], egress = [], labelsToApply = {} }] of of.profiles) {
    const spec = { ingress: [...ingress], egress: [...egress], labelsToApply };
    engine.setProfile(name, { kind: 'Profile', apiVersion, metadata: { name }, spec });
  }
  for (const [name, spec] of of.tiers) {
    engine.setTier(name, { kind: 'Tier', apiVersion, metadata: { name }, spec });
  }
  return local;
}
