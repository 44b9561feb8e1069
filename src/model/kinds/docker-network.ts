import { z } from 'zod';
import { entryType, firstPart, hostSegment, type EntryType } from '../entry-type.ts';
import { address, cidr } from '../fields.ts';
import { defaultNamespace, isNamespace } from '../namespaces.ts';
import { mapOf } from '../nulls.ts';

/**
 * Docker's data of a network on one host, and of a pool that it requested. Calico has no kind for either, so these
 * records of calico-cnm are stored below `/calico/docker/v1/host/<node>/`, which Calico's own tools do not read.
 */

/** Prefix of the records of all hosts. */
export const dockerRoot = '/calico/docker/v1/host/';

const family = z.union([z.literal(4), z.literal(6)]);

/** The `-o` keys of `docker network create`, parsed. */
const networkOptions = z.looseObject({
  /** Profiles of its containers, instead of the Profile of the network. */
  profiles: z.exactOptional(z.array(z.string())),
  /** Bytes; absent: the MTU of the host's default route. */
  mtu: z.exactOptional(z.int()),
  natOutgoing: z.exactOptional(z.boolean()),
  /** Namespace of its endpoints; absent: the default one, without labels. */
  namespace: z.exactOptional(z.string().refine(isNamespace, 'is not a namespace')),
  /** Labels of all its endpoints. */
  labels: z.exactOptional(mapOf(z.string(), z.string(), '')),
  /** How published ports are treated without a matching rule: allowed (absent), or denied (`policy`). */
  published: z.exactOptional(z.literal('policy')),
  /** Prefix of the interface's name in the container. */
  interfacePrefix: z.exactOptional(z.string()),
});

export type NetworkOptions = z.infer<typeof networkOptions>;

/** One subnet of a network. */
const networkSubnet = z.looseObject({
  family,
  /** As in Docker; `0.0.0.0/0` for a network of all enabled pools. */
  cidr,
  gateway: z.exactOptional(address),
  auxiliary: z.exactOptional(z.record(z.string(), address)),
  /** The PoolID, if calico-ipam allocated the subnet. */
  poolId: z.exactOptional(z.string()),
});

export type NetworkSubnet = z.infer<typeof networkSubnet>;

const dockerNetwork = z.looseObject({
  id: z.string(),
  node: z.string(),
  /** Docker's name of the network; unknown until Docker or `-o name=` provides it. */
  name: z.exactOptional(z.string()),
  /** The IPAM driver that allocates its addresses: calico-ipam, or Docker's. */
  ipam: z.enum(['calico', 'docker']),
  internal: z.boolean(),
  ipv4: z.boolean(),
  ipv6: z.boolean(),
  subnets: z.array(networkSubnet),
  /** The link-local (or `--gateway`) address that its containers use as next hop; unique on the host. */
  nextHop4: z.exactOptional(address),
  nextHop6: z.exactOptional(address),
  options: networkOptions,
});

export type DockerNetwork = z.infer<typeof dockerNetwork>;

/** Returns the namespace of the endpoints on a network. */
export function namespaceOfNetwork({ options }: DockerNetwork): string {
  return options.namespace ?? defaultNamespace;
}

/** Ids: `<node>/<Docker's ID>`; the node is the group. */
export const dockerNetworkType: EntryType<DockerNetwork> = entryType({
  label: 'Docker network',
  prefix: dockerRoot,
  schema: dockerNetwork,
  segment: hostSegment('/network/'),
  groups: firstPart,
  isObserved: true,
});
