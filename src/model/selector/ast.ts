/** A label selector of Calico, parsed. Immutable. */
export type Selector =
  | { readonly kind: 'all' }
  /** True for every label set; used only for selectors of namespaces. */
  | { readonly kind: 'global' }
  | { readonly kind: 'has'; readonly key: string }
  | { readonly kind: Comparison; readonly key: string; readonly value: string }
  | { readonly kind: 'in' | 'not in'; readonly key: string; readonly values: readonly string[] }
  | { readonly kind: 'not'; readonly operand: Selector }
  | { readonly kind: 'and' | 'or'; readonly operands: readonly Selector[] };

/** The operators between a label and one value. */
export type Comparison = '==' | '!=' | 'contains' | 'starts with' | 'ends with';

/** Matches if both selectors match. */
export function conjunction(a: Selector, b: Selector): Selector {
  return { kind: 'and', operands: [a, b] };
}

/** Matches if the selector does not. */
export function negation(operand: Selector): Selector {
  return { kind: 'not', operand };
}
