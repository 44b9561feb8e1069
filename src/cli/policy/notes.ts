import type { Draft } from '../../datastore/writer.ts';
import { labelFilter } from '../../driver/endpoints/container-labels.ts';
import { namespaceLabel } from '../../model/kinds/network-set.ts';
import { tierOf } from '../../model/policy.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { policySelectors, type ComposedPolicy, type Direction } from './compose.ts';
import { domainNotes } from './domain-notes.ts';
import { comparedKeys } from './ends.ts';
import { hasNetworkSetLabel, networkSets, selectedContainers, tierAction } from './stored.ts';

/** Returns what follows from policies beyond their rules, one sentence each. */
export function policyNotes(
  draft: Draft,
  composed: readonly ComposedPolicy[],
  takenLabels: readonly string[],
): readonly string[] {
  return [
    ...new Set([
      ...composed.flatMap((one) => one.directions.map((of) => restNote(draft, one, of))),
      ...emptyNotes(draft, composed),
      ...labelNotes(draft, selectorsOf(composed), takenLabels),
      ...domainNotes(
        composed.map(({ policy }) => policy),
        () => networkSets(draft),
      ),
    ]),
  ];
}

/** What becomes of the connections that a policy does not match. */
function restNote(
  draft: Draft,
  { policy, containers }: ComposedPolicy,
  direction: Direction,
): string {
  const tier = tierOf(policy);
  const which = `all other ${direction} connections of ${containers === 'all' ? 'all containers' : containers}`;
  if (tierAction(draft, tier) === 'Pass') {
    return `${which} continue after tier ${tier}, as if this policy did not exist`;
  }
  const also = direction === 'inbound' ? 'by published ports' : 'DNS queries to other hosts';
  const shown = direction === 'outbound' && allowsDns(policy) ? '' : ` (also ${also})`;
  return `${which}${shown} are denied unless another policy allows them`;
}

function allowsDns({ spec: { egress = [] } }: ComposedPolicy['policy']): boolean {
  return egress.some(
    ({ action, protocol = 'UDP', destination: { ports = [53] } = {} }) =>
      action === 'Allow' && protocol === 'UDP' && ports.includes(53),
  );
}

/** Selectors without a match are usually misspelt. Network sets match in rules only: no policy selects them. */
function emptyNotes(draft: Draft, composed: readonly ComposedPolicy[]): readonly string[] {
  const selected = new Set(composed.map(({ policy }) => policy.spec.selector));
  return selectorsOf(composed)
    .filter((selector) => selectedContainers(draft, parseSelector(selector)).length === 0)
    .filter((selector) => selected.has(selector) || !hasNetworkSet(draft, selector))
    .map((selector) => `no container matches ${selector} at present`);
}

function hasNetworkSet(draft: Draft, selector: string): boolean {
  return comparedKeys(parseSelector(selector)).some((key) => hasNetworkSetLabel(draft, key));
}

function selectorsOf(composed: readonly ComposedPolicy[]): readonly string[] {
  return [...new Set(composed.flatMap(({ policy }) => policySelectors(policy)))];
}

function labelNotes(
  draft: Draft,
  selectors: readonly string[],
  takenLabels: readonly string[],
): readonly string[] {
  const isTaken = labelFilter(takenLabels);
  const keys = selectors.flatMap((selector) => comparedKeys(parseSelector(selector)));
  return [...new Set(keys)]
    .filter((key) => key !== namespaceLabel && !isTaken(key) && !hasNetworkSetLabel(draft, key))
    .map(
      (key) =>
        `label ${key} is not in CALICO_LABELS: containers have it only by their label org.projectcalico.label.${key}, or from their network`,
    );
}
