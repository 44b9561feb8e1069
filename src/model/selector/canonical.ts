import { createHash } from 'node:crypto';
import type { Selector } from './ast.ts';

/** Returns the canonical text of a selector: equal selectors, however written, have equal texts. */
export function canonicalText(selector: Selector): string {
  switch (selector.kind) {
    case 'all':
    case 'global':
      return `${selector.kind}()`;
    case 'has':
      return `has(${selector.key})`;
    case 'in':
    case 'not in':
      return `${selector.key} ${selector.kind} {${selector.values.map(quote).join(', ')}}`;
    case 'not':
      return `!${canonicalText(selector.operand)}`;
    case 'and':
    case 'or': {
      const sign = selector.kind === 'and' ? ' && ' : ' || ';
      return `(${selector.operands.map(canonicalText).join(sign)})`;
    }
    default:
      return `${selector.key} ${selector.kind} ${quote(selector.value)}`;
  }
}

/**
 * Returns the ID of a selector, the same as in Calico: `s:` and the SHA-224 of `s:` with the canonical text, in
 * base64url without padding. Source: Calico, libcalico-go/lib/hash.
 */
export function selectorId(selector: Selector): string {
  const digest = createHash('sha224')
    .update(`s:${canonicalText(selector)}`)
    .digest('base64url');
  return `s:${digest}`;
}

function quote(text: string): string {
  return text.includes('"') ? `'${text}'` : `"${text}"`;
}
