import { z } from 'zod';
import { entryType, type EntryType } from '../entry-type.ts';
import { address, cidr } from '../fields.ts';

/** The form of a network's name in Docker. */
const nameForm = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

const definedSubnet = z.looseObject({
  /** `--subnet`. */
  cidr,
  /** `--ip-range` inside the subnet. */
  range: z.exactOptional(cidr),
  gateway: z.exactOptional(address),
  /** `--aux-address`, by name. */
  auxiliary: z.exactOptional(z.record(z.string(), address)),
});

export type DefinedSubnet = z.infer<typeof definedSubnet>;

const networkDefinition = z.looseObject({
  name: z.string().regex(nameForm, 'is not a name of a Docker network'),
  /** Distinguishes it from later definitions of the same name; each host labels its network with it. */
  uid: z.string(),
  createdAt: z.string(),
  /** The hosts remove their networks; the last one removes the definition. New endpoints are rejected. */
  isRemoving: z.exactOptional(z.literal(true)),
  internal: z.boolean(),
  ipv6: z.boolean(),
  /** None of a family: addresses from the IP pools. */
  subnets: z.array(definedSubnet),
  /** `--ipam-opt pool=`: names of IP pools; absent: all enabled ones. */
  ipPools: z.exactOptional(z.array(z.string())),
  /** Encapsulation of the IP pools that are created for its subnets; by default none. */
  vxlanMode: z.exactOptional(z.enum(['Always', 'CrossSubnet', 'Never'])),
  /** `-o`, as the user wrote them. */
  options: z.record(z.string(), z.string()),
  /** `--label`. */
  labels: z.record(z.string(), z.string()),
});

/** A network that the daemon of every host creates in its Docker; its identity is its name, as Docker's IDs differ. */
export type NetworkDefinition = z.infer<typeof networkDefinition>;

/**
 * IDs: Docker's name of the network. Calico has no such kind: the records of calico-cnm are below a prefix that
 * Calico's own tools do not read.
 */
export const networkDefinitionType: EntryType<NetworkDefinition> = entryType({
  label: 'network definition',
  prefix: '/calico/docker/v1/network/',
  schema: networkDefinition,
  isObserved: true,
});
