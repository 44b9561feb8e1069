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

/** In what a set of the kernel's differs from what is wanted, as sentences. */
export interface SetFault {
  /** It is not there. */
  readonly absent: string | undefined;
  /** It is without members that it should have. */
  readonly lacks: string | undefined;
  /** It has, or may have, members that it should not have. */
  readonly exceeds: string | undefined;
}
