import { createHash } from 'node:crypto';
import { CalicoError } from '../../errors/error.ts';
import { cidrFamily } from '../../ip/cidr.ts';
import type { GlobalNetworkPolicy } from '../../model/kinds/global-network-policy.ts';
import type { Tier } from '../../model/kinds/tier.ts';
import type { EntityRule, PolicyRule } from '../../model/policy-rule.ts';
import { commandLine, createdBy } from './created-by.ts';
import { onNetwork, parseContainers, type End } from './ends.ts';
import { trafficName, trafficWords, type Traffic } from './traffic.ts';

/** The policies that `policy allow`, `deny` and `isolate` write, from what was typed. */

const directions = ['inbound', 'outbound'] as const;
export type Direction = (typeof directions)[number];

/** Options of all three commands. */
export interface Placement {
  readonly network?: string | undefined;
  readonly name?: string | undefined;
  readonly order?: number | undefined;
  readonly tier?: string | undefined;
  readonly direction?: Direction | 'both' | undefined;
}

export interface RuleRequest extends Placement {
  readonly verb: 'allow' | 'deny';
  readonly from: End | undefined;
  readonly to: End | undefined;
  readonly traffic: readonly Traffic[];
}

/** A policy, the direction of its rules, and the containers that it selects in the words of its user. */
export interface ComposedPolicy {
  readonly policy: GlobalNetworkPolicy;
  readonly directions: readonly Direction[];
  readonly containers: string;
}

/**
 * The tier of `policy deny`: before the tier `default`, and what its policies do not deny goes on to the next tier.
 */
export const denyTier: Tier = {
  kind: 'Tier',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'deny', annotations: { [createdBy]: 'policy deny' } },
  spec: { order: 100, defaultAction: 'Pass' },
};

/** Returns one policy per direction. Throws `cli/bad-argument`. */
export function composeRule(request: RuleRequest): readonly ComposedPolicy[] {
  const { verb, from, to, direction } = request;
  if (from?.selector === undefined && to?.selector === undefined) {
    const why = 'needs --to or --from with containers, such as service=db';
    throw new CalicoError('cli/bad-argument', { what: `policy ${verb}`, why });
  }
  const usual = usualDirection(request);
  const chosen = direction === 'both' ? directions : [direction ?? usual];
  const tier = request.tier ?? (verb === 'deny' ? denyTier.metadata.name : undefined);
  const prefix = verb === 'deny' && request.tier === undefined ? `${tier}.` : '';
  const parts = [...(prefix === '' ? [verb] : []), ...nameParts(request)];
  const usualWords = ruleWords({ ...request, direction: usual });
  const name = request.name ?? `${prefix}${policyName(parts, usualWords)}`;
  return chosen.map((one) => {
    const [selected, peer] = one === 'inbound' ? [to, from] : [from, to];
    const { selector, values } = selectable(selected, one);
    // Both directions are the same as two commands.
    const words = ruleWords({ ...request, direction: one });
    const rules = request.traffic.flatMap((traffic) => rulesOf(verb, { traffic, peer, of: one }));
    const isSecond = one !== usual && (request.name === undefined || direction === 'both');
    return {
      policy: policyOf(onNetwork(selector, request.network), {
        placement: { ...request, tier, name: isSecond ? `${name}-${one}` : name },
        words,
        rules: one === 'inbound' ? { ingress: rules } : { egress: rules },
      }),
      directions: [one],
      containers: values.join(' or '),
    };
  });
}

/** Returns a policy by which containers accept connections only from each other, or also open only such ones. */
export function composeIsolation(containers: string, placement: Placement): ComposedPolicy {
  const selector = parseContainers(`policy isolate ${containers}`, containers);
  const { direction = 'inbound', network } = placement;
  const has = (one: Direction) => direction === 'both' || direction === one;
  const words = ['policy', 'isolate', containers, ...placementWords(placement, 'inbound')];
  const parts = [
    'isolate',
    containers,
    ...(direction === 'inbound' ? [] : [direction]),
    ...(network === undefined ? [] : ['on', network]),
  ];
  const name = placement.name ?? policyName(parts, words);
  return {
    policy: policyOf(onNetwork(selector, network), {
      placement: { ...placement, name },
      words,
      rules: {
        ...(has('inbound') ? { ingress: [{ action: 'Allow', source: { selector } }] } : {}),
        ...(has('outbound') ? { egress: [{ action: 'Allow', destination: { selector } }] } : {}),
      },
    }),
    directions: directions.filter(has),
    containers,
  };
}

/** Returns the selectors of a policy and of its rules. */
export function policySelectors({ spec }: GlobalNetworkPolicy): readonly string[] {
  const rules = [...(spec.ingress ?? []), ...(spec.egress ?? [])];
  const ends = rules.flatMap(({ source, destination }) => [source, destination]);
  const all = [spec.selector, ...ends.map((end) => end?.selector)];
  return [...new Set(all.filter((selector) => selector !== undefined))];
}

/** Returns the end whose containers a policy of a direction selects. Throws `cli/bad-argument`. */
function selectable(
  end: End | undefined,
  direction: Direction,
): End & { readonly selector: string } {
  const option = direction === 'inbound' ? '--to' : '--from';
  if (end?.selector !== undefined && end.nets.length === 0)
    return { ...end, selector: end.selector };
  const what = [option, ...(end?.values ?? [])].join(' ');
  const why = `must name containers such as service=db, and nothing else: an ${direction} policy selects them`;
  throw new CalicoError('cli/bad-argument', { what, why });
}

function usualDirection({ to }: Pick<RuleRequest, 'to'>): Direction {
  return to?.selector === undefined ? 'outbound' : 'inbound';
}

interface PolicyParts {
  readonly placement: Placement & { readonly name: string };
  readonly words: readonly string[];
  readonly rules: { readonly ingress?: PolicyRule[]; readonly egress?: PolicyRule[] };
}

function policyOf(
  selector: string,
  { placement: { name, order, tier }, words, rules }: PolicyParts,
): GlobalNetworkPolicy {
  return {
    kind: 'GlobalNetworkPolicy',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name, annotations: { [createdBy]: commandLine(words) } },
    spec: {
      ...(tier === undefined ? {} : { tier }),
      ...(order === undefined ? {} : { order }),
      selector,
      types: [
        ...(rules.ingress === undefined ? [] : ['Ingress' as const]),
        ...(rules.egress === undefined ? [] : ['Egress' as const]),
      ],
      ...rules,
    },
  };
}

/** Returns the rules for one kind of traffic: one per kind of peer, because a rule has one address family. */
function rulesOf(
  verb: 'allow' | 'deny',
  {
    traffic,
    peer,
    of,
  }: { readonly traffic: Traffic; readonly peer: End | undefined; readonly of: Direction },
): readonly PolicyRule[] {
  const { ports, ...criteria } = traffic;
  const nets = (family: 4 | 6): readonly EntityRule[] => {
    const some = (peer?.nets ?? []).filter((net) => cidrFamily(net) === family);
    if (some.length > 0) checkFamily(traffic, family);
    return some.length === 0 ? [] : [{ nets: some }];
  };
  const selected = peer?.selector === undefined ? [] : [{ selector: peer.selector }];
  const peers: readonly EntityRule[] =
    peer === undefined ? [{}] : [...selected, ...nets(4), ...nets(6)];
  const isEmpty = (entity: EntityRule) => Object.keys(entity).length === 0;
  return peers.map((entity) => {
    const ofPorts: EntityRule = ports === undefined ? {} : { ports: [...ports] };
    const [source, destination] =
      of === 'inbound' ? [entity, ofPorts] : [{}, { ...entity, ...ofPorts }];
    return {
      action: verb === 'allow' ? 'Allow' : 'Deny',
      ...criteria,
      ...(isEmpty(source) ? {} : { source }),
      ...(isEmpty(destination) ? {} : { destination }),
    };
  });
}

/** Throws `cli/bad-argument` for ICMP of the other address family: such a rule would match nothing. */
function checkFamily({ protocol }: Traffic, family: 4 | 6): void {
  const isV4 = protocol === 'ICMP' || protocol === 1;
  const isV6 = protocol === 'ICMPv6' || protocol === 58;
  if ((!isV4 && !isV6) || isV4 === (family === 4)) return;
  const why = `must be ${family === 4 ? 'icmp' : 'icmpv6'} for networks of IPv${family}`;
  throw new CalicoError('cli/bad-argument', { what: `--proto ${protocol ?? ''}`, why });
}

/** Returns the words of a command that identify its policies; the order is not among them. */
function ruleWords(request: RuleRequest): readonly string[] {
  const { verb, from, to, traffic } = request;
  const option = (name: string, end: End | undefined) =>
    (end?.values ?? []).flatMap((value) => [name, value]);
  return [
    'policy',
    verb,
    ...option('--from', from),
    ...option('--to', to),
    ...trafficWords(traffic),
    ...placementWords(request, usualDirection(request)),
  ];
}

function placementWords(
  { network, name, tier, direction }: Placement,
  usual: Direction,
): readonly string[] {
  return [
    ...(network === undefined ? [] : ['--network', network]),
    ...(direction === undefined || direction === usual ? [] : ['--direction', direction]),
    ...(tier === undefined ? [] : ['--tier', tier]),
    ...(name === undefined ? [] : ['--name', name]),
  ];
}

function nameParts({ from, to, traffic, network }: RuleRequest): readonly string[] {
  return [
    from?.values.join('-') ?? 'any',
    'to',
    to?.values.join('-') ?? 'any',
    ...traffic.map(trafficName),
    ...(network === undefined ? [] : ['on', network]),
  ].filter((part) => part !== '');
}

const maxNameLength = 63;

/**
 * Returns a legal name from words. A hash of the command follows if letters had to be replaced, so that commands that
 * differ in these only have different names.
 */
export function policyName(parts: readonly string[], words: readonly string[]): string {
  const readable = parts
    .join('-')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  const isFaithful = parts.every((part) => /^[a-z0-9=,-]*$|^[\d./,]+$/.test(part));
  if (isFaithful && readable.length <= maxNameLength) return readable;
  const hash = createHash('sha256').update(commandLine(words)).digest('hex').slice(0, 8);
  return `${readable.slice(0, maxNameLength - 9).replace(/-+$/, '')}-${hash}`;
}
