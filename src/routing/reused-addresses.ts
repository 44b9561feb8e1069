import type { IpAddress } from '../ip/address.ts';
import { addressAt, cidrContains, cidrsOverlap, offsetIn } from '../ip/cidr.ts';
import { heldOf, type BriefBlock } from '../model/briefs.ts';

interface Known {
  readonly block: BriefBlock;
  /** Addresses released since the start and not allocated again: the first one's is the lowest bit. */
  readonly released: bigint;
}

/**
 * Addresses that another node uses after a former owner, on any node, released them. To the kernel the connections of
 * the former owner are established, so that packets of the new one could continue them without policy. Follows from
 * the allocations of the blocks: memory per block, not per address or endpoint.
 */
export class ReusedAddresses {
  readonly #node: string;
  /** Kept when a block is deleted: it is deleted when it is empty, and its addresses may be used again. */
  readonly #known = new Map<string, Known>();
  readonly #reused = new Set<IpAddress>();
  /** Blocks without a value since the last call of `settle`. */
  readonly #gone = new Set<string>();
  /** Blocks that are deleted, with addresses that were released. */
  readonly #deleted = new Set<string>();

  constructor(node: string) {
    this.#node = node;
  }

  /** Sets the current state of a block; `undefined`: deleted, unless another state follows before `settle`. */
  setBlock(id: string, block: BriefBlock | undefined): void {
    if (block === undefined) return void this.#gone.add(id);
    this.#gone.delete(id);
    this.#deleted.delete(id);
    const before = this.#known.get(id) ?? this.#inherited(block);
    if (before === undefined) {
      this.#known.set(id, { block, released: 0n });
      return;
    }
    const released = before.released | (before.block.held & ~block.held);
    const again = released & block.held;
    this.#known.set(id, { block, released: released & ~again });
    for (const ordinal of ordinalsIn(again)) this.#take(block, addressAt(block.cidr, ordinal));
    const borrowed = [...before.block.borrowed, ...block.borrowed].map(({ address }) => address);
    const mayHaveMoved = before.block.host === block.host ? borrowed : heldOf(block);
    for (const address of new Set(mayHaveMoved)) {
      const owner = ownerIn(block, address);
      if (owner !== undefined && owner !== (ownerIn(before.block, address) ?? owner)) {
        this.#take(block, address);
      }
    }
  }

  /** Ends a round of changes: blocks that are gone have released their addresses. */
  settle(): void {
    for (const id of this.#gone) this.#delete(id);
  }

  #delete(id: string): void {
    this.#gone.delete(id);
    const before = this.#known.get(id);
    if (before === undefined) return;
    const block = { ...before.block, held: 0n, borrowed: [] };
    this.#known.set(id, { block, released: before.released | before.block.held });
    this.#deleted.add(id);
  }

  /**
   * Returns what a new block has of deleted ones with other bounds, after a pool was created again with another block
   * size; `undefined`: nothing.
   */
  #inherited(block: BriefBlock): Known | undefined {
    const overlaps = (id: string) => {
      const known = this.#known.get(id);
      return known !== undefined && cidrsOverlap(known.block.cidr, block.cidr);
    };
    // Blocks of one pool do not overlap: one that overlaps a new block is not coming back.
    for (const id of this.#gone) if (overlaps(id)) this.#delete(id);
    let released = 0n;
    for (const id of this.#deleted) {
      const known = this.#known.get(id);
      if (known === undefined || !overlaps(id)) continue;
      for (const ordinal of ordinalsIn(known.released)) {
        const address = addressAt(known.block.cidr, ordinal);
        if (cidrContains(block.cidr, address)) released |= 1n << offsetIn(block.cidr, address);
      }
    }
    if (released === 0n) return undefined;
    return { block: { ...block, held: 0n, borrowed: [] }, released };
  }

  /** The addresses since the last call of `clear`; live. */
  get addresses(): ReadonlySet<IpAddress> {
    return this.#reused;
  }

  clear(): void {
    this.#reused.clear();
  }

  /** Routes to containers of this node are handed over (`dataplane/routes/routes.ts`). */
  #take(block: BriefBlock, address: IpAddress): void {
    if (ownerIn(block, address) !== this.#node) this.#reused.add(address);
  }
}

/** Returns the node that uses an address; `undefined` if none does. */
function ownerIn({ cidr, host, held, borrowed }: BriefBlock, address: IpAddress) {
  if (((held >> offsetIn(cidr, address)) & 1n) === 0n) return undefined;
  return borrowed.find((one) => one.address === address)?.node ?? host;
}

function* ordinalsIn(bits: bigint): Generator<bigint> {
  for (let [left, ordinal] = [bits, 0n]; left > 0n; left >>= 1n, ordinal++) {
    if ((left & 1n) === 1n) yield ordinal;
  }
}
