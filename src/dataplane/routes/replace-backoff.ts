const windowMs = 10_000;
const maxReplacements = 5;

/**
 * Limits how often a route that another program replaced is written again, by key: at most 5 times in 10 s, because
 * two programs that replace each other's route would never stop.
 */
export class ReplaceBackoff {
  readonly #lost = new Set<string>();
  /** When each was written again recently. */
  readonly #replacedAt = new Map<string, readonly number[]>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Records that our route was replaced or removed. */
  add(key: string): void {
    this.#lost.add(key);
  }

  /** Reports whether the present route may be replaced. */
  mayReplace(key: string): boolean {
    return this.#lost.has(key) && this.#recent(key).length < maxReplacements;
  }

  /** Records that our route was written again. */
  replaced(key: string): void {
    if (this.#lost.delete(key)) this.#replacedAt.set(key, [...this.#recent(key), this.#now()]);
  }

  /** Forgets a key that is not desired any longer. */
  delete(key: string): void {
    this.#lost.delete(key);
    this.#replacedAt.delete(key);
  }

  #recent(key: string): readonly number[] {
    const since = this.#now() - windowMs;
    return (this.#replacedAt.get(key) ?? []).filter((at) => at > since);
  }
}
