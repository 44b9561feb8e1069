/**
 * A place in a tree of texts: the value of a sequence of texts is found step by step, without putting a key together of
 * them, which would be garbage at once. A sequence without a value takes no memory once it was cleared.
 */
export class TextPath<Value> {
  value: Value | undefined;
  readonly #text: string;
  readonly #before: TextPath<Value> | undefined;
  #next: Map<string, TextPath<Value>> | undefined;

  /** Without arguments: the empty sequence. */
  constructor(text = '', before?: TextPath<Value>) {
    this.#text = text;
    this.#before = before;
  }

  /** Returns the place one text further. */
  to(text: string): TextPath<Value> {
    this.#next ??= new Map();
    const known = this.#next.get(text);
    if (known !== undefined) return known;
    const next = new TextPath<Value>(text, this);
    this.#next.set(text, next);
    return next;
  }

  /** Removes the value, and the steps to it that lead to no other. */
  clear(): void {
    this.value = undefined;
    this.#leaveIfEmpty();
  }

  /** Reports whether there is neither a value here nor a step. */
  get isEmpty(): boolean {
    return this.value === undefined && this.#next === undefined;
  }

  #leaveIfEmpty(): void {
    const before = this.#before;
    if (before === undefined || !this.isEmpty) return;
    before.#next?.delete(this.#text);
    if (before.#next?.size === 0) before.#next = undefined;
    before.#leaveIfEmpty();
  }
}
