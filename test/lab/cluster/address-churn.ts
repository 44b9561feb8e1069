import { setTimeout as sleep } from 'node:timers/promises';
import type { LoggedCall } from '../call-log.ts';
import { callPlugin } from '../plugin-client.ts';
import type { Host } from '../host.ts';

const pluginSocket = '/run/docker/plugins/calico.sock';
const addressSpace = 'CalicoAddressSpace';
/** One block: hosts allocate from it at the same time. */
const subnet = '10.60.0.0/26';
const maxHeld = 12;

/**
 * Requests and releases addresses on a host as Docker does, from a block that all hosts share, one after the other,
 * until it is stopped.
 */
export class AddressChurn {
  /** The calls that succeeded, and releases that failed: their address may be free. */
  readonly calls: LoggedCall[] = [];
  /** The errors of refused requests, in order. */
  readonly refused: string[] = [];
  readonly #name: string;
  /** The present one; the host may have been switched off and on. */
  readonly #host: () => Host;
  readonly #stop = new AbortController();
  readonly #held: string[] = [];
  #poolId: string | undefined;
  readonly #running: Promise<void>;

  constructor(name: string, host: () => Host) {
    this.#name = name;
    this.#host = host;
    this.#running = this.#run();
  }

  /** Resolves when as many more requests have succeeded; rejects after a minute. */
  async allocates(count: number): Promise<void> {
    const target = this.#given() + count;
    const deadline = Date.now() + 60_000;
    while (this.#given() < target) {
      if (Date.now() > deadline) {
        throw new Error(`${this.#name} gets no address: ${this.refused.at(-1) ?? 'no response'}`);
      }
      await sleep(20);
    }
  }

  /** Resolves with the error of the next request that is refused. */
  async refuses(): Promise<string> {
    const before = this.refused.length;
    const deadline = Date.now() + 60_000;
    while (this.refused.length === before) {
      if (Date.now() > deadline) throw new Error(`${this.#name} is refused nothing`);
      await sleep(20);
    }
    return this.refused[before] ?? '';
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #given(): number {
    return this.calls.filter(({ method }) => method === 'IpamDriver.RequestAddress').length;
  }

  async #run(): Promise<void> {
    for (let turn = 0; !this.#stop.signal.aborted; turn++) {
      const isFull = this.#held.length >= maxHeld;
      if (this.#poolId === undefined) await this.#requestPool();
      else if (isFull || (turn % 3 === 2 && this.#held.length > 0)) await this.#release();
      else await this.#request(this.#poolId);
      await sleep(20);
    }
  }

  async #requestPool(): Promise<void> {
    const asked = {
      AddressSpace: addressSpace,
      Pool: subnet,
      SubPool: '',
      Options: null,
      V6: false,
    };
    const answer = await this.#call('IpamDriver.RequestPool', asked);
    if (answer !== undefined) this.#poolId = String(answer['PoolID']);
  }

  async #request(poolId: string): Promise<void> {
    const answer = await this.#call('IpamDriver.RequestAddress', {
      PoolID: poolId,
      Address: '',
      Options: {},
    });
    if (answer !== undefined) this.#held.push(String(answer['Address']).replace(/\/\d+$/, ''));
  }

  async #release(): Promise<void> {
    const [Address] = this.#held.splice(0, 1);
    await this.#call('IpamDriver.ReleaseAddress', { PoolID: this.#poolId, Address });
  }

  async #call(
    method: string,
    asked: Readonly<Record<string, unknown>>,
  ): Promise<Readonly<Record<string, unknown>> | undefined> {
    const from = Date.now();
    const log = (answered: Readonly<Record<string, unknown>>) =>
      this.calls.push({ host: this.#name, method, from, to: Date.now(), asked, answered });
    try {
      const { status, text, body } = await callPlugin(
        this.#host().path(pluginSocket),
        method,
        asked,
      );
      if (status !== 200) throw new Error(text);
      log(body);
      return body;
    } catch (error) {
      if (method === 'IpamDriver.ReleaseAddress') log({});
      else this.refused.push(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }
}
