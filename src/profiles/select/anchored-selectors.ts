import { IdsByKey } from '../../model/ids-by-key.ts';
import type { Anchor } from './anchors.ts';
import type { EffectiveLabels } from './inherited-labels.ts';

interface OfLabel {
  readonly anyValue: Set<string>;
  readonly byValue: IdsByKey;
}

/** Selectors by their anchors: those that labels may match are found with one lookup for each label. */
export class AnchoredSelectors {
  readonly #anywhere = new Set<string>();
  readonly #byLabel = new Map<string, OfLabel>();

  /** `anchors`: `undefined` for a selector that may match anything. */
  add(id: string, anchors: readonly Anchor[] | undefined): void {
    if (anchors === undefined) this.#anywhere.add(id);
    for (const { key, value } of anchors ?? []) {
      let ofLabel = this.#byLabel.get(key);
      if (ofLabel === undefined) {
        ofLabel = { anyValue: new Set(), byValue: new IdsByKey() };
        this.#byLabel.set(key, ofLabel);
      }
      if (value === undefined) ofLabel.anyValue.add(id);
      else ofLabel.byValue.add(value, id);
    }
  }

  /** Removes a selector with the anchors with which it was added. */
  remove(id: string, anchors: readonly Anchor[] | undefined): void {
    if (anchors === undefined) this.#anywhere.delete(id);
    for (const { key, value } of anchors ?? []) {
      const ofLabel = this.#byLabel.get(key);
      if (ofLabel === undefined) continue;
      if (value === undefined) ofLabel.anyValue.delete(id);
      else ofLabel.byValue.remove(value, id);
      if (ofLabel.anyValue.size === 0 && ofLabel.byValue.isEmpty) this.#byLabel.delete(key);
    }
  }

  /** Reports whether there are selectors that name one of these labels, or none at all. */
  hasAny({ own, inherited }: EffectiveLabels): boolean {
    if (this.#anywhere.size > 0) return true;
    for (const key in own) if (this.#byLabel.has(key)) return true;
    for (const key in inherited) if (this.#byLabel.has(key)) return true;
    return false;
  }

  /** Adds the selectors that labels may match to `found`. */
  find({ own, inherited }: EffectiveLabels, found: Set<string>): void {
    for (const id of this.#anywhere) found.add(id);
    for (const key in own) this.#findAt(key, own[key], found);
    for (const key in inherited) {
      if (!Object.hasOwn(own, key)) this.#findAt(key, inherited[key], found);
    }
  }

  #findAt(key: string, value: string | undefined, found: Set<string>): void {
    const ofLabel = this.#byLabel.get(key);
    if (ofLabel === undefined) return;
    for (const id of ofLabel.anyValue) found.add(id);
    ofLabel.byValue.addTo(found, value);
  }
}
