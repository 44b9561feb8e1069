/** Protocol Buffers, as far as the listing of etcd needs it. Source: protobuf.dev, "Encoding". */

const [varint, fixed64, lengthDelimited, fixed32] = [0, 1, 2, 5];

/** Reads the fields of messages one by one; `next` skips what was not read of the field before. */
export class MessageReader {
  readonly #bytes: Buffer;
  #at: number;
  #end: number;
  #wireType = varint;
  #isRead = true;
  /** Where the bytes last passed by `pass` begin and end. */
  start = 0;
  end = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#at = 0;
    this.#end = bytes.length;
  }

  /** Reads the message at another place of the bytes: one reader serves many messages. */
  enter(start: number, end: number): void {
    this.#at = start;
    this.#end = end;
    this.#isRead = true;
  }

  /** Returns the number of the next field; `undefined` at the end. Throws a `RangeError` if the message is damaged. */
  next(): number | undefined {
    if (!this.#isRead) this.#skip();
    if (this.#at >= this.#end) return undefined;
    const tag = this.#small();
    this.#wireType = tag & 7;
    this.#isRead = false;
    return tag >>> 3;
  }

  /** Passes the bytes of a text, of bytes or of an embedded message: they are from `start` to before `end`. */
  pass(): void {
    this.#expect(lengthDelimited);
    const length = this.#small();
    this.start = this.#at;
    this.#advance(length);
    this.end = this.#at;
  }

  /** Returns a number of type `int64`. */
  int64(): bigint {
    return BigInt.asIntN(64, this.#varint());
  }

  /** Returns a number of type `uint64`. */
  uint64(): bigint {
    return BigInt.asUintN(64, this.#varint());
  }

  #varint(): bigint {
    this.#expect(varint);
    let value = 0;
    // Seven numbers of seven bits are exact.
    for (let scale = 1; scale < 2 ** 49; scale *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * scale;
      if (byte < 128) return BigInt(value);
    }
    let large = BigInt(value);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      large += BigInt(byte & 127) << shift;
      if (byte < 128) return large;
    }
    throw new RangeError('a number is too long');
  }

  /** A tag or a length: less than 2^32. */
  #small(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 35; scale *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new RangeError('a length is too long');
  }

  #byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined || this.#at >= this.#end)
      throw new RangeError('the message is truncated');
    this.#at++;
    return byte;
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) throw new RangeError(`wire type ${this.#wireType}`);
    this.#isRead = true;
  }

  #skip(): void {
    switch (this.#wireType) {
      case varint:
        this.#varint();
        break;
      case fixed64:
        this.#advance(8);
        break;
      case lengthDelimited:
        this.pass();
        break;
      case fixed32:
        this.#advance(4);
        break;
      default:
        throw new RangeError(`wire type ${this.#wireType}`);
    }
    this.#isRead = true;
  }

  #advance(length: number): void {
    if (length > this.#end - this.#at) throw new RangeError('the message is truncated');
    this.#at += length;
  }
}

/** Returns a field with bytes. */
export function bytesField(field: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([
    varintOf(BigInt((field << 3) | lengthDelimited)),
    varintOf(BigInt(bytes.length)),
    bytes,
  ]);
}

/** Returns a field with a number of type `int64` that is not negative. */
export function int64Field(field: number, value: bigint): Buffer {
  return Buffer.concat([varintOf(BigInt((field << 3) | varint)), varintOf(value)]);
}

function varintOf(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let left = value; ; left >>= 7n) {
    if (left < 128n) return Buffer.from([...bytes, Number(left)]);
    bytes.push(Number(left & 127n) | 128);
  }
}
