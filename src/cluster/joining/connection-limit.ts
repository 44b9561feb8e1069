import type { Socket } from 'node:net';
import { senderOf } from './sender.ts';

/** Limits the open connections of one sender, so that it cannot use up those of all. */
export class ConnectionLimit {
  readonly #most: number;
  readonly #open = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Counts a new connection until it is closed; closes it at once if its sender has as many as it may have. */
  admit(socket: Pick<Socket, 'remoteAddress' | 'destroy' | 'once'>): void {
    const sender = senderOf(socket.remoteAddress ?? '');
    const open = this.#open.get(sender) ?? 0;
    if (open >= this.#most) {
      socket.destroy();
      return;
    }
    this.#open.set(sender, open + 1);
    socket.once('close', () => {
      const rest = (this.#open.get(sender) ?? 1) - 1;
      if (rest > 0) this.#open.set(sender, rest);
      else this.#open.delete(sender);
    });
  }
}
