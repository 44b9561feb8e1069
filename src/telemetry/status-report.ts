import { z } from 'zod';

/** What `calico-cnm status` shows: made by the daemon, sent as JSON over its control socket, read by the CLI. */

/** One thing that is well or is not; `remedy` says what to do about it. */
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
      /** As Docker has them. */
      subnets: z.array(z.string()),
      /** Where the addresses come from, for people: a subnet, or pools. */
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
      addresses: z.array(z.string()),
      profiles: z.array(z.string()),
      interface: z.string(),
      /** `ready`, or what is missing. */
      state: z.string(),
    }),
  ),
  pools: z.array(
    z.object({
      name: z.string(),
      cidr: z.string(),
      /** Decimal texts: an IPv6 pool has more addresses than a number holds. */
      free: z.string(),
      total: z.string(),
    }),
  ),
  /** Of no container: `(none)`. */
  drops: z.array(
    z.object({ container: z.string(), rule: z.string(), packets: z.int(), bytes: z.int() }),
  ),
  lastError: z.object({ at: z.string(), what: z.string(), remedy: z.string() }).optional(),
});

export type StatusReport = z.infer<typeof statusReport>;

/** Whether all is well. */
export function isHealthy({ checks }: StatusReport): boolean {
  return checks.every(({ ok }) => ok);
}
