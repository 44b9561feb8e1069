import type { Chain } from '../../render/iptables/rule.ts';
import { renderChain, type RenderedRule } from './hash.ts';
import type { SavedRule, SavedTable } from './save-parser.ts';

const ourPrefix = 'cali-';

/** A chain as it should be, and what takes its place if the kernel refuses it. */
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

/** What makes a table as it should be. */
export interface TableScript {
  readonly filled: readonly FilledChain[];
  /** Lines that place our rules in the kernel's chains. */
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

/** The lines of a script: chains made or emptied, filled, hooks placed, chains removed. */
export function scriptLines({ filled, hooked, removed }: TableScript): readonly string[] {
  return [
    ...[...filled.map(({ name }) => name), ...removed].map(declaration),
    ...filled.flatMap(({ name, rules }) => rules.map(({ text }) => `-A ${name} ${text}`)),
    ...hooked,
    ...removed.map((name) => `-X ${name}`),
  ];
}

/** Makes a chain, or empties it. */
export function declaration(chain: string): string {
  return `:${chain} - [0:0]`;
}

/** What of a table differs, among the chains named. */
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
 * The rules of others: those that judge single packets, and, from the first that refuses whatever comes, the
 * rest. That first one is a default like the chain's policy, and what we append comes before it.
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

/** Whether a chain is ours, and not the kernel's or somebody else's. */
export function isOwn(chain: string): boolean {
  return chain.startsWith(ourPrefix);
}
