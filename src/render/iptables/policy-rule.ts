import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { namedPortSet, selectorSet } from '../../ruleset/names.ts';
import type {
  IcmpType,
  NamedPort,
  PacketEnd,
  PacketRule,
  PortRange,
  RuleName,
} from '../../ruleset/policy.ts';
import { countAndDrop } from './count-and-drop.ts';
import { allowChain, passChain, policyText, ruleDropsSet } from './names.ts';
import { markBits, type Action, type Match, type RenderOptions, type Rule } from './rule.ts';

/** A policy rule as rules of a chain, and the set that counts what it drops. */
export interface RenderedPolicyRule {
  readonly rules: readonly Rule[];
  readonly dropsSet: string | undefined;
}

const portSlots = 15;

/**
 * Renders one rule for one family; nothing if the rule cannot match the family. Allow leads to the chain of that verdict,
 * Pass too, or leaves the Profile; Deny counts, and drops or rejects. Criteria that iptables cannot express in one rule
 * (several networks, a network and an exception from it, more than fifteen ports) become blocks of alternatives that
 * work on two scratch marks. Source of the scheme: Calico, felix/rules.
 */
export function renderPolicyRule(
  rule: PacketRule,
  options: RenderOptions,
  chain: string,
): RenderedPolicyRule {
  const { family } = options;
  const plan = planMatches(rule, family);
  if (plan === undefined) return { rules: [], dropsSet: undefined };
  const { plain, blocks, exclusions } = plan;
  const isBlocked = blocks.length + exclusions.length > 0;
  const matches: readonly Match[] = isBlocked
    ? [...plain, { kind: 'markSet', bits: markBits.scratch0 }]
    : plain;
  const prepared = isBlocked ? blockRules(blocks, exclusions) : [];
  const verdict = verdictRules(rule, matches, { ...options, chain });
  return { rules: [...prepared, ...verdict.rules], dropsSet: verdict.dropsSet };
}

/** Criteria that must all match, for a rule of a block, which stands alone. */
type Alternative = readonly Match[];

interface MatchPlan {
  /** Criteria that fit into one rule: one protocol, and one network on each side, negated or not. */
  readonly plain: readonly Match[];
  /** Alternatives: one of each list must match. */
  readonly blocks: readonly (readonly Alternative[])[];
  /** None of these may match. */
  readonly exclusions: readonly Alternative[];
}

function planMatches(rule: PacketRule, family: IpFamily): MatchPlan | undefined {
  if (rule.ipVersion !== undefined && rule.ipVersion !== family) return undefined;
  if (rule.protocol === (family === 4 ? 58 : 1)) return undefined;
  // A required protocol implies all that an excluded one could exclude.
  if (rule.protocol !== undefined && rule.protocol === rule.notProtocol) return undefined;
  const source = planEntity(rule.source, { family, side: 'source', protocol: rule.protocol });
  const destination = planEntity(rule.destination, {
    family,
    side: 'destination',
    protocol: rule.protocol,
  });
  if (source === undefined || destination === undefined) return undefined;
  const sides = [source, destination];
  return {
    plain: [
      ...protocolMatches(rule),
      ...sides.flatMap(({ plain }) => plain),
      ...icmpMatches(rule, family),
    ],
    blocks: sides.flatMap(({ blocks }) => blocks),
    exclusions: sides.flatMap(({ exclusions }) => exclusions),
  };
}

function protocolMatches({ protocol, notProtocol }: PacketRule): readonly Match[] {
  if (protocol !== undefined) return [protocolMatch(protocol, false)];
  return notProtocol === undefined ? [] : [protocolMatch(notProtocol, true)];
}

type Side = 'source' | 'destination';

function planEntity(
  entity: PacketEnd,
  {
    family,
    side,
    protocol = 0,
  }: { readonly family: IpFamily; readonly side: Side; readonly protocol: number | undefined },
): MatchPlan | undefined {
  const ofFamily = (net: Cidr) => cidrFamily(net) === family;
  // A network of all addresses is no criterion, and iptables-nft cannot negate it.
  if (entity.nets.length > 0 && !entity.nets.some(ofFamily)) return undefined;
  if (entity.notNets.some((net) => ofFamily(net) && holdsAll(net))) return undefined;
  const nets = entity.nets.some((net) => ofFamily(net) && holdsAll(net))
    ? []
    : entity.nets.filter(ofFamily);
  const notNets = entity.notNets.filter(ofFamily);
  const named = (port: NamedPort, negated: boolean) =>
    portSetMatch(side, namedPortSet(family, port.id), negated);
  const portGroups = groupPorts(entity.ports);
  const notPortGroups = groupPorts(entity.notPorts);
  const isNotNetPlain = notNets.length === 1 && nets.length !== 1;
  // Ports need their protocol in the same rule.
  const alone = (group: readonly PortRange[]): Alternative => [
    protocolMatch(protocol, false),
    portsMatch(side, group, false),
  ];
  const ports: readonly Alternative[] = [
    ...portGroups.map(alone),
    ...entity.namedPorts.map((port) => [named(port, false)]),
  ];
  return {
    plain: [
      ...(nets.length === 1 ? nets.map((net) => netMatch(side, net)) : []),
      ...(entity.selected === undefined
        ? []
        : [setMatch(side, selectorSet(family, entity.selected.id), false)]),
      ...(entity.notSelected === undefined
        ? []
        : [setMatch(side, selectorSet(family, entity.notSelected.id), true)]),
      ...(ports.length === 1
        ? ports.flatMap((one) => one.filter(({ kind }) => kind !== 'protocol'))
        : []),
      ...(notPortGroups.length === 1
        ? notPortGroups.map((group) => portsMatch(side, group, true))
        : []),
      ...entity.notNamedPorts.map((port) => named(port, true)),
      ...(isNotNetPlain ? notNets.map((net) => ({ ...netMatch(side, net), negated: true })) : []),
    ],
    blocks: [
      ...(nets.length > 1 ? [nets.map((net) => [netMatch(side, net)])] : []),
      ...(ports.length > 1 ? [ports] : []),
    ],
    exclusions: [
      ...(isNotNetPlain ? [] : notNets.map((net) => [netMatch(side, net)])),
      ...(notPortGroups.length > 1 ? notPortGroups.map(alone) : []),
    ],
  };
}

function holdsAll(net: Cidr): boolean {
  return splitCidr(net).prefixLength === 0;
}

/** Sets the scratch0 mark if one alternative of every block matches and no exclusion does. */
function blockRules(
  blocks: readonly (readonly Alternative[])[],
  exclusions: readonly Alternative[],
): readonly Rule[] {
  const { scratch0, scratch1 } = markBits;
  const both = scratch0 | scratch1;
  const start: Action =
    blocks.length === 0 ? { kind: 'setMark', bits: scratch0 } : { kind: 'clearMark', bits: both };
  const rules: Rule[] = [{ matches: [], action: start }];
  for (const [index, block] of blocks.entries()) {
    const bits = index === 0 ? scratch0 : scratch1;
    if (index > 0) rules.push({ matches: [], action: { kind: 'clearMark', bits: scratch1 } });
    for (const matches of block) rules.push({ matches, action: { kind: 'setMark', bits } });
    if (index > 0) {
      rules.push({
        matches: [{ kind: 'markClear', bits: scratch1 }],
        action: { kind: 'clearMark', bits: scratch0 },
      });
    }
  }
  for (const matches of exclusions) {
    rules.push({ matches, action: { kind: 'clearMark', bits: scratch0 } });
  }
  return rules;
}

function verdictRules(
  rule: PacketRule,
  matches: readonly Match[],
  { family, chain, denyAction, isOfHost }: RenderOptions & { readonly chain: string },
): RenderedPolicyRule {
  const comment = commentOf(rule.name);
  switch (rule.action) {
    case 'Log':
      return {
        rules: [{ matches, action: { kind: 'log', prefix: 'calico-packet: ' }, comment }],
        dropsSet: undefined,
      };
    case 'Pass': {
      const leave: Rule = { matches, action: { kind: 'return' }, comment };
      if (rule.name.policy.kind === 'Profile') return { rules: [leave], dropsSet: undefined };
      return {
        rules: [{ matches, action: { kind: 'goto', chain: passChain }, comment }],
        dropsSet: undefined,
      };
    }
    case 'Allow':
      return {
        rules: [{ matches, action: { kind: 'goto', chain: allowChain }, comment }],
        dropsSet: undefined,
      };
    default: {
      const dropsSet = ruleDropsSet(family, chain, rule.content);
      const denied: Match = { kind: 'markSet', bits: markBits.drop };
      return {
        rules: [
          { matches, action: { kind: 'setMark', bits: markBits.drop }, comment },
          ...countAndDrop([denied], {
            direction: rule.name.direction,
            family,
            set: dropsSet,
            action: denyAction,
            isOfHost,
          }),
        ],
        dropsSet,
      };
    }
  }
}

function commentOf({ policy, direction, index }: RuleName): string {
  return `${policyText(policy)} ${direction} ${index}`;
}

function icmpMatches({ protocol, icmp, notIcmp }: PacketRule, family: IpFamily): readonly Match[] {
  if (protocol !== 1 && protocol !== 58) return [];
  return [
    ...(icmp === undefined ? [] : icmpMatch(icmp, family, false)),
    ...(notIcmp === undefined ? [] : icmpMatch(notIcmp, family, true)),
  ];
}

function icmpMatch({ type, code }: IcmpType, family: IpFamily, negated: boolean): readonly Match[] {
  if (type === undefined) return [];
  return [{ kind: 'icmp', family, type, ...(code === undefined ? {} : { code }), negated }];
}

function protocolMatch(protocol: number, negated: boolean): Match {
  return { kind: 'protocol', protocol, negated };
}

function netMatch(side: Side, net: Cidr): Match {
  return { kind: side === 'source' ? 'sourceNet' : 'destinationNet', net };
}

function setMatch(side: Side, set: string, negated: boolean): Match {
  return { kind: side === 'source' ? 'sourceSet' : 'destinationSet', set, negated };
}

function portSetMatch(side: Side, set: string, negated: boolean): Match {
  return { kind: side === 'source' ? 'sourcePortSet' : 'destinationPortSet', set, negated };
}

function portsMatch(side: Side, ports: readonly PortRange[], negated: boolean): Match {
  return { kind: side === 'source' ? 'sourcePorts' : 'destinationPorts', ports, negated };
}

/** Splits ports into portions that fit into one rule: fifteen slots, of which a range takes two. */
function groupPorts(ports: readonly PortRange[]): readonly (readonly PortRange[])[] {
  const groups: PortRange[][] = [];
  let free = 0;
  for (const range of ports) {
    const slots = range.first === range.last ? 1 : 2;
    if (slots > free) {
      groups.push([]);
      free = portSlots;
    }
    groups.at(-1)?.push(range);
    free -= slots;
  }
  return groups;
}
