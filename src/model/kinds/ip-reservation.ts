import { z } from 'zod';
import { net, resource } from '../fields.ts';

/** Addresses that IPAM never hands out of its own accord; an explicit request may still have them. */
export const ipReservation = resource(
  'IPReservation',
  z.looseObject({ reservedCIDRs: z.exactOptional(z.array(net)) }),
);

export type IpReservation = z.infer<typeof ipReservation>;
