import { isCalicoError } from '../../errors/error.ts';
import { align, attributesOf, readText } from './attributes.ts';
import { refused } from './errno.ts';
import type { Libc } from './libc.ts';

/** The header fields of a request. Source: linux/netlink.h. */
export const requestFlags = {
  request: 0x1,
  acknowledge: 0x4,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
} as const;

const afNetlink = 16;
const sockRaw = 3;
const closeOnExec = 0o2000000;
const solSocket = 1;
const receiveTimeout = 20;
const receiveBufferForce = 33;
const solNetlink = 270;
const capAck = 10;
const extendedAck = 11;
const strictCheck = 12;

const messageHeaderBytes = 16;
const typeError = 2;
const typeDone = 3;
const flagDumpInterrupted = 0x10;
const flagAckTlvs = 0x200;
const messageAttribute = 1;
const errnoInterrupted = 4;
/** The error number of a call on another thread is unknown. */
const errnoIo = 5;
/** How often a dump that changes meanwhile is requested. */
const maxDumps = 10;
const answerBytes = 1 << 17;

/** One message of the kernel. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly payload: Buffer;
}

/** A request: its type, flags besides `request` and `acknowledge`, payload, and its purpose as text for errors. */
export interface Request {
  readonly type: number;
  readonly flags?: number;
  readonly payload: Buffer;
  readonly what: string;
}

/** Requests between two messages that begin and end a transaction: the kernel executes all of them, or none. */
export interface Enclosed {
  readonly begin: Request;
  readonly requests: readonly Request[];
  readonly end: Request;
}

/**
 * One netlink socket. The kernel executes a request before `send` returns, so a request and its response are one
 * synchronous step, without tracking of pending requests.
 */
export class NetlinkSocket {
  readonly #libc: Libc;
  readonly fd: number;
  readonly #answer = Buffer.alloc(answerBytes);
  #sequence = 0;
  /** Requests sent since the start. */
  requests = 0;

  private constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.fd = fd;
  }

  /** Opens a socket of the family (0: rtnetlink, 12: netfilter) in the network namespace of the thread. */
  static open(libc: Libc, family: number): NetlinkSocket {
    const fd = libc.socket(afNetlink, sockRaw | closeOnExec, family);
    if (fd < 0) throw refused('open a netlink socket', libc.errno());
    for (const option of [extendedAck, capAck, strictCheck]) setFlag(libc, fd, option);
    libc.setsockopt(fd, solSocket, receiveTimeout, timeval(5), 16);
    libc.setsockopt(fd, solSocket, receiveBufferForce, int(4 << 20), 4);
    if (libc.bind(fd, socketAddress(0), 12) < 0) {
      throw refused('bind a netlink socket', libc.errno());
    }
    return new NetlinkSocket(libc, fd);
  }

  /** Sends a request and reads its acknowledgement; throws `kernel/refused`. */
  request(request: Request): void {
    this.#send(request, requestFlags.acknowledge);
    this.#readAnswers(request);
  }

  /** Sends a request and returns the messages of the response; throws `kernel/refused`. */
  query(request: Request): readonly Message[] {
    this.#send(request, 0);
    return this.#readAnswers(request);
  }

  /**
   * Sends requests between two messages that open and close a transaction; throws `kernel/refused` for the first
   * request that the kernel rejects.
   */
  enclosed({ begin, requests, end }: Enclosed): void {
    const [first, last] = [this.#encode(begin, 0), this.#encode(end, 0)];
    // They are numbered last and in order, because their responses are awaited.
    const encoded = requests.map((one) => this.#encode(one, requestFlags.acknowledge));
    const bytes = Buffer.concat([first, ...encoded, last]);
    const what = requests[0]?.what ?? begin.what;
    if (this.#libc.send(this.fd, bytes, bytes.length, 0) < 0) {
      throw refused(what, this.#libc.errno());
    }
    this.#readAcknowledgements(requests);
  }

  /** Returns all objects that match; a dump that the kernel marks as inconsistent is repeated. */
  dump(request: Request): readonly Message[] {
    for (let attempt = 0; attempt < maxDumps; attempt++) {
      this.#send(request, requestFlags.dump);
      const messages = this.#readAnswers(request);
      if (messages.every(isConsistent)) return messages;
    }
    throw changedAllTheWhile(request);
  }

  /**
   * Sends requests together, and neither holds nor enters the event loop while the kernel works on them; it executes all
   * of them. Throws `kernel/refused` for the first that it rejects. One call at a time.
   */
  async requestsOffThread(requests: readonly Request[]): Promise<void> {
    const [first] = requests;
    if (first === undefined) return;
    const encoded = requests.map((one) => this.#encode(one, requestFlags.acknowledge));
    const sent = await this.#libc.sendOffThread(this.fd, Buffer.concat(encoded));
    if (sent < 0) throw refused(first.what, errnoIo, 'send failed');
    this.#readAcknowledgements(requests);
  }

  /** Like `dump`, but does not hold the event loop while the kernel works. One at a time. */
  async dumpOffThread(request: Request): Promise<readonly Message[]> {
    for (let attempt = 0; attempt < maxDumps; attempt++) {
      await this.#sendOffThread(request, requestFlags.dump);
      const messages: Message[] = [];
      let length: number;
      do {
        length = await this.#libc.recvOffThread(this.fd, this.#answer);
        if (length < 0) throw refused(request.what, errnoIo, 'no response');
      } while (!this.#takeAnswer(length, request, messages));
      if (messages.every(isConsistent)) return messages;
    }
    throw changedAllTheWhile(request);
  }

  close(): void {
    this.#libc.close(this.fd);
  }

  #encode(request: Request, flags: number): Buffer {
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.requests++;
    const all = requestFlags.request | flags | (request.flags ?? 0);
    return encodeMessage({ ...request, flags: all }, this.#sequence);
  }

  #send(request: Request, flags: number): void {
    const bytes = this.#encode(request, flags);
    if (this.#libc.send(this.fd, bytes, bytes.length, 0) < 0) {
      throw refused(request.what, this.#libc.errno());
    }
  }

  async #sendOffThread(request: Request, flags: number): Promise<void> {
    const sent = await this.#libc.sendOffThread(this.fd, this.#encode(request, flags));
    if (sent < 0) throw refused(request.what, errnoIo, 'send failed');
  }

  /** Reads the acknowledgements of the last requests, all of them; throws the first refusal. */
  #readAcknowledgements(requests: readonly Request[]): void {
    let failure: Error | undefined;
    let left = requests.length;
    while (left > 0) {
      const length = this.#libc.recv(this.fd, this.#answer, this.#answer.length, 0);
      if (length < 0) {
        throw failure ?? refused(requests[0]?.what ?? '', this.#libc.errno(), 'no response');
      }
      for (const message of decodeMessages(Buffer.from(this.#answer.subarray(0, length)))) {
        const index = message.sequence - (this.#sequence - requests.length + 1);
        const request = requests[index];
        if (message.type !== typeError || request === undefined) continue;
        left--;
        failure ??= errorOf(message, request.what);
      }
    }
    if (failure !== undefined) throw failure;
  }

  #readAnswers(request: Request): readonly Message[] {
    const messages: Message[] = [];
    let length: number;
    do {
      length = this.#libc.recv(this.fd, this.#answer, this.#answer.length, 0);
      if (length < 0) throw refused(request.what, this.#libc.errno(), 'no response');
    } while (!this.#takeAnswer(length, request, messages));
    return messages;
  }

  /** Reads the messages of a datagram; returns whether they were the last. Throws a refusal of the kernel. */
  #takeAnswer(length: number, request: Request, messages: Message[]): boolean {
    let isComplete = true;
    // The buffer is used again for the next part; one copy for all messages in it.
    for (const message of decodeMessages(Buffer.from(this.#answer.subarray(0, length)))) {
      if (message.sequence !== this.#sequence) continue;
      if (message.type === typeError) {
        const error = errorOf(message, request.what);
        if (error !== undefined) throw error;
        return true;
      }
      if (message.type === typeDone) return true;
      messages.push(message);
      isComplete = (message.flags & 2) === 0;
    }
    return isComplete && messages.length > 0;
  }
}

/** One message with its header. */
export function encodeMessage(
  message: { readonly type: number; readonly flags?: number; readonly payload: Buffer },
  sequence: number,
): Buffer {
  const bytes = Buffer.alloc(align(messageHeaderBytes + message.payload.length));
  bytes.writeUInt32LE(messageHeaderBytes + message.payload.length, 0);
  bytes.writeUInt16LE(message.type, 4);
  bytes.writeUInt16LE(message.flags ?? 0, 6);
  bytes.writeUInt32LE(sequence, 8);
  message.payload.copy(bytes, messageHeaderBytes);
  return bytes;
}

/** The messages in a datagram. */
export function* decodeMessages(bytes: Buffer): Generator<Message & { readonly sequence: number }> {
  for (let at = 0; at + messageHeaderBytes <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    if (length < messageHeaderBytes || at + length > bytes.length) return;
    yield {
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      payload: bytes.subarray(at + messageHeaderBytes, at + length),
    };
    at += align(length);
  }
}

/** Reports whether an error is one of the given refusals. */
export function isRefusal(error: unknown, ...errnos: readonly string[]): boolean {
  return isCalicoError(error, 'kernel/refused') && errnos.includes(error.detail.errno);
}

function isConsistent({ flags }: Message): boolean {
  return (flags & flagDumpInterrupted) === 0;
}

function changedAllTheWhile({ what }: Request): Error {
  return refused(what, errnoInterrupted, 'dump interrupted by changes');
}

function errorOf({ payload, flags }: Message, what: string): Error | undefined {
  const errno = -payload.readInt32LE(0);
  if (errno === 0) return undefined;
  const words =
    (flags & flagAckTlvs) === 0
      ? undefined
      : [...attributesOf(payload.subarray(4 + messageHeaderBytes))].find(
          ([type]) => type === messageAttribute,
        );
  return refused(what, errno, words === undefined ? '' : readText(words[1]));
}

function setFlag(libc: Libc, fd: number, option: number): void {
  // An old kernel without the option replies in the older format, which is supported as well.
  libc.setsockopt(fd, solNetlink, option, int(1), 4);
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  return bytes;
}

function timeval(seconds: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigInt64LE(BigInt(seconds), 0);
  return bytes;
}

/** A `sockaddr_nl` that subscribes to the groups of a bit mask. */
export function socketAddress(groups: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt16LE(afNetlink, 0);
  bytes.writeUInt32LE(groups >>> 0, 8);
  return bytes;
}
