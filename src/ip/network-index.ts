import type { IpFamily } from './address.ts';
import { cidrFamily, cidrOf, splitCidr, type Cidr } from './cidr.ts';

/**
 * Networks, found by a network that contains them. Made for few lengths of containing networks, such as those of IP
 * pools: the first search with a length costs a visit to all networks, later ones only what they find.
 */
export class NetworkIndex {
  readonly #networks: Readonly<Record<IpFamily, Set<Cidr>>> = { 4: new Set(), 6: new Set() };
  /** By prefix length that was searched, the networks in each network of that length; longest first. */
  readonly #byLength: Record<IpFamily, ReadonlyMap<number, Map<Cidr, Set<Cidr>>>> = {
    4: new Map(),
    6: new Map(),
  };

  add(network: Cidr): void {
    const family = cidrFamily(network);
    this.#networks[family].add(network);
    for (const [length, index] of this.#byLength[family]) addAt(index, network, length);
  }

  delete(network: Cidr): void {
    const family = cidrFamily(network);
    this.#networks[family].delete(network);
    for (const [length, index] of this.#byLength[family]) {
      const outer = containing(network, length);
      const inside = outer === undefined ? undefined : index.get(outer);
      inside?.delete(network);
      if (outer !== undefined && inside?.size === 0) index.delete(outer);
    }
  }

  /** Returns the networks that `outer` contains, itself included; do not keep the set, because it may change. */
  inside(outer: Cidr): ReadonlySet<Cidr> {
    const family = cidrFamily(outer);
    const length = splitCidr(outer).prefixLength;
    const known = this.#byLength[family].get(length);
    if (known !== undefined) return known.get(outer) ?? none;
    const index = new Map<Cidr, Set<Cidr>>();
    for (const network of this.#networks[family]) addAt(index, network, length);
    this.#byLength[family] = new Map(
      [...this.#byLength[family], [length, index] as const].toSorted(([a], [b]) => b - a),
    );
    return index.get(outer) ?? none;
  }

  /** Yields the networks that contain `inner` and whose length was searched, from the smallest to the largest. */
  *around(inner: Cidr): Generator<Cidr> {
    for (const length of this.#byLength[cidrFamily(inner)].keys()) {
      const outer = containing(inner, length);
      if (outer !== undefined) yield outer;
    }
  }
}

const none: ReadonlySet<Cidr> = new Set();

function addAt(index: Map<Cidr, Set<Cidr>>, network: Cidr, length: number): void {
  const outer = containing(network, length);
  if (outer === undefined) return;
  const inside = index.get(outer) ?? new Set();
  inside.add(network);
  index.set(outer, inside);
}

/** Returns the network of a length that contains another; `undefined` if that one is larger. */
function containing(network: Cidr, length: number): Cidr | undefined {
  const { address, prefixLength } = splitCidr(network);
  return prefixLength < length ? undefined : cidrOf(address, length);
}
