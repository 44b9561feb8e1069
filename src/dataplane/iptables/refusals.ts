import { describe, isCalicoError } from '../../errors/error.ts';
import type { RenderedRule } from './hash.ts';
import { declaration, type DesiredChain, type FilledChain } from './script.ts';

/** A desired chain that the kernel refused, and the reason. */
export interface RefusedChain extends DesiredChain {
  readonly why: string;
}

/** Commits lines to one table; returns the refusal, or `undefined` if it succeeded. Throws other errors. */
export type Commit = (lines: readonly string[]) => Promise<Error | undefined>;

/** The chain in which rules are tried: no packet passes it. */
const trialChain = 'cali-trial';

/** Removes the chain in which rules were tried. */
export const trialChainSuffix: readonly string[] = [declaration(trialChain), `-X ${trialChain}`];

/**
 * Reports whether the kernel refused the rules, so that other rules may be accepted; not that the tool is missing, was
 * stopped, or timed out waiting for the xtables lock. The statuses are those of xtables' PARAMETER_PROBLEM,
 * RESOURCE_PROBLEM (which is what iptables-nft makes of any refusal by the kernel) and of any other failure.
 */
export function isRefusal(error: unknown): error is Error {
  if (!isCalicoError(error, 'kernel/tool-failed')) return false;
  const { status, why } = error.detail;
  return /^status [124]$/.test(status) && !why.includes('xtables lock');
}

/**
 * Finds the chains with rules that the kernel refuses, by bisection in a separate chain, so that packets are not
 * affected meanwhile. For one bad rule of 10,000 that is 16 commits at most; two if the error names a line.
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
    // They are refused together, and none alone: the reason is not the content of a rule.
    if (bad === undefined || found === undefined) return refused;
    const { chain, rule } = found;
    refused.set(chain.name, { ...chain, why: `${withoutHash(rule)}: ${describe(bad.said)}` });
    start = rules.findLastIndex((one) => one.chain === chain) + 1;
  }
  return refused;
}

/** Returns the first rule of a part that is refused alone, with its error. */
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
  // All rules before `low` are accepted; at least one before `high` is not.
  let [low, high] = [part.start, part.end];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((await tryRules(low, middle)) === undefined) low = middle;
    else high = middle;
  }
  const said = await tryRules(low, low + 1);
  return said === undefined ? undefined : { index: low, said };
}

/** Returns the items that are refused alone, with the reasons. */
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

/** Returns the line that the error names; for legacy tables it may be that of COMMIT. */
function lineOf(error: unknown): number | undefined {
  const line = /\bline:? (\d+)/.exec(describe(error))?.[1];
  return line === undefined ? undefined : Number(line);
}

function withoutHash({ text }: RenderedRule): string {
  return text.replace(/-m comment --comment "cali:[^"]*" /, '');
}
