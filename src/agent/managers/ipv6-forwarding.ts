import { Refusals, type ApplyFailure } from '../../dataplane/apply-failure.ts';
import { forwards } from '../../dataplane/host-settings.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { HostRuleSettings } from '../host-rule-settings.ts';
import type { HostEvent, Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

interface ForwardingDeps extends Pick<ManagerDeps, 'ipv6Forwarding' | 'families' | 'log'> {
  readonly hostRules: Pick<HostRuleSettings, 'change'>;
}

/**
 * Enables IPv6 forwarding when a container needs it, behind a guard: a last rule of FORWARD that drops packets neither
 * from nor to a container. A host that forwarded before is a router, and gets no guard.
 */
export class GuardedIpv6Forwarding implements Manager<never> {
  readonly name = 'IPv6 forwarding';
  readonly kinds = [] as const;
  readonly #rules: ForwardingDeps['hostRules'];
  readonly #isUsed: boolean;
  readonly #forwarding: ManagerDeps['ipv6Forwarding'];
  readonly #log: Logger;
  readonly #refused = new Refusals<string>();
  #isWanted = false;

  constructor({ hostRules, ipv6Forwarding, families, log }: ForwardingDeps) {
    this.#rules = hostRules;
    this.#isUsed = families.includes(6);
    this.#forwarding = ipv6Forwarding;
    this.#log = log;
  }

  /** Sets the guard as desired if an earlier run of the daemon created it. */
  start(): void {
    if (this.#isUsed && this.#forwarding.isOwn) this.#guard();
  }

  /** A container with an IPv6 address appeared: the host forwards IPv6 from the next round on. */
  onEvent(event: HostEvent): boolean {
    if (event.kind === 'linkMade' && event.hasIpv6) this.#want();
    // An interface may have been configured to ignore router advertisements.
    if (event.kind === 'link' && !event.isGone) {
      this.#forwarding.keepAdvertisements(event.link.name);
    }
    return false;
  }

  #want(): void {
    if (!this.#isUsed || forwards(6)) return;
    this.#guard();
    this.#isWanted = true;
  }

  /** Runs after the tables, including the guard, have been written. */
  apply(phase: Phase): void {
    if (phase !== 'tables' || !this.#isWanted || !this.#refused.isDue(this.name)) return;
    const problem = this.#forwarding.switchOn();
    this.#isWanted = problem !== undefined;
    if (problem === undefined) {
      this.#log.info('IPv6 forwarding enabled for containers');
      this.#refused.delete(this.name);
      return;
    }
    if (this.#refused.get(this.name) === undefined) this.#log.warn(problem);
    this.#refused.add(this.name, { what: this.name }, problem);
  }

  failures(): readonly ApplyFailure[] {
    return this.#refused.failures();
  }

  poll(): boolean {
    return this.#refused.hasDue;
  }

  #guard(): void {
    this.#rules.change(6, { guardsForwarding: true });
  }
}
