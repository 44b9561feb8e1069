import type { Selector } from './ast.ts';

/** What a label must be: present at all, or one of some values. */
export type Restriction = 'present' | ReadonlySet<string>;

/**
 * What must hold of the labels for a selector to match; it may not match all the same. An index uses it to
 * look only at candidates: a selector without restrictions must be tried on everything.
 */
export function restrictions(selector: Selector): ReadonlyMap<string, Restriction> {
  switch (selector.kind) {
    case 'has':
    case 'contains':
    case 'starts with':
    case 'ends with':
      return new Map([[selector.key, 'present']]);
    case '==':
      return new Map([[selector.key, new Set([selector.value])]]);
    case 'in':
      return new Map([[selector.key, new Set(selector.values)]]);
    case 'and':
      return selector.operands.map(restrictions).reduce(bothHold);
    case 'or':
      return selector.operands.map(restrictions).reduce(oneHolds);
    default:
      return new Map();
  }
}

type Restrictions = ReadonlyMap<string, Restriction>;

function bothHold(a: Restrictions, b: Restrictions): Restrictions {
  const both = new Map(a);
  for (const [key, restriction] of b) {
    const other = both.get(key);
    if (other === undefined || other === 'present') both.set(key, restriction);
    else if (restriction !== 'present') both.set(key, other.intersection(restriction));
  }
  return both;
}

function oneHolds(a: Restrictions, b: Restrictions): Restrictions {
  const common = new Map<string, Restriction>();
  for (const [key, restriction] of b) {
    const other = a.get(key);
    if (other === undefined) continue;
    const isOpen = other === 'present' || restriction === 'present';
    common.set(key, isOpen ? 'present' : other.union(restriction));
  }
  return common;
}
