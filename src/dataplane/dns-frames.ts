/** Messages of DNS over TCP: each follows its length, two bytes. Source: RFC 1035, 4.2.2. */

const lengthBytes = 2;

/** Returns a message with its length. */
export function frame(message: Buffer): Buffer {
  const bytes = Buffer.alloc(lengthBytes + message.length);
  bytes.writeUInt16BE(message.length, 0);
  message.copy(bytes, lengthBytes);
  return bytes;
}

/** Collects the messages of a connection from its parts. */
export class DnsFrames {
  #rest: Buffer = Buffer.alloc(0);

  /** Takes the next part; returns the messages that are complete now. */
  push(part: Buffer): readonly Buffer[] {
    let rest = this.#rest.length === 0 ? part : Buffer.concat([this.#rest, part]);
    const messages: Buffer[] = [];
    while (rest.length >= lengthBytes) {
      const end = lengthBytes + rest.readUInt16BE(0);
      if (rest.length < end) break;
      messages.push(rest.subarray(lengthBytes, end));
      rest = rest.subarray(end);
    }
    this.#rest = rest;
    return messages;
  }
}
