import { z } from 'zod';
import { entryType, firstPart, hostSegment, type EntryType } from '../entry-type.ts';
import { address, cidr } from '../fields.ts';
import { mapOf } from '../nulls.ts';

/**
 * What Docker told one host about a network, and about a pool it asked for. Calico has no kind for either, so
 * these records are ours, below `/calico/docker/v1/host/<node>/`; Calico's own tools do not read there.
 */

/** Keys of the records of all hosts. */
export const dockerRoot = '/calico/docker/v1/host/';

const family = z.union([z.literal(4), z.literal(6)]);

/** The `-o` keys of `docker network create`, parsed. */
const networkOptions = z.looseObject({
  /** Profiles of its containers instead of the one of the network's name. */
  profiles: z.exactOptional(z.array(z.string())),
  /** Bytes; absent: the MTU of the host's default route. */
  mtu: z.exactOptional(z.int()),
  natOutgoing: z.exactOptional(z.boolean()),
  /** Labels of all its endpoints. */
  labels: z.exactOptional(mapOf(z.string(), z.string(), '')),
  /** Who decides on published ports where no rule does: they are admitted (absent), or not (`policy`). */
  published: z.exactOptional(z.literal('policy')),
  /** Prefix of the interface's name in the container. */
  interfacePrefix: z.exactOptional(z.string()),
});

export type NetworkOptions = z.infer<typeof networkOptions>;

/** One subnet of a network. */
const networkSubnet = z.looseObject({
  family,
  /** As Docker has it; `0.0.0.0/0` for a network of all enabled pools. */
  cidr,
  gateway: z.exactOptional(address),
  auxiliary: z.exactOptional(z.record(z.string(), address)),
  /** The PoolID, where our IPAM gave the subnet. */
  poolId: z.exactOptional(z.string()),
});

export type NetworkSubnet = z.infer<typeof networkSubnet>;

const dockerNetwork = z.looseObject({
  id: z.string(),
  node: z.string(),
  /** Docker's name of the network; unknown until Docker or `-o name=` has told it. */
  name: z.exactOptional(z.string()),
  /** Who hands out its addresses: our IPAM driver, or Docker. */
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

/** Ids: `<node>/<Docker's ID>`; the node is the group. */
export const dockerNetworkType: EntryType<DockerNetwork> = entryType({
  label: 'Docker network',
  prefix: dockerRoot,
  schema: dockerNetwork,
  segment: hostSegment('/network/'),
  groups: firstPart,
  isObserved: true,
});
