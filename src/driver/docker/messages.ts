import { z } from 'zod';

/** The fields of Docker's API responses that are read here; the same in API 1.41 (20.10) to 1.56. */

/** Go's null for an empty map. */
function mapOf<S extends z.ZodType>(schema: S) {
  return z
    .union([z.record(z.string(), schema), z.null()])
    .optional()
    .transform((value) => value ?? {});
}

export const engineInfo = z
  .object({
    ID: z.string(),
    SecurityOptions: z.union([z.array(z.string()), z.null()]).optional(),
    Swarm: z
      .object({ ControlAvailable: z.boolean(), Error: z.string(), Nodes: z.int() })
      .partial()
      .optional(),
  })
  .transform(({ ID, SecurityOptions, Swarm = {} }) => ({
    id: ID,
    swarm: {
      isManager: Swarm.ControlAvailable === true,
      /** Whether it is a manager that reaches the leader: only such a manager counts the nodes. */
      isInTouch: (Swarm.Error ?? '') === '' && (Swarm.Nodes ?? 0) > 0,
    },
    isRootless: (SecurityOptions ?? []).some((option) => option.startsWith('name=rootless')),
  }));

/** Identifies the engine: another ID is another engine. */
export type Engine = z.infer<typeof engineInfo>;

const ipamConfig = z.object({
  Subnet: z.string().optional(),
  IPRange: z.string().optional(),
  Gateway: z.string().optional(),
});

/** The IPAM part of a network; a missing list of subnets is empty. */
function ipamOf<Config extends typeof ipamConfig>(config: Config) {
  return z.object({
    Driver: z.string().optional(),
    Options: mapOf(z.string()),
    Config: z
      .union([z.array(config), z.null()])
      .optional()
      .transform((value) => value ?? []),
  });
}

/** Only inspect fills `Containers`: key `ep-<endpoint>` while a container is being connected. */
export const networkInfo = z.object({
  Id: z.string(),
  Name: z.string(),
  Driver: z.string(),
  /** `local`: of this host; `swarm`: of all hosts of a Swarm, whether they run a task of it or not. */
  Scope: z.string().optional(),
  IPAM: ipamOf(ipamConfig),
  Containers: mapOf(z.object({ Name: z.string(), EndpointID: z.string() })),
});

export type NetworkInfo = z.infer<typeof networkInfo>;

export const networkList = z.array(networkInfo);

/** A network with everything that was given when it was created. */
const networkDetails = z.object({
  Id: z.string(),
  Name: z.string(),
  /** RFC 3339, with nanoseconds. */
  Created: z.string(),
  Driver: z.string(),
  Internal: z.boolean(),
  EnableIPv6: z.boolean(),
  IPAM: ipamOf(ipamConfig.extend({ AuxiliaryAddresses: mapOf(z.string()) })),
  Options: mapOf(z.string()),
  Labels: mapOf(z.string()),
});

export type NetworkDetails = z.infer<typeof networkDetails>;

export const networkDetailsList = z.array(networkDetails);

/** Managed plugins. */
export const pluginList = z.array(
  z.object({
    Name: z.string(),
    Enabled: z.boolean(),
    Config: z.object({ Description: z.string().optional() }).optional(),
  }),
);

/** Services of a swarm, with their virtual addresses. */
export const serviceList = z.array(
  z.object({
    Spec: z.object({ Name: z.string() }),
    Endpoint: z
      .object({
        VirtualIPs: z
          .union([
            z.array(
              z
                .object({ NetworkID: z.string(), Addr: z.string().optional() })
                .transform(({ NetworkID, Addr }) => ({ NetworkID, Addr: Addr ?? '' })),
            ),
            z.null(),
          ])
          .optional()
          .transform((value) => value ?? []),
      })
      .optional()
      .transform((value) => value ?? { VirtualIPs: [] }),
  }),
);

export type ServiceInfo = z.infer<typeof serviceList>[number];

export const containerList = z.array(
  z.object({
    Id: z.string(),
    Names: z.array(z.string()),
    State: z.string().optional(),
    Labels: mapOf(z.string()),
    NetworkSettings: z
      .object({ Networks: mapOf(z.object({ EndpointID: z.string().optional() })) })
      .optional(),
  }),
);

export type ContainerInfo = z.infer<typeof containerList>[number];

/**
 * Returns the container's own name without the leading slash; `--link` adds others (`/other/alias`), and during a
 * rename it has two.
 */
export function containerName({ Names }: ContainerInfo): string | undefined {
  return Names.map((name) => name.slice(1)).find((name) => !name.includes('/'));
}

export const containerStart = z.object({
  Name: z.string(),
  State: z.object({ Error: z.string() }),
  HostConfig: z.object({ RestartPolicy: z.object({ Name: z.string() }) }),
});

/** A container's names on its networks. Docker 25 and later list all of them in `DNSNames`. */
export const containerNames = z.object({
  NetworkSettings: z.object({
    Networks: mapOf(
      z.object({
        EndpointID: z.string().optional(),
        Aliases: z.union([z.array(z.string()), z.null()]).optional(),
        DNSNames: z.union([z.array(z.string()), z.null()]).optional(),
      }),
    ),
  }),
});

export const event = z.object({
  Type: z.string().optional(),
  Action: z.string().optional(),
  Actor: z
    .object({ ID: z.string().optional(), Attributes: mapOf(z.string()) })
    .optional()
    .transform((value) => value ?? { ID: undefined, Attributes: {} }),
});

export type DockerEvent = z.infer<typeof event>;
