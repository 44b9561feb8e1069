import type { Comparison, Selector } from './ast.ts';

/** Labels by key; a Map is one. */
export interface LabelLookup {
  get(key: string): string | undefined;
}

const comparisons: Readonly<
  Record<Comparison, (label: string | undefined, value: string) => boolean>
> = {
  '==': (label, value) => label === value,
  '!=': (label, value) => label !== value,
  contains: (label, value) => label?.includes(value) ?? false,
  'starts with': (label, value) => label?.startsWith(value) ?? false,
  'ends with': (label, value) => label?.endsWith(value) ?? false,
};

/** Reports whether a selector matches a set of labels. A missing label differs from every value. */
export function matches(selector: Selector, labels: LabelLookup): boolean {
  switch (selector.kind) {
    case 'all':
    case 'global':
      return true;
    case 'has':
      return labels.get(selector.key) !== undefined;
    case 'in':
    case 'not in': {
      const label = labels.get(selector.key);
      const isIn = label !== undefined && selector.values.includes(label);
      return isIn === (selector.kind === 'in');
    }
    case 'not':
      return !matches(selector.operand, labels);
    case 'and':
      return selector.operands.every((operand) => matches(operand, labels));
    case 'or':
      return selector.operands.some((operand) => matches(operand, labels));
    default:
      return comparisons[selector.kind](labels.get(selector.key), selector.value);
  }
}
