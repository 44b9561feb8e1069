/**
 * Runs tasks of one key one after the other, in the order of their calls; tasks of different keys run concurrently.
 * Guarantees that the second of two concurrent calls sees the result of the first.
 */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs the task when all earlier ones of the key have settled; returns its result. */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#tails.set(key, done);
    await before;
    try {
      return await task();
    } finally {
      if (this.#tails.get(key) === done) this.#tails.delete(key);
      resolve();
    }
  }
}
