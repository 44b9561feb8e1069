import type { Selector } from '../../model/selector/ast.ts';

/** A required label, with one of its values or any. */
export interface Anchor {
  readonly key: string;
  readonly value: string | undefined;
}

/** Anchors of which every item that a selector matches has at least one, and the number of items with them. */
export interface AnchorCandidate {
  readonly anchors: readonly Anchor[];
  readonly population: number;
}

/**
 * Returns the anchors with the fewest items that a selector may match: of the operands of `and` the smallest, of `or`
 * all. `undefined` if the selector requires no label: then it may match anything. With equal populations, one value is
 * preferred to any value.
 */
export function smallestAnchor(
  selector: Selector,
  population: (anchor: Anchor) => number,
): AnchorCandidate | undefined {
  switch (selector.kind) {
    case 'has':
    case 'contains':
    case 'starts with':
    case 'ends with':
      return candidateOf([{ key: selector.key, value: undefined }], population);
    case '==':
      return candidateOf([{ key: selector.key, value: selector.value }], population);
    case 'in': {
      const { key, values } = selector;
      return candidateOf(
        [...new Set(values)].map((value) => ({ key, value })),
        population,
      );
    }
    case 'and':
      return selector.operands
        .map((operand) => smallestAnchor(operand, population))
        .reduce(smaller);
    case 'or':
      return selector.operands.map((operand) => smallestAnchor(operand, population)).reduce(both);
    default:
      return undefined;
  }
}

/** Returns the labels that can be anchors of the selector, as often as it names them. */
export function anchorKeys(selector: Selector): readonly string[] {
  switch (selector.kind) {
    case 'has':
    case 'contains':
    case 'starts with':
    case 'ends with':
    case '==':
    case 'in':
      return [selector.key];
    case 'and':
    case 'or':
      return selector.operands.flatMap(anchorKeys);
    default:
      return [];
  }
}

function candidateOf(
  anchors: readonly Anchor[],
  population: (anchor: Anchor) => number,
): AnchorCandidate {
  return { anchors, population: anchors.reduce((sum, anchor) => sum + population(anchor), 0) };
}

function smaller(
  a: AnchorCandidate | undefined,
  b: AnchorCandidate | undefined,
): AnchorCandidate | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  if (a.population !== b.population) return a.population < b.population ? a : b;
  return isOpen(a) && !isOpen(b) ? b : a;
}

function both(
  a: AnchorCandidate | undefined,
  b: AnchorCandidate | undefined,
): AnchorCandidate | undefined {
  if (a === undefined || b === undefined) return undefined;
  return { anchors: [...a.anchors, ...b.anchors], population: a.population + b.population };
}

function isOpen({ anchors }: AnchorCandidate): boolean {
  return anchors.some(({ value }) => value === undefined);
}
