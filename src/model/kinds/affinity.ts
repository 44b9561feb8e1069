import { z } from 'zod';
import { cidrSegment, entryType, firstPart, hostSegment, type EntryType } from '../entry-type.ts';
import { ipamRoot } from './ipam-config.ts';

const affinity = z.looseObject({
  state: z.exactOptional(z.enum(['confirmed', 'pending', 'pendingDeletion', ''])),
  deleted: z.exactOptional(z.boolean()),
});

/** A host's claim on a block; a missing or empty state is confirmed (data of old releases). */
export type Affinity = z.infer<typeof affinity>;

/** Ids: `<host>/<cidr>`; the host is the group. Source: libcalico-go/lib/backend/model/block_affinity.go. */
function affinityType(family: 'ipv4' | 'ipv6'): EntryType<Affinity> {
  const { write, read } = hostSegment(`/${family}/block/`);
  return entryType({
    label: 'block affinity',
    prefix: `${ipamRoot}host/`,
    schema: affinity,
    segment: {
      write: (id) => {
        const slash = id.indexOf('/');
        // The beginning of the ids of all hosts, or of some.
        if (slash < 0) return id;
        return write(`${id.slice(0, slash)}/${cidrSegment.write(id.slice(slash + 1))}`);
      },
      read: (text) => {
        const id = read(text);
        const slash = id?.indexOf('/') ?? -1;
        const cidr = cidrSegment.read(id?.slice(slash + 1) ?? '');
        return id === undefined || cidr === undefined ? undefined : `${id.slice(0, slash)}/${cidr}`;
      },
    },
    groups: firstPart,
  });
}

export const affinity4Type = affinityType('ipv4');
export const affinity6Type = affinityType('ipv6');
