import type { IpFamily } from '../../ip/address.ts';
import type { Chain, Hook, TableName } from '../../ruleset/rule.ts';
import type { ToolRunner } from '../process.ts';
import { renderChain, type RenderedRule } from './hash.ts';
import { parseSave, type SavedRule, type SavedTable } from './save-parser.ts';

export type Backend = 'legacy' | 'nft';

/** What a round of `apply` wrote. */
export interface Applied {
  /** Transactions of the kernel: one per table that changed. */
  readonly transactions: number;
  readonly lines: number;
}

interface DesiredHook {
  readonly inserted: readonly RenderedRule[];
  readonly appended: readonly RenderedRule[];
}

interface DesiredTable {
  readonly chains: Map<string, readonly RenderedRule[]>;
  readonly hooks: Map<string, DesiredHook>;
  /** Names of chains, ours or the kernel's, that may differ from what is there. */
  readonly dirty: Set<string>;
}

const tableNames: readonly TableName[] = ['raw', 'mangle', 'nat', 'filter'];
const ourPrefix = 'cali-';
const debianPackage = 'iptables';

/**
 * Our chains in the tables of one IP family, by iptables-restore. Nothing is read from the kernel unless
 * somebody says that it may have changed; one process writes all that differs in all tables.
 */
export class IptablesTables {
  readonly #runner: ToolRunner;
  readonly #save: string;
  readonly #restore: string;
  readonly #desired: ReadonlyMap<TableName, DesiredTable>;
  #actual: Map<TableName, Map<string, readonly SavedRule[]>> | undefined;
  #isInForce = false;
  /** How often what we had written to FORWARD was found gone: packets went by unjudged until it was back. */
  losses = 0;

  constructor(
    runner: ToolRunner,
    { family, backend }: { readonly family: IpFamily; readonly backend: Backend },
  ) {
    this.#runner = runner;
    const tool = `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}`;
    this.#save = `${tool}-save`;
    this.#restore = `${tool}-restore`;
    this.#desired = new Map(
      tableNames.map((name) => [
        name,
        { chains: new Map(), hooks: new Map(), dirty: new Set<string>() },
      ]),
    );
  }

  /** The chain is from now on as given. */
  setChain(table: TableName, { name, rules }: Chain): void {
    const { chains, dirty } = this.#table(table);
    chains.set(name, renderChain(rules, name));
    dirty.add(name);
  }

  removeChain(table: TableName, name: string): void {
    const { chains, dirty } = this.#table(table);
    if (chains.delete(name)) dirty.add(name);
  }

  /** Our rules in one of the kernel's chains. */
  setHook(table: TableName, { chain, inserted, appended }: Hook): void {
    const { hooks, dirty } = this.#table(table);
    hooks.set(chain, {
      inserted: renderChain(inserted, chain),
      appended: renderChain(appended, chain, `${chain}*appends*`),
    });
    dirty.add(chain);
  }

  /** Somebody may have changed the tables: the next `apply` reads them first. */
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
   * Makes the tables as they should be at the moment of the call; what is wanted later is left for the next
   * time. Each table changes in one step or not at all. `prepare` comes before. Throws `kernel/tool-failed`;
   * then the next `prepare` reads anew.
   */
  async write(signal: AbortSignal): Promise<Applied> {
    const actual = this.#actual;
    if (actual === undefined) return { transactions: 0, lines: 0 };
    const parts = tableNames.flatMap((name) => {
      const present = actual.get(name) ?? new Map<string, readonly SavedRule[]>();
      const lines = scriptFor(this.#table(name), present);
      actual.set(name, this.#taken(name, present));
      return lines.length === 0 ? [] : [{ name, lines }];
    });
    this.#isInForce = true;
    if (parts.length === 0) return { transactions: 0, lines: 0 };
    const input = parts
      .map(({ name, lines }) => `*${name}\n${lines.join('\n')}\nCOMMIT\n`)
      .join('');
    try {
      await this.#runner.run(
        [this.#restore, '--noflush', '--wait', '10'],
        { input, debianPackage },
        signal,
      );
    } catch (error) {
      this.invalidate();
      throw error;
    }
    return {
      transactions: parts.length,
      lines: parts.reduce((sum, { lines }) => sum + lines.length, 0),
    };
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
    if (this.#isInForce && !this.#isHooked(saved)) this.losses++;
    for (const name of tableNames) {
      const { chains, hooks, dirty } = this.#table(name);
      const present = saved.get(name) ?? new Map<string, readonly SavedRule[]>();
      for (const chain of [...chains.keys(), ...hooks.keys()]) dirty.add(chain);
      for (const [chain, rules] of present) {
        if (chain.startsWith(ourPrefix) || rules.some(({ hash }) => hash !== undefined)) {
          dirty.add(chain);
        }
      }
    }
    return saved;
  }

  #isHooked(saved: ReadonlyMap<TableName, SavedTable>): boolean {
    const [jump] = this.#table('filter').hooks.get('FORWARD')?.inserted ?? [];
    const rules = saved.get('filter')?.get('FORWARD') ?? [];
    return rules.some(({ hash }) => hash === jump?.hash);
  }

  /** What is there when the present wishes have been written. */
  #taken(
    name: TableName,
    present: Map<string, readonly SavedRule[]>,
  ): Map<string, readonly SavedRule[]> {
    const { chains, hooks, dirty } = this.#table(name);
    if (dirty.size === 0) return present;
    const table = new Map(present);
    for (const chain of dirty) {
      const rules = chains.get(chain);
      if (isOurs(chain)) {
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

/** The lines that make a table as it should be: chains made or emptied, filled, hooks placed, chains removed. */
function scriptFor({ chains, hooks, dirty }: DesiredTable, actual: SavedTable): readonly string[] {
  const declared: string[] = [];
  const filled: string[] = [];
  const hooked: string[] = [];
  const removed: string[] = [];
  for (const chain of [...dirty].toSorted()) {
    const present = actual.get(chain);
    if (!isOurs(chain)) {
      hooked.push(...hookLines(chain, hooks.get(chain), present ?? []));
      continue;
    }
    const wanted = chains.get(chain);
    if (wanted === undefined) {
      if (present === undefined) continue;
      declared.push(`:${chain} - [0:0]`);
      removed.push(`-X ${chain}`);
    } else if (present === undefined || !isSame(wanted, present)) {
      declared.push(`:${chain} - [0:0]`);
      filled.push(...wanted.map(({ text }) => `-A ${chain} ${text}`));
    }
  }
  return [...declared, ...filled, ...hooked, ...removed];
}

function hookLines(
  chain: string,
  hook: DesiredHook | undefined,
  present: readonly SavedRule[],
): readonly string[] {
  const { inserted, appended } = hook ?? { inserted: [], appended: [] };
  const { judging, refusing } = foreignRules(present);
  const wanted = [
    ...inserted.map(({ hash }) => hash),
    ...judging.map(() => undefined),
    ...appended.map(({ hash }) => hash),
    ...refusing.map(() => undefined),
  ];
  const isPlaced =
    wanted.length === present.length &&
    wanted.every((hash, index) => hash === present[index]?.hash);
  if (isPlaced) return [];
  return [
    ...present.filter(({ hash }) => hash !== undefined).map(({ spec }) => `-D ${chain} ${spec}`),
    ...inserted.map(({ text }, index) => `-I ${chain} ${index + 1} ${text}`),
    ...appended.map(({ text }, index) =>
      refusing.length === 0
        ? `-A ${chain} ${text}`
        : `-I ${chain} ${inserted.length + judging.length + index + 1} ${text}`,
    ),
  ];
}

/**
 * The rules of others: those that judge single packets, and, from the first that refuses whatever comes, the
 * rest. That first one is a default like the chain's policy, and what we append comes before it.
 */
function foreignRules(present: readonly SavedRule[]): {
  readonly judging: readonly SavedRule[];
  readonly refusing: readonly SavedRule[];
} {
  const foreign = present.filter(({ hash }) => hash === undefined);
  const first = foreign.findIndex(({ spec }) => refusesAll.test(spec));
  const end = first < 0 ? foreign.length : first;
  return { judging: foreign.slice(0, end), refusing: foreign.slice(end) };
}

/** The last is ufw's chain for the default `reject`. */
const refusesAll = /^-j (DROP|REJECT( --reject-with \S+)?|ufw6?-reject-forward)$/;

function isSame(wanted: readonly RenderedRule[], present: readonly SavedRule[]): boolean {
  return (
    wanted.length === present.length &&
    wanted.every(({ hash }, index) => hash === present[index]?.hash)
  );
}

function isOurs(chain: string): boolean {
  return chain.startsWith(ourPrefix);
}

function toSaved({ hash, text }: RenderedRule): SavedRule {
  return { hash, spec: text };
}
