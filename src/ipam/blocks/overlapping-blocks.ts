import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import {
  addressAt,
  cidrFamily,
  cidrOf,
  cidrsOverlap,
  parseCidr,
  splitCidr,
  type Cidr,
} from '../../ip/cidr.ts';
import { entryTypeOf } from '../../model/kinds/index.ts';
import type { Block } from '../../model/kinds/block.ts';
import { blockKind } from '../records/records.ts';

/**
 * Blocks of different sizes that share addresses: where a pool was made again with another block size, or two
 * pools overlap. Each of them would give out the same addresses, so a block is claimed only where there is none.
 */

/** Prefix lengths that blocks may have. Source: Calico, libcalico-go/lib/validator/v3. */
const lengths = { 4: { shortest: 20, longest: 32 }, 6: { shortest: 116, longest: 128 } } as const;

/** The blocks that hold an address, the smallest first; more than one only if they overlap. */
export function* blocksHolding(draft: Draft, address: IpAddress): Generator<Block> {
  const { shortest, longest } = lengths[familyOf(address)];
  for (let length = longest; length >= shortest; length--) {
    const block = draft.get(blockKind(familyOf(address)), cidrOf(address, length));
    if (block !== undefined) yield block;
  }
}

/** For networks of one size: the blocks of other sizes that share addresses with one. */
export function blocksOfOtherSizes(
  draft: Draft,
  { family, blockSize }: { readonly family: IpFamily; readonly blockSize: number },
): (network: Cidr) => readonly Block[] {
  const smaller = Map.groupBy(
    [...draft.entries(blockKind(family))]
      .map(([, block]) => block)
      .filter(({ cidr }) => splitCidr(cidr).prefixLength > blockSize),
    ({ cidr }) => cidrOf(splitCidr(cidr).address, blockSize),
  );
  return (network) => {
    const holding = [...blocksHolding(draft, splitCidr(network).address)];
    const larger = holding.filter(({ cidr }) => splitCidr(cidr).prefixLength < blockSize);
    return [...larger, ...(smaller.get(network) ?? [])];
  };
}

/**
 * The error of a block that cannot be read and shares addresses with a network, which therefore nobody may claim;
 * `undefined` if there is none. Looked for once for many networks, as there are few such blocks.
 */
export function unreadableBlocks(
  draft: Draft,
  family: IpFamily,
): (network: Cidr) => CalicoError | undefined {
  const kind = blockKind(family);
  const unreadable = [...draft.unreadable(kind)].flatMap(([id, why]) => {
    const cidr = cidrOrNone(id);
    return cidr === undefined ? [] : [{ cidr, key: entryTypeOf[kind].key(id), why }];
  });
  return (network) => {
    const found = unreadable.find(({ cidr }) => cidrsOverlap(cidr, network));
    return found && new CalicoError('datastore/corrupt', { key: found.key, why: found.why });
  };
}

/** A key of Calico's may hold any text where the network stands. */
function cidrOrNone(text: string): Cidr | undefined {
  try {
    return parseCidr(text);
  } catch {
    return undefined;
  }
}

/** The commit holds only if no block inside this network was made meanwhile. */
export function expectBlocksWithin(draft: Pick<Draft, 'expectNoNew'>, network: Cidr): void {
  const kind = blockKind(cidrFamily(network));
  for (const prefix of idPrefixes(network)) draft.expectNoNew(kind, prefix);
}

/** The commit holds only if no block that shares addresses with this network was made meanwhile. */
export function expectNoOverlap(draft: Pick<Draft, 'expect' | 'expectNoNew'>, network: Cidr): void {
  const family = cidrFamily(network);
  const kind = blockKind(family);
  expectBlocksWithin(draft, network);
  const { address, prefixLength } = splitCidr(network);
  for (let length = lengths[family].shortest; length < prefixLength; length++) {
    const larger = cidrOf(address, length);
    if (!idPrefixes(network).some((prefix) => larger.startsWith(prefix)))
      draft.expect(kind, larger);
  }
}

/**
 * What the ids of all blocks inside a network begin with: its leading octets or hextets as they are written, as many
 * as can be, so that blocks elsewhere may change.
 */
function idPrefixes(network: Cidr): readonly string[] {
  const { address, prefixLength } = splitCidr(network);
  if (cidrFamily(network) === 4) {
    const octets = address.split('.', Math.min(Math.floor(prefixLength / 8), 3));
    return [octets.map((octet) => `${octet}.`).join('')];
  }
  // How many zeros `::` stands for differs from address to address; all of a larger network have only this in common.
  if (prefixLength < 112) return [''];
  const within = cidrOf(address, 112);
  const second = addressAt(within, 1n);
  return [`${splitCidr(within).address}/`, second.slice(0, second.lastIndexOf(':') + 1)];
}
