import type { Chain } from '../../render/iptables/rule.ts';
import { renderChain, type RenderedRule } from './hash.ts';
import type { SavedRule, SavedTable } from './save-parser.ts';

const ourPrefix = 'cali-';

/** A desired chain, and its substitute if the kernel refuses it. */
export interface DesiredChain {
  readonly rules: readonly RenderedRule[];
  readonly ifRefused:
    | { readonly what: string; readonly rules: readonly RenderedRule[] }
    | undefined;
}

export interface DesiredHook {
  readonly inserted: readonly RenderedRule[];
  readonly appended: readonly RenderedRule[];
}

/** A chain to be filled. */
export interface FilledChain extends DesiredChain {
  readonly name: string;
  readonly isNew: boolean;
}

/** The delta of a table. */
export interface TableScript {
  readonly filled: readonly FilledChain[];
  /** Lines that insert our rules into built-in chains. */
  readonly hooked: readonly string[];
  readonly removed: readonly string[];
}

export function renderDesired({ name, rules, ifRefused }: Chain): DesiredChain {
  return {
    rules: renderChain(rules, name),
    ifRefused:
      ifRefused === undefined
        ? undefined
        : { what: ifRefused.what, rules: renderChain(ifRefused.rules, name) },
  };
}

/** Returns the lines of a script: chains created or flushed, filled, hooks inserted, chains removed. */
export function scriptLines({ filled, hooked, removed }: TableScript): readonly string[] {
  return [
    ...[...filled.map(({ name }) => name), ...removed].map(declaration),
    ...filled.flatMap(({ name, rules }) => rules.map(({ text }) => `-A ${name} ${text}`)),
    ...hooked,
    ...removed.map((name) => `-X ${name}`),
  ];
}

/** Returns the line that creates or flushes a chain. */
export function declaration(chain: string): string {
  return `:${chain} - [0:0]`;
}

/** Returns the delta of a table, for the given chains. */
export function scriptFor(
  {
    chains,
    hooks,
  }: {
    readonly chains: ReadonlyMap<string, DesiredChain>;
    readonly hooks: ReadonlyMap<string, DesiredHook>;
  },
  dirty: Iterable<string>,
  actual: SavedTable,
): TableScript {
  const filled: FilledChain[] = [];
  const hooked: string[] = [];
  const removed: string[] = [];
  for (const name of [...dirty].toSorted()) {
    const present = actual.get(name);
    if (!isOwn(name)) {
      hooked.push(...hookLines(name, hooks.get(name), present ?? []));
      continue;
    }
    const desired = chains.get(name);
    if (desired === undefined) {
      if (present !== undefined) removed.push(name);
    } else if (present === undefined || !isSame(desired.rules, present)) {
      filled.push({ ...desired, name, isNew: present === undefined });
    }
  }
  return { filled, hooked, removed };
}

export function isEmpty({ filled, hooked, removed }: TableScript): boolean {
  return filled.length + hooked.length + removed.length === 0;
}

function hookLines(
  chain: string,
  hook: DesiredHook | undefined,
  present: readonly SavedRule[],
): readonly string[] {
  const { inserted, appended } = hook ?? { inserted: [], appended: [] };
  const { judging, refusing } = foreignRules(present);
  const desired = [
    ...inserted.map(({ hash }) => hash),
    ...judging.map(() => undefined),
    ...appended.map(({ hash }) => hash),
    ...refusing.map(() => undefined),
  ];
  const isPlaced =
    desired.length === present.length &&
    desired.every((hash, index) => hash === present[index]?.hash);
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
 * Splits the rules of other programs: those before the first that drops or rejects every packet, and the rest. That
 * first one is a default like the chain's policy, and our appended rules precede it.
 */
export function foreignRules(present: readonly SavedRule[]): {
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

function isSame(desired: readonly RenderedRule[], present: readonly SavedRule[]): boolean {
  return (
    desired.length === present.length &&
    desired.every(({ hash }, index) => hash === present[index]?.hash)
  );
}

/** Reports whether a chain is ours, not built-in or of another program. */
export function isOwn(chain: string): boolean {
  return chain.startsWith(ourPrefix);
}
