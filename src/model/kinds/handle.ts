import { z } from 'zod';
import { entryType, type EntryType } from '../entry-type.ts';
import { mapOf } from '../nulls.ts';
import { ipamRoot } from './ipam-config.ts';

const handle = z.looseObject({
  block: z.exactOptional(mapOf(z.string(), z.int(), 0)),
  deleted: z.exactOptional(z.boolean()),
});

/** Reverse index: the number of addresses per block (`10.65.0.0/26`) of a handle. */
export type Handle = z.infer<typeof handle>;

/** Source: libcalico-go/lib/backend/model/ipam_handle.go. */
export const handleType: EntryType<Handle> = entryType({
  label: 'IPAM handle',
  prefix: `${ipamRoot}handle/`,
  schema: handle,
});
