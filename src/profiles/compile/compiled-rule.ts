import { createHash } from 'node:crypto';
import { parseSelector } from '../../model/selector/parse.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { selectorId } from '../../model/selector/canonical.ts';
import { namespaceLabel } from '../../model/kinds/network-set.ts';
import { formatJson } from '../../model/json.ts';
import type {
  Direction,
  NamedPort,
  PacketEnd,
  PacketRule,
  RuleName,
  SelectedAddresses,
} from '../../ruleset/policy.ts';
import { conjunction, negation } from '../../model/selector/ast.ts';
import {
  entityRule,
  icmpMatch,
  policyRule,
  portRange,
  type EntityRule,
  type PolicyRule,
  type Port,
  type Protocol,
} from '../../model/policy-rule.ts';

/** The addresses of the endpoints and sets of networks that a selector matches. */
export interface Selected extends SelectedAddresses {
  readonly selector: Selector;
  /** Whether the addresses of domain names of network sets are among them. */
  readonly withDomains: boolean;
}

export interface CompiledEntity extends PacketEnd {
  readonly selected: Selected | undefined;
  readonly notSelected: Selected | undefined;
}

/** A rule of the ruleset with its selectors, for the evaluator. */
export interface CompiledRule extends PacketRule {
  readonly source: CompiledEntity;
  readonly destination: CompiledEntity;
}

const protocolNumbers = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ICMPv6: 58,
  SCTP: 132,
  UDPLite: 136,
} as const;

/** Protocols that have ports. */
const portProtocols: ReadonlySet<number> = new Set([6, 17, 132, 136]);
const icmpProtocols: ReadonlySet<number> = new Set([1, 58]);

/**
 * Compiles a rule; throws an error with a plain sentence if the kernel cannot enforce it. `hasDomains`: whether network
 * sets have domain names.
 */
export function compileRule(rule: PolicyRule, name: RuleName, hasDomains = false): CompiledRule {
  rejectUnknown('', rule, policyRule);
  rejectUnknown('source.', rule.source, entityRule);
  rejectUnknown('destination.', rule.destination, entityRule);
  rejectUnknown('icmp.', rule.icmp, icmpMatch);
  rejectUnknown('notICMP.', rule.notICMP, icmpMatch);
  if (rule.http !== undefined) throw new Error('http rules are not supported');
  const said = {
    action: rule.action,
    ipVersion: rule.ipVersion,
    protocol: protocolNumber(rule.protocol),
    notProtocol: protocolNumber(rule.notProtocol),
    icmp: rule.icmp,
    notIcmp: rule.notICMP,
    source: entitySaid(rule.source ?? {}, name.policy.namespace),
    destination: entitySaid(rule.destination ?? {}, name.policy.namespace),
  };
  const { source, destination, protocol } = said;
  const ports = [source.ports, source.notPorts, destination.ports, destination.notPorts].flat();
  const named = [rule.source, rule.destination].flatMap((entity) =>
    [...(entity?.ports ?? []), ...(entity?.notPorts ?? [])].filter(isPortName),
  );
  // A named port has the protocol of the endpoint's port where the rule says none.
  const needsPorts = ports.length > 0 || (named.length > 0 && protocol !== undefined);
  if (needsPorts && !portProtocols.has(protocol ?? 0)) {
    throw new Error('ports need a protocol that has ports, such as TCP or UDP');
  }
  const hasIcmp = rule.icmp !== undefined || rule.notICMP !== undefined;
  if (hasIcmp && !icmpProtocols.has(protocol ?? 0)) {
    throw new Error('icmp needs protocol ICMP or ICMPv6');
  }
  if (
    [rule.icmp, rule.notICMP].some((icmp) => icmp?.code !== undefined && icmp.type === undefined)
  ) {
    throw new Error('an icmp code needs its type');
  }
  return {
    ...said,
    name,
    content: formatJson(said),
    source: compileEntity(source),
    destination: compileEntity(destination, hasDomains && countsDomains(rule, name.direction)),
  };
}

/** Ignoring a criterion of a newer Calico would make a rule match more than intended. */
function rejectUnknown(
  where: string,
  given: object | undefined,
  known: { readonly shape: object },
): void {
  const field = Object.keys(given ?? {}).find((key) => !(key in known.shape));
  if (field !== undefined) throw new Error(`${where}${field} is no field of a rule that is known`);
}

/** The number of a protocol. */
export function protocolNumber(protocol: Protocol | undefined): number | undefined {
  return typeof protocol === 'string' ? protocolNumbers[protocol] : protocol;
}

/**
 * Reports whether the domain names of network sets count in the selector of a rule's destination; in all others only
 * their networks do. Source: Calico Enterprise, GlobalNetworkSet.
 */
export function countsDomains({ action }: Pick<PolicyRule, 'action'>, of: Direction): boolean {
  return of === 'egress' && action === 'Allow';
}

function compileEntity(
  {
    selector,
    notSelector,
    namedPorts = [],
    notNamedPorts = [],
    ...lists
  }: ReturnType<typeof entitySaid>,
  withDomains = false,
): CompiledEntity {
  return {
    ...lists,
    namedPorts: namedPorts.map(namedPort),
    notNamedPorts: notNamedPorts.map(namedPort),
    selected: selectedBy(selector, withDomains),
    notSelected: selectedBy(notSelector, false),
  };
}

/** The ids of names and of selectors differ in their first letter. */
function namedPort(name: string): NamedPort {
  return { id: `n:${createHash('sha224').update(`n:${name}`).digest('base64url')}`, name };
}

/** A selector has one set of addresses, named as in Calico, and another one with those of domain names. */
function selectedBy(selector: Selector | undefined, withDomains: boolean): Selected | undefined {
  if (selector === undefined) return undefined;
  const id = selectorId(selector);
  return { id: withDomains ? `d${id.slice(1)}` : id, selector, withDomains };
}

function entitySaid(entity: EntityRule, namespace: string | undefined) {
  if (entity.serviceAccounts !== undefined || entity.services !== undefined) {
    throw new Error('serviceAccounts and services are not supported');
  }
  const positive = selectorOf(entity, namespace);
  const negative = parseOptional(entity.notSelector);
  // A selector matches endpoints only, so "selected, but not those" is one set; "not those" alone is any
  // other address, endpoint or not.
  const isBoth = positive !== undefined && negative !== undefined;
  return {
    nets: entity.nets ?? [],
    notNets: entity.notNets ?? [],
    ports: (entity.ports ?? []).flatMap((port) => portRange(port) ?? []),
    notPorts: (entity.notPorts ?? []).flatMap((port) => portRange(port) ?? []),
    // Only if there are any: the counters of all other rules keep their content.
    ...namesIn('namedPorts', entity.ports),
    ...namesIn('notNamedPorts', entity.notPorts),
    selector: isBoth ? conjunction(positive, negation(negative)) : positive,
    notSelector: isBoth ? undefined : negative,
  };
}

/**
 * Returns the selector of endpoints by their own labels, those of their namespace, or both. In a policy of a namespace,
 * selectors match only endpoints of that namespace unless the rule names others. Source:
 * libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go.
 */
function selectorOf(
  { selector, notSelector, namespaceSelector }: EntityRule,
  namespace: string | undefined,
): Selector | undefined {
  const ofLabels = parseOptional(selector);
  const hasLabels = ofLabels !== undefined || parseOptional(notSelector) !== undefined;
  const ofNamespaces = parseOptional(namespaceSelector);
  const where =
    ofNamespaces === undefined
      ? hasLabels
        ? ofNamespace(namespace)
        : undefined
      : inNamespaces(ofNamespaces);
  if (where === undefined || ofLabels === undefined) return where ?? ofLabels;
  return conjunction(where, ofLabels);
}

/** Returns the selector of the endpoints of a namespace; `undefined`: of all. */
export function ofNamespace(namespace: string | undefined): Selector | undefined {
  if (namespace === undefined) return undefined;
  return { kind: '==', key: namespaceLabel, value: namespace };
}

/**
 * Converts a namespace selector to an endpoint selector: endpoints inherit the labels of their namespace by a Profile
 * `kns.<namespace>`, each key with a prefix. Source: libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go.
 */
export function inNamespaces(selector: Selector): Selector {
  const hasNamespace = { kind: 'has', key: namespaceLabel } as const;
  switch (selector.kind) {
    case 'all':
      return hasNamespace;
    case 'global':
      return negation(hasNamespace);
    case 'not':
      return selector.operand.kind === 'global'
        ? hasNamespace
        : negation(inNamespaces(selector.operand));
    case 'and':
    case 'or':
      return { ...selector, operands: selector.operands.map(inNamespaces) };
    default:
      return { ...selector, key: `pcns.${selector.key}` };
  }
}

export function parseOptional(text: string | undefined): Selector | undefined {
  return text === undefined || text.trim() === '' ? undefined : parseSelector(text);
}

function namesIn<Key extends string>(
  key: Key,
  ports: readonly Port[] = [],
): { readonly [K in Key]?: readonly string[] } {
  const names = ports.filter(isPortName);
  const found: { [K in Key]?: readonly string[] } = {};
  if (names.length > 0) found[key] = names;
  return found;
}

function isPortName(port: Port): port is string {
  return portRange(port) === undefined;
}
