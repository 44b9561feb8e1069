import { z } from 'zod';
import { net, resource } from '../fields.ts';
import { nameColumn, resourceType, type ResourceType } from '../resource-type.ts';

const ipReservation = resource(
  'IPReservation',
  z.looseObject({ reservedCIDRs: z.exactOptional(z.array(net)) }),
);

/** Addresses that IPAM never allocates automatically; an explicit request may still get them. */
export type IpReservation = z.infer<typeof ipReservation>;

export const ipReservationType: ResourceType<IpReservation> = resourceType({
  kind: 'IPReservation',
  plural: 'ipreservations',
  meaning: 'addresses excluded from automatic allocation',
  schema: ipReservation,
  isObserved: true,
  columns: [
    nameColumn,
    { header: 'cidrs', cell: ({ spec }) => (spec.reservedCIDRs ?? []).join(',') },
  ],
});
