import { z } from 'zod';

/** `/calico/ipam/v2/config`; an absent key means not strict, automatic allocation, no block limit. */
export const ipamConfig = z.looseObject({
  strict_affinity: z.exactOptional(z.boolean()),
  auto_allocate_blocks: z.exactOptional(z.boolean()),
  maxBlocksPerHost: z.exactOptional(z.int()),
});

export type IpamConfig = z.infer<typeof ipamConfig>;
