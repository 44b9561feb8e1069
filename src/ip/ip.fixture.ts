import fc from 'fast-check';
import { addressBits, addressFromNumber, type IpAddress, type IpFamily } from './address.ts';
import { cidrOf, type Cidr } from './cidr.ts';

/** Arbitrary addresses and networks; many bits are zero, as in practice. */

export const anyFamily: fc.Arbitrary<IpFamily> = fc.constantFrom(4, 6);

export function addressesOf(family: IpFamily): fc.Arbitrary<IpAddress> {
  const groups = fc.array(fc.oneof(fc.constant(0), fc.constant(0xffff), fc.nat(0xffff)), {
    minLength: addressBits(family) / 16,
    maxLength: addressBits(family) / 16,
  });
  return groups.map((parts) =>
    addressFromNumber(
      parts.reduce((sum, part) => (sum << 16n) | BigInt(part), 0n),
      family,
    ),
  );
}

export const anyAddress: fc.Arbitrary<IpAddress> = anyFamily.chain(addressesOf);

export function cidrsOf(family: IpFamily): fc.Arbitrary<Cidr> {
  return fc
    .tuple(addressesOf(family), fc.nat(addressBits(family)))
    .map(([address, prefixLength]) => cidrOf(address, prefixLength));
}

export const anyCidr: fc.Arbitrary<Cidr> = anyFamily.chain(cidrsOf);
