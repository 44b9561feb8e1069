import { staticRules } from '../../render/iptables/static-chains.ts';
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
      for (const { table, chains, hooks } of staticRules(family, this.#deps.statics)) {
        for (const chain of chains) tables.setChain(table, chain);
        for (const hook of hooks) tables.setHook(table, hook);
      }
    }
  }
}
