import { z } from 'zod';
import { tryParseAddress } from '../../ip/address.ts';
import { resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';

const hostEndpoint = resource(
  'HostEndpoint',
  z.looseObject({
    node: z.exactOptional(z.string()),
    interfaceName: z.exactOptional(z.string()),
    expectedIPs: z.exactOptional(z.array(z.string())),
    profiles: z.exactOptional(z.array(z.string())),
    ports: z.exactOptional(
      z.array(
        z.looseObject({
          name: z.string(),
          protocol: z.union([z.string(), z.int()]),
          port: z.int().min(1).max(65_535),
        }),
      ),
    ),
  }),
);

/** An interface of a host, or all of them, whose traffic policies decide on. */
export type HostEndpoint = z.infer<typeof hostEndpoint>;

export const hostEndpointType: ResourceType<HostEndpoint> = resourceType({
  kind: 'HostEndpoint',
  plural: 'hostendpoints',
  aliases: ['hep'],
  meaning: 'host interface protected by policy',
  schema: hostEndpoint,
  columns: [
    nameColumn,
    { header: 'node', cell: ({ spec }) => spec.node ?? '' },
    { header: 'interface', cell: ({ spec }) => spec.interfaceName ?? '' },
    { header: 'ips', cell: ({ spec }) => (spec.expectedIPs ?? []).join(',') },
    { header: 'profiles', cell: ({ spec }) => (spec.profiles ?? []).join(',') },
  ],
  validate: hostEndpointProblem,
});

/** Rules: Calico v3 API, `HostEndpointSpec`. */
function hostEndpointProblem({ spec }: HostEndpoint): Problem | undefined {
  const { node = '', interfaceName = '', expectedIPs = [] } = spec;
  if (node === '') return { field: 'spec.node', why: 'is missing' };
  if (interfaceName === '' && expectedIPs.length === 0) {
    return { field: 'spec.interfaceName', why: 'is required if expectedIPs is not set' };
  }
  if (interfaceName === 'lo') {
    return { field: 'spec.interfaceName', why: 'lo is never covered by a host endpoint' };
  }
  if (!/^(\*|[a-zA-Z0-9_.-]{1,15})?$/.test(interfaceName)) {
    return {
      field: 'spec.interfaceName',
      why: `"${interfaceName}" is neither an interface name nor *`,
    };
  }
  const bad = expectedIPs.find((text) => tryParseAddress(text) === undefined);
  return bad === undefined
    ? undefined
    : { field: 'spec.expectedIPs', why: `"${bad}" is not an IP address` };
}
