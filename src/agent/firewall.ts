import type { ApplyFailure } from '../dataplane/apply-failure.ts';
import { IptablesTables, type Backend } from '../dataplane/iptables/tables.ts';
import type { ToolRunner } from '../dataplane/process.ts';
import type { IpFamily } from '../ip/address.ts';
import { FirewallWatch, type FirewallChanges } from './firewall-watch.ts';
import type { Driver, HostEvent, Phase } from './manager.ts';

/** The tables of both families: read when another program may have changed them, written once per round. */
export class Firewall implements Driver {
  readonly tables: ReadonlyMap<IpFamily, IptablesTables>;
  readonly #watch: FirewallWatch;
  /** Kernel transactions since the start. */
  transactions = 0;

  constructor(options: {
    readonly families: readonly IpFamily[];
    readonly backend: Backend;
    readonly runner: Pick<ToolRunner, 'run' | 'feed'>;
    readonly changes: FirewallChanges;
  }) {
    const { families, backend, runner, changes } = options;
    this.tables = new Map(
      families.map((family) => [family, new IptablesTables(runner, { family, backend })]),
    );
    this.#watch = new FirewallWatch(changes);
  }

  /** How often programmed rules were found missing: until they were restored, packets bypassed the policy. */
  get losses(): number {
    return this.#all().reduce((sum, { losses }) => sum + losses, 0);
  }

  resync(): void {
    for (const tables of this.#all()) tables.invalidate();
  }

  /** Retries what the kernel rejected; it may accept it now. */
  retryRefused(): void {
    for (const tables of this.#all()) tables.retryRefused();
  }

  onEvent(event: HostEvent): boolean {
    return event.kind === 'nftables' && this.#rereadIf(this.#watch.hasChanged());
  }

  poll(): boolean {
    return this.#rereadIf(this.#watch.mustRead || this.#watch.hasChanged());
  }

  apply(phase: Phase, signal: AbortSignal): Promise<void> | undefined {
    if (phase === 'reading') return this.#read(signal);
    return phase === 'tables' ? this.#write(signal) : undefined;
  }

  failures(): readonly ApplyFailure[] {
    return this.#all().flatMap((tables) => tables.failures());
  }

  async #read(signal: AbortSignal): Promise<void> {
    if (this.#all().some(({ isKnown }) => !isKnown)) this.#watch.beforeRead();
    await Promise.all(this.#all().map((tables) => tables.prepare(signal)));
  }

  async #write(signal: AbortSignal): Promise<void> {
    const applied = await Promise.all(this.#all().map((tables) => tables.write(signal)));
    const transactions = applied.reduce((sum, one) => sum + one.transactions, 0);
    this.transactions += transactions;
    this.#watch.afterWrite(transactions);
  }

  #rereadIf(mayDiffer: boolean): boolean {
    if (mayDiffer) this.resync();
    return mayDiffer;
  }

  #all(): readonly IptablesTables[] {
    return [...this.tables.values()];
  }
}
