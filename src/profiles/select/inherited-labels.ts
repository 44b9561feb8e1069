import type { LabelLookup } from '../../model/selector/matches.ts';

export type Labels = Readonly<Record<string, string>>;

/** An item with its own labels, which also inherits those of its parents, the Profiles. */
export interface Item {
  readonly labels: Labels;
  readonly profiles: readonly string[];
}

/**
 * The labels of an item: its own, and those that it inherits, of which one that it has itself does not count. The two
 * are not put together, because items are many and mostly inherit the same.
 */
export interface EffectiveLabels {
  readonly own: Labels;
  readonly inherited: Labels;
}

export const noLabels: Labels = {};

/** Returns the labels of an item; those of a parent come from `labelsOf`. Of several parents the first one's counts. */
export function inherit(
  { labels, profiles }: Item,
  labelsOf: (parent: string) => Labels | undefined,
): EffectiveLabels {
  let inherited: Labels | undefined;
  for (let at = profiles.length - 1; at >= 0; at--) {
    const further = labelsOf(profiles[at] ?? '');
    if (further === undefined) continue;
    inherited = inherited === undefined ? further : { ...inherited, ...further };
  }
  return { own: labels, inherited: inherited ?? noLabels };
}

/** Returns the value of a label; `undefined`: there is none. */
export function valueOf({ own, inherited }: EffectiveLabels, key: string): string | undefined {
  if (Object.hasOwn(own, key)) return own[key];
  return Object.hasOwn(inherited, key) ? inherited[key] : undefined;
}

/** Returns the labels as selectors look them up. */
export function lookup(labels: EffectiveLabels): LabelLookup {
  return { get: (key) => valueOf(labels, key) };
}
