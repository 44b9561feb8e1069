import type { IpFamily } from '../ip/address.ts';
import { hostRules, type HostRuleOptions } from '../ruleset/host-rules.ts';
import type { Renderer } from '../ruleset/renderer.ts';

/** The options of the host's rules that managers change while the daemon runs. */
type ChangingOptions = Pick<
  HostRuleOptions,
  'guardsForwarding' | 'vxlan' | 'ipip' | 'bgpPort' | 'hostEndpoints'
>;

/** The host's rules: several managers change their options, each its own, and the rules follow. */
export class HostRuleSettings {
  readonly #rules: Pick<Renderer, 'setHostRules'>;
  readonly #options: Map<IpFamily, HostRuleOptions>;

  constructor(
    rules: Pick<Renderer, 'setHostRules'>,
    families: readonly IpFamily[],
    statics: Omit<HostRuleOptions, keyof ChangingOptions>,
  ) {
    this.#rules = rules;
    const options = { ...statics, guardsForwarding: false };
    this.#options = new Map(families.map((family) => [family, options]));
  }

  /** Sets the rules of all families as desired. */
  start(): void {
    for (const [family, options] of this.#options) this.#set(family, options);
  }

  /** Changes options of one family. */
  change(family: IpFamily, change: Partial<ChangingOptions>): void {
    const before = this.#options.get(family);
    if (before === undefined) return;
    const options = { ...before, ...change };
    this.#options.set(family, options);
    this.#set(family, options);
  }

  #set(family: IpFamily, options: HostRuleOptions): void {
    this.#rules.setHostRules(family, hostRules(family, options));
  }
}
