import { familyOf } from '../../../src/ip/address.ts';
import { hostCidr } from '../../../src/ip/cidr.ts';
import type { EntryValue, ResourceKind } from '../../../src/model/kinds/index.ts';
import { addresses, containerNames, containers, failsafePort, published } from './places.ts';
import type { HostsWorld } from './walk.ts';

/** The resources of a world, as they are stored. */

const storedKinds = [
  'Tier',
  'Profile',
  'NetworkPolicy',
  'GlobalNetworkPolicy',
  'StagedNetworkPolicy',
  'StagedGlobalNetworkPolicy',
  'NetworkSet',
  'GlobalNetworkSet',
  'WorkloadEndpoint',
  'HostEndpoint',
  'FelixConfiguration',
] as const satisfies readonly ResourceKind[];

type StoredKind = (typeof storedKinds)[number];

export type Entry = {
  readonly [K in StoredKind]: {
    readonly kind: K;
    readonly id: string;
    readonly value: EntryValue<K>;
  };
}[StoredKind];

const apiVersion = 'projectcalico.org/v3';

/** Returns the resources of a world, with its endpoints. */
export function entriesOf(of: HostsWorld): readonly Entry[] {
  return [
    felixConfiguration,
    ...[...of.tiers].map(([name, spec]): Entry => ({
      kind: 'Tier',
      id: name,
      value: { kind: 'Tier', apiVersion, metadata: { name }, spec },
    })),
    ...[...of.profiles].map(([name, { ingress = [], egress = [], labelsToApply = {} }]): Entry => {
      const spec = { ingress: [...ingress], egress: [...egress], labelsToApply };
      const kind = 'Profile';
      return { kind, id: name, value: { kind, apiVersion, metadata: { name }, spec } };
    }),
    ...of.policies.map(policyEntry),
    ...of.sets.map(({ namespace, nets, labels }, index): Entry => {
      const name = `s${index}`;
      const spec = { nets: [...nets] };
      if (namespace === undefined) {
        const kind = 'GlobalNetworkSet';
        return { kind, id: name, value: { kind, apiVersion, metadata: { name, labels }, spec } };
      }
      const kind = 'NetworkSet';
      const metadata = { name, namespace, labels };
      return { kind, id: `${namespace}/${name}`, value: { kind, apiVersion, metadata, spec } };
    }),
    ...of.endpoints.map(endpointEntry),
    ...of.hostEndpoints.map(({ host, interface: interfaceName, labels, profiles }): Entry => {
      const name = `${host}-${interfaceName === '*' ? 'all' : interfaceName}`;
      const kind = 'HostEndpoint';
      const spec = { node: host, interfaceName, profiles: [...profiles] };
      return { kind, id: name, value: { kind, apiVersion, metadata: { name, labels }, spec } };
    }),
  ];
}

const ports = [
  { protocol: 'TCP', port: failsafePort },
  { protocol: 'UDP', port: failsafePort },
] as const;

const felixConfiguration: Entry = {
  kind: 'FelixConfiguration',
  id: 'default',
  value: {
    kind: 'FelixConfiguration',
    apiVersion,
    metadata: { name: 'default' },
    spec: { failsafeInboundHostPorts: [...ports], failsafeOutboundHostPorts: [...ports] },
  },
};

function policyEntry({ kind, namespace, name, spec }: HostsWorld['policies'][number]): Entry {
  const { types, ingress = [], egress = [], ...rest } = spec;
  const stored = {
    ...rest,
    ...(types === undefined ? {} : { types: [...types] }),
    ingress: [...ingress],
    egress: [...egress],
  };
  const metadata = { name, ...(namespace === undefined ? {} : { namespace }) };
  const id = namespace === undefined ? name : `${namespace}/${name}`;
  switch (kind) {
    case 'NetworkPolicy':
      return { kind, id, value: { kind, apiVersion, metadata, spec: stored } };
    case 'GlobalNetworkPolicy':
      return { kind, id, value: { kind, apiVersion, metadata, spec: stored } };
    case 'StagedNetworkPolicy':
      return { kind, id, value: { kind, apiVersion, metadata, spec: stored } };
    default:
      return { kind, id, value: { kind, apiVersion, metadata, spec: stored } };
  }
}

const protocolNames: Readonly<Record<number, string>> = { 6: 'TCP', 17: 'UDP' };

function endpointEntry(one: HostsWorld['endpoints'][number], index: number): Entry {
  const name = containerNames[index] ?? 'a';
  const own = published.filter(({ owner }) => owner === name);
  const kind = 'WorkloadEndpoint';
  return {
    kind,
    id: `${one.namespace}/${name}`,
    value: {
      kind,
      apiVersion,
      metadata: {
        name,
        namespace: one.namespace,
        labels: { ...one.labels, 'projectcalico.org/namespace': one.namespace },
        ...(own.some(({ isOpen }) => !isOpen)
          ? { annotations: { 'docker.projectcalico.org/published': 'policy' } }
          : {}),
      },
      spec: {
        orchestrator: 'libnetwork',
        node: containers[name].host,
        endpoint: name,
        ipNetworks: one.addresses.map(hostCidr),
        profiles: [...one.profiles],
        interfaceName: `cali${name}`,
        ports: [
          ...(one.ports ?? []).map((port) => ({
            name: port.name,
            protocol: protocolNames[port.protocol] ?? '',
            port: port.port,
          })),
          ...own.flatMap(({ protocol, hostPort, port }) =>
            Object.values(addresses[name]).map((address) => ({
              name: `${protocolNames[protocol]?.toLowerCase()}-${hostPort}`,
              protocol: protocolNames[protocol] ?? '',
              port,
              hostPort,
              hostIP: familyOf(address) === 4 ? '0.0.0.0' : '::',
            })),
          ),
        ],
      },
    },
  };
}
