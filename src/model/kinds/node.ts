import { z } from 'zod';
import { tryParseAddress } from '../../ip/address.ts';
import { asNumber, defaultAsNumber } from '../bgp.ts';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';
import type { StoredEntries } from '../stored-entries.ts';

const text = z.exactOptional(z.string());

const node = resource(
  'Node',
  z.looseObject({
    bgp: z.exactOptional(
      z.looseObject({
        asNumber: z.exactOptional(asNumber),
        ipv4Address: text,
        ipv6Address: text,
        ipv4IPIPTunnelAddr: text,
        routeReflectorClusterID: text,
      }),
    ),
    ipv4VXLANTunnelAddr: text,
    vxlanTunnelMACAddr: text,
    ipv6VXLANTunnelAddr: text,
    vxlanTunnelMACAddrV6: text,
    orchRefs: z.exactOptional(z.array(z.looseObject({ nodeName: text, orchestrator: text }))),
    wireguard: z.exactOptional(
      z.looseObject({ interfaceIPv4Address: text, interfaceIPv6Address: text }),
    ),
    addresses: z.exactOptional(z.array(z.looseObject({ address: z.string(), type: text }))),
    interfaces: z.exactOptional(
      z.array(z.looseObject({ name: text, addresses: z.exactOptional(z.array(z.string())) })),
    ),
  }),
).extend({
  status: z.exactOptional(
    z.looseObject({
      wireguardPublicKey: text,
      wireguardPublicKeyV6: text,
      podCIDRs: z.exactOptional(z.array(z.string())),
    }),
  ),
});

/**
 * A Docker host. Pools' node selectors match its labels. Its daemon writes its own addresses
 * (`host/node-addresses.ts`), by which other hosts reach its containers (`routing/peers.ts`).
 */
export type Node = z.infer<typeof node>;

/** Annotation `on` of a Node that BGP peers are to avoid, because it will be stopped. */
export const drainAnnotation = 'docker.projectcalico.org/bgp-drain';

/** Reports whether BGP peers are to avoid a node. */
export function isDraining(given: Node | undefined): boolean {
  return given?.metadata.annotations?.[drainAnnotation] === 'on';
}

export const nodeType: ResourceType<Node> = resourceType({
  kind: 'Node',
  plural: 'nodes',
  meaning: 'Docker host, with labels and addresses',
  isObserved: true,
  schema: node,
  columns: [
    nameColumn,
    { header: 'asn', cell: ({ spec }, stored) => asnOf(spec.bgp, stored) },
    { header: 'ipv4', cell: ({ spec }) => spec.bgp?.ipv4Address ?? '' },
    { header: 'ipv6', cell: ({ spec }) => spec.bgp?.ipv6Address ?? '' },
  ],
  fieldsWithoutEffect: ({ spec }) => (spec.wireguard === undefined ? [] : ['spec.wireguard']),
  validate: nodeProblem,
});

/** Returns the AS number, in parentheses if it is the default of all hosts, as calicoctl shows it. */
function asnOf(bgp: Node['spec']['bgp'], stored: Pick<StoredEntries, 'get'>): string {
  if (bgp === undefined) return '';
  if (bgp.asNumber !== undefined) return String(bgp.asNumber);
  return `(${stored.get('BGPConfiguration', 'default')?.spec.asNumber ?? defaultAsNumber})`;
}

/** Rules: libcalico-go/lib/apis/internalapi/node.go and validator/v3. */
function nodeProblem({ spec }: Node): Problem | undefined {
  const { bgp } = spec;
  if (bgp !== undefined && Object.keys(bgp).length === 0) {
    return { field: 'spec.bgp', why: 'must not be empty; leave it out' };
  }
  if (bgp?.asNumber === 0) return { field: 'spec.bgp.asNumber', why: '0 is reserved' };
  const addresses: readonly (readonly [field: string, family: 4 | 6, value: string | undefined])[] =
    [
      ['bgp.ipv4Address', 4, bgp?.ipv4Address?.replace(/\/\d+$/, '')],
      ['bgp.ipv6Address', 6, bgp?.ipv6Address?.replace(/\/\d+$/, '')],
      ['bgp.ipv4IPIPTunnelAddr', 4, bgp?.ipv4IPIPTunnelAddr],
      ['bgp.routeReflectorClusterID', 4, bgp?.routeReflectorClusterID],
      ['ipv4VXLANTunnelAddr', 4, spec.ipv4VXLANTunnelAddr],
      ['ipv6VXLANTunnelAddr', 6, spec.ipv6VXLANTunnelAddr],
      ['wireguard.interfaceIPv4Address', 4, spec.wireguard?.interfaceIPv4Address],
      ['wireguard.interfaceIPv6Address', 6, spec.wireguard?.interfaceIPv6Address],
    ];
  for (const [field, family, value = ''] of addresses) {
    const parsed = tryParseAddress(value);
    const isWrong = parsed === undefined || parsed.includes(':') !== (family === 6);
    if (value !== '' && isWrong) {
      return { field: `spec.${field}`, why: `"${value}" is not an IPv${family} address` };
    }
  }
  return undefined;
}
