import { describe } from '../../errors/error.ts';
import type { Selector } from './ast.ts';
import { parseSelector } from './parse.ts';

/**
 * Returns why a text is not a valid selector of resources, or uses `global()`, which selects namespaces; `undefined`
 * if it is valid.
 */
export function selectorProblem(text: string | undefined): string | undefined {
  try {
    const usesGlobal = isGlobal(parseSelector(text ?? ''));
    return usesGlobal
      ? 'global() may only stand alone in a namespaceSelector of a rule'
      : undefined;
  } catch (error) {
    return describe(error);
  }
}

function isGlobal(selector: Selector): boolean {
  if (selector.kind === 'global') return true;
  if (selector.kind === 'not') return isGlobal(selector.operand);
  return 'operands' in selector && selector.operands.some(isGlobal);
}
