import { z } from 'zod';

/** The parts of Docker's API answers that we read; API 1.41 (20.10) to 1.56 have them alike. */

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
      /** Whether it is a manager that reaches the leader: nodes are counted by it. */
      isInTouch: (Swarm.Error ?? '') === '' && (Swarm.Nodes ?? 0) > 0,
    },
    isRootless: (SecurityOptions ?? []).some((option) => option.startsWith('name=rootless')),
  }));

/** The engine: another ID is another one. */
export type Engine = z.infer<typeof engineInfo>;

/** `Containers` is filled by inspect only: key `ep-<endpoint>` while a container is being connected. */
export const networkInfo = z.object({
  Id: z.string(),
  Name: z.string(),
  Driver: z.string(),
  IPAM: z.object({
    Driver: z.string().optional(),
    Options: mapOf(z.string()),
    Config: z
      .union([
        z.array(
          z.object({
            Subnet: z.string().optional(),
            IPRange: z.string().optional(),
            Gateway: z.string().optional(),
          }),
        ),
        z.null(),
      ])
      .optional()
      .transform((value) => value ?? []),
  }),
  Containers: mapOf(z.object({ Name: z.string(), EndpointID: z.string() })),
});

export type NetworkInfo = z.infer<typeof networkInfo>;

export const networkList = z.array(networkInfo);

/** Managed plugins. */
export const pluginList = z.array(z.object({ Name: z.string(), Enabled: z.boolean() }));

/** Services of a swarm, with the addresses that stand for all their tasks. */
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
 * The container's own name without the leading slash; `--link` gives it others (`/other/alias`), and while it is
 * being renamed it has two.
 */
export function containerName({ Names }: ContainerInfo): string | undefined {
  return Names.map((name) => name.slice(1)).find((name) => !name.includes('/'));
}

export const containerStart = z.object({
  Name: z.string(),
  State: z.object({ Error: z.string() }),
  HostConfig: z.object({ RestartPolicy: z.object({ Name: z.string() }) }),
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
