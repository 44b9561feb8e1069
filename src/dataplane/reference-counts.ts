/**
 * Things that several owners may use at once, such as a set member shared by two IP pools: each is desired from its
 * first owner until its last owner releases it.
 */
export class ReferenceCounts<Thing> {
  readonly #keyOf: (thing: Thing) => string;
  readonly #output: {
    readonly setDesired: (thing: Thing) => void;
    readonly deleteDesired: (thing: Thing) => void;
  };
  readonly #byOwner = new Map<string, ReadonlyMap<string, Thing>>();
  readonly #owners = new Map<string, number>();

  /** Things with the same key are one thing. */
  constructor(
    keyOf: (thing: Thing) => string,
    output: {
      readonly setDesired: (thing: Thing) => void;
      readonly deleteDesired: (thing: Thing) => void;
    },
  ) {
    this.#keyOf = keyOf;
    this.#output = output;
  }

  /** Replaces the things of an owner. New things are added before old ones are deleted. */
  set(owner: string, things: readonly Thing[]): void {
    const before = this.#byOwner.get(owner) ?? new Map<string, Thing>();
    const now = new Map(things.map((thing) => [this.#keyOf(thing), thing]));
    if (now.size > 0) this.#byOwner.set(owner, now);
    else this.#byOwner.delete(owner);
    for (const [key, thing] of now) {
      if (before.has(key)) continue;
      const owners = this.#owners.get(key) ?? 0;
      this.#owners.set(key, owners + 1);
      if (owners === 0) this.#output.setDesired(thing);
    }
    for (const [key, thing] of before) {
      if (now.has(key)) continue;
      const owners = this.#owners.get(key) ?? 0;
      if (owners > 1) {
        this.#owners.set(key, owners - 1);
      } else {
        this.#owners.delete(key);
        this.#output.deleteDesired(thing);
      }
    }
  }
}
