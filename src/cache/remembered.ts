/** Recently created values, by the text they were created from; all are forgotten when there are too many. */
export class Remembered<Value> {
  readonly #max: number;
  #values = new Map<string, Value>();

  constructor(max: number) {
    this.#max = max;
  }

  get(key: string, make: (key: string) => Value): Value {
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    const made = make(key);
    if (this.#values.size >= this.#max) this.#values = new Map();
    this.#values.set(key, made);
    return made;
  }
}
