import { z } from 'zod';
import { entryType, plainSegment, type EntryType } from '../entry-type.ts';

/** Keys of IPAM records, in the form that every Calico release reads. */
export const ipamRoot = '/calico/ipam/v2/';

const ipamConfig = z.looseObject({
  strict_affinity: z.exactOptional(z.boolean()),
  auto_allocate_blocks: z.exactOptional(z.boolean()),
  maxBlocksPerHost: z.exactOptional(z.int()),
});

/** `/calico/ipam/v2/config`; an absent key means not strict, automatic allocation, no block limit. */
export type IpamConfig = z.infer<typeof ipamConfig>;

/** Its only id is `config`. Source: libcalico-go/lib/backend/model/ipam_config.go. */
export const ipamConfigType: EntryType<IpamConfig> = entryType({
  label: 'IPAM configuration',
  prefix: ipamRoot,
  schema: ipamConfig,
  segment: plainSegment((text) => text === 'config'),
});
