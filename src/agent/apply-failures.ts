import { Refusals, type ApplyFailure } from '../dataplane/apply-failure.ts';
import type { Cidr } from '../ip/cidr.ts';
import type { Logger } from '../telemetry/log.ts';

/**
 * The part of the desired state that the kernel does not have. Each failure is logged once, and again when it is
 * resolved.
 */
export class ApplyFailures {
  readonly #log: Logger;
  #present: ReadonlyMap<string, ApplyFailure> = new Map();
  /** Failed steps of a round. */
  readonly #steps = new Refusals<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Runs one step of a round; its failure does not stop the other steps. */
  attempt(what: string, step: () => void): void {
    try {
      step();
      this.#steps.delete(what);
    } catch (error) {
      this.#steps.add(what, { what }, error);
    }
  }

  /** Takes the failures that the drivers report at the end of a round. */
  finish(failures: readonly ApplyFailure[]): void {
    const now = new Map([...failures, ...this.#steps.failures()].map((one) => [one.what, one]));
    for (const [key, { what, why }] of now) {
      if (this.#present.get(key)?.why !== why) {
        this.#log.warn('dataplane apply failed, retrying', { what, why });
      }
    }
    for (const what of this.#present.keys()) {
      if (!now.has(what)) this.#log.info('dataplane apply succeeded again', { what });
    }
    this.#present = now;
  }

  /** Reports whether a failed step is due for a retry. */
  get hasDue(): boolean {
    return this.#steps.hasDue;
  }

  all(): readonly ApplyFailure[] {
    return [...this.#present.values()];
  }

  /** Returns the failure that affects one of the networks, as a sentence. */
  about(networks: readonly Cidr[]): string | undefined {
    const found = this.all().find(({ net }) => net !== undefined && networks.includes(net));
    return found === undefined ? undefined : `${found.what}: ${found.why}`;
  }
}
