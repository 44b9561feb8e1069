/** Maximum number of things named in a check. */
const maxNamed = 5;

/** Returns `container a`, `containers a, b`, or the first names and the number of the others. */
export function named(what: string, names: readonly string[]): string {
  const sorted = [...new Set(names)].toSorted();
  const shown = sorted.slice(0, maxNamed).join(', ');
  const more = sorted.length - maxNamed;
  const rest = more > 0 ? ` and ${more} more` : '';
  return `${what}${sorted.length === 1 ? '' : 's'} ${shown}${rest}`;
}
