import type { Selector } from '../../model/selector/ast.ts';

/** One label that must be there, with one of its values or any. */
export interface Place {
  readonly key: string;
  readonly value: string | undefined;
}

/** Places of which whatever a selector matches has at least one, and how many have them. */
export interface Foothold {
  readonly places: readonly Place[];
  readonly population: number;
}

/**
 * Where the fewest are that a selector may match: of what must hold together the smallest, of alternatives all.
 * Nothing if the selector says of no label that it must be there: then it may match anything. Where populations are
 * equal, one value comes before any value.
 */
export function smallestFoothold(
  selector: Selector,
  population: (place: Place) => number,
): Foothold | undefined {
  switch (selector.kind) {
    case 'has':
    case 'contains':
    case 'starts with':
    case 'ends with':
      return footholdOf([{ key: selector.key, value: undefined }], population);
    case '==':
      return footholdOf([{ key: selector.key, value: selector.value }], population);
    case 'in': {
      const { key, values } = selector;
      return footholdOf(
        [...new Set(values)].map((value) => ({ key, value })),
        population,
      );
    }
    case 'and':
      return selector.operands
        .map((operand) => smallestFoothold(operand, population))
        .reduce(smaller);
    case 'or':
      return selector.operands.map((operand) => smallestFoothold(operand, population)).reduce(both);
    default:
      return undefined;
  }
}

/** The labels that a foothold of the selector may be made of, as often as it names them. */
export function footholdKeys(selector: Selector): readonly string[] {
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
      return selector.operands.flatMap(footholdKeys);
    default:
      return [];
  }
}

function footholdOf(places: readonly Place[], population: (place: Place) => number): Foothold {
  return { places, population: places.reduce((sum, place) => sum + population(place), 0) };
}

function smaller(a: Foothold | undefined, b: Foothold | undefined): Foothold | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  if (a.population !== b.population) return a.population < b.population ? a : b;
  return isOpen(a) && !isOpen(b) ? b : a;
}

function both(a: Foothold | undefined, b: Foothold | undefined): Foothold | undefined {
  if (a === undefined || b === undefined) return undefined;
  return { places: [...a.places, ...b.places], population: a.population + b.population };
}

function isOpen({ places }: Foothold): boolean {
  return places.some(({ value }) => value === undefined);
}
