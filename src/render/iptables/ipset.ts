import type { AddressSetSpec } from '../../ruleset/address-set.ts';

/**
 * Kernel sets that iptables rules match and count in: those of the ruleset, and those whose members are an address
 * with an interface (`10.65.0.1/32,cali1`).
 */
export interface IpsetSpec extends Omit<AddressSetSpec, 'type'> {
  /** At most 31 characters. */
  readonly name: string;
  readonly type: AddressSetSpec['type'] | 'net,interface';
  /** Whether its members count the packets that match them. */
  readonly countsPackets?: boolean;
  /** Whether rules add members: their content is not corrected then. */
  readonly isFilledByRules?: true;
  /** 1,048,576 if not given; members beyond that are not added. */
  readonly maxElements?: number;
}
