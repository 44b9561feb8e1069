const windowMs = 10_000;
const maxReplacements = 5;

/**
 * Places of ours in the kernel that somebody else took, by key. They are taken back, but only some times in 10 s from
 * one who takes them again and again: that would be a race without end.
 */
export class ReplaceBackoff {
  readonly #lost = new Set<string>();
  /** When each was taken back of late. */
  readonly #replacedAt = new Map<string, readonly number[]>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** It was ours, and is no more. */
  add(key: string): void {
    this.#lost.add(key);
  }

  /** Whether what stands there now may be replaced. */
  mayReplace(key: string): boolean {
    return this.#lost.has(key) && this.#recent(key).length < maxReplacements;
  }

  /** It is ours again. */
  replaced(key: string): void {
    if (this.#lost.delete(key)) this.#replacedAt.set(key, [...this.#recent(key), this.#now()]);
  }

  /** It is wanted no more. */
  delete(key: string): void {
    this.#lost.delete(key);
    this.#replacedAt.delete(key);
  }

  #recent(key: string): readonly number[] {
    const since = this.#now() - windowMs;
    return (this.#replacedAt.get(key) ?? []).filter((at) => at > since);
  }
}
