import type { HostRuleSettings } from '../host-rule-settings.ts';
import type { Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

/** The rules that no resource changes. */
export class StaticRules implements Manager<never> {
  readonly name = 'static rules';
  readonly kinds = [] as const;
  readonly #deps: StaticRulesDeps;

  constructor(deps: StaticRulesDeps) {
    this.#deps = deps;
  }

  start(): void {
    const { kernel, hostRules } = this.#deps;
    kernel.rules.start();
    hostRules.start();
  }
}

interface StaticRulesDeps extends Pick<ManagerDeps, 'kernel'> {
  readonly hostRules: Pick<HostRuleSettings, 'start'>;
}
