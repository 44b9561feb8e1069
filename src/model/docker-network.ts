import { z } from 'zod';
import { address, cidr } from './fields.ts';
import { mapOf } from './nulls.ts';

/**
 * What Docker told one host about a network, and about a pool it asked for. Calico has no kind for either, so
 * these records are ours, below `/calico/docker/v1/host/<node>/`; Calico's own tools do not read there.
 */

const family = z.union([z.literal(4), z.literal(6)]);

/** The `-o` keys of `docker network create`, parsed. */
export const networkOptions = z.looseObject({
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

export const dockerNetwork = z.looseObject({
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

/** A pool that Docker asked our IPAM for; its PoolID carries the same facts, so it can be made again. */
export const dockerPool = z.looseObject({
  poolId: z.string(),
  node: z.string(),
  family,
  /** `--subnet`; absent: any address of the IP pools below. */
  subnet: z.exactOptional(cidr),
  /** `--ip-range` inside the subnet. */
  range: z.exactOptional(cidr),
  /** Names of IP pools (`--ipam-opt pool=`); absent: all enabled ones. */
  ipPools: z.exactOptional(z.array(z.string())),
  /** What these were when they were named: if one has been split, its parts go on for it. */
  ipPoolCidrs: z.exactOptional(z.record(z.string(), cidr)),
  /** The IP pool that this request made or uses, where it has a subnet. */
  ipPool: z.exactOptional(z.string()),
  nextHop: z.exactOptional(address),
  /** Where Swarm's manager asked for it, for the tasks of all hosts. */
  swarm: z.exactOptional(
    z.looseObject({
      /** The network's ID, once the manager has told it. */
      network: z.exactOptional(z.string()),
      /** Another manager leads now and has asked for a pool of its own for the network. */
      isReplaced: z.exactOptional(z.boolean()),
    }),
  ),
  createdAt: z.string(),
});

export type DockerPool = z.infer<typeof dockerPool>;
