import type { EntryChange } from '../cache/mirror.ts';
import { configurationsOf, type FelixConfiguration } from '../model/kinds/felix-configuration.ts';

/** The FelixConfigurations of one node, as a manager hears of them. */
export class FelixConfigurations {
  readonly #names: ReturnType<typeof configurationsOf>;
  readonly #stored = new Map<string, FelixConfiguration>();

  constructor(node: string) {
    this.#names = configurationsOf(node);
  }

  /** Takes a change; reports whether it concerns the node. */
  take({ id, now }: EntryChange<'FelixConfiguration'>): boolean {
    if (!this.#names.includes(id)) return false;
    if (now === undefined) this.#stored.delete(id);
    else this.#stored.set(id, now.value);
    return true;
  }

  /** The stronger one first, as `tunnelSettings` and `failsafesOf` expect them. */
  get both(): readonly [
    ofNode: FelixConfiguration | undefined,
    ofAll: FelixConfiguration | undefined,
  ] {
    const [ofNode, ofAll] = this.#names;
    return [this.#stored.get(ofNode), this.#stored.get(ofAll)];
  }
}
