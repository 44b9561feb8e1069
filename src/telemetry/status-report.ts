import { z } from 'zod';

/** Report of `calico-cnm status`: the daemon sends it as JSON over its control socket. */

/** One check; `remedy` is the instruction to fix a failed one. */
const check = z.object({
  name: z.string(),
  ok: z.boolean(),
  detail: z.string(),
  remedy: z.string().optional(),
});

export type Check = z.infer<typeof check>;

export const statusReport = z.object({
  version: z.string(),
  node: z.string(),
  /** RFC 3339. */
  startedAt: z.string(),
  checks: z.array(check),
  networks: z.array(
    z.object({
      name: z.string(),
      id: z.string(),
      /** Subnets of the network in Docker. */
      subnets: z.array(z.string()),
      /** Source of the addresses, for display: a subnet or IP pools. */
      ranges: z.array(z.string()),
      nextHops: z.array(z.string()),
      profiles: z.array(z.string()),
      endpoints: z.int(),
    }),
  ),
  endpoints: z.array(
    z.object({
      container: z.string(),
      network: z.string(),
      namespace: z.string().default(''),
      addresses: z.array(z.string()),
      profiles: z.array(z.string()),
      interface: z.string(),
      /** `ready`, or the reason why it is not. */
      state: z.string(),
    }),
  ),
  pools: z.array(
    z.object({
      name: z.string(),
      cidr: z.string(),
      /** Decimal strings, because an IPv6 pool has more addresses than a number can represent. */
      free: z.string(),
      total: z.string(),
    }),
  ),
  drops: z.array(
    z.object({
      /** `HostEndpoint NAME` for packets of the host; `-`: of none. */
      container: z.string(),
      rule: z.string(),
      packets: z.int(),
      /** Missing if only packets are counted. */
      bytes: z.int().optional(),
    }),
  ),
  /** Nodes with the IP pools whose addresses on them are reached by routes that routers announce in BGP. */
  reachedByBgp: z.array(z.object({ node: z.string(), pool: z.string() })).default([]),
  lastError: z.object({ at: z.string(), what: z.string(), remedy: z.string() }).optional(),
});

export type StatusReport = z.infer<typeof statusReport>;

/** Reports whether all checks pass. */
export function isHealthy({ checks }: StatusReport): boolean {
  return checks.every(({ ok }) => ok);
}
