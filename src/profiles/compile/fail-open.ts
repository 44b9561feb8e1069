import type { IpFamily } from '../../ip/address.ts';
import type { NamedPort, Policy, RuleAction, SelectedAddresses } from '../../ruleset/policy.ts';
import type { SetFault } from '../../ruleset/address-set.ts';
import { namedPortSet, selectorSet } from '../../ruleset/names.ts';

/**
 * Returns why a policy must deny everything in a family: one of its rules uses a set that is out of sync, so that it
 * would allow packets that it should deny. If it would only allow fewer packets, it stays programmed.
 */
export function failOpenRisk(
  { ingress, egress }: Policy,
  family: IpFamily,
  faults: ReadonlyMap<string, SetFault>,
): string | undefined {
  const faultOf = (selected: SelectedAddresses | undefined) =>
    selected && faults.get(selectorSet(family, selected.id));
  const faultOfPort = ({ id }: NamedPort) => faults.get(namedPortSet(family, id));
  for (const [direction, rules] of Object.entries({ ingress, egress })) {
    for (const [index, { action, source, destination }] of rules.entries()) {
      for (const { selected, notSelected, namedPorts, notNamedPorts } of [source, destination]) {
        const why =
          opens(action, faultOf(selected), false) ??
          opens(action, faultOf(notSelected), true) ??
          firstOf(namedPorts, (port) => opens(action, faultOfPort(port), false)) ??
          firstOf(notNamedPorts, (port) => opens(action, faultOfPort(port), true));
        if (why !== undefined) return `${direction} rule ${index + 1}: ${why}`;
      }
    }
  }
  return undefined;
}

function firstOf<Item>(
  items: readonly Item[],
  find: (item: Item) => string | undefined,
): string | undefined {
  return items.map(find).find((found) => found !== undefined);
}

/**
 * Returns the fault if it makes the rule allow more; what follows a Pass is unknown here. A rule with a missing set is
 * refused.
 */
function opens(
  action: RuleAction,
  fault: SetFault | undefined,
  isNegated: boolean,
): string | undefined {
  if (fault === undefined) return undefined;
  const { absent, lacks, exceeds } = fault;
  if (absent !== undefined) return absent;
  if (action === 'Log') return undefined;
  if (action === 'Pass') return lacks ?? exceeds;
  return (action === 'Allow') === isNegated ? lacks : exceeds;
}
