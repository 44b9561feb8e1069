import { hostRules } from '../../ruleset/host-rules.ts';
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
    const { kernel, families, statics } = this.#deps;
    kernel.rules.start();
    for (const family of families) {
      kernel.rules.setHostRules(family, hostRules(family, { ...statics, guardsForwarding: false }));
    }
  }
}

type StaticRulesDeps = Pick<ManagerDeps, 'kernel' | 'families' | 'statics'>;
