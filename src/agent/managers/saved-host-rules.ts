import { rmSync } from 'node:fs';
import { readIfPresent, replaceFileSync } from '../../async/replace-file.ts';
import type { SavedHostRules as Saved } from '../../dataplane/host-rules-file.ts';
import type { GuardedStages } from '../../ruleset/host-endpoint.ts';
import type { Manager, Phase } from '../manager.ts';

interface SavedHostRulesDeps {
  readonly kernel: { readonly savedHostRules: (stages: GuardedStages) => Saved };
  /** Absent if nothing is to be saved. */
  readonly hostRulesFile?: string | undefined;
}

/** Members of large sets change all the time, and a boot needs no more than the rules of a moment ago. */
const pauseMs = 5000;

/** Keeps the rules of host endpoints in a file for the next boot; see `dataplane/host-rules-file.ts`. */
export class SavedHostRules implements Manager<never> {
  readonly name = 'saved host rules';
  readonly kinds = [] as const;
  readonly #deps: SavedHostRulesDeps;
  readonly #stages: () => GuardedStages | undefined;
  #saved: string | undefined;
  #savedAt = -Infinity;
  #mayDiffer = false;

  /** `stages` returns which rules are programmed. */
  constructor(deps: SavedHostRulesDeps, stages: () => GuardedStages | undefined) {
    this.#deps = deps;
    this.#stages = stages;
  }

  start(): void {
    const { hostRulesFile } = this.#deps;
    try {
      this.#saved = hostRulesFile === undefined ? undefined : readIfPresent(hostRulesFile);
    } catch {
      // It is replaced.
      this.#saved = '';
    }
  }

  apply(phase: Phase): void {
    if (phase !== 'routes') return;
    this.#mayDiffer = true;
    this.#saveIfDue();
  }

  poll(): boolean {
    this.#saveIfDue();
    return false;
  }

  stop(): void {
    if (this.#mayDiffer && this.#savedAt > -Infinity) this.#save();
  }

  #saveIfDue(): void {
    if (this.#mayDiffer && performance.now() - this.#savedAt > pauseMs) this.#save();
  }

  #save(): void {
    const { hostRulesFile: file, kernel } = this.#deps;
    if (file === undefined) return;
    this.#mayDiffer = false;
    const stages = this.#stages();
    const text = stages === undefined ? undefined : JSON.stringify(kernel.savedHostRules(stages));
    if (text === this.#saved) return;
    this.#savedAt = performance.now();
    if (text === undefined) rmSync(file, { force: true });
    else replaceFileSync(file, text, 0o600);
    this.#saved = text;
  }
}
