import { Refusals, type ApplyFailure } from '../dataplane/apply-failure.ts';
import type { Cidr } from '../ip/cidr.ts';
import type { Logger } from '../telemetry/log.ts';

/** What of the desired state the kernel does not hold; the log tells of each thing once, and when it is mended. */
export class ApplyFailures {
  readonly #log: Logger;
  #present: ReadonlyMap<string, ApplyFailure> = new Map();
  /** Steps of a round that failed. */
  readonly #steps = new Refusals<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Does one step of a round; that it fails keeps nobody from the others. */
  attempt(what: string, step: () => void): void {
    try {
      step();
      this.#steps.delete(what);
    } catch (error) {
      this.#steps.add(what, { what }, error);
    }
  }

  /** What the drivers say at the end of a round. */
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

  /** Whether a step that failed is to be tried again now. */
  get hasDue(): boolean {
    return this.#steps.hasDue;
  }

  all(): readonly ApplyFailure[] {
    return [...this.#present.values()];
  }

  /** What failed of one of the networks, as a sentence. */
  about(networks: readonly Cidr[]): string | undefined {
    const found = this.all().find(({ net }) => net !== undefined && networks.includes(net));
    return found === undefined ? undefined : `${found.what}: ${found.why}`;
  }
}
