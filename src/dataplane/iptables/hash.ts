import { createHash } from 'node:crypto';
import type { Rule } from '../../render/iptables/rule.ts';
import { renderRule } from '../../render/iptables/rule-text.ts';

/** A rule as text without its chain, and the hash that identifies it in the kernel. */
export interface RenderedRule {
  readonly hash: string;
  readonly text: string;
}

const marker = 'cali:';

/** Stands for the hash in the text that is hashed. */
const placeholder = 'HASH';

/**
 * Renders the rules of a chain. Each rule's hash is computed from its own text and the hash before it, so that equal
 * hashes mean equal rules at an equal position; the rule's comment begins with it, where iptables-save shows it.
 * `hashedAs` is the chain's name, or that name with `*appends*` for rules after others. Source: Calico,
 * felix/iptables.
 */
export function renderChain(
  rules: readonly Rule[],
  chain: string,
  hashedAs = chain,
): readonly RenderedRule[] {
  let previous = createHash('sha224').update(hashedAs).digest();
  return rules.map((rule) => {
    const rendered = renderRule(rule, placeholder);
    // Where the comment stands is part of what is hashed: rules of a release that put it elsewhere are replaced.
    const hashed = rendered.replace(`-m comment --comment "${placeholder}"`, placeholder);
    previous = createHash('sha224').update(previous).update(`-A ${chain} ${hashed}`).digest();
    const hash = previous.toString('base64url').slice(0, 16);
    const text = rendered.replace(`--comment "${placeholder}`, `--comment "${marker}${hash}`);
    return { hash, text };
  });
}

/** The hash in a line of iptables-save; `undefined` for a rule of another program. */
export function hashIn(line: string): string | undefined {
  return /--comment "?cali:([A-Za-z0-9_-]{16})"?/.exec(line)?.[1];
}
