import type { Ipv6Forwarding } from '../../dataplane/host-settings.ts';
import { forwards } from '../../dataplane/host-settings.ts';
import type { IptablesTables } from '../../dataplane/iptables/tables.ts';
import { forwardingGuard } from '../../profiles/static-chains.ts';
import type { Logger } from '../../telemetry/log.ts';

/**
 * Switches IPv6 forwarding on when a container needs it, behind a guard: a last rule of FORWARD that drops what
 * neither comes from nor goes to a container. A host that forwarded before is a router, and gets no guard.
 */
export class GuardedIpv6Forwarding {
  readonly #tables: IptablesTables | undefined;
  readonly #forwarding: Ipv6Forwarding;
  readonly #log: Logger;
  #isWanted = false;

  constructor(options: {
    /** None where IPv6 is not used. */
    readonly tables: IptablesTables | undefined;
    readonly forwarding: Ipv6Forwarding;
    readonly log: Logger;
  }) {
    this.#tables = options.tables;
    this.#forwarding = options.forwarding;
    this.#log = options.log;
  }

  /** Wants the guard that an earlier run of ours has put there. */
  start(): void {
    if (this.#forwarding.isOurs) this.#guard();
  }

  /** A container with an IPv6 address comes: from the next round on the host forwards IPv6. */
  want(): void {
    if (this.#tables === undefined || forwards(6)) return;
    this.#guard();
    this.#isWanted = true;
  }

  /** To be called when the tables have been written. */
  apply(): void {
    if (!this.#isWanted) return;
    this.#isWanted = false;
    const problem = this.#forwarding.switchOn();
    if (problem === undefined) this.#log.info('IPv6 forwarding switched on, for containers only');
    else this.#log.warn(problem);
  }

  /** An interface was set up: it may have been told to ignore router advertisements. */
  linkChanged(name: string): void {
    this.#forwarding.keepAdvertisements(name);
  }

  #guard(): void {
    const { chain, hook } = forwardingGuard();
    this.#tables?.setChain('filter', chain);
    this.#tables?.setHook('filter', hook);
  }
}
