import { orAborted } from './deadline.ts';

interface Waiter {
  readonly isMet: () => boolean;
  readonly resolve: () => void;
}

/** Those who wait for something to come true that changes now and then. */
export class Waiters {
  #waiting: readonly Waiter[] = [];

  /** Resolves when the condition is found to hold; rejects with the signal's reason. */
  async until(isMet: () => boolean, signal: AbortSignal): Promise<void> {
    if (isMet()) return;
    const met = new Promise<void>((resolve) => {
      this.#waiting = [...this.#waiting, { isMet, resolve }];
    });
    await orAborted(met, signal);
  }

  /** To be called when something may have come true. */
  settle(): void {
    const met = this.#waiting.filter(({ isMet }) => isMet());
    this.#waiting = this.#waiting.filter((waiter) => !met.includes(waiter));
    for (const { resolve } of met) resolve();
  }
}
