import type { Datastore } from '../../datastore/datastore.ts';

/** Stores of a process that is killed before one of its calls: that call, and all later ones, are not made. */
export class BreakingStores {
  #left: number;

  constructor(calls: number) {
    this.#left = calls;
  }

  of(store: Datastore): Datastore {
    const alive = <T>(act: () => T): T => {
      if (this.#left-- <= 0) throw new Error('killed');
      return act();
    };
    return {
      endpoint: store.endpoint,
      read: async (...args) => alive(() => store.read(...args)),
      pages: (...args) => alive(() => store.pages(...args)),
      commit: async (...args) => alive(() => store.commit(...args)),
      watch: (...args) => store.watch(...args),
      close: () => store.close(),
    };
  }
}
