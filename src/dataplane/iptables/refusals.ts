import { describe, isCalicoError } from '../../errors/error.ts';
import type { RenderedRule } from './hash.ts';
import { declaration, type DesiredChain, type FilledChain } from './script.ts';

/** A chain as it was wanted when the kernel refused it, and why it did. */
export interface RefusedChain extends DesiredChain {
  readonly why: string;
}

/** Commits lines to one table; answers the refusal, or nothing if it went well. Throws where it was not refused. */
export type Commit = (lines: readonly string[]) => Promise<Error | undefined>;

/** Where rules are tried: no packet comes here. */
const trialChain = 'cali-trial';

/** Removes the chain in which rules were tried. */
export const trialChainSuffix: readonly string[] = [declaration(trialChain), `-X ${trialChain}`];

/**
 * Whether what was written was refused, so that another text may be taken; not that the tool is missing, was
 * stopped, or waited in vain for the lock that the tools share. The statuses are those of xtables' PARAMETER_PROBLEM,
 * RESOURCE_PROBLEM (which is what iptables-nft makes of any refusal by the kernel) and of any other failure.
 */
export function isRefusal(error: unknown): error is Error {
  if (!isCalicoError(error, 'kernel/tool-failed')) return false;
  const { status, why } = error.detail;
  return /^status [124]$/.test(status) && !why.includes('xtables lock');
}

/**
 * Finds the chains of which the kernel refuses a rule, by halves: in a chain of its own, so that packets go their
 * usual way meanwhile. For one bad rule of 10,000 that is 16 commits at most; two where the complaint names a line.
 */
export async function findRefused(
  chains: readonly FilledChain[],
  commit: Commit,
): Promise<ReadonlyMap<string, RefusedChain>> {
  const refused = new Map<string, RefusedChain>();
  const declared = chains.filter(({ isNew }) => isNew).map(({ name }) => declaration(name));
  const rules = chains.flatMap((chain) => chain.rules.map((rule) => ({ chain, rule })));
  const head = [...declared, declaration(trialChain)];
  const tryRules = (from: number, end: number): Promise<Error | undefined> =>
    commit([
      ...head,
      ...rules.slice(from, end).map(({ rule: { text } }) => `-A ${trialChain} ${text}`),
    ]);

  for (let start = 0; start < rules.length;) {
    const all = await tryRules(start, rules.length);
    if (all === undefined) break;
    const bad = await firstRefused(tryRules, { start, end: rules.length, said: all }, head.length);
    const found = bad === undefined ? undefined : rules[bad.index];
    // Together they are refused, and none alone: it is not for what a rule says.
    if (bad === undefined || found === undefined) return refused;
    const { chain, rule } = found;
    refused.set(chain.name, { ...chain, why: `${withoutHash(rule)}: ${describe(bad.said)}` });
    start = rules.findLastIndex((one) => one.chain === chain) + 1;
  }
  return refused;
}

/** The first rule of a part that is refused alone, and what was said of it. */
async function firstRefused(
  tryRules: (from: number, end: number) => Promise<Error | undefined>,
  part: { readonly start: number; readonly end: number; readonly said: Error },
  linesBefore: number,
): Promise<{ readonly index: number; readonly said: Error } | undefined> {
  const named = lineOf(part.said);
  if (named !== undefined) {
    // The first line of the text names the table.
    const index = part.start + named - linesBefore - 2;
    const isInside = index >= part.start && index < part.end;
    const said = isInside ? await tryRules(index, index + 1) : undefined;
    if (said !== undefined) return { index, said };
  }
  // What is before `low` is taken, and something before `high` is not.
  let [low, high] = [part.start, part.end];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((await tryRules(low, middle)) === undefined) low = middle;
    else high = middle;
  }
  const said = await tryRules(low, low + 1);
  return said === undefined ? undefined : { index: low, said };
}

/** Those of the items that are refused alone, with the reasons. */
export async function refusedOf(
  items: readonly string[],
  act: (items: readonly string[]) => Promise<Error | undefined>,
): Promise<ReadonlyMap<string, string>> {
  const [only] = items;
  if (only === undefined) return new Map();
  const said = await act(items);
  if (said === undefined) return new Map();
  if (items.length === 1) return new Map([[only, describe(said)]]);
  const middle = items.length >> 1;
  return new Map([
    ...(await refusedOf(items.slice(0, middle), act)),
    ...(await refusedOf(items.slice(middle), act)),
  ]);
}

/** The line of the text that the tool or the kernel complains of; for legacy tables it may be that of COMMIT. */
function lineOf(error: unknown): number | undefined {
  const line = /\bline:? (\d+)/.exec(describe(error))?.[1];
  return line === undefined ? undefined : Number(line);
}

function withoutHash({ text }: RenderedRule): string {
  return text.replace(/^-m comment --comment "[^"]*" /, '');
}
