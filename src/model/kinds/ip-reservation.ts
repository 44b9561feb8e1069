import { z } from 'zod';
import { net, resource } from '../fields.ts';
import { nameColumn, resourceType, type ResourceType } from '../resource-type.ts';

const ipReservation = resource(
  'IPReservation',
  z.looseObject({ reservedCIDRs: z.exactOptional(z.array(net)) }),
);

/** Addresses that IPAM never allocates automatically; an explicit request may still get them. */
export type IpReservation = z.infer<typeof ipReservation>;

/**
 * The IPReservation of the prefixes behind the containers of all hosts: no address of a prefix is allocated. Every claim
 * writes it, so one of two concurrent claims conflicts and is checked again.
 */
export const prefixReservation = 'docker-prefixes';

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
