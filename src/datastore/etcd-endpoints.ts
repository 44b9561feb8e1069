import { setTimeout as sleep } from 'node:timers/promises';
import { isRecoverableError } from 'etcd3';
import { describe } from '../errors/error.ts';
import { refusalOf } from './etcd-credentials.ts';

/** Time limits of calls, in milliseconds. */
export interface CallLimits {
  /** Of one attempt at one endpoint. */
  readonly attemptMs: number;
  /** Between two rounds over all endpoints, for instance while a new leader is elected. */
  readonly pauseMs: number;
  /** How long to wait while all endpoints refuse connections, as during the restart of the only member; default: 0. */
  readonly refusedMs?: number;
}

/** An attempt of a call: until when to wait for the response (milliseconds since 1970), and the failures before it. */
export interface Attempt {
  readonly deadline: number;
  readonly failures: readonly unknown[];
}

interface Endpoint<Client> {
  readonly client: Client;
  /** Aborted when calls have failed here and succeeded elsewhere. */
  left: AbortController;
}

/**
 * The endpoints of one etcd. Calls use the endpoint that responded last; if it fails, they are repeated at another one,
 * and later calls begin there. Therefore a lost member costs one attempt, not one of three calls for as long as it is
 * lost. A call may take three attempts' time: one at a lost leader, and one while a new leader is elected.
 */
export class EtcdEndpoints<Client> {
  readonly #limits: CallLimits;
  /** In order of preference. */
  #order: Endpoint<Client>[];

  /** Hosts begin with different endpoints if the clients are in random order. */
  constructor(clients: readonly Client[], limits: CallLimits) {
    this.#order = clients.map((client) => ({ client, left: new AbortController() }));
    this.#limits = limits;
  }

  /** Uses other endpoints from now on; streams move to them. */
  replace(clients: readonly Client[]): void {
    const former = this.#order;
    this.#order = clients.map((client) => ({ client, left: new AbortController() }));
    for (const { left } of former) left.abort();
  }

  /** The endpoint for a stream, with a signal that is aborted when calls have moved from it to another one. */
  get preferred(): { readonly client: Client; readonly left: AbortSignal } {
    const [first] = this.#order;
    if (first === undefined) throw new Error('etcd has no endpoint');
    return { client: first.client, left: first.left.signal };
  }

  /** Prefers the other endpoints to this one from now on. */
  avoid(client: Client): void {
    const at = this.#order.findIndex((one) => one.client === client);
    if (at < 0) return;
    this.#order.push(...this.#order.splice(at, 1));
  }

  /**
   * Makes a call, at other endpoints if it fails for a reason that another endpoint may not have, until the time is
   * over, that of so many attempts, or no endpoint accepts a connection (for `refusedMs`). Throws the last error. Only calls that may be applied more than once are
   * `repeatable`; others are repeated only if they were never sent.
   */
  async call<T>(
    send: (client: Client, attempt: Attempt) => Promise<T>,
    {
      isRepeatable = true,
      attempts = 3,
    }: { readonly isRepeatable?: boolean; readonly attempts?: number } = {},
  ): Promise<T> {
    const { attemptMs, pauseMs, refusedMs = 0 } = this.#limits;
    const begun = Date.now();
    let end = begun + attemptMs * Math.min(this.#order.length, attempts);
    const failures: unknown[] = [];
    let failed = new Set<Endpoint<Client>>();
    let mayWait = false;
    for (let isAnyConnected = false; ;) {
      const endpoint = this.#order.find((one) => !failed.has(one));
      if (endpoint === undefined) {
        if ((!isAnyConnected && !mayWait) || Date.now() + pauseMs >= end) throw failures.at(-1);
        await sleep(pauseMs);
        failed = new Set();
        isAnyConnected = false;
        continue;
      }
      const deadline = Math.min(Date.now() + attemptMs, end);
      try {
        const result = await send(endpoint.client, { deadline, failures });
        for (const one of failed) leave(one);
        return result;
      } catch (error) {
        if (isOutdatedAuth(error) && Date.now() < end) continue;
        if (!isOfEndpoint(error)) throw error;
        failures.push(error);
        failed.add(endpoint);
        this.avoid(endpoint.client);
        const isSent = !isNeverSent(error);
        isAnyConnected ||= isSent;
        mayWait = isRefused(error) && Date.now() + pauseMs < begun + refusedMs;
        if (mayWait) end = Math.max(end, Date.now() + pauseMs + attemptMs);
        if ((isSent && !isRepeatable) || Date.now() >= end) throw error;
      }
    }
  }
}

function leave<Client>(endpoint: Endpoint<Client>): void {
  endpoint.left.abort();
  endpoint.left = new AbortController();
}

/**
 * Reports whether a user or role of etcd was changed between the check of a request and its application. etcd has not
 * applied it, and accepts it when it is sent again.
 */
function isOutdatedAuth(error: unknown): boolean {
  // etcd 3.4, and 3.5.
  return /revision of auth store is old|revision in header is old/.test(describe(error));
}

/** Reports whether another endpoint may respond although this one has not. */
function isOfEndpoint(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // A member that is shutting down ends calls without a status of gRPC.
  if (/Received HTTP status code/.test(error.message)) return true;
  // gRPC's code for it is that of a member that has too much to do.
  return isRecoverableError(error) && !/larger than max/.test(error.message);
}

function isRefused(error: unknown): boolean {
  return /ECONNREFUSED/.test(describe(error));
}

/** Reports whether the call was never accepted, so nothing can have been applied. */
export function isNeverSent(error: unknown): boolean {
  const why = describe(error);
  return refusalOf(why) !== undefined || /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH/.test(why);
}
