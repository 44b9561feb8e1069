import type { IpFamily } from '../ip/address.ts';

/**
 * Sets of addresses that rules refer to by name. A member is text in canonical form: a CIDR
 * (`10.65.0.1/32`) for `net`, `<cidr>,<interface>` for `net,interface`, `<cidr>,<protocol>:<port>` with the CIDR of one
 * address (`10.65.0.1/32,tcp:8080`) for `address,port`.
 */
export type AddressSetType = 'net' | 'net,interface' | 'address,port';

export interface AddressSetSpec {
  /** At most 31 characters (kernel limit of ipset names). */
  readonly name: string;
  readonly type: AddressSetType;
  readonly family: IpFamily;
  /** Whether its members count the packets that match them. */
  readonly countsPackets: boolean;
  /** Whether rules add members: their content is then not ours to correct. */
  readonly isFilledByRules?: true;
  /** 1,048,576 if not given; what comes when it is full is not added. */
  readonly maxElements?: number;
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
