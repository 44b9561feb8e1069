import assert from 'node:assert/strict';
import { loadLibc } from '../dataplane/netlink/libc.ts';

const unixFamily = 1;
const datagramWithoutWaiting = 2 | 0o4000;
const dontWait = 0x40;

/** The service manager's end, as in systemd: a Unix datagram socket at a path, or at an abstract name after `@`. */
export class NotifySocket {
  readonly #libc = loadLibc();
  readonly #fd = this.#libc.socket(unixFamily, datagramWithoutWaiting, 0);

  constructor(name: string) {
    const path = Buffer.from(name.startsWith('@') ? `\0${name.slice(1)}` : `${name}\0`);
    const address = Buffer.concat([Buffer.from([unixFamily, 0]), path]);
    assert.equal(this.#libc.bind(this.#fd, address, address.length), 0);
  }

  /** Returns the messages since the last call. */
  heard(): readonly string[] {
    const buffer = Buffer.alloc(256);
    const messages: string[] = [];
    for (;;) {
      const length = this.#libc.recv(this.#fd, buffer, buffer.length, dontWait);
      if (length < 0) return messages;
      messages.push(buffer.toString('utf8', 0, length));
    }
  }

  [Symbol.dispose](): void {
    this.#libc.close(this.#fd);
  }
}
