import { CalicoError } from '../../errors/error.ts';
import type { IpFamily } from '../../ip/address.ts';
import type { Chain, Hook, TableName } from '../../render/iptables/rule.ts';
import type { ApplyFailure } from '../apply-failure.ts';
import type { ToolRunner } from '../process.ts';
import { renderChain, type RenderedRule } from './hash.ts';
import {
  findRefused,
  isRefusal,
  refusedOf,
  trialChainSuffix,
  type RefusedChain,
} from './refusals.ts';
import { parseSave, type SavedRule, type SavedTable } from './save-parser.ts';
import {
  declaration,
  foreignRules,
  isEmpty,
  isOwn,
  renderDesired,
  scriptFor,
  scriptLines,
  type DesiredChain,
  type DesiredHook,
  type TableScript,
} from './script.ts';

export type Backend = 'legacy' | 'nft';

/** What one `apply` wrote. */
export interface Applied {
  /** Transactions of the kernel: one per table that changed. */
  readonly transactions: number;
  readonly lines: number;
}

interface DesiredTable {
  readonly chains: Map<string, DesiredChain>;
  readonly hooks: Map<string, DesiredHook>;
  /** Names of chains, ours or built-in, that may be out of sync. */
  readonly dirty: Set<string>;
  /** Desired chains that the kernel refused: their substitutes are programmed. */
  readonly refused: Map<string, RefusedChain>;
  /** Undesired chains that the kernel refuses to remove, with the reason. */
  readonly stuck: Map<string, string>;
}

const tableNames: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter'];
const debianPackage = 'iptables';

/**
 * Our chains in the tables of one IP family, by iptables-restore. The kernel is read only after a notification that it
 * may have changed; one process writes the delta of all tables.
 */
export class IptablesTables {
  readonly #runner: Pick<ToolRunner, 'run' | 'feed'>;
  readonly #save: string;
  readonly #restoreTool: string;
  readonly #family: IpFamily;
  readonly #desired: ReadonlyMap<TableName, DesiredTable>;
  #actual: Map<TableName, Map<string, readonly SavedRule[]>> | undefined;
  /** Hashes of our rules at the start of FORWARD, as last written. */
  #placed: readonly string[] = [];
  /** How often our rules in FORWARD were found removed: packets bypassed policy until they were restored. */
  losses = 0;

  constructor(
    runner: Pick<ToolRunner, 'run' | 'feed'>,
    { family, backend }: { readonly family: IpFamily; readonly backend: Backend },
  ) {
    this.#runner = runner;
    this.#family = family;
    const tool = `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}`;
    this.#save = `${tool}-save`;
    this.#restoreTool = `${tool}-restore`;
    this.#desired = new Map(
      tableNames.map((name) => [
        name,
        {
          chains: new Map(),
          hooks: new Map(),
          dirty: new Set<string>(),
          refused: new Map(),
          stuck: new Map(),
        },
      ]),
    );
  }

  /** Sets a desired chain. */
  setChain(table: TableName, chain: Chain): void {
    const { chains, dirty, refused, stuck } = this.#table(table);
    const { name } = chain;
    const desired = renderDesired(chain);
    const before = refused.get(name);
    if (before !== undefined && isSame(before, desired)) return;
    refused.delete(name);
    stuck.delete(name);
    chains.set(name, desired);
    dirty.add(name);
  }

  removeChain(table: TableName, name: string): void {
    const { chains, dirty, refused } = this.#table(table);
    refused.delete(name);
    if (chains.delete(name)) dirty.add(name);
  }

  /** Retries all refused chains with the next `write`. */
  retryRefused(): void {
    for (const { chains, dirty, refused, stuck } of this.#desired.values()) {
      for (const [name, { rules, ifRefused }] of refused) {
        chains.set(name, { rules, ifRefused });
        dirty.add(name);
      }
      for (const name of stuck.keys()) dirty.add(name);
      refused.clear();
      stuck.clear();
    }
  }

  /** Returns what the kernel refuses; everything else is programmed. */
  failures(): readonly ApplyFailure[] {
    return [...this.#desired].flatMap(([table, { refused, stuck }]): ApplyFailure[] => [
      ...[...refused].map(([name, { ifRefused, why }]) => ({
        what: `${ifRefused?.what ?? name}, IPv${this.#family}`,
        why,
      })),
      ...[...stuck].map(([name, why]) => ({ what: `removal of chain ${name} (${table})`, why })),
    ]);
  }

  /** Sets our rules in a built-in chain. */
  setHook(table: TableName, { chain, inserted, appended }: Hook): void {
    const { hooks, dirty } = this.#table(table);
    hooks.set(chain, {
      inserted: renderChain(inserted, chain),
      appended: renderChain(appended, chain, `${chain}*appends*`),
    });
    dirty.add(chain);
  }

  /** Notes that another program may have changed the tables: the next `apply` reads them first. */
  invalidate(): void {
    this.#actual = undefined;
  }

  /** Whether `prepare` has nothing to read. */
  get isKnown(): boolean {
    return this.#actual !== undefined;
  }

  /** Reads the tables if they may have changed. Throws `kernel/tool-failed` or `kernel/tool-missing`. */
  async prepare(signal: AbortSignal): Promise<void> {
    this.#actual ??= await this.#read(signal);
  }

  /**
   * Writes the desired state at the moment of the call; later changes are left for the next call. Each table changes
   * in one step or not at all; but chains that the kernel refuses are found, and those with substitutes block nothing
   * else (`failures`). Call `prepare` first. Throws `kernel/tool-failed`; then the next `prepare` reads again.
   */
  async write(signal: AbortSignal): Promise<Applied> {
    const actual = this.#actual;
    if (actual === undefined) return { transactions: 0, lines: 0 };
    const parts = tableNames.flatMap((name) => {
      const present = actual.get(name) ?? new Map<string, readonly SavedRule[]>();
      const table = this.#table(name);
      const script = scriptFor(table, table.dirty.difference(table.stuck), present);
      actual.set(name, this.#taken(name, present));
      return isEmpty(script) ? [] : [{ name, script }];
    });
    const toPlace = this.#table('filter').hooks.get('FORWARD')?.inserted ?? [];
    const all = parts.map(({ name, script }) => ({ name, lines: scriptLines(script) }));
    try {
      if (parts.length > 0) await this.#restore(all, signal, 'feed');
    } catch (error) {
      this.invalidate();
      if (!isRefusal(error)) throw error;
      for (const part of parts) await this.#writeWithoutRefused(part, signal);
    }
    this.#placed = toPlace.map(({ hash }) => hash);
    return {
      transactions: parts.length,
      lines: all.reduce((sum, { lines }) => sum + lines.length, 0),
    };
  }

  /** Writes one table: refused chains are replaced by their substitutes; chains that cannot be removed stay. */
  async #writeWithoutRefused(
    { name, script }: { readonly name: TableName; readonly script: TableScript },
    signal: AbortSignal,
  ): Promise<void> {
    const commit = async (lines: readonly string[]): Promise<Error | undefined> => {
      try {
        await this.#restore([{ name, lines }], signal);
        return undefined;
      } catch (error) {
        if (isRefusal(error)) return error;
        throw error;
      }
    };
    if ((await commit(scriptLines(script))) === undefined) return;
    const refused = await findRefused(script.filled, commit);
    const filled = script.filled.flatMap((chain) => {
      if (!refused.has(chain.name)) return [chain];
      return chain.ifRefused === undefined ? [] : [{ ...chain, rules: chain.ifRefused.rules }];
    });
    const rest = { ...script, filled, removed: [] };
    const emptied = script.removed.map(declaration);
    const said = await commit([...emptied, ...scriptLines(rest), ...trialChainSuffix]);
    if (said !== undefined) throw said;
    const stuck = await refusedOf(script.removed, (removed) =>
      commit(scriptLines({ filled: [], hooked: [], removed })),
    );
    for (const [chain, why] of stuck) this.#table(name).stuck.set(chain, why);
    for (const [chain, found] of refused) this.#substitute(name, chain, found);
    const fatal = [...refused.values()].find(({ ifRefused }) => ifRefused === undefined);
    if (fatal === undefined) return;
    throw new CalicoError('kernel/tool-failed', {
      tool: this.#restoreTool,
      status: 'refused',
      why: fatal.why,
    });
  }

  /** Makes the substitute the desired chain, unless the desired chain has changed meanwhile. */
  #substitute(name: TableName, chain: string, found: RefusedChain): void {
    const { chains, refused } = this.#table(name);
    const desired = chains.get(chain);
    if (desired === undefined || found.ifRefused === undefined || !isSame(desired, found)) return;
    refused.set(chain, found);
    chains.set(chain, { rules: found.ifRefused.rules, ifRefused: undefined });
  }

  async #restore(
    parts: readonly { readonly name: TableName; readonly lines: readonly string[] }[],
    signal: AbortSignal,
    how: 'run' | 'feed' = 'run',
  ): Promise<void> {
    const input = parts
      .map(({ name, lines }) => `*${name}\n${lines.join('\n')}\nCOMMIT\n`)
      .join('');
    const argv = [this.#restoreTool, '--noflush', '--wait', '10'];
    if (how === 'run') await this.#runner.run(argv, { input, debianPackage }, signal);
    // It repeats comments if it is verbose.
    else await this.#runner.feed([...argv, '--verbose'], { input, debianPackage }, signal);
  }

  /** Both steps. */
  async apply(signal: AbortSignal): Promise<Applied> {
    await this.prepare(signal);
    return this.write(signal);
  }

  async #read(signal: AbortSignal): Promise<Map<TableName, Map<string, readonly SavedRule[]>>> {
    const { stdout } = await this.#runner.run([this.#save], { debianPackage }, signal);
    const saved = new Map(
      [...parseSave(stdout)].map(([name, chains]) => [name, new Map(chains)] as const),
    );
    if (!this.#areInPlace(saved)) this.losses++;
    for (const name of tableNames) {
      const { chains, hooks, dirty } = this.#table(name);
      const present = saved.get(name) ?? new Map<string, readonly SavedRule[]>();
      for (const chain of [...chains.keys(), ...hooks.keys()]) dirty.add(chain);
      for (const [chain, rules] of present) {
        if (isOwn(chain) || rules.some(({ hash }) => hash !== undefined)) {
          dirty.add(chain);
        }
      }
    }
    return saved;
  }

  #areInPlace(saved: ReadonlyMap<TableName, SavedTable>): boolean {
    const rules = saved.get('filter')?.get('FORWARD') ?? [];
    const present = new Set(rules.map(({ hash }) => hash));
    return this.#placed.every((hash) => present.has(hash));
  }

  /** Returns the state after the desired state has been written. */
  #taken(
    name: TableName,
    present: Map<string, readonly SavedRule[]>,
  ): Map<string, readonly SavedRule[]> {
    const { chains, hooks, dirty } = this.#table(name);
    if (dirty.size === 0) return present;
    const table = new Map(present);
    for (const chain of dirty) {
      const rules = chains.get(chain)?.rules;
      if (isOwn(chain)) {
        if (rules === undefined) table.delete(chain);
        else table.set(chain, rules.map(toSaved));
      } else {
        const hook = hooks.get(chain);
        const { judging, refusing } = foreignRules(table.get(chain) ?? []);
        table.set(chain, [
          ...(hook?.inserted ?? []).map(toSaved),
          ...judging,
          ...(hook?.appended ?? []).map(toSaved),
          ...refusing,
        ]);
      }
    }
    dirty.clear();
    return table;
  }

  #table(name: TableName): DesiredTable {
    const table = this.#desired.get(name);
    if (table === undefined) throw new TypeError(`no table ${name}`);
    return table;
  }
}

/** Reports whether two chains are equal: a hash covers all rules before it. */
function isSame(a: DesiredChain, b: DesiredChain): boolean {
  return a.rules.length === b.rules.length && a.rules.at(-1)?.hash === b.rules.at(-1)?.hash;
}

function toSaved({ hash, text }: RenderedRule): SavedRule {
  return { hash, spec: text };
}
