const [quote, comma, colon] = [0x22, 0x2c, 0x3a];
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];
const [backslash, minus, plus, dot, zero, nine] = [0x5c, 0x2d, 0x2b, 0x2e, 0x30, 0x39];
const [lowerE, upperE, lowerU] = [0x65, 0x45, 0x75];
/** `"\/bfnrt` */
const escapes: ReadonlySet<number> = new Set([0x22, 0x5c, 0x2f, 0x62, 0x66, 0x6e, 0x72, 0x74]);
const literals = ['true', 'false', 'null'].map((word) => Buffer.from(word));
const maxDepth = 50;
/** A power of two. */
const maxWords = 8192;

/**
 * Reads compact JSON from its bytes, token after token, without making a text or an object of what is not wanted. What it
 * does not read (white space, escapes in a wanted text, damage) makes it `isUnusual`: then everything that it
 * returned is void, and another decoder has to read the whole.
 *
 * An object is read by `enterObject` and `nextField`, an array by `enterArray` and `nextElement`: while they return true,
 * `start` and `end` are the place of the field's name, and exactly one value must be read.
 */
export class JsonScanner {
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;
  /** By hash. */
  readonly #words: (string | undefined)[] = Array.from({ length: maxWords });
  /** The place of the last text, without its quotes. */
  start = 0;
  end = 0;
  /** A hash of the last text. */
  hash = 0;
  isUnusual = false;

  /** Begins to read bytes from a place to before another. */
  begin(bytes: Buffer, start: number, end: number): void {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.isUnusual = false;
  }

  /** The place of the next value. */
  get at(): number {
    return this.#at;
  }

  /** Nothing may follow. */
  finish(): void {
    if (this.#at !== this.#end) this.isUnusual = true;
  }

  /** Returns whether there is a field. */
  enterObject(): boolean {
    this.#take(openBrace);
    if (this.#peek() !== closeBrace) return this.#name();
    this.#at++;
    return false;
  }

  nextField(): boolean {
    if (this.#isAtNext(closeBrace)) return this.#name();
    return false;
  }

  /** Returns whether there is an element. */
  enterArray(): boolean {
    this.#take(openBracket);
    if (this.#peek() !== closeBracket) return !this.isUnusual;
    this.#at++;
    return false;
  }

  nextElement(): boolean {
    return this.#isAtNext(closeBracket);
  }

  /** Reads a text without escapes, of ASCII; returns whether it is one. */
  text(): boolean {
    this.#take(quote);
    const bytes = this.#bytes;
    let at = this.#at;
    let hash = 0;
    for (; at < this.#end; at++) {
      const byte = bytes[at] ?? 0;
      if (byte === quote) break;
      hash = (Math.imul(hash, 31) + byte) | 0;
      if (byte < 0x20 || byte > 0x7e || byte === backslash) {
        this.isUnusual = true;
        return false;
      }
    }
    this.start = this.#at;
    this.end = at;
    this.hash = hash;
    this.#at = at;
    this.#take(quote);
    return !this.isUnusual;
  }

  /** Passes a text of any form. */
  skipText(): void {
    this.#take(quote);
    const bytes = this.#bytes;
    for (; this.#at < this.#end; this.#at++) {
      const byte = bytes[this.#at] ?? 0;
      if (byte === quote) break;
      if (byte < 0x20) this.isUnusual = true;
      if (byte === backslash) this.#skipEscape();
      if (this.isUnusual) return;
    }
    this.#take(quote);
  }

  /** Passes a value of any form, unless it is deeper than any that is written. */
  skip(depth = 0): void {
    const byte = this.#peek();
    if (depth > maxDepth) this.isUnusual = true;
    else if (byte === quote) this.skipText();
    else if (byte === openBrace) {
      for (let more = this.enterObject(); more; more = this.nextField()) this.skip(depth + 1);
    } else if (byte === openBracket) {
      for (let more = this.enterArray(); more; more = this.nextElement()) this.skip(depth + 1);
    } else if (byte === minus || isDigit(byte)) this.#skipNumber();
    else this.#skipLiteral();
  }

  /** Returns the last text; those that are read often are one object, and cost no new one. */
  word(): string {
    const place = this.hash & (maxWords - 1);
    const known = this.#words[place];
    if (known !== undefined && this.#isLast(known)) return known;
    const word = this.#bytes.toString('latin1', this.start, this.end);
    this.#words[place] = word;
    return word;
  }

  /** Returns the last text as a new one: it will hardly be read again. */
  unique(): string {
    return this.#bytes.toString('latin1', this.start, this.end);
  }

  #isLast(word: string): boolean {
    const { start } = this;
    if (this.end - start !== word.length) return false;
    for (let at = 0; at < word.length; at++) {
      if (this.#bytes[start + at] !== word.charCodeAt(at)) return false;
    }
    return true;
  }

  #name(): boolean {
    if (!this.text()) return false;
    this.#take(colon);
    return !this.isUnusual;
  }

  /** Passes a comma, or the end of an object or an array; returns whether it was a comma. */
  #isAtNext(close: number): boolean {
    const byte = this.#peek();
    if (byte !== comma && byte !== close) this.isUnusual = true;
    this.#at++;
    return byte === comma && !this.isUnusual;
  }

  /** Returns 0 at the end: no token begins with it. */
  #peek(): number {
    return this.#at < this.#end ? (this.#bytes[this.#at] ?? 0) : 0;
  }

  #take(byte: number): void {
    if (this.#peek() === byte) this.#at++;
    else this.isUnusual = true;
  }

  /** The byte after the escape is the next. */
  #skipEscape(): void {
    this.#at++;
    const byte = this.#peek();
    if (byte !== lowerU) {
      if (!escapes.has(byte)) this.isUnusual = true;
      return;
    }
    for (let digit = 0; digit < 4; digit++) {
      this.#at++;
      if (!isHexDigit(this.#peek())) this.isUnusual = true;
    }
  }

  #skipNumber(): void {
    if (this.#peek() === minus) this.#at++;
    if (this.#peek() === zero) this.#at++;
    else this.#skipDigits();
    if (this.#peek() === dot) {
      this.#at++;
      this.#skipDigits();
    }
    const exponent = this.#peek();
    if (exponent !== lowerE && exponent !== upperE) return;
    this.#at++;
    const sign = this.#peek();
    if (sign === minus || sign === plus) this.#at++;
    this.#skipDigits();
  }

  /** At least one. */
  #skipDigits(): void {
    const from = this.#at;
    while (isDigit(this.#peek())) this.#at++;
    if (this.#at === from) this.isUnusual = true;
  }

  #skipLiteral(): void {
    for (const literal of literals) {
      const end = this.#at + literal.length;
      if (end > this.#end || this.#bytes.compare(literal, 0, literal.length, this.#at, end) !== 0) {
        continue;
      }
      this.#at = end;
      return;
    }
    this.isUnusual = true;
  }
}

function isDigit(byte: number): boolean {
  return byte >= zero && byte <= nine;
}

function isHexDigit(byte: number): boolean {
  const lower = byte | 0x20;
  return isDigit(byte) || (lower >= 0x61 && lower <= 0x66);
}
