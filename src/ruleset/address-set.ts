import type { IpFamily } from '../ip/address.ts';

/**
 * Sets of addresses that rules refer to by name. A member is text in canonical form: a CIDR (`10.65.0.1/32`) for
 * `net`, `<cidr>,<protocol>:<port>` with the CIDR of one address (`10.65.0.1/32,tcp:8080`) for `address,port`.
 */
export interface AddressSetSpec {
  readonly name: string;
  readonly type: 'net' | 'address,port';
  readonly family: IpFamily;
}

/** How a kernel set differs from the desired one, as sentences. */
export interface SetFault {
  /** It does not exist. */
  readonly absent: string | undefined;
  /** It lacks desired members. */
  readonly lacks: string | undefined;
  /** It has, or may have, undesired members. */
  readonly exceeds: string | undefined;
}
