import { z } from 'zod';
import { entryType, firstPart, hostSegment, type EntryType } from '../entry-type.ts';
import { address, cidr } from '../fields.ts';
import { dockerRoot } from './docker-network.ts';

const family = z.union([z.literal(4), z.literal(6)]);

const dockerPool = z.looseObject({
  poolId: z.string(),
  node: z.string(),
  family,
  /** `--subnet`; absent: any address of the IP pools below. */
  subnet: z.exactOptional(cidr),
  /** `--ip-range` inside the subnet. */
  range: z.exactOptional(cidr),
  /** Names of IP pools (`--ipam-opt pool=`); absent: all enabled ones. */
  ipPools: z.exactOptional(z.array(z.string())),
  /** The ranges of these pools when they were named: if one was split, its parts replace it. */
  ipPoolCidrs: z.exactOptional(z.record(z.string(), cidr)),
  /** The IP pool that this request created or uses, if it has a subnet. */
  ipPool: z.exactOptional(z.string()),
  nextHop: z.exactOptional(address),
  /** Set if Swarm's manager requested it, for the tasks of all hosts. */
  swarm: z.exactOptional(
    z.looseObject({
      /** The network's ID, once the manager has sent it. */
      network: z.exactOptional(z.string()),
      /**
       * Rises with each new leader of the managers: the pools of a network with the highest one are those in force. Each
       * host writes its own records only.
       */
      term: z.exactOptional(z.int()),
      /** This manager has requested another pool for the network, or an earlier release saw another leader. */
      isReplaced: z.exactOptional(z.boolean()),
    }),
  ),
  createdAt: z.string(),
});

/** A pool that Docker requested from calico-ipam; its PoolID contains the same facts, so it can be recreated. */
export type DockerPool = z.infer<typeof dockerPool>;

/** Ids: `<node>/<id>`; the node is the group. */
export const dockerPoolType: EntryType<DockerPool> = entryType({
  label: 'Docker pool',
  prefix: dockerRoot,
  schema: dockerPool,
  segment: hostSegment('/pool/'),
  groups: firstPart,
  isObserved: true,
});
