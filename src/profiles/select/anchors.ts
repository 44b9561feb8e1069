import type { Selector } from '../../model/selector/ast.ts';

/** One label that must be there, with one of its values or any. */
export interface Anchor {
  readonly key: string;
  readonly value: string | undefined;
}

/** Places of which whatever a selector matches has at least one, and how many have them. */
export interface AnchorCandidate {
  readonly anchors: readonly Anchor[];
  readonly population: number;
}

/**
 * Where the fewest are that a selector may match: of what must hold together the smallest, of alternatives all.
 * Nothing if the selector says of no label that it must be there: then it may match anything. Where populations are
 * equal, one value comes before any value.
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

/** The labels that a foothold of the selector may be made of, as often as it names them. */
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
