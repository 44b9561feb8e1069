import { orAborted } from './deadline.ts';

interface Waiter {
  readonly isMet: () => boolean;
  readonly resolve: () => void;
}

/** Callers that wait for a condition. */
export class Waiters {
  #waiting: readonly Waiter[] = [];

  /** Resolves when the condition is met; rejects with the signal's reason. */
  async until(isMet: () => boolean, signal: AbortSignal): Promise<void> {
    if (isMet()) return;
    const met = new Promise<void>((resolve) => {
      this.#waiting = [...this.#waiting, { isMet, resolve }];
    });
    await orAborted(met, signal);
  }

  /** Call when a condition may have been met. */
  settle(): void {
    const met = this.#waiting.filter(({ isMet }) => isMet());
    this.#waiting = this.#waiting.filter((waiter) => !met.includes(waiter));
    for (const { resolve } of met) resolve();
  }
}
