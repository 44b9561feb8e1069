/** A label selector of Calico, parsed. Immutable. */
export type Selector =
  | { readonly kind: 'all' }
  /** True for every label set; it has a meaning only where namespaces are selected. */
  | { readonly kind: 'global' }
  | { readonly kind: 'has'; readonly key: string }
  | { readonly kind: Comparison; readonly key: string; readonly value: string }
  | { readonly kind: 'in' | 'not in'; readonly key: string; readonly values: readonly string[] }
  | { readonly kind: 'not'; readonly operand: Selector }
  | { readonly kind: 'and' | 'or'; readonly operands: readonly Selector[] };

/** The operators between a label and one text. */
export type Comparison = '==' | '!=' | 'contains' | 'starts with' | 'ends with';

/** What both selectors match. */
export function conjunction(a: Selector, b: Selector): Selector {
  return { kind: 'and', operands: [a, b] };
}

/** What the selector does not match. */
export function negation(operand: Selector): Selector {
  return { kind: 'not', operand };
}
