import { senderOf } from './sender.ts';

/** Failed attempts of one sender within `windowMs` before it has to wait. */
const maxFailures = 5;
const windowMs = 60_000;
/** Senders that are remembered; the oldest are forgotten. */
const maxSenders = 4096;

interface Failures {
  count: number;
  since: number;
}

/**
 * Limits how often a sender may present a wrong token.
 */
export class GuessLimit {
  readonly #senders = new Map<string, Failures>();

  /** Returns the seconds that a sender has to wait before its next attempt; 0: none. `now` in milliseconds. */
  waitSeconds(address: string, now: number): number {
    const found = this.#senders.get(senderOf(address));
    if (found === undefined || found.count < maxFailures) return 0;
    return Math.max(0, Math.ceil((found.since + windowMs - now) / 1000));
  }

  /** Records a failed attempt. */
  failed(address: string, now: number): void {
    const sender = senderOf(address);
    const found = this.#senders.get(sender);
    const isRecent = found !== undefined && now < found.since + windowMs;
    this.#senders.delete(sender);
    this.#senders.set(sender, {
      count: isRecent ? found.count + 1 : 1,
      since: isRecent ? found.since : now,
    });
    const [oldest] = this.#senders.keys();
    if (this.#senders.size > maxSenders && oldest !== undefined) this.#senders.delete(oldest);
  }
}
