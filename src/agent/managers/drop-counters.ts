import type { EntryChange } from '../../cache/mirror.ts';
import type { DropCount, DropCounters } from '../../ruleset/drop-counters.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { Kernel } from '../kernel.ts';
import type { HostEvent, Manager } from '../manager.ts';
import type { SandboxRoutes } from './sandbox-routes.ts';
import { localEndpoint } from './local-endpoint.ts';

interface CounterKernel {
  readonly rules: { readonly drops: DropCounters };
  readonly routes: Pick<Kernel['routes'], 'link'>;
}

/** Maintains the drop counters: they are deleted with their interfaces. */
export class DropCounterUpkeep implements Manager<'WorkloadEndpoint'> {
  readonly name = 'drop counters';
  readonly kinds = ['WorkloadEndpoint'] as const;
  readonly #node: string;
  readonly #drops: DropCounters;
  readonly #hasInterface: (name: string) => boolean;
  #mustSweep = true;

  constructor(
    { node, kernel }: { readonly node: string; readonly kernel: CounterKernel },
    endpoints: Pick<SandboxRoutes, 'hasInterface'>,
  ) {
    this.#node = node;
    this.#drops = kernel.rules.drops;
    this.#hasInterface = (name) =>
      endpoints.hasInterface(name) || kernel.routes.link(name) !== undefined;
  }

  onChange(change: EntryChange<'WorkloadEndpoint'>): void {
    if (localEndpoint(this.#node, change) === undefined) this.#mustSweep = true;
  }

  /** An interface was removed: the next poll deletes its counters. */
  onEvent(event: HostEvent): boolean {
    if (event.kind === 'link' && event.isGone) this.#mustSweep = true;
    return false;
  }

  /** Maintains the counters that have changed since the last poll; reports whether there is something to write. */
  poll({ isInSync }: { readonly isInSync: boolean }): boolean {
    // The interfaces are not known before.
    if (!isInSync) return false;
    const sweep = this.#mustSweep;
    this.#mustSweep = false;
    return this.#drops.tend({ sweep, hasInterface: this.#hasInterface });
  }

  /** Returns the drop counts; `checks` reports those that cannot be read. */
  counts(): readonly DropCount[] {
    return this.#drops.counts();
  }

  checks(): readonly Check[] {
    return this.#drops.problems().map(({ what, why, command }) => ({
      name: 'drop counters',
      ok: false,
      detail: `counters of ${what} cannot be read: ${why}`,
      remedy: `Packets are still dropped. Reset the counters: ${command}`,
    }));
  }
}
