import { isDeepStrictEqual } from 'node:util';
import { pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { isMirrorLocked } from '../cache/lock.ts';
import type { LiveMirror } from '../cache/live-mirror.ts';
import type { Draft, Writer } from '../datastore/writer.ts';
import { isCalicoError } from '../errors/error.ts';
import type { Detected } from '../host/autodetection.ts';
import {
  withNodeAddresses,
  type DetectedAddresses,
  type NodeAddresses,
} from '../host/node-addresses.ts';
import { nodeIps, rejectOthersAddresses } from '../host/node-liveness.ts';
import type { Node } from '../model/kinds/node.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Check } from '../telemetry/status-report.ts';

/** Interval of reading the host's addresses without an event of the kernel, as in calico/node. */
const intervalMs = 60_000;
const retryMs = 2000;
/** Several addresses are often added at once. */
const settleMs = 200;

export interface NodeAddressDeps {
  readonly node: string;
  readonly mirror: LiveMirror;
  readonly writer: Writer;
  readonly log: Logger;
  /** Whether other hosts use the datastore, and with it the address. */
  readonly isShared: () => boolean;
  readonly detect: () => Promise<{
    readonly detected: DetectedAddresses;
    readonly addresses: NodeAddresses;
  }>;
  /** Calls the function when addresses of the host change; returns a function that unsubscribes. */
  readonly onAddresses: (changed: () => void) => () => void;
}

/** Keeps the addresses in this host's Node up to date. */
export class NodeAddress {
  readonly #deps: NodeAddressDeps;
  #detected: DetectedAddresses | undefined;
  #conflict: string | undefined;

  constructor(deps: NodeAddressDeps) {
    this.#deps = deps;
  }

  /** Follows the host until the signal is aborted. */
  async run(work: Work, signal: AbortSignal): Promise<void> {
    let wake = new AbortController();
    const unsubscribe = this.#deps.onAddresses(() => wake.abort());
    // A Node changed by somebody else is looked at as well.
    const forget = this.#deps.mirror.subscribe(({ changes }) => {
      if (changes.some(({ kind }) => kind === 'Node')) wake.abort();
    });
    try {
      while (!signal.aborted) {
        wake = new AbortController();
        let waitMs = intervalMs;
        try {
          await this.#follow(signal);
          work.succeeded();
        } catch (error) {
          if (!signal.aborted) work.failed(error);
          // A new address ends the connection to etcd that the former one had.
          waitMs = retryMs;
        }
        await pause(waitMs, AbortSignal.any([signal, wake.signal]));
        await pause(settleMs, signal);
      }
    } finally {
      unsubscribe();
      forget();
    }
  }

  /** Returns the status checks. */
  checks(): readonly Check[] {
    const name = 'node address';
    if (this.#conflict !== undefined) return [{ name, ok: false, detail: this.#conflict }];
    const detected = this.#detected;
    if (detected === undefined || !this.#deps.isShared()) return [];
    const all = ([4, 6] as const).map((family) => detected[family]);
    const stored = this.#stored();
    const found = all.flatMap(({ address, why }) =>
      address === undefined ? [] : [chosenText({ address, why })],
    );
    if (stored !== undefined && found.length > 0 && !isWritten(stored, detected)) {
      const detail = `${nodeIps(stored).join(', ')}, set by another tool; found on this host: ${found.join(', ')}`;
      return [{ name, ok: true, detail }];
    }
    const whyNone = all.map(({ why }) => why).join('; ');
    return [{ name, ok: true, detail: found.length === 0 ? `none: ${whyNone}` : found.join(', ') }];
  }

  #stored(): Node | undefined {
    const { mirror, node } = this.#deps;
    return mirror.inSync ? mirror.get('Node', node)?.value : undefined;
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { mirror, writer, log, node } = this.#deps;
    const { detected, addresses } = await this.#deps.detect();
    if (!isDeepStrictEqual(detected, this.#detected)) {
      log.info('host addresses chosen', {
        ipv4: chosenText(detected[4]),
        ipv6: chosenText(detected[6]),
      });
    }
    this.#detected = detected;
    const stored = this.#stored();
    const isCurrent = stored === undefined || withNodeAddresses(stored, addresses) === stored;
    const isShared = stored !== undefined && sharesAddress(mirror, node, stored);
    if ((isCurrent && !isShared && this.#conflict === undefined) || isMirrorLocked(mirror)) return;
    try {
      const plan = (draft: Draft) => {
        const present = draft.get('Node', node);
        if (present === undefined) return false;
        const changed = withNodeAddresses(present, addresses);
        rejectOthersAddresses(draft, node, changed);
        if (changed === present) return false;
        draft.put('Node', node, changed);
        return true;
      };
      const { result } = await writer.write(plan, signal);
      this.#conflict = undefined;
      if (result)
        log.info('host addresses written to Node', {
          ipv4: detected[4].address,
          ipv6: detected[6].address,
        });
    } catch (error) {
      if (!isCalicoError(error, 'node/address-taken')) throw error;
      if (this.#conflict !== error.message) log.error(error.message);
      this.#conflict = error.message;
    }
  }
}

function chosenText({ address, why }: Detected): string {
  return address === undefined ? `none (${why})` : `${address} (${why})`;
}

/** Reports whether a Node has the detected addresses. */
function isWritten({ spec: { bgp = {} } }: Node, detected: DetectedAddresses): boolean {
  const isSame = (stored: string | undefined, found: string | undefined) =>
    found === undefined || found === stored;
  return (
    isSame(bgp.ipv4Address, detected[4].address) && isSame(bgp.ipv6Address, detected[6].address)
  );
}

/** Reports whether another Node has an address of this one. */
function sharesAddress(mirror: LiveMirror, node: string, own: Node): boolean {
  const addresses = nodeIps(own);
  return [...mirror.list('Node')].some(
    ([name, { value }]) =>
      name !== node && nodeIps(value).some((address) => addresses.includes(address)),
  );
}
