import { renderHostRules } from '../../render/iptables/host-rules.ts';
import { hostRules } from '../../ruleset/host-rules.ts';
import type { Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

/** The chains and hooks that no resource changes. */
export class StaticRules implements Manager<never> {
  readonly name = 'static rules';
  readonly kinds = [] as const;
  readonly #deps: Pick<ManagerDeps, 'kernel' | 'statics'>;

  constructor(deps: Pick<ManagerDeps, 'kernel' | 'statics'>) {
    this.#deps = deps;
  }

  start(): void {
    for (const [family, tables] of this.#deps.kernel.tables) {
      const rules = hostRules(family, { ...this.#deps.statics, guardsForwarding: false });
      for (const { table, chains, hooks } of renderHostRules(rules, family)) {
        for (const chain of chains) tables.setChain(table, chain);
        for (const hook of hooks) tables.setHook(table, hook);
      }
    }
  }
}
